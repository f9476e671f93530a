/**
 * Putting tensors together and taking them apart: stack, pad, repeat and split.
 *
 * @module
 */
import padSource from "../../kernels/pad.wgsl" with { type: "text" };
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp, type RefArray, type Sample } from "../op.ts";
import { refRandom, refZeros } from "../reference.ts";
import { denseStrides, normalizeAxis, sameShape, type Shape, show, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { fill, materialize } from "./copy.ts";
import { elementwise, rowChunks, rowsOf } from "./launch.ts";
import { sumTo } from "./reduce.ts";

const padKernel = defineKernel("pad", padSource);
const WORKGROUP = 64;

/** Writes `value` into a part of `target`: `start` elements into each axis, of the shape of `value`. */
function writePart(target: Tensor, start: readonly number[], value: Tensor): void {
  const part = partOf(target, start, value.shape);
  elementwise(part, [value], { expression: "a" });
  part.dispose();
}

const partOf = (whole: Tensor, start: readonly number[], shape: Shape): Tensor =>
  whole.view(
    shape,
    whole.strides,
    start.reduce((at, first, axis) => at + first * whole.strides[axis], whole.offset),
  );

/** Visits a block of `shape` that starts at `start` within an array of shape `whole`: (index in block, in whole). */
function refBlock(
  whole: Shape,
  start: readonly number[],
  shape: Shape,
  visit: (inner: number, outer: number) => void,
): void {
  const steps = denseStrides(shape);
  const strides = denseStrides(whole);
  const { length } = refZeros(shape).data;
  for (let i = 0; i < length; i++) {
    visit(
      i,
      shape.reduce(
        (at, size, axis) => at + (Math.floor(i / steps[axis]) % size + start[axis]) * strides[axis],
        0,
      ),
    );
  }
}

const without = <T>(list: readonly T[], axis: number): T[] => list.filter((_, i) => i !== axis);
const origin = (rank: number, axis: number, start: number): number[] =>
  Array.from({ length: rank }, (_, i) => i === axis ? start : 0);

const stackOp = defineOp<{ readonly axis: number }>({
  name: "stack",
  dtypes: "same",
  half: true,
  strided: true,
  forward(inputs, { axis }) {
    const shape = [...inputs[0].shape];
    shape.splice(axis, 0, inputs.length);
    const y = inputs[0].device.empty(shape, inputs[0].dtype);
    inputs.forEach((x, i) => {
      const slot = y.view(x.shape, without(y.strides, axis), y.offset + i * y.strides[axis]);
      elementwise(slot, [x], { expression: "a" });
      slot.dispose();
    });
    return [y];
  },
  backward: ({ grads: [dy], shapes, needs }, { axis }) =>
    shapes.map((shape, i) =>
      needs[i]
        ? dy!.view(shape, without(dy!.strides, axis), dy!.offset + i * dy!.strides[axis])
        : undefined
    ),
  reference: {
    forward(inputs, { axis }) {
      const shape = [...inputs[0].shape];
      shape.splice(axis, 0, inputs.length);
      const one = shape.map((size, i) => i === axis ? 1 : size);
      const y = refZeros(shape);
      inputs.forEach((x, k) =>
        refBlock(shape, origin(shape.length, axis, k), one, (i, at) => y.data[at] = x.data[i])
      );
      return [y];
    },
    backward(inputs, { axis }, [dy]) {
      const one = dy.shape.map((size, i) => i === axis ? 1 : size);
      return inputs.map((x, k) => {
        const dx = refZeros(x.shape);
        refBlock(
          dy.shape,
          origin(one.length, axis, k),
          one,
          (i, at) => dx.data[i] = dy.data[at],
        );
        return dx;
      });
    },
  },
  samples: () => [
    { label: "one", inputs: [refRandom([3], 1)], attrs: { axis: 0 } },
    { label: "front", inputs: [2, 3, 4].map((s) => refRandom([2, 4], s)), attrs: { axis: 0 } },
    { label: "middle", inputs: [5, 6].map((s) => refRandom([3, 5], s)), attrs: { axis: 1 } },
    { label: "back", inputs: [7, 8, 9].map((s) => refRandom([2, 1, 7], s)), attrs: { axis: 3 } },
  ],
});

/**
 * Joins tensors of one shape along a new axis.
 *
 * @param axis where the new axis stands in the result, 0 to rank; negative from the end
 * @throws {ShapeError} if shapes or dtypes differ, there is no tensor, or the axis does not exist.
 */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  const [first] = tensors;
  if (!first) throw new ShapeError("stack: there is nothing to stack");
  for (const t of tensors) {
    if (!sameShape(t.shape, first.shape) || t.dtype !== first.dtype) {
      throw new ShapeError(
        `stack: ${show(t.shape)} of ${t.dtype} beside ${show(first.shape)} of ${first.dtype}`,
      );
    }
  }
  return stackOp.apply(tensors, { axis: normalizeAxis("stack", axis, first.shape.length + 1) })[0];
}

