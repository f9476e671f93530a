/**
 * Kernels that run for the first time in a command: a signal ends it between two of them, and a
 * line says what it waits for.
 *
 * @module
 */
import type { Device, DeviceOptions } from "../../engine/mod.ts";
import { openDevice } from "../../engine/mod.ts";
import { refuseInterrupted } from "../io/interruption.ts";
import { CLEAR_LINE, PLAIN_INTERVAL, type ProgressOutput, standardOutput } from "./live_line.ts";

/** Milliseconds of a wait of which nothing has to be said. */
const SHORT_WAIT = 3_000;

/**
 * Opens a device whose kernels are waited for when they first run, and whose work a signal ends.
 *
 * @param quiet no line
 */
export async function openWatchedDevice(
  options: DeviceOptions,
  quiet = false,
): Promise<Device> {
  const device = await openDevice(options);
  const line = quiet ? undefined : new KernelLine(standardOutput());
  device.watchKernels((ready) => {
    refuseInterrupted();
    line?.update(ready);
  });
  device.watchWork(refuseInterrupted);
  return device;
}

/**
 * Shows how many kernels are ready while nothing else can be shown: in a terminal in place of what
 * stands there, until the event loop is free again.
 */
export class KernelLine {
  readonly #output: ProgressOutput;
  #since: number | undefined;
  #shownAt = -Infinity;

  /** Writes nothing yet. */
  constructor(output: ProgressOutput) {
    this.#output = output;
  }

  /** @param ready kernels that have run so far */
  update(ready: number): void {
    const now = this.#output.now();
    const columns = this.#output.columns();
    if (this.#since === undefined) {
      this.#since = now;
      // Comes when the call that computes is over.
      setTimeout(() => {
        this.#since = undefined;
        if (this.#shownAt > -Infinity && columns !== undefined) this.#output.write(CLEAR_LINE);
      }, 0);
    }
    if (now - this.#since < SHORT_WAIT) return;
    if (columns === undefined && now - this.#shownAt < PLAIN_INTERVAL) return;
    this.#shownAt = now;
    const text = `compiling kernels: ${ready} so far …`;
    this.#output.write(
      columns === undefined ? `${text}\n` : CLEAR_LINE + text.slice(0, Math.max(0, columns - 1)),
    );
  }
}
