/**
 * From an audio file to the waveform that the front end takes: decode, mix to mono, resample.
 *
 * @module
 */
import { readFully } from "../io/bytes.ts";
import { openRegular } from "../io/regular_file.ts";
import { bytesInMemory, type ByteSource } from "./byte_source.ts";
import {
  type AudioBlocks,
  AudioError,
  type DecodedAudio,
  type LengthCheck,
} from "./decoded_audio.ts";
import { flacBlocks } from "./flac.ts";
import { id3v2Size, mpegBlocks } from "./mpeg.ts";
import { isOggPage } from "./ogg.ts";
import { oggBlocks } from "./ogg_audio.ts";
import { Resampler } from "../../model/frontend/resample.ts";
import { SAMPLE_RATE } from "../../model/frontend/tables.ts";
import { isWav, openWav, wavBlocks } from "./wav.ts";

export { SAMPLE_RATE };

/** Files of more hours of audio are refused unless another limit is given. */
export const MAX_HOURS = 24;
/**
 * Most hours of a file whose waveform is wanted as a whole: 147 MiB, twice that while it is joined.
 */
export const MAX_WHOLE_HOURS: number = 2 / 3;
/** Lowest rate of a file, Hz: less is no sound, and would become very much of it. */
const MIN_RATE = 1000;
/**
 * Largest sample, full scale being 1. The front end sums the squares of 400 of them in float32,
 * which ends at 3.4e38: with twice as much for the resampler's overshoot, 400 (2e15)² = 1.6e33 for
 * the energy and 400 times that for a power spectrum stay finite. Integers of 32 bits that someone
 * left as they were in a float file pass.
 */
export const MAX_SAMPLE = 1e15;

/** Formats that are told apart only to name them in the error message: offset, magic, name. */
const UNSUPPORTED: readonly (readonly [number, string, string])[] = [
  [4, "ftyp", "MP4/M4A"],
  [0, "FORM", "AIFF"],
  [0, "caff", "Core Audio"],
  [0, "\x1aE\xdf\xa3", "Matroska/WebM"],
  [0, "RIFX", "big-endian RIFX"],
  [0, "wvpk", "WavPack"],
  [0, "MAC ", "Monkey's Audio"],
  [0, "\x89PNG", "PNG picture"],
  [0, "\xff\xd8\xff", "JPEG picture"],
  [0, "PK\x03\x04", "zip archive"],
];

/**
 * Decodes a whole audio file: WAV, FLAC, Ogg (Vorbis, Opus, FLAC) or MP3. The content decides,
 * never the file name.
 *
 * Cut-off WAV, Ogg and MP3 files give what is whole. Damage that a checksum shows (FLAC, Ogg) is an
 * error, since the audio around it would be wrong. Opus always comes at 48 kHz. Of streams of
 * another number of channels in one file (chained Ogg, MP3), the last of fewer channels repeats.
 *
 * @param bytes the whole file.
 * @returns the file's own rate (Hz) and one Float32Array [frames] per channel, frames at least 1,
 * all finite and at most {@link MAX_SAMPLE}.
 * @throws AudioError for everything that is not usable audio, and for streams of several rates.
 */
export async function decodeAudio(bytes: Uint8Array): Promise<DecodedAudio> {
  const blocks = await Array.fromAsync(audioBlocks(bytesInMemory(bytes), MAX_HOURS));
  const [{ sampleRate }] = blocks;
  if (blocks.some((it) => it.sampleRate !== sampleRate)) {
    throw new AudioError("the file holds streams of several sample rates");
  }
  const most = Math.max(...blocks.map(({ channels }) => channels.length));
  const channels = Array.from(
    { length: most },
    (_, c) => joined(blocks.map(({ channels }) => channels[Math.min(c, channels.length - 1)])),
  );
  return { sampleRate, channels };
}

/**
 * The audio of a file as its decoder gives it, some of it at a time: all that comes from a file to
 * a model passes here.
 *
 * @throws AudioError for everything that is not usable audio, also after some blocks.
 */
async function* audioBlocks(source: ByteSource, maxHours: number): AudioBlocks {
  if (source.size === 0) throw new AudioError("file is empty");
  const check = (seconds: number) => {
    if (seconds > 3600 * maxHours) {
      throw new AudioError(`longer than ${Number(maxHours.toFixed(2))} hours`);
    }
  };
  let [first, seconds] = [0, 0];
  for await (const block of blocksBySignature(source, check)) {
    const { sampleRate, channels } = block;
    const frames = channels[0]?.length ?? 0;
    if (sampleRate < MIN_RATE) {
      throw new AudioError(`sample rate of ${sampleRate} Hz; must be at least ${MIN_RATE}`);
    }
    check(seconds += frames / sampleRate);
    if (frames === 0) continue;
    refuseUnusable(channels, first);
    yield block;
    first += frames;
  }
  if (first === 0) throw new AudioError("no audio in the file: 0 samples");
}

function refuseUnusable(channels: readonly Float32Array[], first: number): void {
  for (const channel of channels) {
    for (let i = 0; i < channel.length; i++) {
      const value = channel[i];
      if (Math.abs(value) <= MAX_SAMPLE) continue;
      const what = Number.isFinite(value)
        ? `sample of ${value.toExponential(1)}, full scale being 1,`
        : `non-finite sample (${value})`;
      throw new AudioError(`${what} at frame ${first + i}`);
    }
  }
}

/**
 * The arithmetic mean over channels.
 *
 * @param channels at least one array [frames], all of one length.
 * @returns Float32Array [frames]; the input array itself when there is only one channel.
 */
