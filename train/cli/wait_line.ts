/**
 * A line for a wait of unknown length, such as a walk through folders or a large file.
 *
 * @module
 */
import { CLEAR_LINE, LiveLine, type ProgressOutput, standardOutput } from "./live_line.ts";
import { durationText } from "./progress.ts";

/** Milliseconds after which something has to be said. */
const SHORT_WAIT = 3_000;
/** Milliseconds between two looks. */
const LOOK = 500;

/** Says what is waited for and for how long, once that is more than three seconds. */
export class WaitLine implements Disposable {
  readonly #output: ProgressOutput;
  readonly #timer: ReturnType<typeof setInterval>;

  /**
   * @param text what is going on, asked anew for every line
   * @param options where it is written (standard output by default), and whether nothing is
   */
  constructor(
    text: () => string,
    { quiet = false, output = standardOutput() }: {
      readonly quiet?: boolean;
      readonly output?: ProgressOutput;
    } = {},
  ) {
    this.#output = output;
    const start = output.now();
    const line = new LiveLine(output);
    this.#timer = setInterval(() => {
      const waited = output.now() - start;
      if (waited < SHORT_WAIT) return;
      const columns = output.columns();
      const words = `${text()} … ${durationText(waited / 1000)}`;
      this.#shown = columns !== undefined;
      line.update(words.slice(0, columns === undefined ? undefined : Math.max(0, columns - 1)));
    }, quiet ? 2 ** 30 : LOOK);
  }

  #shown = false;

  /** Ends it; in a terminal the line goes. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    if (this.#shown) this.#output.write(CLEAR_LINE);
    this.#shown = false;
  }
}

/** What `work` gives, with a {@link WaitLine} meanwhile. */
export async function waiting<T>(
  text: () => string,
  work: Promise<T>,
  options?: ConstructorParameters<typeof WaitLine>[1],
): Promise<T> {
  using _ = new WaitLine(text, options);
  return await work;
}
