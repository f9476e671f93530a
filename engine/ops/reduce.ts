/**
 * Sums, means and maxima along axes, and the unrecorded reductions that other ops need.
 *
 * @module
 */
import source from "../../kernels/reduce.wgsl" with { type: "text" };
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineOp, type RefArray, type Sample } from "../op.ts";
import { refBroadcast, refFrom, refRandom, refUnbroadcast } from "../reference.ts";
import { denseStrides, normalizeAxis, type Shape, show, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { materialize } from "./copy.ts";
import { elementwise } from "./launch.ts";
import { defineRowKernel } from "./rows.ts";

const kernel = defineRowKernel("reduce", source);
const WORKGROUP = 64;
/** Blocks that keep an adapter busy, and invocations side by side that do. */
const ENOUGH = { blocks: 512, invocations: 16384 };
/** Groups of eight invocations that keep a software adapter busy. */
const ENOUGH_OCTETS = 64;
/** Loads along a row that one invocation may take. */
const COLUMNS = [24, 16, 12, 8, 6, 4, 3, 2] as const;

/** What a reduction computes. */
export type Reduction = "sum" | "max" | "min" | "sumOfSquares";

/** A dense tensor seen as `[outer, reduce, inner]`. */
interface Extent {
  readonly outer: number;
  readonly reduce: number;
  readonly inner: number;
}

/** How one pass cuts the reduced axis. */
interface Pass extends Extent {
  readonly kind: Reduction;
  readonly scale: number;
  /** Elements per load. */
  readonly width: number;
  /** Loads lie along the reduced axis. */
  readonly row: boolean;
  /** Invocations that share a block of a row. */
  readonly lanes: number;
  /** Loads side by side of one invocation, where they do not lie along the reduced axis. */
  readonly columns: number;
  /** Units (elements, or vec4 of a row) per block. */
  readonly block: number;
}

/** Most elements of a tensor that a window may hold. */
const windowLimit = ({ device, itemSize }: Tensor): number =>
  (device.bindingLimit - device.offsetAlignment) / itemSize;

function runPass(input: Tensor, output: Tensor, pass: Pass): void {
  const { device } = input;
  const { row, width, lanes, columns, block, inner } = pass;
  const unit = row ? width : inner;
  const units = pass.reduce / (row ? width : 1);
  const groups = row ? 1 : inner / width / columns;
  const window = (tensor: Tensor, start: number, count: number) => {
    const before = (tensor.offset + start) % (device.offsetAlignment / tensor.itemSize);
    return { operand: { tensor, start: start - before, count: count + before }, before };
  };
  /** Outer indices `o0 ..`, blocks `b0 ..`; part of the blocks only for a single outer index. */
  const launch = (o0: number, outer: number, b0: number, blocks: number): void => {
    const all = Math.ceil(units / block);
    const reduce = blocks === all ? units : Math.min(blocks * block, units - b0 * block);
    const read = outer * reduce * unit;
    const written = outer * blocks * inner;
    const fits = read <= windowLimit(input) && written <= windowLimit(output);
    if (!fits && (outer > 1 || blocks > 1)) {
      if (outer > 1) {
        const half = outer >> 1;
        launch(o0, half, 0, all);
        launch(o0 + half, outer - half, 0, all);
      } else {
        const half = blocks >> 1;
        launch(o0, 1, b0, half);
        launch(o0, 1, b0 + half, blocks - half);
      }
      return;
    }
    const from = window(input, (o0 * units + b0 * block) * unit, read);
    const to = window(output, (o0 * all + b0) * inner, written);
    const count = outer * blocks * groups;
    device.run(
      kernel,
      {
        WG: WORKGROUP,
        W: width,
        E: input.dtype,
        HALF: input.dtype === "f16",
        EO: output.dtype,
        HALF_OUT: output.dtype === "f16",
        LANES: lanes,
        SUBGROUPS: device.info.subgroupSize >= lanes,
        ROW: row,
        COLS: columns,
        UNROLL: Math.ceil(8 / columns),
        MAX: pass.kind === "max" || pass.kind === "min",
        SQUARE: pass.kind === "sumOfSquares",
        NEGATE: pass.kind === "min",
      },
      [from.operand, to.operand],
      {
        count,
        parts: blocks,
        groups,
        reduce,
        block,
        offset_in: from.before / width,
        offset_out: to.before / (row ? 1 : width),
        scale: pass.scale,
      },
      Math.ceil(count * (row ? lanes : 1) / WORKGROUP),
    );
  };
  launch(0, pass.outer, 0, Math.ceil(units / block));
}

/** Chooses the cut of the next pass; undefined when not even two slices fit one binding. */
function plan(input: Tensor, out: Tensor, extent: Extent, kind: Reduction): Pass | undefined {
  const { software } = input.device.info;
  const { outer, reduce, inner } = extent;
  const limit = windowLimit(input);
  const row = inner === 1;
  const along = row ? reduce : inner;
  const aligned = input.offset % 4 === 0 && (row || out.offset % 4 === 0);
  const width = along % 4 === 0 && aligned ? 4 : 1;
  const base = { ...extent, kind, scale: 1, width, row, columns: 1 };
  if (row) {
    const units = reduce / width;
    const most = Math.floor(limit / width);
    if (units <= Math.min(32, most)) return { ...base, lanes: 1, block: units };
    const lanes = software ? 8 : 32;
    const wanted = Math.ceil(units * outer / ENOUGH.blocks / (8 * lanes)) * 8 * lanes;
    return { ...base, lanes, block: Math.min(wanted, 2048, most, units) };
  }
  const most = Math.floor(limit / inner);
  const invocations = outer * inner / width;
  if (!software) {
    if (reduce <= most && (reduce <= 64 || invocations >= ENOUGH.invocations && reduce <= 1024)) {
      return { ...base, lanes: 1, block: reduce };
    }
    const wanted = Math.max(64, Math.ceil(reduce * invocations / ENOUGH.invocations / 64) * 64);
    const block = Math.min(wanted, 256, most);
    return block < 2 ? undefined : { ...base, lanes: 1, block };
  }
  // One pass over few rows needs enough columns to share out; else blocks of rows are shared out.
  const once = reduce <= Math.min(64, most);
  const columns =
    COLUMNS.find((c) => inner / width % (8 * c) === 0 && (!once || invocations / (8 * c) >= 16)) ??
      1;
  const octets = Math.ceil(invocations / columns / 8);
  const wanted = Math.ceil(reduce * octets / ENOUGH_OCTETS);
  const block = once ? reduce : Math.min(Math.max(16, wanted), 256, most, reduce);
  return block < Math.min(2, reduce) ? undefined : { ...base, lanes: 1, columns, block };
}

/**
 * Reduces the middle axis of a dense tensor seen as `[outer, reduce, inner]` into `out` (`outer * inner` elements).
 * Records nothing. `out` and `input` may differ in dtype; partial results are f32. The order of additions depends only
 * on the sizes and the kind of adapter, so results repeat bit for bit.
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
    const pass = plan(current, out, { outer, reduce, inner }, step);
    if (!pass) {
      bySlices(out, current, { outer, reduce, inner }, step, factor);
      break;
    }
    const parts = Math.ceil(reduce / (pass.row ? pass.width : 1) / pass.block);
    const last = parts === 1;
    const target = last ? out : input.device.empty([outer, parts, inner]);
    // A minimum is minus the maximum of the negatives.
    if (step === "min") factor = -factor;
    runPass(current, target, { ...pass, scale: last ? factor : 1 });
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
  const step = kind === "max" || kind === "min" ? `${kind}(o, a)` : `o + ${value}`;
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
  // Runs of reduced axes, innermost first; axes of size 1 join any run.
  const runs: [number, number][] = [];
  for (let axis = input.shape.length - 1; axis >= 0; axis--) {
    if (!reduced[axis] || input.shape[axis] === 1) continue;
    let first = axis;
    while (first > 0 && (reduced[first - 1] || input.shape[first - 1] === 1)) first--;
    runs.push([first, axis + 1]);
    axis = first;
  }
  if (runs.length === 0) runs.push([0, 0]);
  const shape = [...input.shape];
  runs.forEach(([first, end], i) => {
    const extent = {
      outer: sizeOf(shape.slice(0, first)),
      reduce: sizeOf(shape.slice(first, end)),
      inner: sizeOf(shape.slice(end)),
    };
    shape.fill(1, first, end);
    const last = i === runs.length - 1;
    const next = last ? target : device.empty(shape);
    reduceInto(next, current, extent, step, last ? scale : 1);
    if (current !== input) current.dispose();
    current = next;
    if (step === "sumOfSquares") step = "sum";
  });
  return target;
}

/**
 * Undoes broadcasting: sums `tensor` over the axes that were added or stretched to reach its shape from `shape`.
 * Records nothing.
 *
 * @param out dense tensor of `shape` that receives the sums, in another buffer; default: a new one
 * @returns a dense tensor of `shape`
 * @throws {ShapeError} if `shape` does not broadcast to that of `tensor`.
 */
export function sumTo(tensor: Tensor, shape: Shape, out?: Tensor): Tensor {
  const lead = tensor.shape.length - shape.length;
  const reduced = tensor.shape.map((size, axis) => {
    const wanted = axis < lead ? 1 : shape[axis - lead];
    if (lead < 0 || wanted !== size && wanted !== 1) {
      throw new ShapeError(`sumTo: ${show(shape)} does not broadcast to ${show(tensor.shape)}`);
    }
    return axis < lead || wanted !== size;
  });
  const target = out ?? tensor.device.empty(shape, tensor.dtype);
  reduceAxes(tensor, reduced, "sum", 1, target);
  return target;
}

/**
 * Sum of the squares of all elements as a new dense tensor `[1]`, as for gradient norms. Records nothing.
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

/** Reads a dense reduced tensor as if it still had the shape of the input: strides of 0 along reduced axes. */
export function expand(small: Tensor, shape: Shape, reduced: readonly boolean[]): Tensor {
  const strides = denseStrides(keptShape(shape, reduced));
  return small.view(shape, strides.map((stride, axis) => reduced[axis] ? 0 : stride));
}

function reduceSamples(): Sample<ReduceAttrs>[] {
  const cases: [Shape, number[], boolean][] = [
    [[1], [0], false],
    [[3, 7], [1], false],
    [[3, 7], [0], true],
    [[4, 8], [1], true],
    [[4, 8], [0], false],
    [[4, 8], [0, 1], false],
    [[2, 3, 5], [0, 2], true],
    [[2, 3, 4], [0, 2], false],
    [[5, 131, 4], [1], false],
    [[3, 1037], [1], false],
    [[2, 4096], [1], true],
    [[300, 12], [0], false],
    [[2, 70, 9], [1], false],
    [[3, 5, 1300], [0, 2], false],
    [[130, 160], [0], false],
    [[2, 65, 81], [1], false],
    [[1, 20000], [1], false],
  ];
  return cases.map(([shape, axes, keepDims], seed) => ({
    label: `[${shape}] over ${axes}${keepDims ? ", kept" : ""}`,
    inputs: [refRandom(shape, seed)],
    attrs: { reduced: shape.map((_, axis) => axes.includes(axis)), keepDims },
    // A sum of n values near 1 may be near 0 itself: allow the rounding of the partial sums.
    tolerance: 4e-6,
    skipDifferences: sizeOf(shape) > 1000,
  }));
}

function defineSum(name: "sum" | "mean") {
  const factor = (shape: Shape, reduced: readonly boolean[]): number =>
    name === "sum" ? 1 : 1 / reducedCount(shape, reduced);
  return defineOp<ReduceAttrs>({
    name,
    half: true,
    forward([x], attrs) {
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
    samples: reduceSamples,
  });
}

const sumOp = defineSum("sum");
const meanOp = defineSum("mean");

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
    half: true,
    forward([x], attrs, save) {
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
    samples: () => [
      ...reduceSamples(),
      {
        label: "ties share",
        inputs: [{ shape: [2, 4], data: Float64Array.of(1, 3, 3, 0, -2, -2, -2, -2) }],
        attrs: { reduced: [false, true], keepDims: false },
        skipDifferences: true,
      },
    ],
  });
}

