/**
 * Tokens: patches of spectrograms, those that count in a batch, the way through blocks.
 *
 * @module
 */
import {
  composite,
  type Device,
  permute,
  reshape,
  ShapeError,
  slice,
  type Tensor,
} from "../../engine/functions.ts";
import type { Trace } from "./info.ts";

/**
 * Which tokens of a batch count, for the attention and for what is added to or taken from tokens.
 *
 * @param counts tokens of each clip
 * @returns [clips, tokens] of 1 and 0
 * @throws {ShapeError} if a count is not from 1 to `tokens`, or there are not as many as clips.
 */
export function tokenMask(
  device: Device,
  counts: readonly number[],
  clips: number,
  tokens: number,
): Tensor {
  if (
    counts.length !== clips ||
    counts.some((it) => !Number.isInteger(it) || it < 1 || it > tokens)
  ) {
    throw new ShapeError(`encode: [${counts}] are not the tokens of ${clips} clips of ${tokens}`);
  }
  const mask = new Float32Array(clips * tokens);
  counts.forEach((it, clip) => mask.fill(1, clip * tokens, clip * tokens + it));
  return device.tensor(mask, [clips, tokens]);
}

/**
 * Spectrograms as time-major patches: token = step * rows + row; inside a patch frames go first,
 * then bands. Trailing frames that fill no patch are dropped.
 *
 * @param x [clips, frames, bands]
 * @param patch frames and bands of a patch
 * @returns [clips, tokens, values of a patch]
 * @throws {ShapeError} if no patch fits.
 */
export function timeMajorPatches(
  x: Tensor,
  [high, wide]: readonly [frames: number, bands: number],
): Tensor {
  const [clips, frames, bands] = x.shape;
  const [steps, rows] = [Math.floor(frames / high), bands / wide];
  if (x.shape.length !== 3 || steps < 1 || !Number.isInteger(rows)) {
    throw new ShapeError(
      `encode: features [${x.shape}] are not [clips, frames, bands] that patches of ${high} ` +
        `frames and ${wide} bands fit`,
    );
  }
  return composite(() => {
    const whole = steps * high === frames ? x : slice(x, 1, 0, steps * high);
    const parts = reshape(whole, [clips, steps, high, rows, wide]);
    return reshape(permute(parts, [0, 1, 3, 2, 4]), [clips, steps * rows, high * wide]);
  });
}

/**
 * Blocks one after the other; one block's intermediate results at a time, so that depth does not
 * count in the memory.
 *
 * @param x what the first one takes, which is freed, as are all outputs but the last one
 * @param trace sees `block0` and so on
 * @param each sees all outputs
 * @returns the last output
 */
export function throughBlocks(
  x: Tensor,
  depth: number,
  block: (input: Tensor, index: number) => Tensor,
  { trace, each }: { trace?: Trace; each?: (output: Tensor, index: number) => void } = {},
): Tensor {
  let hidden = x;
  for (let i = 0; i < depth; i++) {
    using input = hidden;
    hidden = composite(() => block(input, i));
    trace?.(`block${i}`, hidden);
    each?.(hidden, i);
  }
  return hidden;
}
