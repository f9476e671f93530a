/**
 * Folders that one process writes at a time.
 *
 * @module
 */
import { join } from "../deps/path.ts";
import { UsageError } from "../errors.ts";
import { openRegular, openWritten } from "./regular_file.ts";

/**
 * File that the process writing a folder holds locked. The system lets go of it however the process
 * ends, so it stays.
 */
export const LOCK_FILE = ".lock";

/**
 * Locks an open file until it is closed; false if another process has.
 *
 * @param shared whether others may lock it so, too
 */
export function lockFile(file: Deno.FsFile, shared = false): boolean {
  try {
    return file.tryLockSync(!shared);
  } catch {
    // Not every file system has locks.
    return true;
  }
}

/**
 * Keeps other processes from writing a folder until the result is disposed.
 *
 * @param what the folder is, for the message
 * @param shared whether others that say so as well may write at the same time
 * @throws {UsageError} when another process is writing it.
 */
export function lockFolder(
  dir: string,
  what: "run" | "store" | "comparison" | "table",
  shared = false,
): Disposable {
  const file = openWritten(join(dir, LOCK_FILE), { write: true, create: true });
  if (lockFile(file, shared)) return file;
  file.close();
  throw new UsageError(
    `--out ${dir}: another process is writing this ${what}`,
    "wait until it has ended, or stop it (Ctrl-C or SIGTERM), or give another directory",
  );
}

/** Whether a process is writing a folder; false also where file systems have no locks. */
export function isLocked(dir: string): boolean {
  try {
    using file = openRegular(join(dir, LOCK_FILE));
    // Shared, so that two that ask do not see each other.
    return !file.tryLockSync(false);
  } catch {
    return false;
  }
}
