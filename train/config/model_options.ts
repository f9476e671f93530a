/**
 * What the options say of the model: its objective's recipe, its sizes, and its masks.
 *
 * @module
 */
import { type Masking, visiblePatches } from "../../model/objectives/masking.ts";
import {
  geometryFor,
  type ObjectiveName,
  OBJECTIVES,
  recipeFor,
} from "../../model/objectives/objectives.ts";
import { PRESETS, type RecipeName } from "../../model/objectives/presets.ts";
import { type Geometry, patchGrid, patchSides } from "../../model/vit/geometry.ts";
import { type DeviationName, deviations, type Recipe } from "../../model/objectives/recipe.ts";
import type { OptionName, Options } from "./options.ts";
import { UsageError } from "../errors.ts";

/** A model as options describe it. */
export interface ModelOptions {
  /** The recipe's choices with the options that change them. */
  readonly choices: Recipe;
  /** The preset's sizes with the options that change them. */
  readonly geometry: Geometry;
  /** What is masked. */
  readonly masking: Masking;
}

/**
 * Preset and recipe of an objective, with the options that change them.
 *
 * @throws {UsageError} for options that do not fit objective, preset or each other
 */
export function modelOptions(given: Options): ModelOptions {
  const geometry = sizesOf(given);
  const { maskRatio } = geometry;
  const grid = patchGrid(geometry);
  const masking = maskingOf(given, grid.columns);
  const visible = visiblePatches(masking, grid, maskRatio);
  if (visible < 1 || visible >= grid.patches) {
    throw new UsageError(
      `--mask-ratio ${maskRatio}: leaves ${visible} of ${grid.patches} patches ` +
        "visible; must leave at least one visible and one masked",
    );
  }
  return { choices: choicesOf(given), geometry, masking };
}

/** The differences of paper and released code for which a side was given. */
function sidesOf(given: Options): Partial<Record<DeviationName, RecipeName>> {
  return Object.fromEntries(
    deviations().flatMap(([name]) => {
      const side = given[`recipe-${name}`];
      return side === undefined ? [] : [[name, side]];
    }),
  );
}

/** Refuses an option that only one objective has. */
function needs(name: OptionName, objective: ObjectiveName, only: ObjectiveName): void {
  if (objective === only) return;
  throw new UsageError(`--${name}: only together with --objective ${only}, not ${objective}`);
}

/** What a recipe says for an objective, with the options that change it. */
function choicesOf(given: Options): Recipe {
  const { objective, "target-layers": layers, "target-centre": centre } = given;
  const choices = recipeFor(objective, given.recipe, sidesOf(given));
  if (given["norm-pix"]) needs("norm-pix", objective, "msm-mae");
  const { teacher } = OBJECTIVES[objective].has;
  if (!teacher && (layers !== undefined || centre !== "none")) {
    throw new UsageError(
      `--${layers ? "target-layers" : "target-centre"}: ${objective} has no teacher`,
    );
  }
  const { depth } = PRESETS[given.preset].geometry;
  const absent = layers?.find((block, i) => block > depth || layers.indexOf(block) !== i);
  if (absent !== undefined) {
    throw new UsageError(
      `--target-layers ${layers}: must be different blocks from 1 to ${depth}`,
    );
  }
  const { "masks-per-clip": masks } = given;
  if (!teacher && (masks > 1 || given["teacher-view"] !== undefined)) {
    throw new UsageError(
      `--${masks > 1 ? "masks-per-clip" : "teacher-view"}: ${objective} has no teacher to share`,
    );
  }
  const view = given["teacher-view"] ?? (masks > 1 ? "clip" : "masked");
  return {
    ...choices,
    ...(view === "clip" && { teacherView: view }),
    ...(given["norm-pix"] && { targets: "standardised" }),
    ...(layers && { targetLayers: layers }),
    ...(centre === "clip" && { clipCentredTargets: true }),
  };
}

/** A preset's sizes for an objective, with the options that change them. */
function sizesOf(given: Options): Geometry {
  const { objective, patch, "mcl-heads": mclHeads } = given;
  const sizes = geometryFor(objective, given.preset);
  if (mclHeads !== undefined) needs("mcl-heads", objective, "matpac-plus");
  if (given.alpha !== undefined && !OBJECTIVES[objective].has.classification) {
    throw new UsageError(`--alpha ${given.alpha}: ${objective} has one loss, nothing to weigh`);
  }
  const geometry: Geometry = {
    ...sizes,
    cropFrames: given["crop-frames"] ?? sizes.cropFrames,
    maskRatio: given["mask-ratio"] ?? sizes.maskRatio,
    ...(patch !== undefined && { patchSize: patch }),
    ...(mclHeads !== undefined && { mclHeads }),
    ...(given.contrast > 0 && { projection: true }),
    ...(given["no-class-token"] && { classToken: false }),
    ...(given["decoder-positions"] !== undefined &&
      { predictorPositions: given["decoder-positions"] }),
  };
  const [bands, frames] = patchSides(geometry);
  if (geometry.melBands % bands !== 0) {
    throw new UsageError(
      `--patch ${bands}x${frames}: ${geometry.melBands} bands are no multiple of ${bands}`,
    );
  }
  if (geometry.cropFrames % frames !== 0 || geometry.cropFrames < 2 * frames) {
    throw new UsageError(
      `--crop-frames ${geometry.cropFrames}: must be a multiple of a patch's ${frames} frames, ` +
        "two patches at least",
    );
  }
  return geometry;
}

function maskingOf({ mask: kind, "mask-run": run }: Options, columns: number): Masking {
  if (run !== undefined && kind !== "time") {
    throw new UsageError(`--mask-run ${run}: only together with --mask time, not ${kind}`);
  }
  if (run !== undefined && run > columns) {
    throw new UsageError(`--mask-run ${run}: a crop has ${columns} columns of patches`);
  }
  return kind === "time" ? { kind, run: run ?? 1 } : { kind };
}
