/**
 * The front end for clips of any length, many in one launch.
 *
 * @module
 */
import type { Device } from "../../engine/mod.ts";
import { LogMel } from "../../model/frontend/log_mel.ts";
import { frameCount, HOP_SAMPLES, MEL_80 } from "../../model/frontend/tables.ts";
import { samplesOf } from "../data/crop.ts";

/** Frames of a batch, 160 s: the wait for its results is short against the work then. */
export const BATCH_FRAMES = 16_000;
/**
 * Shortest batch; longer ones are this times a power of two, so that there are few sizes of
 * buffers.
 */
const SHORTEST_BATCH = 1000;
/** The kernel computes two neighbouring frames at once and eight in a workgroup. */
const ALIGNMENT = 8;

interface Item {
  readonly samples: Float32Array;
  readonly resolve: (values: Float32Array) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * The front end for many clips of any length: they are laid one after the other in a batch that
 * goes through the kernel in one launch. While the device works on one batch, the next one fills.
 *
 * A clip starts on a whole workgroup, and silence follows it until no frame reaches from it into
 * the next one. So the same clip gives the same bits whatever is beside it.
 */
export class LogMelQueue implements Disposable {
  readonly #device: Device;
  readonly #frontend: LogMel;
  readonly #samples = new Float32Array(samplesOf(BATCH_FRAMES));
  #waiting: Item[] = [];
  #running = false;

  /** Makes raw log-mel, not standardised. */
  constructor(device: Device) {
    this.#device = device;
    this.#frontend = new LogMel(device, { statistics: null });
  }

  /**
   * Log-mel of a waveform of 1 to {@link BATCH_FRAMES} frames.
   *
   * @returns [80, frames]
   */
  add(samples: Float32Array): Promise<Float32Array> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ samples, resolve, reject });
      if (!this.#running) this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#running = true;
    while (this.#waiting.length > 0) {
      const items: (Item & { readonly start: number; readonly frames: number })[] = [];
      let end = 0;
      for (const item of this.#waiting) {
        const frames = frameCount(item.samples.length, false);
        if (end + frames > BATCH_FRAMES) break;
        items.push({ ...item, start: end, frames });
        // The window reaches two and a half hops beyond the start of a frame.
        end = Math.ceil((end + frames + 3) / ALIGNMENT) * ALIGNMENT;
      }
      this.#waiting = this.#waiting.slice(items.length);
      try {
        const { values, frames: width } = await this.#process(items, end);
        for (const { start, frames, resolve } of items) resolve(cut(values, width, start, frames));
      } catch (error) {
        for (const { reject } of items) reject(error);
      }
    }
    this.#running = false;
  }

  async #process(
    items: readonly { samples: Float32Array; start: number }[],
    end: number,
  ): Promise<{ values: Float32Array; frames: number }> {
    let frames = SHORTEST_BATCH;
    while (frames < Math.min(end, BATCH_FRAMES)) frames *= 2;
    frames = Math.min(frames, BATCH_FRAMES);
    const batch = this.#samples.subarray(0, samplesOf(frames));
    batch.fill(0);
    for (const { samples, start } of items) {
      const room = batch.length - start * HOP_SAMPLES;
      batch.set(samples.subarray(0, room), start * HOP_SAMPLES);
    }
    using waves = this.#device.tensor(batch, [1, batch.length]);
    using logmel = this.#frontend.apply(waves);
    const [values] = await this.#device.read([logmel]);
    return { values: values as Float32Array, frames };
  }

  /** Frees the front end's tables. */
  [Symbol.dispose](): void {
    this.#frontend[Symbol.dispose]();
  }
}

/** Frames `start` to `start + frames` of [80, width]. */
function cut(values: Float32Array, width: number, start: number, frames: number): Float32Array {
  const { bands } = MEL_80;
  const part = new Float32Array(bands * frames);
  for (let band = 0; band < bands; band++) {
    const from = band * width + start;
    part.set(values.subarray(from, from + frames), band * frames);
  }
  return part;
}
