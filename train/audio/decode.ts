/**
 * From an audio file to the waveform that the front end takes: decode, mix to mono, resample.
 *
 * @module
 */
import { FLACDecoder } from "@wasm-audio-decoders/flac";
import { OggVorbisDecoder } from "@wasm-audio-decoders/ogg-vorbis";
import { MPEGDecoder } from "mpg123-decoder";
import { OggOpusDecoder } from "ogg-opus-decoder";
import { readFully } from "../io/bytes.ts";
import { AudioError, type DecodedAudio } from "./decoded_audio.ts";
import { id3v2Size, readMpeg } from "./mpeg.ts";
import { readOgg } from "./ogg.ts";
import { flacFromOgg, type FlacStream, splitFlac } from "./flac.ts";
import { resample, Resampler } from "./resample.ts";
import { type ByteSource, isWav, openWav, readWav } from "./wav.ts";

/** The rate of every waveform inside the program, in Hz. */
export const SAMPLE_RATE = 16000;

/** What the WebAssembly decoders have in common. */
interface Decoder {
  readonly ready: Promise<void>;
  free(): void;
}

interface DecoderResult {
  readonly channelData: Float32Array[];
  readonly sampleRate: number;
  readonly errors: readonly { readonly message: string }[];
}

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
 * error, since the audio around it would be wrong. Opus always comes at 48 kHz.
 *
 * @param bytes the whole file.
 * @returns the file's own rate (Hz) and one Float32Array [frames] per channel, frames at least 1,
 * all finite.
 * @throws AudioError for everything that is not usable audio.
 */
export async function decodeAudio(bytes: Uint8Array): Promise<DecodedAudio> {
  if (bytes.length === 0) throw new AudioError("file is empty");
  const audio = await decodeBySignature(bytes);
  const frames = audio.channels[0]?.length ?? 0;
  if (frames === 0) throw new AudioError(NO_SAMPLES);
  refuseNonFinite(audio.channels, 0, frames);
  return audio;
}

const NO_SAMPLES = "no audio in the file: 0 samples";

