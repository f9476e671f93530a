/** Inputs that the ops of `engine/ops/view.ts` are tried on. */
import { refRandom } from "../support/random.ts";
import type { ComposedFunctions, Samples } from "../support/samples.ts";

export const samples: Samples = {
  reshape: () => [
    { label: "[6] to [2, 3]", inputs: [refRandom([6], 1)], attrs: { shape: [2, 3] } },
    { label: "[5, 1, 7] to [35]", inputs: [refRandom([5, 1, 7], 2)], attrs: { shape: [35] } },
  ],
  permute: () => [
    { label: "matrix", inputs: [refRandom([3, 5], 1)], attrs: { order: [1, 0] } },
    { label: "four axes", inputs: [refRandom([2, 3, 1, 4], 2)], attrs: { order: [2, 0, 3, 1] } },
  ],
  contiguous: () => [{ label: "[3, 5]", inputs: [refRandom([3, 5], 1)], attrs: null }],
  slice: () => [
    { label: "rows", inputs: [refRandom([5, 3], 1)], attrs: { axis: 0, start: 1, length: 3 } },
    {
      label: "middle axis",
      inputs: [refRandom([2, 7, 3], 2)],
      attrs: { axis: 1, start: 6, length: 1 },
    },
    {
      label: "aligned",
      inputs: [refRandom([3, 8, 4], 3)],
      attrs: { axis: 1, start: 2, length: 4 },
    },
  ],
  concat: () => [
    { label: "rows", inputs: [refRandom([2, 3], 1), refRandom([1, 3], 2)], attrs: { axis: 0 } },
    {
      label: "tokens",
      inputs: [refRandom([2, 1, 4], 3), refRandom([2, 5, 4], 4), refRandom([2, 2, 4], 5)],
      attrs: { axis: 1 },
    },
    { label: "columns", inputs: [refRandom([3, 5], 6), refRandom([3, 2], 7)], attrs: { axis: 1 } },
  ],
  expand: () => [
    { label: "token to sequence", inputs: [refRandom([1, 1, 6], 1)], attrs: { shape: [3, 5, 6] } },
    { label: "column", inputs: [refRandom([4, 1], 2)], attrs: { shape: [4, 7] } },
  ],
};

export const composed: ComposedFunctions = { transpose: { of: ["permute"] } };
