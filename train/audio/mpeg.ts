/**
 * MPEG audio (MP3): its frames, and ID3 tags before them.
 *
 * @module
 */
import { concatBytes } from "../io/bytes.ts";
import { type ByteSource, ByteWindow } from "./byte_source.ts";
import { type AudioBlocks, AudioError, type LengthCheck, MOST_STREAMS } from "./decoded_audio.ts";
import { mpegDecoder, type StreamDecoder } from "./decoders.ts";

/** Number of bytes of ID3v2 tags before the content. */
export function id3v2Size(file: ByteSource): number {
  const source = new ByteWindow(file);
  for (let at = 0;;) {
    const tag = source.read(at, 10);
    if (tag.length < 10 || tag[0] !== 0x49 || tag[1] !== 0x44 || tag[2] !== 0x33) {
      return Math.min(at, source.size);
    }
    const size = tag.subarray(6, 10).reduce((sum, byte) => sum * 128 + (byte & 0x7f), 0);
    at += 10 + size + (tag[5] & 0x10 ? 10 : 0);
  }
}

interface MpegFrame {
  readonly bytes: number;
  readonly sampleRate: number;
  readonly channels: number;
  readonly samples: number;
  /** Version and layer. */
  readonly kind: number;
}

/** Frames behind one another. */
interface MpegRun {
  readonly start: number;
  readonly end: number;
  readonly frames: number;
  readonly first: MpegFrame;
  /** Whether a frame has two channels. */
  readonly stereo: boolean;
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

/** @param bytes the four bytes of a header */
function mpegFrame(bytes: Uint8Array): MpegFrame | undefined {
  if (bytes.length < 4) return undefined;
  if (bytes[0] !== 0xff || (bytes[1] & 0xe0) !== 0xe0) return undefined;
  const version = (bytes[1] >> 3) & 3; // 0: 2.5, 1: reserved, 2: MPEG-2, 3: MPEG-1
  const layer = 4 - ((bytes[1] >> 1) & 3); // 4: reserved
  const rateIndex = bytes[2] >> 4;
  const frequency = (bytes[2] >> 2) & 3;
  // Index 0 is "free format", whose frames cannot be measured from the header.
  if (version === 1 || layer === 4 || rateIndex === 0 || rateIndex === 15) {
    return undefined;
  }
  if (frequency === 3 || (bytes[3] & 3) === 2) return undefined;
  const sampleRate = [44100, 48000, 32000][frequency] /
    (version === 3 ? 1 : version === 2 ? 2 : 4);
  const rates = version === 3 ? MPEG1_RATES[layer - 1] : MPEG2_RATES[layer === 1 ? 0 : 1];
  const bitRate = rates[rateIndex - 1] * 1000;
  const padding = (bytes[2] >> 1) & 1;
  const size = layer === 1 ? (Math.floor(12 * bitRate / sampleRate) + padding) * 4 : Math.floor(
    (layer === 3 && version !== 3 ? 72 : 144) * bitRate / sampleRate,
  ) + padding;
  return {
    bytes: size,
    sampleRate,
    channels: (bytes[3] >> 6) === 3 ? 1 : 2,
    samples: layer === 1 ? 384 : layer === 3 && version !== 3 ? 576 : 1152,
    kind: bytes[1] & 0x1e,
  };
}

/**
 * Frames in a row that make a sync word credible; in random bytes a chance of about 1 in 10^10 per
 * file.
 */
const MPEG_RUN = 3;
/** Junk before the first frame, after any ID3 tag, that is still searched. */
const MPEG_SEARCH = 1 << 16;

/** Bytes that the decoder gets at a time: its own input buffer. */
const FED = 1 << 16;

/**
 * Decodes the MPEG audio frames (layers I to III) from `from` on, found by walking from header to
 * header, so that tags, pictures and junk never reach the decoder. A run of frames of one version,
 * layer and rate counts when it has three, or reaches exactly from the start to the end. Mono and
 * stereo frames may follow each other; where version, layer or rate change, a new decoder goes on.
 *
 * @param from end of the ID3v2 tags
 * @throws AudioError when there is no such run, or frames are damaged.
 */
export async function* mpegBlocks(file: ByteSource, from: number, check: LengthCheck): AudioBlocks {
  const source = new ByteWindow(file);
  let [seconds, streams] = [0, 0];
  let kind: string | undefined;
  let anyStereo = false;
  for (const { frames, first, stereo } of mpegRuns(source, from)) {
    check(seconds += frames * first.samples / first.sampleRate);
    if (kindOf(first) !== kind) streams++;
    kind = kindOf(first);
    anyStereo ||= stereo;
    if (streams > MOST_STREAMS) throw new AudioError("MP3 data changes its format too often");
  }
  if (streams === 0) {
    throw new AudioError("not a known audio format: no WAV, FLAC or Ogg header and no MP3 frames");
  }
  let decoder: StreamDecoder<Uint8Array> | undefined;
  let sampleRate = 0;
  let parts: Uint8Array[] = [];
  let size = 0;
  const decoded = () => {
    const channels = decoder!.decode(parts.length === 1 ? parts[0] : concatBytes(parts));
    [parts, size] = [[], 0];
    // The decoder always gives two channels, equal ones for a mono frame.
    return { sampleRate, channels: channels.slice(0, anyStereo ? 2 : 1) };
  };
  kind = undefined;
  for (const run of mpegRuns(source, from)) {
    if (kindOf(run.first) !== kind) {
      if (size > 0) yield decoded();
      decoder?.finish();
      decoder = await mpegDecoder();
      kind = kindOf(run.first);
      sampleRate = run.first.sampleRate;
    }
    for (let at = run.start; at < run.end;) {
      const part = source.read(at, Math.min(FED - size, run.end - at));
      if (part.length === 0) throw new AudioError("the file became shorter");
      parts.push(part);
      size += part.length;
      at += part.length;
      if (size === FED) yield decoded();
    }
  }
  if (size > 0) yield decoded();
  decoder?.finish();
}

function kindOf({ kind, sampleRate }: MpegFrame): string {
  return `${kind} ${sampleRate}`;
}

function* mpegRuns(source: ByteWindow, from: number): Generator<MpegRun> {
  let found = false;
  for (let at = from; at + 4 <= source.size;) {
    // Sync words are rare: jump to the next candidate.
    at = source.indexOf(0xff, at, found ? source.size : Math.min(from + MPEG_SEARCH, source.size));
    if (at < 0) return;
    const run = mpegRun(source, at);
    const whole = at === from && run?.end === source.size;
    if (run && (run.frames >= MPEG_RUN || whole)) {
      found = true;
      yield run;
      at = run.end;
    } else at++;
  }
}

function mpegRun(source: ByteWindow, start: number): MpegRun | undefined {
  let first: MpegFrame | undefined;
  let [frames, end, stereo] = [0, start, false];
  for (;;) {
    const frame = mpegFrame(source.read(end, 4));
    const fits = frame && end + frame.bytes <= source.size;
    if (!fits || kindOf(first ??= frame) !== kindOf(frame)) {
      return first && { start, end, frames, first, stereo };
    }
    stereo ||= frame.channels === 2;
    frames++;
    end += frame.bytes;
  }
}
