/** Inputs that the op of `engine/ops/l2_normalize.ts` is tried on. */
import { show } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { Samples } from "../support/samples.ts";
import { scaledRows, SHAPES } from "./loss.ts";

export const samples: Samples = {
  l2Normalize: () => [
    ...SHAPES.map((shape, seed) => ({
      label: show(shape),
      inputs: [refRandom(shape, seed)],
      attrs: { eps: 1e-12 },
      tolerance: 3e-6,
      skipDifferences: shape[shape.length - 1] > 1000,
    })),
    {
      label: "lengths from 0 to 1e10",
      inputs: [scaledRows(90)],
      attrs: { eps: 1e-12 },
      skipDifferences: true,
    },
  ],
};
