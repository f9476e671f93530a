/** What the functions of `engine/ops/quantile.ts` are tried on. */
import type { RefArray } from "../../engine/op.ts";
import { median, quantile, type QuantileOptions } from "../../engine/ops/quantile.ts";
import { refFrom } from "../../engine/reference.ts";
import { sizeOf } from "../../engine/shape.ts";
import { type ComposedFunctions, type Sample, trial } from "../support/samples.ts";

function refQuantile(x: RefArray, q: number, { axis, keepDims }: QuantileOptions): RefArray {
  const [size, inner] = axis === undefined
    ? [x.data.length, 1]
    : [x.shape[axis], sizeOf(x.shape.slice(axis + 1))];
  const kept = x.shape.map((it, i) => axis === undefined || i === axis ? 1 : it);
  const shape = keepDims ? kept : kept.filter((_, i) => axis !== undefined && i !== axis);
  return refFrom(shape, (i) => {
    const base = Math.floor(i / inner) * size * inner + i % inner;
    const column = Array.from({ length: size }, (_, k) => x.data[base + k * inner]);
    if (column.some(Number.isNaN)) return NaN;
    column.sort((a, b) => a - b);
    const [low, part] = [Math.floor(q * (size - 1)), q * (size - 1) % 1];
    return part === 0 ? column[low] : (1 - part) * column[low] + part * column[low + 1];
  });
}

/** No two alike. */
const distinct = (...shape: number[]): RefArray => refFrom(shape, (i) => (i * 37 % 101 - 50) / 16);

const cases: (Sample & { attrs: QuantileOptions & { q: number } })[] = [
  { label: "a third of all of [2, 5]", inputs: [distinct(2, 5)], attrs: { q: 1 / 3 } },
  { label: "of axis 1", inputs: [distinct(3, 7, 2)], attrs: { q: 0.3, axis: 1 }, quick: true },
  { label: "largest", inputs: [distinct(3, 8)], attrs: { q: 1, axis: 0, keepDims: true } },
  { label: "one", inputs: [distinct(1)], attrs: { q: 0.7 } },
  {
    label: "NaN",
    inputs: [refFrom([2, 3], (i) => [1, NaN, -Infinity, 2, Infinity, 3][i])],
    constant: [0],
    attrs: { q: 0.5, axis: 1 },
  },
];

export const composed: ComposedFunctions = {
  quantile: {
    of: ["topk", "slice", "where", "add", "mul"],
    floats: true,
    trial: trial<QuantileOptions & { q: number }>(
      ([x], { q, ...options }) => quantile(x, q, options),
      ([x], { q, ...options }) => refQuantile(x, q, options),
      // Between two neighbours, whose difference is rounded to f16, and so is its product.
      () => cases.map((it) => ({ ...it, halfTolerance: 2 ** -9 })),
    ),
  },
  median: {
    of: ["topk", "slice", "where", "add", "mul"],
    floats: true,
    trial: trial<QuantileOptions>(
      ([x], options) => median(x, options),
      ([x], options) => refQuantile(x, 0.5, options),
      () => [{ label: "[4, 3]", inputs: [distinct(4, 3)], attrs: { axis: 0 } }],
    ),
  },
};
