/**
 * In-place updates by elementwise kernels: gradient norm and clipping, gradient descent,
 * exponential moving averages, assignment. Nothing here is differentiable.
 *
 * @module
 */
import { ShapeError } from "../errors.ts";
import { show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { scope } from "../scope.ts";
import { sumOf } from "./copy.ts";
import { elementwise } from "./elementwise.ts";
import { sumOfSquares } from "../ops/reduce.ts";

/**
 * Global L2 norm of flat gradients and the factor that clips it to `limit` (torch's
 * `clip_grad_norm_`).
 *
 * @param grads flat tensors
 * @param limit largest norm; 0 leaves gradients as they are
 * @returns f32 [2]: the norm before clipping and the coefficient min(1, limit / (norm + 1e-6))
 */
export function gradientNorm(grads: readonly Tensor[], limit: number): Tensor {
  const result = grads[0].device.empty([2]);
  scope(() => {
    const squares = grads.map((grad) => sumOfSquares(grad)).reduce((a, b) => sumOf(a, b));
    const [norm, coefficient] = [0, 1].map((i) => result.view([1], undefined, result.offset + i));
    elementwise(norm, [squares], { expression: "sqrt(a)" });
    elementwise(coefficient, [squares], {
      expression: limit > 0 ? "min(T(1.0), params.alpha / (sqrt(a) + 1e-6))" : "T(1.0)",
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
 */
export function sgdStep(parameters: readonly Tensor[], rate: number): void {
  for (const parameter of parameters) {
    if (!parameter.grad) continue;
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
 * @throws {ShapeError} if sizes differ.
 */
export function emaStep(average: Tensor, value: Tensor, decays: Tensor): void {
  if (average.size !== value.size) {
    throw new ShapeError(`emaStep: ${show(average.shape)} against ${show(value.shape)}`);
  }
  const decay = decays.view([], [], decays.offset);
  const rest = decays.view([], [], decays.offset + 1);
  elementwise(average, [value, decay, rest], { expression: "b * o + c * a", readOut: true });
  decay.dispose();
  rest.dispose();
}

/**
 * `target += factor * value`, in f32 whatever `value` is stored as.
 *
 * @param target dense
 * @param value of the same size
 * @param factor a number, or with `scale` times that tensor of one element
 */
export function addScaled(target: Tensor, value: Tensor, factor: number, scale?: Tensor): void {
  const flat = value.view([value.size]);
  const into = target.view([target.size]);
  const by = scale?.view([]);
  elementwise(into, by ? [flat, by] : [flat], {
    expression: by ? "o + params.alpha * b * a" : "o + params.alpha * a",
    readOut: true,
    alpha: factor,
  });
  [flat, into, by].forEach((view) => view?.dispose());
}

/**
 * `target = value`, converted to the target's element type. Both are dense and of one size.
 *
 * @param gate of one element: 0 leaves the target as it is
 */
export function assign(target: Tensor, value: Tensor, gate?: Tensor): void {
  const flat = value.view([value.size]);
  const into = target.view([target.size]);
  const open = gate?.view([]);
  elementwise(into, open ? [flat, open] : [flat], {
    expression: open ? "select(o, a, b > T(0.0))" : "TV(a)",
    readOut: open !== undefined,
  });
  [flat, into, open].forEach((view) => view?.dispose());
}
