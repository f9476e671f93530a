/**
 * The progress of a run on standard output: in a terminal one line that rewrites itself,
 * elsewhere a plain line every few seconds.
 */

import { format } from "../deps/duration.ts";
import {
  CLEAR_LINE,
  LiveLine,
  PLAIN_INTERVAL,
  type ProgressOutput,
  standardOutput,
} from "./live_line.ts";

export type { ProgressOutput } from "./live_line.ts";

/** State after an update. */
export interface ProgressState {
  /** Updates done. */
  readonly step: number;
  /** Updates of the whole run. */
  readonly total: number;
  /** Loss of the update. */
  readonly loss: number;
  /** Clips per second. */
  readonly samplesPerSecond: number;
}

/** States whose times say how long the rest will take: the first updates may be slower. */
const MOST_MARKS = 32;

/** Shows states as they come; `quiet` shows none of them, notes excepted. */
export class Progress implements Disposable {
  readonly #output: ProgressOutput;
  readonly #line: LiveLine;
  readonly #quiet: boolean;
  /** The newest states since nothing but updates went on. */
  #marks: { readonly step: number; readonly time: number }[] = [];
  /** Whether a terminal's line shows a stage. */
  #isStaged = false;
  #stage = { what: "", shownAt: -Infinity };
  readonly #startedAt: number;
  #last: ProgressState | undefined;

  /** Writes to standard output unless told otherwise. */
  constructor(options: { quiet?: boolean; output?: ProgressOutput } = {}) {
    this.#quiet = options.quiet ?? false;
    this.#output = options.output ?? standardOutput();
    this.#startedAt = this.#output.now();
    this.#line = new LiveLine(this.#output);
  }

  /** Shows `state`, unless one was shown a moment ago. First and last always are. */
  update(state: ProgressState): void {
    this.#last = state;
    if (this.#quiet) return;
    const now = this.#output.now();
    this.#marks = [...this.#marks, { step: state.step, time: now }].slice(-MOST_MARKS);
    const text = progressText(state, this.#secondsLeft(state, now), this.#output.columns());
    this.#line.update(text, state.step >= state.total);
  }

  /**
   * Shows how far a stage is that is none of the updates, such as compiling kernels or an
   * evaluation: in a terminal in place until it is done, elsewhere at its start and every few
   * seconds. What it takes does not count as the updates' time. Without `total`, until something
   * else is shown.
   */
  stage(what: string, done = 0, total?: number): void {
    if (this.#quiet) return;
    this.#marks = [];
    const columns = this.#output.columns();
    if (columns !== undefined) {
      const count = total === undefined ? "" : ` ${done}/${total}`;
      const text = `${what}${count} …`.slice(0, Math.max(0, columns - 1));
      this.#isStaged = done < (total ?? Infinity);
      this.#output.write(CLEAR_LINE + (this.#isStaged ? text : ""));
      return;
    }
    const now = this.#output.now();
    const isNew = this.#stage.what !== what || done === 0;
    if (!isNew && now - this.#stage.shownAt < PLAIN_INTERVAL) return;
    const first = total === undefined ? `${what} …\n` : `${what} (${total}) …\n`;
    this.#output.write(isNew ? first : `${what} ${done}/${total} …\n`);
    this.#stage = { what, shownAt: now };
  }

  /** Prints a line of its own, above the live line; also when quiet. */
  note(text: string): void {
    if (this.#isStaged) this.#output.write(CLEAR_LINE);
    this.#isStaged = false;
    this.#line.note(text);
  }

  /** Updates, time since the start and newest loss in words. */
  summary(): string {
    const time = durationText((this.#output.now() - this.#startedAt) / 1000);
    if (!this.#last) return `no update was left to do, ${time}`;
    const { step, total, loss } = this.#last;
    return `step ${step}/${total} after ${time}, loss ${loss.toFixed(4)}`;
  }

  /** Shows the last state if it was held back, and ends the live line. */
  finish(): void {
    this.#line.finish();
  }

  /** As {@link finish}. */
  [Symbol.dispose](): void {
    this.finish();
  }

  #secondsLeft(state: ProgressState, now: number): number | undefined {
    const [start] = this.#marks;
    if (state.step <= start.step) return undefined;
    return (state.total - state.step) * (now - start.time) / (state.step - start.step) / 1000;
  }
}

/** The line of `state`; parts that do not fit into `columns` are left out from the right. */
export function progressText(
  state: ProgressState,
  secondsLeft: number | undefined,
  columns?: number,
): string {
  const total = String(state.total);
  const parts = [
    `step ${String(state.step).padStart(total.length)}/${total}`,
    `loss ${state.loss.toFixed(4)}`,
    `${state.samplesPerSecond.toFixed(state.samplesPerSecond < 10 ? 2 : 1)} samples/s`,
  ];
  if (secondsLeft !== undefined) parts.push(`${durationText(secondsLeft)} left`);
  let line = parts[0];
  for (const part of parts.slice(1)) {
    const longer = `${line}  ${part}`;
    // The last column stays free: some terminals wrap when it is filled.
    if (columns !== undefined && longer.length >= columns) break;
    line = longer;
  }
  return columns === undefined ? line : line.slice(0, Math.max(0, columns - 1));
}

/** Seconds as "1h 2m 3s"; parts of a second are rounded. */
export function durationText(seconds: number): string {
  return format(Math.max(0, Math.round(seconds)) * 1000, { ignoreZero: true }) || "0s";
}
