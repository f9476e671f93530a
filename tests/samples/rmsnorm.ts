/** Inputs that the ops of `engine/ops/rmsnorm.ts` are tried on. */
import { refFrom } from "../../engine/reference.ts";
import { type Shape, show } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

export const samples: Samples = {
  rmsNorm: () => [
    ...([[1, 1], [3, 7], [2, 5, 8], [9, 32], [4, 768], [2, 197], [300, 64], [2, 65543]] as Shape[])
      .map((
        shape,
        seed,
      ): Sample => ({
        label: show(shape),
        inputs: [refRandom(shape, seed), refRandom([shape[shape.length - 1]], seed + 20)],
        // With one element the gradient is a difference that cancels down to eps.
        attrs: { eps: shape[shape.length - 1] === 1 ? 1 : 1e-6 },
        tolerance: 3e-6,
        skipDifferences: shape[shape.length - 1] > 500,
      })),
    {
      label: "zero and tiny rows",
      inputs: [
        refFrom([2, 8], (i) => i < 8 ? 0 : Math.fround(1e-6 * (i - 11))),
        refRandom([8], 30),
      ],
      attrs: { eps: 1e-6 },
      skipDifferences: true,
    },
  ],
};
