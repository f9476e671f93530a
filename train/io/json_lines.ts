/**
 * Files of JSON lines: one JSON object per line, each line written whole.
 *
 * @module
 */
import { readFully, writeFully } from "./bytes.ts";

/** An open file of JSON lines. */
export class JsonLines<Row extends object> implements Disposable {
  readonly #file: Deno.FsFile;

  private constructor(file: Deno.FsFile) {
    this.#file = file;
  }

  /** Opens `path` empty. */
  static create<Row extends object>(path: string): JsonLines<Row> {
    return new JsonLines(Deno.openSync(path, { write: true, create: true, truncate: true }));
  }

  /** Appends one line; a reader sees it at once and whole. */
  write(row: Row): void {
    writeFully(this.#file, new TextEncoder().encode(JSON.stringify(row) + "\n"));
  }

  /** Waits until what was written is on the disk. */
  flush(): void {
    this.#file.syncDataSync();
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#file.close();
  }

  /**
   * Opens the metrics of a run that goes on after `step` updates: later lines, and a last
   * line that was cut off, are removed first. Makes the file where there is none.
   */
  static resume<Row extends { readonly step: number }>(path: string, step: number): JsonLines<Row> {
    const file = Deno.openSync(path, { read: true, write: true, create: true });
    const kept = keptBytes(readFully(file, file.statSync().size), step);
    file.truncateSync(kept);
    file.seekSync(kept, Deno.SeekMode.Start);
    return new JsonLines(file);
  }
}

/** Bytes of the whole lines at the start whose step is not above `step`. */
function keptBytes(bytes: Uint8Array, step: number): number {
  let kept = 0;
  for (let start = 0; start < bytes.length;) {
    const end = bytes.indexOf(0x0a, start);
    if (end < 0) break;
    const found = stepOf(new TextDecoder().decode(bytes.subarray(start, end)));
    if (found === undefined || found > step) break;
    kept = start = end + 1;
  }
  return kept;
}

function stepOf(line: string): number | undefined {
  try {
    const { step } = JSON.parse(line);
    return typeof step === "number" ? step : undefined;
  } catch {
    return undefined;
  }
}
