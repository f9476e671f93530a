/**
 * Elementwise arithmetic of two tensors, one row per op: WGSL and TypeScript side by side.
 *
 * @module
 */
import { extremum } from "../launch/elementwise.ts";

/** An elementwise op of two tensors. */
export interface BinaryRow {
  /** WGSL of f(a, b). */
  readonly wgsl: string;
  /**
   * The same for u32 and i32, which `$I` stands for; operands of integers become f32 where there is
   * none.
   */
  readonly integer?: string;
  /** WGSL of the gradients: a, b are the inputs, c the incoming gradient. */
  readonly gradients: readonly [string, string];
  /** The function in float64. */
  readonly f: (a: number, b: number) => number;
  /** Its derivatives by a and b in float64. */
  readonly df: (a: number, b: number) => readonly [number, number];
}

/** Gradient of the larger or smaller side `x`: all of it, half where both are equal, NaN at NaN. */
const sideOf = (x: string, symbol: "<" | ">", y: string): string =>
  `select(select(select(T(0.0), 0.5 * c, a == b), c, ${x} ${symbol} ${y}), a + b, ` +
  "is_nan_$V(a) | is_nan_$V(b))";
const sideSlope = (a: number, b: number, first: boolean): [number, number] =>
  Number.isNaN(a) || Number.isNaN(b) ? [NaN, NaN] : a === b ? [0.5, 0.5] : [+first, +!first];

/** a - b floor(a / b), as Python's %. */
function refMod(a: number, b: number): number {
  const rest = a % b;
  return rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest;
}

/** floor(a / b), as Python's //. */
function refFloorDiv(a: number, b: number): number {
  const rest = a % b;
  if (b === 0) return Number.isFinite(a) ? a / b : NaN;
  return Math.round((a - rest) / b) - +(rest !== 0 && rest < 0 !== b < 0);
}

/** C's pow: `1 ** NaN` and `(-1) ** Infinity` are 1. */
function refPow(a: number, b: number): number {
  return a === 1 || a === -1 && Math.abs(b) === Infinity ? 1 : a ** b;
}

/** Gradient c * x / (a^2 + b^2) for an `x` of a and b, without overflow; 0 where both are 0. */
function atan2Slope(c: string, x: string): string {
  const largest = "min(max(abs(a), abs(b)), T(3e38))";
  const [p, q] = [`(a / ${largest})`, `(b / ${largest})`];
  const slope = `${c} * (${x} / ${largest}) / (${p} * ${p} + ${q} * ${q}) / ${largest}`;
  return `select(${slope}, T(0.0), (a == T(0.0)) & (b == T(0.0)))`;
}

/** sqrt(1 + r^2) for the ratio r of the smaller of |a|, |b| to the larger one. */
const LARGER = "max(abs(a), abs(b))";
const RATIO = `(min(abs(a), abs(b)) / ${LARGER})`;
const STRETCH = `sqrt(1.0 + ${RATIO} * ${RATIO})`;
const UNSCALED = `(${LARGER} == T(0.0)) | ((bitcast<Bits>(${LARGER}) & Bits(0x7fffffffu)) == ` +
  "Bits(0x7f800000u))";
/** Gradient c * x / hypot for an `x` of a and b; 0 where both are 0. */
const hypotSlope = (x: string): string =>
  `select(c * (${x} / ${LARGER}) / ${STRETCH}, T(0.0), ${LARGER} == T(0.0))`;

