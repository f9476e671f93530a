/**
 * Comparisons, choices and powers: elementwise ops with attributes, or without gradients.
 *
 * @module
 */
import { kindOf, needNumber, needTensors } from "../arguments.ts";
import { type DType, isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineOp } from "../op.ts";
import { refBroadcast, refFrom, refUnbroadcast } from "../reference.ts";
import { composite } from "../scope.ts";
import { broadcastShapes, sameShape, type Shape } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import {
  applyBinary,
  type BinaryFunction,
  commonType,
  operandOf,
  powTensors,
} from "./elementwise.ts";
import { elementwise, nonZero } from "../launch/elementwise.ts";
import { sumTo } from "./reduce.ts";

interface ConditionRow {
  /** WGSL of the condition for integers. */
  readonly integer: string;
  /** The same for floats. */
  readonly float: string;
  readonly holds: (a: number, b: number) => boolean;
}

const UNORDERED = "(is_nan_$V(a) | is_nan_$V(b))";

/** A comparison, which does not hold beside NaN; by bits, as compilers may not look for it. */
const ordered = (condition: string, holds: ConditionRow["holds"]): ConditionRow => ({
  integer: condition,
  float: `(${condition}) & !${UNORDERED}`,
  holds,
});

/** A function of whether either operand is not 0; NaN is not. */
const logical = (symbol: string, holds: ConditionRow["holds"]): ConditionRow => ({
  integer: `(a != T(0)) ${symbol} (b != T(0))`,
  float: `${nonZero("a")} ${symbol} ${nonZero("b")}`,
  holds,
});

const CONDITIONS = {
  equal: /* @__PURE__ */ ordered("a == b", (a, b) => a === b),
  notEqual: { integer: "a != b", float: `(a != b) | ${UNORDERED}`, holds: (a, b) => a !== b },
  less: /* @__PURE__ */ ordered("a < b", (a, b) => a < b),
  lessEqual: /* @__PURE__ */ ordered("a <= b", (a, b) => a <= b),
  greater: /* @__PURE__ */ ordered("a > b", (a, b) => a > b),
  greaterEqual: /* @__PURE__ */ ordered("a >= b", (a, b) => a >= b),
  logicalAnd: /* @__PURE__ */ logical("&", (a, b) => a !== 0 && b !== 0),
  logicalOr: /* @__PURE__ */ logical("|", (a, b) => a !== 0 || b !== 0),
  logicalXor: /* @__PURE__ */ logical("!=", (a, b) => (a !== 0) !== (b !== 0)),
} satisfies Record<string, ConditionRow>;

function condition(name: keyof typeof CONDITIONS): BinaryFunction {
  const { integer, float, holds } = CONDITIONS[name];
  const op = defineOp<null>({
    name,
    dtypes: "same",
    half: true,
    strided: true,
    forward([a, b]) {
      const y = a.device.empty(
        broadcastShapes(name, a.shape, b.shape),
        a.dtype === "f16" ? "f16" : "f32",
      );
      const holds = isFloat(a.dtype) ? float : integer;
      elementwise(y, [a, b], { expression: `select($V(0.0), $V(1.0), ${holds})` });
      return [y];
    },
    reference: {
      forward([a, b]) {
        const shape = broadcastShapes(name, a.shape, b.shape);
        const [x, y] = [refBroadcast(a, shape), refBroadcast(b, shape)];
        return [refFrom(shape, (i) => +holds(x[i], y[i]))];
      },
    },
  });
  return (a, b) => applyBinary(op, a, b);
}

/**
 * 1 where `a = b`, else 0, with broadcasting: a mask, f32 (f16 for f16 operands), without a
 * gradient. Operands of different types meet as in {@link add}: u32 beside i32 as i32.
 */
export const equal: BinaryFunction = /* @__PURE__ */ condition("equal");

/** 0 where `a = b`, else 1, as where one is NaN; see {@link equal}. */
export const notEqual: BinaryFunction = /* @__PURE__ */ condition("notEqual");

/** 1 where `a < b`, else 0; see {@link equal}. */
export const less: BinaryFunction = /* @__PURE__ */ condition("less");

/** 1 where `a <= b`, else 0; see {@link equal}. */
export const lessEqual: BinaryFunction = /* @__PURE__ */ condition("lessEqual");

/** 1 where `a > b`, else 0; see {@link equal}. */
export const greater: BinaryFunction = /* @__PURE__ */ condition("greater");

/** 1 where `a >= b`, else 0; see {@link equal}. */
export const greaterEqual: BinaryFunction = /* @__PURE__ */ condition("greaterEqual");

