/**
 * Random masking of patches (SPEC section 2.3).
 *
 * @module
 */

/**
 * Patches that stay visible: the double product truncated, literally as the released code has it.
 *
 * @param patches patches per clip
 * @param ratio share that is masked
 */
export function visibleCount(patches: number, ratio: number): number {
  return Math.trunc(patches * (1 - ratio));
}

/** Which patches each clip keeps. */
export interface Mask {
  /** [batch, patches]: patch numbers, visible ones first, in drawn order. */
  readonly shuffle: Uint32Array;
  /** [batch, patches]: where in `shuffle` each patch stands. */
  readonly restore: Uint32Array;
  /** Visible patches per clip. */
  readonly visible: number;
}

/**
 * Turns noise into a mask: patches ordered by ascending noise, the first ones visible.
 *
 * @param noise [batch, patches]; ties keep the lower patch first
 * @param visible patches that stay visible
 */
export function maskFromNoise(
  noise: ArrayLike<number>,
  batch: number,
  patches: number,
  visible: number,
): Mask {
  const shuffle = new Uint32Array(batch * patches);
  const restore = new Uint32Array(batch * patches);
  for (let b = 0; b < batch; b++) {
    const first = b * patches;
    const order = Uint32Array.from({ length: patches }, (_, i) => i)
      .sort((i, j) => noise[first + i] - noise[first + j] || i - j);
    shuffle.set(order, first);
    order.forEach((patch, i) => restore[first + patch] = i);
  }
  return { shuffle, restore, visible };
}

/**
 * Draws a random mask for each clip of a batch.
 *
 * @param uniform draws from [0, 1)
 */
export function randomMask(
  uniform: () => number,
  batch: number,
  patches: number,
  ratio: number,
): Mask {
  const noise = Float64Array.from({ length: batch * patches }, uniform);
  return maskFromNoise(noise, batch, patches, visibleCount(patches, ratio));
}
