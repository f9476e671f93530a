/**
 * Where the paper and the released code differ (SPEC section 9), as one typed object per recipe.
 *
 * @module
 */
import type { RecipeName } from "./presets.ts";

/** The choices that make a recipe. */
export interface Recipe {
  /** Name on the command line. */
  readonly name: RecipeName;
  /** Row 1: what the centre averages: raw teacher logits (paper, Eq. for C) or softmaxed probabilities. */
  readonly centerOn: "logits" | "probabilities";
  /** Row 2: teachers start as copies of the student, or from draws of their own. */
  readonly teacherInit: "copy" | "independent";
  /** Row 3: position tables are trained from their sin-cos start, or stay fixed. */
  readonly positions: "learned" | "fixed";
  /**
   * Row 7: the loss is (1 - alpha) cls + alpha pred (paper, Eq. 5); `gate` weighs both by 0.5 and lets alpha
   * only switch one off at 0 or 1.
   */
  readonly alpha: "weights" | "gate";
  /** Row 9: what weight decay spares: one-dimensional tensors and biases, or nothing. */
  readonly weightDecayOn: "matrices" | "all";
  /** Row 9: Adam's eps and where it enters (SPEC section 4). */
  readonly adam: { readonly eps: number; readonly epsPlacement: "torch" | "fairseq" };
}

/** Both recipes. The learning-rate rule (row 4) lies with the presets. */
export const RECIPES: Readonly<Record<RecipeName, Recipe>> = {
  paper: {
    name: "paper",
    centerOn: "logits",
    teacherInit: "copy",
    positions: "learned",
    alpha: "weights",
    weightDecayOn: "matrices",
    adam: { eps: 1e-8, epsPlacement: "torch" },
  },
  released: {
    name: "released",
    centerOn: "probabilities",
    teacherInit: "independent",
    positions: "fixed",
    alpha: "gate",
    weightDecayOn: "all",
    adam: { eps: 1e-6, epsPlacement: "fairseq" },
  },
};

/**
 * Weights of the two losses for a recipe and alpha (SPEC section 3 and section 9 row 7).
 *
 * @throws {RangeError} if alpha is outside [0, 1].
 */
export function lossWeights(recipe: Recipe, alpha: number): { pred: number; cls: number } {
  if (!(alpha >= 0 && alpha <= 1)) {
    throw new RangeError(`alpha is ${alpha}; it must lie between 0 and 1`);
  }
  if (recipe.alpha === "weights") return { pred: alpha, cls: 1 - alpha };
  return { pred: alpha === 0 ? 0 : 0.5, cls: alpha === 1 ? 0 : 0.5 };
}
