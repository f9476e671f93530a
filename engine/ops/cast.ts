/**
 * Conversion between element types.
 *
 * @module
 */
import { needDType, needTensors } from "../arguments.ts";
import { type DType, isFloat } from "../dtype.ts";
import { defineOp } from "../op.ts";
import { refFrom } from "../reference.ts";
import type { Tensor } from "../tensor.ts";
import { converted } from "../launch/copy.ts";

interface CastAttributes {
  readonly to: DType;
}

/** What a number becomes in `dtype`. */
function refCast(value: number, dtype: DType): number {
  if (dtype === "f16") return Math.f16round(value);
  // Samples hold values of f32 already.
  if (dtype === "f32") return value;
  if (Number.isNaN(value)) return 0;
  const [low, high] = dtype === "u32" ? [0, 2 ** 32 - 1] : [-(2 ** 31), 2 ** 31 - 1];
  return Math.min(Math.max(Math.trunc(value), low), high);
}

const castOp = /* @__PURE__ */ defineOp<CastAttributes>({
  name: "cast",
  dtypes: "any",
  half: true,
  strided: true,
  forward: ([x], { to }) => [converted(x, to)],
  backward: ({ grads: [dy], dtypes: [from] }) => [isFloat(from) ? converted(dy!, from) : undefined],
  reference: {
    forward: ([x], { to }) => [refFrom(x.shape, (i) => refCast(x.data[i], to))],
    backward: (_, __, [dy]) => [dy],
  },
});

/**
 * The values in another element type. Floats become integers by truncation towards zero, NaN 0, and
 * floats out of range of f16 infinite. The gradient is cast back; none flows through integers.
 *
 * @throws {ShapeError} for f16 on an adapter without shader-f16.
 */
export function cast(x: Tensor, dtype: DType): Tensor {
  needTensors("cast", { x });
  needDType("cast", dtype);
  return castOp.apply([x], { to: dtype })[0];
}
