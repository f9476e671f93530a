/**
 * The checksum of zip archives: the runtime's in Deno and Node, which is forty times as fast, and
 * one in TypeScript for browsers, which have none.
 *
 * @module
 */

/** Of bytes behind others that have the checksum `sum`. */
type Checksum = (bytes: Uint8Array, sum?: number) => number;

/** Bytes that are taken at a time. */
const SLICE = 8;

/** TABLES[k][b]: what byte b comes to, k bytes before the end (slicing by 8). */
const TABLES: readonly Uint32Array[] = /* @__PURE__ */ tables();

function tables(): Uint32Array[] {
  const first = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let sum = byte;
    for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? sum >>> 1 ^ 0xedb88320 : sum >>> 1;
    first[byte] = sum;
  }
  const all = [first];
  while (all.length < SLICE) {
    all.push(all[all.length - 1].map((sum) => sum >>> 8 ^ first[sum & 255]));
  }
  return all;
}

/** CRC-32 as in zip, gzip and PNG, for any runtime. */
export function plainCrc32(bytes: Uint8Array, sum = 0): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = TABLES;
  let crc = ~sum;
  let at = 0;
  for (const last = bytes.length - SLICE; at <= last; at += SLICE) {
    crc ^= bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16 | bytes[at + 3] << 24;
    crc = t7[crc & 255] ^ t6[crc >>> 8 & 255] ^ t5[crc >>> 16 & 255] ^ t4[crc >>> 24] ^
      t3[bytes[at + 4]] ^ t2[bytes[at + 5]] ^ t1[bytes[at + 6]] ^ t0[bytes[at + 7]];
  }
  for (; at < bytes.length; at++) crc = crc >>> 8 ^ t0[(crc ^ bytes[at]) & 255];
  return ~crc >>> 0;
}

interface Runtime {
  readonly process?: {
    getBuiltinModule?(name: "node:zlib"): { readonly crc32?: Checksum } | undefined;
  };
}

/** The same, by the runtime where it can. */
export const crc32: Checksum =
  (globalThis as Runtime).process?.getBuiltinModule?.("node:zlib")?.crc32 ?? plainCrc32;
