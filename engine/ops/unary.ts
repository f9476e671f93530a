/**
 * Elementwise functions of one tensor, defined from the rows of `unary_table.ts`. Integers become
 * f32, as in PyTorch, but for what gives whole numbers of whole numbers.
 *
 * @module
 */
import { kindOf, needNumber, needOptions, needTensors } from "../arguments.ts";
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineOp, type Op } from "../op.ts";
import { refFrom } from "../reference.ts";
import { composite } from "../scope.ts";
import type { Tensor } from "../tensor.ts";
import { elementwise } from "../launch/elementwise.ts";
import { cast } from "./cast.ts";
import { greater, where } from "./compare.ts";
import { div, mul } from "./elementwise.ts";
import { UNARY, type UnaryRow } from "./unary_table.ts";

/** An elementwise function: of any shape, which the result has as well. */
export type UnaryFunction = (x: Tensor) => Tensor;

function defineUnary(name: keyof typeof UNARY): Op<null> {
  const row: UnaryRow = UNARY[name];
  const { gradient, df } = row;
  return defineOp<null>({
    name,
    dtypes: row.integer ? "same" : undefined,
    half: true,
    strided: true,
    forward([x], _, save) {
      const y = x.device.empty(x.shape, x.dtype);
      elementwise(y, [x], { expression: isFloat(x.dtype) ? row.wgsl : row.integer! });
      save(row.fromOutput ? y : x);
      return [y];
    },
    backward: gradient === undefined ? undefined : ({ grads: [dy], saved: [s] }) => {
      const dx = dy!.device.empty(dy!.shape, dy!.dtype);
      elementwise(dx, [s, dy!], { expression: gradient });
      return [dx];
    },
    reference: {
      forward: ([x]) => [refFrom(x.shape, (i) => row.f(x.data[i]))],
      backward: df && (([x], _, [dy]) => [refFrom(x.shape, (i) => df(x.data[i]) * dy.data[i])]),
    },
  });
}

function unary(name: keyof typeof UNARY): UnaryFunction {
  const op = defineUnary(name);
  return (x) => {
    needTensors(name, { x });
    if (isFloat(x.dtype) || op.dtypes) return op.apply([x], null)[0];
    return composite(() => op.apply([cast(x, "f32")], null)[0]);
  };
}

/** `-x`. */
export const neg: UnaryFunction = /* @__PURE__ */ unary("neg");

/** `e^x`. */
export const exp: UnaryFunction = /* @__PURE__ */ unary("exp");

/** Natural logarithm. */
export const log: UnaryFunction = /* @__PURE__ */ unary("log");

/** Square root; the gradient at 0 is infinite. */
export const sqrt: UnaryFunction = /* @__PURE__ */ unary("sqrt");

/** `x * x`. */
export const square: UnaryFunction = /* @__PURE__ */ unary("square");

/** `max(x, 0)`; the gradient at 0 is 0. */
export const relu: UnaryFunction = /* @__PURE__ */ unary("relu");

/** Hyperbolic tangent. */
export const tanh: UnaryFunction = /* @__PURE__ */ unary("tanh");

/** Exact GELU, `x * Phi(x)` with the error function (Hendrycks and Gimpel, 2016). */
export const gelu: UnaryFunction = /* @__PURE__ */ unary("gelu");

/**
 * GELU in its tanh form, `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`; {@link gelu} is the
 * exact one.
 */
export const geluTanh: UnaryFunction = /* @__PURE__ */ unary("geluTanh");

/** Logistic function, `1 / (1 + e^-x)`. */
export const sigmoid: UnaryFunction = /* @__PURE__ */ unary("sigmoid");

/** `x * sigmoid(x)`, also called swish. */
export const silu: UnaryFunction = /* @__PURE__ */ unary("silu");

const plainSoftplus: UnaryFunction = /* @__PURE__ */ unary("softplus");

/** Options of {@link softplus}. */
export interface SoftplusOptions {
  /** Sharpness; above 0, default 1. */
  readonly beta?: number;
  /** From which `beta x` on the result is `x` itself; default 20, as good as none in f32. */
  readonly threshold?: number;
}

/**
 * `log(1 + e^(beta x)) / beta`, a smooth {@link relu}, as torch's.
 *
 * @throws {ShapeError} if beta is not above 0 or the threshold no finite number.
 */
