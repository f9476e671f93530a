/**
 * Files of data are regular files: a named pipe, socket or device would make a reader wait, some
 * of them for ever.
 *
 * @module
 */
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

function infoOf(path: string | URL): Deno.FileInfo {
  try {
    return Deno.statSync(path);
  } catch (error) {
    // Deno gives other names with this character, by which there is no file.
    if (!(error instanceof Deno.errors.NotFound && String(path).includes("\ufffd"))) throw error;
    throw new Deno.errors.NotFound("a name that is not UTF-8 cannot be opened");
  }
}

/** The text of a file. @throws {Error} as {@link openRegular}. */
export function readRegularText(path: string | URL): string {
  using file = openRegular(path);
  return new TextDecoder().decode(readFully(file, file.statSync().size));
}

function kindOf(info: Deno.FileInfo): string {
  if (info.isDirectory) return "a folder";
  if (info.isFifo) return "a named pipe";
  if (info.isSocket) return "a socket";
  if (info.isCharDevice || info.isBlockDevice) return "a device";
  return "something else";
}