/** The functions by name. */
export const BINARY = {
  add: {
    wgsl: "a + b",
    integer: "a + b",
    gradients: ["c", "c"],
    f: (a, b) => a + b,
    df: () => [1, 1],
  },
  sub: {
    wgsl: "a - b",
    integer: "a - b",
    gradients: ["c", "-c"],
    f: (a, b) => a - b,
    df: () => [1, -1],
  },
  mul: {
    wgsl: "a * b",
    integer: "a * b",
    gradients: ["b * c", "a * c"],
    f: (a, b) => a * b,
    df: (a, b) => [b, a],
  },
  div: {
    wgsl: "a / b",
    gradients: ["c / b", "-c * (a / b) / b"],
    f: (a, b) => a / b,
    df: (a, b) => [1 / b, -a / (b * b)],
  },
  maximum: {
    wgsl: /* @__PURE__ */ extremum("max", "a", "b"),
    integer: "max(a, b)",
    gradients: [/* @__PURE__ */ sideOf("a", ">", "b"), /* @__PURE__ */ sideOf("b", ">", "a")],
    f: Math.max,
    df: (a, b) => sideSlope(a, b, a > b),
  },
  minimum: {
    wgsl: /* @__PURE__ */ extremum("min", "a", "b"),
    integer: "min(a, b)",
    gradients: [/* @__PURE__ */ sideOf("a", "<", "b"), /* @__PURE__ */ sideOf("b", "<", "a")],
    f: Math.min,
    df: (a, b) => sideSlope(a, b, a < b),
  },
  pow: {
    wgsl: "pow_$V(a, b)",
    gradients: [
      "select(c * (b * pow_$V(a, b - 1.0)), T(0.0), b == T(0.0))",
      "c * select(pow_$V(a, b) * log_$V(a), T(0.0), (a == T(0.0)) & (b >= T(0.0)))",
    ],
    f: refPow,
    df: (a, b) => [
      b === 0 ? 0 : b * refPow(a, b - 1),
      a === 0 && b >= 0 ? 0 : refPow(a, b) * Math.log(a),
    ],
  },
  idiv: {
    wgsl: "floor_div_f32(a, b)",
    integer: "floor_div_$I(a, b)",
    gradients: ["T(0.0)", "T(0.0)"],
    f: refFloorDiv,
    df: () => [0, 0],
  },
  mod: {
    wgsl: "floor_mod_f32(a, b)",
    integer: "floor_mod_$I(a, b)",
    gradients: ["c", "-c * floor_div_f32(a, b)"],
    f: refMod,
    df: (a, b) => [1, -refFloorDiv(a, b)],
  },
  atan2: {
    wgsl: "atan2_$V(a, b)",
    gradients: [/* @__PURE__ */ atan2Slope("c", "b"), /* @__PURE__ */ atan2Slope("-c", "a")],
    f: Math.atan2,
    df: (a, b) => a === 0 && b === 0 ? [0, 0] : [b / (a * a + b * b), -a / (a * a + b * b)],
  },
  hypot: {
    wgsl: `select(select(${LARGER} * ${STRETCH}, ${LARGER}, ${UNSCALED}), a + b, ` +
      "is_nan_$V(a) | is_nan_$V(b))",
    gradients: [/* @__PURE__ */ hypotSlope("a"), /* @__PURE__ */ hypotSlope("b")],
    f: (a, b) => Number.isNaN(a) || Number.isNaN(b) ? NaN : Math.hypot(a, b),
    df(a, b) {
      const length = Math.hypot(a, b);
      if (Number.isNaN(a) || Number.isNaN(b)) return [NaN, NaN];
      return length === 0 ? [0, 0] : [a / length, b / length];
    },
  },
  logaddexp: {
    wgsl: "select(max(a, b) + log1p_$V(exp_$V(-abs(a - b))), a + 0.69314718, a == b)",
    // Equal ones may be infinite.
    gradients: [
      "select(c / (1.0 + exp_$V(b - a)), 0.5 * c, a == b)",
      "select(c / (1.0 + exp_$V(a - b)), 0.5 * c, a == b)",
    ],
    f: (a, b) => a === b ? a + Math.LN2 : Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b))),
    df: (a, b) => a === b ? [0.5, 0.5] : [1 / (1 + Math.exp(b - a)), 1 / (1 + Math.exp(a - b))],
  },
} as const satisfies Record<string, BinaryRow>;
