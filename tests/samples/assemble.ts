/** Inputs that the ops of `engine/ops/assemble.ts` are tried on. */
import { refRandom } from "../support/random.ts";
import type { Samples } from "../support/samples.ts";

export const samples: Samples = {
  stack: () => [
    { label: "one", inputs: [refRandom([3], 1)], attrs: { axis: 0 } },
    { label: "front", inputs: [2, 3, 4].map((s) => refRandom([2, 4], s)), attrs: { axis: 0 } },
    { label: "middle", inputs: [5, 6].map((s) => refRandom([3, 5], s)), attrs: { axis: 1 } },
    { label: "back", inputs: [7, 8, 9].map((s) => refRandom([2, 1, 7], s)), attrs: { axis: 3 } },
  ],
  repeat: () => [
    { label: "[1] 5 times", inputs: [refRandom([1], 1)], attrs: { counts: [5] } },
    { label: "[3, 7] by [2, 3]", inputs: [refRandom([3, 7], 2)], attrs: { counts: [2, 3] } },
    { label: "[4] by [3, 1]", inputs: [refRandom([4], 3)], attrs: { counts: [3, 1] } },
    { label: "[2, 1, 8]", inputs: [refRandom([2, 1, 8], 4)], attrs: { counts: [1, 5, 2] } },
  ],
  split: () => [
    { label: "columns", inputs: [refRandom([3, 8], 1)], attrs: { axis: 1, sizes: [4, 1, 3] } },
    { label: "rows", inputs: [refRandom([5, 4], 2)], attrs: { axis: 0, sizes: [2, 3] } },
    { label: "one part", inputs: [refRandom([2, 7, 3], 3)], attrs: { axis: 1, sizes: [7] } },
    {
      label: "an empty part",
      inputs: [refRandom([4, 5], 4)],
      attrs: { axis: 1, sizes: [2, 0, 3] },
    },
  ],
};
