/**
 * Elementwise functions of one tensor, one row per op: WGSL and TypeScript side by side.
 *
 * @module
 */
import { refErf, refErfc, refPhi } from "../reference.ts";

/** A function of one number. */
export interface UnaryRow {
  /** WGSL of f(a). */
  readonly wgsl: string;
  /** The same for u32 and i32; operands of integers become f32 where there is none. */
  readonly integer?: string;
  /**
   * WGSL of the gradient, none where there is none: a is the input, or the output with
   * `fromOutput`; b is the incoming gradient.
   */
  readonly gradient?: string;
  /** Whether the gradient is computed from the output, which is then what is saved. */
  readonly fromOutput?: boolean;
  /** The function in float64. */
  readonly f: (a: number) => number;
  /** Its derivative in float64. */
  readonly df?: (a: number) => number;
}

const logistic = (a: number): number =>
  a < 0 ? Math.exp(a) / (1 + Math.exp(a)) : 1 / (1 + Math.exp(-a));

const normalDensity = (a: number): number => Math.exp(-a * a / 2) / Math.sqrt(2 * Math.PI);

const halfToEven = (a: number): number =>
  Math.abs(a % 1) === 0.5 ? 2 * Math.round(a / 2) : Math.round(a);

/**
 * 2u of the tanh form of GELU: u = sqrt(2 / pi) (a + 0.044715 a^3), of which a kernel takes e^2u:
 * digits that are cut from the factors are digits of the result.
 */
const [GELU_TANH_1, GELU_TANH_3] = [Math.sqrt(8 / Math.PI), Math.sqrt(8 / Math.PI) * 0.044715];
const GELU_TANH_2U = `(a * (${GELU_TANH_1} + ${GELU_TANH_3} * a * a))`;
/** What is left of a where its gradient is not 0 or 1, so that its cube is finite. */
const NEAR = "clamp(a, T(-20.0), T(20.0))";
const geluTanh2u = (a: number): number => a * (GELU_TANH_1 + GELU_TANH_3 * a * a);

/** Of {@link UNARY}'s mish. */
const MISH_E = "exp_$V(min(a, T(20.0)))";
const MISH_N = `(${MISH_E} * (${MISH_E} + 2.0))`;
const mishTanh = (a: number): number => {
  const e = Math.exp(Math.min(a, 20));
  return e * (e + 2) / (e * (e + 2) + 2);
};

/** (Klambauer et al., arXiv:1706.02515). */
const SELU = 1.0507009873554805;
const SELU_ALPHA = 1.6732632423543772;

/** pi a without half turns, and the sign that these make. */
const SINC_TURN = "3.14159265 * (a - round(a))";
const SINC_SIGN = "(1.0 - 2.0 * (round(a) - 2.0 * floor(0.5 * round(a))))";

const SIGN = "select(sign(a), a, is_nan_$V(a))";

/** WGSL of 1 where a condition holds, else 0. */
const mask = (condition: string): string => `select(T(0.0), T(1.0), ${condition})`;

