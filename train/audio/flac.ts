/**
 * FLAC (RFC 9639): a stream split into frames, every checksum verified.
 *
 * @module
 */
import { AudioError } from "./decoded_audio.ts";

/** A FLAC stream taken apart: its format and its frames, every checksum verified. */
export interface FlacStream {
  /** Frames per second (Hz). */
  readonly sampleRate: number;
  /** 1 to 8. */
  readonly channels: number;
  /** Bits per sample, 4 to 32. */
  readonly bits: number;
  /** Samples per channel. */
  readonly samples: number;
  /** FLAC frames, in order, as the decoder takes them. */
  readonly frames: Uint8Array[];
}

/** The part of STREAMINFO that is needed; `samples` 0 means unknown. */
interface StreamInfo {
  readonly sampleRate: number;
  readonly channels: number;
  readonly bits: number;
  readonly samples: number;
}

interface FrameHeader {
  readonly bytes: number;
  readonly blockSize: number;
}

/**
 * Splits a native FLAC file (RFC 9639) into frames. A frame ends where its CRC-16 comes out right
 * and another frame header or the end of the file follows, so damage is found before anything is
 * decoded.
 *
 * The decoder's own splitter is not used: it drops the last frame of some intact files, and all
 * frames after damage, without an error.
 *
 * @throws AudioError when the header is incomplete, a frame is damaged or samples are missing.
 */
export function splitFlac(bytes: Uint8Array): FlacStream {
  let info: StreamInfo | undefined;
  let at = 4;
  for (let last = false; !last;) {
    if (at + 4 > bytes.length) {
      throw new AudioError("FLAC header is incomplete");
    }
    last = (bytes[at] & 0x80) !== 0;
    const size = (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
    if ((bytes[at] & 0x7f) === 0) {
      info = readStreamInfo(bytes.subarray(at + 4, at + 4 + size));
    }
    at += 4 + size;
  }
  if (!info) throw new AudioError("FLAC header has no STREAMINFO block");
  return checkedStream(info, [...nativeFrames(bytes, at)]);
}

/**
 * The frames of FLAC in Ogg: one per packet after the header packets.
 *
 * @throws AudioError as `splitFlac`.
 */
export function flacFromOgg(packets: readonly Uint8Array[]): FlacStream {
  // 0x7f "FLAC", version, count of header packets, "fLaC", block header, STREAMINFO.
  const info = readStreamInfo(packets[0].subarray(17));
  // Header packets start with a metadata block type below 0x80 or the "last" flag and a type;
  // frames start with 0xff.
  const frames = packets.slice(1).filter((packet) => packet[0] === 0xff);
  frames.forEach((frame, index) => {
    if (!frameHeader(frame, 0) || crc16(frame) !== 0) throw damaged(index);
  });
  return checkedStream(info, frames);
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
  return { sampleRate, channels, bits, samples };
}

function checkedStream(info: StreamInfo, frames: Uint8Array[]): FlacStream {
  let samples = 0;
  for (const frame of frames) samples += frameHeader(frame, 0)!.blockSize;
  if (info.samples !== 0 && info.samples !== samples) {
    throw new AudioError(
      `FLAC file is cut off or damaged: ${samples} of ${info.samples} samples are there`,
    );
  }
  return { ...info, samples, frames };
}

function* nativeFrames(bytes: Uint8Array, from: number): Generator<Uint8Array> {
  let start = from;
  let index = 0;
  // Some tools append an ID3v1 tag.
  const isTag = (at: number): boolean =>
    at + 128 === bytes.length && bytes[at] === 0x54 && bytes[at + 1] === 0x41 &&
    bytes[at + 2] === 0x47;
  while (start < bytes.length && !isTag(start)) {
    const header = frameHeader(bytes, start);
    if (!header) throw damaged(index);
    let crc = 0;
    let at = start;
    for (;;) {
      if (at === bytes.length) {
        if (crc !== 0) throw damaged(index);
        break;
      }
      if (
        crc === 0 && at > start + header.bytes &&
        (frameHeader(bytes, at) || isTag(at))
      ) break;
      crc = ((crc << 8) & 0xffff) ^ CRC16[(crc >> 8) ^ bytes[at++]];
    }
    yield bytes.subarray(start, at);
    start = at;
    index++;
  }
}

/** Parses a frame header and verifies its CRC-8; undefined when none starts here. */
function frameHeader(bytes: Uint8Array, at: number): FrameHeader | undefined {
  if (bytes[at] !== 0xff || (bytes[at + 1] & 0xfe) !== 0xf8) return undefined;
  const sizeCode = bytes[at + 2] >> 4;
  const rateCode = bytes[at + 2] & 15;
  if (sizeCode === 0 || rateCode === 15 || (bytes[at + 3] >> 4) > 10) {
    return undefined;
  }
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
  if (rateCode === 12) end++;
  if (rateCode === 13 || rateCode === 14) end += 2;
  if (end >= bytes.length || crc8(bytes.subarray(at, end)) !== bytes[end]) {
    return undefined;
  }
  return { bytes: end + 1 - at, blockSize };
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
