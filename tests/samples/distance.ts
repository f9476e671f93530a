/** What the functions of `engine/ops/distance.ts` are tried on. */
import type { RefArray } from "../../engine/op.ts";
import {
  cdist,
  cosineEmbeddingLoss,
  cosineSimilarity,
  type CosineSimilarityOptions,
  type DistanceOptions,
  marginRankingLoss,
  pairwiseDistance,
  tripletMarginLoss,
  type TripletMarginOptions,
} from "../../engine/ops/distance.ts";
import { refBroadcast, refDot, refFrom, refNorm, refRows } from "../../engine/reference.ts";
import { refRandom } from "../support/random.ts";
import { type ComposedFunctions, trial } from "../support/samples.ts";

const refCosine = (a: Float64Array, b: Float64Array, eps = 1e-8) =>
  refDot(a, b) / Math.max(refNorm(a), eps) / Math.max(refNorm(b), eps);
const refDistance = (a: Float64Array, b: Float64Array, p = 2) =>
  a.reduce((sum, v, i) => sum + Math.abs(v - b[i]) ** p, 0) ** (1 / p);
const average = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
/** [n, m] as [m, n]. */
const swapped = ({ shape: [n, m], data }: RefArray): RefArray =>
  refFrom([m, n], (i) => data[i % n * m + Math.floor(i / n)]);
/** Products and norms are rounded to f16 on the way. */
const halfTolerance = 2 ** -8;

export const composed: ComposedFunctions = {
  cosineSimilarity: {
    of: ["norm", "maximum", "div", "mul", "sum"],
    trial: trial<CosineSimilarityOptions>(
      ([a, b], options) => cosineSimilarity(a, b, options),
      ([a, b], { axis, eps }) => {
        const shape = [4, a.shape[1]];
        const [x, y] = [a, b].map((it) => ({ shape, data: refBroadcast(it, shape) }))
          .map((it) => refRows(axis === 0 ? swapped(it) : it));
        return refFrom([x.length], (r) => refCosine(x[r], y[r], eps));
      },
      () =>
        [
          { label: "rows", inputs: [refRandom([4, 7], 1), refRandom([4, 7], 2)], attrs: {} },
          {
            label: "beside one, long eps",
            inputs: [refRandom([4, 5], 3), refRandom([5], 4)],
            attrs: { eps: 2 },
          },
          {
            label: "columns",
            inputs: [refRandom([4, 3], 5), refRandom([4, 3], 6)],
            attrs: { axis: 0 },
          },
        ].map((it, i) => ({ ...it, halfTolerance, tolerance: 4e-6, quick: i === 1 })),
    ),
  },
  pairwiseDistance: {
    of: ["sub", "norm"],
    trial: trial<DistanceOptions>(
      ([a, b], options) => pairwiseDistance(a, b, options),
      ([a, b], { p }) => {
        const [x, y] = [a, b].map(refRows);
        return refFrom([3], (r) => refDistance(x[r], y[0], p));
      },
      () =>
        [2, 3].map((p) => ({
          label: `p = ${p}`,
          inputs: [refRandom([3, 5], 1), refRandom([1, 5], 2)],
          attrs: { p },
          halfTolerance,
          tolerance: 4e-6,
          quick: false,
        })),
    ),
  },
  cdist: {
    of: ["sub", "norm"],
    trial: trial<DistanceOptions>(
      ([a, b], options) => cdist(a, b, options),
      ([a, b], { p }) => {
        const [x, y] = [a, b].map(refRows);
        return refFrom([2, 3, 4], (i) => {
          const [m, n] = [i % 4, Math.floor(i / 4)];
          return refDistance(x[n], y[Math.floor(n / 3) * 4 + m], p);
        });
      },
      () =>
        [2, 1].map((p) => ({
          label: `p = ${p}`,
          inputs: [refRandom([2, 3, 5], 3), refRandom([2, 4, 5], 4)],
          attrs: { p },
          halfTolerance,
          tolerance: 4e-6,
          quick: false,
        })),
    ),
  },
  cosineEmbeddingLoss: {
    of: ["norm", "div", "mul", "sum", "where", "mean"],
    trial: trial<null>(
      ([a, b, target]) => cosineEmbeddingLoss(a, b, target, { margin: 0.1 }),
      ([a, b, target]) => {
        const [x, y] = [a, b].map(refRows);
        const terms = x.map((row, r) => {
          const cosine = refCosine(row, y[r]);
          return target.data[r] === 1 ? 1 - cosine : Math.max(0, cosine - 0.1);
        });
        return refFrom([], () => average(terms));
      },
      () => [{
        label: "[6, 5]",
        inputs: [refRandom([6, 5], 1), refRandom([6, 5], 2), refFrom([6], (i) => i % 2 * 2 - 1)],
        constant: [2],
        attrs: null,
        halfTolerance,
        tolerance: 4e-6,
      }],
    ),
  },
  marginRankingLoss: {
    of: ["sub", "mul", "relu", "mean"],
    trial: trial<null>(
      ([a, b, target]) => marginRankingLoss(a, b, target, { margin: 0.5 }),
      ([a, b, target]) => {
        const terms = [...a.data].map((v, i) =>
          Math.max(0, 0.5 - target.data[i] * (v - b.data[i]))
        );
        return refFrom([], () => average(terms));
      },
      () => [{
        label: "[9]",
        inputs: [refRandom([9], 1), refRandom([9], 2), refFrom([9], (i) => i % 2 * 2 - 1)],
        constant: [2],
        attrs: null,
        halfTolerance,
      }],
    ),
  },
  tripletMarginLoss: {
    of: ["sub", "norm", "relu", "mean"],
    trial: trial<TripletMarginOptions>(
      (inputs, options) => tripletMarginLoss(inputs[0], inputs[1], inputs[2], options),
      (inputs, { margin, swap, p }) => {
        const [anchor, positive, negative] = inputs.map(refRows);
        const terms = anchor.map((row, r) => {
          const far = refDistance(row, negative[r], p);
          const other = swap ? refDistance(positive[r], negative[r], p) : Infinity;
          const least = Math.min(far, other);
          return Math.max(0, refDistance(row, positive[r], p) - least + margin!);
        });
        return refFrom([], () => average(terms));
      },
      () =>
        [false, true].map((swap) => ({
          label: swap ? "swapped" : "plain",
          inputs: [1, 2, 3].map((seed) => refRandom([7, 4], seed)),
          attrs: { margin: 0.7, swap, p: swap ? 3 : 2 },
          halfTolerance,
          tolerance: 4e-6,
        })),
    ),
  },
};
