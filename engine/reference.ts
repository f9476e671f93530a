/**
 * Small helpers for float64 references.
 *
 * @module
 */
import type { RefArray } from "./op.ts";
import { denseStrides, type Shape, sizeOf } from "./shape.ts";

/** A reference array of zeros. */
export function refZeros(shape: Shape): RefArray {
  return { shape, data: new Float64Array(sizeOf(shape)) };
}

/** A reference array with `f(flat index)` as values. */
export function refFrom(shape: Shape, f: (index: number) => number): RefArray {
  return { shape, data: Float64Array.from({ length: sizeOf(shape) }, (_, i) => f(i)) };
}

/** Rows of a reference array: its parts along the last axis. */
export function refRows({ shape, data }: RefArray): Float64Array[] {
  const width = shape[shape.length - 1];
  return Array.from(
    { length: data.length / width },
    (_, r) => data.subarray(r * width, (r + 1) * width),
  );
}

/**
 * Maps what stands along an axis, which may get another length, slice by slice.
 *
 * @param beside an array of the same shape beside the axis, whose slices `f` gets as well
 */
export function refAlong(
  { shape, data }: RefArray,
  axis: number,
  f: (slice: number[], beside: number[]) => readonly number[],
  beside?: RefArray,
): RefArray {
  const inner = sizeOf(shape.slice(axis + 1));
  const outer = sizeOf(shape.slice(0, axis));
  const sliceOf = (of: RefArray, o: number, i: number) =>
    Array.from({ length: of.shape[axis] }, (_, k) => of.data[(o * of.shape[axis] + k) * inner + i]);
  const slices = Array.from({ length: outer * inner }, (_, n) => {
    const [o, i] = [Math.floor(n / inner), n % inner];
    return f(sliceOf({ shape, data }, o, i), beside ? sliceOf(beside, o, i) : []);
  });
  const width = slices[0]?.length ?? shape[axis];
  return refFrom(
    shape.map((size, i) => i === axis ? width : size),
    (at) => {
      const [o, k, i] = [
        Math.floor(at / inner / width),
        Math.floor(at / inner) % width,
        at % inner,
      ];
      return slices[o * inner + i][k];
    },
  );
}

/** Scalar product. */
export function refDot(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, value, k) => sum + value * b[k], 0);
}

/** Euclidean length. */
export function refNorm(a: Float64Array): number {
  return Math.sqrt(refDot(a, a));
}

/** Reads `array` as if broadcast to `target`. */
export function refBroadcast(array: RefArray, target: Shape): Float64Array {
  const strides = denseStrides(array.shape);
  const added = target.length - array.shape.length;
  const result = new Float64Array(sizeOf(target));
  const index = new Array<number>(target.length).fill(0);
  for (let i = 0; i < result.length; i++) {
    let at = 0;
    for (let axis = added; axis < target.length; axis++) {
      if (array.shape[axis - added] !== 1) at += index[axis] * strides[axis - added];
    }
    result[i] = array.data[at];
    for (let axis = target.length - 1; axis >= 0 && ++index[axis] === target[axis]; axis--) {
      index[axis] = 0;
    }
  }
  return result;
}

/**
 * Sums `data` of shape `from` over the axes that broadcasting added or stretched, down to shape
 * `to`.
 */
export function refUnbroadcast(data: Float64Array, from: Shape, to: Shape): RefArray {
  const result = refZeros(to);
  const strides = denseStrides(to);
  const added = from.length - to.length;
  const index = new Array<number>(from.length).fill(0);
  for (let i = 0; i < data.length; i++) {
    let at = 0;
    for (let axis = added; axis < from.length; axis++) {
      if (to[axis - added] !== 1) at += index[axis] * strides[axis - added];
    }
    result.data[at] += data[i];
    for (let axis = from.length - 1; axis >= 0 && ++index[axis] === from[axis]; axis--) {
      index[axis] = 0;
    }
  }
  return result;
}

/** e^(z^2) erfc(z) for z >= 2.5, by continued fraction to float64 rounding. */
function scaledTail(z: number): number {
  let fraction = 0;
  for (let k = 60; k > 0; k--) fraction = k / 2 / (z + fraction);
  return 1 / (Math.sqrt(Math.PI) * (z + fraction));
}

/** Error function. */
export function refErf(x: number): number {
  const z = Math.abs(x);
  if (z >= 2.5) return Math.sign(x) * (1 - Math.exp(-z * z) * scaledTail(z));
  let term = z;
  let sum = z;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
    term *= -z * z / n;
    sum += term / (2 * n + 1);
  }
  return Math.sign(x) * 2 / Math.sqrt(Math.PI) * sum;
}

/** 1 - erf(x), with all digits for large x. */
export function refErfc(x: number): number {
  return x < 2.5 ? 1 - refErf(x) : Math.exp(-x * x) * scaledTail(x);
}

/** Standard normal distribution function. */
export function refPhi(x: number): number {
  return 0.5 * refErfc(-x / Math.SQRT2);
}
