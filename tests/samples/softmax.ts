/** Inputs that the ops of `engine/ops/softmax.ts` are tried on. */
import { type Shape, show } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

function softmaxSamples(): Sample[] {
  const cases: [Shape, number, boolean][] = [
    [[1, 1], 1, false],
    [[3, 7], 0.1, false],
    [[2, 5, 8], 1, true],
    [[9, 32], 0.07, true],
    [[5, 197], 1, false],
    [[4, 768], 2, false],
    [[3, 2048], 0.1, true],
    [[2, 1030], 0.5, false],
    [[300, 64], 1, false],
    [[1, 6160], 1, false],
    // Composed of reductions.
    [[2, 65543], 0.5, true],
  ];
  return [
    ...cases.map(([shape, temperature, tensor], seed) => ({
      label: `${show(shape)} at ${temperature}${tensor ? " from a tensor" : ""}`,
      inputs: [
        refRandom(shape, seed),
        ...(tensor ? [{ shape: [1], data: Float64Array.of(Math.fround(temperature)) }] : []),
      ],
      constant: [1],
      attrs: { temperature: Math.fround(temperature) },
      tolerance: 4e-6,
      skipDifferences: shape[shape.length - 1] > 1000,
    })),
    {
      label: "extreme",
      inputs: [{
        shape: [4, 4],
        data: Float64Array.of(
          1e4,
          -1e4,
          0,
          9999,
          -1e30,
          -1e30,
          -1e30,
          0,
          88,
          -88,
          80,
          3,
          1e-30,
          0,
          0,
          -1e-30,
        ),
      }],
      attrs: { temperature: 1 },
      tolerance: 4e-6,
      skipDifferences: true,
    },
  ];
}

export const samples: Samples = {
  softmax: softmaxSamples,
  logSoftmax: softmaxSamples,
};
