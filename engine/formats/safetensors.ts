/**
 * The safetensors format (huggingface.co/docs/safetensors): 8 bytes little-endian header length, a
 * JSON header, then the tensors' bytes, row-major and little-endian, without holes.
 *
 * Reading checks everything that a hostile or damaged file could get wrong before any of it is
 * used; writing gives the same bytes for the same entries. Files larger than memory:
 * safetensors_stream.ts.
 *
 * @module
 */
import { foreignKind, START_BYTES } from "./foreign_file.ts";
import { listed, quoted } from "./printable.ts";

/** Number formats of a file. */
export type SafetensorsDtype =
  | "F64"
  | "F32"
  | "F16"
  | "BF16"
  | "I64"
  | "I32"
  | "I16"
  | "I8"
  | "U32"
  | "U8"
  | "BOOL";

/** What holds a tensor's values; F16 and BF16 are given as their bits, BOOL as 0 and 1. */
export type SafetensorsData =
  | Float64Array
  | Float32Array
  | Uint16Array
  | BigInt64Array
  | Int32Array
  | Int16Array
  | Int8Array
  | Uint32Array
  | Uint8Array;

/** A tensor with its values, row-major. */
export interface SafetensorsTensor {
  /** Element type as the file names it. */
  readonly dtype: SafetensorsDtype;
  /** Sizes of the axes. */
  readonly shape: readonly number[];
  /** Values, row-major. */
  readonly data: SafetensorsData;
}

/** All tensors of a file, in the order of their offsets, and its free text. */
export interface SafetensorsFile {
  /** Tensors by name, in the order of the file. */
  readonly tensors: Map<string, SafetensorsTensor>;
  /** Free text by key. */
  readonly metadata: Record<string, string>;
}

/** Where a tensor's bytes lie, counted from the end of the header. */
export interface SafetensorsSlot {
  /** Element type as the file names it. */
  readonly dtype: SafetensorsDtype;
  /** Sizes of the axes. */
  readonly shape: readonly number[];
  /** First byte within the data. */
  readonly begin: number;
  /** Byte after the last. */
  readonly end: number;
}

/** A parsed header. */
export interface SafetensorsHeader {
  /** Tensors by name, in the order of the file. */
  readonly slots: Map<string, SafetensorsSlot>;
  /** Free text by key. */
  readonly metadata: Record<string, string>;
}

/** The bytes are not a valid safetensors file; the message says where and why. */
export class SafetensorsError extends Error {
  /** Stable name. */
  override name = "SafetensorsError";
}

/** Longest header that is read, as in the reference implementation. */
export const MAX_HEADER_BYTES = 100_000_000;
/** Most tensors of a file; a checkpoint has some hundreds. */
export const MAX_TENSORS = 1 << 17;
/** Most axes of a tensor, as in numpy. */
export const MAX_AXES = 64;
/** Most characters of a tensor's name. */
export const MAX_NAME = 1024;
/** Most names with values, and most values beside them, in a header. */
const MAX_HEADER_VALUES = 16 * MAX_TENSORS;
/** How deep a header nests: tensors, their fields, sizes. */
const HEADER_DEPTH = 3;

interface ArrayKind {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): SafetensorsData;
}

const ARRAYS: Readonly<Record<SafetensorsDtype, ArrayKind>> = {
  F64: Float64Array,
  F32: Float32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I64: BigInt64Array,
  I32: Int32Array,
  I16: Int16Array,
  I8: Int8Array,
  U32: Uint32Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
};

/**
 * Reads a whole file. Values are views of `bytes` where their alignment allows, else copies.
 *
 * @throws {SafetensorsError} if it is not valid.
 */
export function readSafetensors(bytes: Uint8Array): SafetensorsFile {
  const length = headerLength(bytes.subarray(0, START_BYTES), bytes.byteLength);
  const data = bytes.subarray(8 + length);
  const { slots, metadata } = parseHeader(bytes.subarray(8, 8 + length), data.byteLength);
  const tensors = new Map<string, SafetensorsTensor>();
  for (const [name, { dtype, shape, begin, end }] of slots) {
    tensors.set(name, { dtype, shape, data: view(data.subarray(begin, end), dtype) });
  }
  return { tensors, metadata };
}

/**
 * Length of the JSON header, from a file's first 8 bytes and its whole size, so that a
 * reader of large files can fetch the header and single tensors alone.
 *
 * @param start the first 8 bytes, or more: files of other kinds are named then
 * @throws {SafetensorsError} if it is not valid.
 */