const maxOp = defineExtremum("max");
const minOp = defineExtremum("min");

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
 * @throws {ShapeError} if an axis does not exist or the operand is no float.
 */
export function attrsOf(
  name: string,
  x: Tensor,
  { axes, keepDims = false }: ReduceOptions,
): ReduceAttrs {
  const rank = x.shape.length;
  if (!isFloat(x.dtype)) {
    throw new ShapeError(`${name}: the operand is ${x.dtype}, it must be f32 or f16`);
  }
  const wanted = new Set(axes?.map((axis) => normalizeAxis(name, axis, rank)));
  return { reduced: x.shape.map((_, axis) => axes === undefined || wanted.has(axis)), keepDims };
}

/**
 * Sum over axes.
 *
 * @throws {ShapeError} if an axis does not exist.
 */
export function sum(x: Tensor, options: ReduceOptions = {}): Tensor {
  return sumOp.apply([x], attrsOf("sum", x, options))[0];
}

/**
 * Arithmetic mean over axes.
 *
 * @throws {ShapeError} if an axis does not exist.
 */
export function mean(x: Tensor, options: ReduceOptions = {}): Tensor {
  return meanOp.apply([x], attrsOf("mean", x, options))[0];
}

/**
 * Maximum over axes. Elements that share the maximum share its gradient equally. NaN may be passed over.
 *
 * @throws {ShapeError} if an axis does not exist.
 */
export function max(x: Tensor, options: ReduceOptions = {}): Tensor {
  return maxOp.apply([x], attrsOf("max", x, options))[0];
}

/**
 * Minimum over axes. Elements that share the minimum share its gradient equally. NaN may be passed over.
 *
 * @throws {ShapeError} if an axis does not exist.
 */
export function min(x: Tensor, options: ReduceOptions = {}): Tensor {
  return minOp.apply([x], attrsOf("min", x, options))[0];
}
