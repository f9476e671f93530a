/** Inputs that the ops of `engine/ops/dropout.ts` are tried on. */
import type { Shape } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

export const samples: Samples = {
  dropout: () =>
    ([
      [[1], 0, 0, false],
      [[3, 7], 0.5, 1, false],
      [[4, 8], 0.1, 2, true],
      [[2, 3, 5], 0.9, 0xffffffff, false],
      [[1201], 0.3, 77, true],
    ] as [Shape, number, number, boolean][]).map((
      [shape, rate, seed, tensor],
      i,
    ): Sample => ({
      label: `[${shape}] at ${rate}`,
      inputs: [
        refRandom(shape, i),
        ...(tensor ? [{ shape: [1], data: Float64Array.of(12345) }] : []),
      ],
      integer: { 1: "u32" },
      attrs: { rate, seed, stream: i, step: i * 1000 },
    })),
};
