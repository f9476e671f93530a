/**
 * Files that a reader never sees half written.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { basename, dirname, join } from "../deps/path.ts";
import { nameDiskFull, UsageError } from "../errors.ts";
import { concatBytes } from "./bytes.ts";
import { namesIn } from "./folders.ts";
import { isInterrupted } from "./interruption.ts";
import { lockFile } from "./lock.ts";
import { refuseSpecial } from "./regular_file.ts";

/** Ending of a file that is being written until it is complete. */
export const UNFINISHED = ".tmp";

/** Most bytes of a name on usual file systems. */
const MOST_NAME_BYTES = 255;

/**
 * Where a file grows until it is complete: beside it, under its name and an ending, of which the
 * name is shortened where both are too long for a file system.
 */
export function besideName(path: string, ending: string = UNFINISHED): string {
  const name = basename(path);
  const bytes = new TextEncoder().encode(name);
  if (bytes.length + ending.length <= MOST_NAME_BYTES) return path + ending;
  const mark = `-${crc32(bytes).toString(16)}${ending}`;
  // Half a character at the cut is left out.
  const kept = new TextDecoder().decode(bytes.subarray(0, MOST_NAME_BYTES - mark.length))
    .replace(/\ufffd+$/, "");
  return join(dirname(path), kept + mark);
}

/**
 * Opens the file beside `path` and keeps other processes from it until it is closed; what one that
 * was killed left there is thrown away.
 *
 * @throws {UsageError} if another process is writing it
 */
async function openBeside(path: string, beside: string): Promise<Deno.FsFile> {
  for (;;) {
    refuseSpecial(beside);
    const file = await Deno.open(beside, { write: true, create: true });
    try {
      if (!lockFile(file)) {
        throw new UsageError(`${path}: another process is writing this file`);
      }
      // Whoever had the lock may have renamed the file in the meantime.
      if (sameFile(file.statSync(), infoOf(beside))) {
        file.truncateSync();
        return file;
      }
    } catch (error) {
      file.close();
      throw error;
    }
    file.close();
  }
}

function infoOf(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.statSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function sameFile(a: Deno.FileInfo, b: Deno.FileInfo | undefined): boolean {
  return b !== undefined && a.ino === b.ino && a.dev === b.dev;
}

/**
 * Makes or replaces a file: `path` is either what it was or complete. Of several processes that
 * write it at a time the first goes on.
 *
 * @param write writes into the file that it is given
 * @throws {UsageError} if another process is writing it
 * @throws {DiskFullError} if there is no room
 */
export async function replaceFile(
  path: string,
  write: (file: Deno.FsFile) => Promise<void>,
): Promise<void> {
  const beside = besideName(path);
  using file = await openBeside(path, beside);
  try {
    await write(file);
    // Windows renames no open file.
    if (Deno.build.os === "windows") file.close();
    await Deno.rename(beside, path);
  } catch (error) {
    await Deno.remove(beside).catch(() => {});
    throw nameDiskFull(error, path);
  }
}

/**
 * Bytes that are written between two syncs. A process does not end before a sync that it waits for,
 * so that none may take long.
 */
const SYNCED_BYTES = 1 << 26;

/**
 * Writes `chunks` one after the other beside `path`, syncs, and renames: `path` is either
 * what it was or complete, also after a loss of power where the file system keeps its promises. A
 * process that was told to end has no time for that: there a loss of power right after it may cost
 * the file.
 *
 * @throws as {@link replaceFile}
 */
export async function writeAtomic(path: string, chunks: Iterable<Uint8Array>): Promise<void> {
  await replaceFile(path, async (file) => {
    let unsynced = 0;
    for (const chunk of gathered(chunks)) {
      for (let done = 0; done < chunk.byteLength;) {
        done += await file.write(chunk.subarray(done));
      }
      unsynced += chunk.byteLength;
      if (unsynced < SYNCED_BYTES || isInterrupted()) continue;
      await file.sync();
      unsynced = 0;
    }
    if (!isInterrupted()) await file.sync();
  });
  if (!isInterrupted()) await syncFolder(dirname(path));
}

/** Bytes that small chunks are gathered to: beside training, each write waits for an update. */
const GATHERED_BYTES = 1 << 24;

/** The same bytes in fewer chunks. */
function* gathered(chunks: Iterable<Uint8Array>): Generator<Uint8Array> {
  let small: Uint8Array[] = [];
  let bytes = 0;
  for (const chunk of chunks) {
    if (bytes + chunk.byteLength > GATHERED_BYTES) {
      yield concatBytes(small);
      [small, bytes] = [[], 0];
    }
    if (chunk.byteLength > GATHERED_BYTES) yield chunk;
    else {
      small.push(chunk);
      bytes += chunk.byteLength;
    }
  }
  yield concatBytes(small);
}

/** Makes a rename in a folder last. Not every system can open a folder: then that is left to it. */
async function syncFolder(dir: string): Promise<void> {
  try {
    using folder = await Deno.open(dir, { read: true });
    await folder.sync();
  } catch {
    // The file itself is synced.
  }
}

/** Removes a file, unless it is gone already. */
export async function removeIfThere(path: string): Promise<void> {
  await Deno.remove(path).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
}

/**
 * Removes what killed processes left unfinished in a folder.
 *
 * @param isOurs whether a file of that name is written here; others stay
 */
export async function removeUnfinished(
  dir: string,
  isOurs: (name: string) => boolean,
): Promise<void> {
  for (const name of await namesIn(dir)) {
    if (isUnfinished(name, isOurs)) await Deno.remove(join(dir, name));
  }
}

/** Whether a name is that of an unfinished file of ours. */
export function isUnfinished(name: string, isOurs: (name: string) => boolean): boolean {
  return name.endsWith(UNFINISHED) && isOurs(name.slice(0, -UNFINISHED.length));
}
