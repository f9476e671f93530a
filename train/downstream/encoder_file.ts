/**
 * Encoders that a user names: a file, or a run's folder.
 *
 * @module
 */
import { join } from "@std/path";
import type { Device } from "../../engine/mod.ts";
import { type Encoder, EncoderError, loadEncoder } from "../../model/encoder/encoder.ts";
import { UsageError } from "../errors.ts";
import { isSystemError } from "../io/result_file.ts";

/**
 * The file that a path means: itself, or a run's encoder.
 *
 * @throws {UsageError} if it cannot be read.
 */
export function encoderPath(path: string): string {
  try {
    const file = Deno.statSync(path).isDirectory ? join(path, "encoder.safetensors") : path;
    Deno.openSync(file).close();
    return file;
  } catch (error) {
    throw unreadable(path, error);
  }
}

/**
 * Loads an encoder.
 *
 * @param heads attention heads, where the file does not say them
 * @throws {UsageError} if it cannot be read or holds none.
 */
export async function encoderFrom(
  device: Device,
  path: string,
  heads: number | undefined,
): Promise<Encoder> {
  try {
    return await loadEncoder(device, encoderPath(path), heads === undefined ? {} : { heads });
  } catch (error) {
    if (error instanceof EncoderError) {
      throw new UsageError(`--checkpoint ${path}: no usable encoder: ${error.message}`);
    }
    throw unreadable(path, error);
  }
}

/** What the system says about a path, as an error of usage; others as they are. */
function unreadable(path: string, error: unknown): unknown {
  return isSystemError(error)
    ? new UsageError(`--checkpoint ${path}: cannot be read: ${error.message}`)
    : error;
}