/** How {@link pad} fills the margins with values of the tensor itself. */
export type PadMode = "reflect" | "replicate" | "circular";

interface PadAttrs {
  /** Elements before and after, per axis. */
  readonly widths: readonly (readonly [number, number])[];
  /** One value, or how values of the tensor are repeated. */
  readonly fill: number | PadMode;
}

const PAD_MODES: Readonly<Record<PadMode, number>> = { reflect: 0, replicate: 1, circular: 2 };

const paddedShape = (shape: Shape, widths: PadAttrs["widths"]): number[] =>
  shape.map((size, axis) => widths[axis][0] + size + widths[axis][1]);
const firsts = (widths: PadAttrs["widths"]): number[] => widths.map(([before]) => before);

/** One axis of a dense tensor: padded, or (`adjoint`) the gradient of the padded one folded back. */
function padAxis(
  x: Tensor,
  axis: number,
  [before, after]: readonly [number, number],
  mode: PadMode,
  adjoint: boolean,
): Tensor {
  const { device, shape, dtype } = x;
  const [size, total] = adjoint
    ? [shape[axis] - before - after, shape[axis]]
    : [shape[axis], before + shape[axis] + after];
  const target = adjoint ? size : total;
  const y = device.empty(shape.map((s, i) => i === axis ? target : s), dtype);
  if (y.size === 0) return y;
  const inner = sizeOf(shape.slice(axis + 1));
  const [from, to] = [shape[axis] * inner, target * inner];
  for (const [first, count] of rowChunks(device, sizeOf(shape.slice(0, axis)), [from, to])) {
    device.run(
      padKernel,
      { WG: WORKGROUP, E: dtype, MODE: PAD_MODES[mode], ADJOINT: adjoint },
      [rowsOf(x, first, count, from), rowsOf(y, first, count, to)],
      { count: count * to, size, before, total, inner },
      Math.ceil(count * to / WORKGROUP),
    );
  }
  return y;
}

/** The padded element that place `j` of an axis repeats; undefined where it is a constant. */
function refPadded(
  j: number,
  size: number,
  before: number,
  fill: PadAttrs["fill"],
): number | undefined {
  const p = j - before;
  if (p >= 0 && p < size) return p;
  if (fill === "replicate") return p < 0 ? 0 : size - 1;
  if (fill === "circular") return (p + size) % size;
  if (fill === "reflect") return p < 0 ? -p : 2 * (size - 1) - p;
  return undefined;
}

/** Visits every element of a padded array: (index in it, index in x or undefined). */
function refPadVisit(
  shape: Shape,
  { widths, fill }: PadAttrs,
  visit: (to: number, from: number | undefined) => void,
): void {
  const whole = paddedShape(shape, widths);
  const [steps, strides] = [denseStrides(whole), denseStrides(shape)];
  for (let to = 0; to < sizeOf(whole); to++) {
    let from: number | undefined = 0;
    for (let axis = 0; axis < shape.length && from !== undefined; axis++) {
      const j = Math.floor(to / steps[axis]) % whole[axis];
      const k = refPadded(j, shape[axis], widths[axis][0], fill);
      from = k === undefined ? undefined : from + k * strides[axis];
    }
    visit(to, from);
  }
}

