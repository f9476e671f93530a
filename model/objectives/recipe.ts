/**
 * Where the paper and the released code differ (model/README.md, section of that name), as one
 * typed object per recipe.
 *
 * @module
 */
import type { RecipeName } from "./presets.ts";

/** The choices that make a recipe. */
export interface Recipe {
  /** Name on the command line; single choices may differ from that recipe's. */
  readonly name: RecipeName;
  /**
   * Row 1: what the centre averages: raw teacher logits (paper, Eq. for C) or softmaxed
   * probabilities.
   */
  readonly centerOn: "logits" | "probabilities";
  /** Row 2: teachers start as copies of the student, or from draws of their own. */
  readonly teacherInit: "copy" | "independent";
  /** Row 3: position tables are trained from their sin-cos start, or stay fixed. */
  readonly positions: "learned" | "fixed";
  /** Row 4: the peak learning rate grows with the batch, or is what it is. */
  readonly lrScaling: "batch" | "absolute";
  /** Row 5: prediction targets are standardised over their dimensions before the cosine, or not. */
  readonly targets: "standardised" | "raw";
  /**
   * Blocks of the teacher, counted from 1, whose outputs, each normalised, are averaged to be the
   * target (as M2D's experimental `target_layers`); absent: the last one's after the final norm.
   */
  readonly targetLayers?: readonly number[];
  /**
   * Whether targets lose their mean over a clip's masked patches and are standardised then, for
   * both losses: what tells clips apart alone is no target. Neither paper nor released code;
   * data2vec does so over time.
   */
  readonly clipCentredTargets?: boolean;
  /**
   * What the teacher encodes: the masked patches (default, as published), or the whole clip, of
   * which the masked patches' latents are the targets (as data2vec), shared by its masks.
   */
  readonly teacherView?: "masked" | "clip";
  /** Row 6: a clip's loss is the sum over its masked tokens, or their mean. */
  readonly reduction: "sum" | "mean";
  /**
   * Row 7: the loss is (1 - alpha) cls + alpha pred (paper, Eq. 5); `gate` weighs both by 0.5 and
   * lets alpha only switch one off at 0 or 1.
   */
  readonly alpha: "weights" | "gate";
  /** Row 8: the gains g of the head's last layer stay 1 as in DINO, or are trained. */
  readonly headGains: "fixed" | "trained";
  /** Row 9: what weight decay spares: one-dimensional tensors and biases, or nothing. */
  readonly weightDecayOn: "matrices" | "all";
  /** Row 9: Adam's eps and where it enters (model/README.md, Optimizer). */
  readonly adam: { readonly eps: number; readonly epsPlacement: "torch" | "fairseq" };
  /** Row 10: clips that make an epoch of the schedules; absent: as many as the data has. */
  readonly epochClips?: number;
}

/** One side of a {@link Deviation}. */
export interface Side {
  /** For help and README. */
  readonly text: string;
  /** What it sets. */
  readonly choices: Partial<Omit<Recipe, "name">>;
}

/**
 * A row of model/README.md, Where paper and released code differ, that a run can choose a side of.
 */
export interface Deviation {
  /** Its number there. */
  readonly row: number;
  /** What it is about. */
  readonly topic: string;
  /** What the paper says. */
  readonly paper: Side;
  /** What the released code does. */
  readonly released: Side;
  /**
   * The side that the recipe `paper` takes where it is not the paper's: model/README.md, Where
   * paper and released code differ, says why.
   */
  readonly paperTakes?: RecipeName | "neither";
  /** The side that the recipe `released` takes where it is not the released code's. */
  readonly releasedTakes?: RecipeName | "neither";
}

/**
 * Rows 1 to 10 of model/README.md, Where paper and released code differ, by the name that follows
 * `--recipe-`.
 */
