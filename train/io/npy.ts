/**
 * NumPy's .npy format, as far as log-mel stores need it: float32 and float16, little-endian, C
 * order.
 *
 * A file is `\x93NUMPY`, version (major, minor), length of the header (uint16 in version 1, uint32
 * from 2 on), a Python dict literal with `descr`, `fortran_order` and `shape`, padded with spaces
 * to a multiple of 64 bytes, then the values.
 *
 * @module
 */
import { printable, quoted } from "../../engine/formats/printable.ts";

/** Number formats that a store can have. */
export type NpyDtype = "f32" | "f16";

/** What stands before the values of a file. */
export interface NpyHeader {
  /** Number format. */
  readonly dtype: NpyDtype;
  /** Axes, slowest first. */
  readonly shape: readonly number[];
  /** Bytes before the first value. */
  readonly offset: number;
}

/** A .npy file that cannot be used. The message says what is wrong; it does not repeat the path. */
export class NpyError extends Error {
  /** The class name, as printed. */
  override readonly name = "NpyError";
}

/** Bytes of one value. */
export const ITEM_BYTES: Readonly<Record<NpyDtype, number>> = { f32: 4, f16: 2 };
const DESCR: Readonly<Record<NpyDtype, string>> = { f32: "<f4", f16: "<f2" };
const MAGIC = "\x93NUMPY";
const ALIGNMENT = 64;
/** Enough for the headers of all arrays of few axes; {@link headerBytes} says when it is not. */
export const USUAL_HEADER_BYTES = 128;
/** NumPy itself refuses headers above 10,000 bytes; a length field above this is damage. */
const MAX_HEADER_BYTES = 1 << 16;

/**
 * The header of a C-order array, version 1, byte for byte as NumPy writes it.
 *
 * @param shape axes, slowest first
 * @param type number format, or NumPy's code for another type, such as `<i4`
 */
export function npyHeader(
  shape: readonly number[],
  type: NpyDtype | `<${string}`,
): Uint8Array {
  const axes = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const descr = type === "f32" || type === "f16" ? DESCR[type] : type;
  const dict = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${axes}), }`;
  // NumPy leaves room for the first axis to grow to 21 digits.
  const growth = shape.length > 0 ? Math.max(0, 21 - String(shape[0]).length) : 0;
  const unpadded = MAGIC.length + 4 + dict.length + growth + 1;
  const length = Math.ceil(unpadded / ALIGNMENT) * ALIGNMENT;
  const text = dict.padEnd(length - MAGIC.length - 5) + "\n";
  const bytes = new Uint8Array(length);
  for (let i = 0; i < MAGIC.length; i++) bytes[i] = MAGIC.charCodeAt(i);
  bytes[6] = 1;
  new DataView(bytes.buffer).setUint16(8, text.length, true);
  for (let i = 0; i < text.length; i++) bytes[10 + i] = text.charCodeAt(i);
  return bytes;
}

/**
 * Bytes that the whole header takes.
 *
 * @param start the first bytes of the file, 12 suffice
 * @throws {NpyError} if it is no .npy file, its version is unknown or its length makes no sense.
 */
export function headerBytes(start: Uint8Array): number {
  for (let i = 0; i < MAGIC.length; i++) {
    if (start[i] !== MAGIC.charCodeAt(i)) throw new NpyError("not a .npy file");
  }
  if (start.length < 12) throw new NpyError("the header is cut off");
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  const [major, minor] = [start[6], start[7]];
  if (major < 1 || major > 3 || minor !== 0) {
    throw new NpyError(`version ${major}.${minor} of the .npy format is not known`);
  }
  const size = major === 1 ? 10 + view.getUint16(8, true) : 12 + view.getUint32(8, true);
  if (size > MAX_HEADER_BYTES) throw new NpyError(`a header of ${size} bytes is damaged`);
  return size;
}

/**
 * Reads a header.
 *
 * @param bytes the start of the file, at least {@link headerBytes}
 * @throws {NpyError} if it is damaged, or the array is not float32 or float16, little-endian, C
 * order.
 */
export function parseNpyHeader(bytes: Uint8Array): NpyHeader {
  const offset = headerBytes(bytes);
  if (bytes.length < offset) throw new NpyError("the header is cut off");
  const text = new TextDecoder("latin1").decode(bytes.subarray(bytes[6] === 1 ? 10 : 12, offset));
  const value = (key: string, pattern: string): string => {
    const found = new RegExp(`[{,]\\s*(['"])${key}\\1\\s*:\\s*(${pattern})\\s*[,}]`).exec(text);
    if (!found) throw new NpyError(`the header has no usable "${key}": ${quoted(text.trim())}`);
    return found[2];
  };
  const descr = value("descr", "'[^']*'|\"[^\"]*\"|\\[.*?\\]").slice(1, -1);
  const dtype = (Object.keys(DESCR) as NpyDtype[]).find((it) => DESCR[it] === descr);
  if (!dtype) throw new NpyError(`values of type ${printable(descr, 40)}; must be <f4 or <f2`);
  const order = value("fortran_order", "True|False");
  const shape = value("shape", "\\([\\s\\d,L]*\\)").slice(1, -1).split(",")
    .map((axis) => axis.trim().replace(/L$/, "")).filter((axis) => axis !== "").map(Number);
  // With at most one axis longer than 1 both orders are the same.
  if (order === "True" && shape.filter((axis) => axis > 1).length > 1) {
    throw new NpyError("Fortran order; must be C order");
  }
  if (!shape.every(Number.isSafeInteger)) {
    throw new NpyError(`the header has no usable "shape": ${quoted(text.trim())}`);
  }
  return { dtype, shape, offset };
}

/** Bytes of the whole file with this header. */
export function npyFileBytes({ dtype, shape, offset }: NpyHeader): number {
  return offset + ITEM_BYTES[dtype] * shape.reduce((product, axis) => product * axis, 1);
}

/** Values as they stand in a file of this number format: rounded to nearest for f16. */
export function encodeValues(values: Float32Array, dtype: NpyDtype): Uint8Array {
  const array = dtype === "f32" ? values : new Float16Array(values);
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  return LITTLE_ENDIAN ? bytes : swapped(bytes, ITEM_BYTES[dtype]);
}

/**
 * Values of a file of this number format.
 *
 * @param bytes whole values; kept as the memory of the result where possible
 */
export function decodeValues(bytes: Uint8Array, dtype: NpyDtype): Float32Array {
  const own = LITTLE_ENDIAN ? bytes : swapped(bytes, ITEM_BYTES[dtype]);
  const aligned = own.byteOffset % 4 === 0 ? own : own.slice();
  const { buffer, byteOffset, byteLength } = aligned;
  return dtype === "f32"
    ? new Float32Array(buffer as ArrayBuffer, byteOffset, byteLength / 4)
    : new Float32Array(new Float16Array(buffer as ArrayBuffer, byteOffset, byteLength / 2));
}

const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

function swapped(bytes: Uint8Array, width: number): Uint8Array {
  const out = bytes.slice();
  for (let at = 0; at < out.length; at += width) out.subarray(at, at + width).reverse();
  return out;
}
