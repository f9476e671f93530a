/**
 * Element types and their names on both sides of the bus.
 *
 * @module
 */

/** Element type of a tensor. All are four bytes wide. */
export type DType = "f32" | "u32" | "i32";

/** The typed array that holds elements of a {@link DType} on the host. */
export type HostArray = Float32Array | Uint32Array | Int32Array;

/** Bytes per element; every {@link DType} has the same width. */
export const BYTES_PER_ELEMENT = 4;

/** The dtype whose elements `data` holds. */
export function dtypeOf(data: HostArray): DType {
  if (data instanceof Float32Array) return "f32";
  return data instanceof Uint32Array ? "u32" : "i32";
}

/** Views `bytes` as elements of `dtype` (no copy). */
export function hostView(dtype: DType, bytes: ArrayBuffer): HostArray {
  if (dtype === "f32") return new Float32Array(bytes);
  return dtype === "u32" ? new Uint32Array(bytes) : new Int32Array(bytes);
}