function refuseNonFinite(channels: readonly Float32Array[], first: number, frames: number): void {
  for (const channel of channels) {
    const bad = firstNonFinite(channel);
    if (bad >= 0) {
      throw new AudioError(
        `non-finite sample (${channel[bad]}) at frame ${first + bad} of ${frames}`,
      );
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

/**
 * Audio file to the waveform the front end takes: decoded, mixed to mono, then resampled
 * (model/README.md, Front end).
 *
 * @param source a path, or the content of a file.
 * @returns Float32Array [samples] at 16 kHz, at least one sample, all finite.
 * @throws AudioError when the file cannot be read or is not usable audio; the message does not
 * repeat the path.
 */
export async function loadWaveform(
  source: string | Uint8Array,
): Promise<Float32Array> {
  const bytes = typeof source === "string" ? await readFile(source) : source;
  const { sampleRate, channels } = await decodeAudio(bytes);
  try {
    return resample(toMono(channels), sampleRate, SAMPLE_RATE);
  } catch (error) {
    if (error instanceof RangeError) throw new AudioError(error.message);
    throw error;
  }
}

/** Frames of a WAV file that are decoded at a time. */
const BLOCK_FRAMES = 1 << 20;

/**
 * As {@link loadWaveform}, in blocks. WAV files are read as needed, so that they may be larger than
 * memory; of other formats the whole file is decoded, then resampled in blocks.
 *
 * @returns blocks of mono audio at 16 kHz, behind one another the waveform; some may be empty
 * @throws AudioError as {@link loadWaveform}, also after some blocks; also for fewer than `fewest`
 * samples.
 */
export async function* waveformBlocks(path: string, fewest = 1): AsyncGenerator<Float32Array> {
  using file = openFile(path);
  const { sampleRate, frames, read } = isWav(file.read(0, 12))
    ? openWav(file)
    : decodedReader(await decodeAudio(file.read(0, file.size)));
  if (frames === 0) throw new AudioError(NO_SAMPLES);
  if (frames < fewest) throw new AudioError(`${frames} samples are too few; at least ${fewest}`);
  const resampler = resamplerFor(sampleRate);
  for (let first = 0; first < frames; first += BLOCK_FRAMES) {
    const channels = read(first, Math.min(BLOCK_FRAMES, frames - first));
    refuseNonFinite(channels, first, frames);
    yield resampler.push(toMono(channels));
  }
  yield resampler.finish();
}

function decodedReader({ sampleRate, channels }: DecodedAudio) {
  return {
    sampleRate,
    frames: channels[0].length,
    read: (first: number, count: number) =>
      channels.map((channel) => channel.subarray(first, first + count)),
  };
}

function resamplerFor(rate: number): Resampler {
  try {
    return new Resampler(rate, SAMPLE_RATE);
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
  const file = attempt(() => Deno.openSync(path));
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

async function readFile(path: string): Promise<Uint8Array> {
  try {
    return await Deno.readFile(path);
  } catch (error) {
    throw new AudioError(`cannot be read: ${messageOf(error)}`);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function firstNonFinite(samples: Float32Array): number {
  for (let i = 0; i < samples.length; i++) {
    if (!Number.isFinite(samples[i])) return i;
  }
  return -1;
}

function startsWith(bytes: Uint8Array, text: string, at = 0): boolean {
  for (let i = 0; i < text.length; i++) {
    if (bytes[at + i] !== text.charCodeAt(i)) return false;
  }
  return true;
}

function decodeBySignature(bytes: Uint8Array): Promise<DecodedAudio> {
  if (isWav(bytes)) return Promise.resolve(readWav(bytes));
  if (startsWith(bytes, "OggS")) return decodeOgg(bytes);
  // Some tools put an ID3 tag before FLAC as well.
  const content = bytes.subarray(id3v2Size(bytes));
  if (startsWith(content, "fLaC")) return decodeFlac(splitFlac(content));
  for (const [at, magic, name] of UNSUPPORTED) {
    if (startsWith(bytes, magic, at)) {
      throw new AudioError(`not a supported audio format: ${name}`);
    }
  }
  return decodeMpeg(content);
}

function decodeOgg(bytes: Uint8Array): Promise<DecodedAudio> {
  const { codec, pages, packets } = readOgg(bytes);
  switch (codec) {
    case "vorbis":
      return decodeWith(
        "Vorbis",
        new OggVorbisDecoder(),
        (d) => d.decodeFile(pages),
      );
    case "opus":
      return decodeWith(
        "Opus",
        new OggOpusDecoder(),
        (d) => d.decodeFile(pages),
      );
    case "flac":
      return decodeFlac(flacFromOgg(packets));
  }
}

async function decodeFlac(stream: FlacStream): Promise<DecodedAudio> {
  const { channels } = await decodeWith(
    "FLAC",
    new FLACDecoder(),
    (d) => d.decodeFrames(stream.frames),
  );
  if (
    channels.length !== stream.channels ||
    channels[0].length !== stream.samples
  ) {
    throw new AudioError("FLAC data is damaged: frames differ from the header");
  }
  // The decoder divides by 2^(bits-1) - 1; everything else, libsndfile included, divides by
  // 2^(bits-1).
  const full = 2 ** (stream.bits - 1);
  for (const channel of channels) {
    for (let i = 0; i < channel.length; i++) {
      channel[i] = Math.round(channel[i] * (full - 1)) / full;
    }
  }
  return { sampleRate: stream.sampleRate, channels };
}

async function decodeMpeg(content: Uint8Array): Promise<DecodedAudio> {
  const stream = readMpeg(content);
  if (!stream) {
    throw new AudioError(
      "not a known audio format: no WAV, FLAC or Ogg header and no MP3 frames",
    );
  }
  const { channels } = await decodeWith(
    "MP3",
    new MPEGDecoder(),
    (d) => d.decode(stream.data),
  );
  // The decoder always gives two channels, equal ones for a mono file.
  const { sampleRate } = stream;
  return { sampleRate, channels: channels.slice(0, stream.channels) };
}

/**
 * Runs one decoder over one file and frees it. A new instance per file costs about 0.3 ms and keeps
 * a damaged file from leaving its state to the next one, or two files decoded at a time from
 * mixing.
 */
async function decodeWith<D extends Decoder>(
  codec: string,
  decoder: D,
  decode: (decoder: D) => DecoderResult | Promise<DecoderResult>,
): Promise<DecodedAudio> {
  await decoder.ready;
  try {
    const { channelData, sampleRate, errors } = await decode(decoder);
    if (errors.length > 0) {
      throw new AudioError(
        `${codec} data is damaged: ${errors[0].message} ` +
          `(${errors.length} errors)`,
      );
    }
    return { sampleRate, channels: channelData };
  } catch (error) {
    if (error instanceof AudioError) throw error;
    throw new AudioError(`${codec} data is damaged: ${messageOf(error)}`);
  } finally {
    decoder.free();
  }
}
