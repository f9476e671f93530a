/**
 * Adam with decoupled weight decay over flat arenas, in place. Nothing here is differentiable; what
 * changes from step to step is read from a small GPU buffer.
 *
 * @module
 */
import source from "../../kernels/adamw.wgsl" with { type: "text" };
import { needNumber, needOptions, needTogether, needWhole } from "../arguments.ts";
import { BYTES_PER_ELEMENT } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { needBindable } from "./copy.ts";

const kernel = /* @__PURE__ */ defineKernel("adamw", source);
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
  /** `torch` corrects the second moment's bias before adding eps, `fairseq` after. */
  readonly epsPlacement: "torch" | "fairseq";
}

/**
 * The values that the Adam kernel reads, f32 [8].
 *
 * @throws {ShapeError} if one is no finite number, or the step is not from 1.
 */
export function adamHyperValues(hyper: AdamHyper): Float32Array {
  const names = ["lr", "betas", "eps", "weightDecay", "step", "epsPlacement"];
  needOptions("adamHyperValues", hyper, names);
  const { lr, betas: [b1, b2] = [NaN, NaN], eps, weightDecay, step, epsPlacement } = hyper;
  for (const [name, value] of Object.entries({ lr, b1, b2, eps, weightDecay })) {
    needNumber("adamHyperValues", name, value);
  }
  needWhole("adamHyperValues", "the step", step, 1);
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
 * @throws {ShapeError} if sizes differ, or a tensor is strided, not f32, or starts where no kernel
 * can bind it.
 */
export function adamStep(state: AdamState, hyper: Tensor, clip: Tensor, gated = false): void {
  needOptions("adamStep", state, ["values", "grads", "m", "v"]);
  const { values, grads, m, v } = state;
  needTogether("adamStep", { values, grads, m, v, hyper, clip });
  if ([grads, m, v].some((t) => t.size !== values.size)) {
    throw new ShapeError(
      `adamStep: values, gradients and moments ${
        [values, grads, m, v].map((t) => show(t.shape)).join(", ")
      } must have one size`,
    );
  }
  const all = { values, grads, m, v, hyper, clip };
  needBindable("adamStep", all, "; the optimizers Adam and AdamW take any");
  if (hyper.size !== 8 || clip.size !== 2) {
    throw new ShapeError(
      `adamStep: hyper ${show(hyper.shape)} and clip ${show(clip.shape)} must be [8] and [2]`,
    );
  }
  const width = values.size % 4 === 0 ? 4 : 1;
  for (const [start, count] of flatChunks(values)) {
    const part = (tensor: Tensor) => ({ tensor, start, count });
    values.device.run(
      kernel,
      { WG: WORKGROUP, T: width === 4 ? "vec4f" : "f32", GATED: gated },
      [hyper, clip, part(grads), part(values), part(m), part(v)],
      { count: count / width },
      Math.ceil(count / width / WORKGROUP),
    );
  }
}
