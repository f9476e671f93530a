/**
 * Files of results that a user names: their folder is made where it is missing, and what the system
 * refuses is an error of usage.
 *
 * @module
 */
import { dirname } from "../deps/path.ts";
import { isSystemError, UsageError } from "../errors.ts";
import { writeAtomic } from "./atomic_write.ts";

export { isSystemError } from "../errors.ts";

/** Makes a folder of results. @throws {UsageError} if that cannot be, naming the option */
export async function makeFolder(dir: string): Promise<void> {
  try {
    await Deno.mkdir(dir, { recursive: true });
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new UsageError(`--out ${dir}: cannot be written`, error.message);
  }
}

/** Makes the folder of a result and writes it. @throws {UsageError} if that cannot be. */
export async function writeInto(path: string, write: () => Promise<void>): Promise<void> {
  try {
    await Deno.mkdir(dirname(path), { recursive: true });
    await write();
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new UsageError(`${path}: cannot be written`, error.message);
  }
}

/** Writes a text or bytes. @throws {UsageError} if the file cannot be written. */
export async function writeResult(path: string, content: string | Uint8Array): Promise<void> {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  await writeInto(path, () => writeAtomic(path, [bytes]));
}

/** Writes a result as JSON. @throws {UsageError} if the file cannot be written. */
export async function writeJson(path: string, record: unknown): Promise<void> {
  await writeResult(path, `${JSON.stringify(record, null, 2)}\n`);
}
