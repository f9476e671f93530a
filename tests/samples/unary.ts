/** Inputs that the ops of `engine/ops/unary.ts` are tried on. */
import { refFrom } from "../../engine/reference.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

/** Inputs that stress each function. */
const EXTREMES: Readonly<Record<string, readonly number[]>> = {
  neg: [0, 1e30, -1e30],
  exp: [0, -80, 20, 1e-8],
  log: [1e-30, 1, 1e30, 0.5, 2],
  sqrt: [1e-20, 1, 1e20],
  square: [0, 1e10, -3],
  relu: [1e20, -1e20, 1e-20],
  tanh: [0, 10, -10, 1e-4],
  gelu: [0, 5, -5, 30, -30, 0.75, -0.75],
  geluTanh: [0, 5, -5, 30, -30, 0.75, -0.75],
  sigmoid: [0, 30, -30, 200, -200, 1e-6],
  silu: [0, 30, -30, 200, -200, -1.278],
  abs: [0, 1e30, -1e30, -1e-30],
  sign: [0, 1e30, -1e30, -1e-30],
  rsqrt: [1e-20, 1, 1e20],
  reciprocal: [1e-15, -3, 7, 1e15],
};

/** Defined for positive values only, or steep beside 0. */
const POSITIVE = new Set(["log", "sqrt", "rsqrt", "reciprocal"]);

function samplesOf(name: string, extremes: readonly number[]): Sample[] {
  // The gradient of tanh, 1 - y*y, cancels for |x| near 1.
  const tolerance = name === "tanh" ? 4e-6 : undefined;
  const positive = POSITIVE.has(name);
  return [
    ...[[1], [3, 7], [4, 8]].map((shape, seed): Sample => ({
      label: `[${shape}]`,
      inputs: [
        refFrom(
          shape,
          ((r) => (i) => positive ? Math.fround(Math.abs(r[i]) + 0.1) : r[i])(
            refRandom(shape, seed).data,
          ),
        ),
      ],
      attrs: null,
      tolerance,
    })),
    {
      label: "extreme",
      inputs: [refFrom([extremes.length], (i) => Math.fround(extremes[i]))],
      attrs: null,
      tolerance,
      skipDifferences: true,
    },
  ];
}

export const samples: Samples = Object.fromEntries(
  Object.entries(EXTREMES).map(([name, extremes]) => [name, () => samplesOf(name, extremes)]),
);
