/** Inputs that the op of `engine/ops/logsumexp.ts` is tried on. */
import type { Samples } from "../support/samples.ts";
import { reduceSamples } from "./reduce.ts";

export const samples: Samples = {
  logsumexp: () => [
    ...reduceSamples().filter((_, i) => i < 9).map((it, i) => ({ ...it, quick: i === 1 })),
    {
      label: "large and -Infinity",
      inputs: [{ shape: [2, 3], data: Float64Array.of(600, 599, 1, 2, -Infinity, -600) }],
      attrs: { reduced: [false, true], keepDims: true },
      skipDifferences: true,
    },
  ],
};
