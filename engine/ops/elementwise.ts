/**
 * Elementwise arithmetic with broadcasting. One table row per op: WGSL and TypeScript side by side.
 *
 * @module
 */
import { defineOp, type Op, type Sample } from "../op.ts";
import { refBroadcast, refFrom, refRandom, refUnbroadcast } from "../reference.ts";
import { broadcastShapes, sameShape, type Shape } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { sumTo } from "./reduce.ts";
import { elementwise } from "./launch.ts";

interface UnaryRow {
  /** WGSL of f(a). */
  readonly wgsl: string;
  /** WGSL of the gradient: a is the input, or the output with `fromOutput`; b is the incoming gradient. */
  readonly gradient: string;
  /** Whether the gradient is computed from the output, which is then what is saved. */
  readonly fromOutput?: boolean;
  readonly f: (a: number) => number;
  readonly df: (a: number) => number;
  /** Inputs that stress it. */
  readonly values: readonly number[];
  readonly tolerance?: number;
}

function erf(x: number): number {
  // Series for small |x|, continued fraction for large: both to float64 rounding.
  const z = Math.abs(x);
  if (z < 2.5) {
    let term = z;
    let sum = z;
    for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
      term *= -z * z / n;
      sum += term / (2 * n + 1);
    }
    return Math.sign(x) * 2 / Math.sqrt(Math.PI) * sum;
  }
  let fraction = 0;
  for (let k = 60; k > 0; k--) fraction = k / 2 / (z + fraction);
  return Math.sign(x) * (1 - Math.exp(-z * z) / Math.sqrt(Math.PI) / (z + fraction));
}

/** Standard normal distribution function in float64. */
const phi = (a: number): number => 0.5 * (1 + erf(a / Math.SQRT2));

const logistic = (a: number): number =>
  a < 0 ? Math.exp(a) / (1 + Math.exp(a)) : 1 / (1 + Math.exp(-a));

/** 2u of the tanh form of GELU: u = sqrt(2 / pi) (a + 0.044715 a^3). */
const GELU_TANH_2U = "(a * (1.59576912 + 0.07135481 * a * a))";
const geluTanh2u = (a: number): number => Math.sqrt(8 / Math.PI) * (a + 0.044715 * a ** 3);

