/**
 * Elementwise functions of one tensor. One table row per op: WGSL and TypeScript side by side.
 *
 * @module
 */
import { defineOp, type Op } from "../op.ts";
import { refFrom, refPhi } from "../reference.ts";
import type { Tensor } from "../tensor.ts";
import { elementwise } from "../launch/elementwise.ts";

interface UnaryRow {
  /** WGSL of f(a). */
  readonly wgsl: string;
  /**
   * WGSL of the gradient: a is the input, or the output with `fromOutput`; b is the incoming
   * gradient.
   */
  readonly gradient: string;
  /** Whether the gradient is computed from the output, which is then what is saved. */
  readonly fromOutput?: boolean;
  readonly f: (a: number) => number;
  readonly df: (a: number) => number;
}

const logistic = (a: number): number =>
  a < 0 ? Math.exp(a) / (1 + Math.exp(a)) : 1 / (1 + Math.exp(-a));

/** 2u of the tanh form of GELU: u = sqrt(2 / pi) (a + 0.044715 a^3). */
const GELU_TANH_2U = "(a * (1.59576912 + 0.07135481 * a * a))";
const geluTanh2u = (a: number): number => Math.sqrt(8 / Math.PI) * (a + 0.044715 * a ** 3);

const SIGN = "select(sign(a), a, is_nan_$V(a))";

const UNARY = {
  neg: { wgsl: "-a", gradient: "-b", f: (a) => -a, df: () => -1 },
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
    gradient: "2.0 * a * b",
    f: (a) => a * a,
    df: (a) => 2 * a,
  },
  relu: {
    wgsl: "select(max(a, T(0.0)), a, is_nan_$V(a))",
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
    f: (a) => a * refPhi(a),
    df: (a) => refPhi(a) + a * Math.exp(-a * a / 2) / Math.sqrt(2 * Math.PI),
  },
  geluTanh: {
    // 0.5 (1 + tanh u) = 1 / (1 + e^(-2u)), which keeps its digits for negative a.
    wgsl: `a / (1.0 + exp_$V(-${GELU_TANH_2U}))`,
    gradient: `b / (1.0 + exp_$V(-${GELU_TANH_2U})) * ` +
      `(1.0 + a * (1.59576912 + 0.21406543 * a * a) / (1.0 + exp_$V(${GELU_TANH_2U})))`,
    f: (a) => a * logistic(geluTanh2u(a)),
    df: (a) => {
      const s = logistic(geluTanh2u(a));
      const slope = Math.sqrt(8 / Math.PI) * (1 + 3 * 0.044715 * a * a);
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
  abs: {
    wgsl: "abs(a)",
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
} as const satisfies Record<string, UnaryRow>;

function defineUnary(name: keyof typeof UNARY): Op<null> {
  const row: UnaryRow = UNARY[name];
  return defineOp<null>({
    name,
    half: true,
    strided: true,
    forward([x], _, save) {
      const y = x.device.empty(x.shape, x.dtype);
      elementwise(y, [x], { expression: row.wgsl });
      save(row.fromOutput ? y : x);
      return [y];
    },
    backward({ grads: [dy], saved: [s] }) {
      const dx = dy!.device.empty(dy!.shape, dy!.dtype);
      elementwise(dx, [s, dy!], { expression: row.gradient });
      return [dx];
    },
    reference: {
      forward: ([x]) => [refFrom(x.shape, (i) => row.f(x.data[i]))],
      backward: ([x], _, [dy]) => [refFrom(x.shape, (i) => row.df(x.data[i]) * dy.data[i])],
    },
  });
}

const unary = Object.fromEntries(
  Object.keys(UNARY).map((name) => [name, defineUnary(name as keyof typeof UNARY)]),
) as Record<keyof typeof UNARY, Op<null>>;

/** `-x`. */
export function neg(x: Tensor): Tensor {
  return unary.neg.apply([x], null)[0];
}

/** `e^x`. */
export function exp(x: Tensor): Tensor {
  return unary.exp.apply([x], null)[0];
}

/** Natural logarithm. */
export function log(x: Tensor): Tensor {
  return unary.log.apply([x], null)[0];
}

/** Square root; the gradient at 0 is infinite. */
export function sqrt(x: Tensor): Tensor {
  return unary.sqrt.apply([x], null)[0];
}

/** `x * x`. */
export function square(x: Tensor): Tensor {
  return unary.square.apply([x], null)[0];
}

/** `max(x, 0)`; the gradient at 0 is 0. */
export function relu(x: Tensor): Tensor {
  return unary.relu.apply([x], null)[0];
}

/** Hyperbolic tangent. */
export function tanh(x: Tensor): Tensor {
  return unary.tanh.apply([x], null)[0];
}

/** Exact GELU, `x * Phi(x)` with the error function (Hendrycks and Gimpel, 2016). */
export function gelu(x: Tensor): Tensor {
  return unary.gelu.apply([x], null)[0];
}

/**
 * GELU in its tanh form, `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`; {@link gelu} is the
 * exact one.
 */
export function geluTanh(x: Tensor): Tensor {
  return unary.geluTanh.apply([x], null)[0];
}

/** Logistic function, `1 / (1 + e^-x)`. */
export function sigmoid(x: Tensor): Tensor {
  return unary.sigmoid.apply([x], null)[0];
}

/** `x * sigmoid(x)`, also called swish. */
export function silu(x: Tensor): Tensor {
  return unary.silu.apply([x], null)[0];
}

/** Absolute value; the gradient at 0 is 0. */
export function abs(x: Tensor): Tensor {
  return unary.abs.apply([x], null)[0];
}

/** -1, 0 or 1; its gradient is 0 everywhere. */
export function sign(x: Tensor): Tensor {
  return unary.sign.apply([x], null)[0];
}

/** `1 / sqrt(x)`. */
export function rsqrt(x: Tensor): Tensor {
  return unary.rsqrt.apply([x], null)[0];
}

/** `1 / x`. */
export function reciprocal(x: Tensor): Tensor {
  return unary.reciprocal.apply([x], null)[0];
}
