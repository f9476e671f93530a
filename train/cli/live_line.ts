/**
 * A line that follows something: in a terminal it rewrites itself, elsewhere a plain line appears
 * every few seconds.
 *
 * @module
 */

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
const PLAIN_INTERVAL = 5_000;
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

/** Standard output. */
export function standardOutput(): ProgressOutput {
  const encoder = new TextEncoder();
  return {
    write: (text) => {
      const bytes = encoder.encode(text);
      try {
        for (let done = 0; done < bytes.length;) {
          done += Deno.stdout.writeSync(bytes.subarray(done));
        }
      } catch (error) {
        // Whoever was watching went away; that is no reason to stop.
        if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
      }
    },
    columns: () => {
      if (!Deno.stdout.isTerminal()) return undefined;
      try {
        return Deno.consoleSize().columns;
      } catch {
        return 80;
      }
    },
    now: () => performance.now(),
  };
}