const UNARY = {
  neg: { wgsl: "-a", gradient: "-b", f: (a) => -a, df: () => -1, values: [0, 1e30, -1e30] },
  exp: {
    wgsl: "exp_$V(a)",
    gradient: "a * b",
    fromOutput: true,
    f: Math.exp,
    df: Math.exp,
    values: [0, -80, 20, 1e-8],
  },
  log: {
    wgsl: "log_$V(a)",
    gradient: "b / a",
    f: Math.log,
    df: (a) => 1 / a,
    values: [1e-30, 1, 1e30, 0.5, 2],
  },
  sqrt: {
    wgsl: "sqrt(a)",
    gradient: "b / (2.0 * a)",
    fromOutput: true,
    f: Math.sqrt,
    df: (a) => 0.5 / Math.sqrt(a),
    values: [1e-20, 1, 1e20],
  },
  square: {
    wgsl: "a * a",
    gradient: "2.0 * a * b",
    f: (a) => a * a,
    df: (a) => 2 * a,
    values: [0, 1e10, -3],
  },
  relu: {
    wgsl: "max(a, T(0.0))",
    gradient: "select(T(0.0), b, a > T(0.0))",
    f: (a) => Math.max(a, 0),
    df: (a) => a > 0 ? 1 : 0,
    values: [1e20, -1e20, 1e-20],
  },
  tanh: {
    wgsl: "tanh_$V(a)",
    gradient: "b * (1.0 - a * a)",
    fromOutput: true,
    f: Math.tanh,
    df: (a) => 1 - Math.tanh(a) ** 2,
    values: [0, 10, -10, 1e-4],
    // 1 - y*y cancels for |x| near 1.
    tolerance: 4e-6,
  },
  gelu: {
    wgsl: "gelu_$V(a)",
    gradient: "b * gelu_grad_$V(a)",
    f: (a) => a * phi(a),
    df: (a) => phi(a) + a * Math.exp(-a * a / 2) / Math.sqrt(2 * Math.PI),
    values: [0, 5, -5, 30, -30, 0.75, -0.75],
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
    values: [0, 5, -5, 30, -30, 0.75, -0.75],
  },
  sigmoid: {
    wgsl: "1.0 / (1.0 + exp_$V(-a))",
    gradient: "b / (1.0 + exp_$V(-a)) / (1.0 + exp_$V(a))",
    f: (a) => logistic(a),
    df: (a) => logistic(a) * logistic(-a),
    values: [0, 30, -30, 200, -200, 1e-6],
  },
  silu: {
    wgsl: "a / (1.0 + exp_$V(-a))",
    gradient: "b / (1.0 + exp_$V(-a)) * (1.0 + a / (1.0 + exp_$V(a)))",
    f: (a) => a * logistic(a),
    df: (a) => logistic(a) * (1 + a * logistic(-a)),
    values: [0, 30, -30, 200, -200, -1.278],
  },
  abs: {
    wgsl: "abs(a)",
    gradient: "b * sign(a)",
    f: Math.abs,
    df: Math.sign,
    values: [0, 1e30, -1e30, -1e-30],
  },
  sign: {
    wgsl: "sign(a)",
    gradient: "T(0.0)",
    f: Math.sign,
    df: () => 0,
    values: [0, 1e30, -1e30, -1e-30],
  },
  rsqrt: {
    wgsl: "inverseSqrt(a)",
    gradient: "-0.5 * a * a * a * b",
    fromOutput: true,
    f: (a) => 1 / Math.sqrt(a),
    df: (a) => -0.5 / (a * Math.sqrt(a)),
    values: [1e-20, 1, 1e20],
  },
  reciprocal: {
    wgsl: "1.0 / a",
    gradient: "-a * a * b",
    fromOutput: true,
    f: (a) => 1 / a,
    df: (a) => -1 / (a * a),
    values: [1e-15, -3, 7, 1e15],
  },
} as const satisfies Record<string, UnaryRow>;

/** Defined for positive values only, or steep beside 0. */
const POSITIVE = new Set(["log", "sqrt", "rsqrt", "reciprocal"]);

function defineUnary(name: keyof typeof UNARY): Op<null> {
  const row: UnaryRow = UNARY[name];
  const positive = POSITIVE.has(name);
  return defineOp<null>({
    name,
    strided: true,
    forward([x], _, save) {
      const y = x.device.empty(x.shape);
      elementwise(y, [x], { expression: row.wgsl });
      save(row.fromOutput ? y : x);
      return [y];
    },
    backward({ grads: [dy], saved: [s] }) {
      const dx = dy!.device.empty(dy!.shape);
      elementwise(dx, [s, dy!], { expression: row.gradient });
      return [dx];
    },
    reference: {
      forward: ([x]) => [refFrom(x.shape, (i) => row.f(x.data[i]))],
      backward: ([x], _, [dy]) => [refFrom(x.shape, (i) => row.df(x.data[i]) * dy.data[i])],
    },
    samples: () => [
      ...[[1], [3, 7], [4, 8]].map((shape, seed): Sample<null> => ({
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
        tolerance: row.tolerance,
      })),
      {
        label: "extreme",
        inputs: [refFrom([row.values.length], (i) => Math.fround(row.values[i]))],
        attrs: null,
        tolerance: row.tolerance,
        skipDifferences: true,
      },
    ],
  });
}

interface BinaryRow {
  readonly wgsl: string;
  /** WGSL of the gradients: a, b are the inputs, c the incoming gradient. */
  readonly gradients: readonly [string, string];
  readonly f: (a: number, b: number) => number;
  readonly df: (a: number, b: number) => readonly [number, number];
}

