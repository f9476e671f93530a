/**
 * Values that change from update to update, in one small buffer on the device, so that a recorded
 * update can be replayed.
 *
 * @module
 */
import { adamHyperValues, type Device, type LossScale, type Tensor } from "../../engine/mod.ts";
import type { MaskedModel } from "../../model/objectives/masked_model.ts";
import { HARD_CHOICE, type Schedules } from "./schedule.ts";

/** Places in the buffer, 64 elements apart so that each can be bound on every adapter. */
const SLOTS = {
  adamDecayed: 0,
  adamPlain: 1,
  teacherTemp: 2,
  emaEncoder: 3,
  emaHead: 4,
  centre: 5,
  choiceTemperature: 6,
  softChoice: 7,
  hardChoice: 8,
  place: 9,
} as const;
const SLOT = 64;
/** Elements of all but the place. */
const WIDTH = SLOTS.place * SLOT;

type SlotName = keyof typeof SLOTS;

/** Optimizer settings that stay the same over a run. */
export interface OptimizerSettings {
  /** Decay rates of Adam's moments. */
  readonly betas: readonly [number, number];
  /** Decoupled weight decay of the parameters that have any. */
  readonly weightDecay: number;
}

/** The buffer and what is written to it. */
export class UpdateValues implements Disposable {
  /** Elements of an update's values. */
  static readonly width: number = WIDTH;
  /** Parts of the buffer; `all` is all but the place of the update's row. */
  readonly slots: Readonly<Record<SlotName | "all", Tensor>>;
  readonly #buffer: Tensor;
  /**
   * The first update of this process, and whether a batch mean waited then to be folded into the
   * centre.
   */
  #first: { readonly update: number; readonly pending: boolean } | undefined;

  /** Makes the buffer; nothing is written yet. */
  constructor(
    private readonly device: Device,
    private readonly model: MaskedModel,
    private readonly schedules: Schedules,
    private readonly settings: OptimizerSettings,
  ) {
    this.#buffer = device.zeros([SLOT * Object.keys(SLOTS).length]);
    const slot = (name: SlotName, size: number) =>
      this.#buffer.view([size], undefined, SLOTS[name] * SLOT);
    this.slots = {
      adamDecayed: slot("adamDecayed", 8),
      adamPlain: slot("adamPlain", 8),
      teacherTemp: slot("teacherTemp", 1),
      emaEncoder: slot("emaEncoder", 2),
      emaHead: slot("emaHead", 2),
      centre: slot("centre", 2),
      choiceTemperature: slot("choiceTemperature", 1),
      softChoice: slot("softChoice", 1),
      hardChoice: slot("hardChoice", 1),
      place: slot("place", 1),
      all: this.#buffer.view([WIDTH]),
    };
  }

  /** Values of update u but its place, as they lie in the buffer. */
  #at(u: number, centreDecay: readonly [number, number]): Float32Array {
    const { schedules, settings: { betas, weightDecay } } = this;
    const host = new Float32Array(WIDTH);
    const { first = 0 } = schedules;
    const adam = { lr: schedules.lr(u), betas, step: u - first + 1, ...this.model.recipe.adam };
    // MATPAC does not average at the first update: a decay of 1 changes nothing.
    const [encoder, head] = u > first || this.model.averaging === "after"
      ? [schedules.emaEncoder(u), schedules.emaHead(u)]
      : [1, 1];
    host.set(adamHyperValues({ ...adam, weightDecay }), SLOTS.adamDecayed * SLOT);
    host.set(adamHyperValues({ ...adam, weightDecay: 0 }), SLOTS.adamPlain * SLOT);
    host[SLOTS.teacherTemp * SLOT] = schedules.teacherTemp(u);
    // 1 - decay in float64: the float32 difference would lose its last digits.
    host.set([encoder, 1 - encoder], SLOTS.emaEncoder * SLOT);
    host.set([head, 1 - head], SLOTS.emaHead * SLOT);
    host.set(centreDecay, SLOTS.centre * SLOT);
    const temperature = schedules.choiceTemperature(u);
    const soft = temperature > HARD_CHOICE;
    // Where it does not count the softmax is still computed, and must stay finite.
    host[SLOTS.choiceTemperature * SLOT] = Math.max(temperature, HARD_CHOICE);
    host[SLOTS.softChoice * SLOT] = Number(soft);
    host[SLOTS.hardChoice * SLOT] = Number(!soft);
    return host;
  }

  /**
   * Hands over the values of the next update.
   *
   * @param updates updates so far, skipped ones included
   * @param row where its metrics go
   * @param lossScale knows which updates were skipped
   */
  write(updates: number, row: number, lossScale: LossScale | undefined): void {
    const { model } = this;
    if (lossScale) {
      const u = lossScale.latest(updates);
      this.#first ??= { update: u, pending: model.hasPendingCentre };
      // By applied updates: a skipped one leaves no batch mean.
      const pending = u > (this.schedules.first ?? 0) &&
        (u > this.#first.update || this.#first.pending);
      lossScale.offer(updates, this.#at(u, model.centreDecay(pending)));
    } else this.device.write(this.slots.all, this.#at(updates, model.centreDecay()));
    this.device.write(this.slots.place, Float32Array.of(row));
  }

  /** Frees the buffer. */
  [Symbol.dispose](): void {
    for (const tensor of [...Object.values(this.slots), this.#buffer]) tensor.dispose();
  }
}
