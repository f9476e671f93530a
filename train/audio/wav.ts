/**
 * WAV files: RIFF chunks and samples of all common formats.
 *
 * @module
 */
import { AudioError, BLOCK_SAMPLES, type DecodedAudio } from "./decoded_audio.ts";
import { bytesInMemory, type ByteSource, ByteWindow } from "./byte_source.ts";

/** How one sample is stored. `bytes` is the width of its container. */
interface Encoding {
  readonly kind: "unsigned" | "integer" | "float" | "mu-law" | "a-law";
  readonly bytes: number;
}

interface Format {
  readonly encoding: Encoding;
  readonly channels: number;
  readonly sampleRate: number;
}

interface Chunk {
  readonly start: number;
  /** First byte after the chunk, never beyond the end of the file. */
  readonly end: number;
}

const FORMAT_PCM = 1;
const FORMAT_FLOAT = 3;
const FORMAT_A_LAW = 6;
const FORMAT_MU_LAW = 7;
const FORMAT_EXTENSIBLE = 0xfffe;

/** Names for the codecs people are most likely to meet, for the error message. */
const OTHER_CODECS: Readonly<Record<number, string>> = {
  0x02: "Microsoft ADPCM",
  0x11: "IMA ADPCM",
  0x31: "GSM 6.10",
  0x50: "MPEG audio",
  0x55: "MP3",
  0xff: "AAC",
};

/** The extensible fmt chunk has 40 bytes; what may follow says nothing more. */
const MAX_FORMAT_BYTES = 40;
/** A ds64 chunk has 28 bytes and 12 for each other long chunk. */
const MAX_DS64_BYTES = 28 + 12 * 64;
/** First letter of the chunk that may be empty and count. */
const DATA = "d".charCodeAt(0);
/** A size that is not known or does not fit. */
const UNKNOWN_SIZE = 0xffffffff;
/** Bytes 2 to 15 of every sub-format GUID that wraps a plain format tag. */
const GUID_TAIL = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71];

/** A WAV file of which any part can be read. */
export interface WavReader {
  /** Frames per second. */
  readonly sampleRate: number;
  /** Frames that are there. */
  readonly frames: number;
  /** Number of channels. */
  readonly channels: number;
  /** One Float32Array [count] per channel; `first + count` at most `frames`. */
  read(first: number, count: number): Float32Array[];
}

/**
 * Reads a RIFF/WAVE file (also RF64 and BW64): 8/16/24/32-bit PCM, 32/64-bit float, mu-law, A-law,
 * plain or WAVE_FORMAT_EXTENSIBLE, any number of channels.
 *
 * Sizes in the header are upper bounds: the RIFF size is ignored, and a data chunk that claims more
 * than the file holds gives the whole frames that are there. Integers are scaled by 2^(bits-1), so
 * full scale is [-1, 1).
 *
 * @param bytes the whole file.
 * @returns the rate in Hz and one Float32Array [frames] per channel; frames may be 0. Float samples
 * are passed on as they are, finite or not: `decodeAudio` checks them.
 * @throws AudioError when the header is incomplete, contradictory or names a codec that is not
 * supported.
 */
export function readWav(bytes: Uint8Array): DecodedAudio {
  const wav = openWav(bytesInMemory(bytes));
  return { sampleRate: wav.sampleRate, channels: wav.read(0, wav.frames) };
}

/**
 * Reads the header of a WAV file, for parts of it to be read later.
 *
 * @throws AudioError as `readWav`.
 */
export function openWav(source: ByteSource): WavReader {
  if (!isWav(source.read(0, 12))) throw new AudioError("not a WAV file: no RIFF/WAVE header");
  const { format, data } = findChunks(source);
  const { channels, encoding, sampleRate } = format;
  const step = channels * encoding.bytes;
  return {
    sampleRate,
    frames: Math.floor((data.end - data.start) / step),
    channels,
    read(first, count): Float32Array[] {
      const bytes = source.read(data.start + first * step, count * step);
      if (bytes.length < count * step) throw new AudioError("the file became shorter");
      const read = sampleReader(viewOf(bytes), encoding);
      return Array.from({ length: channels }, (_, c) => {
        const channel = new Float32Array(count);
        for (let i = 0, at = c * encoding.bytes; i < count; i++, at += step) channel[i] = read(at);
        return channel;
      });
    },
  };
}

