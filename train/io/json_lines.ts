/**
 * Files of JSON lines: one JSON object per line, each line written whole. What a loss of power
 * leaves in the place of a line, zeros or a part of it, is passed over.
 *
 * @module
 */
import { nameDiskFull, UsageError } from "../errors.ts";
import { besideName } from "./atomic_write.ts";
import { writeFully } from "./bytes.ts";
import { openWritten, readRegularText } from "./regular_file.ts";

/** What a file of JSON lines holds. */
export interface ReadLines<Row> {
  /** In order. */
  readonly rows: readonly Row[];
  /** Lines that are no objects. */
  readonly damaged: number;
}

/** Reads a file of JSON lines; one that is not there has none. */
export function readJsonLines<Row extends object>(path: string): ReadLines<Row> {
  const { rows, damaged } = parsed(textOf(path));
  return { rows: rows.map(({ row }) => row as Row), damaged };
}

/** Text for what was passed over in a file; empty where nothing was. */
export function damageText(path: string, damaged: number): string {
  return damaged === 0 ? "" : `passed over ${damaged} damaged lines of ${path}`;
}

/** An open file of JSON lines. */
export class JsonLines<Row extends object> implements Disposable {
  readonly #file: Deno.FsFile;
  readonly #path: string;
  /** Lines that were there when it was opened and could not be read. */
  readonly damaged: number;

  private constructor(path: string, file: Deno.FsFile, damaged = 0) {
    this.#path = path;
    this.#file = file;
    this.damaged = damaged;
  }

  /** Opens `path` empty. */
  static create<Row extends object>(path: string): JsonLines<Row> {
    const options = { write: true, create: true, truncate: true };
    return new JsonLines<Row>(path, openWritten(path, options));
  }

  /** Appends one line; a reader sees it at once and whole. @throws {DiskFullError} */
  write(row: Row): void {
    try {
      writeFully(this.#file, new TextEncoder().encode(lineOf(row)));
    } catch (error) {
      throw nameDiskFull(error, this.#path);
    }
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
   * Opens a file to go on with it, or makes it. Lines that are damaged are removed.
   *
   * @param keeps whether a row stays
   */
  static append<Row extends object>(
    path: string,
    keeps: (row: Row) => boolean = () => true,
  ): JsonLines<Row> {
    const text = textOf(path);
    const { rows, damaged } = parsed(text);
    const kept = rows.filter(({ row }) => keeps(row as Row)).map(({ line }) => `${line}\n`).join(
      "",
    );
    // Rows that are there stay there whenever the process ends.
    if (kept !== text) replaceText(path, kept);
    const file = openWritten(path, { append: true, create: true });
    return new JsonLines<Row>(path, file, damaged);
  }

  /**
   * Opens the metrics of a run that goes on after `step` updates: later lines are removed first.
   * Makes the file where there is none.
   */
  static resume<Row extends { readonly step: number }>(path: string, step: number): JsonLines<Row> {
    return JsonLines.append<Row>(path, (row) => row.step <= step);
  }
}

/** A row as a line of JSON without what steers a terminal, which JSON lets pass from DEL on. */
export function lineOf(row: object): string {
  return `${JSON.stringify(row)}\n`.replace(
    /[\x7f-\x9f\u2028\u2029]/g,
    (it) => `\\u${it.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function textOf(path: string): string {
  try {
    return readRegularText(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw new UsageError(`${path}: cannot be read: ${(error as Error).message}`);
  }
}

function replaceText(path: string, text: string): void {
  const beside = besideName(path);
  try {
    Deno.writeTextFileSync(beside, text);
    Deno.renameSync(beside, path);
  } catch (error) {
    throw nameDiskFull(error, path);
  }
}

/** The lines that hold an object. A line that was being written at the end is not counted. */
function parsed(
  text: string,
): { readonly rows: { readonly line: string; readonly row: object }[]; readonly damaged: number } {
  const lines = text.split("\n");
  const rows: { line: string; row: object }[] = [];
  let damaged = 0;
  for (const line of lines.slice(0, -1)) {
    const row = objectIn(line);
    if (row) rows.push({ line, row });
    else if (line !== "") damaged++;
  }
  return { rows, damaged };
}

function objectIn(line: string): object | undefined {
  try {
    const row: unknown = JSON.parse(line);
    return typeof row === "object" && row !== null ? row : undefined;
  } catch {
    return undefined;
  }
}
