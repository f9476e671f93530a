/** Inputs that the ops of `engine/ops/variance.ts` are tried on. */
import { refFrom } from "../../engine/reference.ts";
import { type Shape, show, sizeOf } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

function varianceSamples(): Sample[] {
  const cases: [Shape, number[], boolean, number][] = [
    [[1], [0], false, 0],
    [[3, 7], [1], false, 1],
    [[4, 8], [0], true, 0],
    [[2, 3, 5], [0, 2], true, 1],
    [[2, 3, 4], [0, 1, 2], false, 1],
    [[5, 131, 4], [1], false, 0],
    [[3, 1037], [1], false, 1],
  ];
  const attrsOf = (shape: Shape, axes: number[], keepDims: boolean, correction: number) => ({
    reduced: shape.map((_, axis) => axes.includes(axis)),
    keepDims,
    correction,
  });
  return [
    ...cases.map(([shape, axes, keepDims, correction], seed) => ({
      label: `${show(shape)} over ${axes}, correction ${correction}`,
      inputs: [refRandom(shape, seed)],
      attrs: attrsOf(shape, axes, keepDims, correction),
      tolerance: 4e-6,
      skipDifferences: sizeOf(shape) > 1000,
    })),
    {
      label: "at an offset of 1000",
      inputs: [
        refFrom([3, 64], ((r) => (i) => Math.fround(r[i] + 1000))(refRandom([3, 64], 60).data)),
      ],
      attrs: attrsOf([3, 64], [1], false, 1),
      // The mean is rounded to 6e-5, that is as much as a deviation may be wrong by.
      tolerance: 4e-5,
      skipDifferences: true,
    },
  ];
}

export const samples: Samples = {
  variance: varianceSamples,
  std: () => [
    // One element has no deviation, at whose root differences are none.
    ...varianceSamples().slice(1).map((it, i) => ({ ...it, quick: i === 0 })),
    {
      label: "equal elements",
      inputs: [refFrom([2, 8], (i) => i < 8 ? 3 : i)],
      attrs: { reduced: [false, true], keepDims: false, correction: 1 },
      skipDifferences: true,
      quick: false,
    },
  ],
};
