/**
 * Bits of integers: and, or, xor, not and shifts.
 *
 * @module
 */
import { kindOf, needTensors } from "../arguments.ts";
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { elementwise } from "../launch/elementwise.ts";
import { defineOp } from "../op.ts";
import { refBroadcast, refFrom } from "../reference.ts";
import { broadcastShapes } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { applyBinary, type BinaryFunction, commonType } from "./elementwise.ts";

/** WGSL counts shifts modulo 32; here, as in NumPy, further ones leave nothing but the sign. */
const FAR = "bitcast<Bits>(b) > Bits(31u)";
const COUNT = "(bitcast<Bits>(b) & Bits(31u))";

/** WGSL and TypeScript of each function. */
const BITWISE = {
  bitwiseAnd: ["a & b", (a: number, b: number) => a & b],
  bitwiseOr: ["a | b", (a: number, b: number) => a | b],
  bitwiseXor: ["a ^ b", (a: number, b: number) => a ^ b],
  leftShift: [`select(a << ${COUNT}, T(0), ${FAR})`, (a: number, b: number) => a << b],
  // The second shift empties u32 and leaves the sign of i32.
  rightShift: [`select(a >> ${COUNT}, (a >> Bits(31u)) >> Bits(1u), ${FAR})`, (
    a: number,
    b: number,
  ) => a >> b],
} as const;

function bitwise(name: keyof typeof BITWISE): BinaryFunction {
  const [wgsl, f] = BITWISE[name];
  const op = defineOp<null>({
    name,
    dtypes: "same",
    strided: true,
    forward([a, b]) {
      const y = a.device.empty(broadcastShapes(name, a.shape, b.shape), a.dtype);
      elementwise(y, [a, b], { expression: wgsl });
      return [y];
    },
    reference: {
      forward([a, b]) {
        const shape = broadcastShapes(name, a.shape, b.shape);
        const [x, y] = [refBroadcast(a, shape), refBroadcast(b, shape)];
        return [refFrom(shape, (i) => f(x[i], y[i]))];
      },
    },
  });
  return (a, b) => {
    if (isFloat(commonType(name, a, b))) {
      throw new ShapeError(`${name}: ${kindOf(a)} and ${kindOf(b)}; integers are needed`);
    }
    return applyBinary(op, a, b);
  };
}

/**
 * Bits that both have, with broadcasting, of u32 or i32 ({@link logicalAnd} takes masks). Throws a
 * `ShapeError` for floats. See {@link add} for numbers and types that differ.
 */
export const bitwiseAnd: BinaryFunction = /* @__PURE__ */ bitwise("bitwiseAnd");

/** Bits that either has; see {@link bitwiseAnd}. */
export const bitwiseOr: BinaryFunction = /* @__PURE__ */ bitwise("bitwiseOr");

/** Bits that one of the two has; see {@link bitwiseAnd}. */
export const bitwiseXor: BinaryFunction = /* @__PURE__ */ bitwise("bitwiseXor");

/** `a` times `2^b` modulo 2^32: 0 where `b` is above 31 or negative; see {@link bitwiseAnd}. */
export const leftShift: BinaryFunction = /* @__PURE__ */ bitwise("leftShift");

/**
 * `floor(a / 2^b)`: 0, or -1 for a negative `a`, where `b` is above 31 or negative; see
 * {@link bitwiseAnd}.
 */
export const rightShift: BinaryFunction = /* @__PURE__ */ bitwise("rightShift");

/**
 * All bits turned over.
 *
 * @param x u32 or i32
 * @throws {ShapeError} for floats.
 */
export function bitwiseNot(x: Tensor): Tensor {
  needTensors("bitwiseNot", { x });
  if (isFloat(x.dtype)) throw new ShapeError(`bitwiseNot: ${kindOf(x)}; integers are needed`);
  return bitwiseXor(x, x.dtype === "u32" ? 2 ** 32 - 1 : -1);
}