const padOp = defineOp<PadAttrs>({
  name: "pad",
  dtypes: "same",
  half: true,
  strided: true,
  forward([x], { widths, fill: value }) {
    if (typeof value === "number") {
      const y = x.device.empty(paddedShape(x.shape, widths), x.dtype);
      fill(y, value);
      writePart(y, firsts(widths), x);
      return [y];
    }
    let y = x;
    widths.forEach((sides, axis) => {
      if (sides[0] + sides[1] > 0) y = padAxis(materialize(y), axis, sides, value, false);
    });
    return [y === x ? x.view(x.shape, x.strides) : y];
  },
  backward({ grads: [dy], shapes: [shape] }, { widths, fill: value }) {
    if (typeof value === "number") return [partOf(dy!, firsts(widths), shape)];
    let dx = dy!;
    widths.forEach((sides, axis) => {
      if (sides[0] + sides[1] > 0) dx = padAxis(materialize(dx), axis, sides, value, true);
    });
    return [dx];
  },
  reference: {
    forward([x], attrs) {
      const y = refZeros(paddedShape(x.shape, attrs.widths));
      refPadVisit(
        x.shape,
        attrs,
        (to, from) => y.data[to] = from === undefined ? attrs.fill as number : x.data[from],
      );
      return [y];
    },
    backward([x], attrs, [dy]) {
      const dx = refZeros(x.shape);
      refPadVisit(x.shape, attrs, (to, from) => {
        if (from !== undefined) dx.data[from] += dy.data[to];
      });
      return [dx];
    },
  },
  samples: (): Sample<PadAttrs>[] => [
    { label: "[1]", inputs: [refRandom([1], 1)], attrs: { widths: [[2, 3]], fill: 0.5 } },
    {
      label: "image",
      inputs: [refRandom([2, 3, 5, 4], 2)],
      attrs: { widths: [[0, 0], [0, 0], [1, 1], [2, 2]], fill: 0 },
    },
    {
      label: "one side",
      inputs: [refRandom([3, 8], 3)],
      attrs: { widths: [[0, 2], [4, 0]], fill: -1 },
    },
    {
      label: "none",
      inputs: [refRandom([3, 7], 4)],
      attrs: { widths: [[0, 0], [0, 0]], fill: 9 },
    },
    ...(Object.keys(PAD_MODES) as PadMode[]).flatMap((mode, k): Sample<PadAttrs>[] => [
      {
        label: `${mode}, as far as it goes`,
        inputs: [refRandom([5], k + 10)],
        attrs: { widths: [mode === "circular" ? [5, 5] : [4, 4]], fill: mode },
      },
      {
        label: `${mode}, image`,
        inputs: [refRandom([2, 3, 5, 4], k + 20)],
        attrs: { widths: [[0, 0], [0, 0], [1, 2], [3, 0]], fill: mode },
      },
      {
        label: `${mode}, outer axes`,
        inputs: [refRandom([3, 4, 7], k + 30)],
        attrs: { widths: [[1, 2], [0, 3], [0, 0]], fill: mode },
      },
      {
        label: `${mode}, none`,
        inputs: [refRandom([3, 2], k + 40)],
        attrs: { widths: [[0, 0], [0, 0]], fill: mode },
      },
    ]),
    {
      label: "replicate, beyond the size",
      inputs: [refRandom([1, 65, 2], 50)],
      attrs: { widths: [[3, 4], [70, 0], [0, 9]], fill: "replicate" },
      // 71 gradients meet in one element.
      tolerance: 4e-6,
    },
  ],
});

/**
 * Surrounds a tensor with margins: of one value, or of its own values.
 *
 * - `"reflect"` mirrors at the first and last element, which are not repeated (d c b | a b c d | c b a);
 * - `"replicate"` repeats them (a a a | a b c d | d d d);
 * - `"circular"` goes round (b c d | a b c d | a b c).
 *
 * @param widths elements `[before, after]` for each axis; below the axis' size to reflect, up to it to go round
 * @param filling a number, default 0, or how values are repeated
 * @throws {ShapeError} if there is not one non-negative pair per axis, or a margin is wider than the axis allows.
 */
