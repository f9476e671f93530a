/** Inputs that the ops of `engine/ops/layernorm.ts` are tried on. */
import { refFrom } from "../../engine/reference.ts";
import { type Shape, show } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

function normSamples(): Sample[] {
  const attrs = { eps: 1e-6 };
  const shapes: Shape[] = [[1, 1], [3, 7], [2, 5, 8], [9, 32], [4, 768], [2, 197], [3, 1024]]
    // The last is composed of reductions.
    .concat([[1, 6148], [300, 64], [2, 65543]]);
  return [
    ...shapes.map((shape, seed) => {
      const width = shape[shape.length - 1];
      return {
        label: show(shape),
        inputs: [
          refRandom(shape, seed),
          refRandom([width], seed + 20),
          refRandom([width], seed + 40),
        ],
        attrs,
        // A single element has variance 0: y = beta and dx = 0 exactly.
        tolerance: 3e-6,
        skipDifferences: width > 1000,
      };
    }),
    {
      label: "[6, 64] at an offset of 1000",
      inputs: [
        refFrom([6, 64], ((r) => (i) => Math.fround(r[i] + 1000))(refRandom([6, 64], 60).data)),
        refRandom([64], 61),
        refRandom([64], 62),
      ],
      attrs,
      tolerance: 3e-6,
    },
    {
      label: "[2, 16] constant rows",
      inputs: [refFrom([2, 16], () => 3), refRandom([16], 63), refRandom([16], 64)],
      attrs,
      skipDifferences: true,
    },
  ];
}

export const samples: Samples = {
  layerNorm: normSamples,
  residualLayerNorm: () =>
    // Beside 1000 the sum itself would be rounded to 3e-5, which is no error of the op.
    normSamples().filter(({ label }) => !label.includes("offset")).map((
      { inputs: [x, gamma, beta], ...sample },
      seed,
    ) => ({
      ...sample,
      inputs: [x, refRandom(x.shape, seed + 80), gamma, beta],
    })),
};