const BCE_E = "exp_$V(-abs(a))";

const BINARY = {
  add: { wgsl: "a + b", gradients: ["c", "c"], f: (a, b) => a + b, df: () => [1, 1] },
  sub: { wgsl: "a - b", gradients: ["c", "-c"], f: (a, b) => a - b, df: () => [1, -1] },
  mul: { wgsl: "a * b", gradients: ["b * c", "a * c"], f: (a, b) => a * b, df: (a, b) => [b, a] },
  div: {
    wgsl: "a / b",
    gradients: ["c / b", "-a * c / (b * b)"],
    f: (a, b) => a / b,
    df: (a, b) => [1 / b, -a / (b * b)],
  },
  maximum: {
    wgsl: "max(a, b)",
    gradients: [
      "select(select(T(0.0), 0.5 * c, a == b), c, a > b)",
      "select(select(T(0.0), 0.5 * c, a == b), c, b > a)",
    ],
    f: Math.max,
    df: (a, b) => a === b ? [0.5, 0.5] : [+(a > b), +(b > a)],
  },
  minimum: {
    wgsl: "min(a, b)",
    gradients: [
      "select(select(T(0.0), 0.5 * c, a == b), c, a < b)",
      "select(select(T(0.0), 0.5 * c, a == b), c, b < a)",
    ],
    f: Math.min,
    df: (a, b) => a === b ? [0.5, 0.5] : [+(a < b), +(b < a)],
  },
  bceWithLogits: {
    // max(a, 0) - a b + log(1 + e), e = exp(-|a|); a series for small e, whose digits 1 + e would drop.
    wgsl: `max(a, T(0.0)) - a * b + select(log_$V(1.0 + ${BCE_E}), ${BCE_E} * (1.0 - ${BCE_E} * ` +
      `(0.5 - ${BCE_E} * (0.333333333 - ${BCE_E} * (0.25 - ${BCE_E} * (0.2 - ${BCE_E} * ` +
      `(0.166666667 - ${BCE_E} * 0.142857143)))))), ${BCE_E} < T(0.1))`,
    gradients: ["c * (1.0 / (1.0 + exp_$V(-a)) - b)", "-a * c"],
    f: (a, b) => Math.max(a, 0) - a * b + Math.log1p(Math.exp(-Math.abs(a))),
    df: (a, b) => [logistic(a) - b, -a],
  },
} as const satisfies Record<string, BinaryRow>;