export function pad(
  x: Tensor,
  widths: readonly (readonly [number, number])[],
  filling: number | PadMode = 0,
): Tensor {
  if (
    widths.length !== x.shape.length || widths.flat().some((w) => !Number.isInteger(w) || w < 0)
  ) {
    throw new ShapeError(
      `pad: ${show(x.shape)} needs ${x.shape.length} pairs of whole numbers from 0, not ${
        JSON.stringify(widths)
      }`,
    );
  }
  widths.forEach((sides, axis) => {
    const size = x.shape[axis];
    const most = typeof filling === "number" || filling === "replicate" && size > 0
      ? Infinity
      : Math.max(0, filling === "reflect" ? size - 1 : size);
    if (Math.max(...sides) > most) {
      throw new ShapeError(
        `pad: ${filling} margins of axis ${axis} of ${show(x.shape)} can be ${most} wide, not ${
          Math.max(...sides)
        }`,
      );
    }
  });
  return padOp.apply([x], { widths, fill: filling })[0];
}

interface RepeatAttrs {
  /** How often each axis is repeated; as many as the result has axes. */
  readonly counts: readonly number[];
}

/** The result as [count, size] pairs of axes, and the input with every count 1. */
function repeatShapes(shape: Shape, counts: readonly number[]) {
  const full = [...new Array<number>(counts.length - shape.length).fill(1), ...shape];
  return {
    result: full.map((size, axis) => size * counts[axis]),
    pairs: full.flatMap((size, axis) => [counts[axis], size]),
    ones: full.flatMap((size) => [1, size]),
  };
}

function refRepeatVisit(
  shape: Shape,
  counts: readonly number[],
  visit: (from: number, to: number) => void,
): void {
  const { result } = repeatShapes(shape, counts);
  const steps = denseStrides(result);
  const strides = denseStrides(shape);
  const lead = counts.length - shape.length;
  refZeros(result).data.forEach((_, to) => {
    const from = shape.reduce(
      (at, size, axis) =>
        at +
        Math.floor(to / steps[axis + lead]) % result[axis + lead] % size * strides[axis],
      0,
    );
    visit(from, to);
  });
}

const repeatOp = defineOp<RepeatAttrs>({
  name: "repeat",
  dtypes: "same",
  half: true,
  forward([x], { counts }) {
    const { result, pairs, ones } = repeatShapes(x.shape, counts);
    const y = x.device.empty(result, x.dtype);
    const [to, from] = [y.view(pairs), x.view(ones)];
    elementwise(to, [from], { expression: "a" });
    return [y];
  },
  backward({ grads: [dy], shapes: [shape] }, { counts }) {
    const { pairs, ones } = repeatShapes(shape, counts);
    return [sumTo(dy!.view(pairs), ones).view(shape)];
  },
  reference: {
    forward([x], { counts }) {
      const y = refZeros(repeatShapes(x.shape, counts).result);
      refRepeatVisit(x.shape, counts, (from, to) => y.data[to] = x.data[from]);
      return [y];
    },
    backward([x], { counts }, [dy]) {
      const dx = refZeros(x.shape);
      refRepeatVisit(x.shape, counts, (from, to) => dx.data[from] += dy.data[to]);
      return [dx];
    },
  },
  samples: () => [
    { label: "[1] 5 times", inputs: [refRandom([1], 1)], attrs: { counts: [5] } },
    { label: "[3, 7] by [2, 3]", inputs: [refRandom([3, 7], 2)], attrs: { counts: [2, 3] } },
    { label: "[4] by [3, 1]", inputs: [refRandom([4], 3)], attrs: { counts: [3, 1] } },
    { label: "[2, 1, 8]", inputs: [refRandom([2, 1, 8], 4)], attrs: { counts: [1, 5, 2] } },
  ],
});

