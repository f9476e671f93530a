/**
 * The rows of a metrics.jsonl as columns, read on as the file grows.
 *
 * @module
 */
import { readFully } from "../io/bytes.ts";
import { openRegular } from "../io/regular_file.ts";
import type { MetricsRow } from "../metrics/metrics_row.ts";

/** Bytes that are read at a time, so that whoever asks meanwhile is answered. */
const PIECE = 1 << 21;
/** Bytes at the end of a file where the newest row is looked for. */
const TAIL = 1 << 16;

/** What a look at the file found. */
export type Look = "grown" | "same" | "replaced" | "gone";

/** A column of numbers that grows; NaN where a row has none. */
class Column {
  values = new Float32Array(64);

  set(at: number, value: number): void {
    while (at >= this.values.length) {
      const larger = new Float32Array(2 * this.values.length).fill(NaN, this.values.length);
      larger.set(this.values);
      this.values = larger;
    }
    this.values[at] = value;
  }

  constructor() {
    this.values.fill(NaN);
  }
}

/**
 * Rows of one run. Nothing is read at first but the end of the file; {@link more} reads it all,
 * a piece at each call. A file that was replaced, as `--resume` does, is read anew.
 */
export class Rows {
  readonly #path: string;
  #columns = new Map<string, Column>();
  #steps = new Float64Array(64);
  #seconds = new Float64Array(64);
  #length = 0;
  #offset = 0;
  #rest: Uint8Array = new Uint8Array(0);
  /** Seconds of processes before the present one. */
  #before = 0;
  #processSeconds = 0;
  #identity = "";
  #size = 0;
  #tail: { readonly size: number; readonly row: MetricsRow | undefined } | undefined;
  #newest: MetricsRow | undefined;
  /** Lines that hold no row. */
  damaged = 0;
  /** The newest row with a score, as far as was read. */
  evaluated: MetricsRow | undefined;

  /** Reads nothing yet. */
  constructor(path: string) {
    this.#path = path;
  }

  /** Rows that were read. */
  get length(): number {
    return this.#length;
  }

  /** Bytes that were read, of all. */
  get read(): { readonly done: number; readonly of: number } {
    return { done: this.#offset, of: this.#size };
  }

  /** Names of the columns. */
  get names(): string[] {
    return [...this.#columns.keys()];
  }

  /** Updates done, row by row. */
  get steps(): Float64Array {
    return this.#steps.subarray(0, this.#length);
  }

  /** Seconds of training, in all processes. */
  get seconds(): Float64Array {
    return this.#seconds.subarray(0, this.#length);
  }

  /** A column, NaN where a row has no such number; undefined where none has. */
  column(name: string): Float32Array | undefined {
    const column = this.#columns.get(name);
    if (!column) return undefined;
    // Rows after the last one that had it.
    column.set(Math.max(this.#length, 1), NaN);
    return column.values.subarray(0, this.#length);
  }

  /** Looks at the file without reading its rows. */
  look(): Look {
    let info: Deno.FileInfo;
    try {
      info = Deno.statSync(this.#path);
      if (!info.isFile) throw new Error("no file");
    } catch {
      const was = this.#size > 0;
      this.#clear();
      return was ? "gone" : "same";
    }
    const identity = `${info.dev}:${info.ino}`;
    const replaced = this.#identity !== "" && identity !== this.#identity ||
      info.size < this.#offset;
    if (replaced) this.#clear();
    const grown = info.size !== this.#size;
    this.#identity = identity;
    this.#size = info.size;
    return replaced ? "replaced" : grown ? "grown" : "same";
  }

  /** The newest row, whether or not those before it were read. */
  get last(): MetricsRow | undefined {
    if (this.#offset === this.#size && this.#newest) return this.#newest;
    if (this.#tail?.size !== this.#size) {
      this.#tail = { size: this.#size, row: tailOf(this.#path, this.#size) };
    }
    return this.#tail.row;
  }

  /**
   * Reads the next piece of the file.
   *
   * @returns whether there is more
   */
  more(): boolean {
    if (this.#offset >= this.#size) return false;
    let bytes: Uint8Array;
    try {
      using file = openRegular(this.#path);
      file.seekSync(this.#offset, Deno.SeekMode.Start);
      bytes = readFully(file, Math.min(PIECE, this.#size - this.#offset));
    } catch {
      return false;
    }
    this.#offset += bytes.length;
    const joined = new Uint8Array(this.#rest.length + bytes.length);
    joined.set(this.#rest);
    joined.set(bytes, this.#rest.length);
    const end = joined.lastIndexOf(10) + 1;
    this.#rest = joined.slice(end);
    for (const row of this.#parsed(new TextDecoder().decode(joined.subarray(0, end)))) {
      this.#add(row);
    }
    return bytes.length > 0 && this.#offset < this.#size;
  }

  #clear(): void {
    this.#columns = new Map();
    this.#length =
      this.#offset =
      this.#size =
      this.#before =
      this.#processSeconds =
        0;
    this.#rest = new Uint8Array(0);
    this.#newest = this.#tail = this.evaluated = undefined;
    this.#identity = "";
    this.damaged = 0;
  }

  #parsed(text: string): MetricsRow[] {
    const lines = text.split("\n").filter((line) => line.trim() !== "");
    let values: unknown[];
    try {
      values = JSON.parse(`[${lines.join(",")}]`);
      if (values.length !== lines.length) throw new Error("lines that are no rows");
    } catch {
      values = lines.map(valueIn);
    }
    return values.flatMap((it) => {
      if (isRow(it)) return [it];
      this.damaged++;
      return [];
    });
  }

  #add(row: MetricsRow): void {
    // What a resumed run does again counts as it is done last.
    while (this.#length > 0 && this.#steps[this.#length - 1] >= row.step) this.#drop();
    const at = this.#length++;
    if (at >= this.#steps.length) {
      this.#steps = grown(this.#steps);
      this.#seconds = grown(this.#seconds);
    }
    if (row.seconds < this.#processSeconds) this.#before += this.#processSeconds;
    this.#processSeconds = row.seconds;
    this.#steps[at] = row.step;
    this.#seconds[at] = this.#before + row.seconds;
    for (const [name, value] of Object.entries(row)) {
      if (name === "step" || name === "seconds" || typeof value !== "number") continue;
      let column = this.#columns.get(name);
      if (!column) this.#columns.set(name, column = new Column());
      column.set(at, value);
    }
    this.#newest = row;
    if (row.eval_accuracy !== undefined || row.eval_map !== undefined) this.evaluated = row;
  }

  #drop(): void {
    const at = --this.#length;
    for (const column of this.#columns.values()) {
      if (at < column.values.length) column.values[at] = NaN;
    }
  }
}

function grown(values: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(2 * values.length);
  larger.set(values);
  return larger;
}

function valueIn(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function isRow(value: unknown): value is MetricsRow {
  if (typeof value !== "object" || value === null) return false;
  const { step, seconds } = value as Partial<MetricsRow>;
  return Number.isFinite(step) && Number.isFinite(seconds);
}

function tailOf(path: string, size: number): MetricsRow | undefined {
  try {
    using file = openRegular(path);
    const first = Math.max(0, size - TAIL);
    file.seekSync(first, Deno.SeekMode.Start);
    const lines = new TextDecoder().decode(readFully(file, size - first)).split("\n");
    // The last is under way, or empty.
    for (const line of lines.slice(0, -1).reverse()) {
      const value = valueIn(line);
      if (isRow(value)) return value;
    }
  } catch {
    // It may have gone meanwhile.
  }
  return undefined;
}
