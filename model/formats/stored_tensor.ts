/**
 * Bytes that are read by ranges, and tensors that are read piece by piece, so that a file may be
 * larger than memory.
 *
 * @module
 */
import type { SafetensorsDtype } from "../../engine/formats/safetensors.ts";

/**
 * Something with a size whose bytes can be read anywhere. Reading is synchronous: writers take
 * plain iterables.
 */
export interface RandomAccess {
  /** Bytes in all. */
  readonly size: number;
  /** Exactly `length` bytes from `offset` on; callers stay inside `size`. */
  read(offset: number, length: number): Uint8Array;
}

/** A tensor whose bytes are fetched when they are asked for. */
export interface StoredTensor {
  /** Element type, as safetensors names it. */
  readonly dtype: SafetensorsDtype;
  /** Sizes of the axes. */
  readonly shape: readonly number[];
  /** Its bytes, row-major and little-endian, in pieces of whole elements. */
  chunks(): Iterable<Uint8Array>;
}

/** Most bytes in one piece of {@link StoredTensor.chunks}. */
export const PIECE_BYTES = 1 << 24;

/** Bytes of one element. */
export const ITEM_BYTES: Readonly<Record<SafetensorsDtype, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U32: 4,
  U8: 1,
  BOOL: 1,
};

/** Elements of a shape. */
export function countOf(shape: readonly number[]): number {
  return shape.reduce((product, it) => product * it, 1);
}

/** Bytes of a tensor. */
export function bytesIn({ dtype, shape }: Pick<StoredTensor, "dtype" | "shape">): number {
  return countOf(shape) * ITEM_BYTES[dtype];
}

/** Ranges of bytes in memory. */
export function bytesAccess(bytes: Uint8Array): RandomAccess {
  return {
    size: bytes.byteLength,
    read: (offset, length) => bytes.subarray(offset, offset + length),
  };
}

/** A range in pieces of at most {@link PIECE_BYTES}. */
export function* piecesOf(
  source: RandomAccess,
  offset: number,
  length: number,
): Generator<Uint8Array> {
  for (let done = 0; done < length; done += PIECE_BYTES) {
    yield source.read(offset + done, Math.min(PIECE_BYTES, length - done));
  }
}

/** All bytes of a tensor in one array of their own. */
export function wholeBytes(tensor: StoredTensor): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(bytesIn(tensor));
  let at = 0;
  for (const piece of tensor.chunks()) {
    whole.set(piece, at);
    at += piece.byteLength;
  }
  return whole;
}

/** A tensor whose bytes are in memory. */
export function storedTensor(
  dtype: SafetensorsDtype,
  shape: readonly number[],
  bytes: Uint8Array,
): StoredTensor {
  return { dtype, shape, chunks: () => piecesOf(bytesAccess(bytes), 0, bytes.byteLength) };
}

/** Values of some whole elements as numbers; 64-bit integers beyond 2^53 are rounded. */
export function valuesOf(bytes: Uint8Array, dtype: SafetensorsDtype): ArrayLike<number> {
  const item = ITEM_BYTES[dtype];
  const { buffer, byteOffset } = bytes.byteOffset % item === 0 ? bytes : bytes.slice();
  const count = bytes.byteLength / item;
  switch (dtype) {
    case "F64":
      return new Float64Array(buffer, byteOffset, count);
    case "F32":
      return new Float32Array(buffer, byteOffset, count);
    case "F16":
      return new Float16Array(buffer, byteOffset, count);
    case "BF16": {
      const halves = new Uint16Array(buffer, byteOffset, count);
      const words = Uint32Array.from(halves, (it) => it << 16);
      return new Float32Array(words.buffer);
    }
    case "I64":
      return Float64Array.from(new BigInt64Array(buffer, byteOffset, count), Number);
    case "I32":
      return new Int32Array(buffer, byteOffset, count);
    case "I16":
      return new Int16Array(buffer, byteOffset, count);
    case "I8":
      return new Int8Array(buffer, byteOffset, count);
    case "U32":
      return new Uint32Array(buffer, byteOffset, count);
    case "U8":
    case "BOOL":
      return new Uint8Array(buffer, byteOffset, count);
  }
}

/**
 * The same tensor in float32 where it has other floating-point values; integers stay as they are.
 */
export function asFloat32(tensor: StoredTensor): StoredTensor {
  const { dtype, shape } = tensor;
  if (dtype !== "F64" && dtype !== "F16" && dtype !== "BF16") return tensor;
  return {
    dtype: "F32",
    shape,
    *chunks() {
      for (const piece of tensor.chunks()) {
        yield new Uint8Array(Float32Array.from(valuesOf(piece, dtype)).buffer);
      }
    },
  };
}
