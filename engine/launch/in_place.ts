/**
 * In-place updates by elementwise kernels: gradient norm and clipping, gradient descent,
 * exponential moving averages, assignment. Nothing here is differentiable.
 *
 * @module
 */
import { needNumber, needTensorList, needTogether } from "../arguments.ts";
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { isDisjoint, sameShape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { scope } from "../scope.ts";
import { denseCopy, sumOf } from "./copy.ts";
import { elementwise } from "./elementwise.ts";
import { sumOfSquares } from "../ops/reduce.ts";

/**
 * Refuses a tensor that cannot be updated in place.
 *
 * @throws {ShapeError} if some of its elements lie in one place, as those of an expanded tensor do.
 */
export function checkTarget(name: string, target: Tensor): void {
  if (!isDisjoint(target.shape, target.strides)) {
    throw new ShapeError(
      `${name}: elements of the tensor ${show(target.shape)} with strides ${
        show(target.strides)
      } share memory; it cannot be updated in place, a copy can`,
    );
  }
}

/**
 * Runs `update` with `value` in the shape of `target`, row by row whatever the strides of the two
 * are, and in memory of its own.
 */
function update(
  name: string,
  target: Tensor,
  value: Tensor,
  update: (value: Tensor) => void,
): void {
  checkTarget(name, target);
  if (value.size !== target.size) {
    throw new ShapeError(
      `${name}: ${show(target.shape)} and ${show(value.shape)} must have one size`,
    );
  }
  scope(() => {
    const fits = value.storage !== target.storage &&
      (value.dense || sameShape(value.shape, target.shape));
    const from = fits ? value : denseCopy(value);
    update(from.dense ? from.view(target.shape) : from);
  });
}

/** A tensor of one element as a scalar. */
function scalar(name: string, tensor: Tensor): Tensor {
  if (tensor.size !== 1) {
    throw new ShapeError(`${name}: one number is needed, not ${show(tensor.shape)}`);
  }
  return tensor.view([]);
}

function checkFloats(name: string, tensors: readonly Tensor[]): void {
  const other = tensors.find(({ dtype }) => !isFloat(dtype));
  if (other) {
    throw new ShapeError(`${name}: ${show(other.shape)} is ${other.dtype}, not f32 or f16`);
  }
}

/**
 * Global L2 norm of flat gradients and the factor that clips it to `limit` (torch's
 * `clip_grad_norm_`).
 *
 * @param grads tensors of any shapes, f32 or f16
 * @param limit largest norm; 0 leaves gradients as they are
 * @returns f32 [2]: the norm before clipping and the coefficient min(1, limit / (norm + 1e-6));
 * both NaN where a gradient is, infinity and 0 where one is infinite
 * @throws {ShapeError} if there are no gradients, one is of integers, or the limit is negative.
 */
export function gradientNorm(grads: readonly Tensor[], limit: number): Tensor {
  needTensorList("gradientNorm", grads);
  needTogether("gradientNorm", Object.fromEntries(grads.map((it, i) => [`gradient ${i}`, it])));
  checkFloats("gradientNorm", grads);
  needNumber("gradientNorm", "the limit", limit, 0);
  const result = grads[0].device.empty([2]);
  scope(() => {
    const squares = grads.map((grad) => sumOfSquares(grad)).reduce((a, b) => sumOf(a, b));
    const [norm, coefficient] = [0, 1].map((i) => result.view([1], undefined, result.offset + i));
    elementwise(norm, [squares], { expression: "sqrt(a)" });
    elementwise(coefficient, [squares], {
      expression: limit > 0
        ? "select(min(T(1.0), params.alpha / (sqrt(a) + 1e-6)), a, is_nan_$V(a))"
        : "T(1.0)",
      alpha: limit,
    });
  });
  return result;
}

/**
 * Plain gradient descent in place, `p -= rate * gradient`; forgets the gradients. Parameters
 * without one stay.
 *
 * @param parameters trainable leaves after a backward pass
 * @param rate learning rate
 * @throws {ShapeError} if elements of a parameter share memory.
 */
export function sgdStep(parameters: readonly Tensor[], rate: number): void {
  needTensorList("sgdStep", parameters);
  needNumber("sgdStep", "the rate", rate);
  for (const parameter of parameters) {
    if (!parameter.grad) continue;
    checkTarget("sgdStep", parameter);
    elementwise(parameter, [parameter.grad], {
      expression: "o - params.alpha * a",
      readOut: true,
      alpha: rate,
    });
    parameter.zeroGrad();
  }
}

/**
 * Exponential moving average in place: `average = decay * average + (1 - decay) * value`.
 *
 * @param decays f32 [2]: decay and 1 - decay, the latter rounded from float64 so that no digits
 * cancel
 * @throws {ShapeError} if sizes differ, one is of integers, or elements of `average` share memory.
 */
export function emaStep(average: Tensor, value: Tensor, decays: Tensor): void {
  needTogether("emaStep", { average, value, decays });
  checkFloats("emaStep", [average, value, decays]);
  if (!sameShape(decays.shape, [2])) {
    throw new ShapeError(`emaStep: decays ${show(decays.shape)} must be [2]`);
  }
  update("emaStep", average, value, (value) => {
    const [decay, rest] = [0, 1].map((i) =>
      decays.view([], [], decays.offset + i * decays.strides[0])
    );
    elementwise(average, [value, decay, rest], { expression: "b * o + c * a", readOut: true });
  });
}

/**
 * `target += factor * value`, in f32 whatever `value` is stored as.
 *
 * @param value of the same size, element by element in row-major order
 * @param factor a number, or with `scale` times that tensor of one element
 * @throws {ShapeError} if sizes differ, one is of integers, or elements of `target` share memory.
 */
export function addScaled(target: Tensor, value: Tensor, factor: number, scale?: Tensor): void {
  needTogether("addScaled", { target, value }, { scale });
  needNumber("addScaled", "the factor", factor);
  checkFloats("addScaled", [target, value, ...scale ? [scale] : []]);
  update(
    "addScaled",
    target,
    value,
    (value) =>
      elementwise(target, scale ? [value, scalar("addScaled", scale)] : [value], {
        expression: scale ? "o + params.alpha * b * a" : "o + params.alpha * a",
        readOut: true,
        alpha: factor,
      }),
  );
}

/**
 * `target = value`, converted to the target's element type.
 *
 * @param value of the same size, element by element in row-major order
 * @param gate of one element: 0 leaves the target as it is
 * @throws {ShapeError} if sizes differ or elements of `target` share memory.
 */
export function assign(target: Tensor, value: Tensor, gate?: Tensor): void {
  needTogether("assign", { target, value }, { gate });
  update(
    "assign",
    target,
    value,
    (value) =>
      elementwise(target, gate ? [value, scalar("assign", gate)] : [value], {
        expression: gate ? "select(o, TV(a), b > T(S(0.0)))" : "TV(a)",
        readOut: gate !== undefined,
      }),
  );
}
