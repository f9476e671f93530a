/**
 * Views and rearrangements: reshape, permute, slice and expand share memory with their input;
 * concat copies.
 *
 * @module
 */
import { axesOf, needTensorList, needTensors, needWhole, needWholes } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refBroadcast, refFrom, refUnbroadcast, refZeros } from "../reference.ts";
import {
  broadcastStrides,
  denseStrides,
  needShape,
  normalizeAxis,
  sameShape,
  type Shape,
  show,
  sizeOf,
} from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { materialize } from "../launch/copy.ts";
import { elementwise } from "../launch/elementwise.ts";
import { sumTo } from "./reduce.ts";

const reshapeOp = /* @__PURE__ */ defineOp<{ readonly shape: Shape }>({
  name: "reshape",
  dtypes: "same",
  half: true,
  strided: true,
  forward([x], { shape }) {
    const source = x.dense ? x : materialize(x);
    return [source.view(shape)];
  },
  backward({ grads: [dy], shapes: [shape] }) {
    return [(dy!.dense ? dy! : materialize(dy!)).view(shape)];
  },
  reference: {
    forward: ([x], { shape }) => [{ shape, data: x.data }],
    backward: ([x], _, [dy]) => [{ shape: x.shape, data: dy.data }],
  },
});

/**
 * The same values under another shape; a view when `x` is dense.
 *
 * @param shape one size may be -1: it is worked out
 * @throws {ShapeError} if the counts of elements differ.
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  needTensors("reshape", { x });
  needWholes("reshape", "the shape", shape);
  const known = shape.reduce((product, size) => size === -1 ? product : product * size, 1);
  const full = shape.map((size) => size === -1 ? x.size / known : size);
  const open = shape.filter((size) => size === -1).length;
  if (
    open > 1 || sizeOf(full) !== x.size ||
    !full.every((size) => Number.isInteger(size) && size >= 0)
  ) {
    throw new ShapeError(
      `reshape: ${show(x.shape)} has ${x.size} elements and does not fit ${show(shape)}`,
    );
  }
  return reshapeOp.apply([x], { shape: full })[0];
}

const pick = <T>(list: readonly T[], order: readonly number[]): T[] => order.map((i) => list[i]);
const inverse = (order: readonly number[]): number[] => order.map((_, axis) => order.indexOf(axis));

function refPermute(x: RefArray, order: readonly number[]): RefArray {
  const strides = pick(denseStrides(x.shape), order);
  const shape = pick(x.shape, order);
  const steps = denseStrides(shape);
  return refFrom(
    shape,
    (i) =>
      x.data[
        shape.reduce((at, size, axis) => at + Math.floor(i / steps[axis]) % size * strides[axis], 0)
      ],
  );
}

const permuteOp = /* @__PURE__ */ defineOp<{ readonly order: readonly number[] }>({
  name: "permute",
  dtypes: "same",
  half: true,
  strided: true,
  forward: ([x], { order }) => [x.view(pick(x.shape, order), pick(x.strides, order))],
  backward({ grads: [dy] }, { order }) {
    const back = inverse(order);
    return [dy!.view(pick(dy!.shape, back), pick(dy!.strides, back))];
  },
  reference: {
    forward: ([x], { order }) => [refPermute(x, order)],
    backward: (_, { order }, [dy]) => [refPermute(dy, inverse(order))],
  },
});

/**
 * Reorders the axes without a copy: axis i of the result is axis `order[i]` of `x`.
 *
 * @throws {ShapeError} if `order` is no permutation of the axes.
 */
export function permute(x: Tensor, order: readonly number[]): Tensor {
  needTensors("permute", { x });
  needWholes("permute", "the order", order);
  const axes = order.map((axis) => normalizeAxis("permute", axis, x.shape.length));
  if (axes.length !== x.shape.length || new Set(axes).size !== x.shape.length) {
    throw new ShapeError(
      `permute: [${order}] does not order the ${x.shape.length} axes of ${show(x.shape)}`,
    );
  }
  return permuteOp.apply([x], { order: axes })[0];
}

/** Swaps two axes, without a copy; see {@link permute}. */
export function swapaxes(x: Tensor, a: number, b: number): Tensor {
  needTensors("swapaxes", { x });
  const order = [...x.shape.keys()];
  const [i, j] = [a, b].map((axis) => normalizeAxis("swapaxes", axis, order.length));
  [order[i], order[j]] = [j, i];
  return permute(x, order);
}

