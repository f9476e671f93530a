/** Inputs that the ops of `engine/ops/pad.ts` are tried on. */
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

export const samples: Samples = {
  pad: () => [
    { label: "[1]", inputs: [refRandom([1], 1)], attrs: { widths: [[2, 3]], fill: 0.5 } },
    {
      label: "image",
      quick: true,
      inputs: [refRandom([2, 3, 5, 4], 2)],
      attrs: { widths: [[0, 0], [0, 0], [1, 1], [2, 2]], fill: 0 },
    },
    {
      label: "one side",
      inputs: [refRandom([3, 8], 3)],
      attrs: { widths: [[0, 2], [4, 0]], fill: -1 },
    },
    {
      label: "none",
      inputs: [refRandom([3, 7], 4)],
      attrs: { widths: [[0, 0], [0, 0]], fill: 9 },
    },
    ...(["reflect", "replicate", "circular"] as const).flatMap((mode, k): Sample[] => [
      {
        label: `${mode}, as far as it goes`,
        inputs: [refRandom([5], k + 10)],
        attrs: { widths: [mode === "circular" ? [5, 5] : [4, 4]], fill: mode },
      },
      {
        label: `${mode}, image`,
        quick: true,
        inputs: [refRandom([2, 3, 5, 4], k + 20)],
        attrs: { widths: [[0, 0], [0, 0], [1, 2], [3, 0]], fill: mode },
      },
      {
        label: `${mode}, outer axes`,
        inputs: [refRandom([3, 4, 7], k + 30)],
        attrs: { widths: [[1, 2], [0, 3], [0, 0]], fill: mode },
      },
      {
        label: `${mode}, none`,
        inputs: [refRandom([3, 2], k + 40)],
        attrs: { widths: [[0, 0], [0, 0]], fill: mode },
      },
    ]),
    {
      label: "replicate, beyond the size",
      inputs: [refRandom([1, 65, 2], 50)],
      attrs: { widths: [[3, 4], [70, 0], [0, 9]], fill: "replicate" },
      // 71 gradients meet in one element.
      tolerance: 4e-6,
    },
  ],
};
