/**
 * Settings of the loss scale under mixed precision; `LossScale` itself is the engine's.
 *
 * @module
 */
import type { LossScaleOptions } from "../../engine/mod.ts";

/**
 * Scale of the first update, as fairseq's. It multiplies the sum of the losses of all tokens, not
 * their mean.
 */
export const FIRST_LOSS_SCALE = 128;
/**
 * Updates without overflow after which the scale doubles: fairseq's 2^14 for one GPU, over the
 * paper's eight.
 */
export const GROWTH_WINDOW = 2 ** 11;
/** A run whose scale falls below this has gone astray (fairseq's limit). */
export const LEAST_LOSS_SCALE = 1e-4;

/** How the scale of a run starts and grows. */
export const LOSS_SCALE: LossScaleOptions = {
  first: FIRST_LOSS_SCALE,
  growthWindow: GROWTH_WINDOW,
};
