/**
 * Between two tensors: points on the way from one to the other, and how close they are.
 *
 * @module
 */
import { kindOf, needNumber, needOptions, needTogether } from "../arguments.ts";
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { composite } from "../scope.ts";
import { broadcastShapes } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { cast } from "./cast.ts";
import { equal, less, lessEqual, logicalAnd, logicalOr, where } from "./compare.ts";
import { add, mul, sub } from "./elementwise.ts";
import { abs, isfinite, isnan } from "./unary.ts";

/**
 * `a + weight (b - a)` with broadcasting, exactly `a` at 0 and `b` at 1.
 *
 * @param weight a tensor or a number; beyond 0 and 1 the line goes on
 * @throws {ShapeError} if one is of integers, or the shapes do not broadcast.
 */
export function lerp(a: Tensor, b: Tensor, weight: Tensor | number): Tensor {
  const tensors = { a, b, ...weight instanceof Tensor && { weight } };
  needTogether("lerp", tensors);
  if (!(weight instanceof Tensor)) needNumber("lerp", "the weight", weight);
  for (const [name, it] of Object.entries(tensors)) {
    if (!isFloat(it.dtype)) throw new ShapeError(`lerp: ${name} is ${kindOf(it)}, not of floats`);
  }
  const joined = broadcastShapes("lerp", a.shape, b.shape);
  if (weight instanceof Tensor) broadcastShapes("lerp", joined, weight.shape);
  return composite(() => {
    const way = sub(b, a);
    const near = () => add(a, mul(way, weight));
    const far = () => sub(b, mul(way, sub(1, weight)));
    if (weight instanceof Tensor) return where(less(weight, 0.5), near(), far());
    return weight < 0.5 ? near() : sub(b, mul(way, 1 - weight));
  });
}

/** Options of {@link isclose} and {@link allclose}, as NumPy's. */
export interface CloseOptions {
  /** Share of |b| that they may differ by; default 1e-5. */
  readonly rtol?: number;
  /** What they may differ by besides; default 1e-8. */
  readonly atol?: number;
  /** Whether NaN is close to NaN; default false. */
  readonly equalNan?: boolean;
}

/**
 * A mask of where `|a - b| <= atol + rtol |b|`, with broadcasting; infinities are close to
 * themselves. Integers are subtracted as f32, as differences might wrap around.
 *
 * @throws {ShapeError} if the shapes do not broadcast, or a tolerance is below 0.
 */
export function isclose(a: Tensor, b: Tensor, options: CloseOptions = {}): Tensor {
  needTogether("isclose", { a, b });
  needOptions("isclose", options, ["rtol", "atol", "equalNan"]);
  const { rtol = 1e-5, atol = 1e-8, equalNan = false } = options;
  needNumber("isclose", "rtol", rtol, 0);
  needNumber("isclose", "atol", atol, 0);
  broadcastShapes("isclose", a.shape, b.shape);
  return composite(() => {
    const [x, y] = [a, b].map((it) => isFloat(it.dtype) ? it : cast(it, "f32"));
    const within = lessEqual(abs(sub(x, y)), add(mul(abs(y), rtol), atol));
    const close = logicalOr(equal(a, b), logicalAnd(within, isfinite(y)));
    return equalNan ? logicalOr(close, logicalAnd(isnan(x), isnan(y))) : close;
  });
}

/** Whether all elements are close ({@link isclose}), found on the host. */
export async function allclose(
  a: Tensor,
  b: Tensor,
  options: CloseOptions = {},
): Promise<boolean> {
  using mask = isclose(a, b, options);
  return (await mask.data()).every((value) => value !== 0);
}
