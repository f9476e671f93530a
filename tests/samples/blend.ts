/** What the functions of `engine/ops/blend.ts` are tried on. */
import { isclose, lerp } from "../../engine/ops/blend.ts";
import { refBroadcast, refFrom } from "../../engine/reference.ts";
import { refRandom } from "../support/random.ts";
import { type ComposedFunctions, trial } from "../support/samples.ts";

export const composed: ComposedFunctions = {
  lerp: {
    of: ["add", "sub", "mul"],
    floats: true,
    trial: trial<{ weight?: number }>(
      ([a, b, w], { weight }) => lerp(a, b, weight ?? w),
      ([a, b, w], { weight }) => {
        const [x, y] = [a, b].map((it) => refBroadcast(it, [3, 5]));
        const share = w && refBroadcast(w, [3, 5]);
        return refFrom([3, 5], (i) => x[i] + (weight ?? share[i]) * (y[i] - x[i]));
      },
      () =>
        [0.25, 0.75, undefined].map((weight) => ({
          label: `${weight ?? "a tensor"}`,
          inputs: [
            refRandom([3, 5], 1),
            refRandom([5], 2),
            ...weight === undefined ? [refFrom([3, 1], (i) => [0.2, 0.8, 1.5][i])] : [],
          ],
          attrs: { weight },
          // The difference is rounded to f16, and so is its product.
          halfTolerance: 2 ** -8,
          quick: false,
        })),
    ),
  },
  isclose: {
    of: ["abs", "sub", "lessEqual", "logicalOr"],
    trial: trial<{ atol: number; equalNan?: boolean }>(
      ([a, b], options) => isclose(a, b, options),
      ([a, b], { atol, equalNan }) =>
        refFrom(a.shape, (i) => {
          const [x, y] = [a.data[i], b.data[i]];
          if (Number.isNaN(x) && Number.isNaN(y)) return +(equalNan ?? false);
          return +(x === y || Number.isFinite(y) && Math.abs(x - y) <= atol + 1e-5 * Math.abs(y));
        }),
      () =>
        [false, true].map((equalNan) => ({
          label: `NaN ${equalNan ? "equal" : "unequal"}`,
          inputs: [
            [1, 1, NaN, Infinity, Infinity, 3, -Infinity, NaN],
            [1.25, 1.75, NaN, Infinity, -Infinity, Infinity, -Infinity, 0],
          ].map((values) => ({ shape: [8], data: Float64Array.from(values) })),
          attrs: { atol: 0.5, equalNan },
          quick: false,
        })),
    ),
  },
};
