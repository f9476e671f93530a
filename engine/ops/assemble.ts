/**
 * Putting tensors together and taking them apart: stack, repeat and split.
 *
 * @module
 */
import { needTensorList, needTensors, needWhole, needWholes } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refZeros } from "../reference.ts";
import { denseStrides, normalizeAxis, sameShape, type Shape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { partOf, writePart } from "../launch/copy.ts";
import { elementwise } from "../launch/elementwise.ts";
import { sumTo } from "./reduce.ts";

/**
 * Visits a block of `shape` that starts at `start` within an array of shape `whole`: (index in
 * block, in whole).
 */
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

const stackOp = /* @__PURE__ */ defineOp<{ readonly axis: number }>({
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
});

/**
 * Joins tensors of one shape along a new axis.
 *
 * @param axis where the new axis stands in the result, 0 to rank; negative from the end
 * @throws {ShapeError} if shapes or dtypes differ, there is no tensor, or the axis does not exist.
 */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  needTensorList("stack", tensors);
  const [first] = tensors;
  for (const t of tensors) {
    if (!sameShape(t.shape, first.shape) || t.dtype !== first.dtype) {
      throw new ShapeError(
        `stack: ${show(t.shape)} of ${t.dtype} beside ${show(first.shape)} of ${first.dtype}`,
      );
    }
  }
  return stackOp.apply(tensors, { axis: normalizeAxis("stack", axis, first.shape.length + 1) })[0];
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
  const added = counts.length - shape.length;
  refZeros(result).data.forEach((_, to) => {
    const from = shape.reduce(
      (at, size, axis) =>
        at +
        Math.floor(to / steps[axis + added]) % result[axis + added] % size * strides[axis],
      0,
    );
    visit(from, to);
  });
}

const repeatOp = /* @__PURE__ */ defineOp<RepeatAttrs>({
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
});

/**
 * Repeats a tensor whole along its axes, as NumPy's `tile`: axis i of the result has `counts[i] *
 * size` elements.
 *
 * @param counts one per axis; more of them give new axes in front
 * @throws {ShapeError} if there are fewer counts than axes or one is not a whole number from 0.
 */
export function repeat(x: Tensor, counts: readonly number[]): Tensor {
  needTensors("repeat", { x });
  needWholes("repeat", "the counts", counts);
  if (counts.length < x.shape.length || counts.some((c) => c < 0)) {
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

const splitOp = /* @__PURE__ */ defineOp<SplitAttrs>({
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
});

/**
 * Cuts a tensor along an axis, without a copy.
 *
 * @param sizes sizes of the parts, or one number: that many equal parts
 * @throws {ShapeError} if the sizes do not add up to the axis, or it does not divide evenly.
 */
export function split(x: Tensor, axis: number, sizes: readonly number[] | number): Tensor[] {
  needTensors("split", { x });
  const index = normalizeAxis("split", axis, x.shape.length);
  if (typeof sizes === "number") needWhole("split", "the count of parts", sizes, 1);
  else needWholes("split", "the sizes", sizes);
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
