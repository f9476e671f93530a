/** Inputs that the function of `engine/ops/diff.ts` is tried on. */
import { diff, type DiffOptions } from "../../engine/ops/diff.ts";
import { refAlong } from "../../engine/reference.ts";
import { refRandom } from "../support/random.ts";
import { type ComposedFunctions, trial } from "../support/samples.ts";

export const composed: ComposedFunctions = {
  diff: {
    of: ["slice", "sub"],
    trial: trial<Required<DiffOptions>>(
      ([x], attrs) => diff(x, attrs),
      ([x], { axis, n }) =>
        refAlong(x, axis, (row) => {
          let y = row;
          for (let k = 0; k < n; k++) y = y.slice(1).map((v, i) => v - y[i]);
          return y;
        }),
      () => [
        { label: "[5]", inputs: [refRandom([5], 1)], attrs: { axis: 0, n: 1 } },
        { label: "[2, 7, 3], twice", inputs: [refRandom([2, 7, 3], 2)], attrs: { axis: 1, n: 2 } },
      ],
    ),
  },
};
