/**
 * Reads zip archives by ranges: central directory with Zip64, stored and deflated entries. An
 * archive is checked as a whole before anything in it is used: an entry's bytes belong to no other
 * entry and to no directory.
 *
 * @module
 */
import { Inflate } from "../deps/fflate.ts";
import { crc32 } from "./crc32.ts";
import { PIECE_BYTES, piecesOf, type RandomAccess } from "./stored_tensor.ts";
import { quoted } from "../../engine/formats/printable.ts";

/** The bytes are no zip archive that is read here; the message says what is wrong. */
export class ZipError extends Error {
  /** Stable name. */
  override name = "ZipError";
}

/** A file in an archive. */
export interface ZipEntry {
  /** Name with its folders. */
  readonly name: string;
  /** Bytes of the content. */
  readonly size: number;
  /** Bytes in the archive. */
  readonly storedSize: number;
  /** Where they begin. */
  readonly offset: number;
  /** Where the head before them begins. */
  readonly head: number;
  /** Whether the content is deflated; else it is as it is. */
  readonly deflated: boolean;
  /** Checksum of the content. */
  readonly crc: number;
}

const END = 0x06054b50;
const END64_LOCATOR = 0x07064b50;
const END64 = 0x06064b50;
const CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;
const SIZES = { end: 22, locator: 20, end64: 56, central: 46, local: 30 } as const;

/** Most files in an archive; a checkpoint has some hundreds. */
const MAX_ENTRIES = 1 << 17;
/** Most bytes of a directory. */
const MAX_DIRECTORY = 1 << 26;
/** Most bytes that one deflated entry may grow to. */
export const MAX_INFLATED = 1 << 29;
/** Deflate cannot do better than 258 bytes for two bits. */
const MAX_RATIO = 1032;
/** Deflated bytes that are handed over at a time, so that what comes out of a step stays small. */
const INFLATE_STEP = 1 << 14;

/** An open archive. */
export class ZipArchive {
  /** Files by name. */
  readonly entries: ReadonlyMap<string, ZipEntry>;
  readonly #source: RandomAccess;
  readonly #checked = new Set<ZipEntry>();
  // Several views of one deflated storage would inflate it again and again.
  #inflated: { readonly entry: ZipEntry; readonly content: Uint8Array } | undefined;

  /**
   * Reads the directory and the head of every entry.
   *
   * @throws {ZipError}
   */
  constructor(source: RandomAccess) {
    this.#source = source;
    this.entries = readDirectory(source);
  }

  /** The entry of that name. @throws {ZipError} if there is none */
  entry(name: string): ZipEntry {
    const entry = this.entries.get(name);
    if (!entry) throw new ZipError(`the archive has no ${quoted(name)}`);
    return entry;
  }

