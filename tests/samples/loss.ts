/** Inputs that the ops of `engine/ops/loss.ts` are tried on. */
import type { RefArray } from "../../engine/op.ts";
import { refFrom } from "../../engine/reference.ts";
import { type Shape, show } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { Samples } from "../support/samples.ts";

const SHAPES: readonly Shape[] = [
  [1, 1],
  [3, 7],
  [2, 5, 8],
  [9, 32],
  [4, 768],
  [3, 197],
  [2, 2048],
  [2, 1030],
  [300, 64],
];

/** Row lengths on either side of eps: 1e-20 is flat, 1e-10 and 1e10 are not. */
const SCALES = [0, 1e-20, 1e-10, 1, 1e10];

const scaledRows = (seed: number): RefArray =>
  refFrom(
    [5, 8],
    ((r) => (i) => Math.fround(r[i] * SCALES[Math.floor(i / 8)]))(refRandom([5, 8], seed).data),
  );

export const samples: Samples = {
  l2Normalize: () => [
    ...SHAPES.map((shape, seed) => ({
      label: show(shape),
      inputs: [refRandom(shape, seed)],
      attrs: { eps: 1e-12 },
      tolerance: 3e-6,
      skipDifferences: shape[shape.length - 1] > 1000,
    })),
    {
      label: "lengths from 0 to 1e10",
      inputs: [scaledRows(90)],
      attrs: { eps: 1e-12 },
      skipDifferences: true,
    },
  ],
  cosineLoss: () => [
    ...SHAPES.map((shape, seed) => ({
      label: show(shape),
      inputs: [refRandom(shape, seed), refRandom(shape, seed + 30)],
      attrs: { eps: 1e-12 },
      tolerance: 3e-6,
      skipDifferences: shape[shape.length - 1] > 1000,
    })),
    {
      label: "lengths from 0 to 1e10",
      inputs: [scaledRows(91), refRandom([5, 8], 92)],
      attrs: { eps: 1e-12 },
      skipDifferences: true,
    },
  ],
  centredCrossEntropy: () =>
    SHAPES.map((shape, seed) => {
      const width = shape[shape.length - 1];
      return {
        label: show(shape),
        inputs: [
          refRandom(shape, seed, 0.5),
          refRandom(shape, seed + 30, 0.5),
          refRandom([width], seed + 60, 0.1),
          { shape: [1], data: Float64Array.of(Math.fround(0.04 + seed * 0.01)) },
        ],
        constant: [1, 2, 3],
        attrs: { studentTemperature: Math.fround(0.1) },
        // Subtracting the centre rounds to 6e-8 of the logits, which the temperature of 0.04 makes
        // 25 times larger.
        tolerance: 1e-5,
        skipDifferences: width > 1000,
      };
    }),
};
