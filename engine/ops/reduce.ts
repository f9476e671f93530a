/**
 * Sums, means and maxima along axes, and the unrecorded reductions that other ops need.
 *
 * @module
 */
import { needOptions, needTensors, needWholes } from "../arguments.ts";
import source from "../../kernels/reduce.wgsl" with { type: "text" };
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refBroadcast, refFrom, refUnbroadcast } from "../reference.ts";
import { denseStrides, normalizeAxis, type Shape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { materialize } from "../launch/copy.ts";
import { elementwise, extremum } from "../launch/elementwise.ts";
import { rowsAndWidth } from "../launch/rows.ts";
import { foldOf } from "../launch/scan.ts";
import { choosePass, type Extent, passRounds, reducedRuns, runPass } from "../launch/reduce.ts";

const kernel = /* @__PURE__ */ defineKernel("reduce", source, {
  rounds: /* @__PURE__ */ passRounds(8),
});

/** What a reduction computes. */
export type Reduction = "sum" | "max" | "min" | "sumOfSquares";

/**
 * Reduces the middle axis of a dense tensor seen as `[outer, reduce, inner]` into `out` (`outer *
 * inner` elements). Records nothing. `out` and `input` may differ in dtype; partial results are
 * f32. The order of additions depends only on the sizes and the kind of adapter, so results repeat
 * bit for bit.
 *
 * @param scale factor of the result, such as 1 / n
 */
export function reduceInto(
  out: Tensor,
  input: Tensor,
  extent: Extent,
  kind: Reduction = "sum",
  scale = 1,
): void {
  const { outer, inner } = extent;
  if (out.size === 0) return;
  if (extent.reduce === 0) {
    elementwise(out, [], { expression: "T(params.alpha)", alpha: NEUTRAL[kind] });
    return;
  }
  let current = input;
  let reduce = extent.reduce;
  let step = kind;
  let factor = scale;
  for (;;) {
    const pass = choosePass(current, out, { outer, reduce, inner }, current === input);
    if (!pass) {
      bySlices(out, current, { outer, reduce, inner }, step, factor);
      break;
    }
    const { parts } = pass;
    const last = parts === 1;
    const target = last ? out : input.device.empty([outer, parts, inner]);
    // A minimum is minus the maximum of the negatives.
    if (step === "min") factor = -factor;
    runPass(kernel, current, [target], pass, last ? factor : 1, {
      EO: target.dtype,
      HALF_OUT: target.dtype === "f16",
      MAX: step === "max" || step === "min",
      SQUARE: step === "sumOfSquares",
      NEGATE: step === "min",
    });
    if (current !== input) current.dispose();
    if (last) return;
    current = target;
    reduce = parts;
    step = step === "min" ? "max" : step === "sumOfSquares" ? "sum" : step;
  }
  if (current !== input) current.dispose();
}

const NEUTRAL = { sum: 0, sumOfSquares: 0, max: -Infinity, min: Infinity } as const;

/** One addition per slice, for slices so large that no two fit a binding. */
function bySlices(
  out: Tensor,
  input: Tensor,
  extent: Extent,
  kind: Reduction,
  scale: number,
): void {
  const { outer, reduce, inner } = extent;
  const value = kind === "sumOfSquares" ? "a * a" : "a";
  const step = kind === "max" || kind === "min" ? extremum(kind, "o", "a") : `o + ${value}`;
  const total = out.device.empty([inner]);
  for (let o = 0; o < outer; o++) {
    for (let k = 0; k < reduce; k++) {
      const slice = input.view([inner], [1], input.offset + (o * reduce + k) * inner);
      elementwise(total, [slice], { expression: k === 0 ? value : step, readOut: k > 0 });
      slice.dispose();
    }
    const target = out.view([inner], [1], out.offset + o * inner);
    elementwise(target, [total], { expression: "a * params.alpha", alpha: scale });
    target.dispose();
  }
  total.dispose();
}

/** Reduces each row of a dense tensor, in f32; the last axis has size 1 then. Unrecorded. */
export function reduceRows(x: Tensor, kind: Reduction = "sum", scale = 1): Tensor {
  const { rows, width } = rowsAndWidth(x.shape);
  const result = x.device.empty([...x.shape.slice(0, -1), 1]);
  reduceInto(result, x, { outer: rows, reduce: width, inner: 1 }, kind, scale);
  return result;
}

/** Reduces the axes for which `reduced` holds; the result has size 1 there. Unrecorded. */
export function reduceAxes(
  input: Tensor,
  reduced: readonly boolean[],
  kind: Reduction,
  scale: number,
  out?: Tensor,
): Tensor {
  const { device } = input;
  const kept = input.shape.map((size, axis) => reduced[axis] ? 1 : size);
  const target = out ?? device.empty(kept);
  let current = materialize(input);
  let step = kind;
  const runs = reducedRuns(input.shape, reduced);
  runs.forEach((extent, i) => {
    const last = i === runs.length - 1;
    const next = last ? target : device.empty([extent.outer, 1, extent.inner]);
    reduceInto(next, current, extent, step, last ? scale : 1);
    if (current !== input) current.dispose();
    current = next;
    if (step === "sumOfSquares") step = "sum";
  });
  return target;
}

/**
 * Undoes broadcasting: sums `tensor` over the axes that were added or stretched to reach its shape
 * from `shape`. Records nothing.
 *
 * @param out dense tensor of `shape` that receives the sums, in another buffer; default: a new one
 * @returns a dense tensor of `shape`
 * @throws {ShapeError} if `shape` does not broadcast to that of `tensor`.
 */
export function sumTo(tensor: Tensor, shape: Shape, out?: Tensor): Tensor {
  const added = tensor.shape.length - shape.length;
  const reduced = tensor.shape.map((size, axis) => {
    const kept = axis < added ? 1 : shape[axis - added];
    if (added < 0 || kept !== size && kept !== 1) {
      throw new ShapeError(`sumTo: ${show(shape)} does not broadcast to ${show(tensor.shape)}`);
    }
    return axis < added || kept !== size;
  });
  const target = out ?? tensor.device.empty(shape, tensor.dtype);
  reduceAxes(tensor, reduced, "sum", 1, target);
  return target;
}

/**
 * Sum of the squares of all elements as a new dense tensor `[1]`, as for gradient norms. Records
 * nothing.
 */
export function sumOfSquares(tensor: Tensor, out: Tensor = tensor.device.empty([1])): Tensor {
  const dense = materialize(tensor);
  reduceInto(out, dense, { outer: 1, reduce: dense.size, inner: 1 }, "sumOfSquares");
  if (dense !== tensor) dense.dispose();
  return out;
}

/** Checked {@link ReduceOptions} of one operand. */
export interface ReduceAttrs {
  /** Which axes are reduced. */
  readonly reduced: readonly boolean[];
  /** Whether they stay with size 1. */
  readonly keepDims: boolean;
}

/** Shape of a reduction's result. */
export const squeeze = (shape: Shape, { reduced, keepDims }: ReduceAttrs): number[] =>
  keepDims
    ? shape.map((size, axis) => reduced[axis] ? 1 : size)
    : shape.filter((_, axis) => !reduced[axis]);

/** The shape with 1 for every reduced axis. */
export const keptShape = (shape: Shape, reduced: readonly boolean[]): number[] =>
  shape.map((size, axis) => reduced[axis] ? 1 : size);

/** How many elements go into one of the result. */
export const reducedCount = (shape: Shape, reduced: readonly boolean[]): number =>
  shape.reduce((count, size, axis) => reduced[axis] ? count * size : count, 1);

/**
 * Reads a dense reduced tensor as if it still had the shape of the input: strides of 0 along
 * reduced axes.
 */
export function expand(small: Tensor, shape: Shape, reduced: readonly boolean[]): Tensor {
  const strides = denseStrides(keptShape(shape, reduced));
  return small.view(shape, strides.map((stride, axis) => reduced[axis] ? 0 : stride));
}

/** A reduction of integers in their own type. */
function reduceIntegers(x: Tensor, attrs: ReduceAttrs, kind: "sum" | "most" | "least"): Tensor {
  const { device, dtype, shape } = x;
  const to = squeeze(shape, attrs);
  if (x.size === 0) return device.zeros(to, dtype);
  let current = x;
  for (const extent of reducedRuns(shape, attrs.reduced)) {
    const next = foldOf(current, extent, kind);
    if (current !== x) current.dispose();
    current = next;
  }
  return current.view(to);
}

function defineSum(name: "sum" | "mean") {
  const factor = (shape: Shape, reduced: readonly boolean[]): number =>
    name === "sum" ? 1 : 1 / reducedCount(shape, reduced);
  return defineOp<ReduceAttrs>({
    name,
    dtypes: name === "sum" ? "same" : undefined,
    half: true,
    forward([x], attrs) {
      if (!isFloat(x.dtype)) return [reduceIntegers(x, attrs, "sum")];
      const y = x.device.empty(squeeze(x.shape, attrs), x.dtype);
      reduceAxes(x, attrs.reduced, "sum", factor(x.shape, attrs.reduced), y);
      return [y];
    },
    backward({ grads: [dy], shapes: [shape] }, { reduced }) {
      let scaled = dy!;
      const alpha = factor(shape, reduced);
      if (alpha !== 1) {
        scaled = dy!.device.empty(dy!.shape, dy!.dtype);
        elementwise(scaled, [dy!], { expression: "a * params.alpha", alpha });
      }
      return [expand(scaled, shape, reduced)];
    },
    reference: {
      forward([x], attrs) {
        const alpha = factor(x.shape, attrs.reduced);
        const { data } = refUnbroadcast(x.data, x.shape, keptShape(x.shape, attrs.reduced));
        return [{ shape: squeeze(x.shape, attrs), data: data.map((v) => v * alpha) }];
      },
      backward([x], { reduced }, [dy]) {
        const alpha = factor(x.shape, reduced);
        const spread = refBroadcast({ shape: keptShape(x.shape, reduced), data: dy.data }, x.shape);
        return [{ shape: x.shape, data: spread.map((v) => v * alpha) }];
      },
    },
  });
}

const sumOp = /* @__PURE__ */ defineSum("sum");
const meanOp = /* @__PURE__ */ defineSum("mean");

function defineExtremum(name: "max" | "min") {
  const sign = name === "max" ? 1 : -1;
  /** Extremum of each slice, with reduced axes of size 1. */
  const reference = (x: RefArray, reduced: readonly boolean[]): RefArray => {
    const shape = keptShape(x.shape, reduced);
    const at = refBroadcast(refFrom(shape, (i) => i), x.shape);
    const result = refFrom(shape, () => -sign * Infinity);
    x.data.forEach((value, i) => result.data[at[i]] = Math[name](result.data[at[i]], value));
    return result;
  };
  return defineOp<ReduceAttrs>({
    name,
    dtypes: "same",
    half: true,
    forward([x], attrs, save) {
      if (!isFloat(x.dtype)) return [reduceIntegers(x, attrs, name === "max" ? "most" : "least")];
      const y = x.device.empty(squeeze(x.shape, attrs), x.dtype);
      reduceAxes(x, attrs.reduced, name, 1, y);
      save(x);
      save(y);
      return [y];
    },
    backward({ grads: [dy], saved: [x, y] }, { reduced }) {
      const { device } = x;
      const mask = device.empty(x.shape, x.dtype);
      elementwise(mask, [x, expand(y, x.shape, reduced)], {
        expression: "select(T(0.0), T(1.0), a == b)",
      });
      // Counts and shares in f32: f16 counts to 2048 only.
      const kept = keptShape(x.shape, reduced);
      const count = sumTo(mask, kept, device.empty(kept));
      const share = device.empty(dy!.shape);
      elementwise(share, [dy!, count.view(dy!.shape)], { expression: "a / b" });
      const dx = device.empty(x.shape, x.dtype);
      elementwise(dx, [mask, expand(share, x.shape, reduced)], { expression: "a * b" });
      return [dx];
    },
    reference: {
      forward: (
        [x],
        attrs,
      ) => [{ shape: squeeze(x.shape, attrs), data: reference(x, attrs.reduced).data }],
      backward([x], { reduced }, [dy]) {
        const small = keptShape(x.shape, reduced);
        const top = refBroadcast(reference(x, reduced), x.shape);
        const mask = x.data.map((value, i) => +(value === top[i]));
        const count = refBroadcast(refUnbroadcast(mask, x.shape, small), x.shape);
        const spread = refBroadcast({ shape: small, data: dy.data }, x.shape);
        return [refFrom(x.shape, (i) => mask[i] * spread[i] / count[i])];
      },
    },
  });
}

const maxOp = /* @__PURE__ */ defineExtremum("max");
const minOp = /* @__PURE__ */ defineExtremum("min");

/** Which axes a reduction runs over. */
export interface ReduceOptions {
  /** Axes to reduce, negative ones from the end; default all. */
  readonly axes?: readonly number[];
  /** Keep reduced axes with size 1; default false. */
  readonly keepDims?: boolean;
}

/**
 * Checks options of a reduction.
 *
 * @param integers whether they will do as well as floats
 * @throws {ShapeError} if an axis does not exist or is named twice, or the operand will not do.
 */
export function attrsOf(
  name: string,
  x: Tensor,
  options: ReduceOptions,
  names: readonly string[] = ["axes", "keepDims"],
  integers = false,
): ReduceAttrs {
  needTensors(name, { x });
  needOptions(name, options, names);
  const { axes, keepDims = false } = options;
  if (axes !== undefined) needWholes(name, "axes", axes);
  const rank = x.shape.length;
  if (!integers && !isFloat(x.dtype)) {
    throw new ShapeError(`${name}: the operand is ${x.dtype}, it must be f32 or f16`);
  }
  const chosen = new Set(axes?.map((axis) => normalizeAxis(name, axis, rank)));
  if (axes && chosen.size < axes.length) {
    throw new ShapeError(`${name}: axes ${show(axes)} of ${show(x.shape)} name one axis twice`);
  }
  return { reduced: x.shape.map((_, axis) => axes === undefined || chosen.has(axis)), keepDims };
}

/**
 * {@link attrsOf} of a reduction that has no result for no elements.
 *
 * @throws {ShapeError} for no elements as well.
 */
function attrsOfSome(
  name: string,
  x: Tensor,
  options: ReduceOptions,
  integers: boolean,
): ReduceAttrs {
  const attrs = attrsOf(name, x, options, undefined, integers);
  if (reducedCount(x.shape, attrs.reduced) === 0) {
    throw new ShapeError(`${name}: ${show(x.shape)} has no elements along the axes to reduce`);
  }
  return attrs;
}

/**
 * Sum over axes; 0 of nothing. Integers wrap around.
 *
 * @returns the shape of `x` without the axes, or with size 1 in their place (`keepDims`)
 * @throws {ShapeError} if an axis does not exist or is named twice.
 */
export function sum(x: Tensor, options: ReduceOptions = {}): Tensor {
  return sumOp.apply([x], attrsOf("sum", x, options, undefined, true))[0];
}

/**
 * Arithmetic mean over axes.
 *
 * @returns the shape of `x` without the axes, or with size 1 in their place (`keepDims`)
 * @throws {ShapeError} if an axis does not exist or is named twice, or there are no elements along
 * the axes.
 */
export function mean(x: Tensor, options: ReduceOptions = {}): Tensor {
  return meanOp.apply([x], attrsOfSome("mean", x, options, false))[0];
}

/**
 * Maximum over axes, NaN where one element is. Elements that share the maximum share its gradient
 * equally; where it is NaN, so are the gradients.
 *
 * @throws {ShapeError} if an axis does not exist or is named twice, or there are no elements along
 * the axes.
 */
export function max(x: Tensor, options: ReduceOptions = {}): Tensor {
  return maxOp.apply([x], attrsOfSome("max", x, options, true))[0];
}

/**
 * Minimum over axes, NaN where one element is. Elements that share the minimum share its gradient
 * equally; where it is NaN, so are the gradients.
 *
 * @throws {ShapeError} if an axis does not exist or is named twice, or there are no elements along
 * the axes.
 */
export function min(x: Tensor, options: ReduceOptions = {}): Tensor {
  return minOp.apply([x], attrsOfSome("min", x, options, true))[0];
}
