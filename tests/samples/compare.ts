/** Inputs that the ops of `engine/ops/compare.ts` are tried on. */
import type { RefArray } from "../../engine/op.ts";
import { refFrom } from "../../engine/reference.ts";
import type { Shape } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { ComposedFunctions, Sample, Samples } from "../support/samples.ts";

/** Small integers, so that random operands are often equal. */
const digits = (shape: Shape, seed: number): RefArray => {
  const { data } = refRandom(shape, seed);
  return refFrom(shape, (i) => Math.round(Math.abs(data[i]) * 2));
};

function comparisons(quick = false): Sample[] {
  const pairs: [Shape, Shape][] = [[[1], [1]], [[3, 7], [7]], [[2, 1, 5], [3, 1]], [
    [4, 8],
    [],
  ]];
  return [
    ...pairs.map(([left, right], seed) => ({
      label: `[${left}] with [${right}]`,
      inputs: [digits(left, seed), digits(right, seed + 50)],
      attrs: null,
      quick: quick && seed === 1,
    })),
    {
      label: "u32",
      inputs: [digits([5, 4], 90), digits([5, 1], 91)],
      integer: { 0: "u32", 1: "u32" },
      attrs: null,
      quick: false,
    },
  ];
}

export const samples: Samples = {
  equal: () => comparisons(true),
  notEqual: () => comparisons(),
  less: () => comparisons(),
  lessEqual: () => comparisons(),
  greater: () => comparisons(),
  greaterEqual: () => comparisons(),
  logicalAnd: () => comparisons(),
  logicalOr: () => comparisons(),
  logicalXor: () => comparisons(),
  where() {
    const cases: [Shape, Shape, Shape][] = [
      [[1], [1], [1]],
      [[3, 7], [3, 7], []],
      [[5, 1], [4], [1, 4]],
      [[4, 8], [4, 1], [8]],
      [[2, 1, 3], [2, 5, 1], [5, 3]],
    ];
    return cases.map(([mask, a, b], seed): Sample => ({
      label: `[${mask}] ? [${a}] : [${b}]`,
      inputs: [
        refFrom(mask, ((r) => (i) => +(r[i] > 0))(refRandom(mask, seed).data)),
        refRandom(a, seed + 20),
        refRandom(b, seed + 40),
      ],
      integer: seed === 2 ? { 0: "u32" } : {},
      constant: [0],
      attrs: null,
    }));
  },
  clamp: () => [
    { label: "[1]", inputs: [refRandom([1], 1)], attrs: { low: -0.5, high: 0.5 } },
    { label: "[3, 7]", inputs: [refRandom([3, 7], 2)], attrs: { low: -0.5, high: 1 } },
    { label: "below", inputs: [refRandom([4, 8], 3)], attrs: { low: -Infinity, high: 0.25 } },
    { label: "above", inputs: [refRandom([5, 4], 4)], attrs: { low: 0.25, high: Infinity } },
    {
      label: "at the bounds",
      inputs: [{ shape: [5], data: Float64Array.of(-1, 0, 1, 1e30, -1e30) }],
      attrs: { low: -1, high: 1 },
      skipDifferences: true,
    },
  ],
  powScalar() {
    const positive = (shape: Shape, seed: number): RefArray =>
      refFrom(
        shape,
        ((r) => (i) => Math.fround(Math.abs(r[i]) + 0.3))(refRandom(shape, seed).data),
      );
    return [
      ...[0, 1, 2, 3, 7, 16].map((exponent) => ({
        label: `[3, 7] to ${exponent}`,
        inputs: [refRandom([3, 7], exponent)],
        attrs: { exponent },
        quick: exponent === 3,
      })),
      ...[-2, -0.5, 0.5, 1.5].map((exponent, seed) => ({
        label: `[4, 8] to ${exponent}`,
        inputs: [positive([4, 8], seed)],
        attrs: { exponent },
        quick: exponent === -0.5,
      })),
      ...[0.3, -1.7, 2.5].map((exponent, seed) => ({
        label: `[1, 5] to ${exponent}`,
        inputs: [positive([1, 5], seed + 10)],
        attrs: { exponent: Math.fround(exponent) },
      })),
      ...[19, -17, 20, -16].map((exponent) => ({
        label: `[6] to ${exponent}, both signs`,
        inputs: [{ shape: [6], data: Float64Array.of(-1.5, 1.5, 0.75, -1.25, 1, -1) }],
        attrs: { exponent },
        quick: exponent === -17,
      })),
    ];
  },
};

export const composed: ComposedFunctions = { logicalNot: { of: ["equal"] } };
