/**
 * Safetensors files of any size: read by ranges, written piece by piece.
 *
 * @module
 */
import { START_BYTES } from "../../engine/formats/foreign_file.ts";
import { bytesIn, piecesOf, type RandomAccess, type StoredTensor } from "./stored_tensor.ts";
import { headerLength, layOut, parseHeader } from "../../engine/formats/safetensors.ts";

/** An open file. */
export interface OpenSafetensors {
  /** Tensors by name, in the order of the file. */
  readonly tensors: Map<string, StoredTensor>;
  /** Free text by key. */
  readonly metadata: Record<string, string>;
}

/**
 * Reads the header; tensors read their bytes when they are asked for.
 *
 * @throws {SafetensorsError} if the header is damaged or does not fit the file
 */
export function openSafetensors(source: RandomAccess): OpenSafetensors {
  const length = headerLength(source.read(0, Math.min(START_BYTES, source.size)), source.size);
  const start = 8 + length;
  const { slots, metadata } = parseHeader(source.read(8, length), source.size - start);
  const tensors = new Map<string, StoredTensor>();
  for (const [name, { dtype, shape, begin, end }] of slots) {
    const chunks = () => piecesOf(source, start + begin, end - begin);
    tensors.set(name, { dtype, shape, chunks });
  }
  return { tensors, metadata };
}

/**
 * The bytes of a file, one tensor after the other, none held longer than it takes to write it.
 *
 * @throws {SafetensorsError} where a name occurs twice
 * @throws {RangeError} if a tensor's pieces are not as long as its shape says
 */
export function* safetensorsChunks(
  entries: readonly (readonly [name: string, tensor: StoredTensor])[],
  metadata: Readonly<Record<string, string>> = {},
): Generator<Uint8Array> {
  yield layOut(entries, metadata);
  for (const [name, tensor] of entries) {
    yield* exactly(tensor.chunks(), bytesIn(tensor), name);
  }
}

/** The same pieces. @throws {RangeError} if they are not `bytes` bytes in all */
function* exactly(
  pieces: Iterable<Uint8Array>,
  bytes: number,
  name: string,
): Generator<Uint8Array> {
  let done = 0;
  for (const piece of pieces) {
    done += piece.byteLength;
    yield piece;
  }
  if (done !== bytes) throw new RangeError(`${name} came with ${done} bytes instead of ${bytes}`);
}
