/** Inputs that the op of `engine/ops/batched_index_select.ts` is tried on. */
import { refFrom } from "../../engine/reference.ts";
import { refRandom } from "../support/random.ts";
import type { Samples } from "../support/samples.ts";

export const samples: Samples = {
  batchedIndexSelect: () => [
    {
      label: "unique",
      inputs: [refRandom([2, 5, 4], 1), refFrom([2, 3], (i) => [4, 0, 2, 1, 3, 0][i])],
      integer: { 1: "u32" },
      attrs: { unique: true },
    },
    {
      label: "permutation, odd width",
      quick: true,
      inputs: [refRandom([2, 3, 7], 2), refFrom([2, 3], (i) => [2, 0, 1, 1, 0, 2][i])],
      integer: { 1: "u32" },
      attrs: { unique: true },
    },
    {
      label: "repeated",
      quick: true,
      inputs: [refRandom([1, 4, 8], 3), refFrom([1, 6], (i) => [3, 3, 0, 1, 3, 0][i])],
      integer: { 1: "u32" },
      attrs: { unique: false },
    },
  ],
};