export function headerLength(start: Uint8Array, fileBytes: number): number {
  const foreign = start.byteLength === 8 ? undefined : foreignKind(start.subarray(0, START_BYTES));
  if (foreign !== undefined) throw new SafetensorsError(`it is ${foreign}`);
  if (start.byteLength < 8) {
    throw new SafetensorsError(`file of ${fileBytes} bytes is too short for a header length`);
  }
  const view = new DataView(start.buffer, start.byteOffset, 8);
  const length = Number(view.getBigUint64(0, true));
  if (length > MAX_HEADER_BYTES) {
    throw new SafetensorsError(`header length ${length} is above ${MAX_HEADER_BYTES}`);
  }
  if (length > fileBytes - 8) {
    throw new SafetensorsError(
      `header length ${length} reaches past the end of the file (${fileBytes} bytes)`,
    );
  }
  return length;
}

/**
 * Parses and checks a header (without its length) against the number of bytes behind it.
 *
 * @throws {SafetensorsError} if it is not valid.
 */
export function parseHeader(header: Uint8Array, dataBytes: number): SafetensorsHeader {
  const table = parseTable(header);
  const slots: [string, SafetensorsSlot][] = [];
  let metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(table)) {
    if (name === "__metadata__") metadata = parseMetadata(value);
    else slots.push([name, parseSlot(name, value, dataBytes)]);
  }
  if (slots.length > MAX_TENSORS) {
    throw new SafetensorsError(`${slots.length} tensors are more than ${MAX_TENSORS}`);
  }
  slots.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let reached = 0;
  for (const [name, { begin, end }] of slots) {
    if (begin < reached) {
      throw new SafetensorsError(`${quoted(name)} overlaps the tensor before it`);
    }
    if (begin > reached) {
      throw new SafetensorsError(`bytes ${reached} to ${begin} before ${quoted(name)} are unused`);
    }
    reached = end;
  }
  if (reached !== dataBytes) {
    throw new SafetensorsError(`${dataBytes - reached} bytes after the last tensor are unused`);
  }
  return { slots: new Map(slots), metadata };
}

function parseTable(header: Uint8Array): Record<string, unknown> {
  const pairs = pairsIn(header);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(header));
  } catch (error) {
    throw new SafetensorsError("header is not valid JSON", { cause: error });
  }
  if (!isTable(value)) throw new SafetensorsError("header is not a JSON object");
  // JSON.parse keeps the last of several entries of one name and says nothing.
  const kept = Object.values(value).reduce<number>(
    (sum, it) => sum + 1 + (isTable(it) ? Object.keys(it).length : 0),
    0,
  );
  if (pairs !== kept) {
    throw new SafetensorsError("a name occurs twice in the header, or a field is an object");
  }
  return value;
}

/**
 * Names with values in JSON: colons outside of strings. What JSON.parse would make of the text is
 * bounded by that before it is made.
 *
 * @throws {SafetensorsError} if there are too many values, or they nest too deep
 */
function pairsIn(json: Uint8Array): number {
  let pairs = 0, items = 0, depth = 0, inString = false;
  for (let i = 0; i < json.length; i++) {
    const code = json[i];
    if (inString) {
      if (code === 0x5c) i++;
      else if (code === 0x22) inString = false;
      continue;
    }
    if (code === 0x22) inString = true;
    else if (code === 0x3a) pairs++;
    else if (code === 0x2c) items++;
    else if (code === 0x5b || code === 0x7b) depth++;
    else if (code === 0x5d || code === 0x7d) depth--;
    if (depth > HEADER_DEPTH) throw new SafetensorsError("its header nests too deep");
    if (pairs > MAX_HEADER_VALUES || items > MAX_HEADER_VALUES) {
      throw new SafetensorsError(`its header has more than ${MAX_HEADER_VALUES} values`);
    }
  }
  return pairs;
}

function parseMetadata(value: unknown): Record<string, string> {
  if (!isTable(value) || !Object.values(value).every((it) => typeof it === "string")) {
    throw new SafetensorsError("__metadata__ is not an object of strings");
  }
  return value as Record<string, string>;
}

