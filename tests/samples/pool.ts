/** Inputs that the op and functions of `engine/ops/pool.ts` are tried on. */
import type { RefArray } from "../../engine/op.ts";
import {
  adaptiveAvgPool1d,
  adaptiveAvgPool2d,
  adaptiveMaxPool2d,
  avgPool1d,
  avgPool2d,
  avgPool3d,
  type AvgPoolOptions,
  maxPool2d,
  maxPool3d,
  type MaxPoolOptions,
} from "../../engine/ops/pool.ts";
import { refFrom } from "../../engine/reference.ts";
import { type Shape, show } from "../../engine/shape.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { refRandom } from "../support/random.ts";
import { type ComposedFunctions, type Sample, type Samples, trial } from "../support/samples.ts";

/** [rows, columns] of the last two axes, or [1, columns] of the last one. */
type Pair = readonly [number, number];

/** Values of every window of images [..., height, width], and how many places count in it. */
function pooled(
  x: RefArray,
  counts: Pair,
  places: (row: number, column: number) => readonly Pair[],
  value: (values: readonly number[], row: number, column: number) => number,
  rank = 2,
): RefArray {
  const [height, width] = rank === 2 ? x.shape.slice(-2) : [1, x.shape[x.shape.length - 1]];
  const lead = x.shape.slice(0, x.shape.length - rank);
  return refFrom([...lead, ...counts.slice(2 - rank)], (i) => {
    const [column, row] = [i % counts[1], Math.floor(i / counts[1]) % counts[0]];
    const base = Math.floor(i / counts[0] / counts[1]) * height * width;
    const inside = places(row, column).filter(([r, c]) =>
      r >= 0 && c >= 0 && r < height && c < width
    );
    return value(inside.map(([r, c]) => x.data[base + r * width + c]), row, column);
  });
}

/** Places of a window whose first one is [row, column]. */
const windowAt = ([row, column]: Pair, [rows, columns]: Pair, dilation = 1): Pair[] =>
  Array.from({ length: rows * columns }, (_, i) => [
    row + Math.floor(i / columns) * dilation,
    column + i % columns * dilation,
  ]);

/** The window [row, column] of as many as share `from` places out. */
function share(row: number, column: number, counts: Pair, [height, width]: Shape): Pair[] {
  const bounds = (j: number, count: number, size: number) => [
    Math.floor(j * size / count),
    Math.ceil((j + 1) * size / count),
  ];
  const [top, bottom] = bounds(row, counts[0], height);
  const [left, right] = bounds(column, counts[1], width);
  return windowAt([top, left], [bottom - top, right - left]);
}

const average = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const random = (shape: Shape, seed: number) => [refRandom(shape, seed)];

interface Pooling extends AvgPoolOptions, MaxPoolOptions {
  readonly window: Pair;
  readonly stride: [number, number];
  readonly padding: [number, number];
  readonly counts: Pair;
}

const pooling: (Sample & { attrs: Pooling })[] = [
  {
    label: "2 x 2",
    inputs: random([1, 2, 4, 6], 1),
    attrs: { window: [2, 2], stride: [2, 2], padding: [0, 0], counts: [2, 3] },
  },
  {
    label: "3 x 2, padded, with a window that reaches beyond",
    inputs: random([2, 6, 7], 2),
    attrs: { window: [3, 2], stride: [2, 1], padding: [1, 1], counts: [4, 8], ceilMode: true },
  },
];

const adaptive: (Sample & { attrs: { counts: [number, number] } })[] = [
  { label: "to 1 x 1", inputs: random([2, 3, 5], 3), attrs: { counts: [1, 1] } },
  { label: "to 3 x 4", inputs: random([2, 7, 5], 4), attrs: { counts: [3, 4] } },
  { label: "to more", inputs: random([1, 2, 3], 5), attrs: { counts: [3, 5] } },
];

export const samples: Samples = {
  maxPool: () =>
    ([
      [[1], { axis: 0, windows: 1, window: 1, stride: 1, before: 0, dilation: 1 }],
      [[3, 11, 2], { axis: 1, windows: 6, window: 3, stride: 2, before: 1, dilation: 1 }],
      [[2, 13], { axis: 1, windows: 6, window: 3, stride: 2, before: 2, dilation: 3 }],
      [[2, 9, 4], { axis: 1, windows: 4, window: 0, stride: 1, before: 0, dilation: 1 }],
      [[3, 4], { axis: 0, windows: 7, window: 0, stride: 1, before: 0, dilation: 1 }],
    ] as [number[], object][]).map(([shape, attrs], seed): Sample => ({
      label: `${show(shape)}, ${JSON.stringify(attrs)}`,
      inputs: random(shape, seed),
      attrs,
      quick: seed === 1 || seed === 3,
    })),
};

