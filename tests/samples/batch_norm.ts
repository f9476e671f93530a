/** Inputs that the functions of `engine/ops/batch_norm.ts` are tried on. */
import type { RefArray } from "../../engine/op.ts";
import { batchNorm, groupNorm, instanceNorm } from "../../engine/ops/batch_norm.ts";
import { refZeros } from "../../engine/reference.ts";
import { show } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import { type ComposedFunctions, type Sample, trial } from "../support/samples.ts";

/** What an element is normalised with: the elements for which `together` holds. */
function normalised(
  x: RefArray,
  together: (b: number, c: number, e: number, d: number) => boolean,
  [weight, bias]: readonly RefArray[],
): RefArray {
  const [batch, channels] = x.shape;
  const places = x.data.length / batch / channels;
  const y = refZeros(x.shape);
  for (let b = 0; b < batch; b++) {
    for (let c = 0; c < channels; c++) {
      const members = [...x.data].filter((_, i) =>
        together(b, c, Math.floor(i / places / channels), Math.floor(i / places) % channels)
      );
      const mean = members.reduce((s, v) => s + v, 0) / members.length;
      const variance = members.reduce((s, v) => s + (v - mean) ** 2, 0) / members.length;
      for (let p = 0; p < places; p++) {
        const at = (b * channels + c) * places + p;
        const value = (x.data[at] - mean) / Math.sqrt(variance + 1e-5);
        y.data[at] = value * (weight?.data[c] ?? 1) + (bias?.data[c] ?? 0);
      }
    }
  }
  return y;
}

/** Shapes with a scale and a shift, but for the first. */
const inputs = (shape: readonly number[], seed: number): RefArray[] => [
  refRandom(shape, seed),
  ...seed === 0 ? [] : [refRandom([shape[1]], seed + 20), refRandom([shape[1]], seed + 40)],
];

/** Two reductions and quotients of what cancels. */
const TOLERANCE = { tolerance: 4e-6, halfTolerance: 2 ** -9 };

export const composed: ComposedFunctions = {
  batchNorm: {
    of: ["mean", "variance", "sub", "add", "sqrt", "div", "mul"],
    trial: trial<null>(
      ([x, weight, bias]) => batchNorm(x, undefined, undefined, { weight, bias, training: true }),
      ([x, ...rest]) => normalised(x, (_, c, __, d) => c === d, rest),
      () =>
        [[3, 2], [2, 3, 5], [5, 4], [2, 3, 4, 3]].map((shape, seed): Sample & { attrs: null } => ({
          label: show(shape),
          inputs: inputs(shape, seed),
          attrs: null,
          ...TOLERANCE,
        })),
    ),
  },
  groupNorm: {
    of: ["layerNorm", "mul", "add"],
    trial: trial<{ groups: number }>(
      ([x, weight, bias], { groups }) => groupNorm(x, groups, { weight, bias }),
      ([x, ...rest], { groups }) => {
        const size = x.shape[1] / groups;
        const group = (c: number) => Math.floor(c / size);
        return normalised(x, (b, c, e, d) => b === e && group(c) === group(d), rest);
      },
      () =>
        [[2, 4, 3], [2, 6, 5], [3, 8], [1, 4, 3, 4]].map((shape, seed) => ({
          label: show(shape),
          inputs: inputs(shape, seed),
          attrs: { groups: 2 },
          ...TOLERANCE,
        })),
    ),
  },
  instanceNorm: {
    of: ["layerNorm", "mul", "add"],
    trial: trial<null>(
      ([x, weight, bias]) => instanceNorm(x, { weight, bias }),
      ([x, ...rest]) => normalised(x, (b, c, e, d) => b === e && c === d, rest),
      () => [
        { label: "[2, 3, 4]", inputs: inputs([2, 3, 4], 0), attrs: null, ...TOLERANCE },
        { label: "[2, 3, 5, 3]", inputs: inputs([2, 3, 5, 3], 1), attrs: null, ...TOLERANCE },
      ],
    ),
  },
};
