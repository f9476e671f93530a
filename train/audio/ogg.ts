/**
 * The Ogg container (RFC 3533).
 *
 * @module
 */
import { concatBytes } from "../io/bytes.ts";
import { AudioError } from "./decoded_audio.ts";

/** What an Ogg file holds: the whole, intact pages of its first audio stream. */
export interface OggStream {
  /** Codec named by the stream's first packet. */
  readonly codec: "vorbis" | "opus" | "flac";
  /** The pages, in order, other streams left out. */
  readonly pages: Uint8Array;
  /** The packets, in order, without a last unfinished one. */
  readonly packets: Uint8Array[];
}

/**
 * Demultiplexes an Ogg file (RFC 3533): checks every page's checksum and the page numbering, keeps
 * the first stream that holds Vorbis, Opus or FLAC, and stops at a last page that was cut off.
 *
 * @throws AudioError when a page is damaged or missing, or no such stream is there.
 */
export function readOgg(bytes: Uint8Array): OggStream {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const pages: Uint8Array[] = [];
  const packets: Uint8Array[] = [];
  let parts: Uint8Array[] = [];
  let codec: OggStream["codec"] | undefined;
  let serial = 0;
  let sequence = 0;
  let ended = false;
  let at = 0;
  while (isOggPage(bytes, at) && at + 27 <= bytes.length) {
    const segments = bytes[at + 26];
    const table = bytes.subarray(at + 27, at + 27 + segments);
    const body = at + 27 + segments;
    const end = table.reduce((sum, size) => sum + size, body);
    if (end > bytes.length) break;
    const page = bytes.subarray(at, end);
    if (oggChecksum(page) !== view.getUint32(at + 22, true)) {
      throw new AudioError(
        `Ogg page at byte ${at} is damaged: its checksum does not match`,
      );
    }
    const pageSerial = view.getUint32(at + 14, true);
    const found = codec ?? oggCodec(bytes.subarray(body, end));
    if (found && !codec) {
      codec = found;
      serial = pageSerial;
      sequence = view.getUint32(at + 18, true);
    }
    if (codec && pageSerial === serial) {
      if (view.getUint32(at + 18, true) !== sequence++) {
        throw new AudioError(`Ogg pages are missing before byte ${at}`);
      }
      pages.push(page);
      let offset = body;
      for (const size of table) {
        parts.push(bytes.subarray(offset, offset += size));
        if (size < 255) {
          packets.push(parts.length === 1 ? parts[0] : concatBytes(parts));
          parts = [];
        }
      }
      // A second stream chained after this one may differ in rate and channels.
      ended = (bytes[at + 5] & 4) !== 0;
      if (ended) break;
    }
    at = end;
  }
  if (nextOggPage(bytes, at + 1) >= 0 && !ended) {
    throw new AudioError(`Ogg page at byte ${at} is damaged`);
  }
  if (!codec) {
    throw new AudioError("Ogg file holds no Vorbis, Opus or FLAC audio");
  }
  return { codec, pages: concatBytes(pages), packets };
}

function isOggPage(bytes: Uint8Array, at: number): boolean {
  return bytes[at] === 0x4f && bytes[at + 1] === 0x67 &&
    bytes[at + 2] === 0x67 && bytes[at + 3] === 0x53;
}

function nextOggPage(bytes: Uint8Array, from: number): number {
  let at = bytes.indexOf(0x4f, from);
  while (at >= 0 && !isOggPage(bytes, at)) at = bytes.indexOf(0x4f, at + 1);
  return at;
}

function oggCodec(packet: Uint8Array): OggStream["codec"] | undefined {
  const id = String.fromCharCode(...packet.subarray(0, 8));
  if (id.startsWith("\x01vorbis")) return "vorbis";
  if (id.startsWith("OpusHead")) return "opus";
  if (id.startsWith("\x7fFLAC")) return "flac";
  return undefined;
}

const OGG_CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 24;
  for (let bit = 0; bit < 8; bit++) {
    crc = (crc << 1) ^ (crc & 0x80000000 ? 0x04c11db7 : 0);
  }
  return crc;
});

/** CRC-32 of a page as Ogg defines it, its own four checksum bytes read as zero. */
function oggChecksum(page: Uint8Array): number {
  let crc = 0;
  for (let i = 0; i < page.length; i++) {
    const byte = i >= 22 && i < 26 ? 0 : page[i];
    crc = (crc << 8) ^ OGG_CRC[(crc >>> 24) ^ byte];
  }
  return crc >>> 0;
}