/** The samples of a WAV file, part by part. */
export function* wavBlocks(wav: WavReader): Generator<DecodedAudio, void, undefined> {
  const { sampleRate, frames, channels } = wav;
  const most = Math.max(1, Math.floor(BLOCK_SAMPLES / channels));
  for (let first = 0; first < frames; first += most) {
    yield { sampleRate, channels: wav.read(first, Math.min(most, frames - first)) };
  }
}

/**
 * Whether the content starts like a WAV file: "RIFF", "RF64" or "BW64", four size bytes, "WAVE".
 */
export function isWav(bytes: Uint8Array): boolean {
  const id = ascii(bytes, 0);
  return (id === "RIFF" || id === "RF64" || id === "BW64") &&
    ascii(bytes, 8) === "WAVE";
}

function ascii(bytes: Uint8Array, at: number): string {
  return String.fromCharCode(...bytes.subarray(at, at + 4));
}

function findChunks(file: ByteSource): { format: Format; data: Chunk } {
  const source = new ByteWindow(file);
  const sizes = longSizes(source);
  let format: Format | undefined;
  let data: Chunk | undefined;
  let at = 12;
  while (at + 8 <= source.size && !(format && data)) {
    const header = source.read(at, 8);
    // Files of millions of chunks exist, if only to annoy.
    if (header[4] + header[5] + header[6] + header[7] === 0 && header[0] !== DATA) {
      at += 8;
      continue;
    }
    const id = ascii(header, 0);
    const short = viewOf(header).getUint32(4, true);
    const size = short === UNKNOWN_SIZE ? sizes.get(id) ?? short : short;
    const start = at + 8;
    const end = Math.min(start + size, source.size);
    if (id === "fmt ") {
      const content = viewOf(source.read(start, Math.min(end - start, MAX_FORMAT_BYTES)));
      format = parseFormat(content, { start: 0, end: content.byteLength });
    }
    if (id === "data") {
      const unknown = short === UNKNOWN_SIZE && !sizes.has(id);
      const open = unknown || (size === 0 && !isChunkList(source, start));
      data = { start, end: open ? source.size : end };
    }
    // A chunk of odd size is followed by one pad byte.
    at = start + size + (size & 1);
  }
  if (!format) {
    throw new AudioError("WAV header is incomplete: no fmt chunk");
  }
  if (!data) throw new AudioError("WAV file has no data chunk");
  return { format, data };
}

/**
 * Sizes of the chunks that RF64 and BW64 (EBU Tech 3306, ITU-R BS.2088) write as 2^32 - 1: they
 * stand with 64 bits in the ds64 chunk, the first one.
 */
