/**
 * What `prepare` has finished, so that it can go on.
 *
 * @module
 */
import { nameDiskFull } from "../errors.ts";
import { readFully, writeFully } from "../io/bytes.ts";
import type { ClipSums } from "./clip_writer.ts";
import type { NpyDtype } from "../io/npy.ts";

interface JournalRow extends ClipSums {
  readonly path: string;
  readonly dtype: NpyDtype;
}

/**
 * The sums of finished clips, one JSON object per line, so that a store that is completed later has
 * its statistics without reading all of it again. A clip that is not in it is read.
 */
export class ClipJournal implements Disposable {
  readonly #known = new Map<string, ClipSums>();

  /** Lines that were passed over when it was opened. */
  damaged = 0;

  private constructor(
    readonly path: string,
    readonly file: Deno.FsFile,
    readonly dtype: NpyDtype,
  ) {}

  /**
   * Opens or makes the journal; a last line that was cut off is removed, broken ones are passed
   * over.
   */
  static open(path: string, dtype: NpyDtype): ClipJournal {
    const file = Deno.openSync(path, { read: true, write: true, create: true });
    const journal = new ClipJournal(path, file, dtype);
    const bytes = readFully(file, file.statSync().size);
    const end = bytes.lastIndexOf(0x0a) + 1;
    for (const line of new TextDecoder().decode(bytes.subarray(0, end)).split("\n")) {
      const row = rowOf(line);
      if (!row && line !== "") journal.damaged++;
      if (row?.dtype === dtype) journal.#known.set(row.path, row);
    }
    file.truncateSync(end);
    file.seekSync(end, Deno.SeekMode.Start);
    return journal;
  }

  /** What is known of a clip. */
  known(path: string): ClipSums | undefined {
    return this.#known.get(path);
  }

  /** Writes down a clip, unless it is there with these sums. */
  add(path: string, { frames, sum, squares }: ClipSums): void {
    const known = this.#known.get(path);
    if (known?.sum === sum && known.squares === squares && known.frames === frames) return;
    const row: JournalRow = { path, dtype: this.dtype, frames, sum, squares };
    try {
      writeFully(this.file, new TextEncoder().encode(`${JSON.stringify(row)}\n`));
    } catch (error) {
      throw nameDiskFull(error, this.path);
    }
    this.#known.set(path, row);
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.file.close();
  }
}

function rowOf(line: string): JournalRow | undefined {
  try {
    const row = JSON.parse(line);
    const numbers = [row.frames, row.sum, row.squares];
    return typeof row.path === "string" && numbers.every(Number.isFinite) ? row : undefined;
  } catch {
    return undefined;
  }
}