/** 1 where both are not 0, else 0; NaN is not 0. Of masks, or of any numbers; see {@link equal}. */
export const logicalAnd: BinaryFunction = /* @__PURE__ */ condition("logicalAnd");

/** 1 where either is not 0, else 0; see {@link logicalAnd}. */
export const logicalOr: BinaryFunction = /* @__PURE__ */ condition("logicalOr");

/** 1 where one of the two is not 0, else 0; see {@link logicalAnd}. */
export const logicalXor: BinaryFunction = /* @__PURE__ */ condition("logicalXor");

/** 1 where `x` is 0, else 0; see {@link logicalAnd}. */
export function logicalNot(x: Tensor): Tensor {
  needTensors("logicalNot", { x });
  return equal(x, 0);
}

const whereShape = (mask: Shape, a: Shape, b: Shape): number[] =>
  broadcastShapes("where", broadcastShapes("where", mask, a), b);

/**
 * A mask as f32 0 or 1, which kernels mix with the operands; itself when it is f32 beside floats.
 */
function asF32(mask: Tensor, beside: DType): Tensor {
  if (mask.dtype === "f32" && isFloat(beside)) return mask;
  const result = mask.device.empty(mask.shape);
  const condition = isFloat(mask.dtype) ? nonZero("a") : "a != T(0)";
  elementwise(result, [mask], { expression: `select($V(0.0), $V(1.0), ${condition})` });
  return result;
}

const whereOp = /* @__PURE__ */ defineOp<null>({
  name: "where",
  dtypes: "any",
  half: true,
  strided: true,
  forward([given, a, b], _, save) {
    const mask = asF32(given, a.dtype);
    const y = a.device.empty(whereShape(mask.shape, a.shape, b.shape), a.dtype);
    const condition = isFloat(a.dtype) ? nonZero("c") : "c != T(0)";
    elementwise(y, [a, b, mask], { expression: `select(b, a, ${condition})` });
    save(mask);
    return [y];
  },
  backward({ grads: [dy], saved: [mask], shapes, needs }) {
    const side = (i: number, expression: string): Tensor | undefined => {
      if (!needs[i]) return undefined;
      const gradient = dy!.device.empty(dy!.shape, dy!.dtype);
      elementwise(gradient, [dy!, mask], { expression });
      return sameShape(shapes[i], gradient.shape) ? gradient : sumTo(gradient, shapes[i]);
    };
    return [
      undefined,
      side(1, `select(T(0.0), a, ${nonZero("b")})`),
      side(2, `select(a, T(0.0), ${nonZero("b")})`),
    ];
  },
  reference: {
    forward([mask, a, b]) {
      const shape = whereShape(mask.shape, a.shape, b.shape);
      const [m, x, y] = [mask, a, b].map((array) => refBroadcast(array, shape));
      return [refFrom(shape, (i) => m[i] !== 0 ? x[i] : y[i])];
    },
    backward([mask, a, b], _, [dy]) {
      const m = refBroadcast(mask, dy.shape);
      const part = (chosen: boolean) => dy.data.map((g, i) => (m[i] !== 0) === chosen ? g : 0);
      return [
        undefined,
        refUnbroadcast(part(true), dy.shape, a.shape),
        refUnbroadcast(part(false), dy.shape, b.shape),
      ];
    },
  },
});

/**
 * `a` where `mask` is not 0 (NaN is not), else `b`; the three broadcast. No gradient flows to the
 * mask, and none of a side that was not chosen.
 *
 * @param mask of any dtype, as comparisons give it
 * @throws {ShapeError} if shapes do not broadcast, or `a` and `b` differ in dtype.
 */
export function where(mask: Tensor, a: Tensor | number, b: Tensor | number): Tensor {
  needTensors("where", { mask });
  const numbers = [a, b].every((it) => typeof it === "number");
  const dtype = numbers ? "f32" : commonType("where", a, b);
  const operand = (it: Tensor | number) => operandOf(it, dtype, mask);
  return composite(() => whereOp.apply([mask, operand(a), operand(b)], null)[0]);
}

interface ClampAttrs {
  readonly low: number;
  readonly high: number;
}