export const DEVIATIONS = {
  center: {
    row: 1,
    topic: "what the centre averages",
    paper: { text: "teacher logits", choices: { centerOn: "logits" } },
    released: { text: "teacher probabilities", choices: { centerOn: "probabilities" } },
  },
  "teacher-init": {
    row: 2,
    topic: "teachers at the start",
    paper: { text: "copies of the student", choices: { teacherInit: "copy" } },
    released: { text: "draws of their own", choices: { teacherInit: "independent" } },
  },
  positions: {
    row: 3,
    topic: "position tables",
    paper: { text: "learned from sin-cos", choices: { positions: "learned" } },
    released: { text: "fixed sin-cos", choices: { positions: "fixed" } },
  },
  "lr-scaling": {
    row: 4,
    topic: "peak learning rate of base",
    paper: { text: "3e-4 per 256 clips of the batch", choices: { lrScaling: "batch" } },
    released: { text: "3e-4", choices: { lrScaling: "absolute" } },
  },
  target: {
    row: 5,
    topic: "prediction targets",
    paper: { text: "standardised per token, as M2D", choices: { targets: "standardised" } },
    released: { text: "as they are", choices: { targets: "raw" } },
    paperTakes: "released",
  },
  reduction: {
    row: 6,
    topic: "loss of a clip",
    paper: { text: "sum over masked tokens", choices: { reduction: "sum" } },
    released: { text: "mean over masked tokens", choices: { reduction: "mean" } },
    paperTakes: "released",
  },
  alpha: {
    row: 7,
    topic: "what --alpha does",
    paper: { text: "weighs the losses", choices: { alpha: "weights" } },
    released: { text: "switches one off at 0 or 1, else 0.5 each", choices: { alpha: "gate" } },
  },
  head: {
    row: 8,
    topic: "gains of the head's last layer",
    paper: { text: "fixed at 1, as DINO", choices: { headGains: "fixed" } },
    released: { text: "trained", choices: { headGains: "trained" } },
    paperTakes: "released",
  },
  "weight-decay": {
    row: 9,
    topic: "weight decay and Adam's eps",
    paper: {
      text: "not on biases and vectors, 1e-8",
      choices: { weightDecayOn: "matrices", adam: { eps: 1e-8, epsPlacement: "torch" } },
    },
    released: {
      text: "on everything, 1e-6 without bias correction",
      choices: { weightDecayOn: "all", adam: { eps: 1e-6, epsPlacement: "fairseq" } },
    },
  },
  "dataset-size": {
    row: 10,
    topic: "clips of an epoch in schedules",
    paper: { text: "2012215", choices: { epochClips: 2_012_215 } },
    released: { text: "2012615", choices: { epochClips: 2_012_615 } },
    paperTakes: "neither",
    releasedTakes: "neither",
  },
} as const satisfies Readonly<Record<string, Deviation>>;

/** Names of {@link DEVIATIONS}. */
export type DeviationName = keyof typeof DEVIATIONS;

/** {@link DEVIATIONS} with their names, in the order of their rows. */
export function deviations(): [DeviationName, Deviation][] {
  return Object.entries(DEVIATIONS) as [DeviationName, Deviation][];
}

/** The side that a recipe takes of itself. */
export function sideOf(
  recipe: RecipeName,
  { paperTakes = "paper", releasedTakes = "released" }: Deviation,
): RecipeName | "neither" {
  return recipe === "paper" ? paperTakes : releasedTakes;
}

/**
 * A recipe with some rows as the other source has them.
 *
 * @param sides the rows that are named take this side, whatever the recipe does
 */
export function mixedRecipe(
  name: RecipeName,
  sides: Partial<Readonly<Record<DeviationName, RecipeName>>> = {},
): Recipe {
  const choices = deviations().map(([key, row]) => {
    const side = sides[key] ?? sideOf(name, row);
    return side === "neither" ? {} : row[side].choices;
  });
  // Every field but the last is set by one row for each recipe.
  return Object.assign({ name }, ...choices);
}

/** Both recipes. */
export const RECIPES: Readonly<Record<RecipeName, Recipe>> = {
  paper: mixedRecipe("paper"),
  released: mixedRecipe("released"),
};

/**
 * Weights of the two mean losses for a recipe and alpha (model/README.md, MATPAC, and Where paper
 * and released code differ, rows 6 and 7).
 *
 * @param masked masked tokens per clip: what a sum over them is of their mean
 * @throws {RangeError} if alpha is outside [0, 1], or `masked` is not given to a recipe that sums.
 */
export function lossWeights(
  recipe: Recipe,
  alpha: number,
  masked?: number,
): { pred: number; cls: number } {
  if (!(alpha >= 0 && alpha <= 1)) {
    throw new RangeError(`alpha is ${alpha}; it must lie between 0 and 1`);
  }
  if (recipe.reduction === "sum" && masked === undefined) {
    throw new RangeError("a loss that is a sum needs the number of masked tokens");
  }
  const scale = recipe.reduction === "sum" ? masked! : 1;
  if (recipe.alpha === "weights") return { pred: scale * alpha, cls: scale * (1 - alpha) };
  return { pred: alpha === 0 ? 0 : 0.5 * scale, cls: alpha === 1 ? 0 : 0.5 * scale };
}
