/**
 * Recording what an update does on the device, and replaying it. What that is, is in update.ts.
 *
 * @module
 */
import { capture, type Device, type Plan, type Tensor } from "../../engine/mod.ts";
import type { DeviceMask } from "../../model/objectives/masked_model.ts";
import type { Mask } from "../../model/objectives/masking.ts";

/** A part of an update that is recorded on its own. */
export interface UpdatePart {
  /** Whether it runs before the first micro-batch, with each, or after the last one. */
  readonly due: "first" | "each" | "last";
  /** Its work; only parts that are due with each micro-batch may read it. */
  readonly run: (input: Tensor, mask: DeviceMask) => void;
}

/** The parts of an update, recorded for micro-batches of one shape. */
export class RecordedUpdate implements Disposable {
  readonly #parts: readonly (Pick<UpdatePart, "due"> & { readonly plan: Plan<void> })[];
  readonly #shapes: string;

  /** Records; nothing runs yet. Input and mask give shapes alone. */
  constructor(device: Device, parts: readonly UpdatePart[], input: Tensor, mask: Mask) {
    this.#shapes = shapesOf(input, mask);
    const [batch] = input.shape;
    const { shuffle: ids, visible } = mask;
    using indices = device.tensor(ids, [batch, ids.length / batch]);
    this.#parts = parts.map(({ due, run }) => ({
      due,
      plan: capture(
        device,
        due === "each" ? [input, indices, indices] : [],
        (x, shuffle, restore) => run(x, { shuffle, restore, visible }),
      ),
    }));
    // What ran op by op before left buffers in the pool that are of no more use.
    device.trim();
  }

  /** Whether it was recorded for micro-batches like this one. */
  fits(input: Tensor, mask: Mask): boolean {
    return this.#shapes === shapesOf(input, mask);
  }

  /** Replays the parts that are due with a micro-batch. */
  replay(
    input: Tensor,
    { shuffle, restore }: Mask,
    isDue: (due: UpdatePart["due"]) => boolean,
  ): void {
    for (const { due, plan } of this.#parts.filter(({ due }) => isDue(due))) {
      plan.replay(due === "each" ? [input, shuffle, restore] : []);
    }
  }

  /** What is replayed with each micro-batch: its memory is that of the activations. */
  get plan(): Plan<void> {
    return this.#parts.find(({ due }) => due === "each")!.plan;
  }

  /** Dispatches of an update of so many micro-batches. */
  dispatches(microBatches: number): number {
    return this.#parts.reduce(
      (sum, { due, plan }) => sum + (due === "each" ? microBatches : 1) * plan.dispatches,
      0,
    );
  }

  /** Frees all plans. */
  [Symbol.dispose](): void {
    for (const { plan } of this.#parts) plan[Symbol.dispose]();
  }
}

function shapesOf({ shape }: Tensor, { visible }: Mask): string {
  return `${shape},${visible}`;
}
