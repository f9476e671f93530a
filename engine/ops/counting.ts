/**
 * Counts of elements: of what is not 0 on the device; of values, on the host, as how many there are
 * decides a shape.
 *
 * @module
 */
import { kindOf, needNumber, needOptions, needTensors, needWhole } from "../arguments.ts";
import { type HostArray, isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { composite } from "../scope.ts";
import type { Tensor } from "../tensor.ts";
import { cast } from "./cast.ts";
import { notEqual } from "./compare.ts";
import { type ReduceOptions, sum } from "./reduce.ts";

/**
 * How many elements along axes are not 0 (NaN is not); exact up to 2^24.
 *
 * @param x of any type
 * @returns u32, the shape of `x` without the axes, or with size 1 in their place (`keepDims`)
 * @throws {ShapeError} if an axis does not exist or is named twice.
 */
export function countNonzero(x: Tensor, options: ReduceOptions = {}): Tensor {
  needTensors("countNonzero", { x });
  needOptions("countNonzero", options, ["axes", "keepDims"]);
  return composite(() => cast(sum(cast(notEqual(x, 0), "f32"), options), "u32"));
}

/**
 * How often each whole number from 0 on stands in a tensor; reads it.
 *
 * @param x u32 or i32 of any shape, none below 0
 * @param options `least`: numbers that are counted even if they do not stand there, default 0
 * @throws {ShapeError} if `x` is of floats, or holds a number below 0.
 */
export async function bincount(
  x: Tensor,
  options: { readonly least?: number } = {},
): Promise<Uint32Array<ArrayBuffer>> {
  needTensors("bincount", { x });
  needOptions("bincount", options, ["least"]);
  const { least = 0 } = options;
  needWhole("bincount", "the least count", least);
  if (isFloat(x.dtype)) throw new ShapeError(`bincount: x is ${kindOf(x)}, not of integers`);
  const [values] = await x.device.read([x]);
  let [low, high] = [0, least - 1];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  if (low < 0) throw new ShapeError(`bincount: ${low} in ${kindOf(x)} is below 0`);
  const counts = new Uint32Array(high + 1);
  for (const value of values) counts[value]++;
  return counts;
}

/** Options of {@link histogram}. */
export interface HistogramOptions {
  /** How many equal parts; default 10. */
  readonly bins?: number;
  /** From where to where, half around if that is one value; default smallest and largest value. */
  readonly range?: readonly [low: number, high: number];
}

/** What {@link histogram} counts. */
export interface Histogram {
  /** Elements in each part. */
  readonly counts: Uint32Array<ArrayBuffer>;
  /** Ends of the parts, one more than there are, in float64. */
  readonly edges: Float64Array<ArrayBuffer>;
}

/**
 * How many elements lie in each of equal parts of a range, as NumPy's `histogram`: a part begins
 * with its lower end, the last holds its upper one as well, and what lies outside does not count.
 * Reads `x`.
 *
 * @throws {ShapeError} if there is no part, the range ends below its start, or, where none is
 * given, an element is not finite.
 */
export async function histogram(x: Tensor, options: HistogramOptions = {}): Promise<Histogram> {
  needTensors("histogram", { x });
  needOptions("histogram", options, ["bins", "range"]);
  const { bins = 10, range } = options;
  needWhole("histogram", "the count of bins", bins, 1, 2 ** 31);
  if (range !== undefined) {
    const [low, high] = Array.isArray(range) ? range as number[] : [];
    needNumber("histogram", "the low end of the range", low);
    needNumber("histogram", "the high end of the range", high, low);
  }
  const [values] = await x.device.read([x]);
  const [low, high] = range ?? extent(values);
  if (!Number.isFinite(low) || !Number.isFinite(high)) {
    throw new ShapeError(`histogram: ${kindOf(x)} holds ${low} to ${high}; give a range`);
  }
  const [from, to] = low === high ? [low - 0.5, high + 0.5] : [low, high];
  const edges = Float64Array.from(
    { length: bins + 1 },
    (_, i) => i === bins ? to : from + (to - from) * i / bins,
  );
  const counts = new Uint32Array(bins);
  for (const value of values) {
    if (!(value >= from && value <= to)) continue;
    let bin = Math.min(bins - 1, Math.floor((value - from) / (to - from) * bins));
    // The quotient is rounded; the edges decide.
    if (value < edges[bin]) bin--;
    else if (bin < bins - 1 && value >= edges[bin + 1]) bin++;
    counts[bin]++;
  }
  return { counts, edges };
}

/** Smallest and largest value; 0 to 1 of nothing, NaN where one is. */
function extent(values: HostArray): [number, number] {
  if (values.length === 0) return [0, 1];
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (Number.isNaN(value)) return [NaN, NaN];
    [low, high] = [Math.min(low, value), Math.max(high, value)];
  }
  return [low, high];
}

/** Different values, and where they stand. */
export interface Unique {
  /** In ascending order, of the type of the tensor; all NaN are one, the last. */
  readonly values: HostArray;
  /** How often each stands there. */
  readonly counts: Uint32Array<ArrayBuffer>;
  /** For each element of the flattened tensor the index of its value. */
  readonly inverse: Uint32Array<ArrayBuffer>;
  /** Where each value stands first in the flattened tensor. */
  readonly first: Uint32Array<ArrayBuffer>;
}

/** The different values of a tensor, as NumPy's `unique`; reads it. 0 and -0 are one. */
export async function unique(x: Tensor): Promise<Unique> {
  needTensors("unique", { x });
  const [values] = await x.device.read([x]);
  const places = new Map<number, number>();
  const [counts, first]: number[][] = [[], []];
  const found = Uint32Array.from(values, (value, i) => {
    // Keys of a map tell NaN from nothing else, and -0 not from 0.
    let place = places.get(value);
    if (place === undefined) {
      place = places.size;
      places.set(value, place);
      counts.push(0);
      first.push(i);
    }
    counts[place]++;
    return place;
  });
  const kept = [...places.keys()];
  const order = Uint32Array.from(kept.keys()).sort((a, b) => {
    const [x, y] = [kept[a], kept[b]];
    return Number.isNaN(x) ? 1 : Number.isNaN(y) ? -1 : x - y;
  });
  const rank = new Uint32Array(order.length);
  order.forEach((place, i) => rank[place] = i);
  const sorted = values.slice(0, order.length);
  order.forEach((place, i) => sorted[i] = kept[place]);
  return {
    values: sorted,
    counts: order.map((place) => counts[place]),
    inverse: found.map((place) => rank[place]),
    first: order.map((place) => first[place]),
  };
}