/**
 * Moves axes to other places, without a copy; the others keep their order.
 *
 * @throws {ShapeError} if there are not as many places as axes.
 */
export function moveaxis(
  x: Tensor,
  from: number | readonly number[],
  to: number | readonly number[],
): Tensor {
  needTensors("moveaxis", { x });
  const rank = x.shape.length;
  const [sources, places] = [from, to].map((axes) => axesOf("moveaxis", axes, rank));
  if (sources.length !== places.length) {
    throw new ShapeError(`moveaxis: the axes [${from}] and the places [${to}] differ in number`);
  }
  const rest = [...x.shape.keys()].filter((axis) => !sources.includes(axis));
  const order = Array.from({ length: rank }, (_, place) => {
    const moved = places.indexOf(place);
    return moved === -1 ? rest.shift()! : sources[moved];
  });
  return permute(x, order);
}

const contiguousOp = /* @__PURE__ */ defineOp<null>({
  name: "contiguous",
  dtypes: "same",
  half: true,
  strided: true,
  forward([x]) {
    const y = materialize(x);
    return [y === x ? x.view(x.shape) : y];
  },
  backward: ({ grads }) => [grads[0]],
  reference: {
    forward: ([x]) => [x],
    backward: (_, __, [dy]) => [dy],
  },
});

/**
 * The same values, dense and aligned, as kernels and reads want them; a view when `x` already is.
 */
export function contiguous(x: Tensor): Tensor {
  return contiguousOp.apply([x], null)[0];
}

/**
 * Swaps the last two axes without a copy.
 *
 * @throws {ShapeError} if there are fewer than two.
 */
export function transpose(x: Tensor): Tensor {
  needTensors("transpose", { x });
  const rank = x.shape.length;
  if (rank < 2) throw new ShapeError(`transpose: ${show(x.shape)} has no two axes to swap`);
  return permute(x, [...x.shape.keys()].slice(0, -2).concat(rank - 1, rank - 2));
}

interface SliceAttributes {
  readonly axis: number;
  readonly start: number;
  readonly length: number;
}

/** Copies between a [outer, size, inner] array and its [outer, length, inner] part. */
function refSlice(
  whole: Float64Array,
  shape: Shape,
  { axis, start, length }: SliceAttributes,
  part?: Float64Array,
): Float64Array {
  const inner = sizeOf(shape.slice(axis + 1));
  const outer = sizeOf(shape.slice(0, axis));
  const result = part ?? new Float64Array(outer * length * inner);
  for (let o = 0; o < outer; o++) {
    const at = (o * shape[axis] + start) * inner;
    if (part) whole.set(part.subarray(o * length * inner, (o + 1) * length * inner), at);
    else result.set(whole.subarray(at, at + length * inner), o * length * inner);
  }
  return result;
}

const sliceView = (x: Tensor, { axis, start, length }: SliceAttributes): Tensor =>
  x.view(
    x.shape.map((size, i) => i === axis ? length : size),
    x.strides,
    x.offset + start * x.strides[axis],
  );

const sliceOp = /* @__PURE__ */ defineOp<SliceAttributes>({
  name: "slice",
  dtypes: "same",
  half: true,
  strided: true,
  forward: ([x], attrs) => [sliceView(x, attrs)],
  backward({ grads: [dy], shapes: [shape] }, attrs) {
    const dx = dy!.device.zeros(shape, dy!.dtype);
    writeInto(dx, attrs, dy!);
    return [dx];
  },
  reference: {
    forward: ([x], attrs) => [{
      shape: x.shape.map((size, i) => i === attrs.axis ? attrs.length : size),
      data: refSlice(x.data, x.shape, attrs),
    }],
    backward([x], attrs, [dy]) {
      const dx = refZeros(x.shape);
      refSlice(dx.data, x.shape, attrs, dy.data);
      return [dx];
    },
  },
});

/**
 * `length` elements of an axis from `start`, without a copy.
 *
 * @throws {ShapeError} if the range leaves the axis or is no whole numbers.
 */
