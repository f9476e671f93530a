/**
 * Dynamic loss scaling for training in f16 (Micikevicius et al., 2018): the loss is multiplied by a
 * scale before the backward pass, so that small gradients stay above f16's smallest numbers; an
 * update whose gradients overflow is left out and halves the scale. All of it is decided on the
 * device.
 *
 * @module
 */
import scaleSource from "../../kernels/loss_scale.wgsl" with { type: "text" };
import loadSource from "../../kernels/ring_load.wgsl" with { type: "text" };
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";

const scaleKernel = defineKernel("loss_scale", scaleSource);
const loadKernel = defineKernel("ring_load", loadSource);
const WORKGROUP = 64;

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
  if (state.size !== LOSS_SCALE_FIELDS.length || clip.size !== 2) {
    throw new ShapeError(
      `lossScaleStep: state ${show(state.shape)} and clip ${show(clip.shape)} must be [6] and [2]`,
    );
  }
  state.device.run(scaleKernel, {}, [clip, state], { window }, 1);
}

/**
 * `row = ring[places[index] mod rows, :]`, the reverse of `storeRow`.
 *
 * @param row f32, dense
 * @param ring f32 [rows, elements of row], dense
 * @param places f32, dense; the one at `index` is a whole number from 0 to 2^24, read when the
 * kernel runs
 * @throws {ShapeError} if the sizes do not fit.
 */
export function loadRow(row: Tensor, ring: Tensor, places: Tensor, index = 0): void {
  const [rows, width] = ring.shape;
  if (ring.shape.length !== 2 || row.size !== width || index >= places.size) {
    throw new ShapeError(
      `loadRow: row ${show(row.shape)} and place ${index} of ${show(places.shape)} do not fit ` +
        `the ring ${show(ring.shape)} [rows, width]`,
    );
  }
  row.device.run(
    loadKernel,
    { WG: WORKGROUP },
    [ring, places, row],
    { count: width, rows, index },
    Math.ceil(width / WORKGROUP),
  );
}
