/** Inputs that the op of `engine/ops/banded.ts` is tried on. */
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

/** Bands of up to five weights, some of which are 0, from every other element on. */
const bandsOf = (rows: number, size: number) =>
  Array.from({ length: rows }, (_, j) => {
    const first = Math.min(size - 1, Math.floor(j * size / rows));
    return {
      first,
      weights: Array.from({ length: Math.min(1 + j % 5, size - first) }, (_, t) => (j + t) % 3 - 1),
    };
  });

export const samples: Samples = {
  banded: () =>
    ([
      [[1], 0, 1],
      [[2, 7, 3], 1, 5],
      [[3, 5], 1, 12],
      [[9, 2, 4], 0, 4],
    ] as [number[], number, number][]).map(([shape, axis, rows], seed): Sample => ({
      label: `axis ${axis} of [${shape}] to ${rows}`,
      inputs: [refRandom(shape, seed)],
      attrs: { axis, bands: bandsOf(rows, shape[axis]) },
    })),
};
