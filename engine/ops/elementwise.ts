/**
 * Elementwise arithmetic with broadcasting. One table row per op: WGSL and TypeScript side by side.
 *
 * @module
 */
import { kindOf, needFitting } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { defineOp, type Op } from "../op.ts";
import { refBroadcast, refFrom, refUnbroadcast } from "../reference.ts";
import { composite } from "../scope.ts";
import { broadcastShapes, sameShape } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { sumTo } from "./reduce.ts";
import { elementwise, extremum } from "../launch/elementwise.ts";

/** An elementwise op of two tensors. */
export interface BinaryRow {
  /** WGSL of f(a, b). */
  readonly wgsl: string;
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

/** C's pow: `1 ** NaN` and `(-1) ** Infinity` are 1. */
function refPow(a: number, b: number): number {
  return a === 1 || a === -1 && Math.abs(b) === Infinity ? 1 : a ** b;
}

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
    wgsl: extremum("max", "a", "b"),
    gradients: [sideOf("a", ">", "b"), sideOf("b", ">", "a")],
    f: Math.max,
    df: (a, b) => sideSlope(a, b, a > b),
  },
  minimum: {
    wgsl: extremum("min", "a", "b"),
    gradients: [sideOf("a", "<", "b"), sideOf("b", "<", "a")],
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
} as const satisfies Record<string, BinaryRow>;

/** Defines an elementwise op of two tensors with broadcasting, f32 and f16. */
export function defineBinary(name: string, row: BinaryRow): Op<null> {
  const plain = name === "add" || name === "sub";
  return defineOp<null>({
    name,
    half: true,
    strided: true,
    savedFor: ["a", "b"].map((operand) =>
      [0, 1].filter((i) => new RegExp(`\\b${operand}\\b`).test(row.gradients[i]))
    ),
    forward([a, b], _, save) {
      const y = a.device.empty(broadcastShapes(name, a.shape, b.shape), a.dtype);
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
          gradient = dy!.device.empty(dy!.shape, dy!.dtype);
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
  });
}

const binary = Object.fromEntries(
  Object.entries(BINARY).map(([name, row]) => [name, defineBinary(name, row)]),
) as Record<keyof typeof BINARY, Op<null>>;

/** Applies an op of two tensors to two operands, one of which may be a number. */
export function applyBinary(op: Op<null>, a: Tensor | number, b: Tensor | number): Tensor {
  const [x, y] = [a, b].map((it) => it instanceof Tensor ? it : undefined);
  if (x && y) return op.apply([x, y], null)[0];
  const like = x ?? y;
  if (!like) {
    throw new ShapeError(`${op.name}: ${kindOf(a)} and ${kindOf(b)}; one must be a tensor`);
  }
  const number = x ? b : a;
  needFitting(op.name, number, like.dtype);
  return composite(() => {
    const scalar = like.device.constant(number as number, like.dtype);
    return op.apply(x ? [x, scalar] : [scalar, like], null)[0];
  });
}

/**
 * `a + b` with NumPy's broadcasting.
 *
 * @param a a tensor, or a number where `b` is a tensor
 * @param b a tensor of the same element type, or a number
 * @returns the shape that both broadcast to
 * @throws {ShapeError} if the shapes do not broadcast or the element types differ.
 */
export function add(a: Tensor | number, b: Tensor | number): Tensor {
  return applyBinary(binary.add, a, b);
}

/** `a - b` with broadcasting; see {@link add}. */
export function sub(a: Tensor | number, b: Tensor | number): Tensor {
  return applyBinary(binary.sub, a, b);
}

/** `a * b` with broadcasting; see {@link add}. */
export function mul(a: Tensor | number, b: Tensor | number): Tensor {
  return applyBinary(binary.mul, a, b);
}

/** `a / b` with broadcasting; see {@link add}. */
export function div(a: Tensor | number, b: Tensor | number): Tensor {
  return applyBinary(binary.div, a, b);
}

/**
 * Larger of two values with broadcasting, NaN where either is; equal values share the gradient; see
 * {@link add}.
 */
export function maximum(a: Tensor | number, b: Tensor | number): Tensor {
  return applyBinary(binary.maximum, a, b);
}

/**
 * Smaller of two values with broadcasting, NaN where either is; equal values share the gradient;
 * see {@link add}.
 */
export function minimum(a: Tensor | number, b: Tensor | number): Tensor {
  return applyBinary(binary.minimum, a, b);
}

/** `a^b` for two tensors, or a number to a tensor; `pow` of `ops/compare.ts` is the public one. */
export function powTensors(a: Tensor | number, b: Tensor): Tensor {
  return applyBinary(binary.pow, a, b);
}
