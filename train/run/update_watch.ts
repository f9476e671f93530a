/**
 * What becomes of an update when a signal comes: it is completed where that takes a few seconds,
 * and otherwise given up before it changes what a checkpoint holds.
 *
 * @module
 */
import { InterruptedError } from "../errors.ts";
import { isInterrupted } from "../io/interruption.ts";

/**
 * Milliseconds that an update may still take after a signal: few, as the checkpoint takes time as
 * well, and nothing but this update has to be worked again.
 */
const GRACE = 2_000;

/** Asked while the device works, as Deno's own thread waits for it and hears no signal. */
export class UpdateWatch {
  readonly #signal: AbortSignal;
  readonly #heard: () => boolean;
  readonly #now: () => number;
  #work: "update" | "evaluation" | undefined;
  #began = 0;
  /** Milliseconds of the update before. */
  #took = Infinity;
  #toldAt: number | undefined;

  /**
   * @param signal aborted when the thread hears a signal
   * @param heard whether any thread has heard one
   * @param now milliseconds of any clock
   */
  constructor(
    signal: AbortSignal,
    heard: () => boolean = isInterrupted,
    now: () => number = () => performance.now(),
  ) {
    this.#signal = signal;
    this.#heard = heard;
    this.#now = now;
  }

  /** Whether a signal came. */
  get told(): boolean {
    return this.#signal.aborted || this.#heard();
  }

  /** Runs an update, which may be given up. */
  async update<T>(body: () => Promise<T>): Promise<T> {
    this.#began = this.#now();
    const result = await this.#during("update", body);
    this.#took = this.#now() - this.#began;
    return result;
  }

  /** Runs an evaluation, which ends at once. */
  async evaluation<T>(body: () => Promise<T>): Promise<T> {
    return await this.#during("evaluation", body);
  }

  async #during<T>(work: "update" | "evaluation", body: () => Promise<T>): Promise<T> {
    this.#work = work;
    try {
      return await body();
    } finally {
      this.#work = undefined;
    }
  }

  /** @throws {InterruptedError} if a signal came and the work under way is to be given up */
  readonly ask = (): void => {
    if (this.#work === undefined || !this.#heard()) return;
    const now = this.#now();
    this.#toldAt ??= now;
    const left = Math.max(0, this.#took - (now - this.#began));
    if (this.#work === "update" && now - this.#toldAt + left < GRACE) return;
    throw new InterruptedError("interrupted");
  };

  /**
   * Waits within an update for what may never come.
   *
   * @throws {InterruptedError} some seconds after a signal
   */
  async patience<T>(promise: Promise<T>): Promise<T> {
    const { promise: end, reject } = Promise.withResolvers<never>();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const count = () => {
      timer = setTimeout(() => reject(new InterruptedError("interrupted")), GRACE);
    };
    if (this.#signal.aborted) count();
    else this.#signal.addEventListener("abort", count);
    try {
      return await Promise.race([promise, end]);
    } finally {
      clearTimeout(timer);
      this.#signal.removeEventListener("abort", count);
    }
  }
}
