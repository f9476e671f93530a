/**
 * What `prepare` has finished, so that it can go on.
 *
 * @module
 */
import { JsonLines } from "../io/json_lines.ts";
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
  readonly #lines: JsonLines<JournalRow>;

  /** Opens or makes the journal; broken lines are removed. */
  constructor(path: string, readonly dtype: NpyDtype) {
    this.#lines = JsonLines.append<JournalRow>(path, (row) => {
      if (!isRow(row)) return false;
      if (row.dtype === dtype) this.#known.set(row.path, row);
      return true;
    });
  }

  /** Lines that were no objects when it was opened. */
  get damaged(): number {
    return this.#lines.damaged;
  }

  /** What is known of a clip. */
  known(path: string): ClipSums | undefined {
    return this.#known.get(path);
  }

  /** Writes down all that another journal has. @throws {DiskFullError} */
  addAll(other: ClipJournal): void {
    for (const [path, sums] of other.#known) this.add(path, sums);
  }

  /** Writes down a clip, unless it is there with these sums. @throws {DiskFullError} */
  add(path: string, { frames, sum, squares }: ClipSums): void {
    const known = this.#known.get(path);
    if (known?.sum === sum && known.squares === squares && known.frames === frames) return;
    const row: JournalRow = { path, dtype: this.dtype, frames, sum, squares };
    this.#lines.write(row);
    this.#known.set(path, row);
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#lines[Symbol.dispose]();
  }
}

function isRow({ path, frames, sum, squares }: Partial<JournalRow>): boolean {
  return typeof path === "string" && [frames, sum, squares].every(Number.isFinite);
}
