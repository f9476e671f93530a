/**
 * MPEG audio (MP3): its frames, and ID3 tags before them.
 *
 * @module
 */
import { concatBytes } from "../io/bytes.ts";

/** Whole MPEG audio frames of one format, without tags and junk between them. */
export interface MpegStream {
  /** Frames per second. */
  readonly sampleRate: number;
  /** 1 or 2. */
  readonly channels: number;
  /** Frame data for the decoder. */
  readonly data: Uint8Array;
}

/** Number of bytes of ID3v2 tags before the content. */
export function id3v2Size(bytes: Uint8Array): number {
  let at = 0;
  while (
    bytes[at] === 0x49 && bytes[at + 1] === 0x44 && bytes[at + 2] === 0x33 &&
    at + 10 <= bytes.length
  ) {
    const size = bytes.subarray(at + 6, at + 10)
      .reduce((sum, byte) => sum * 128 + (byte & 0x7f), 0);
    const footer = bytes[at + 5] & 0x10 ? 10 : 0;
    at += 10 + size + footer;
  }
  return Math.min(at, bytes.length);
}

interface MpegFrame {
  readonly bytes: number;
  readonly sampleRate: number;
  readonly channels: number;
  /** Equal in all frames of a stream: version and layer. */
  readonly kind: number;
}

/**
 * kbit/s by bit-rate index 1 to 14: layers I, II, III of MPEG-1, then layer I and layers II/III of
 * MPEG-2.
 */
const MPEG1_RATES = [
  [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
  [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
  [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
];
const MPEG2_RATES = [
  [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
  [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

function mpegFrame(bytes: Uint8Array, at: number): MpegFrame | undefined {
  if (at + 4 > bytes.length) return undefined;
  if (bytes[at] !== 0xff || (bytes[at + 1] & 0xe0) !== 0xe0) return undefined;
  const version = (bytes[at + 1] >> 3) & 3; // 0: 2.5, 1: reserved, 2: MPEG-2, 3: MPEG-1
  const layer = 4 - ((bytes[at + 1] >> 1) & 3); // 4: reserved
  const rateIndex = bytes[at + 2] >> 4;
  const frequency = (bytes[at + 2] >> 2) & 3;
  // Index 0 is "free format", whose frames cannot be measured from the header.
  if (version === 1 || layer === 4 || rateIndex === 0 || rateIndex === 15) {
    return undefined;
  }
  if (frequency === 3 || (bytes[at + 3] & 3) === 2) return undefined;
  const sampleRate = [44100, 48000, 32000][frequency] /
    (version === 3 ? 1 : version === 2 ? 2 : 4);
  const rates = version === 3 ? MPEG1_RATES[layer - 1] : MPEG2_RATES[layer === 1 ? 0 : 1];
  const bitRate = rates[rateIndex - 1] * 1000;
  const padding = (bytes[at + 2] >> 1) & 1;
  const size = layer === 1 ? (Math.floor(12 * bitRate / sampleRate) + padding) * 4 : Math.floor(
    (layer === 3 && version !== 3 ? 72 : 144) * bitRate / sampleRate,
  ) + padding;
  return {
    bytes: size,
    sampleRate,
    channels: (bytes[at + 3] >> 6) === 3 ? 1 : 2,
    kind: bytes[at + 1] & 0x1e,
  };
}

/**
 * Frames in a row that make a sync word credible; in random bytes a chance of about 1 in 10^10 per
 * file.
 */
const MPEG_RUN = 3;
/** Junk before the first frame, after any ID3 tag, that is still searched. */
const MPEG_SEARCH = 1 << 16;

/**
 * Finds the MPEG audio frames (layers I to III) of a file by walking from header to header, so that
 * tags, pictures and junk never reach the decoder. A run counts when it has three frames, or
 * reaches exactly from the start to the end.
 *
 * @param bytes the file after its ID3v2 tags.
 * @returns undefined when there is no such run.
 */
export function readMpeg(bytes: Uint8Array): MpegStream | undefined {
  const runs: Uint8Array[] = [];
  let first: MpegFrame | undefined;
  let at = 0;
  while (at + 4 <= bytes.length && (first || at < MPEG_SEARCH)) {
    // Sync words are rare: jump to the next candidate.
    at = bytes.indexOf(0xff, at);
    if (at < 0) break;
    const run = mpegRun(bytes, at, first);
    const whole = at === 0 && run.end === bytes.length;
    if (run.frames >= MPEG_RUN || (run.frames > 0 && whole)) {
      first ??= mpegFrame(bytes, at);
      runs.push(bytes.subarray(at, run.end));
      at = run.end;
    } else {
      at++;
    }
  }
  return first && {
    sampleRate: first.sampleRate,
    channels: first.channels,
    data: runs.length === 1 ? runs[0] : concatBytes(runs),
  };
}

function mpegRun(
  bytes: Uint8Array,
  start: number,
  like: MpegFrame | undefined,
): { frames: number; end: number } {
  let frames = 0;
  let end = start;
  let model = like;
  for (;;) {
    const frame = mpegFrame(bytes, end);
    if (!frame || end + frame.bytes > bytes.length) return { frames, end };
    model ??= frame;
    if (
      frame.kind !== model.kind || frame.sampleRate !== model.sampleRate ||
      frame.channels !== model.channels
    ) return { frames, end };
    frames++;
    end += frame.bytes;
  }
}
