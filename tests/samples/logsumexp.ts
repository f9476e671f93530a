/** Inputs that the op of `engine/ops/logsumexp.ts` is tried on. */
import { logcumsumexp } from "../../engine/ops/logsumexp.ts";
import { refAlong, refFrom } from "../../engine/reference.ts";
import { refRandom } from "../support/random.ts";
import { type ComposedFunctions, type Samples, trial } from "../support/samples.ts";
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

export const composed: ComposedFunctions = {
  logcumsumexp: {
    of: ["logaddexp", "slice", "concat"],
    trial: trial<{ axis: number }>(
      ([x], { axis }) => logcumsumexp(x, axis),
      ([x], { axis }) => [
        refAlong(x, axis, (row) =>
          row.map((_, k) => {
            const most = row.slice(0, k + 1).reduce((a, b) => Math.max(a, b));
            if (most === -Infinity) return most;
            const sum = row.slice(0, k + 1).reduce((s, v) => s + Math.exp(v - most), 0);
            return most + Math.log(sum);
          })),
      ],
      () =>
        [
          { label: "[2, 37]", inputs: [refRandom([2, 37], 1, 9)], attrs: { axis: 1 } },
          { label: "first axis", inputs: [refRandom([5, 3], 2)], attrs: { axis: 0 }, quick: true },
          { label: "[1]", inputs: [refRandom([1], 3)], attrs: { axis: 0 } },
          {
            label: "large and -Infinity",
            inputs: [refFrom([6], (i) => [-Infinity, -Infinity, -600, 600, 599, -Infinity][i])],
            constant: [0],
            attrs: { axis: 0 },
          },
        ].map((it) => ({
          ...it,
          // Each doubling rounds once, to f16 too.
          tolerance: 4e-6,
          halfTolerance: 2 ** -8,
        })),
    ),
  },
};
