/**
 * Element types and their names on both sides of the bus.
 *
 * @module
 */

/**
 * Element type of a tensor. `f16` is a storage type, for adapters that have shader-f16: kernels
 * compute and accumulate in f32 whatever the operands are.
 */
export type DType = "f32" | "f16" | "u32" | "i32";

/** The typed array that holds elements of a {@link DType} on the host. */
export type HostArray = Float32Array | Float16Array | Uint32Array | Int32Array;

/** Whether this runtime has 16-bit floats; Node has them from 24 on. */
export const HAS_F16: boolean = "Float16Array" in globalThis;

const ARRAYS = {
  f32: Float32Array,
  // Where there is none, no adapter is asked for f16 either.
  f16: HAS_F16 ? Float16Array : class {} as typeof Float16Array,
  u32: Uint32Array,
  i32: Int32Array,
} as const;

/** All element types. */
export const DTYPES: readonly DType[] = ["f32", "f16", "u32", "i32"];

/** Bytes per element. */
export function itemSizeOf(dtype: DType): number {
  return ARRAYS[dtype].BYTES_PER_ELEMENT;
}

/** Whether elements are floating-point numbers. */
export function isFloat(dtype: DType): boolean {
  return dtype === "f32" || dtype === "f16";
}

/** The dtype whose elements `data` holds; undefined for other values. */
export function dtypeOf(data: unknown): DType | undefined {
  return DTYPES.find((dtype) => data instanceof ARRAYS[dtype]);
}

/** Views `bytes` as elements of `dtype` (no copy). */
export function hostView(dtype: DType, bytes: ArrayBuffer): HostArray {
  return new ARRAYS[dtype](bytes);
}

/** Bytes per element of f32, u32 and i32. */
export const BYTES_PER_ELEMENT = 4;