function defineBinary(name: keyof typeof BINARY): Op<null> {
  const row: BinaryRow = BINARY[name];
  const plain = name === "add" || name === "sub";
  const pairs: [Shape, Shape][] = [
    [[1], [1]],
    [[3, 7], [7]],
    [[2, 1, 5], [3, 1]],
    [[4, 8], [4, 1]],
    [[5, 4], []],
    [[8], [3, 8]],
  ];
  return defineOp<null>({
    name,
    strided: true,
    forward([a, b], _, save) {
      const y = a.device.empty(broadcastShapes(name, a.shape, b.shape));
      elementwise(y, [a, b], { expression: row.wgsl });
      if (!plain) {
        save(a);
        save(b);
      }
      return [y];
    },
    backward({ grads: [dy], saved, shapes, needs }) {
      return shapes.map((shape, i) => {
        if (!needs[i]) return undefined;
        let gradient = dy!;
        if (row.gradients[i] !== "c") {
          gradient = dy!.device.empty(dy!.shape);
          const operands = plain ? [dy!, dy!, dy!] : [saved[0], saved[1], dy!];
          elementwise(gradient, operands, { expression: row.gradients[i] });
        }
        return sameShape(shape, gradient.shape) ? gradient : sumTo(gradient, shape);
      });
    },
    reference: {
      forward([a, b]) {
        const shape = broadcastShapes(name, a.shape, b.shape);
        const [x, y] = [refBroadcast(a, shape), refBroadcast(b, shape)];
        return [refFrom(shape, (i) => row.f(x[i], y[i]))];
      },
      backward([a, b], _, [dy]) {
        const [x, y] = [refBroadcast(a, dy.shape), refBroadcast(b, dy.shape)];
        const parts = [0, 1].map((side) => dy.data.map((g, i) => g * row.df(x[i], y[i])[side]));
        return [
          refUnbroadcast(parts[0], dy.shape, a.shape),
          refUnbroadcast(parts[1], dy.shape, b.shape),
        ];
      },
    },
    samples: () => [
      {
        label: "ties and extremes",
        inputs: [
          { shape: [6], data: Float64Array.of(1, 2, -3, 90, -90, 4) },
          { shape: [6], data: Float64Array.of(1, 2, -3, 1, 0.5, -4) },
        ],
        attrs: null,
        skipDifferences: true,
      },
      ...pairs.map(([left, right], seed): Sample<null> => ({
        label: `[${left}] with [${right}]`,
        inputs: [
          refRandom(left, seed),
          // Away from 0, so that quotients stay well conditioned.
          refFrom(
            right,
            ((r) => (i) => Math.fround(r[i] + Math.sign(r[i]) * 0.5))(
              refRandom(right, seed + 50).data,
            ),
          ),
        ],
        attrs: null,
      })),
    ],
  });
}

const unary = Object.fromEntries(
  Object.keys(UNARY).map((name) => [name, defineUnary(name as keyof typeof UNARY)]),
) as Record<keyof typeof UNARY, Op<null>>;
const binary = Object.fromEntries(
  Object.keys(BINARY).map((name) => [name, defineBinary(name as keyof typeof BINARY)]),
) as Record<keyof typeof BINARY, Op<null>>;

const operand = (like: Tensor, value: Tensor | number): Tensor =>
  typeof value === "number" ? like.device.full([], value) : value;

/** `a + b` with broadcasting; `b` may be a number. */
export function add(a: Tensor, b: Tensor | number): Tensor {
  return binary.add.apply([a, operand(a, b)], null)[0];
}

/** `a - b` with broadcasting. */
export function sub(a: Tensor, b: Tensor | number): Tensor {
  return binary.sub.apply([a, operand(a, b)], null)[0];
}

/** `a * b` with broadcasting. */
export function mul(a: Tensor, b: Tensor | number): Tensor {
  return binary.mul.apply([a, operand(a, b)], null)[0];
}

/** `a / b` with broadcasting. */
export function div(a: Tensor, b: Tensor | number): Tensor {
  return binary.div.apply([a, operand(a, b)], null)[0];
}

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

/** Exact GELU, `x * Phi(x)` with the error function (SPEC section 2.1). */
export function gelu(x: Tensor): Tensor {
  return unary.gelu.apply([x], null)[0];
}

/** GELU in its tanh form, `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`; {@link gelu} is the exact one. */
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

/** Larger of two values with broadcasting; equal values share the gradient. */
export function maximum(a: Tensor, b: Tensor | number): Tensor {
  return binary.maximum.apply([a, operand(a, b)], null)[0];
}

/** Smaller of two values with broadcasting; equal values share the gradient. */
export function minimum(a: Tensor, b: Tensor | number): Tensor {
  return binary.minimum.apply([a, operand(a, b)], null)[0];
}

/**
 * Binary cross-entropy of logits, `-t log sigmoid(x) - (1 - t) log(1 - sigmoid(x))` per element, with broadcasting
 * and without overflow; take the mean of it for a loss.
 *
 * @param logits x, any real numbers
 * @param targets t, in 0..1
 */
export function bceWithLogits(logits: Tensor, targets: Tensor | number): Tensor {
  return binary.bceWithLogits.apply([logits, operand(logits, targets)], null)[0];
}
