/**
 * What a configuration says of a run's model and updates, in one place for training and for
 * measuring its memory.
 *
 * @module
 */
import type { Device } from "../../engine/mod.ts";
import { visiblePatches } from "../../model/objectives/masking.ts";
import type { MaskedModel, Precision } from "../../model/objectives/masked_model.ts";
import { OBJECTIVES } from "../../model/objectives/objectives.ts";
import { patchGrid } from "../../model/vit/geometry.ts";
import { lossWeights } from "../../model/objectives/recipe.ts";
import type { ResolvedConfig } from "../config/config.ts";
import { STEP_DEFAULTS, type StepSettings } from "./update.ts";

/** The number format a run computes in: f32 where the adapter has no 16-bit floats. */
export function precisionOn(device: Device, asked: Precision): Precision {
  return device.features.f16 ? asked : "f32";
}

/** The model of a run; its values are still to come. */
export function buildModel(device: Device, config: ResolvedConfig): MaskedModel {
  const { objective, geometry, choices, precision, recompute } = config;
  const model = OBJECTIVES[objective].create(
    device,
    geometry,
    choices,
    precisionOn(device, precision),
  );
  model.recompute = recompute;
  return model;
}

/** Patches that each clip keeps and loses in every mask of a run. */
export function maskCounts(
  { geometry, masking }: Pick<ResolvedConfig, "geometry" | "masking">,
): { readonly visible: number; readonly masked: number } {
  const grid = patchGrid(geometry);
  const visible = visiblePatches(masking, grid, geometry.maskRatio);
  return { visible, masked: grid.patches - visible };
}

/** Settings of a run's updates. */
export function stepSettings(config: ResolvedConfig): StepSettings {
  const { objective, choices, alpha, contrast, batch, microBatch, deterministic } = config;
  const { clipNorm, has } = OBJECTIVES[objective];
  const { masked } = maskCounts(config);
  return {
    ...STEP_DEFAULTS,
    clipNorm,
    // A single loss has no weight, but for a sum over a clip's tokens (row 6 of model/README.md,
    // Where paper and released code differ).
    weights: {
      ...has.classification
        ? lossWeights(choices, alpha, masked)
        : lossWeights({ ...choices, alpha: "weights" }, 1, masked),
      ...contrast > 0 && { contrast },
    },
    microBatches: batch / microBatch,
    tree: deterministic,
  };
}
