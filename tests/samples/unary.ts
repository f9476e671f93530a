/** Inputs that the ops of `engine/ops/unary.ts` are tried on. */
import { UNARY, type UnaryRow } from "../../engine/ops/unary_table.ts";
import { refFrom } from "../../engine/reference.ts";
import { refRandom } from "../support/random.ts";
import type { Sample, Samples } from "../support/samples.ts";

/** Inputs that stress each function. */
const EXTREMES: Readonly<Record<keyof typeof UNARY, readonly number[]>> = {
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
  softplus: [0, 30, -30, 80, -80, 1e-6],
  mish: [0, 30, -30, 80, -80, -1.2],
  hardswish: [0, 2.9, -2.9, 3.1, -3.1, 1e10],
  softsign: [0, 1e10, -1e10, 1e-10],
  relu6: [1e20, -1e20, 5.9, 6.1],
  hardsigmoid: [0, 2.9, -2.9, 3.1, -3.1, 1e10],
  selu: [0, 30, -30, 1e-6, -1e-6],
  logSigmoid: [0, 30, -30, 80, -80, 1e-6],
  abs: [0, 1e30, -1e30, -1e-30],
  sign: [0, 1e30, -1e30, -1e-30],
  rsqrt: [1e-20, 1, 1e20],
  reciprocal: [1e-15, -3, 7, 1e15],
  sin: [0, 3, -100, 1e10, 1e30],
  cos: [0, 3, -100, 1e10, 1e30],
  tan: [0, 1.5, -100, 1e10],
  asin: [0, 0.99, -0.99, 0.5],
  acos: [0, 0.99, -0.99, 0.5],
  atan: [0, 1, -1, 1e30, -1e30],
  sinh: [0, 89, 1e-10],
  cosh: [0, -89, 1e-10],
  asinh: [0, 1, -1, 1e30, -1e30, 1e-10],
  acosh: [1.01, 2, 1e5, 1e30],
  atanh: [0, 0.99, -0.99, 1e-10],
  sinc: [0, 0.1, 0.24, 0.26, -3.5, 1e-10, 100.25],
  log10: [1e-30, 1, 1e30, 1000],
  exp2: [0, -100, 100, 0.5],
  log2: [1e-30, 1, 1e30, 8],
  log1p: [-0.99, 1e-10, 1e30],
  expm1: [-100, 1e-10, 80],
  erf: [0, 1e-10, 5, -5],
  erfc: [0, 9, 1e-10, -5],
  floor: [0.5, -0.5, 1e30, -1e30],
  ceil: [0.5, -0.5, 1e30, -1e30],
  round: [0.5, 1.5, 2.5, -0.5, -1.5, 1e30],
  trunc: [0.5, -0.5, 1e30, -1e30],
  isnan: [0, NaN, Infinity, -Infinity],
  isinf: [0, NaN, Infinity, -Infinity],
  isfinite: [0, NaN, Infinity, -Infinity],
};

/** What the quick tier takes; all others stand in one kernel of unary_test.ts. */
const QUICK = new Set(["exp", "tanh", "log1p"]);

/** Defined for positive values only, or steep beside 0. */
const POSITIVE = new Set(["log", "log2", "sqrt", "rsqrt", "reciprocal", "log10"]);
/** Defined between -1 and 1, or steep beyond. */
const WITHIN = new Set(["asin", "acos", "log1p", "tan", "atanh"]);

/** Whose text has nothing that others have not: one shape will do. */
const PLAIN = new Set(["relu6", "hardsigmoid", "selu", "logSigmoid", "asinh", "acosh", "atanh"]);

function samplesOf(name: keyof typeof UNARY, extremes: readonly number[]): Sample[] {
  // The gradient of tanh, 1 - y*y, cancels for |x| near 1.
  const tolerance = name === "tanh" ? 4e-6 : undefined;
  const within = (value: number) =>
    name === "acosh"
      ? Math.abs(value) + 1.1
      : POSITIVE.has(name)
      ? Math.abs(value) + 0.1
      : WITHIN.has(name)
      ? Math.tanh(value)
      : value;
  const row: UnaryRow = UNARY[name];
  const whole: Sample = {
    label: "i32",
    inputs: [refFrom([2, 5], (i) => 3 * i - 11)],
    integer: { 0: "i32" },
    attrs: null,
    quick: false,
  };
  return [
    ...(PLAIN.has(name) ? [[3, 7]] : [[1], [3, 7], [4, 8]]).map((shape, seed): Sample => {
      const { data } = refRandom(shape, seed);
      return {
        label: `[${shape}]`,
        inputs: [refFrom(shape, (i) => Math.fround(within(data[i])))],
        attrs: null,
        tolerance,
        quick: QUICK.has(name) && seed === 1,
      };
    }),
    {
      label: "extreme",
      inputs: [refFrom([extremes.length], (i) => Math.fround(extremes[i]))],
      attrs: null,
      tolerance,
      skipDifferences: true,
      quick: false,
    },
    ...(row.integer ? [whole] : []),
  ];
}

export const samples: Samples = {
  ...Object.fromEntries(
    Object.entries(EXTREMES).map((
      [name, extremes],
    ) => [name, () => samplesOf(name as keyof typeof UNARY, extremes)]),
  ),
  nanToNum: () => [
    {
      label: "[3, 7]",
      inputs: [refFrom([3, 7], (i) => [i, NaN, -i, Infinity, -Infinity][i % 5])],
      attrs: { nan: 0.5, posinf: 100, neginf: -200 },
      skipDifferences: true,
      quick: false,
    },
  ],
};
