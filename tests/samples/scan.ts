/** Inputs that the ops of `engine/ops/scan.ts` are tried on. */
import type { RefArray } from "../../engine/op.ts";
import { refFrom } from "../../engine/reference.ts";
import type { Shape } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

/** Along the last axis within a block, along the others across blocks. */
const CASES: readonly (readonly [Shape, number])[] = [
  [[1], 0],
  [[2, 7], 1],
  [[131, 3], 0],
  [[2, 64, 4], 1],
  [[65], 0],
];

const along = (of: (shape: Shape, seed: number) => RefArray, quick = false): Sample[] =>
  CASES.map(([shape, axis], seed) => ({
    label: `[${shape}] along ${axis}`,
    inputs: [of(shape, seed)],
    attrs: { axis },
    // Sums and products of many values round at each step.
    tolerance: 4e-6,
    halfTolerance: 2 ** -9,
    quick: quick && seed === 2,
  }));

const whole = (integer: "u32" | "i32"): Sample => ({
  label: integer,
  inputs: [refFrom([3, 70], (i) => (i * 7) % 5 - (integer === "i32" ? 2 : 0))],
  integer: { 0: integer },
  attrs: { axis: 1 },
  quick: false,
});

/** Values around 1, so that products stay within the range of f16. */
const factors = (shape: Shape, seed: number): RefArray => {
  const { data } = refRandom(shape, seed, 0.1);
  return refFrom(shape, (i) => Math.fround((1 + data[i]) * (i % 5 === 2 ? -1 : 1)));
};

/** Few of them, with a zero and with two. */
const zeros: Sample = {
  label: "zeros",
  inputs: [{ shape: [3, 5], data: Float64Array.of(1, 2, 0, 3, 4, 0, 2, 3, 0, 1, 2, 3, 4, 5, 0) }],
  attrs: { axis: 1 },
  quick: true,
};

/** Without ties, which finite differences do not know. */
const distinct = (shape: Shape, seed: number): RefArray => {
  const { data } = refRandom(shape, seed);
  const order = [...data.keys()].sort((a, b) => data[a] - data[b]);
  const result = refFrom(shape, () => 0);
  order.forEach((at, rank) => result.data[at] = (rank - 10) / 8);
  return result;
};

const ties: Sample = {
  label: "ties",
  inputs: [{ shape: [2, 6], data: Float64Array.of(1, 3, 3, 2, 3, 4, -1, -1, -2, -2, -1, 0) }],
  attrs: { axis: 1 },
  skipDifferences: true,
  quick: true,
};

const extremes = () => [
  ...along(distinct).map((it) => ({ ...it, tolerance: undefined })),
  ties,
  whole("i32"),
  whole("u32"),
];

export const samples: Samples = {
  cumsum: () => [...along(refRandom, true), whole("i32"), whole("u32")],
  cumprod:
    () => [...along(factors), zeros, { ...whole("i32"), inputs: [refFrom([3, 9], () => 2)] }],
  cummax: extremes,
  cummin: extremes,
  prod: () => [...along(factors), zeros],
};