export function softplus(x: Tensor, options: SoftplusOptions = {}): Tensor {
  needTensors("softplus", { x });
  needOptions("softplus", options, ["beta", "threshold"]);
  const { beta = 1, threshold = 20 } = options;
  needNumber("softplus", "beta", beta, Number.MIN_VALUE);
  needNumber("softplus", "the threshold", threshold);
  if (beta === 1 && threshold >= 20) return plainSoftplus(x);
  return composite(() => {
    const [float] = isFloat(x.dtype) ? [x] : [cast(x, "f32")];
    const bent = mul(float, beta);
    return where(greater(bent, threshold), float, div(plainSoftplus(bent), beta));
  });
}

/** `x * tanh(softplus(x))` (Misra, arXiv:1908.08681). */
export const mish: UnaryFunction = /* @__PURE__ */ unary("mish");

/** `x * clamp(x + 3, 0, 6) / 6` (Howard et al., arXiv:1905.02244). */
export const hardswish: UnaryFunction = /* @__PURE__ */ unary("hardswish");

/** `x / (1 + |x|)`. */
export const softsign: UnaryFunction = /* @__PURE__ */ unary("softsign");

/** `min(max(x, 0), 6)`; the gradient at 0 and 6 is 0. */
export const relu6: UnaryFunction = /* @__PURE__ */ unary("relu6");

/** `min(max(x + 3, 0), 6) / 6`, a {@link sigmoid} of straight lines. */
export const hardsigmoid: UnaryFunction = /* @__PURE__ */ unary("hardsigmoid");

/** Scaled ELU, which keeps means and variances (Klambauer et al., arXiv:1706.02515). */
export const selu: UnaryFunction = /* @__PURE__ */ unary("selu");

/** Logarithm of {@link sigmoid}, without overflow. */
export const logSigmoid: UnaryFunction = /* @__PURE__ */ unary("logSigmoid");

/** Absolute value; the gradient at 0 is 0. */
export const abs: UnaryFunction = /* @__PURE__ */ unary("abs");

/** -1, 0 or 1; its gradient is 0 everywhere. */
export const sign: UnaryFunction = /* @__PURE__ */ unary("sign");

/** `1 / sqrt(x)`. */
export const rsqrt: UnaryFunction = /* @__PURE__ */ unary("rsqrt");

/** `1 / x`. */
export const reciprocal: UnaryFunction = /* @__PURE__ */ unary("reciprocal");

/** Sine. Right to 1.4 ulp for every finite `x`, however large. */
export const sin: UnaryFunction = /* @__PURE__ */ unary("sin");

/** Cosine; see {@link sin}. */
export const cos: UnaryFunction = /* @__PURE__ */ unary("cos");

/** Tangent, right to 3 ulp for every finite `x`. */
export const tan: UnaryFunction = /* @__PURE__ */ unary("tan");

/** Inverse sine, NaN beyond -1..1; the gradient at the ends is infinite. */
export const asin: UnaryFunction = /* @__PURE__ */ unary("asin");

/** Inverse cosine, NaN beyond -1..1; the gradient at the ends is infinite. */
export const acos: UnaryFunction = /* @__PURE__ */ unary("acos");

/** Inverse tangent. */
export const atan: UnaryFunction = /* @__PURE__ */ unary("atan");

/** Hyperbolic sine. */
export const sinh: UnaryFunction = /* @__PURE__ */ unary("sinh");

/** Hyperbolic cosine. */
export const cosh: UnaryFunction = /* @__PURE__ */ unary("cosh");

/** Inverse of {@link sinh}. */
export const asinh: UnaryFunction = /* @__PURE__ */ unary("asinh");

/** Inverse of {@link cosh}, from 0; NaN below 1. */
export const acosh: UnaryFunction = /* @__PURE__ */ unary("acosh");

/** Inverse of {@link tanh}; infinite at -1 and 1, NaN beyond. */
export const atanh: UnaryFunction = /* @__PURE__ */ unary("atanh");

/** `sin(pi x) / (pi x)`, 1 at 0. */
export const sinc: UnaryFunction = /* @__PURE__ */ unary("sinc");

/** Logarithm to base 10. */
export const log10: UnaryFunction = /* @__PURE__ */ unary("log10");

/** `2^x`. */
export const exp2: UnaryFunction = /* @__PURE__ */ unary("exp2");

/** Logarithm to base 2, exact for powers of two. */
export const log2: UnaryFunction = /* @__PURE__ */ unary("log2");

/** `log(1 + x)`, with all digits beside 0. */
export const log1p: UnaryFunction = /* @__PURE__ */ unary("log1p");

/** `e^x - 1`, with all digits beside 0. */
export const expm1: UnaryFunction = /* @__PURE__ */ unary("expm1");

