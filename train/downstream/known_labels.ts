/**
 * Labels of which nobody said whether a clip has them, as in OpenMIC: they count neither as there
 * nor as not there.
 *
 * @module
 */
import { bceWithLogits, clamp, greaterEqual, type Tensor, where } from "../../engine/mod.ts";

/** Target of a class of which it is not known whether the clip is of it. */
export const UNKNOWN = -1;

/**
 * Binary cross-entropy, element by element.
 *
 * @param targets shares from 0 to 1, or {@link UNKNOWN}: no loss and no gradient there
 */
export function knownCrossEntropy(logits: Tensor, targets: Tensor): Tensor {
  return where(greaterEqual(targets, 0), bceWithLogits(logits, clamp(targets, 0, 1)), 0);
}
