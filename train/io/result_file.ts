/**
 * Files of results that a user names: their folder is made where it is missing, and what the system
 * refuses is an error of usage.
 *
 * @module
 */
import { dirname } from "@std/path";
import { UsageError } from "../errors.ts";
import { writeAtomic } from "./atomic_write.ts";

/** Whether an error is the system's: no such file, no permission and the like. */
export function isSystemError(error: unknown): error is Error {
  return Object.values(Deno.errors).some((it) => error instanceof it);
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
