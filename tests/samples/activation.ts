/** Inputs that the ops of `engine/ops/activation.ts` are tried on. */
import { glu, prelu } from "../../engine/ops/activation.ts";
import { refFrom } from "../../engine/reference.ts";
import { refRandom } from "../support/random.ts";
import { type ComposedFunctions, type Sample, type Samples, trial } from "../support/samples.ts";

const samplesOf = (): Sample[] => [
  { label: "[3, 7]", inputs: [refRandom([3, 7], 1)], attrs: { alpha: 0.25 } },
  { label: "[4, 8]", inputs: [refRandom([4, 8], 2, 3)], attrs: { alpha: 1.5 } },
  {
    label: "extremes",
    inputs: [refFrom([8], (i) => [0, 1e30, -1e3, 1e-20, -1e-20, -88, NaN, Infinity][i])],
    attrs: { alpha: 0.5 },
    skipDifferences: true,
  },
];

export const samples: Samples = { leakyRelu: samplesOf, elu: samplesOf };

const gated = (a: number, b: number) => a / (1 + Math.exp(-b));

export const composed: ComposedFunctions = {
  prelu: {
    of: ["mul", "where"],
    floats: true,
    trial: trial<null>(
      ([x, slope]) => prelu(x, slope),
      ([x, slope]) =>
        refFrom(x.shape, (i) => {
          const inner = x.data.length / x.shape[0] / x.shape[1];
          const channel = Math.floor(i / inner) % x.shape[1];
          return x.data[i] * (x.data[i] < 0 ? slope.data[channel % slope.data.length] : 1);
        }),
      () => [
        { label: "one", inputs: [refRandom([3, 5], 1), refRandom([1], 2)], attrs: null },
        { label: "channels", inputs: [refRandom([2, 3, 4, 5], 3), refRandom([3], 4)], attrs: null },
      ],
    ),
  },
  glu: {
    of: ["slice", "sigmoid", "mul"],
    trial: trial<{ axis?: number }>(
      ([x], { axis }) => glu(x, axis),
      ([x], { axis }) => {
        if (axis === 0) return refFrom([3, 5], (i) => gated(x.data[i], x.data[i + 15]));
        return refFrom([6, 2], (i) => {
          const at = 4 * (i >> 1) + (i & 1);
          return gated(x.data[at], x.data[at + 2]);
        });
      },
      () =>
        [
          { label: "last", inputs: [refRandom([6, 4], 1)], attrs: {} },
          { label: "first", inputs: [refRandom([6, 5], 2)], attrs: { axis: 0 } },
        ].map((it) => ({
          ...it,
          // The sigmoid is rounded to f16 before the product.
          halfTolerance: 2 ** -9,
        })),
    ),
  },
};
