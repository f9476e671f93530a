/** Inputs that the ops of `engine/ops/classify.ts` are tried on. */
import { refFrom, refZeros } from "../../engine/reference.ts";
import { refSoftmaxRow } from "../../engine/ops/softmax.ts";
import { type Shape, show } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

const SHAPES: readonly Shape[] = [[1, 1], [3, 7], [2, 5, 8], [4, 768], [2, 1030], [300, 64]];

export const samples: Samples = {
  crossEntropy: () => [
    ...SHAPES.map((shape, seed): Sample => ({
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
    SHAPES.map((shape, seed): Sample => {
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
};
