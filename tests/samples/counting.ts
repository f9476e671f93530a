/** What `engine/ops/counting.ts` is tried on; counting_test.ts tries what the host counts. */
import { countNonzero } from "../../engine/ops/counting.ts";
import { refFrom } from "../../engine/reference.ts";
import { type ComposedFunctions, trial } from "../support/samples.ts";

export const composed: ComposedFunctions = {
  countNonzero: {
    of: ["notEqual"],
    trial: trial<null>(
      ([x]) => countNonzero(x, { axes: [1] }),
      ([x]) => refFrom([3], (r) => x.data.subarray(5 * r, 5 * r + 5).filter((v) => v !== 0).length),
      () => [{
        label: "[3, 5]",
        inputs: [refFrom([3, 5], (i) => [0, -0, NaN, 1e-4, -2, 0, 7][i % 7])],
        attrs: null,
      }],
    ),
  },
  // What the host reads is as the results of these are.
  bincount: { of: ["bitwiseAnd"] },
  histogram: { of: ["notEqual"] },
  unique: { of: ["notEqual"] },
  allclose: { of: ["notEqual"] },
};
