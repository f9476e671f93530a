/**
 * A line that follows something: in a terminal it rewrites itself, elsewhere a plain line appears
 * every few seconds.
 *
 * @module
 */
import { nameDiskFull } from "../errors.ts";

/** Where lines go. */
export interface ProgressOutput {
  /** Prints text as it is. */
  write(text: string): void;
  /** Width in columns where the output is a terminal, else undefined; asked at every line. */
  columns(): number | undefined;
  /** Milliseconds of a clock that only goes forward. */
  now(): number;
}

/** Milliseconds between two plain lines. */
export const PLAIN_INTERVAL = 5_000;
/** Milliseconds between two rewrites: more cannot be read. */
const LIVE_INTERVAL = 100;
/** Moves to the start of a terminal's line and empties it. */
export const CLEAR_LINE = "\r\x1b[K";

/** Shows texts as they come, but not more often than can be read. */
export class LiveLine {
  readonly #output: ProgressOutput;
  #shownAt: number;
  #latest = "";
  #shown = "";
  #live = false;

  /**
   * @param shownAt when a line was last shown, on the output's clock; by default the first text is
   * shown at once
   */
  constructor(output: ProgressOutput, shownAt = -Infinity) {
    this.#output = output;
    this.#shownAt = shownAt;
  }

  /** Shows `text`, unless one was shown a moment ago and it is not the `last`. */
  update(text: string, last = false): void {
    this.#latest = text;
    const now = this.#output.now();
    const interval = this.#output.columns() === undefined ? PLAIN_INTERVAL : LIVE_INTERVAL;
    if (now - this.#shownAt < interval && !last) return;
    this.#shownAt = now;
    this.#show();
  }

  /** Prints a line of its own, above the live one. */
  note(text: string): void {
    this.#output.write(this.#live ? `${CLEAR_LINE}${text}\n${this.#shown}` : `${text}\n`);
  }

  /** Shows the last text if it was held back, and ends the line. */
  finish(): void {
    if (this.#latest !== this.#shown) this.#show();
    if (this.#live) this.#output.write("\n");
    this.#live = false;
  }

  #show(): void {
    this.#live = this.#output.columns() !== undefined;
    this.#output.write(this.#live ? `${CLEAR_LINE}${this.#latest}` : `${this.#latest}\n`);
    this.#shown = this.#latest;
  }
}

/** Whether an error means that whoever was reading an output went away: closed pipe or terminal. */
function readerLeft(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return error instanceof Deno.errors.BrokenPipe || code === "EIO" || code === "EBADF";
}

/**
 * Until the result is disposed, `console.log` and `console.error` take a reader that went away as
 * no reason to stop. A result that cannot be printed because a disk is full ends the command.
 */
export function outliveReaders(): Disposable {
  const { log, error } = console;
  console.log = (...values: unknown[]) => {
    try {
      log(...values);
    } catch (problem) {
      if (!readerLeft(problem)) throw nameDiskFull(problem, "standard output");
    }
  };
  console.error = (...values: unknown[]) => {
    try {
      error(...values);
    } catch {
      // There is no other place to say it.
    }
  };
  return { [Symbol.dispose]: () => void Object.assign(console, { log, error }) };
}

/** Standard output, or another stream. */
export function standardOutput(
  stream: Pick<typeof Deno.stdout, "writeSync" | "isTerminal"> = Deno.stdout,
): ProgressOutput {
  const encoder = new TextEncoder();
  return {
    write: (text) => {
      const bytes = encoder.encode(text);
      try {
        for (let done = 0; done < bytes.length;) {
          done += stream.writeSync(bytes.subarray(done));
        }
      } catch {
        // Whoever was watching went away, or the log is full; that is no reason to stop.
      }
    },
    columns: () => {
      if (!stream.isTerminal()) return undefined;
      try {
        // Terminals that do not know their size say 0.
        return Deno.consoleSize().columns || 80;
      } catch {
        return 80;
      }
    },
    now: () => performance.now(),
  };
}