  /**
   * The whole content of an entry.
   *
   * @param limit most bytes
   * @throws {ZipError} if it is longer, or does not fit its checksum
   */
  read(entry: ZipEntry, limit: number): Uint8Array {
    if (entry.size > limit) {
      throw new ZipError(`${quoted(entry.name)} of ${entry.size} bytes is above ${limit}`);
    }
    const content = entry.deflated
      ? this.#inflate(entry)
      : this.#source.read(entry.offset, entry.size);
    if (!this.#checked.has(entry)) this.#check(entry, [content]);
    return content;
  }

  /**
   * Bytes of an entry in pieces; the checksum of the whole is compared first, so nothing damaged
   * comes out.
   *
   * @throws {ZipError} if the range leaves the entry, or its checksum does not fit
   */
  *range(entry: ZipEntry, offset: number, length: number): Generator<Uint8Array> {
    if (offset < 0 || length < 0 || offset + length > entry.size) {
      throw new ZipError(
        `bytes ${offset} to ${offset + length} are past the end of ${quoted(entry.name)}`,
      );
    }
    if (entry.deflated) {
      yield this.read(entry, MAX_INFLATED).subarray(offset, offset + length);
      return;
    }
    if (!this.#checked.has(entry)) {
      if (length === entry.size && length <= PIECE_BYTES) {
        yield this.read(entry, length);
        return;
      }
      this.#check(entry, piecesOf(this.#source, entry.offset, entry.size));
    }
    yield* piecesOf(this.#source, entry.offset + offset, length);
  }

  #check(entry: ZipEntry, pieces: Iterable<Uint8Array>): void {
    let sum = 0;
    for (const piece of pieces) sum = crc32(piece, sum);
    if (sum !== entry.crc) {
      throw new ZipError(
        `${quoted(entry.name)} is damaged: its checksum is ${hex(sum)}, not ${hex(entry.crc)}`,
      );
    }
    this.#checked.add(entry);
  }

  #inflate(entry: ZipEntry): Uint8Array {
    if (this.#inflated?.entry === entry) return this.#inflated.content;
    const content = new Uint8Array(entry.size);
    let reached = 0;
    const grows = () =>
      new ZipError(`${quoted(entry.name)} does not inflate to ${entry.size} bytes`);
    const inflate = new Inflate((piece) => {
      if (reached + piece.byteLength > content.byteLength) throw grows();
      content.set(piece, reached);
      reached += piece.byteLength;
    });
    try {
      for (let at = 0; at < entry.storedSize; at += INFLATE_STEP) {
        const step = Math.min(INFLATE_STEP, entry.storedSize - at);
        inflate.push(this.#source.read(entry.offset + at, step), at + step === entry.storedSize);
      }
    } catch (error) {
      if (error instanceof ZipError) throw error;
      throw new ZipError(`${quoted(entry.name)} is not valid deflated data`, { cause: error });
    }
    if (reached !== content.byteLength) throw grows();
    this.#inflated = { entry, content };
    return content;
  }
}

function hex(sum: number): string {
  return sum.toString(16).padStart(8, "0");
}

function viewAt(source: RandomAccess, offset: number, length: number, what: string): DataView {
  if (offset < 0 || length > source.size - offset) {
    throw new ZipError(`${what} at byte ${offset} reaches past the end (${source.size} bytes)`);
  }
  const bytes = source.read(offset, length);
  if (bytes.byteLength !== length) throw new ZipError(`${what} could not be read`);
  return new DataView(bytes.buffer, bytes.byteOffset, length);
}

/** A 64-bit field; beyond 2^53 it becomes infinite, which no later check lets pass. */
function u64(view: DataView, at: number): number {
  const value = Number(view.getBigUint64(at, true));
  return Number.isSafeInteger(value) ? value : Infinity;
}

interface DirectoryPlace {
  readonly count: number;
  readonly size: number;
  readonly offset: number;
  /** First byte behind everything that entries may use. */
  readonly end: number;
}

function findDirectory(source: RandomAccess): DirectoryPlace {
  const tail = Math.min(source.size, SIZES.end + 0xffff);
  const start = source.size - tail;
  const view = viewAt(source, start, tail, "the end");
  let at = tail - SIZES.end;
  // A comment may follow; it says its own length.
  while (
    at >= 0 &&
    !(view.getUint32(at, true) === END && view.getUint16(at + 20, true) === tail - at - SIZES.end)
  ) at--;
  if (at < 0) throw new ZipError("no zip archive: its end record is missing (a file cut short?)");
  const end = start + at;
  if (end >= SIZES.locator) {
    const locator = viewAt(source, end - SIZES.locator, SIZES.locator, "the Zip64 locator");
    if (locator.getUint32(0, true) === END64_LOCATOR) {
      return findDirectory64(source, u64(locator, 8), end - SIZES.locator);
    }
  }
  if (view.getUint16(at + 4, true) !== 0 || view.getUint16(at + 6, true) !== 0) {
    throw new ZipError("archives in several parts are not read");
  }
  return {
    count: view.getUint16(at + 10, true),
    size: view.getUint32(at + 12, true),
    offset: view.getUint32(at + 16, true),
    end,
  };
}

function findDirectory64(source: RandomAccess, offset: number, limit: number): DirectoryPlace {
  if (offset + SIZES.end64 > limit) throw new ZipError("the Zip64 end record is out of place");
  const view = viewAt(source, offset, SIZES.end64, "the Zip64 end record");
  if (view.getUint32(0, true) !== END64) throw new ZipError("the Zip64 end record is missing");
  return { count: u64(view, 32), size: u64(view, 40), offset: u64(view, 48), end: offset };
}

function readDirectory(source: RandomAccess): Map<string, ZipEntry> {
  const { count, size, offset, end } = findDirectory(source);
  if (count > MAX_ENTRIES || size > MAX_DIRECTORY) {
    throw new ZipError(`a directory of ${count} entries in ${size} bytes is too large`);
  }
  if (offset + size > end) throw new ZipError("the directory reaches past its end record");
  if (count * SIZES.central > size) {
    throw new ZipError(`${count} entries do not fit a directory of ${size} bytes`);
  }
  const view = viewAt(source, offset, size, "the directory");
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    const { entry, next } = readEntry(source, view, at, offset);
    if (entries.has(entry.name)) throw new ZipError(`${quoted(entry.name)} occurs twice`);
    entries.set(entry.name, entry);
    at = next;
  }
  if (at !== size) throw new ZipError(`${size - at} bytes of the directory are unused`);
  let reached = 0;
  for (const it of [...entries.values()].sort((a, b) => a.head - b.head)) {
    if (it.head < reached) throw new ZipError(`${quoted(it.name)} overlaps the entry before it`);
    reached = it.offset + it.storedSize;
  }
  if (reached > offset) throw new ZipError("the last entry overlaps the directory");
  return entries;
}

const NAMES = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function nameOf(view: DataView, at: number, length: number): string {
  try {
    return NAMES.decode(new Uint8Array(view.buffer, view.byteOffset + at, length));
  } catch {
    throw new ZipError("an entry's name is not UTF-8");
  }
}

function readEntry(
  source: RandomAccess,
  view: DataView,
  at: number,
  directory: number,
): { entry: ZipEntry; next: number } {
  const left = view.byteLength - at;
  if (left < SIZES.central || view.getUint32(at, true) !== CENTRAL) {
    throw new ZipError("the directory is damaged");
  }
  const flags = view.getUint16(at + 8, true);
  const method = view.getUint16(at + 10, true);
  const nameBytes = view.getUint16(at + 28, true);
  const extraBytes = view.getUint16(at + 30, true);
  const next = at + SIZES.central + nameBytes + extraBytes + view.getUint16(at + 32, true);
  if (next > view.byteLength) throw new ZipError("the directory is damaged");
  const name = nameOf(view, at + SIZES.central, nameBytes);
  if (flags & 1) throw new ZipError(`${quoted(name)} is encrypted`);
  if (method !== 0 && method !== 8) {
    throw new ZipError(
      `${quoted(name)} is packed by method ${method}; stored and deflate are read`,
    );
  }
  const wide = wideFields(view, at + SIZES.central + nameBytes, extraBytes);
  const field = (offset: number): number => {
    const value = view.getUint32(at + offset, true);
    return value === 0xffffffff ? wide() : value;
  };
  // In the order in which the Zip64 field lists them.
  const size = field(24);
  const storedSize = field(20);
  const head = field(42);
  if (head + SIZES.local > directory) {
    throw new ZipError(`${quoted(name)} begins past the directory`);
  }
  const local = viewAt(source, head, SIZES.local, `the head of ${quoted(name)}`);
  const offset = head + SIZES.local + local.getUint16(26, true) + local.getUint16(28, true);
  if (local.getUint32(0, true) !== LOCAL || local.getUint16(8, true) !== method) {
    throw new ZipError(`the head of ${quoted(name)} does not fit the directory`);
  }
  if (offset + storedSize > directory) {
    throw new ZipError(`${quoted(name)} of ${storedSize} bytes reaches into the directory`);
  }
  const deflated = method === 8;
  if (!deflated && size !== storedSize) {
    throw new ZipError(`${quoted(name)} is stored, but its two sizes differ`);
  }
  if (deflated && size > Math.min(MAX_INFLATED, storedSize * MAX_RATIO)) {
    throw new ZipError(
      `${quoted(name)} claims to inflate from ${storedSize} to ${size} bytes; ` +
        `at most ${MAX_INFLATED} and ${MAX_RATIO} times as many are read`,
    );
  }
  const crc = view.getUint32(at + 16, true);
  return { entry: { name, size, storedSize, offset, head, deflated, crc }, next };
}

/** The 64-bit numbers of an entry's Zip64 field, one after the other. */
function wideFields(view: DataView, at: number, length: number): () => number {
  const end = at + length;
  let field = at;
  while (field + 4 <= end && view.getUint16(field, true) !== 1) {
    field += 4 + view.getUint16(field + 2, true);
  }
  let from = field + 4;
  const to = field + 4 <= end ? Math.min(end, from + view.getUint16(field + 2, true)) : 0;
  return () => {
    if (from + 8 > to) throw new ZipError("a Zip64 field is missing");
    from += 8;
    return u64(view, from - 8);
  };
}
