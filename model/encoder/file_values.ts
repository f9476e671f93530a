/**
 * What is read from an encoder's file: its tensors' values, and what is wrong with them.
 *
 * @module
 */
import { asFloat32, type StoredTensor, wholeBytes } from "../formats/stored_tensor.ts";

/** The file holds no encoder that can be used; the message says why. */
export class EncoderError extends Error {
  /** Stable name. */
  override name = "EncoderError";
}

/** Errors that readers of files have for what is wrong with one. */
const ABOUT_FILES = new Set([
  "CheckpointError",
  "PickleError",
  "SafetensorsError",
  "TorchError",
  "ZipError",
]);

/** Runs `read`; what is wrong with the file becomes an {@link EncoderError}. */
export function explaining<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof Error && ABOUT_FILES.has(error.name))) throw error;
    throw new EncoderError(error.message, { cause: error });
  }
}

/**
 * All values of a parameter.
 *
 * @throws {EncoderError} if they are no floats, or one is not finite.
 */
export function floatsOf(name: string, stored: StoredTensor): Float32Array {
  const tensor = asFloat32(stored);
  if (tensor.dtype !== "F32") {
    throw new EncoderError(`${name} is ${tensor.dtype}, which no parameter is`);
  }
  const values = new Float32Array(wholeBytes(tensor).buffer);
  if (!values.every(Number.isFinite)) throw new EncoderError(`${name} holds a NaN or an infinity`);
  return values;
}
