/** Inputs that the ops of `engine/ops/fft.ts` are tried on. */
import { bins } from "../../engine/ops/fft.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

const LENGTHS = [1, 2, 3, 4, 5, 8, 9, 15, 30, 64, 100, 400, 1080];

export const samples: Samples = {
  rfft: () => [
    { label: "many rows", inputs: [refRandom([200, 10], 90)], attrs: { n: 10 } },
    ...LENGTHS.map((n, seed): Sample => ({
      label: `n = ${n}`,
      inputs: [refRandom(seed % 2 ? [3, n] : [2, 1, n], seed)],
      attrs: { n },
      skipDifferences: n > 400,
      quick: n === 9 || n === 30,
    })),
  ],
  irfft: () => [
    { label: "many rows", inputs: [refRandom([200, 6, 2], 90)], attrs: { n: 10 } },
    ...LENGTHS.map((n, seed): Sample => ({
      label: `n = ${n}`,
      inputs: [refRandom(seed % 2 ? [3, bins(n), 2] : [2, 1, bins(n), 2], seed)],
      attrs: { n },
      skipDifferences: n > 400,
      quick: n === 9 || n === 30,
    })),
  ],
};
