/**
 * Losses that compare element by element, and what all losses share: torch's names for how terms
 * become one number ({@link Reduction}). Each carries its reference in float64.
 *
 * @module
 */
import { kindOf, needOptions, needTogether } from "../arguments.ts";
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { composite } from "../scope.ts";
import { sameShape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { sub } from "./elementwise.ts";
import { mean, sum } from "./reduce.ts";
import { square } from "./unary.ts";

/** @throws {ShapeError} if two floats of one shape and type are no such. */
export function sameShapes(name: string, a: Tensor, b: Tensor): void {
  needTogether(name, { "operand 0": a, "operand 1": b });
  if (!sameShape(a.shape, b.shape) || a.dtype !== b.dtype || !isFloat(a.dtype)) {
    throw new ShapeError(
      `${name}: the operands are ${show(a.shape)} of ${a.dtype} and ${show(b.shape)} of ` +
        `${b.dtype}; they must agree and be floats`,
    );
  }
}

/** @throws {ShapeError} if rows have no elements, and so no loss. */
export function needRows(name: string, { shape }: Tensor): void {
  if (shape.length === 0 || shape[shape.length - 1] > 0) return;
  throw new ShapeError(`${name}: ${show(shape)} has no elements along its last axis`);
}

/** `[..., 1]` seen from `[...]`. */
export const column = (t: Tensor): Tensor => t.view([...t.shape, 1]);

/** What becomes of a loss's terms: their mean, their sum, or themselves. */
export type Reduction = "mean" | "sum" | "none";

/** Options that all losses have. */
export interface LossOptions {
  /** What becomes of the terms; each loss says its default. */
  readonly reduction?: Reduction;
}

/** Checks options of a loss and makes what is asked for of its terms, inside of one scope. */
export function reduced<Options extends LossOptions>(
  name: string,
  options: Options,
  fallback: Reduction,
  terms: () => Tensor,
  names: readonly string[] = [],
): Tensor {
  needOptions(name, options, ["reduction", ...names]);
  const { reduction = fallback } = options;
  if (reduction !== "mean" && reduction !== "sum" && reduction !== "none") {
    throw new ShapeError(
      `${name}: the reduction is ${kindOf(reduction)}; mean, sum, none are known`,
    );
  }
  if (reduction === "none") return composite(terms);
  return composite(() => (reduction === "mean" ? mean : sum)(terms()));
}

/**
 * Squared error per element; by default the mean over all.
 *
 * @throws {ShapeError} if the shapes differ or, for a mean, hold no elements.
 */
export function mse(prediction: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  sameShapes("mse", prediction, target);
  return reduced("mse", options, "mean", () => square(sub(prediction, target)));
}
