/** Inputs that the op of `engine/ops/searchsorted.ts` is tried on. */
import { refFrom } from "../../engine/reference.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

const rows = (shape: readonly number[], seed: number) => {
  const { data } = refRandom(shape, seed);
  const width = shape[shape.length - 1];
  for (let r = 0; r < data.length; r += width) data.subarray(r, r + width).sort();
  return { shape, data };
};

export const samples: Samples = {
  searchsorted: () =>
    [false, true].flatMap((right): Sample[] => [
      { label: "[1] in [1]", inputs: [rows([1], 1), refRandom([1], 2)], attrs: { right } },
      { label: "[2, 3] in [37]", inputs: [rows([37], 1), refRandom([2, 3], 2)], attrs: { right } },
      {
        label: "[3, 2, 5] in [3, 2, 8]",
        inputs: [rows([3, 2, 8], 3), refRandom([3, 2, 5], 4)],
        attrs: { right },
        quick: right,
      },
      {
        label: "equal and special ones",
        inputs: [
          { shape: [8], data: Float64Array.of(-Infinity, -1, -0, 0, 0, 2, Infinity, NaN) },
          { shape: [7], data: Float64Array.of(-0, 2, NaN, Infinity, -Infinity, -2, 3) },
        ],
        attrs: { right },
        quick: right,
      },
      {
        label: "i32",
        inputs: [refFrom([6], (i) => 3 * i - 9), refFrom([5], (i) => 4 * i - 10)],
        integer: { 0: "i32", 1: "i32" },
        attrs: { right },
      },
    ]),
};
