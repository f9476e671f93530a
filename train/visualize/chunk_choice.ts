/**
 * Which chunk of a clip is drawn.
 *
 * @module
 */

/** First frame of the whole chunk that holds a frame; the last of a clip ends where it ends. */
export function chunkAt(frame: number, frames: number, chunkFrames: number): number {
  const first = Math.floor(Math.max(0, frame) / chunkFrames) * chunkFrames;
  return Math.max(0, Math.min(first, frames - chunkFrames));
}

/**
 * First frame of the whole chunk with most power, the first of equal ones.
 *
 * @param clip in decibels
 */
export function loudestChunk(
  { values, frames, bands }: {
    readonly values: ArrayLike<number>;
    readonly frames: number;
    readonly bands: number;
  },
  chunkFrames: number,
): number {
  let [best, most] = [0, -Infinity];
  for (let frame = 0; frame < frames; frame += chunkFrames) {
    const first = chunkAt(frame, frames, chunkFrames);
    let power = 0;
    for (let band = 0; band < bands; band++) {
      for (let t = first; t < first + chunkFrames; t++) {
        power += 10 ** (values[band * frames + t] / 10);
      }
    }
    // Sums of the same values in another order differ in the last digits.
    if (power > most * (1 + 1e-9) || most === -Infinity) [best, most] = [first, power];
  }
  return best;
}
