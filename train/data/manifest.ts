/**
 * Lists of millions of files: names held once, as bytes, and the manifests of the official scripts
 * (model/README.md, Data): the first line is the root folder, then one line per file, relative path
 * TAB length (frames of a .npy, samples of audio).
 *
 * @module
 */
import { dirname, isAbsolute, join } from "../deps/path.ts";
import { NoDataError } from "../errors.ts";
import { isFolder } from "../io/folders.ts";
import { readRegular } from "../io/regular_file.ts";

const LINE_FEED = 0x0a;
const TAB = 0x09;
const CARRIAGE_RETURN = 0x0d;

/**
 * Names behind one another in one array of bytes: about their own size, where strings would take
 * several times that.
 */
export class NameTable {
  readonly #bytes: Uint8Array;
  /** Byte positions of starts and ends, two per name; float64 holds positions beyond 4 GiB. */
  readonly #spans: Float64Array;

  /** @param spans start and end of each name, UTF-8 */
  constructor(bytes: Uint8Array, spans: Float64Array) {
    this.#bytes = bytes;
    this.#spans = spans;
  }

  /** The table of some names, in their order. */
  static async from(names: AsyncIterable<string> | Iterable<string>): Promise<NameTable> {
    const encoder = new TextEncoder();
    let bytes = new Uint8Array(1 << 12);
    let spans = new Float64Array(1 << 7);
    let used = 0;
    let count = 0;
    for await (const name of names) {
      while (used + 3 * name.length > bytes.length) bytes = grown(bytes, Uint8Array);
      if (2 * count === spans.length) spans = grown(spans, Float64Array);
      spans[2 * count] = used;
      used += encoder.encodeInto(name, bytes.subarray(used)).written;
      spans[2 * count++ + 1] = used;
    }
    return new NameTable(bytes.subarray(0, used), spans.subarray(0, 2 * count));
  }

  /** Number of names. */
  get size(): number {
    return this.#spans.length / 2;
  }

  /** Name `index`, from 0. */
  at(index: number): string {
    return new TextDecoder().decode(this.bytesAt(index));
  }

  /** Whether name `index` ends in ASCII `text`, in any case. */
  endsWith(index: number, text: string): boolean {
    const name = this.bytesAt(index);
    const from = name.length - text.length;
    if (from < 0) return false;
    for (let i = 0; i < text.length; i++) {
      const byte = name[from + i];
      const lower = byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte;
      if (lower !== text.charCodeAt(i)) return false;
    }
    return true;
  }

  private bytesAt(index: number): Uint8Array {
    return this.#bytes.subarray(this.#spans[2 * index], this.#spans[2 * index + 1]);
  }
}

function grown<T extends Uint8Array<ArrayBuffer> | Float64Array<ArrayBuffer>>(
  array: T,
  type: new (length: number) => T,
): T {
  const larger = new type(2 * array.length);
  larger.set(array);
  return larger;
}

/** A manifest in memory. */
export interface Manifest {
  /** Folder that relative paths start from. */
  readonly root: string;
  /** Relative paths, in the order of the lines. */
  readonly names: NameTable;
  /** Frames or samples per file, as the manifest says. */
  readonly lengths: Uint32Array;
}

/**
 * Reads the text of a manifest. Both kinds of line ends are taken; only the last line may be empty.
 *
 * @param bytes the whole file, UTF-8; kept as the memory of the names
 * @param source for messages
 * @throws {NoDataError} naming `source` and the first line that is broken.
 */
export function parseManifest(bytes: Uint8Array, source: string): Manifest {
  const fail = (line: number, what: string): never => {
    throw new NoDataError(`${source}, line ${line}: ${what}`);
  };
  const hasMark = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf;
  const first = lineEnd(bytes, hasMark ? 3 : 0);
  const root = text(bytes, hasMark ? 3 : 0, trimmed(bytes, hasMark ? 3 : 0, first));
  if (root.trim() === "") fail(1, "must hold the root folder");
  if (root.includes("\t")) fail(1, "must hold the root folder alone, but has a tab");
  let count = 0;
  for (let at = first + 1; at < bytes.length; at = lineEnd(bytes, at) + 1) count++;
  const spans = new Float64Array(2 * count);
  const lengths = new Uint32Array(count);
  for (let i = 0, at = first + 1; i < count; i++) {
    const next = lineEnd(bytes, at);
    const end = trimmed(bytes, at, next);
    let tab = end - 1;
    let length = 0;
    // Digits from the right, so that a name may have anything in it, tabs too.
    for (let place = 1; tab >= at && bytes[tab] !== TAB; tab--, place *= 10) {
      const digit = bytes[tab] - 0x30;
      length += digit >= 0 && digit <= 9 ? digit * place : NaN;
    }
    if (tab <= at || tab === end - 1 || !(length < 2 ** 32)) {
      const shown = text(bytes, at, Math.min(end, at + 80));
      fail(i + 2, `must be PATH, a tab and a length, but is ${JSON.stringify(shown)}`);
    }
    spans[2 * i] = at;
    spans[2 * i + 1] = tab;
    lengths[i] = length;
    at = next + 1;
  }
  return { root, names: new NameTable(bytes, spans), lengths };
}

/** Position of the line feed that ends the line at `from`, or the end of the file. */
function lineEnd(bytes: Uint8Array, from: number): number {
  const found = bytes.indexOf(LINE_FEED, from);
  return found < 0 ? bytes.length : found;
}

function trimmed(bytes: Uint8Array, start: number, end: number): number {
  return end > start && bytes[end - 1] === CARRIAGE_RETURN ? end - 1 : end;
}

function text(bytes: Uint8Array, start: number, end: number): string {
  return new TextDecoder().decode(bytes.subarray(start, end));
}

/**
 * Reads a manifest file. Where its root is not there (the store was moved), the manifest's own
 * folder takes its place.
 *
 * @throws {NoDataError} if it cannot be read, a line is broken, or it lists nothing.
 */
export async function readManifest(path: string): Promise<Manifest> {
  let bytes: Uint8Array;
  try {
    bytes = readRegular(path);
  } catch (error) {
    throw new NoDataError(`${path}: cannot be read: ${(error as Error).message}`);
  }
  const manifest = parseManifest(bytes, path);
  if (manifest.lengths.length === 0) throw new NoDataError(`${path}: lists no files`);
  const own = dirname(path);
  const root = isAbsolute(manifest.root) ? manifest.root : join(own, manifest.root);
  return { ...manifest, root: await isFolder(root) ? root : own };
}

/** The lines of a manifest, in blocks of bytes; for `writeAtomic`. */
export function* manifestChunks(
  root: string,
  files: Iterable<readonly [path: string, length: number]>,
): Generator<Uint8Array> {
  const encoder = new TextEncoder();
  let block = `${root}\n`;
  for (const [path, length] of files) {
    block += `${path}\t${length}\n`;
    if (block.length < 1 << 16) continue;
    yield encoder.encode(block);
    block = "";
  }
  yield encoder.encode(block);
}
