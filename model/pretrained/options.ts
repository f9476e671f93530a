/**
 * What files of encoders do not say, or say wrongly.
 *
 * @module
 */
import { EncoderError } from "../encoder/file_values.ts";
import type { Setting } from "../formats/checkpoint_file.ts";

/** What a caller knows better than the file. */
export interface PretrainedOptions {
  /** Attention heads; default what the file says, else one for each 64 of the width. */
  readonly heads?: number;
  /** Samples per second of an HTS-AT that was not trained at 32 kHz, which files do not say. */
  readonly sampleRate?: number;
  /** Frames and bands of a patch, of MAE-AST; default what the file says. */
  readonly patch?: readonly [frames: number, bands: number];
  /** Whether gradients of the parameters are collected; default false. */
  readonly trainable?: boolean;
}

/** Width of a head in all released encoders. */
const HEAD_WIDTH = 64;

/**
 * Attention heads: given, else said by the file, else one for each 64 of the width.
 *
 * @throws {EncoderError} if they do not divide the width, or nothing tells them.
 */
export function headsOf(
  width: number,
  said: Setting | undefined,
  { heads: given }: PretrainedOptions,
): number {
  const heads = given ?? said ?? (width % HEAD_WIDTH === 0 ? width / HEAD_WIDTH : undefined);
  if (heads === undefined) {
    throw new EncoderError(
      `nothing in it tells the number of attention heads of width ${width}; ` +
        "the option heads gives it",
    );
  }
  if (typeof heads !== "number" || !(heads >= 1) || !Number.isInteger(width / heads)) {
    throw new EncoderError(`${heads} attention heads do not divide the width ${width}`);
  }
  return heads;
}
