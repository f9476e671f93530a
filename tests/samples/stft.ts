/** Inputs that the ops of `engine/ops/stft.ts` are tried on. */
import { type Shape, show } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { ComposedFunctions, Sample, Samples } from "../support/samples.ts";

export const samples: Samples = {
  frames: () => [
    { label: "[1]", inputs: [refRandom([1], 1)], attrs: { size: 1, hop: 1 } },
    { label: "overlap", inputs: [refRandom([2, 37], 2)], attrs: { size: 8, hop: 3 } },
    { label: "vectors", inputs: [refRandom([3, 64], 3)], attrs: { size: 16, hop: 8 } },
    { label: "gaps", inputs: [refRandom([23], 4)], attrs: { size: 2, hop: 5 } },
  ],
  overlapAdd: () =>
    ([[[1, 1], 1], [[2, 5, 8], 3], [[3, 4, 16], 8], [[5, 2], 5], [[7, 9], 9]] as [Shape, number][])
      .map(([shape, hop], seed) => ({
        label: `${show(shape)} every ${hop}`,
        inputs: [refRandom(shape, seed)],
        attrs: { size: shape[shape.length - 1], hop },
      })),
  stft: () =>
    ([
      // Halves of 1 to 512: every radix, one pass and several, one pair of frames and two; odd
      // sizes and longer ones.
      [[3, 21], 2, 3],
      [[30], 4, 1],
      [[2, 41], 6, 5],
      [[2, 2, 60], 10, 7],
      [[3, 64], 16, 8],
      [[70], 9, 4],
      [[2, 200], 60, 14],
      [[1, 403], 64, 31],
      [[2, 900], 400, 160],
      [[1500], 1000, 101],
      [[2100], 1024, 500],
      [[2400], 2048, 120],
    ] as [Shape, number, number][]).flatMap(([shape, size, hop], seed) =>
      [false, true].map((windowed): Sample => ({
        label: `${show(shape)}, ${size} every ${hop}${windowed ? ", window" : ""}`,
        inputs: [
          refRandom(shape, seed),
          ...(windowed ? [refRandom([size], seed + 50)] : []),
        ],
        attrs: { size, hop },
        skipDifferences: size > 64,
        quick: size === 16,
      }))
    ),
};

export const composed: ComposedFunctions = { istft: { of: ["irfft", "overlapAdd"] } };
