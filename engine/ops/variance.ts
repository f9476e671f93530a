/**
 * Variance over axes.
 *
 * @module
 */
import { needNumber } from "../arguments.ts";
import source from "../../kernels/variance.wgsl" with { type: "text" };
import mergeSource from "../../kernels/variance_merge.wgsl" with { type: "text" };
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refBroadcast, refFrom, refUnbroadcast } from "../reference.ts";
import { show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { elementwise } from "../launch/elementwise.ts";
import {
  attrsOf,
  expand,
  keptShape,
  type ReduceAttrs,
  reduceAxes,
  reducedCount,
  type ReduceOptions,
  squeeze,
} from "./reduce.ts";
import {
  alignedWindow,
  choosePass,
  passRounds,
  reducedRuns,
  runPass,
  windowLimit,
} from "../launch/reduce.ts";

const kernel = /* @__PURE__ */ defineKernel("variance", source, {
  rounds: /* @__PURE__ */ passRounds(4),
});
const mergeKernel = /* @__PURE__ */ defineKernel("variance_merge", mergeSource, {
  rounds: ({ params: { block } }) => block + 1,
});
const WORKGROUP = 64;
/** Parts that one invocation joins. */
const MERGED = 128;

/** Joining neighbouring parts of `[outer, parts, inner]`, of `size` elements each but the last. */
interface Merge {
  readonly outer: number;
  readonly parts: number;
  readonly inner: number;
  readonly size: number;
  readonly last: number;
}

/** Mean and sum of squared deviations per part. */
type Moments = readonly [means: Tensor, squares: Tensor];

/** The merges that leave one part, blocks of {@link MERGED} at a time. */
function mergesOf(merge: Merge): Merge[] {
  const { parts, size, last } = merge;
  if (parts === 1) return [];
  const blocks = Math.ceil(parts / MERGED);
  const left = parts - (blocks - 1) * MERGED;
  const next = { ...merge, parts: blocks, size: MERGED * size, last: (left - 1) * size + last };
  return [merge, ...mergesOf(next)];
}

function runMerge([means, squares]: Moments, to: Moments, merge: Merge, scale: number): void {
  const { device } = means;
  const { outer, parts, inner, size, last } = merge;
  const blocks = Math.ceil(parts / MERGED);
  const width = inner % 4 === 0 ? 4 : 1;
  const once = Math.max(1, Math.min(outer, Math.floor(windowLimit(means) / (parts * inner))));
  for (let o = 0; o < outer; o += once) {
    const rows = Math.min(once, outer - o);
    const [read, written] = [rows * parts * inner, rows * blocks * inner];
    const windows = [means, squares].map((t) => alignedWindow(t, o * parts * inner, read))
      .concat(to.map((t) => alignedWindow(t, o * blocks * inner, written)));
    const [offset_means, offset_squares, offset_mean, offset_square] = windows.map(({ before }) =>
      before / width
    );
    device.run(
      mergeKernel,
      { WG: WORKGROUP, W: width },
      windows.map(({ operand }) => operand),
      {
        ...{ count: written / width, parts, blocks, block: MERGED, inner: inner / width },
        ...{ size, last, scale, offset_means, offset_squares, offset_mean, offset_square },
      },
      Math.ceil(written / width / WORKGROUP),
    );
  }
}

/**
 * Means over the reduced axes, and sums of squared deviations times `scale` into `out`; undefined
 * where a slice is so large that no two fit a binding.
 */
function moments(
  x: Tensor,
  reduced: readonly boolean[],
  scale: number,
  out: Tensor,
): Tensor | undefined {
  const { device } = x;
  const runs = reducedRuns(x.shape, reduced);
  const pass = choosePass(x, x, runs[0]);
  if (!pass) return undefined;
  const size = pass.block * (pass.row ? pass.width : 1);
  const last = pass.reduce - (pass.parts - 1) * size;
  const merges = mergesOf({ outer: pass.outer, parts: pass.parts, inner: pass.inner, size, last });
  let count = pass.reduce;
  for (const { outer, reduce, inner } of runs.slice(1)) {
    merges.push(...mergesOf({ outer, parts: reduce, inner, size: count, last: count }));
    count *= reduce;
  }
  if (merges.some(({ parts, inner }) => parts * inner > windowLimit(x))) return undefined;
  const mean = device.empty(keptShape(x.shape, reduced));
  const target = (elements: number, final: boolean): Moments =>
    final ? [mean, out] : [device.empty([elements]), device.empty([elements])];
  const { outer, parts, inner } = pass;
  let current = target(outer * parts * inner, merges.length === 0);
  runPass(kernel, x, current, pass, merges.length === 0 ? scale : 1, {});
  merges.forEach((merge, i) => {
    const final = i === merges.length - 1;
    const next = target(merge.outer * Math.ceil(merge.parts / MERGED) * merge.inner, final);
    runMerge(current, next, merge, final ? scale : 1);
    current.forEach((it) => it.dispose());
    current = next;
  });
  return mean;
}

interface VarianceAttrs extends ReduceAttrs {
  readonly correction: number;
}

function refCentre(x: RefArray, reduced: readonly boolean[]): Float64Array {
  const sums = refUnbroadcast(x.data, x.shape, keptShape(x.shape, reduced));
  const spread = refBroadcast(sums, x.shape);
  const count = reducedCount(x.shape, reduced);
  return x.data.map((value, i) => value - spread[i] / count);
}

/** Variance and mean over the reduced axes, the latter with size 1 there. */
function varianceOf(x: Tensor, attrs: VarianceAttrs): readonly [variance: Tensor, mean: Tensor] {
  const { reduced, correction } = attrs;
  const count = reducedCount(x.shape, reduced);
  const scale = 1 / (count - correction);
  const y = x.device.empty(squeeze(x.shape, attrs));
  let mean = moments(x, reduced, scale, y);
  if (!mean) {
    mean = reduceAxes(x, reduced, "sum", 1 / count);
    const centred = x.device.empty(x.shape);
    elementwise(centred, [x, mean], { expression: "a - b" });
    reduceAxes(centred, reduced, "sumOfSquares", scale, y);
  }
  return [y, mean];
}

function refVariance(x: RefArray, attrs: VarianceAttrs): RefArray {
  const { reduced, correction } = attrs;
  const squares = refCentre(x, reduced).map((d) => d * d);
  const { data } = refUnbroadcast(squares, x.shape, keptShape(x.shape, reduced));
  const scale = 1 / (reducedCount(x.shape, reduced) - correction);
  return { shape: squeeze(x.shape, attrs), data: data.map((v) => v * scale) };
}

/** Derivatives of the variance by the elements, times what stands for its gradient. */
function refSlopes(x: RefArray, attrs: VarianceAttrs, gradient: Float64Array): RefArray {
  const { reduced, correction } = attrs;
  const centred = refCentre(x, reduced);
  const spread = refBroadcast({ shape: keptShape(x.shape, reduced), data: gradient }, x.shape);
  const scale = 2 / (reducedCount(x.shape, reduced) - correction);
  return refFrom(x.shape, (i) => scale * centred[i] * spread[i]);
}

const varianceOp = /* @__PURE__ */ defineOp<VarianceAttrs>({
  name: "variance",
  forward([x], attrs, save) {
    const [y, mean] = varianceOf(x, attrs);
    save(x);
    save(mean);
    return [y];
  },
  backward({ grads: [dy], saved: [x, mean] }, { reduced, correction }) {
    const dx = x.device.empty(x.shape);
    elementwise(dx, [x, expand(mean, x.shape, reduced), expand(dy!, x.shape, reduced)], {
      expression: "params.alpha * (a - b) * c",
      alpha: 2 / (reducedCount(x.shape, reduced) - correction),
    });
    return [dx];
  },
  reference: {
    forward: ([x], attrs) => [refVariance(x, attrs)],
    backward: ([x], attrs, [dy]) => [refSlopes(x, attrs, dy.data)],
  },
});

const stdOp = /* @__PURE__ */ defineOp<VarianceAttrs>({
  name: "std",
  forward([x], attrs, save) {
    const [variance, mean] = varianceOf(x, attrs);
    const y = x.device.empty(variance.shape);
    elementwise(y, [variance], { expression: "sqrt(a)" });
    [x, mean, y].forEach(save);
    return [y];
  },
  backward({ grads: [dy], saved: [x, mean, y] }, { reduced, correction }) {
    const dx = x.device.empty(x.shape);
    const rows = [mean, dy!, y].map((it) => expand(it, x.shape, reduced));
    elementwise(dx, [x, ...rows], {
      expression: "select(params.alpha * (a - b) * (c / d), T(0.0), d == T(0.0))",
      alpha: 1 / (reducedCount(x.shape, reduced) - correction),
    });
    return [dx];
  },
  reference: {
    forward([x], attrs) {
      const { shape, data } = refVariance(x, attrs);
      return [{ shape, data: data.map(Math.sqrt) }];
    },
    backward([x], attrs, [dy]) {
      const { data } = refVariance(x, attrs);
      return [
        refSlopes(x, attrs, dy.data.map((g, i) => data[i] === 0 ? 0 : g / 2 / Math.sqrt(data[i]))),
      ];
    },
  },
});

/** Options of {@link variance} and {@link std}. */
export interface VarianceOptions extends ReduceOptions {
  /**
   * Sums are divided by the count less this: 1 (the default) for a sample, 0 for the biased
   * variance.
   */
  readonly correction?: number;
}

/**
 * Variance over axes, from the deviations and not from the squares, so that a large mean loses no
 * digits.
 *
 * @throws {ShapeError} if an axis does not exist, or no more elements than `correction` go into one
 * result.
 */
export function variance(x: Tensor, options: VarianceOptions = {}): Tensor {
  return varianceOp.apply([x], varianceAttrs("variance", x, options))[0];
}

/**
 * Standard deviation over axes, the root of {@link variance}; where it is 0, so is its gradient.
 *
 * @throws {ShapeError} as {@link variance}.
 */
export function std(x: Tensor, options: VarianceOptions = {}): Tensor {
  return stdOp.apply([x], varianceAttrs("std", x, options))[0];
}

function varianceAttrs(name: string, x: Tensor, options: VarianceOptions): VarianceAttrs {
  const attrs = attrsOf(name, x, options, ["axes", "keepDims", "correction"]);
  const { correction = 1 } = options;
  needNumber(name, "the correction", correction);
  const count = reducedCount(x.shape, attrs.reduced);
  if (count <= correction) {
    throw new ShapeError(
      `${name}: ${count} elements of ${show(x.shape)} go into one result, which needs more than ` +
        `the correction of ${correction}`,
    );
  }
  return { ...attrs, correction };
}
