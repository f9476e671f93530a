/** Inputs that the ops of `engine/ops/diagonal.ts` are tried on. */
import { refFrom } from "../../engine/reference.ts";
import { refRandom } from "../support/random.ts";
import type { ComposedFunctions, Sample, Samples } from "../support/samples.ts";

const triangles = (): Sample[] => [
  { label: "[1, 1]", inputs: [refRandom([1, 1], 1)], attrs: { diagonal: 0 } },
  { label: "[2, 5, 7]", inputs: [refRandom([2, 5, 7], 2)], attrs: { diagonal: 1 } },
  { label: "[6, 4]", inputs: [refRandom([6, 4], 3)], attrs: { diagonal: -2 } },
  { label: "beyond", inputs: [refRandom([3, 5], 4)], attrs: { diagonal: 9 } },
  { label: "before", inputs: [refRandom([3, 5], 5)], attrs: { diagonal: -9 } },
  {
    label: "i32",
    inputs: [refFrom([5, 3], (i) => i - 7)],
    integer: { 0: "i32" },
    attrs: { diagonal: -1 },
  },
  { label: "[130, 67]", inputs: [refRandom([130, 67], 6)], attrs: { diagonal: 3 } },
];

export const samples: Samples = {
  diagonal: () => [
    { label: "[1, 1]", inputs: [refRandom([1, 1], 1)], attrs: { diagonal: 0 } },
    { label: "[2, 5, 4]", inputs: [refRandom([2, 5, 4], 2)], attrs: { diagonal: -1 } },
    { label: "[3, 7]", inputs: [refRandom([3, 7], 3)], attrs: { diagonal: 5 } },
    { label: "none", inputs: [refRandom([3, 4], 4)], attrs: { diagonal: -3 } },
  ],
  diagEmbed: () => [
    { label: "[1]", inputs: [refRandom([1], 1)], attrs: { diagonal: 0 } },
    { label: "[2, 3]", inputs: [refRandom([2, 3], 2)], attrs: { diagonal: -2 } },
    { label: "[4]", inputs: [refRandom([4], 3)], attrs: { diagonal: 1 } },
  ],
  tril: triangles,
  triu: triangles,
};

export const composed: ComposedFunctions = { diag: { of: ["diagonal", "diagEmbed"] } };
