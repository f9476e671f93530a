/**
 * Dynamic loss scaling for training in f16 (Micikevicius et al., 2018): the loss is multiplied by a
 * scale before the backward pass, so that small gradients stay above f16's smallest numbers; an
 * update whose gradients overflow is left out and halves the scale. All of it is decided on the
 * device.
 *
 * @module
 */
import source from "../../kernels/loss_scale.wgsl" with { type: "text" };
import { needTogether, needWhole } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { needBindable } from "./copy.ts";
import { show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";

const kernel = /* @__PURE__ */ defineKernel("loss_scale", source);

/** Elements of the state that {@link lossScaleStep} keeps, in order. */
export const LOSS_SCALE_FIELDS = [
  "scale",
  "inverse",
  "clean",
  "skipped",
  "applied",
  "gate",
] as const;

/**
 * Ends the backward pass of an update: halves the scale and sets the clip coefficient and the gate
 * to 0 if the gradient norm is not finite, else sets the gate to 1 and doubles the scale after
 * `window` such updates in a row.
 *
 * @param state f32 [6], see {@link LOSS_SCALE_FIELDS}; scale and inverse are powers of two
 * @param clip f32 [2] from `gradientNorm`
 * @param window updates without overflow until the scale doubles
 * @throws {ShapeError} if the sizes do not fit.
 */
export function lossScaleStep(state: Tensor, clip: Tensor, window: number): void {
  needTogether("lossScaleStep", { state, clip });
  needWhole("lossScaleStep", "the window", window, 1, 2 ** 32 - 1);
  if (state.size !== LOSS_SCALE_FIELDS.length || clip.size !== 2) {
    throw new ShapeError(
      `lossScaleStep: state ${show(state.shape)} and clip ${show(clip.shape)} must be [6] and [2]`,
    );
  }
  needBindable("lossScaleStep", { state, clip });
  state.device.run(kernel, {}, [clip, state], { window }, 1);
}
