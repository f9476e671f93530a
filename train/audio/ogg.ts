/**
 * The Ogg container (RFC 3533), also with several streams chained behind one another.
 *
 * @module
 */
import { concatBytes } from "../io/bytes.ts";
import { type ByteSource, ByteWindow } from "./byte_source.ts";
import { AudioError, MOST_STREAMS } from "./decoded_audio.ts";

/** What can be decoded. */
export type OggCodec = "vorbis" | "opus" | "flac";

/** An audio stream of a file. */
export interface OggStream {
  /** Codec named by the stream's first packet. */
  readonly codec: OggCodec;
  /** The stream's number. */
  readonly serial: number;
  /** Position of its first page. */
  readonly start: number;
  /** Position behind its last page. */
  readonly end: number;
  /** From the position that its first page states to that of its last one; 0 if unknown. */
  readonly seconds: number;
}

/** A page of a stream. */
export interface OggPage {
  /** Packets that end on it. */
  readonly packets: Uint8Array[];
  /** Samples up to the end of the last of them; undefined when none ends here. */
  readonly granule: number | undefined;
  /** Whether it is the stream's last one. */
  readonly last: boolean;
}

interface PageHeader {
  readonly first: boolean;
  readonly last: boolean;
  readonly granule: number | undefined;
  readonly serial: number;
  readonly sequence: number;
  readonly checksum: number;
  readonly table: Uint8Array;
  readonly body: number;
  readonly end: number;
}

interface Found extends Omit<OggStream, "end" | "seconds"> {
  end: number;
  /** Number of the next page. */
  sequence: number;
  /** Whether there was a page after the first ones. */
  data: boolean;
  /** Positions per second; 0 if unknown. */
  readonly rate: number;
  from?: number;
  to: number;
}

const HEADER = 27;
const MAX_PAGE = HEADER + 255 + 255 * 255;
/** Above any packet of audio, and any picture among the comments. */
const MAX_PACKET = 1 << 26;

/**
 * The audio streams of an Ogg file in order: of streams that run beside each other the first that
 * holds Vorbis, Opus or FLAC, then what is chained behind it. Checks every page's checksum and the
 * page numbering, and stops at a last page that was cut off.
 *
 * @throws AudioError when a page is damaged or missing, or no such stream is there.
 */
export function oggStreams(file: ByteSource): OggStream[] {
  const source = new ByteWindow(file);
  const streams: OggStream[] = [];
  let current: Found | undefined;
  const close = () => {
    if (current) {
      const { codec, serial, start, end, rate, from, to } = current;
      const seconds = rate > 0 ? Math.max(0, to - (from ?? to)) / rate : 0;
      streams.push({ codec, serial, start, end, seconds });
    }
    current = undefined;
    if (streams.length > MOST_STREAMS) throw new AudioError("Ogg file of too many streams");
  };
  let at = 0;
  for (let page = pageAt(source, at); page; page = pageAt(source, at)) {
    if (oggChecksum(source.read(at, page.end - at)) !== page.checksum) {
      throw new AudioError(`Ogg page at byte ${at} is damaged: its checksum does not match`);
    }
    const { serial, sequence, end } = page;
    // First pages of streams beside each other all come before any other page.
    if (page.first && current?.data) close();
    if (!current) {
      const packet = source.read(page.body, Math.min(16, end - page.body));
      const codec = oggCodec(packet);
      if (codec) {
        const rate = rateOf(codec, packet);
        current = { codec, serial, start: at, end, sequence, rate, data: false, to: 0 };
      }
    }
    if (current && !page.first) current.data = true;
    if (current?.serial === serial) {
      if (sequence !== current.sequence++) {
        throw new AudioError(`Ogg pages are missing before byte ${at}`);
      }
      current.end = end;
      // Pages of headers have position 0.
      if (page.granule) {
        current.from ??= page.granule;
        current.to = page.granule;
      }
      if (page.last) close();
    }
    at = end;
  }
  close();
  if (findPage(source, at + 1) >= 0) throw new AudioError(`Ogg page at byte ${at} is damaged`);
  if (streams.length === 0) throw new AudioError("Ogg file holds no Vorbis, Opus or FLAC audio");
  return streams;
}

/** The pages of a stream with the packets that end on them; a last unfinished one is left out. */
export function* oggPages(file: ByteSource, stream: OggStream): Generator<OggPage> {
  const source = new ByteWindow(file);
  let parts: Uint8Array[] = [];
  let size = 0;
  for (let at = stream.start; at < stream.end;) {
    const page = pageAt(source, at);
    if (!page) throw new AudioError("the file became shorter");
    at = page.end;
    if (page.serial !== stream.serial) continue;
    const packets: Uint8Array[] = [];
    let offset = page.body;
    let length = 0;
    const part = () => {
      if (length > 0) parts.push(source.read(offset, length));
      size += length;
      offset += length;
      length = 0;
      if (size > MAX_PACKET) throw new AudioError(`Ogg packet of more than ${MAX_PACKET} bytes`);
    };
    for (const segment of page.table) {
      length += segment;
      if (segment === 255) continue;
      part();
      packets.push(parts.length === 1 ? parts[0] : concatBytes(parts));
      [parts, size] = [[], 0];
    }
    part();
    yield { packets, granule: page.granule, last: page.last };
  }
}

function pageAt(source: ByteWindow, at: number): PageHeader | undefined {
  const header = source.read(at, MAX_PAGE);
  if (header.length < HEADER || !isOggPage(header, 0)) return undefined;
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  const table = header.subarray(HEADER, HEADER + header[26]);
  const body = at + HEADER + header[26];
  const end = table.reduce((sum, size) => sum + size, body);
  if (end > source.size) return undefined;
  const granule = view.getBigInt64(6, true);
  return {
    first: (header[5] & 2) !== 0,
    last: (header[5] & 4) !== 0,
    granule: granule === -1n ? undefined : Number(granule),
    serial: view.getUint32(14, true),
    sequence: view.getUint32(18, true),
    checksum: view.getUint32(22, true),
    ...{ table, body, end },
  };
}

/** Whether the bytes start with an Ogg page. */
export function isOggPage(bytes: Uint8Array, at = 0): boolean {
  return bytes[at] === 0x4f && bytes[at + 1] === 0x67 &&
    bytes[at + 2] === 0x67 && bytes[at + 3] === 0x53;
}

function findPage(source: ByteWindow, from: number): number {
  let at = source.indexOf(0x4f, from);
  while (at >= 0 && !isOggPage(source.read(at, 4))) at = source.indexOf(0x4f, at + 1);
  return at;
}

function oggCodec(packet: Uint8Array): OggCodec | undefined {
  const id = String.fromCharCode(...packet);
  if (id.startsWith("\x01vorbis")) return "vorbis";
  if (id.startsWith("OpusHead")) return "opus";
  if (id.startsWith("\x7fFLAC")) return "flac";
  return undefined;
}

function rateOf(codec: OggCodec, packet: Uint8Array): number {
  if (codec === "opus") return 48000;
  if (codec === "flac" || packet.length < 16) return 0;
  return new DataView(packet.buffer, packet.byteOffset).getUint32(12, true);
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