/**
 * Repeats a tensor whole along its axes, as NumPy's `tile`: axis i of the result has `counts[i] * size` elements.
 *
 * @param counts one per axis; more of them give new axes in front
 * @throws {ShapeError} if there are fewer counts than axes or one is not a whole number from 1.
 */
export function repeat(x: Tensor, counts: readonly number[]): Tensor {
  if (counts.length < x.shape.length || counts.some((c) => !Number.isInteger(c) || c < 1)) {
    throw new ShapeError(`repeat: ${show(x.shape)} cannot be repeated [${counts}] times`);
  }
  return repeatOp.apply([x], { counts })[0];
}

interface SplitAttrs {
  readonly axis: number;
  readonly sizes: readonly number[];
}

/** `[first, size]` of each part. */
function parts(sizes: readonly number[]): [number, number][] {
  let start = 0;
  return sizes.map((size) => {
    start += size;
    return [start - size, size];
  });
}

const partShape = (shape: Shape, axis: number, size: number): number[] =>
  shape.map((s, i) => i === axis ? size : s);

const splitOp = defineOp<SplitAttrs>({
  name: "split",
  dtypes: "same",
  half: true,
  strided: true,
  forward: ([x], { axis, sizes }) =>
    parts(sizes).map(([start, size]) =>
      partOf(x, origin(x.shape.length, axis, start), partShape(x.shape, axis, size))
    ),
  backward({ grads, shapes: [shape] }, { axis, sizes }) {
    const { device, dtype } = grads.find((g) => g !== undefined)!;
    const dx = grads.every((g) => g) ? device.empty(shape, dtype) : device.zeros(shape, dtype);
    parts(sizes).forEach(([start], i) => {
      if (grads[i]) writePart(dx, origin(shape.length, axis, start), grads[i]);
    });
    return [dx];
  },
  reference: {
    forward: ([x], { axis, sizes }) =>
      parts(sizes).map(([start, size]): RefArray => {
        const y = refZeros(partShape(x.shape, axis, size));
        refBlock(
          x.shape,
          origin(x.shape.length, axis, start),
          y.shape,
          (i, at) => y.data[i] = x.data[at],
        );
        return y;
      }),
    backward([x], { axis, sizes }, grads) {
      const dx = refZeros(x.shape);
      parts(sizes).forEach(([start], k) =>
        refBlock(
          x.shape,
          origin(x.shape.length, axis, start),
          grads[k].shape,
          (i, at) => dx.data[at] = grads[k].data[i],
        )
      );
      return [dx];
    },
  },
  samples: (): Sample<SplitAttrs>[] => [
    { label: "columns", inputs: [refRandom([3, 8], 1)], attrs: { axis: 1, sizes: [4, 1, 3] } },
    { label: "rows", inputs: [refRandom([5, 4], 2)], attrs: { axis: 0, sizes: [2, 3] } },
    { label: "one part", inputs: [refRandom([2, 7, 3], 3)], attrs: { axis: 1, sizes: [7] } },
  ],
});

/**
 * Cuts a tensor along an axis, without a copy.
 *
 * @param sizes sizes of the parts, or one number: that many equal parts
 * @throws {ShapeError} if the sizes do not add up to the axis, or it does not divide evenly.
 */
export function split(x: Tensor, axis: number, sizes: readonly number[] | number): Tensor[] {
  const index = normalizeAxis("split", axis, x.shape.length);
  const list = typeof sizes === "number"
    ? new Array<number>(sizes).fill(x.shape[index] / sizes)
    : sizes;
  if (
    list.some((size) => !Number.isInteger(size) || size < 0) ||
    list.reduce((a, b) => a + b, 0) !== x.shape[index]
  ) {
    throw new ShapeError(
      `split: axis ${axis} of ${show(x.shape)} does not divide into ${
        typeof sizes === "number" ? `${sizes} parts` : `[${sizes}]`
      }`,
    );
  }
  return [...splitOp.apply([x], { axis: index, sizes: list })];
}