export function slice(x: Tensor, axis: number, start: number, length: number): Tensor {
  needTensors("slice", { x });
  const index = normalizeAxis("slice", axis, x.shape.length);
  needWhole("slice", "the start", start);
  needWhole("slice", "the length", length);
  if (start + length > x.shape[index]) {
    throw new ShapeError(
      `slice: ${start} to ${start + length} leaves axis ${axis} of ${show(x.shape)}`,
    );
  }
  return sliceOp.apply([x], { axis: index, start, length })[0];
}

/** Writes `part` over a slice of `whole`. */
function writeInto(whole: Tensor, attrs: SliceAttributes, part: Tensor): void {
  using target = sliceView(whole, attrs);
  elementwise(target, [part], { expression: "a" });
}

const concatOp = /* @__PURE__ */ defineOp<{ readonly axis: number }>({
  name: "concat",
  dtypes: "same",
  half: true,
  strided: true,
  forward(inputs, { axis }) {
    const shape = inputs[0].shape.map((size, i) =>
      i === axis ? inputs.reduce((sum, t) => sum + t.shape[axis], 0) : size
    );
    const y = inputs[0].device.empty(shape, inputs[0].dtype);
    let start = 0;
    for (const input of inputs) {
      writeInto(y, { axis, start, length: input.shape[axis] }, input);
      start += input.shape[axis];
    }
    return [y];
  },
  backward({ grads: [dy], shapes, needs }, { axis }) {
    let start = 0;
    return shapes.map((shape, i) => {
      const part = needs[i] ? sliceView(dy!, { axis, start, length: shape[axis] }) : undefined;
      start += shape[axis];
      return part;
    });
  },
  reference: {
    forward(inputs, { axis }) {
      const total = inputs.reduce((sum, x) => sum + x.shape[axis], 0);
      const y = refZeros(inputs[0].shape.map((size, i) => i === axis ? total : size));
      let start = 0;
      for (const x of inputs) {
        refSlice(y.data, y.shape, { axis, start, length: x.shape[axis] }, x.data);
        start += x.shape[axis];
      }
      return [y];
    },
    backward(inputs, { axis }, [dy]) {
      let start = 0;
      return inputs.map((x) => {
        const data = refSlice(dy.data, dy.shape, { axis, start, length: x.shape[axis] });
        start += x.shape[axis];
        return { shape: x.shape, data };
      });
    },
  },
});

/**
 * Joins tensors along an axis.
 *
 * @throws {ShapeError} if any other axis differs.
 */
export function concat(tensors: readonly Tensor[], axis: number): Tensor {
  needTensorList("concat", tensors);
  const [first] = tensors;
  const index = normalizeAxis("concat", axis, first.shape.length);
  for (const t of tensors) {
    if (
      t.shape.length !== first.shape.length ||
      t.shape.some((size, i) => i !== index && size !== first.shape[i])
    ) {
      throw new ShapeError(
        `concat: ${show(t.shape)} does not fit ${show(first.shape)} beside axis ${axis}`,
      );
    }
  }
  return concatOp.apply(tensors, { axis: index })[0];
}

const expandOp = /* @__PURE__ */ defineOp<{ readonly shape: Shape }>({
  name: "expand",
  dtypes: "same",
  half: true,
  strided: true,
  forward: ([x], { shape }) => [x.view(shape, broadcastStrides(x.shape, x.strides, shape))],
  backward: ({ grads: [dy], shapes: [shape], into }) => [
    sameShape(dy!.shape, shape) ? dy : sumTo(materialize(dy!), shape, into(0)),
  ],
  reference: {
    forward: ([x], { shape }) => [{ shape, data: refBroadcast(x, shape) }],
    backward: ([x], { shape }, [dy]) => [refUnbroadcast(dy.data, shape, x.shape)],
  },
});

/**
 * Repeats axes of size 1 up to `shape`, without a copy.
 *
 * @throws {ShapeError} if `x` does not broadcast to `shape`.
 */
export function expand(x: Tensor, shape: Shape): Tensor {
  needTensors("expand", { x });
  needShape("expand", shape);
  const added = shape.length - x.shape.length;
  if (added < 0 || x.shape.some((size, i) => size !== 1 && size !== shape[i + added])) {
    throw new ShapeError(`expand: ${show(x.shape)} does not broadcast to ${show(shape)}`);
  }
  return expandOp.apply([x], { shape })[0];
}
