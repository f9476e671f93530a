/** Pickles, archives and ranges put together by hand, for tests. */
import type { RandomAccess } from "../../model/formats/stored_tensor.ts";
import { zipChunks, type ZipContent } from "../../model/formats/zip_write.ts";

/** Bytes of text whose characters are bytes, and of numbers. */
export function raw(...parts: readonly (string | Uint8Array)[]): Uint8Array<ArrayBuffer> {
  return joined(
    parts.map((it) =>
      typeof it === "string" ? Uint8Array.from(it, (letter) => letter.charCodeAt(0)) : it
    ),
  );
}

/** Chunks one after the other. */
export function joined(chunks: Iterable<Uint8Array>): Uint8Array<ArrayBuffer> {
  const list = [...chunks];
  const whole = new Uint8Array(list.reduce((sum, it) => sum + it.byteLength, 0));
  let at = 0;
  for (const it of list) {
    whole.set(it, at);
    at += it.byteLength;
  }
  return whole;
}

/** 32 bits, little-endian, as text for {@link raw}. */
export function u32(value: number): string {
  return String.fromCharCode(...new Uint8Array(new Uint32Array([value]).buffer));
}

/** BINUNICODE. */
export function text(value: string): string {
  return `X${u32(value.length)}${value}`;
}

/** BININT. */
export function int(value: number): string {
  return `J${u32(value >>> 0)}`;
}

/**
 * A call of `_rebuild_tensor_v2` on storage `key`, with these words for size, shape and strides.
 */
export function tensor(
  { key = "0", size = int(4), type = "FloatStorage", offset = int(0), shape = [4], strides = [1] }:
    {
      key?: string;
      size?: string;
      type?: string;
      offset?: string;
      shape?: readonly number[];
      strides?: readonly number[];
    } = {},
): string {
  const tuple = (it: readonly number[]) => `(${it.map(int).join("")}t`;
  return `ctorch._utils\n_rebuild_tensor_v2\n((${text("storage")}ctorch\n${type}\n${text(key)}` +
    `${text("cpu")}${size}tQ${offset}${tuple(shape)}${tuple(strides)}\x89` +
    `ccollections\nOrderedDict\n)RtR`;
}

/** A protocol 2 pickle of a dictionary of these entries. */
export function dictOf(entries: Readonly<Record<string, string>>): Uint8Array {
  const body = Object.entries(entries).map(([key, value]) => text(key) + value).join("");
  return raw("\x80\x02}(", body, "u.");
}

/** An archive as torch writes it around a pickle and storages. */
export function archive(
  pickle: Uint8Array,
  storages: Readonly<Record<string, Uint8Array>> = { 0: new Uint8Array(16) },
): Uint8Array<ArrayBuffer> {
  const files = Object.entries(storages).map(([key, it]) => file(`a/data/${key}`, it));
  return joined(zipChunks([file("a/data.pkl", pickle), ...files, file("a/version", raw("3\n"))]));
}

/** A file for an archive. */
export function file(name: string, bytes: Uint8Array): ZipContent {
  return { name, size: bytes.byteLength, chunks: () => [bytes] };
}

/** Chunks kept where they lie, so that gigabytes of one zero chunk take no memory. */
export class SparseBytes implements RandomAccess {
  size = 0;
  readonly #chunks: { readonly at: number; readonly bytes: Uint8Array }[] = [];
  /** Bytes that were asked for. */
  asked = 0;

  constructor(chunks: Iterable<Uint8Array>) {
    for (const bytes of chunks) {
      this.#chunks.push({ at: this.size, bytes });
      this.size += bytes.byteLength;
    }
  }

  read(offset: number, length: number): Uint8Array {
    this.asked += length;
    const whole = new Uint8Array(length);
    for (const { at, bytes } of this.#chunks) {
      const from = Math.max(at, offset), to = Math.min(at + bytes.byteLength, offset + length);
      if (from < to) whole.set(bytes.subarray(from - at, to - at), from - offset);
    }
    return whole;
  }
}
