/**
 * Unrecorded copies and sums that the tape and the ops themselves need.
 *
 * @module
 */
import { needFitting, needTensors } from "../arguments.ts";
import { type DType, isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { broadcastShapes, sameShape, type Shape, show } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { elementwise } from "./elementwise.ts";

/** Whether kernels can bind the tensor as it is: dense and at an aligned offset. */
export function isBindable(tensor: Tensor): boolean {
  return tensor.dense && tensor.offset * tensor.itemSize % tensor.device.offsetAlignment === 0;
}

/**
 * Checks operands that kernels bind as they are.
 *
 * @param otherwise what takes other tensors
 * @throws {ShapeError} if one is not f32, dense and aligned.
 */
export function needBindable(
  op: string,
  operands: Readonly<Record<string, Tensor>>,
  otherwise = "",
): void {
  for (const [name, tensor] of Object.entries(operands)) {
    const { shape, dtype, strides, offset, device: { offsetAlignment } } = tensor;
    if (dtype === "f32" && isBindable(tensor)) continue;
    throw new ShapeError(
      `${op}: ${name} ${show(shape)} of ${dtype} with strides ${show(strides)} from element ` +
        `${offset} must be f32, dense and aligned to ${offsetAlignment} bytes${otherwise}`,
    );
  }
}

/** The tensor itself when kernels can bind it, else a dense copy. Records nothing. */
export function materialize(tensor: Tensor): Tensor {
  return isBindable(tensor) ? tensor : denseCopy(tensor);
}

/** A dense copy. Records nothing. */
export function denseCopy(tensor: Tensor): Tensor {
  const copy = tensor.device.empty(tensor.shape, tensor.dtype);
  elementwise(copy, [tensor], { expression: "a" });
  return copy;
}

/** A dense copy in another dtype; NaN becomes the integer 0. Records nothing. */
export function converted(tensor: Tensor, dtype: DType): Tensor {
  const copy = tensor.device.empty(tensor.shape, dtype);
  // What an integer of NaN is would be the adapter's choice.
  const nan = isFloat(tensor.dtype) && !isFloat(dtype);
  elementwise(copy, [tensor], {
    expression: nan ? "TV(select(a, T(0.0), is_nan_$V(a)))" : "TV(a)",
  });
  return copy;
}

/** `target = value`, or `target += value` with `add`. `target` is dense; `value` has its shape. */
export function accumulate(target: Tensor, value: Tensor, add: boolean): void {
  elementwise(target, [value], add ? { expression: "o + a", readOut: true } : { expression: "a" });
}

/**
 * Overwrites a tensor with one value.
 *
 * @throws {ShapeError} if elements of integers cannot hold it.
 */
export function fill(target: Tensor, value: number): void {
  needTensors("fill", { target });
  needFitting("fill", value, target.dtype);
  if (isFloat(target.dtype)) {
    elementwise(target, [], { expression: "T(S(params.alpha))", alpha: value });
    return;
  }
  // Parameters are f32, which holds half of the bits of an integer at a time.
  const high = Math.floor(value / 65536);
  elementwise(target, [], {
    expression: "T(S(params.alpha) * S(65536) + S(params.beta))",
    alpha: high,
    beta: value - high * 65536,
  });
}

/** `a + b` as a new dense tensor. */
export function sumOf(a: Tensor, b: Tensor): Tensor {
  const shape = sameShape(a.shape, b.shape) ? a.shape : broadcastShapes("add", a.shape, b.shape);
  const sum = a.device.empty(shape, a.dtype);
  elementwise(sum, [a, b], { expression: "a + b" });
  return sum;
}

/** Where elements of a tensor lie, in elements; strides may be negative. */
export interface Window {
  readonly shape: Shape;
  readonly strides: readonly number[];
  readonly offset: number;
}

/** Another tensor over the same memory, for `elementwise` alone: strides are unchecked. */
export function windowOf({ device, storage, dtype }: Tensor, window: Window): Tensor {
  return new Tensor(device, storage, window.shape, dtype, window.strides, window.offset);
}

/** A view of the block of `shape` that starts `start` elements into each axis of `whole`. */
export function partOf(whole: Tensor, start: readonly number[], shape: Shape): Tensor {
  const first = start.reduce((at, from, axis) => at + from * whole.strides[axis], whole.offset);
  return whole.view(shape, whole.strides, first);
}

/**
 * Writes `value` into a part of `target`: `start` elements into each axis, of the shape of `value`.
 */
export function writePart(target: Tensor, start: readonly number[], value: Tensor): void {
  const part = partOf(target, start, value.shape);
  elementwise(part, [value], { expression: "a" });
  part.dispose();
}