export function toMono(channels: readonly Float32Array[]): Float32Array {
  if (channels.length === 1) return channels[0];
  const output = new Float32Array(channels[0].length);
  for (let i = 0; i < output.length; i++) {
    let sum = 0;
    for (const channel of channels) sum += channel[i];
    output[i] = sum / channels.length;
  }
  return output;
}

/** Limits of {@link waveformBlocks} and {@link loadWaveform}. */
export interface WaveformOptions {
  /** Files of fewer samples, at their own rate, are refused; default 1. */
  readonly fewest?: number;
  /** Files of more hours are refused. */
  readonly maxHours?: number;
  /** Samples per second of the result; default 16,000. */
  readonly sampleRate?: number;
}

/**
 * Audio file to the waveform the front end takes: decoded, mixed to mono, then resampled
 * (model/README.md, Front end).
 *
 * @param source a path, or the content of a file.
 * @param options `maxHours` is {@link MAX_WHOLE_HOURS} by default
 * @returns Float32Array [samples] at `sampleRate`, at least one sample, all finite.
 * @throws AudioError when the file cannot be read or is not usable audio; the message does not
 * repeat the path.
 */
export async function loadWaveform(
  source: string | Uint8Array,
  options: WaveformOptions = {},
): Promise<Float32Array> {
  const limits = { maxHours: MAX_WHOLE_HOURS, ...options };
  return joined(await Array.fromAsync(waveformBlocks(source, limits)));
}

/** Mono samples that go through the resampler at a time, at least, but for the last ones. */
const LEAST_RESAMPLED = 1 << 16;

/**
 * As {@link loadWaveform}, in blocks. Files are read and decoded as needed, so that they may be
 * larger than memory. Where the rate changes within a file, each part is resampled by itself.
 *
 * @param options `maxHours` is {@link MAX_HOURS} by default
 * @returns blocks of mono audio at `sampleRate`, behind one another the waveform; some may be empty
 * @throws AudioError as {@link loadWaveform}, also after some blocks.
 */
export async function* waveformBlocks(
  source: string | Uint8Array,
  { fewest = 1, maxHours = MAX_HOURS, sampleRate: wanted = SAMPLE_RATE }: WaveformOptions = {},
): AsyncGenerator<Float32Array> {
  using file = typeof source === "string" ? openFile(source) : inMemory(source);
  let resampler: Resampler | undefined;
  let rate = 0;
  let frames = 0;
  let parts: Float32Array[] = [];
  let size = 0;
  const resampled = () => {
    const mono = joined(parts);
    [parts, size] = [[], 0];
    return resampler!.push(mono);
  };
  for await (const { sampleRate, channels } of audioBlocks(file, maxHours)) {
    if (sampleRate !== rate) {
      if (size > 0) yield resampled();
      if (resampler) yield resampler.finish();
      resampler = resamplerFor(rate = sampleRate, wanted);
    }
    const mono = toMono(channels);
    parts.push(mono);
    size += mono.length;
    frames += mono.length;
    if (size >= LEAST_RESAMPLED) yield resampled();
  }
  if (frames < fewest) throw new AudioError(`${frames} samples are too few; at least ${fewest}`);
  if (size > 0) yield resampled();
  yield resampler!.finish();
}

/** The parts behind one another; a single one as it is. */
export function joined(parts: readonly Float32Array[]): Float32Array {
  const whole = parts.filter(({ length }) => length > 0);
  if (whole.length === 1) return whole[0];
  const all = new Float32Array(whole.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of whole) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function resamplerFor(rate: number, wanted: number): Resampler {
  try {
    return new Resampler(rate, wanted);
  } catch (error) {
    if (error instanceof RangeError) throw new AudioError(error.message);
    throw error;
  }
}

/** An open file as a source of bytes. @throws AudioError when it cannot be opened. */
function openFile(path: string): ByteSource & Disposable {
  const attempt = <T>(action: () => T): T => {
    try {
      return action();
    } catch (error) {
      throw new AudioError(`cannot be read: ${messageOf(error)}`);
    }
  };
  const file = attempt(() => openRegular(path));
  return {
    size: attempt(() => file.statSync().size),
    read: (at, length) =>
      attempt(() => {
        file.seekSync(at, Deno.SeekMode.Start);
        return readFully(file, length);
      }),
    [Symbol.dispose]: () => file.close(),
  };
}

function inMemory(bytes: Uint8Array): ByteSource & Disposable {
  return { ...bytesInMemory(bytes), [Symbol.dispose]() {} };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function startsWith(bytes: Uint8Array, text: string, at = 0): boolean {
  for (let i = 0; i < text.length; i++) {
    if (bytes[at + i] !== text.charCodeAt(i)) return false;
  }
  return true;
}

async function* blocksBySignature(source: ByteSource, check: LengthCheck): AudioBlocks {
  const start = source.read(0, 12);
  if (isWav(start)) {
    const wav = openWav(source);
    check(wav.frames / wav.sampleRate);
    return yield* wavBlocks(wav);
  }
  if (isOggPage(start)) return yield* oggBlocks(source, check);
  // Some tools put an ID3 tag before FLAC as well.
  const from = id3v2Size(source);
  if (startsWith(source.read(from, 4), "fLaC")) return yield* flacBlocks(source, from, check);
  for (const [at, magic, name] of UNSUPPORTED) {
    if (startsWith(start, magic, at)) {
      throw new AudioError(`not a supported audio format: ${name}`);
    }
  }
  yield* mpegBlocks(source, from, check);
}
