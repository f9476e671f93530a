/**
 * Files of data are regular files: a named pipe, socket or device would make a reader wait, some
 * of them for ever.
 *
 * @module
 */
import { readFully } from "./bytes.ts";

/**
 * Opens a file for reading and never waits for it.
 *
 * @throws {Error} the system's error, or one that says what the path is instead of a regular file;
 * links are followed.
 */
export function openRegular(path: string | URL): Deno.FsFile {
  const info = Deno.statSync(path);
  if (!info.isFile) throw new Error(`not a regular file but ${kindOf(info)}`);
  return Deno.openSync(path);
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
