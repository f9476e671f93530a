/** The progress of work on many files: how many, how fast, how long still. */

import { LiveLine, type ProgressOutput, standardOutput } from "./live_line.ts";
import { durationText } from "./progress.ts";

/** In a terminal one line that rewrites itself, elsewhere a plain line every few seconds. */
export class RateLine implements Disposable {
  readonly #output: ProgressOutput;
  /** None when it is quiet. */
  readonly #line: LiveLine | undefined;
  readonly #start: number;

  /** Writes to standard output unless told otherwise. */
  constructor({ output = standardOutput(), quiet = false }: {
    output?: ProgressOutput;
    quiet?: boolean;
  } = {}) {
    this.#output = output;
    this.#start = output.now();
    // Nothing can be said of the rate at once.
    this.#line = quiet ? undefined : new LiveLine(output, this.#start);
  }

  /**
   * Shows the state, unless one was shown a moment ago.
   *
   * @param done files so far, of `total`
   * @param audio seconds of audio in them
   */
  update(done: number, total: number, audio: number): void {
    const columns = this.#output.columns();
    const seconds = Math.max((this.#output.now() - this.#start) / 1000, 1e-3);
    const rate = done / seconds;
    this.#line?.update(
      [
        `${done}/${total} files`,
        `${rate.toFixed(rate < 10 ? 2 : 0)} files/s`,
        `${(audio / seconds).toFixed(0)} times real time`,
        ...done > 0 ? [`${durationText((total - done) / rate)} left`] : [],
      ].join("  ").slice(0, columns === undefined ? undefined : Math.max(0, columns - 1)),
    );
  }

  /** Shows the last state and ends the line. */
  finish(): void {
    this.#line?.finish();
  }

  /** As {@link finish}. */
  [Symbol.dispose](): void {
    this.finish();
  }
}
