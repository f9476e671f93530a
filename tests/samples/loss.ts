/** Inputs that the ops of `engine/ops/loss.ts` are tried on. */
import type { RefArray } from "../../engine/op.ts";
import { refSoftmaxRow } from "../../engine/ops/softmax.ts";
import { refFrom, refZeros } from "../../engine/reference.ts";
import { type Shape, show } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { ComposedFunctions, Sample, Samples } from "../support/samples.ts";
import { binary } from "./elementwise.ts";

/** Rows of all widths. */
export const SHAPES: readonly Shape[] = [
  [1, 1],
  [3, 7],
  [2, 5, 8],
  [9, 32],
  [4, 768],
  [3, 197],
  [2, 2048],
  [2, 1030],
  [300, 64],
  // Composed of reductions.
  [2, 65543],
];

/** Row lengths on either side of eps: 1e-20 is flat, 1e-10 and 1e10 are not. */
const SCALES = [0, 1e-20, 1e-10, 1, 1e10];

/** Rows of all {@link SCALES}. */
export const scaledRows = (seed: number): RefArray =>
  refFrom(
    [5, 8],
    ((r) => (i) => Math.fround(r[i] * SCALES[Math.floor(i / 8)]))(refRandom([5, 8], seed).data),
  );

/** Logits of as many classes. */
const CLASSES: readonly Shape[] = [[1, 1], [3, 7], [2, 5, 8], [4, 768], [2, 1030], [300, 64], [
  2,
  65543,
]];

export const samples: Samples = {
  bceWithLogits: binary,
  crossEntropy: () => [
    ...CLASSES.map((shape, seed): Sample => ({
      label: show(shape),
      inputs: [
        refRandom(shape, seed),
        refFrom(shape.slice(0, -1), (i) => (i * 7919 + seed) % shape[shape.length - 1]),
      ],
      integer: { 1: "u32" },
      attrs: null,
      tolerance: 4e-6,
      skipDifferences: shape[shape.length - 1] > 500,
    })),
    {
      label: "large logits",
      inputs: [
        { shape: [2, 3], data: Float64Array.of(1e4, 0, -1e4, 80, -80, 81) },
        { shape: [2], data: Float64Array.of(1, 0) },
      ],
      integer: { 1: "u32" },
      attrs: null,
      skipDifferences: true,
    },
  ],
  crossEntropyOfDistributions: () =>
    CLASSES.map((shape, seed): Sample => {
      const width = shape[shape.length - 1];
      const target = refZeros(shape);
      const logits = refRandom(shape, seed + 40).data;
      for (let at = 0; at < logits.length; at += width) {
        const { probability } = refSoftmaxRow(logits.subarray(at, at + width), 1);
        target.data.set(probability.map(Math.fround), at);
      }
      return {
        label: show(shape),
        inputs: [refRandom(shape, seed), target],
        attrs: null,
        // A sum over the row.
        tolerance: 4e-6,
        skipDifferences: width > 500,
      };
    }),
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

export const composed: ComposedFunctions = { mse: { of: ["sub", "square", "mean"] } };
