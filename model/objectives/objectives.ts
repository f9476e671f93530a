/**
 * The four objectives side by side: what each is made of, and where its own source differs from
 * MATPAC's recipes (model/README.md, Objectives). How each computes is in its file.
 *
 * @module
 */
import type { Device } from "../../engine/functions.ts";
import type { ParameterSpec } from "../vit/parameter_arena.ts";
import { M2d } from "./m2d.ts";
import { type MaskedModel, type Precision, sharedSpecs } from "./masked_model.ts";
import { Matpac, studentSpecs } from "./matpac.ts";
import { MatpacPlus, matpacPlusSpecs, RELEASED_MCL_HEADS } from "./matpac_plus.ts";
import { MsmMae, msmMaeSpecs } from "./msm_mae.ts";
import { type PresetName, PRESETS, type RecipeName, type TrainingDefaults } from "./presets.ts";
import type { Geometry } from "../vit/geometry.ts";
import { type DeviationName, DEVIATIONS, mixedRecipe, type Recipe } from "./recipe.ts";

/** Names of the objectives. */
export type ObjectiveName = "msm-mae" | "m2d" | "matpac" | "matpac-plus";

/** What makes an objective, beside the file that computes it. */
export interface Objective {
  /** How it is called. */
  readonly title: string;
  /** What is learned, for help. */
  readonly summary: string;
  /** Makes a model of it. */
  create(device: Device, geometry: Geometry, recipe: Recipe, precision?: Precision): MaskedModel;
  /** Trained parameters, in the order of the official state dict. */
  specs(geometry: Geometry, recipe: Recipe): ParameterSpec[];
  /** Sizes in which it differs from a preset's, which are MATPAC's. */
  readonly sizes?: Readonly<Record<PresetName, Partial<Geometry>>>;
  /**
   * Training numbers in which it differs from those of preset `base`; the other presets serve all.
   */
  readonly base?: Partial<TrainingDefaults>;
  /** Choices of its own source, whichever of MATPAC's recipes is named. */
  readonly choices?: Partial<Recipe>;
  /** Largest global gradient norm; 0 does not clip. */
  readonly clipNorm: number;
  /** What it has beside a student. */
  readonly has: {
    /** A teacher encoder that follows it. */
    readonly teacher: boolean;
    /** Classification heads, prototypes and a centre. */
    readonly classification: boolean;
    /** Predictor heads that compete. */
    readonly competingHeads: boolean;
  };
}

/**
 * Where M2D and MSM-MAE agree against MATPAC: their optimizer and fixed positions (model/README.md,
 * Schedules).
 */
const M2D_SOURCE: Partial<Recipe> = {
  ...DEVIATIONS.positions.released.choices,
  ...DEVIATIONS["lr-scaling"].paper.choices,
  ...DEVIATIONS["weight-decay"].paper.choices,
};

const DECODER = { keyBias: false, predictorPositions: "1d", maskRatio: 0.75 } as const;

/** The objectives by name. */
export const OBJECTIVES: Readonly<Record<ObjectiveName, Objective>> = {
  "msm-mae": {
    title: "MSM-MAE",
    summary: "the log-mel values of masked patches",
    create: (...words) => new MsmMae(...words),
    specs: msmMaeSpecs,
    sizes: {
      tiny: { ...DECODER, predictorHeads: 2 },
      small: { ...DECODER, predictorDepth: 4, predictorHeads: 4 },
      base: {
        ...DECODER,
        predictorWidth: 384,
        predictorDepth: 4,
        predictorHeads: 6,
        cropFrames: 208,
      },
    },
    base: { length: { epochs: 100 }, warmup: { epochs: 10 } },
    choices: { ...M2D_SOURCE, ...DEVIATIONS.target.released.choices },
    clipNorm: 0,
    has: { teacher: false, classification: false, competingHeads: false },
  },
  m2d: {
    title: "M2D",
    summary: "the teacher's latents of masked patches, each standardised",
    create: (...words) => new M2d(...words),
    specs: (geometry, recipe) => sharedSpecs(geometry, recipe, geometry.width),
    choices: {
      ...M2D_SOURCE,
      ...DEVIATIONS["teacher-init"].released.choices,
      ...DEVIATIONS.target.paper.choices,
    },
    clipNorm: 3,
    has: { teacher: true, classification: false, competingHeads: false },
  },
  matpac: {
    title: "MATPAC",
    summary: "the teacher's latents and its prototypes",
    create: (...words) => new Matpac(...words),
    specs: studentSpecs,
    clipNorm: 3,
    has: { teacher: true, classification: true, competingHeads: false },
  },
  "matpac-plus": {
    title: "MATPAC++",
    summary: "the same, with predictor heads that compete",
    create: (...words) => new MatpacPlus(...words),
    specs: matpacPlusSpecs,
    sizes: {
      tiny: { mclHeads: RELEASED_MCL_HEADS },
      small: { mclHeads: RELEASED_MCL_HEADS },
      base: { mclHeads: RELEASED_MCL_HEADS },
    },
    clipNorm: 3,
    has: { teacher: true, classification: true, competingHeads: true },
  },
};

/** A preset's sizes for an objective. */
export function geometryFor(objective: ObjectiveName, preset: PresetName): Geometry {
  return { ...PRESETS[preset].geometry, ...OBJECTIVES[objective].sizes?.[preset] };
}

/** A preset's training numbers for an objective. */
export function trainingFor(objective: ObjectiveName, preset: PresetName): TrainingDefaults {
  const { training } = PRESETS[preset];
  return preset === "base" ? { ...training, ...OBJECTIVES[objective].base } : training;
}

/**
 * A recipe for an objective, with some rows as one source has them.
 *
 * @param sides the rows that are named take this side, whatever recipe and objective do
 */
export function recipeFor(
  objective: ObjectiveName,
  name: RecipeName,
  sides: Partial<Readonly<Record<DeviationName, RecipeName>>> = {},
): Recipe {
  const named = Object.entries(sides) as [DeviationName, RecipeName][];
  return Object.assign(
    {},
    mixedRecipe(name),
    OBJECTIVES[objective].choices,
    ...named.map(([row, side]) => DEVIATIONS[row][side].choices),
  );
}
