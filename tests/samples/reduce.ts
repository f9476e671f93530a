/** Inputs that the ops of `engine/ops/reduce.ts` are tried on. */
import { refFrom } from "../../engine/reference.ts";
import { type Shape, sizeOf } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

export function reduceSamples(): Sample[] {
  const cases: [Shape, number[], boolean][] = [
    [[1], [0], false],
    [[3, 7], [1], false],
    [[3, 7], [0], true],
    [[4, 8], [1], true],
    [[4, 8], [0], false],
    [[4, 8], [0, 1], false],
    [[2, 3, 5], [0, 2], true],
    [[2, 3, 4], [0, 2], false],
    [[5, 131, 4], [1], false],
    [[3, 1037], [1], false],
    [[2, 4096], [1], true],
    [[300, 12], [0], false],
    [[2, 70, 9], [1], false],
    [[3, 5, 1300], [0, 2], false],
    [[130, 160], [0], false],
    [[2, 65, 81], [1], false],
    [[1, 20000], [1], false],
  ];
  return cases.map(([shape, axes, keepDims], seed) => ({
    label: `[${shape}] over ${axes}${keepDims ? ", kept" : ""}`,
    inputs: [refRandom(shape, seed)],
    attrs: { reduced: shape.map((_, axis) => axes.includes(axis)), keepDims },
    // A sum of n values near 1 may be near 0 itself: allow the rounding of the partial sums.
    tolerance: 4e-6,
    // Along the innermost axis, and along another one.
    quick: seed === 1 || seed === 8,
    skipDifferences: sizeOf(shape) > 1000,
  }));
}

/** Half of them, for ops of one kernel: neighbours take turns. */
const half = (turn: number): Sample[] =>
  reduceSamples().filter(({ quick }, i) => quick || i % 2 === turn);

/** Integers, whose exact results `tests/engine/reduce_test.ts` asks for. */
const integerSamples = (): Sample[] =>
  (["u32", "i32"] as const).map((type) => ({
    label: `[3,77,5] of ${type} over 1`,
    inputs: [refFrom([3, 77, 5], (i) => (i * 7919) % 20011 - (type === "i32" ? 10007 : 0))],
    integer: { 0: type },
    attrs: { reduced: [false, true, false], keepDims: false },
  }));

function extremumSamples(turn: number): Sample[] {
  return [
    ...half(turn),
    ...integerSamples(),
    {
      label: "ties share",
      inputs: [{ shape: [2, 4], data: Float64Array.of(1, 3, 3, 0, -2, -2, -2, -2) }],
      attrs: { reduced: [false, true], keepDims: false },
      skipDifferences: true,
    },
  ];
}

export const samples: Samples = {
  sum: () => [...reduceSamples(), ...integerSamples()],
  mean: () => half(0),
  max: () => extremumSamples(0),
  min: () => extremumSamples(1),
};
