/**
 * FLAC (RFC 9639): a stream split into frames, every checksum verified.
 *
 * @module
 */
import { concatBytes } from "../io/bytes.ts";
import { type ByteSource, ByteWindow } from "./byte_source.ts";
import { type AudioBlocks, AudioError, BLOCK_SAMPLES, type LengthCheck } from "./decoded_audio.ts";
import { flacDecoder } from "./decoders.ts";

/** The part of STREAMINFO that is needed; `samples` 0 means unknown. */
export interface StreamInfo {
  /** Frames per second (Hz). */
  readonly sampleRate: number;
  /** 1 to 8. */
  readonly channels: number;
  /** Bits per sample, 4 to 32. */
  readonly bits: number;
  /** Samples per channel. */
  readonly samples: number;
  /** The block itself. */
  readonly block: Uint8Array;
}

/** What a frame says of itself. */
interface FrameHeader {
  /** Bytes of the header. */
  readonly bytes: number;
  /** Samples per channel. */
  readonly blockSize: number;
  /** 1 to 8. */
  readonly channels: number;
  /** Hz; 0 where STREAMINFO says it. */
  readonly sampleRate: number;
  /** Bits per sample; 0 where STREAMINFO says it. */
  readonly bits: number;
}

/** A whole frame, its checksum verified. */
export interface Frame extends FrameHeader {
  /** Its bytes. */
  readonly data: Uint8Array;
}

/** No header of a frame is longer: 4 bytes, number of 7, size and rate of 2 each, checksum. */
const MAX_HEADER = 16;
/** Above the 65,536 samples of 8 channels and 32 bits that a frame can hold as they are. */
const MAX_FRAME = 1 << 22;
const RATES = [0, 88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000];
/** Bytes that are searched at a time for the end of a frame: most frames have fewer. */
const SEARCHED = 1 << 14;
const FLAC = new TextEncoder().encode("fLaC");
const BITS = [0, 8, 12, 0, 16, 20, 24, 32];

/**
 * Decodes a native FLAC file (RFC 9639) from its "fLaC" at `from` on. It is split here: a frame
 * ends where its CRC-16 comes out right and another frame header or the end of the file follows,
 * so a damaged frame is found before it is decoded. The decoder's own splitter is not used: it
 * drops the last frame of some intact files, and all frames after damage, without an error.
 *
 * @throws AudioError when the header is incomplete, a frame is damaged or samples are missing.
 */
export async function* flacBlocks(file: ByteSource, from: number, check: LengthCheck): AudioBlocks {
  const { info, frames } = openFlac(file, from);
  if (info.samples === 0) {
    let samples = 0;
    for (const { blockSize } of frames()) check((samples += blockSize) / info.sampleRate);
  }
  yield* decoded(info, frames(), check);
}

/**
 * Reads the header of a native FLAC file.
 *
 * @returns what STREAMINFO says, and the frames, each time from the first one
 * @throws AudioError when the header is incomplete; the frames where one is damaged.
 */
export function openFlac(
  file: ByteSource,
  from: number,
): { readonly info: StreamInfo; frames(): Generator<Frame> } {
  const source = new ByteWindow(file);
  let info: StreamInfo | undefined;
  let at = from + 4;
  for (let last = false; !last;) {
    const header = source.read(at, 4);
    if (header.length < 4) throw new AudioError("FLAC header is incomplete");
    last = (header[0] & 0x80) !== 0;
    const size = (header[1] << 16) | (header[2] << 8) | header[3];
    if ((header[0] & 0x7f) === 0) info = readStreamInfo(source.read(at + 4, Math.min(size, 34)));
    at += 4 + size;
  }
  if (!info) throw new AudioError("FLAC header has no STREAMINFO block");
  return { info, frames: () => nativeFrames(source, at) };
}

/**
 * Decodes FLAC in Ogg: one frame per packet after the header packets.
 *
 * @throws AudioError as {@link flacBlocks}.
 */
