/** Inputs that the ops of `engine/ops/cast.ts` are tried on. */
import { refRandom } from "../support/random.ts";
import type { Samples } from "../support/samples.ts";

export const samples: Samples = {
  cast: () => [
    {
      label: "f32 to i32",
      quick: true,
      inputs: [{ shape: [6], data: Float64Array.of(0, 1.9, -1.9, 4096, -70000, 0.5) }],
      constant: [0],
      attrs: { to: "i32" },
    },
    {
      label: "u32 to f32",
      inputs: [{ shape: [2, 2], data: Float64Array.of(0, 1, 77777, 2 ** 24) }],
      integer: { 0: "u32" },
      attrs: { to: "f32" },
    },
    {
      label: "i32 to u32",
      inputs: [{ shape: [3], data: Float64Array.of(0, 5, 2 ** 30) }],
      integer: { 0: "i32" },
      attrs: { to: "u32" },
    },
    {
      label: "f32 to f16",
      quick: true,
      inputs: [refRandom([3, 5], 2)],
      attrs: { to: "f16" },
      skipDifferences: true,
      // The gradient passes f16 as well.
      tolerance: 2 ** -11,
    },
    {
      label: "same",
      inputs: [refRandom([3, 5], 1)],
      attrs: { to: "f32" },
    },
  ],
};
