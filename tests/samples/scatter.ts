/** Inputs that the op of `engine/ops/scatter.ts` is tried on. */
import type { RefArray } from "../../engine/op.ts";
import type { Fold } from "../../engine/ops/indexing.ts";
import { refFrom } from "../../engine/reference.ts";
import { type Shape, show } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

/** Indices with many repetitions. */
const refIds = (shape: Shape, most: number): RefArray =>
  refFrom(shape, (i) => (i * 7919 % 104729 + i * i) % most);

function scattered(fold: Fold, x: Shape, ids: Shape, quick = false): Sample {
  return {
    label: `${fold} ${show(ids)} into ${show(x)}`,
    inputs: [refRandom(x, 1), refIds(ids, x[x.length - 1]), refRandom(ids, 2)],
    integer: { 1: "u32" },
    attrs: { fold },
    quick,
  };
}

export const samples: Samples = {
  scatter: () => [
    scattered("set", [1], [1]),
    scattered("set", [3, 7], [3, 5], true),
    scattered("add", [3, 7], [3, 5], true),
    scattered("max", [3, 7], [3, 5], true),
    // Fewer rows of indices than of x.
    scattered("set", [4, 3, 5], [2, 3, 9]),
    scattered("add", [4, 3, 5], [4, 1, 2]),
    scattered("max", [5, 4], [2, 8]),
    scattered("set", [2, 300], [2, 130]),
    // Longer than a part of the list of indices.
    { ...scattered("set", [2, 16], [2, 8256]), skipDifferences: true },
    { ...scattered("max", [2, 16], [2, 8256]), skipDifferences: true },
    // Sums of 1,600 values.
    { ...scattered("add", [2, 16], [2, 8256]), skipDifferences: true, tolerance: 1e-5 },
    {
      label: "max, ties",
      inputs: [
        refFrom([2, 3], () => 1),
        refIds([2, 5], 3),
        refFrom([2, 5], (i) => i % 2 ? 1 : 0.5),
      ],
      integer: { 1: "u32" },
      attrs: { fold: "max" },
      // A maximum has no slope where it changes its place.
      skipDifferences: true,
    },
    ...(["set", "add", "max"] as const).map((fold): Sample => ({
      label: `${fold}, i32`,
      inputs: [
        refFrom([2, 4], (i) => 2 ** 30 - i),
        refIds([2, 6], 4),
        refFrom([2, 6], (i) => (i % 2 ? -1 : 1) * (2 ** 28 + i)),
      ],
      integer: { 0: "i32", 1: "u32", 2: "i32" },
      attrs: { fold },
    })),
  ],
};
