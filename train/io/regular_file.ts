/**
 * Files of data are regular files: a named pipe, socket or device would make a reader wait, some
 * of them for ever.
 *
 * @module
 */
import { UsageError } from "../errors.ts";
import { readFully } from "./bytes.ts";

/** What is no regular file; the message says what it is. */
export class NotRegularError extends Error {
  /** The class name, as printed. */
  override readonly name = "NotRegularError";

  /** @param info of the path */
  constructor(info: Deno.FileInfo) {
    super(`not a regular file but ${kindOf(info)}`);
  }
}

/**
 * Opens a file for reading and never waits for it.
 *
 * @throws {NotRegularError} if it is something else; links are followed
 * @throws {Error} the system's error.
 */
export function openRegular(path: string | URL): Deno.FsFile {
  const info = infoOf(path);
  if (!info.isFile) throw new NotRegularError(info);
  return Deno.openSync(path);
}

/**
 * Opens or makes a file that is written, and never waits for it.
 *
 * @throws {UsageError} as {@link refuseSpecial}
 * @throws {Error} the system's error.
 */
export function openWritten(path: string, options: Deno.OpenOptions): Deno.FsFile {
  refuseSpecial(path);
  return Deno.openSync(path, options);
}

/** @throws {UsageError} if something that is no regular file is where one is to be written */
export function refuseSpecial(path: string): void {
  try {
    const info = Deno.statSync(path);
    if (!info.isFile) throw new NotRegularError(info);
  } catch (error) {
    if (!(error instanceof NotRegularError)) return;
    throw new UsageError(`${path}: cannot be written: ${error.message}`);
  }
}

function infoOf(path: string | URL): Deno.FileInfo {
  try {
    return Deno.statSync(path);
  } catch (error) {
    // Deno gives other names with this character, by which there is no file.
    if (!(error instanceof Deno.errors.NotFound && String(path).includes("\ufffd"))) throw error;
    throw new Deno.errors.NotFound("a name that is not UTF-8 cannot be opened");
  }
}

/** The bytes of a file. @throws {Error} as {@link openRegular}. */
export function readRegular(path: string | URL): Uint8Array<ArrayBuffer> {
  using file = openRegular(path);
  return readFully(file, file.statSync().size);
}

/** The text of a file. @throws {Error} as {@link openRegular}. */
export function readRegularText(path: string | URL): string {
  return new TextDecoder().decode(readRegular(path));
}

function kindOf(info: Deno.FileInfo): string {
  if (info.isDirectory) return "a folder";
  if (info.isFifo) return "a named pipe";
  if (info.isSocket) return "a socket";
  if (info.isCharDevice || info.isBlockDevice) return "a device";
  return "something else";
}