export async function* oggFlacBlocks(
  packets: Iterable<Uint8Array>,
  check: LengthCheck,
): AudioBlocks {
  const all = packets[Symbol.iterator]();
  // 0x7f "FLAC", version, count of header packets, "fLaC", block header, STREAMINFO.
  const info = readStreamInfo((all.next().value ?? new Uint8Array(0)).subarray(17));
  function* frames(): Generator<Frame> {
    let index = 0;
    for (let it = all.next(); !it.done; it = all.next()) {
      // Header packets start with a metadata block type below 0x80 or the "last" flag and a type;
      // frames start with 0xff.
      const data = it.value;
      if (data[0] !== 0xff) continue;
      const header = frameHeader(data, 0);
      if (!header || crc16(data) !== 0) throw damaged(index);
      yield { ...header, data };
      index++;
    }
  }
  yield* decoded(info, frames(), check);
}

/** The samples of frames, some frames at a time. */
async function* decoded(
  info: StreamInfo,
  frames: Iterable<Frame>,
  check: LengthCheck,
): AudioBlocks {
  const { sampleRate, channels, bits } = info;
  check(info.samples / sampleRate);
  // The decoder divides by 2^(bits-1) - 1; everything else, libsndfile included, divides by
  // 2^(bits-1).
  const full = 2 ** (bits - 1);
  const decoder = await flacDecoder();
  // Frames may leave rate and bits to STREAMINFO, which is the last block before the frames then.
  const head = concatBytes([FLAC, Uint8Array.of(0x80, 0, 0, info.block.length), info.block]);
  decoder.decode([head]);
  let samples = 0;
  let [batch, count] = [[] as Uint8Array[], 0];
  const flush = () => {
    const block = decoder.decode(batch);
    if (block.length !== channels || block[0].length !== count) {
      throw new AudioError("FLAC data is damaged: frames differ from the header");
    }
    for (const channel of block) {
      for (let i = 0; i < channel.length; i++) {
        channel[i] = Math.round(channel[i] * (full - 1)) / full;
      }
    }
    [batch, count] = [[], 0];
    return { sampleRate, channels: block };
  };
  for (const frame of frames) {
    samples += frame.blockSize;
    if (
      frame.channels !== channels || (frame.sampleRate || sampleRate) !== sampleRate ||
      (frame.bits || bits) !== bits
    ) throw new AudioError("FLAC stream changes its rate, channels or bits");
    if (info.samples !== 0 && samples > info.samples) break;
    batch.push(frame.data);
    count += frame.blockSize;
    if (count * channels >= BLOCK_SAMPLES) yield flush();
  }
  if (info.samples !== 0 && info.samples !== samples) {
    throw new AudioError(
      `FLAC file is cut off or damaged: ${samples} of ${info.samples} samples are there`,
    );
  }
  if (count > 0) yield flush();
  decoder.finish();
}

function damaged(frame: number): AudioError {
  return new AudioError(
    `FLAC frame ${frame} is damaged or cut off: its checksum does not match`,
  );
}

function readStreamInfo(block: Uint8Array): StreamInfo {
  if (block.length < 34) {
    throw new AudioError("FLAC header is incomplete: STREAMINFO is cut off");
  }
  const sampleRate = (block[10] << 12) | (block[11] << 4) | (block[12] >> 4);
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  const samples = (block[13] & 15) * 2 ** 32 + view.getUint32(14);
  if (sampleRate === 0) throw new AudioError("bad FLAC header: sample rate 0");
  const channels = ((block[12] >> 1) & 7) + 1;
  const bits = (((block[12] & 1) << 4) | (block[13] >> 4)) + 1;
  return { sampleRate, channels, bits, samples, block: block.slice(0, 34) };
}

