/**
 * Elementwise arithmetic with broadcasting, defined from the rows of `binary_table.ts`, and what
 * operands of different types and numbers become: {@link applyBinary}.
 *
 * @module
 */
import { kindOf, needFitting } from "../arguments.ts";
import { type DType, isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineOp, type Op } from "../op.ts";
import { refBroadcast, refFrom, refUnbroadcast } from "../reference.ts";
import { composite } from "../scope.ts";
import { broadcastShapes, sameShape } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { elementwise } from "../launch/elementwise.ts";
import { BINARY, type BinaryRow } from "./binary_table.ts";
import { cast } from "./cast.ts";
import { sumTo } from "./reduce.ts";

export type { BinaryRow };

/** A function of two operands, one of which may be a number. */
export type BinaryFunction = (a: Tensor | number, b: Tensor | number) => Tensor;

/** Defines an elementwise op of two tensors of one type with broadcasting. */
export function defineBinary(name: string, row: BinaryRow): Op<null> {
  const plain = name === "add" || name === "sub";
  return defineOp<null>({
    name,
    dtypes: row.integer ? "same" : undefined,
    half: true,
    strided: true,
    savedFor: ["a", "b"].map((operand) =>
      [0, 1].filter((i) => new RegExp(`\\b${operand}\\b`).test(row.gradients[i]))
    ),
    forward([a, b], _, save) {
      const y = a.device.empty(broadcastShapes(name, a.shape, b.shape), a.dtype);
      const expression = isFloat(a.dtype) ? row.wgsl : row.integer!.replaceAll("$I", a.dtype);
      elementwise(y, [a, b], { expression });
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

/**
 * The type in which two operands meet, by PyTorch's rules: a float beside an integer gives the
 * float; f32 beside f16 gives f32; i32 beside u32 gives i32 (PyTorch goes to 64 bits, JAX without
 * those to i32 as well). A tensor without axes gives way to one with axes, unless it alone is a
 * float. A number takes the tensor's type, but makes f32 of integers if it is not whole.
 *
 * @throws {ShapeError} if neither is a tensor, or integers cannot hold a whole number.
 */
export function commonType(op: string, a: unknown, b: unknown): DType {
  if (a instanceof Tensor && b instanceof Tensor) {
    if (a.dtype === b.dtype) return a.dtype;
    if (isFloat(a.dtype) !== isFloat(b.dtype)) return isFloat(a.dtype) ? a.dtype : b.dtype;
    const [m, n] = [a.shape.length, b.shape.length];
    if (m > 0 !== n > 0) return m > 0 ? a.dtype : b.dtype;
    return isFloat(a.dtype) ? "f32" : "i32";
  }
  const [like, number] = a instanceof Tensor ? [a, b] : [b, a];
  if (!(like instanceof Tensor)) {
    throw new ShapeError(`${op}: ${kindOf(a)} and ${kindOf(b)}; one must be a tensor`);
  }
  const whole = typeof number !== "number" || Number.isInteger(number);
  const dtype = whole || isFloat(like.dtype) ? like.dtype : "f32";
  needFitting(op, number, dtype);
  return dtype;
}

/** An operand as a tensor of a type. */
export function operandOf(value: Tensor | number, dtype: DType, { device }: Tensor): Tensor {
  if (!(value instanceof Tensor)) return device.constant(value, dtype);
  return value.dtype === dtype ? value : cast(value, dtype);
}

/**
 * Applies an op of two tensors to two operands, of which one may be a number; different types meet
 * in their {@link commonType}, and integers become f32 for an op of floats.
 */
export function applyBinary(op: Op<null>, a: Tensor | number, b: Tensor | number): Tensor {
  const common = commonType(op.name, a, b);
  const dtype = op.dtypes || isFloat(common) ? common : "f32";
  if (a instanceof Tensor && b instanceof Tensor && a.dtype === dtype && b.dtype === dtype) {
    return op.apply([a, b], null)[0];
  }
  const like = (a instanceof Tensor ? a : b) as Tensor;
  return composite(() => op.apply([a, b].map((it) => operandOf(it, dtype, like)), null)[0]);
}

function binary(name: keyof typeof BINARY): BinaryFunction {
  const op = defineBinary(name, BINARY[name]);
  return (a, b) => applyBinary(op, a, b);
}

/**
 * `a + b` with NumPy's broadcasting. Operands of different types meet in one, as in PyTorch
 * (engine/README.md, Types that meet); integers wrap around.
 *
 * A tensor and a number on either side will do. Throws a `ShapeError` if the shapes do not
 * broadcast or neither operand is a tensor.
 */
export const add: BinaryFunction = /* @__PURE__ */ binary("add");

/** `a - b` with broadcasting; see {@link add}. */
export const sub: BinaryFunction = /* @__PURE__ */ binary("sub");

/** `a * b` with broadcasting; see {@link add}. */
export const mul: BinaryFunction = /* @__PURE__ */ binary("mul");

/** `a / b` with broadcasting, in f32 for integers; see {@link add} and {@link idiv}. */
export const div: BinaryFunction = /* @__PURE__ */ binary("div");

/**
 * Larger of two values with broadcasting, NaN where either is; equal values share the gradient; see
 * {@link add}.
 */
export const maximum: BinaryFunction = /* @__PURE__ */ binary("maximum");

/**
 * Smaller of two values with broadcasting, NaN where either is; equal values share the gradient;
 * see {@link add}.
 */
export const minimum: BinaryFunction = /* @__PURE__ */ binary("minimum");

/**
 * `floor(a / b)` with broadcasting, Python's `//`; its gradient is 0. A divisor of 0 gives 0 for
 * integers, as in NumPy, and `a / 0` for floats. See {@link add}.
 */
export const idiv: BinaryFunction = /* @__PURE__ */ binary("idiv");

/**
 * `a - b floor(a / b)` with broadcasting, Python's `%`: of the sign of `b`, and exact for floats
 * whatever the quotient. A divisor of 0 gives 0 for integers, as in NumPy, and NaN for floats. See
 * {@link add}.
 */
export const mod: BinaryFunction = /* @__PURE__ */ binary("mod");

/** The angle of the point (b, a) in radians, from -pi to pi, with broadcasting; see {@link add}. */
export const atan2: BinaryFunction = /* @__PURE__ */ binary("atan2");

/**
 * `sqrt(a^2 + b^2)` without overflow, with broadcasting; its gradient where both are 0 is 0. See
 * {@link add}.
 */
export const hypot: BinaryFunction = /* @__PURE__ */ binary("hypot");

/** `log(e^a + e^b)` without overflow, with broadcasting; see {@link add}. */
export const logaddexp: BinaryFunction = /* @__PURE__ */ binary("logaddexp");

/** `a^b` for two tensors, or a number to a tensor; `pow` of `ops/compare.ts` is the public one. */
export const powTensors: BinaryFunction = /* @__PURE__ */ binary("pow");
