/**
 * Objectives for pages: MATPAC, MATPAC++, M2D and MSM-MAE with their masks, presets and recipes,
 * captured functions for their updates, and all of model.ts.
 *
 * @module
 */
export * from "./capture.ts";
export * from "./model.ts";
export * from "../../model/objectives/masking.ts";
export { MaskedModel } from "../../model/objectives/masked_model.ts";
export { initialise } from "../../model/objectives/initialise.ts";
export { OBJECTIVES, recipeFor, trainingFor } from "../../model/objectives/objectives.ts";
export { PRESETS } from "../../model/objectives/presets.ts";
export { RECIPES } from "../../model/objectives/recipe.ts";
export { reconstruct } from "../../model/objectives/reconstruct.ts";