function parseSlot(name: string, value: unknown, dataBytes: number): SafetensorsSlot {
  if (name.length > MAX_NAME) throw new SafetensorsError(`the name ${quoted(name)} is too long`);
  if (!isTable(value)) throw new SafetensorsError(`${quoted(name)} is not an object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string" || !Object.hasOwn(ARRAYS, dtype)) {
    throw new SafetensorsError(`${quoted(name)} has the unknown dtype ${shown(dtype)}`);
  }
  if (!isCounts(shape) || shape.length > MAX_AXES) {
    throw new SafetensorsError(`${quoted(name)} has the bad shape ${shown(shape)}`);
  }
  if (!isCounts(offsets) || offsets.length !== 2 || offsets[0] > offsets[1]) {
    throw new SafetensorsError(`${quoted(name)} has the bad offsets ${shown(offsets)}`);
  }
  const [begin, end] = offsets;
  if (end > dataBytes) {
    throw new SafetensorsError(
      `${quoted(name)} ends at byte ${end}, past the end of the data (${dataBytes} bytes)`,
    );
  }
  const kind = dtype as SafetensorsDtype;
  const bytes = shape.reduce((product, it) => product * it, ARRAYS[kind].BYTES_PER_ELEMENT);
  if (bytes !== end - begin) {
    throw new SafetensorsError(
      `${quoted(name)} of shape ${listed(shape)} and dtype ${kind} needs ${bytes} bytes ` +
        `but its offsets hold ${end - begin}`,
    );
  }
  return { dtype: kind, shape, begin, end };
}

/**
 * The 8 length bytes and the header for tensors laid out one after the other in the given
 * order; the tensors' bytes follow it in a file. Padded with spaces to a multiple of 8.
 *
 * @throws {SafetensorsError} where a shape and its values differ in size, or a name occurs twice
 */
export function encodeHeader(
  entries: Iterable<readonly [name: string, tensor: SafetensorsTensor]>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const list = [...entries];
  for (const [name, { dtype, shape, data }] of list) {
    const kind = ARRAYS[dtype];
    if (!(data instanceof kind)) {
      throw new SafetensorsError(
        `${quoted(name)} of dtype ${dtype} has values in ${data.constructor.name}`,
      );
    }
    const count = shape.reduce((product, it) => product * it, 1);
    if (count !== data.length) {
      throw new SafetensorsError(
        `${quoted(name)} of shape [${shape}] needs ${count} values but has ${data.length}`,
      );
    }
  }
  return layOut(list, metadata);
}

/**
 * As {@link encodeHeader}, for tensors whose values are not at hand.
 *
 * @throws {SafetensorsError} where a name occurs twice
 */
export function layOut(
  entries: Iterable<
    readonly [name: string, tensor: Pick<SafetensorsTensor, "dtype" | "shape">]
  >,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const seen = new Set<string>(["__metadata__"]);
  const parts: string[] = [];
  if (Object.keys(metadata).length > 0) {
    parts.push(`"__metadata__":${JSON.stringify(metadata)}`);
  }
  let offset = 0;
  for (const [name, { dtype, shape }] of entries) {
    if (seen.has(name)) throw new SafetensorsError(`${quoted(name)} occurs twice`);
    seen.add(name);
    const end = shape.reduce((product, it) => product * it, ARRAYS[dtype].BYTES_PER_ELEMENT) +
      offset;
    const slot = { dtype, shape, data_offsets: [offset, end] };
    // Joined by hand: an object would put names that look like numbers first.
    parts.push(`${JSON.stringify(name)}:${JSON.stringify(slot)}`);
    offset = end;
  }
  const json = new TextEncoder().encode(`{${parts.join(",")}}`);
  const padded = Math.ceil(json.byteLength / 8) * 8;
  const bytes = new Uint8Array(8 + padded).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded), true);
  bytes.set(json, 8);
  return bytes;
}

/**
 * A whole file in memory.
 *
 * @throws {SafetensorsError} as {@link encodeHeader}
 */
export function writeSafetensors(
  entries: Iterable<readonly [name: string, tensor: SafetensorsTensor]>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const list = [...entries];
  const header = encodeHeader(list, metadata);
  const size = list.reduce((sum, [, it]) => sum + it.data.byteLength, header.byteLength);
  const bytes = new Uint8Array(size);
  bytes.set(header);
  let offset = header.byteLength;
  for (const [, { data }] of list) {
    bytes.set(bytesOf(data), offset);
    offset += data.byteLength;
  }
  return bytes;
}

/** The bytes behind a typed array, without copying. */
export function bytesOf(data: SafetensorsData): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function view(bytes: Uint8Array, dtype: SafetensorsDtype): SafetensorsData {
  const kind = ARRAYS[dtype];
  const aligned = bytes.byteOffset % kind.BYTES_PER_ELEMENT === 0 ? bytes : bytes.slice();
  return new kind(
    aligned.buffer,
    aligned.byteOffset,
    aligned.byteLength / kind.BYTES_PER_ELEMENT,
  );
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value of the header in a message. */
function shown(value: unknown): string {
  if (isCounts(value)) return listed(value);
  return typeof value === "object" && value !== null || value === undefined
    ? `of ${Array.isArray(value) ? "a list" : typeof value}`
    : quoted(String(value));
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((it) => Number.isSafeInteger(it) && it >= 0);
}
