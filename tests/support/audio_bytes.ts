/**
 * Bytes of audio files that no encoder writes.
 *
 * @module
 */
import { bytesInMemory } from "../../train/audio/byte_source.ts";
import { openFlac } from "../../train/audio/flac.ts";
import { concatBytes } from "../../train/io/bytes.ts";

/** One Ogg page with its checksum filled in, bit by bit. */
export function withChecksum(page: Uint8Array): Uint8Array {
  const view = new DataView(page.buffer, page.byteOffset);
  view.setUint32(22, 0, true);
  let crc = 0;
  for (const byte of page) {
    crc ^= byte << 24;
    for (let bit = 0; bit < 8; bit++) {
      crc = (crc << 1) ^ (crc & 0x80000000 ? 0x04c11db7 : 0);
    }
  }
  view.setUint32(22, crc >>> 0, true);
  return page;
}

/** Cyclic redundancy check, most significant bit first, initial value 0. */
export function crc(bytes: readonly number[], width: 8 | 16, polynomial: number): number {
  let remainder = 0;
  for (const byte of bytes) {
    remainder ^= byte << (width - 8);
    for (let bit = 0; bit < 8; bit++) {
      const carry = remainder & (1 << (width - 1));
      remainder = ((remainder << 1) ^ (carry ? polynomial : 0)) & (2 ** width - 1);
    }
  }
  return remainder;
}

/** A mono 16-bit FLAC file of frames that each hold one value 65,535 times: some 14 bytes each. */
export function constantFlac(frames: number, rate: 8000 | 16000 | 44100): Uint8Array {
  const info = new Uint8Array(34);
  info.set([rate >> 12, (rate >> 4) & 255, (rate & 15) << 4, 15 << 4], 10);
  const parts = [new TextEncoder().encode("fLaC"), Uint8Array.of(0x80, 0, 0, 34), info];
  for (let index = 0; index < frames; index++) {
    const number = index < 128
      ? [index]
      : index < 0x800
      ? [0xc0 | (index >> 6), 0x80 | (index & 63)]
      : [0xe0 | (index >> 12), 0x80 | ((index >> 6) & 63), 0x80 | (index & 63)];
    const header = [
      0xff,
      0xf8,
      { 8000: 0x74, 16000: 0x75, 44100: 0x79 }[rate],
      0x08,
      ...number,
      0xff,
      0xfe,
    ];
    const frame = [...header, crc(header, 8, 0x07), 0x00, 0x10, index & 255];
    const footer = crc(frame, 16, 0x8005);
    parts.push(Uint8Array.from([...frame, footer >> 8, footer & 255]));
  }
  return concatBytes(parts);
}

/** A native FLAC file whose frames leave their rate and bits to STREAMINFO. */
export function namelessFlac(file: Uint8Array): Uint8Array {
  const { frames } = openFlac(bytesInMemory(file), 0);
  const all = [...frames()];
  const start = file.length - all.reduce((sum, { data }) => sum + data.length, 0);
  const bare = all.map(({ data, bytes }) => {
    const rate = data[2] & 15;
    if (rate > 11) throw new RangeError("a rate that is written out");
    const frame = [...data.subarray(0, -2)];
    frame[2] &= 0xf0;
    frame[3] &= 0xf1;
    frame[bytes - 1] = crc(frame.slice(0, bytes - 1), 8, 0x07);
    const footer = crc(frame, 16, 0x8005);
    return Uint8Array.from([...frame, footer >> 8, footer & 255]);
  });
  return concatBytes([file.subarray(0, start), ...bare]);
}

/** An Ogg page of whole packets of less than 255 bytes, its checksum filled in. */
export function oggPage(
  packets: readonly Uint8Array[],
  { sequence, flags = 0, granule = 0, serial = 7 }: {
    sequence: number;
    flags?: number;
    granule?: number;
    serial?: number;
  },
): Uint8Array {
  const header = new Uint8Array(27 + packets.length);
  const view = new DataView(header.buffer);
  header.set(new TextEncoder().encode("OggS"));
  header[5] = flags;
  view.setBigInt64(6, BigInt(granule), true);
  view.setUint32(14, serial, true);
  view.setUint32(18, sequence, true);
  header[26] = packets.length;
  packets.forEach((packet, i) => header[27 + i] = packet.length);
  return withChecksum(concatBytes([header, ...packets]));
}

/** Ogg Opus of packets without content, which decoders conceal: 120 ms of three bytes. */
export function concealedOpus(seconds: number, granule?: number): Uint8Array {
  const head = new Uint8Array(19);
  head.set(new TextEncoder().encode("OpusHead"));
  head.set([1, 1], 8);
  const tags = new Uint8Array(16);
  tags.set(new TextEncoder().encode("OpusTags"));
  const pages = [
    oggPage([head], { sequence: 0, flags: 2 }),
    oggPage([tags], { sequence: 1 }),
  ];
  // SILK, 60 ms a frame, two frames of the same size, 0.
  const packet = Uint8Array.of((3 << 3) | 1);
  const count = Math.ceil(seconds / 0.12 / 255);
  for (let i = 0; i < count; i++) {
    const position = granule ?? (i + 1) * 255 * 5760;
    const flags = i === count - 1 ? 4 : 0;
    const packets = Array.from({ length: 255 }, () => packet);
    pages.push(oggPage(packets, { sequence: i + 2, flags, granule: position }));
  }
  return concatBytes(pages);
}

/** MP3 of silence, MPEG-2.5 at 8 kHz: frames of 576 samples in 72 bytes. */
export function silentMp3(frames: number): Uint8Array {
  const bytes = new Uint8Array(72 * frames);
  // Layer III without checksum, 8 kbit/s, 8 kHz, mono; nothing in the side information.
  for (let i = 0; i < frames; i++) bytes.set([0xff, 0xe3, 0x18, 0xc0], 72 * i);
  return bytes;
}

/** Samples that a page of {@link silentVorbis} has, the first packet apart, which gives none. */
export const VORBIS_PAGE = 255 * 1024;

/**
 * Ogg Vorbis of silence: the headers of a file whose long blocks have 2048 samples and are its
 * second mode, and pages of 255 packets of one byte, which say that no channel has a floor.
 */
export function silentVorbis(file: Uint8Array, pages: number): Uint8Array {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  let [at, sequence] = [0, 0];
  // Pages of headers end at position 0.
  while (view.getBigInt64(at + 6, true) === 0n) {
    const sizes = file.subarray(at + 27, at + 27 + file[at + 26]);
    at += 27 + sizes.length + sizes.reduce((sum, size) => sum + size, 0);
    sequence++;
  }
  const serial = view.getUint32(14, true);
  // Audio, mode 1, long blocks before and after.
  const packets = new Array<Uint8Array>(255).fill(Uint8Array.of(0b1110));
  const silent = Array.from({ length: pages }, (_, i) =>
    oggPage(packets, {
      sequence: sequence + i,
      serial,
      flags: i === pages - 1 ? 4 : 0,
      granule: (i + 1) * VORBIS_PAGE - 1024,
    }));
  return concatBytes([file.subarray(0, at), ...silent]);
}
