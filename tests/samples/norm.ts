/** Inputs that the op of `engine/ops/norm.ts` is tried on. */
import type { ReduceAttrs } from "../../engine/ops/reduce.ts";
import type { Sample, Samples } from "../support/samples.ts";
import { reduceSamples } from "./reduce.ts";

const withP = (p: number, from: number, to: number): Sample[] =>
  reduceSamples().slice(from, to).map((it, i) => ({
    ...it,
    label: `${it.label}, p = ${p}`,
    attrs: { ...it.attrs as ReduceAttrs, p },
    quick: p === 3 && i === 0,
  }));

export const samples: Samples = {
  norm: () => [
    ...withP(2, 1, 9),
    ...withP(3, 1, 4),
    ...withP(1.5, 4, 7),
    {
      label: "zeros",
      inputs: [{ shape: [2, 3], data: Float64Array.of(0, 3, 4, 0, 0, 0) }],
      attrs: { reduced: [false, true], keepDims: false, p: 2 },
      skipDifferences: true,
    },
  ],
};
