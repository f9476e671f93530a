/**
 * Tensors of layers in safetensors files.
 *
 * @module
 */
import type { DType, HostArray } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { readSafetensors, type SafetensorsTensor } from "../formats/safetensors.ts";
import { sameShape, type Shape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";

const FILE_TYPES = { f32: "F32", f16: "F16", u32: "U32", i32: "I32" } as const;

/** Values of a tensor as a file holds them. */
export function storedValues(shape: Shape, dtype: DType, values: HostArray): SafetensorsTensor {
  const data = values instanceof Float16Array
    ? new Uint16Array(values.buffer, values.byteOffset, values.length)
    : values;
  return { dtype: FILE_TYPES[dtype], shape, data };
}

/** Values of a file for a tensor of `dtype`; undefined where they are of another kind. */
function valuesFor(
  dtype: DType,
  { dtype: stored, data }: SafetensorsTensor,
): HostArray | undefined {
  if (dtype === "u32" || dtype === "i32") {
    return stored === FILE_TYPES[dtype] ? data as Uint32Array | Int32Array : undefined;
  }
  const Host = dtype === "f32" ? Float32Array : Float16Array;
  if (stored === "F32" || stored === "F64") return Host.from(data as Float32Array | Float64Array);
  if (stored === "F16") {
    return Host.from(new Float16Array(data.buffer, data.byteOffset, data.length));
  }
  if (stored !== "BF16") return undefined;
  // The upper half of an f32.
  return Host.from(
    new Float32Array(Uint32Array.from(data as Uint16Array, (bits) => bits << 16).buffer),
  );
}

/**
 * Overwrites tensors by the names of a safetensors file.
 *
 * @param own what there is
 * @param strict whether the file must have all names and no others
 * @throws {ShapeError} if names, shapes or kinds of elements do not fit; nothing is written then.
 * @throws {SafetensorsError} if the bytes are no safetensors file.
 */
export function loadFile(
  own: ReadonlyMap<string, Tensor>,
  bytes: Uint8Array,
  strict: boolean,
): void {
  const { tensors } = readSafetensors(bytes);
  const strangers = [...tensors.keys()].filter((name) => !own.has(name));
  const missing = [...own.keys()].filter((name) => !tensors.has(name));
  if (strict && strangers.length + missing.length > 0) {
    const some = (names: readonly string[]) =>
      names.slice(0, 4).map((name) => JSON.stringify(name.slice(0, 80))).join(", ") +
      (names.length > 4 ? `, and ${names.length - 4} more` : "");
    throw new ShapeError(
      "load: " + [
        missing.length > 0 ? `the file lacks ${some(missing)}` : "",
        strangers.length > 0 ? `the layer has no ${some(strangers)}` : "",
      ].filter((it) => it).join("; "),
    );
  }
  const found = [...own].flatMap(([name, tensor]): [Tensor, HostArray][] => {
    const stored = tensors.get(name);
    if (!stored) return [];
    const values = valuesFor(tensor.dtype, stored);
    if (!values || !sameShape(stored.shape, tensor.shape)) {
      throw new ShapeError(
        `load: ${name} is ${show(stored.shape)} of ${stored.dtype} in the file, ${
          show(tensor.shape)
        } of ${tensor.dtype} in the layer`,
      );
    }
    return [[tensor, values]];
  });
  for (const [tensor, values] of found) tensor.device.write(tensor, values);
}