/** Error function. */
export const erf: UnaryFunction = /* @__PURE__ */ unary("erf");

/** `1 - erf(x)`, with all digits for large `x`; 0 above 9.32. */
export const erfc: UnaryFunction = /* @__PURE__ */ unary("erfc");

/** Largest whole number up to `x`; its gradient is 0 everywhere. */
export const floor: UnaryFunction = /* @__PURE__ */ unary("floor");

/** Smallest whole number from `x`; its gradient is 0 everywhere. */
export const ceil: UnaryFunction = /* @__PURE__ */ unary("ceil");

/** Nearest whole number, halves to the even one; its gradient is 0 everywhere. */
export const round: UnaryFunction = /* @__PURE__ */ unary("round");

/** `x` without its fraction; its gradient is 0 everywhere. */
export const trunc: UnaryFunction = /* @__PURE__ */ unary("trunc");

/** 1 where `x` is NaN, else 0: a mask as comparisons give it, without a gradient. */
export const isnan: UnaryFunction = /* @__PURE__ */ unary("isnan");

/** 1 where `x` is infinite, else 0: a mask as comparisons give it, without a gradient. */
export const isinf: UnaryFunction = /* @__PURE__ */ unary("isinf");

/** 1 where `x` is neither infinite nor NaN, else 0: a mask as comparisons give it. */
export const isfinite: UnaryFunction = /* @__PURE__ */ unary("isfinite");

interface NanAttrs {
  readonly nan: number;
  readonly posinf?: number;
  readonly neginf?: number;
}

/** Largest finite value. */
const LARGEST = { f32: 3.4028234663852886e38, f16: 65504 } as const;

const nanToNumOp = /* @__PURE__ */ defineOp<NanAttrs>({
  name: "nanToNum",
  half: true,
  strided: true,
  forward([x], { nan, posinf, neginf }, save) {
    const y = x.device.empty(x.shape, x.dtype);
    const top = LARGEST[x.dtype as "f32" | "f16"];
    const infinite = "(bitcast<Bits>(a) & Bits(0x7fffffffu)) == Bits(0x7f800000u)";
    elementwise(y, [x, x.device.full([], nan, x.dtype)], {
      expression: `select(select(a, select(T(params.beta), T(params.alpha), a > T(0.0)), ` +
        `${infinite}), b, is_nan_$V(a))`,
      alpha: posinf ?? top,
      beta: neginf ?? -top,
    });
    save(x);
    return [y];
  },
  backward({ grads: [dy], saved: [x] }) {
    const dx = dy!.device.empty(dy!.shape, dy!.dtype);
    const finite = "(bitcast<Bits>(a) & Bits(0x7fffffffu)) < Bits(0x7f800000u)";
    elementwise(dx, [x, dy!], { expression: `select(T(0.0), b, ${finite})` });
    return [dx];
  },
  reference: {
    forward: ([x], { nan, posinf = LARGEST.f32, neginf = -LARGEST.f32 }) => [
      refFrom(x.shape, (i) => {
        const a = x.data[i];
        return Number.isNaN(a) ? nan : Number.isFinite(a) ? a : a > 0 ? posinf : neginf;
      }),
    ],
    backward: (
      [x],
      _,
      [dy],
    ) => [refFrom(x.shape, (i) => Number.isFinite(x.data[i]) ? dy.data[i] : 0)],
  },
});

/** Options of {@link nanToNum}. */
export interface NanToNumOptions {
  /** What stands for NaN; default 0. */
  readonly nan?: number;
  /** What stands for infinity; default the largest finite value of the element type. */
  readonly posinf?: number;
  /** What stands for negative infinity; default the smallest finite value. */
  readonly neginf?: number;
}

/**
 * `x` with numbers in place of NaN and infinities, through which no gradient flows.
 *
 * @param x f32 or f16
 * @throws {ShapeError} if `x` is of integers, or an option is no finite number.
 */
export function nanToNum(x: Tensor, options: NanToNumOptions = {}): Tensor {
  needTensors("nanToNum", { x });
  needOptions("nanToNum", options, ["nan", "posinf", "neginf"]);
  for (const [name, value] of Object.entries(options)) {
    if (value !== undefined) needNumber("nanToNum", name, value);
  }
  if (!isFloat(x.dtype)) throw new ShapeError(`nanToNum: ${kindOf(x)} has no NaN`);
  const { nan = 0, posinf, neginf } = options;
  return nanToNumOp.apply([x], { nan, posinf, neginf })[0];
}