function longSizes(source: ByteSource): Map<string, number> {
  const sizes = new Map<string, number>();
  const start = source.read(0, 20);
  if (start.length < 20 || ascii(start, 0) === "RIFF" || ascii(start, 12) !== "ds64") return sizes;
  const view = viewOf(source.read(20, Math.min(viewOf(start).getUint32(16, true), MAX_DS64_BYTES)));
  const size = (at: number) => Number(view.getBigUint64(at, true));
  // The size of the RIFF chunk is not needed.
  if (view.byteLength >= 16) sizes.set("data", size(8));
  // The count of the table's entries, then each with its name and size.
  for (let at = 28; at + 12 <= view.byteLength; at += 12) {
    const id = ascii(new Uint8Array(view.buffer, view.byteOffset + at, 4), 0);
    if (id !== "data") sizes.set(id, size(at + 4));
  }
  return sizes;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Whether a chunk header that fits the file starts here. Tells an empty data chunk that is followed
 * by other chunks from one whose size was never filled in (a recorder that was cut off), whose
 * samples follow.
 */
function isChunkList(source: ByteSource, at: number): boolean {
  if (at === source.size) return true;
  if (at + 8 > source.size) return false;
  const header = source.read(at, 8);
  for (const code of header.subarray(0, 4)) if (code < 0x20 || code > 0x7e) return false;
  return at + 8 + viewOf(header).getUint32(4, true) <= source.size;
}

function parseFormat(view: DataView, { start, end }: Chunk): Format {
  if (end - start < 16) {
    throw new AudioError(
      "WAV header is incomplete: the fmt chunk has " +
        `${Math.max(0, end - start)} of at least 16 bytes`,
    );
  }
  let tag = view.getUint16(start, true);
  const channels = view.getUint16(start + 2, true);
  const sampleRate = view.getUint32(start + 4, true);
  const blockAlign = view.getUint16(start + 12, true);
  const bits = view.getUint16(start + 14, true);
  if (tag === FORMAT_EXTENSIBLE) {
    if (end - start < 40) {
      throw new AudioError(
        "WAV header is incomplete: the extensible fmt chunk has " +
          `${end - start} of 40 bytes`,
      );
    }
    tag = view.getUint16(start + 24, true);
    if (GUID_TAIL.some((b, i) => view.getUint8(start + 26 + i) !== b)) {
      throw new AudioError("unsupported WAV codec: unknown sub-format GUID");
    }
  }
  const encoding = encodingOf(tag, bits);
  if (channels === 0) throw new AudioError("bad WAV header: 0 channels");
  if (sampleRate === 0) throw new AudioError("bad WAV header: sample rate 0");
  if (blockAlign !== channels * encoding.bytes) {
    throw new AudioError(
      `bad WAV header: ${blockAlign} bytes per frame do not fit ` +
        `${channels} channels of ${bits} bits`,
    );
  }
  return { encoding, channels, sampleRate };
}

function encodingOf(tag: number, bits: number): Encoding {
  // Odd widths (12, 20 bits) are left-justified in the next whole byte.
  const bytes = Math.ceil(bits / 8);
  const known = tag === FORMAT_PCM
    ? bits >= 1 && bits <= 32
    : tag === FORMAT_FLOAT
    ? bits === 32 || bits === 64
    : tag === FORMAT_A_LAW || tag === FORMAT_MU_LAW
    ? bits === 8
    : undefined;
  if (known === undefined) {
    const name = OTHER_CODECS[tag];
    throw new AudioError(
      `unsupported WAV codec 0x${tag.toString(16).padStart(4, "0")}` +
        `${name ? ` (${name})` : ""}: supported are PCM, float, mu-law and A-law`,
    );
  }
  if (!known) {
    throw new AudioError(
      `unsupported WAV sample width: ${bits} bits with codec ${tag}`,
    );
  }
  if (tag === FORMAT_FLOAT) return { kind: "float", bytes };
  if (tag === FORMAT_MU_LAW) return { kind: "mu-law", bytes };
  if (tag === FORMAT_A_LAW) return { kind: "a-law", bytes };
  return { kind: bytes === 1 ? "unsigned" : "integer", bytes };
}

function sampleReader(
  view: DataView,
  { kind, bytes }: Encoding,
): (at: number) => number {
  switch (kind) {
    case "unsigned":
      return (at) => (view.getUint8(at) - 128) / 2 ** 7;
    case "float":
      return bytes === 4 ? (at) => view.getFloat32(at, true) : (at) => view.getFloat64(at, true);
    case "mu-law":
    case "a-law": {
      const table = Float32Array.from(
        { length: 256 },
        (_, code) => (kind === "mu-law" ? muLaw(code) : aLaw(code)) / 2 ** 15,
      );
      return (at) => table[view.getUint8(at)];
    }
    case "integer":
      if (bytes === 2) return (at) => view.getInt16(at, true) / 2 ** 15;
      if (bytes === 4) return (at) => view.getInt32(at, true) / 2 ** 31;
      return (at) => ((view.getInt8(at + 2) << 16) | view.getUint16(at, true)) / 2 ** 23;
  }
}

/** ITU-T G.711 mu-law code to 16-bit linear. */
function muLaw(code: number): number {
  const inverted = ~code & 0xff;
  const exponent = (inverted >> 4) & 7;
  const magnitude = ((((inverted & 15) << 3) + 0x84) << exponent) - 0x84;
  return inverted & 0x80 ? -magnitude : magnitude;
}

/** ITU-T G.711 A-law code to 16-bit linear. */
function aLaw(code: number): number {
  const toggled = code ^ 0x55;
  const exponent = (toggled >> 4) & 7;
  const mantissa = ((toggled & 15) << 4) + 8;
  const magnitude = exponent === 0 ? mantissa : (mantissa + 0x100) << (exponent - 1);
  return toggled & 0x80 ? magnitude : -magnitude;
}