function* nativeFrames(source: ByteWindow, from: number): Generator<Frame> {
  let start = from;
  let index = 0;
  // Some tools append an ID3v1 tag.
  const isTag = (at: number): boolean => {
    if (at + 128 !== source.size) return false;
    const [t, a, g] = source.read(at, 3);
    return t === 0x54 && a === 0x41 && g === 0x47;
  };
  while (start < source.size && !isTag(start)) {
    const header = frameHeader(source.read(start, MAX_HEADER), 0);
    if (!header) throw damaged(index);
    const end = frameEnd(source, start, header.bytes, isTag);
    if (end === undefined) throw damaged(index);
    yield { ...header, data: source.read(start, end - start) };
    start = end;
    index++;
  }
}

/** Where the frame that begins at `start` ends; undefined when its checksum never comes out. */
function frameEnd(
  source: ByteWindow,
  start: number,
  headerBytes: number,
  isTag: (at: number) => boolean,
): number | undefined {
  let crc = 0;
  const last = Math.min(source.size, start + MAX_FRAME);
  for (let at = start; at < last;) {
    const part = source.read(at, Math.min(last - at, SEARCHED));
    for (let i = 0; i < part.length; i++) {
      if (crc === 0 && at + i > start + headerBytes) {
        const candidate = part[i] === 0xff || part[i] === 0x54;
        if (candidate && (frameHeader(source.read(at + i, MAX_HEADER), 0) || isTag(at + i))) {
          return at + i;
        }
      }
      crc = ((crc << 8) & 0xffff) ^ CRC16[(crc >> 8) ^ part[i]];
    }
    at += part.length;
    if (part.length === 0) return undefined;
  }
  return last === source.size && crc === 0 ? last : undefined;
}

/** Parses a frame header and verifies its CRC-8; undefined when none starts here. */
function frameHeader(bytes: Uint8Array, at: number): FrameHeader | undefined {
  if (bytes[at] !== 0xff || (bytes[at + 1] & 0xfe) !== 0xf8) return undefined;
  const sizeCode = bytes[at + 2] >> 4;
  const rateCode = bytes[at + 2] & 15;
  const assignment = bytes[at + 3] >> 4;
  if (sizeCode === 0 || rateCode === 15 || assignment > 10) return undefined;
  // The frame or sample number is coded like UTF-8, extended to 7 bytes: leading ones count the
  // bytes.
  const ones = Math.clz32(~(bytes[at + 4] << 24));
  if (ones === 1 || ones === 8) return undefined;
  let end = at + 4 + Math.max(1, ones);
  let blockSize = sizeCode === 1 ? 192 : sizeCode < 6 ? 144 << sizeCode : 1 << sizeCode;
  if (sizeCode === 6) blockSize = bytes[end++] + 1;
  if (sizeCode === 7) {
    blockSize = ((bytes[end] << 8) | bytes[end + 1]) + 1;
    end += 2;
  }
  let sampleRate = RATES[rateCode] ?? 0;
  if (rateCode === 12) sampleRate = 1000 * bytes[end++];
  if (rateCode === 13 || rateCode === 14) {
    sampleRate = ((bytes[end] << 8) | bytes[end + 1]) * (rateCode === 14 ? 10 : 1);
    end += 2;
  }
  if (end >= bytes.length || crc8(bytes.subarray(at, end)) !== bytes[end]) {
    return undefined;
  }
  return {
    bytes: end + 1 - at,
    blockSize,
    channels: assignment < 8 ? assignment + 1 : 2,
    sampleRate,
    bits: BITS[(bytes[at + 3] >> 1) & 7],
  };
}

function crc8(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) {
      crc = ((crc << 1) ^ (crc & 0x80 ? 0x07 : 0)) & 0xff;
    }
  }
  return crc;
}

const CRC16 = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit++) {
    crc = (crc << 1) ^ (crc & 0x8000 ? 0x8005 : 0);
  }
  return crc;
});

/** CRC-16 over a frame; 0 when its last two bytes are its checksum. */
function crc16(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) {
    crc = ((crc << 8) & 0xffff) ^ CRC16[(crc >> 8) ^ byte];
  }
  return crc;
}
