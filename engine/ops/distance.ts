/**
 * Similarities and distances of vectors, and losses that are made of them.
 *
 * @module
 */
import { kindOf, needNumber, needOptions, needTogether } from "../arguments.ts";
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { composite } from "../scope.ts";
import { broadcastShapes, normalizeAxis, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { equal, where } from "./compare.ts";
import { add, div, maximum, minimum, mul, sub } from "./elementwise.ts";
import { type LossOptions, reduced } from "./loss.ts";
import { norm } from "./norm.ts";
import { sum } from "./reduce.ts";
import { neg, relu } from "./unary.ts";
import { unsqueeze } from "./axes.ts";

/** Checks floats that broadcast; the shape in which they meet. */
function needFloats(name: string, operands: Readonly<Record<string, Tensor>>): readonly number[] {
  needTogether(name, operands);
  for (const [label, it] of Object.entries(operands)) {
    if (!isFloat(it.dtype)) throw new ShapeError(`${name}: ${label} is ${kindOf(it)}, no floats`);
  }
  return Object.values(operands).map(({ shape }) => shape)
    .reduce((a, b) => broadcastShapes(name, a, b));
}

/** Options of {@link cosineSimilarity}. */
export interface CosineSimilarityOptions {
  /** Axis of the vectors, negative from the end; default the last. */
  readonly axis?: number;
  /** Least length that a vector counts as; default 1e-8. */
  readonly eps?: number;
}

/**
 * Cosine of the angle between vectors, as torch's `cosine_similarity`: `a b / (max(|a|, eps)
 * max(|b|, eps))`, with broadcasting beside the axis.
 *
 * @returns the shape in which they meet, without the axis
 * @throws {ShapeError} if one is of integers, or shapes do not broadcast, or the axis differs.
 */
export function cosineSimilarity(
  a: Tensor,
  b: Tensor,
  options: CosineSimilarityOptions = {},
): Tensor {
  const name = "cosineSimilarity";
  const shape = needFloats(name, { a, b });
  needOptions(name, options, ["axis", "eps"]);
  const { axis = -1, eps = 1e-8 } = options;
  needNumber(name, "eps", eps, 0);
  // From the end, as shapes are aligned there.
  const end = normalizeAxis(name, axis, shape.length) - shape.length;
  if (a.shape.at(end) === undefined || a.shape.at(end) !== b.shape.at(end)) {
    throw new ShapeError(`${name}: axis ${axis} of ${show(a.shape)} and ${show(b.shape)} differs`);
  }
  return composite(() => {
    const [x, y] = [a, b].map((it) =>
      div(it, maximum(norm(it, { axes: [end], keepDims: true }), eps))
    );
    return sum(mul(x, y), { axes: [end] });
  });
}

/** Options of {@link pairwiseDistance} and {@link cdist}. */
export interface DistanceOptions {
  /** Order of the norm; default 2. */
  readonly p?: number;
}

/**
 * The p-norm of `a - b` along the last axis, with broadcasting; torch adds 1e-6 to each difference.
 * Its gradient where they are equal is 0.
 *
 * @returns the shape in which they meet, without its last axis
 * @throws {ShapeError} if one is of integers, shapes do not broadcast, or `p` is no number.
 */
export function pairwiseDistance(a: Tensor, b: Tensor, options: DistanceOptions = {}): Tensor {
  const shape = needFloats("pairwiseDistance", { a, b });
  needOptions("pairwiseDistance", options, ["p"]);
  if (shape.length === 0) throw new ShapeError("pairwiseDistance: [] and [] have no last axis");
  return composite(() => norm(sub(a, b), { axes: [-1], ...options }));
}

/**
 * Distances of every two vectors, as torch's `cdist`; holds all their differences, [..., n, m,
 * width], at once.
 *
 * @param a [..., n, width]
 * @param b [..., m, width]
 * @returns [..., n, m]
 * @throws {ShapeError} if one is of integers or a vector, or widths differ.
 */
export function cdist(a: Tensor, b: Tensor, options: DistanceOptions = {}): Tensor {
  needTogether("cdist", { a, b });
  needOptions("cdist", options, ["p"]);
  const floats = isFloat(a.dtype) && isFloat(b.dtype);
  const ranks = a.shape.length >= 2 && b.shape.length >= 2;
  if (!floats || !ranks || a.shape.at(-1) !== b.shape.at(-1)) {
    throw new ShapeError(
      `cdist: a is ${kindOf(a)}, b is ${kindOf(b)}; floats [..., n, width] and [..., m, width] ` +
        "are needed",
    );
  }
  broadcastShapes("cdist", a.shape.slice(0, -2), b.shape.slice(0, -2));
  return composite(() => pairwiseDistance(unsqueeze(a, -2), unsqueeze(b, -3), options));
}

/** Options of losses with a margin. */
export interface MarginOptions extends LossOptions {
  /** How far apart is far enough; each loss says its default. */
  readonly margin?: number;
}

/**
 * `1 - cos(a, b)` for a target of 1, `max(0, cos(a, b) - margin)` for -1, as torch's
 * `cosine_embedding_loss`; by default the mean over all.
 *
 * @param a [..., width]
 * @param b of the same shape
 * @param target 1 and -1, floats [...]
 * @param options the margin is 0 by default
 * @throws {ShapeError} if shapes do not fit.
 */
export function cosineEmbeddingLoss(
  a: Tensor,
  b: Tensor,
  target: Tensor,
  options: MarginOptions = {},
): Tensor {
  const name = "cosineEmbeddingLoss";
  const shape = needFloats(name, { a, b });
  needTogether(name, { a, target });
  if (a.shape.at(-1) === undefined || a.shape.at(-1) !== b.shape.at(-1)) {
    throw new ShapeError(`${name}: vectors ${show(a.shape)} and ${show(b.shape)} differ in width`);
  }
  broadcastShapes(name, shape.slice(0, -1), target.shape);
  const terms = () => {
    const { margin = 0 } = options;
    needNumber(name, "the margin", margin);
    const cosine = cosineSimilarity(a, b);
    return where(equal(target, 1), sub(1, cosine), relu(sub(cosine, margin)));
  };
  return reduced(name, options, "mean", terms, ["margin"]);
}

/**
 * `max(0, margin - target (a - b))` per element, as torch's `margin_ranking_loss`; by default the
 * mean over all.
 *
 * @param target 1 where `a` shall be larger, -1 where `b`
 * @param options the margin is 0 by default
 * @throws {ShapeError} if shapes do not broadcast.
 */
export function marginRankingLoss(
  a: Tensor,
  b: Tensor,
  target: Tensor,
  options: MarginOptions = {},
): Tensor {
  const name = "marginRankingLoss";
  needFloats(name, { a, b, target });
  const terms = () => {
    const { margin = 0 } = options;
    needNumber(name, "the margin", margin);
    return relu(add(mul(neg(target), sub(a, b)), margin));
  };
  return reduced(name, options, "mean", terms, ["margin"]);
}

/** Options of {@link tripletMarginLoss}. */
export interface TripletMarginOptions extends MarginOptions, DistanceOptions {
  /** Whether a negative counts that is nearer to the positive than to the anchor; default false. */
  readonly swap?: boolean;
}

/**
 * `max(0, |anchor - positive| - |anchor - negative| + margin)` along the last axis, as torch's
 * `triplet_margin_loss` (Balntas et al., 2016); by default the mean over all.
 *
 * @param anchor [..., width]
 * @param positive what shall be near
 * @param negative what shall be far
 * @param options the margin is 1 by default
 * @throws {ShapeError} if shapes do not broadcast.
 */
export function tripletMarginLoss(
  anchor: Tensor,
  positive: Tensor,
  negative: Tensor,
  options: TripletMarginOptions = {},
): Tensor {
  const name = "tripletMarginLoss";
  const shape = needFloats(name, { anchor, positive, negative });
  if (shape.length === 0) throw new ShapeError(`${name}: [], [] and [] have no last axis`);
  const terms = () => {
    const { margin = 1, p = 2, swap = false } = options;
    needNumber(name, "the margin", margin);
    const far = pairwiseDistance(anchor, negative, { p });
    const least = swap ? minimum(far, pairwiseDistance(positive, negative, { p })) : far;
    return relu(add(sub(pairwiseDistance(anchor, positive, { p }), least), margin));
  };
  return reduced(name, options, "mean", terms, ["margin", "p", "swap"]);
}
