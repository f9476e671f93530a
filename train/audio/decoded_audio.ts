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

/** The parts of a file in order; rate and number of channels may change from one to the next. */
export type AudioBlocks = AsyncGenerator<DecodedAudio, void, undefined>;

/** Samples of a part, all channels together: decoders give no more than some of these at a time. */
export const BLOCK_SAMPLES: number = 1 << 18;

/** Refuses a file of too many hours; called with its length wherever that becomes known. */
export type LengthCheck = (seconds: number) => void;

/** Streams behind one another in a file, each of which takes a decoder of its own. */
export const MOST_STREAMS = 1000;
