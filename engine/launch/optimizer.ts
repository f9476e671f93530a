/**
 * In-place updates over flat arenas: gradient norm and clipping, Adam, exponential moving averages.
 * Nothing here is differentiable. What changes from step to step is read from small GPU buffers.
 *
 * @module
 */
import adamSource from "../../kernels/adamw.wgsl" with { type: "text" };
import { BYTES_PER_ELEMENT } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { scope } from "../scope.ts";
import { sumOf } from "./copy.ts";
import { elementwise } from "./elementwise.ts";
import { sumOfSquares } from "../ops/reduce.ts";

const adamKernel = defineKernel("adamw", adamSource);
const WORKGROUP = 64;

/** Contiguous parts of a flat tensor that fit a binding; starts are multiples of 64 elements. */
function flatChunks(tensor: Tensor): [start: number, count: number][] {
  const most = Math.floor(tensor.device.bindingLimit / BYTES_PER_ELEMENT / 64) * 64;
  const chunks: [number, number][] = [];
  for (let start = 0; start < tensor.size; start += most) {
    chunks.push([start, Math.min(most, tensor.size - start)]);
  }
  return chunks;
}

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

/** Settings of one Adam step. */
export interface AdamHyper {
  /** Learning rate of this step. */
  readonly lr: number;
  /** Decay rates of the moments. */
  readonly betas: readonly [number, number];
  /** Added to the root of the second moment. */
  readonly eps: number;
  /** Decoupled weight decay. */
  readonly weightDecay: number;
  /** Updates including this one, from 1. */
  readonly step: number;
  /**
   * `torch` corrects the second moment's bias before adding eps, `fairseq` after (SPEC section 4).
   */
  readonly epsPlacement: "torch" | "fairseq";
}

/** The values that the Adam kernel reads, f32 [8]. */
export function adamHyperValues(
  { lr, betas: [b1, b2], eps, weightDecay, step, epsPlacement }: AdamHyper,
): Float32Array {
  const root = Math.sqrt(1 - b2 ** step);
  const rate = lr / (1 - b1 ** step);
  const torch = epsPlacement === "torch";
  return new Float32Array([
    b1,
    1 - b1,
    b2,
    1 - b2,
    torch ? rate : rate * root,
    torch ? 1 / root : 1,
    eps,
    1 - lr * weightDecay,
  ]);
}

/** Dense tensors of one size for one Adam update. */
export interface AdamState {
  /** Parameters, updated in place. */
  readonly values: Tensor;
  /** Gradients before clipping. */
  readonly grads: Tensor;
  /** First moments, updated in place. */
  readonly m: Tensor;
  /** Second moments, updated in place. */
  readonly v: Tensor;
}

/**
 * One Adam update with decoupled weight decay; see {@link adamHyperValues} for the two placements
 * of eps.
 *
 * @param state dense tensors of one size; multiples of 4 are faster
 * @param hyper f32 [8] from {@link adamHyperValues}
 * @param clip f32 [2] from {@link gradientNorm}
 * @param gated whether a clip coefficient of 0 leaves everything as it is, whatever the gradients
 * are
 * @throws {ShapeError} if sizes differ.
 */
export function adamStep(state: AdamState, hyper: Tensor, clip: Tensor, gated = false): void {
  const { values, grads, m, v } = state;
  if ([grads, m, v].some((t) => t.size !== values.size)) {
    throw new ShapeError(
      `adamStep: values, gradients and moments ${
        [values, grads, m, v].map((t) => show(t.shape)).join(", ")
      } must have one size`,
    );
  }
  const width = values.size % 4 === 0 ? 4 : 1;
  for (const [start, count] of flatChunks(values)) {
    const part = (tensor: Tensor) => ({ tensor, start, count });
    values.device.run(
      adamKernel,
      { WG: WORKGROUP, T: width === 4 ? "vec4f" : "f32", GATED: gated },
      [hyper, clip, part(grads), part(values), part(m), part(v)],
      { count: count / width },
      Math.ceil(count / width / WORKGROUP),
    );
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
