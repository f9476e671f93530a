/** Inputs that the op of `engine/ops/at.ts` is tried on. */
import { refRandom } from "../support/random.ts";
import type { Samples } from "../support/samples.ts";

/** An entry of the op's attributes. */
const span = (start: number, step: number, length: number, drop = false) => ({
  start,
  step,
  length,
  drop,
});

export const samples: Samples = {
  at: () => [
    { label: "x[0]", inputs: [refRandom([1], 1)], attrs: { entries: [span(0, 1, 1, true)] } },
    {
      label: "x[1:6:2, ::-1]",
      inputs: [refRandom([7, 5], 2)],
      attrs: { entries: [span(1, 2, 3), span(4, -1, 5)] },
    },
    {
      label: "x[None, 2, :, None]",
      inputs: [refRandom([3, 4], 3)],
      attrs: { entries: [null, span(2, 1, 1, true), span(0, 1, 4), null] },
    },
    {
      label: "all of x, turned in blocks of vectors",
      inputs: [refRandom([3, 4, 8], 4)],
      attrs: { entries: [span(2, -1, 3), span(3, -1, 4), span(0, 1, 8)] },
    },
    {
      label: "all of x, an axis less",
      inputs: [refRandom([3, 1, 5], 5)],
      attrs: { entries: [span(0, 1, 3), span(0, 1, 1, true), span(0, 1, 5)] },
    },
    {
      label: "nothing of x",
      inputs: [refRandom([3, 5], 6)],
      attrs: { entries: [span(0, 1, 0), span(1, 3, 2)] },
    },
    {
      label: "long, backwards",
      inputs: [refRandom([67, 131], 7)],
      attrs: { entries: [span(66, -3, 22), span(130, -2, 66)] },
    },
  ],
};
