/** Inputs that the ops of `engine/ops/sort.ts` are tried on. */
import type { RefArray } from "../../engine/op.ts";
import { refFrom, refZeros } from "../../engine/reference.ts";
import { sort } from "../../engine/ops/sort.ts";
import { type Shape, sizeOf } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import { type ComposedFunctions, type Sample, type Samples, trial } from "../support/samples.ts";

/** Values with many ties. */
const coarse = (shape: Shape, seed: number): RefArray => {
  const { data } = refRandom(shape, seed);
  return refFrom(shape, (i) => Math.round(data[i] * 2) / 2);
};

/** Values without ties, in f16 too. */
const distinct = (shape: Shape): RefArray =>
  refFrom(shape, (i) => (i * 277 % sizeOf(shape)) / 4 - 10);

function argSamples(): Sample[] {
  const last = (rank: number) => ({ axis: rank - 1, keepDims: false });
  return [
    { label: "[1]", inputs: [refRandom([1], 1)], attrs: last(1) },
    { label: "[3, 7]", inputs: [refRandom([3, 7], 2)], attrs: last(2), quick: true },
    { label: "ties", inputs: [coarse([5, 64], 3)], attrs: last(2) },
    { label: "[2, 3, 1037]", inputs: [refRandom([2, 3, 1037], 4)], attrs: last(3) },
    { label: "all equal", inputs: [refZeros([2, 130])], attrs: last(2) },
    {
      label: "u32",
      inputs: [refFrom([3, 5], (i) => (i * 7) % 11)],
      integer: { 0: "u32" },
      attrs: last(2),
    },
    {
      label: "columns",
      inputs: [coarse([67, 5], 5)],
      attrs: { axis: 0, keepDims: false },
      quick: true,
    },
    {
      label: "middle axis, kept",
      inputs: [refRandom([3, 131, 4], 6)],
      attrs: { axis: 1, keepDims: true },
    },
    {
      label: "two blocks, ties",
      inputs: [coarse([4099, 3], 8)],
      attrs: { axis: 0, keepDims: false },
    },
    { label: "last, kept", inputs: [refRandom([2, 9], 7)], attrs: { axis: 1, keepDims: true } },
  ];
}

export const samples: Samples = {
  argmax: argSamples,
  argmin: argSamples,
  argsort: () => [
    { label: "[1]", inputs: [refRandom([1], 1)], attrs: { descending: false } },
    { label: "[3, 7]", inputs: [refRandom([3, 7], 2)], attrs: { descending: true } },
    { label: "ties", inputs: [coarse([5, 64], 3)], attrs: { descending: false } },
    { label: "ties, descending", inputs: [coarse([5, 61], 4)], attrs: { descending: true } },
    { label: "[2, 1037]", inputs: [refRandom([2, 1037], 5)], attrs: { descending: false } },
    { label: "ties, merged", inputs: [coarse([3, 771], 6)], attrs: { descending: true } },
    {
      label: "i32",
      inputs: [refFrom([2, 9], (i) => (i * 7) % 11 - 5)],
      integer: { 0: "i32" },
      attrs: { descending: false },
    },
    {
      label: "extreme",
      inputs: [{ shape: [6], data: Float64Array.of(Infinity, -1e30, 0, -Infinity, -0, 1e-30) }],
      attrs: { descending: false },
    },
  ],
  topk: () => [
    { label: "[1]", inputs: [refRandom([1], 1)], attrs: { k: 1, descending: true } },
    { label: "3 of [3, 7]", inputs: [refRandom([3, 7], 2)], attrs: { k: 3, descending: true } },
    {
      label: "ties",
      inputs: [coarse([5, 64], 3)],
      attrs: { k: 5, descending: true },
      skipDifferences: true,
    },
    {
      label: "all of [2, 130]",
      inputs: [refRandom([2, 130], 4)],
      attrs: { k: 130, descending: false },
    },
    {
      label: "8 of [2, 2, 1037]",
      inputs: [refRandom([2, 2, 1037], 5)],
      attrs: { k: 8, descending: true },
    },
    {
      label: "i32",
      inputs: [refFrom([2, 9], (i) => (i * 7) % 11 - 5)],
      integer: { 0: "i32" },
      attrs: { k: 4, descending: false },
    },
  ],
};

function refSort({ shape, data }: RefArray, { axis, descending }: Along): RefArray {
  const inner = sizeOf(shape.slice(axis + 1));
  const result = refZeros(shape);
  for (let first = 0; first < data.length; first += inner * shape[axis]) {
    for (let i = 0; i < inner; i++) {
      const at = (k: number) => first + k * inner + i;
      const column = Array.from({ length: shape[axis] }, (_, k) => data[at(k)]);
      column.sort((a, b) => descending ? b - a : a - b).forEach((v, k) => result.data[at(k)] = v);
    }
  }
  return result;
}

interface Along {
  readonly axis: number;
  readonly descending: boolean;
}

export const composed: ComposedFunctions = {
  sort: {
    of: ["topk"],
    trial: trial<Along>(
      ([x], attrs) => sort(x, attrs).values,
      ([x], attrs) => refSort(x, attrs),
      () => [
        { label: "[5]", inputs: [distinct([5])], attrs: { axis: 0, descending: true } },
        {
          label: "[37, 3]",
          inputs: [distinct([37, 3])],
          attrs: { axis: 0, descending: false },
        },
        {
          label: "middle",
          inputs: [distinct([2, 70, 3])],
          attrs: { axis: 1, descending: true },
        },
      ],
    ),
  },
};
