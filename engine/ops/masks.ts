/**
 * Choosing by masks: what `where` of compare.ts is made into, and places of what is not 0.
 *
 * @module
 */
import { needTensors } from "../arguments.ts";
import { denseStrides } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { where } from "./compare.ts";

/**
 * `x` with one value where a mask is not 0; the gradient is 0 there. See {@link where}.
 *
 * @param mask of any element type; broadcasts with `x`
 * @throws {ShapeError} if shapes do not broadcast.
 */
export function maskedFill(x: Tensor, mask: Tensor, value: number): Tensor {
  needTensors("maskedFill", { x, mask });
  return where(mask, value, x);
}

/**
 * Where a tensor is not 0 (NaN is not), found on the host: reads `x`, as how many there are decides
 * a shape. NumPy's `nonzero`.
 *
 * @returns for each axis the coordinates along it, in order of position; `device.tensor` makes
 * indices of them
 */
export async function nonzero(x: Tensor): Promise<Uint32Array[]> {
  needTensors("nonzero", { x });
  const { shape } = x;
  const [values] = await x.device.read([x]);
  const places: number[] = [];
  values.forEach((value, i) => value !== 0 && places.push(i));
  const strides = denseStrides(shape);
  return shape.map((size, axis) =>
    Uint32Array.from(places, (place) => Math.floor(place / strides[axis]) % size)
  );
}
