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
  /**
   * What it is: what comes before the micro-batches, the passes of one (it alone may read it), what
   * adds micro-batches up, and what follows once the sums are those of the whole batch.
   */
  readonly role: "begin" | "pass" | "sum" | "finish";
  /** Whether it is due with a micro-batch of the update, counted from 0. */
  readonly isDue: (pass: number) => boolean;
  /** Its work. */
  readonly run: (input: Tensor, mask: DeviceMask) => void;
}

type RecordedPart = Omit<UpdatePart, "run"> & { readonly plan: Plan<void> };

/** The parts of an update, recorded for micro-batches of one shape. */
export class RecordedUpdate implements Disposable {
  readonly #parts: readonly RecordedPart[];
  readonly #shapes: string;

  /** Records; nothing runs yet. Input and mask give shapes alone. */
  constructor(device: Device, parts: readonly UpdatePart[], input: Tensor, mask: Mask) {
    this.#shapes = shapesOf(input, mask);
    const [batch] = input.shape;
    const { shuffle: ids, visible } = mask;
    using indices = device.tensor(ids, [batch, ids.length / batch]);
    this.#parts = parts.map(({ run, ...part }) => ({
      ...part,
      plan: capture(
        device,
        part.role === "pass" ? [input, indices, indices] : [],
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

  /** Replays some of the parts with a micro-batch. */
  replay(
    input: Tensor,
    { shuffle, restore }: Mask,
    isDue: (part: Omit<UpdatePart, "run">) => boolean,
  ): void {
    for (const { role, plan } of this.#parts.filter(isDue)) {
      plan.replay(role === "pass" ? [input, shuffle, restore] : []);
    }
  }

  /** As {@link replay}, in parts: the passes' milestones as they have been submitted. */
  *replayInParts(
    input: Tensor,
    { shuffle, restore }: Mask,
    isDue: (part: Omit<UpdatePart, "run">) => boolean,
  ): Generator<number> {
    for (const { role, plan } of this.#parts.filter(isDue)) {
      if (role === "pass") yield* plan.replayInParts([input, shuffle, restore]);
      else plan.replay([]);
    }
  }

  /** What is replayed with each micro-batch: its memory is that of the activations. */
  get plan(): Plan<void> {
    return this.#parts.find(({ role }) => role === "pass")!.plan;
  }

  /** Dispatches of an update of so many micro-batches. */
  dispatches(microBatches: number): number {
    const passes = Array.from({ length: microBatches }, (_, pass) => pass);
    return this.#parts.reduce(
      (sum, { isDue, plan }) => sum + passes.filter(isDue).length * plan.dispatches,
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
