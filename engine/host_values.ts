/**
 * Values of the host on their way into tensors: which element type holds them, and which shape
 * nested arrays have.
 *
 * @module
 */
import { kindOf } from "./arguments.ts";
import { dtypeOf, type HostArray } from "./dtype.ts";
import { ShapeError } from "./errors.ts";
import type { Shape } from "./shape.ts";

/** Numbers, or arrays of one length of such, to any depth. */
export type NestedNumbers = readonly (number | NestedNumbers)[];

/** Values that become a tensor; see `Device.tensor` for its element type. */
export type HostValues =
  | HostArray
  | Float64Array
  | Uint8Array
  | Uint8ClampedArray
  | Uint16Array
  | Int8Array
  | Int16Array
  | BigUint64Array
  | BigInt64Array
  | NestedNumbers;

/** Other typed arrays by what holds their values. */
const CONVERTED = [
  [Float64Array, Float32Array],
  [Uint8Array, Uint32Array],
  [Uint8ClampedArray, Uint32Array],
  [Uint16Array, Uint32Array],
  [Int8Array, Int32Array],
  [Int16Array, Int32Array],
  [BigUint64Array, Uint32Array],
  [BigInt64Array, Int32Array],
] as const;

/** Flattens nested arrays of numbers into `result`; their shape is `shape` from `depth` on. */
function flatten(
  values: readonly unknown[],
  shape: Shape,
  depth: number,
  result: Float32Array,
  at: number,
): number {
  if (values.length !== shape[depth]) {
    throw new ShapeError(
      `tensor: an array of ${values.length} beside one of ${shape[depth]}: rows of nested arrays ` +
        "must have one length",
    );
  }
  const last = depth === shape.length - 1;
  for (const value of values) {
    if (last ? typeof value !== "number" : !Array.isArray(value)) {
      throw new ShapeError(
        `tensor: ${kindOf(value)} where ${last ? "a number" : "an array"} is needed`,
      );
    }
    if (last) result[at++] = value as number;
    else at = flatten(value as unknown[], shape, depth + 1, result, at);
  }
  return at;
}

/**
 * Values in a typed array that a tensor can hold, with the shape that they have by themselves.
 *
 * @throws {ShapeError} if they are no numbers, not all of one depth and length, or beyond the range
 * of the element type.
 */
export function hostArrayOf(data: unknown): { readonly array: HostArray; readonly shape: Shape } {
  if (dtypeOf(data)) {
    const array = data as HostArray;
    return { array, shape: [array.length] };
  }
  if (Array.isArray(data)) {
    const shape: number[] = [];
    for (let it: unknown = data; Array.isArray(it); it = it[0]) shape.push(it.length);
    const array = new Float32Array(shape.reduce((a, b) => a * b, 1));
    flatten(data, shape, 0, array, 0);
    return { array, shape };
  }
  const into = CONVERTED.find(([from]) => data instanceof from)?.[1];
  if (!into) {
    throw new ShapeError(`tensor: ${kindOf(data)} is given; arrays of numbers are needed`);
  }
  const values = data as Float64Array | BigInt64Array;
  const array = new into(values.length);
  for (let i = 0; i < array.length; i++) array[i] = Number(values[i]);
  const bad = array.findIndex((it, i) =>
    into === Float32Array
      ? !Number.isFinite(it) && Number.isFinite(Number(values[i]))
      : it !== Number(values[i])
  );
  if (bad !== -1) {
    throw new ShapeError(
      `tensor: value ${bad} is ${values[bad]}, which ${dtypeOf(array)} cannot hold`,
    );
  }
  return { array, shape: [array.length] };
}