/** Windows of 2 x 2 x 2, of volumes [2, 4, 3, 5]; the last axis has one place left over. */
const cubes = (
  pool: (x: Tensor, window: number) => Tensor,
  value: (values: readonly number[]) => number,
) =>
  trial<null>(
    ([x]) => pool(x, 2),
    ([x]) =>
      refFrom([2, 2, 1, 2], (i) => {
        const [volume, depth, column] = [i >> 2, i >> 1 & 1, i & 1];
        return value(
          Array.from({ length: 8 }, (_, k) => {
            const [d, r, c] = [2 * depth + (k >> 2), k >> 1 & 1, 2 * column + (k & 1)];
            return x.data[((4 * volume + d) * 3 + r) * 5 + c];
          }),
        );
      }),
    () => [{ label: "[2, 4, 3, 5]", inputs: random([2, 4, 3, 5], 8), attrs: null }],
  );

export const composed: ComposedFunctions = {
  maxPool1d: { of: ["maxPool"] },
  maxPool3d: { of: ["maxPool"], trial: cubes(maxPool3d, (values) => Math.max(...values)) },
  avgPool3d: { of: ["banded"], trial: cubes(avgPool3d, average) },
  maxPool2d: {
    of: ["maxPool"],
    trial: trial<Pooling>(
      ([x], { window, counts: _, ...options }) => maxPool2d(x, window, options),
      ([x], { window, stride, padding, counts }) =>
        pooled(
          x,
          counts,
          (r, c) => windowAt([r * stride[0] - padding[0], c * stride[1] - padding[1]], window),
          (values) => Math.max(...values),
        ),
      () => pooling,
    ),
  },
  avgPool1d: {
    of: ["banded"],
    trial: trial<null>(
      ([x]) => avgPool1d(x, 3, { stride: 2, padding: 1, countIncludePad: false }),
      ([x]) =>
        pooled(
          x,
          [1, 4],
          (_, c) => windowAt([0, 2 * c - 1], [1, 3]),
          (values) => average(values),
          1,
        ),
      () => [{ label: "[2, 3, 7]", inputs: random([2, 3, 7], 6), attrs: null }],
    ),
  },
  avgPool2d: {
    of: ["banded"],
    trial: trial<Pooling>(
      ([x], { window, counts: _, ...options }) => avgPool2d(x, window, options),
      ([x], { window, stride, padding, counts }) =>
        pooled(
          x,
          counts,
          (r, c) => windowAt([r * stride[0] - padding[0], c * stride[1] - padding[1]], window),
          (values, r, c) => {
            // What lies beyond the padding does not count.
            const [height, width] = x.shape.slice(-2);
            const within = (j: number, i: number, size: number) =>
              Math.min(j * stride[i] - padding[i] + window[i], size + padding[i]) -
              (j * stride[i] - padding[i]);
            const count = within(r, 0, height) * within(c, 1, width);
            return values.reduce((a, b) => a + b, 0) / count;
          },
        ),
      () => pooling,
    ),
  },
  adaptiveAvgPool1d: {
    of: ["banded"],
    trial: trial<{ size: number }>(
      ([x], { size }) => adaptiveAvgPool1d(x, size),
      ([x], { size }) =>
        pooled(
          x,
          [1, size],
          (r, c) => share(r, c, [1, size], [1, x.shape[x.shape.length - 1]]),
          (values) => average(values),
          1,
        ),
      () => [{ label: "[2, 3, 7] to 4", inputs: random([2, 3, 7], 7), attrs: { size: 4 } }],
    ),
  },
  adaptiveAvgPool2d: {
    of: ["banded"],
    trial: trial<{ counts: [number, number] }>(
      ([x], { counts }) => adaptiveAvgPool2d(x, counts),
      ([x], { counts }) =>
        pooled(
          x,
          counts,
          (r, c) => share(r, c, counts, x.shape.slice(-2)),
          (values) => average(values),
        ),
      () => adaptive,
    ),
  },
  adaptiveMaxPool1d: { of: ["maxPool"] },
  adaptiveMaxPool2d: {
    of: ["maxPool"],
    trial: trial<{ counts: [number, number] }>(
      ([x], { counts }) => adaptiveMaxPool2d(x, counts),
      ([x], { counts }) =>
        pooled(
          x,
          counts,
          (r, c) => share(r, c, counts, x.shape.slice(-2)),
          (values) => Math.max(...values),
        ),
      () => adaptive,
    ),
  },
};
