/**
 * Bytes of a file that need not be in memory as a whole.
 *
 * @module
 */

/** Bytes that need not be in memory as a whole. */
export interface ByteSource {
  /** Bytes in all. */
  readonly size: number;
  /** Bytes from `at` on, fewer at the end; they stay as they are. */
  read(at: number, length: number): Uint8Array;
}

/** Bytes that are read at a time. */
const WINDOW = 1 << 18;

/** A source that is read in large parts, for whoever asks for small ones from start to end. */
export class ByteWindow implements ByteSource {
  #bytes = new Uint8Array(0);
  #start = 0;

  /** @param source of the bytes */
  constructor(readonly source: ByteSource) {}

  /** Bytes in all. */
  get size(): number {
    return this.source.size;
  }

  /** As {@link ByteSource.read}. */
  read(at: number, length: number): Uint8Array {
    const end = Math.min(at + length, this.size);
    if (at < this.#start || end > this.#start + this.#bytes.length) {
      this.#bytes = this.source.read(at, Math.max(length, WINDOW)) as Uint8Array<ArrayBuffer>;
      this.#start = at;
    }
    return this.#bytes.subarray(at - this.#start, Math.max(at, end) - this.#start);
  }

  /** Where the value is found from `from` on and before `to`; -1 where it is not. */
  indexOf(value: number, from: number, to: number = this.size): number {
    for (let at = from; at < to;) {
      const part = this.read(at, Math.min(WINDOW, to - at));
      if (part.length === 0) return -1;
      const found = part.indexOf(value);
      if (found >= 0) return at + found;
      at += part.length;
    }
    return -1;
  }
}

/** Bytes in memory as a source. */
export function bytesInMemory(bytes: Uint8Array): ByteSource {
  return { size: bytes.length, read: (at, length) => bytes.subarray(at, at + length) };
}
