/** Inputs that the ops of `engine/ops/activation.ts` are tried on. */
import { refFrom } from "../../engine/reference.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

const samplesOf = (): Sample[] => [
  { label: "[3, 7]", inputs: [refRandom([3, 7], 1)], attrs: { alpha: 0.25 } },
  { label: "[4, 8]", inputs: [refRandom([4, 8], 2, 3)], attrs: { alpha: 1.5 } },
  {
    label: "extremes",
    inputs: [refFrom([8], (i) => [0, 1e30, -1e3, 1e-20, -1e-20, -88, NaN, Infinity][i])],
    attrs: { alpha: 0.5 },
    skipDifferences: true,
  },
];

export const samples: Samples = { leakyRelu: samplesOf, elu: samplesOf };
