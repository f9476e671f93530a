/**
 * Work that the host can be called away from: it is waited for now and then, and who watches is
 * asked whether it goes on.
 *
 * Deno's thread hears and does nothing while it waits for the GPU, so that no more may be queued
 * than may be waited for. How long work takes is known only when it is done: dispatches are
 * counted, and how many make an interval follows from the last one. Whatever else waits for the
 * device begins the count anew, so that quick work is not held up.
 *
 * @module
 */

/** Dispatches before the first question; the slowest known take a quarter of a second. */
const FIRST = 8;
const MOST = 1 << 20;

/** Counts the dispatches of a device while somebody watches its work. */
export class Pace {
  #watch: (() => void) | undefined;
  #interval = 0;
  #limit = FIRST;
  #count = 0;
  #since = 0;
  #held = 0;

  /** Nobody watches yet. */
  constructor(private readonly gpu: GPUDevice) {}

  /**
   * Begins to ask `watch` whether to go on, or to ask nobody. What it throws ends the call under
   * way.
   *
   * @param interval milliseconds of work between two questions
   */
  start(watch: (() => void) | undefined, interval: number): void {
    this.#watch = watch;
    this.#interval = interval;
    this.#limit = FIRST;
  }

  /** Whether who watches is to be asked before the next dispatch, after what is recorded ran. */
  get isDue(): boolean {
    return this.#count >= this.#limit && this.#watch !== undefined && this.#held === 0;
  }

  /** Counts a dispatch. */
  add(): void {
    if (this.#count++ === 0) this.#since = performance.now();
  }

  /** Begins to count anew, as the device has nothing to do. */
  rest(): void {
    this.#count = 0;
  }

  /** Waits for all that was submitted, and asks. */
  ask(): void {
    // Deno waits inside this call; where it does not, questions come too often.
    this.gpu.queue.onSubmittedWorkDone().catch(() => {});
    const factor = this.#interval / Math.max(1, performance.now() - this.#since);
    this.#limit = Math.min(MOST, Math.ceil(this.#limit * Math.min(2, Math.max(0.1, factor))));
    this.rest();
    this.#watch?.();
  }

  /** Asks nobody while `body` runs. */
  hold<T>(body: () => T): T {
    this.#held++;
    try {
      return body();
    } finally {
      this.#held--;
    }
  }

  /** Whether it does. */
  get isHeld(): boolean {
    return this.#held > 0;
  }
}
