/** Inputs that the ops of `engine/ops/recurrent.ts` are tried on. */
import { show } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

const SHAPES = [[1, 1], [3, 5], [2, 3, 8], [300, 9]];
const times = (shape: number[], n: number) => [...shape.slice(0, -1), n * shape.at(-1)!];

export const samples: Samples = {
  lstmCell: () =>
    SHAPES.map((shape, seed): Sample => ({
      label: show(shape),
      inputs: [refRandom(times(shape, 4), seed, 2), refRandom(shape, seed + 10)],
      attrs: null,
      // Products of several functions, each right to a few ulp; 1 - t * t cancels.
      tolerance: 4e-6,
    })),
  gruCell: () =>
    SHAPES.map((shape, seed): Sample => ({
      label: show(shape),
      inputs: [
        refRandom(times(shape, 3), seed, 2),
        refRandom(times(shape, 3), seed + 10, 2),
        refRandom(shape, seed + 20),
      ],
      attrs: null,
      // As lstmCell.
      tolerance: 4e-6,
    })),
};
