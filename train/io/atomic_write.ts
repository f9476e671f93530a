/**
 * Files that a reader never sees half written.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { nameDiskFull } from "../errors.ts";
import { concatBytes } from "./bytes.ts";
import { namesIn } from "./folders.ts";

/** Ending of a file that is being written until it is complete. */
export const UNFINISHED = ".tmp";

/**
 * Writes `chunks` one after the other beside `path`, syncs, and renames: `path` is either
 * what it was or complete, also after a loss of power where the file system keeps its promises.
 *
 * @throws {DiskFullError} if there is no room
 */
export async function writeAtomic(path: string, chunks: Iterable<Uint8Array>): Promise<void> {
  const beside = `${path}${UNFINISHED}`;
  try {
    {
      using file = await Deno.open(beside, { write: true, create: true, truncate: true });
      for (const chunk of gathered(chunks)) {
        for (let done = 0; done < chunk.byteLength;) {
          done += await file.write(chunk.subarray(done));
        }
      }
      await file.sync();
    }
    await Deno.rename(beside, path);
  } catch (error) {
    await Deno.remove(beside).catch(() => {});
    throw nameDiskFull(error, path);
  }
  await syncFolder(dirname(path));
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

/** Removes what killed processes left unfinished in a folder. */
export async function removeUnfinished(dir: string): Promise<void> {
  for (const name of await namesIn(dir)) {
    if (name.endsWith(UNFINISHED)) await Deno.remove(join(dir, name));
  }
}
