/**
 * Writes zip archives of stored entries in one pass, each entry's content at a multiple of 64 bytes
 * as torch places them for mapping into memory. Checksums follow the contents; Zip64 fields appear
 * where sizes need them.
 *
 * @module
 */
import { crc32 } from "./crc32.ts";

/** A file for an archive. */
export interface ZipContent {
  /** Name with its folders. */
  readonly name: string;
  /** Bytes of the content. */
  readonly size: number;
  /** The content. */
  chunks(): Iterable<Uint8Array>;
}

const ALIGNMENT = 64;
const WIDE = 0xffffffff;
/** Names are UTF-8, checksums follow the contents. */
const FLAGS = 0x0808;

/** Little-endian fields one after the other. */
class Fields {
  readonly #bytes: number[] = [];

  u16(...values: readonly number[]): this {
    for (const it of values) this.#bytes.push(it & 0xff, it >>> 8);
    return this;
  }

  u32(...values: readonly number[]): this {
    for (const it of values) this.u16(it & 0xffff, it >>> 16);
    return this;
  }

  u64(...values: readonly number[]): this {
    for (const it of values) this.u32(it % 2 ** 32, Math.floor(it / 2 ** 32));
    return this;
  }

  raw(bytes: Iterable<number>): this {
    for (const it of bytes) this.#bytes.push(it);
    return this;
  }

  get length(): number {
    return this.#bytes.length;
  }

  done(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#bytes);
  }
}

/**
 * The bytes of an archive. The same contents give the same bytes.
 *
 * @throws {RangeError} if a content is not as long as it says, or there are more than 65,534
 */
export function* zipChunks(contents: readonly ZipContent[]): Generator<Uint8Array> {
  if (contents.length > 0xfffe) throw new RangeError(`${contents.length} files in one archive`);
  const directory = new Fields();
  let at = 0;
  for (const { name, size, chunks } of contents) {
    const head = headOf(name, size, at);
    yield head;
    let sum = 0, done = 0;
    for (const chunk of chunks()) {
      sum = crc32(chunk, sum);
      done += chunk.byteLength;
      yield chunk;
    }
    if (done !== size) throw new RangeError(`${name} came with ${done} bytes instead of ${size}`);
    const descriptor = new Fields().u32(0x08074b50, sum);
    if (size >= WIDE) descriptor.u64(size, size);
    else descriptor.u32(size, size);
    yield descriptor.done();
    addToDirectory(directory, name, size, at, sum);
    at += head.length + size + descriptor.length;
  }
  yield directory.done();
  const { length } = directory;
  const count = contents.length;
  yield new Fields()
    .u32(0x06064b50).u64(44).u16(45, 45).u32(0, 0).u64(count, count, length, at)
    .u32(0x07064b50, 0).u64(at + length).u32(1)
    .u32(0x06054b50).u16(0, 0, count, count).u32(length, Math.min(at, WIDE)).u16(0)
    .done();
}

/** Head of an entry that begins at byte `at`, its padding included. */
function headOf(name: string, size: number, at: number): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(name);
  const wide = size >= WIDE ? new Fields().u16(1, 16).u64(size, size).done() : [];
  const before = at + 30 + text.length + wide.length + 4;
  const padding = (ALIGNMENT - before % ALIGNMENT) % ALIGNMENT;
  const known = size >= WIDE ? WIDE : 0;
  return new Fields()
    .u32(0x04034b50).u16(wide.length > 0 ? 45 : 20, FLAGS, 0, 0, 0).u32(0, known, known)
    .u16(text.length, wide.length + 4 + padding)
    .raw(text).raw(wide)
    // torch's own mark for padding: "FB".
    .u16(0x4246, padding).raw(new Uint8Array(padding).fill(0x5a))
    .done();
}

function addToDirectory(to: Fields, name: string, size: number, at: number, sum: number): void {
  const text = new TextEncoder().encode(name);
  const wide = new Fields();
  if (size >= WIDE) wide.u64(size, size);
  if (at >= WIDE) wide.u64(at);
  const extra = wide.length > 0 ? new Fields().u16(1, wide.length).raw(wide.done()).done() : [];
  const known = Math.min(size, WIDE);
  const needs = wide.length > 0 ? 45 : 20;
  to.u32(0x02014b50).u16(needs, needs, FLAGS, 0, 0, 0).u32(sum, known, known)
    .u16(text.length, extra.length, 0, 0, 0).u32(0, Math.min(at, WIDE))
    .raw(text).raw(extra);
}