const clampOp = /* @__PURE__ */ defineOp<ClampAttrs>({
  name: "clamp",
  half: true,
  strided: true,
  forward([x], { low, high }, save) {
    const y = x.device.empty(x.shape, x.dtype);
    elementwise(y, [x], {
      expression: "select(min(max(a, T(params.alpha)), T(params.beta)), a, is_nan_$V(a))",
      alpha: low,
      beta: high,
    });
    save(x);
    return [y];
  },
  backward({ grads: [dy], saved: [x] }, { low, high }) {
    const dx = x.device.empty(x.shape, x.dtype);
    elementwise(dx, [x, dy!], {
      expression: "select(select(T(0.0), b, (a >= T(params.alpha)) & (a <= T(params.beta))), a, " +
        "is_nan_$V(a))",
      alpha: low,
      beta: high,
    });
    return [dx];
  },
  reference: {
    forward: (
      [x],
      { low, high },
    ) => [refFrom(x.shape, (i) => Math.min(Math.max(x.data[i], low), high))],
    backward: ([x], { low, high }, [dy]) => [
      refFrom(x.shape, (i) => {
        const value = x.data[i];
        return Number.isNaN(value) ? NaN : value >= low && value <= high ? dy.data[i] : 0;
      }),
    ],
  },
});

/**
 * `x` limited to `low..high`; the gradient is 0 outside and 1 inside, bounds included. NaN stays.
 *
 * @param low -Infinity for none
 * @param high Infinity for none
 * @throws {ShapeError} if `low` is above `high` or one is NaN.
 */
export function clamp(x: Tensor, low: number, high: number): Tensor {
  needTensors("clamp", { x });
  if (typeof low !== "number" || typeof high !== "number" || !(low <= high)) {
    throw new ShapeError(`clamp: ${kindOf(low)} to ${kindOf(high)} is no range of numbers`);
  }
  return clampOp.apply([x], { low, high })[0];
}

interface PowAttrs {
  readonly exponent: number;
}

/** WGSL of a^n for n = 1..16 by repeated squaring; the compiler shares equal factors. */
function wholePower(n: number): string {
  if (n === 1) return "a";
  const half = wholePower(n >> 1);
  return n % 2 === 0 ? `(${half} * ${half})` : `(${half} * ${half} * a)`;
}

/** WGSL of a^exponent, with params.alpha = exponent. */
function power(exponent: number): string {
  const size = Math.abs(exponent);
  let positive: string;
  if (size === 0) return "T(1.0)";
  else if (Number.isInteger(size) && size <= 16) positive = wholePower(size);
  else if (size === 0.5) positive = "sqrt(a)";
  else if (size === 1.5) positive = "(a * sqrt(a))";
  else return "pow_$V(a, T(params.alpha))";
  return exponent > 0 ? positive : `1.0 / ${positive}`;
}

const powScalarOp = /* @__PURE__ */ defineOp<PowAttrs>({
  name: "powScalar",
  half: true,
  strided: true,
  forward([x], { exponent }, save) {
    const y = x.device.empty(x.shape, x.dtype);
    elementwise(y, [x], { expression: power(exponent), alpha: exponent });
    save(x);
    return [y];
  },
  backward({ grads: [dy], saved: [x] }, { exponent }) {
    const dx = x.device.empty(x.shape, x.dtype);
    elementwise(dx, [x, dy!], {
      expression: exponent === 0 ? "T(0.0)" : `params.beta * b * (${power(exponent - 1)})`,
      alpha: exponent - 1,
      beta: exponent,
    });
    return [dx];
  },
  reference: {
    forward: ([x], { exponent }) => [refFrom(x.shape, (i) => x.data[i] ** exponent)],
    backward: ([x], { exponent }, [dy]) => [
      refFrom(x.shape, (i) => exponent * x.data[i] ** (exponent - 1) * dy.data[i]),
    ],
  },
});

/**
 * `x^exponent`, both broadcast, with C's rules: `x^0` and `1^y` are 1 even beside NaN, a negative
 * base needs a whole exponent and gives NaN otherwise. The gradients are PyTorch's: none to the
 * base where the exponent is 0, none to the exponent where the base is 0 and it is not negative.
 *
 * Numbers as exponents that are whole up to 16, or halves up to 1.5, are products and roots.
 *
 * @param x a tensor, or a number where the exponent is a tensor
 * @param exponent a tensor of the same element type, or a finite number
 * @throws {ShapeError} if the shapes do not broadcast, the element types differ, or the exponent is
 * a number that is not finite.
 */
export function pow(x: Tensor | number, exponent: Tensor | number): Tensor {
  if (exponent instanceof Tensor) return powTensors(x, exponent);
  needTensors("pow", { x });
  needNumber("pow", "the exponent", exponent);
  return powScalarOp.apply([x as Tensor], { exponent })[0];
}
