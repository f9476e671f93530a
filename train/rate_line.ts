/** The progress of work on many files: how many, how fast, how long still. */

import { durationText, type ProgressOutput } from "./progress.ts";

/** Milliseconds between two plain lines. */
const PLAIN_INTERVAL = 5_000;
/** Milliseconds between two rewrites in a terminal. */
const LIVE_INTERVAL = 100;

/** In a terminal one line that rewrites itself, elsewhere a plain line every few seconds. */
export class RateLine implements Disposable {
  readonly #output: ProgressOutput;
  readonly #quiet: boolean;
  readonly #start: number;
  #shownAt: number;
  #latest = "";
  #shown = "";
  #live = false;

  /** Writes to standard output unless told otherwise. */
  constructor({ output = STANDARD_OUTPUT, quiet = false }: {
    output?: ProgressOutput;
    quiet?: boolean;
  } = {}) {
    this.#output = output;
    this.#quiet = quiet;
    this.#start = this.#shownAt = output.now();
  }

  /**
   * Shows the state, unless one was shown a moment ago.
   *
   * @param done files so far, of `total`
   * @param audio seconds of audio in them
   */
  update(done: number, total: number, audio: number): void {
    const now = this.#output.now();
    const columns = this.#output.columns();
    const seconds = (now - this.#start) / 1000;
    const rate = done / Math.max(seconds, 1e-3);
    this.#latest = [
      `${done}/${total} files`,
      `${rate.toFixed(rate < 10 ? 2 : 0)} files/s`,
      `${(audio / Math.max(seconds, 1e-3)).toFixed(0)} times real time`,
      `${durationText((total - done) / Math.max(rate, 1e-9))} left`,
    ].join("  ").slice(0, columns === undefined ? undefined : Math.max(0, columns - 1));
    if (now - this.#shownAt < (columns === undefined ? PLAIN_INTERVAL : LIVE_INTERVAL)) return;
    this.#shownAt = now;
    this.#show();
  }

  /** Shows the last state and ends the line. */
  finish(): void {
    if (this.#latest !== this.#shown) this.#show();
    if (this.#live) this.#output.write("\n");
    this.#live = false;
  }

  /** As {@link finish}. */
  [Symbol.dispose](): void {
    this.finish();
  }

  #show(): void {
    if (this.#quiet) return;
    this.#live = this.#output.columns() !== undefined;
    this.#output.write(this.#live ? `\r\x1b[K${this.#latest}` : `${this.#latest}\n`);
    this.#shown = this.#latest;
  }
}

const STANDARD_OUTPUT: ProgressOutput = {
  write: (text) => void Deno.stdout.writeSync(new TextEncoder().encode(text)),
  columns: () => Deno.stdout.isTerminal() ? Deno.consoleSize().columns : undefined,
  now: () => performance.now(),
};