/** The functions by name. */
export const UNARY = {
  neg: { wgsl: "-a", integer: "T(0) - a", gradient: "-b", f: (a) => -a, df: () => -1 },
  exp: {
    wgsl: "exp_$V(a)",
    gradient: "a * b",
    fromOutput: true,
    f: Math.exp,
    df: Math.exp,
  },
  log: {
    wgsl: "log_$V(a)",
    gradient: "b / a",
    f: Math.log,
    df: (a) => 1 / a,
  },
  sqrt: {
    wgsl: "sqrt(a)",
    gradient: "b / (2.0 * a)",
    fromOutput: true,
    f: Math.sqrt,
    df: (a) => 0.5 / Math.sqrt(a),
  },
  square: {
    wgsl: "a * a",
    integer: "a * a",
    gradient: "2.0 * a * b",
    f: (a) => a * a,
    df: (a) => 2 * a,
  },
  relu: {
    wgsl: "select(max(a, T(0.0)), a, is_nan_$V(a))",
    integer: "max(a, T(0))",
    gradient: "select(select(T(0.0), b, a > T(0.0)), a, is_nan_$V(a))",
    f: (a) => Math.max(a, 0),
    df: (a) => Number.isNaN(a) ? NaN : +(a > 0),
  },
  tanh: {
    wgsl: "tanh_$V(a)",
    gradient: "b * (1.0 - a * a)",
    fromOutput: true,
    f: Math.tanh,
    df: (a) => 1 - Math.tanh(a) ** 2,
  },
  gelu: {
    wgsl: "gelu_$V(a)",
    gradient: "b * gelu_grad_$V(a)",
    f: (a) => a === -Infinity ? 0 : a * refPhi(a),
    df: (a) => refPhi(a) + Math.max(-50, Math.min(a, 50)) * normalDensity(a),
  },
  geluTanh: {
    // 0.5 (1 + tanh u) = 1 / (1 + e^(-2u)), which keeps its digits for negative a.
    wgsl: `a / (1.0 + exp_$V(-${GELU_TANH_2U}))`,
    gradient: `b / (1.0 + exp_$V(-${GELU_TANH_2U})) * ` +
      `(1.0 + ${NEAR} * (${GELU_TANH_1} + ${3 * GELU_TANH_3} * ${NEAR} * ${NEAR}) / ` +
      `(1.0 + exp_$V(${GELU_TANH_2U})))`,
    f: (a) => a * logistic(geluTanh2u(a)),
    df: (a) => {
      if (Math.abs(a) > 20) return +(a > 0);
      const s = logistic(geluTanh2u(a));
      const slope = GELU_TANH_1 + 3 * GELU_TANH_3 * a * a;
      return s * (1 + a * slope * logistic(-geluTanh2u(a)));
    },
  },
  sigmoid: {
    wgsl: "1.0 / (1.0 + exp_$V(-a))",
    gradient: "b / (1.0 + exp_$V(-a)) / (1.0 + exp_$V(a))",
    f: (a) => logistic(a),
    df: (a) => logistic(a) * logistic(-a),
  },
  silu: {
    wgsl: "a / (1.0 + exp_$V(-a))",
    gradient: "b / (1.0 + exp_$V(-a)) * (1.0 + a / (1.0 + exp_$V(a)))",
    f: (a) => a * logistic(a),
    df: (a) => logistic(a) * (1 + a * logistic(-a)),
  },
  softplus: {
    wgsl: "select(max(a, T(0.0)), a, is_nan_$V(a)) + log1p_$V(exp_$V(-abs(a)))",
    gradient: "b / (1.0 + exp_$V(-a))",
    f: (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a))),
    df: logistic,
  },
  mish: {
    // With e = e^a, tanh(log(1 + e)) is n / (n + 2), n = e (e + 2); for a > 20 it is 1.
    wgsl: `a * (${MISH_N} / (${MISH_N} + 2.0))`,
    gradient: `b * (${MISH_N} / (${MISH_N} + 2.0) + 4.0 * ${NEAR} * (${MISH_N} + 1.0) / ` +
      `((${MISH_N} + 2.0) * (${MISH_N} + 2.0)) / (1.0 + exp_$V(-a)))`,
    f: (a) => a * mishTanh(a),
    df: (a) => mishTanh(a) + Math.max(-50, Math.min(a, 50)) * (1 - mishTanh(a) ** 2) * logistic(a),
  },
  hardswish: {
    wgsl: "a * (clamp(a + 3.0, T(0.0), T(6.0)) / 6.0)",
    gradient: "select(select(b * (a / 3.0 + 0.5), b, a > T(3.0)), T(0.0), a < T(-3.0))",
    f: (a) => a * Math.max(0, Math.min(a + 3, 6)) / 6,
    df: (a) => a < -3 ? 0 : a > 3 ? 1 : a / 3 + 0.5,
  },
  softsign: {
    wgsl: "a / (1.0 + abs(a))",
    gradient: "b / ((1.0 + abs(a)) * (1.0 + abs(a)))",
    f: (a) => a / (1 + Math.abs(a)),
    df: (a) => 1 / (1 + Math.abs(a)) ** 2,
  },
  relu6: {
    wgsl: "select(clamp(a, T(0.0), T(6.0)), a, is_nan_$V(a))",
    gradient: "select(select(T(0.0), b, (a > T(0.0)) & (a < T(6.0))), a, is_nan_$V(a))",
    f: (a) => Math.max(0, Math.min(a, 6)),
    df: (a) => Number.isNaN(a) ? NaN : +(a > 0 && a < 6),
  },
  hardsigmoid: {
    wgsl: "select(clamp(a + 3.0, T(0.0), T(6.0)) / 6.0, a, is_nan_$V(a))",
    gradient: "select(select(T(0.0), b / 6.0, abs(a) < T(3.0)), a, is_nan_$V(a))",
    f: (a) => Math.max(0, Math.min(a + 3, 6)) / 6,
    df: (a) => Number.isNaN(a) ? NaN : Math.abs(a) < 3 ? 1 / 6 : 0,
  },
  selu: {
    wgsl: "select(1.75809934 * expm1_$V(a), 1.05070099 * a, a > T(0.0))",
    gradient: "b * select(1.75809934 * exp_$V(a), T(1.05070099), a > T(0.0))",
    f: (a) => a > 0 ? SELU * a : SELU * SELU_ALPHA * Math.expm1(a),
    df: (a) => a > 0 ? SELU : SELU * SELU_ALPHA * Math.exp(a),
  },
  logSigmoid: {
    wgsl: "select(min(a, T(0.0)), a, is_nan_$V(a)) - log1p_$V(exp_$V(-abs(a)))",
    gradient: "b / (1.0 + exp_$V(a))",
    f: (a) => Math.min(a, 0) - Math.log1p(Math.exp(-Math.abs(a))),
    df: (a) => logistic(-a),
  },
  abs: {
    wgsl: "abs(a)",
    integer: "abs(a)",
    gradient: `b * ${SIGN}`,
    f: Math.abs,
    df: Math.sign,
  },
  sign: {
    wgsl: SIGN,
    gradient: "select(T(0.0), a, is_nan_$V(a))",
    f: Math.sign,
    df: (a) => Number.isNaN(a) ? NaN : 0,
  },
  rsqrt: {
    wgsl: "inverseSqrt(a)",
    gradient: "-0.5 * a * a * a * b",
    fromOutput: true,
    f: (a) => 1 / Math.sqrt(a),
    df: (a) => -0.5 / (a * Math.sqrt(a)),
  },
  reciprocal: {
    wgsl: "1.0 / a",
    gradient: "-a * a * b",
    fromOutput: true,
    f: (a) => 1 / a,
    df: (a) => -1 / (a * a),
  },
  sin: { wgsl: "sin_$V(a)", gradient: "b * cos_$V(a)", f: Math.sin, df: Math.cos },
  cos: { wgsl: "cos_$V(a)", gradient: "-b * sin_$V(a)", f: Math.cos, df: (a) => -Math.sin(a) },
  tan: {
    wgsl: "tan_$V(a)",
    gradient: "b * (1.0 + a * a)",
    fromOutput: true,
    f: Math.tan,
    df: (a) => 1 + Math.tan(a) ** 2,
  },
  asin: {
    wgsl: "asin_$V(a)",
    gradient: "b / sqrt((1.0 - a) * (1.0 + a))",
    f: Math.asin,
    df: (a) => 1 / Math.sqrt(1 - a * a),
  },
  acos: {
    wgsl: "acos_$V(a)",
    gradient: "-b / sqrt((1.0 - a) * (1.0 + a))",
    f: Math.acos,
    df: (a) => -1 / Math.sqrt(1 - a * a),
  },
  atan: {
    wgsl: "atan_$V(a)",
    gradient: "b / (1.0 + a * a)",
    f: Math.atan,
    df: (a) => 1 / (1 + a * a),
  },
  sinh: { wgsl: "sinh_$V(a)", gradient: "b * cosh_$V(a)", f: Math.sinh, df: Math.cosh },
  cosh: { wgsl: "cosh_$V(a)", gradient: "b * sinh_$V(a)", f: Math.cosh, df: Math.sinh },
  asinh: {
    // log(t + sqrt(1 + t^2)), t = |a|, as log1p; for a large t its square is infinite.
    wgsl: `${SIGN} * select(log1p_$V(abs(a) + abs(a) * (abs(a) / (1.0 + sqrt(1.0 + a * a)))), ` +
      "log_$V(abs(a)) + 0.69314718, abs(a) > T(1e9))",
    gradient: "b / select(sqrt(1.0 + a * a), abs(a), abs(a) > T(1e9))",
    f: Math.asinh,
    df: (a) => 1 / Math.hypot(1, a),
  },
  acosh: {
    // log(a + sqrt(a^2 - 1)) as log1p of t + sqrt(t (t + 2)), t = a - 1; NaN below 1.
    wgsl: "select(log1p_$V(a - 1.0 + sqrt(a - 1.0) * sqrt(a + 1.0)), log_$V(a) + 0.69314718, " +
      "a > T(1e9))",
    gradient: "b / select(sqrt(a - 1.0) * sqrt(a + 1.0), a, a > T(1e9))",
    f: Math.acosh,
    df: (a) => a < 1 ? NaN : a > 1e9 ? 1 / a : 1 / Math.sqrt((a - 1) * (a + 1)),
  },
  atanh: {
    wgsl: `0.5 * ${SIGN} * log1p_$V(2.0 * abs(a) / (1.0 - abs(a)))`,
    gradient: "b / ((1.0 - a) * (1.0 + a))",
    f: Math.atanh,
    df: (a) => 1 / ((1 - a) * (1 + a)),
  },
  sinc: {
    wgsl: `select(${SINC_SIGN} * sin_$V(${SINC_TURN}) / (3.14159265 * a), T(1.0), a == T(0.0))`,
    gradient: `b * select(${SINC_SIGN} * (cos_$V(${SINC_TURN}) - sin_$V(${SINC_TURN}) / ` +
      "(3.14159265 * a)) / a, -3.28986813 * a * (1.0 - a * a * (0.98696044 - a * a * " +
      "(0.34788961 - a * a * 0.06358394))), abs(a) < T(0.25))",
    f: (a) => {
      const half = Math.round(a);
      const sine = Math.sin(Math.PI * (a - half)) * (half % 2 === 0 ? 1 : -1);
      return a === 0 ? 1 : sine / (Math.PI * a);
    },
    df: (a) => {
      const x = Math.PI * a;
      if (Math.abs(a) < 0.01) return -Math.PI * x / 3 * (1 - x * x / 10 * (1 - x * x / 28));
      return (Math.cos(Math.PI * (a % 2)) - Math.sin(Math.PI * (a % 2)) / x) / a;
    },
  },
  log10: {
    wgsl: "log_$V(a) * 0.43429448",
    gradient: "0.43429448 * b / a",
    f: Math.log10,
    df: (a) => 1 / (a * Math.LN10),
  },
  exp2: {
    wgsl: "exp2_$V(a)",
    gradient: "0.69314718 * a * b",
    fromOutput: true,
    f: (a) => 2 ** a,
    df: (a) => Math.LN2 * 2 ** a,
  },
  log2: {
    wgsl: "log2_$V(a)",
    gradient: "1.44269504 * b / a",
    f: Math.log2,
    df: (a) => 1 / (a * Math.LN2),
  },
  log1p: {
    wgsl: "log1p_$V(a)",
    gradient: "b / (1.0 + a)",
    f: Math.log1p,
    df: (a) => 1 / (1 + a),
  },
  expm1: { wgsl: "expm1_$V(a)", gradient: "b * exp_$V(a)", f: Math.expm1, df: Math.exp },
  erf: {
    wgsl: "erf_$V(a)",
    gradient: "1.12837917 * b * gauss_$V(a)",
    f: refErf,
    df: (a) => 2 / Math.sqrt(Math.PI) * Math.exp(-a * a),
  },
  erfc: {
    wgsl: "erfc_$V(a)",
    gradient: "-1.12837917 * b * gauss_$V(a)",
    f: refErfc,
    df: (a) => -2 / Math.sqrt(Math.PI) * Math.exp(-a * a),
  },
  floor: { wgsl: "floor(a)", integer: "a", gradient: "T(0.0)", f: Math.floor, df: () => 0 },
  ceil: { wgsl: "ceil(a)", integer: "a", gradient: "T(0.0)", f: Math.ceil, df: () => 0 },
  round: { wgsl: "round(a)", integer: "a", gradient: "T(0.0)", f: halfToEven, df: () => 0 },
  trunc: { wgsl: "trunc(a)", integer: "a", gradient: "T(0.0)", f: Math.trunc, df: () => 0 },
  isnan: { wgsl: mask("is_nan_$V(a)"), f: (a) => +Number.isNaN(a) },
  isinf: {
    wgsl: mask("(bitcast<Bits>(a) & Bits(0x7fffffffu)) == Bits(0x7f800000u)"),
    f: (a) => +(Math.abs(a) === Infinity),
  },
  isfinite: {
    wgsl: mask("(bitcast<Bits>(a) & Bits(0x7fffffffu)) < Bits(0x7f800000u)"),
    f: (a) => +Number.isFinite(a),
  },
} as const satisfies Record<string, UnaryRow>;
