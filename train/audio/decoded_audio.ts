/**
 * What decoders give, and the error where they cannot.
 *
 * @module
 */

/**
 * Audio that cannot be used. The message says what is wrong, for a person; it does not repeat the
 * path.
 */
export class AudioError extends Error {
  /** The class name, as printed. */
  override readonly name = "AudioError";
}

/** Decoded audio: the rate in Hz and one Float32Array [frames] per channel, full scale [-1, 1]. */
export interface DecodedAudio {
  /** Frames per second. */
  readonly sampleRate: number;
  /** One array per channel, all of the same length. */
  readonly channels: Float32Array[];
}
