/**
 * What mixed precision adds to an update: a loss scale that follows overflows, and step values by
 * the number of applied updates. Both live on the device, which alone knows in time whether an
 * update was skipped.
 *
 * @module
 */
import { kindOf, needDevice, needNumber, needOptions, needWhole } from "../arguments.ts";
import type { Device } from "../device.ts";
import { ShapeError } from "../errors.ts";
import { assign } from "../launch/in_place.ts";
import { LOSS_SCALE_FIELDS, lossScaleStep } from "../launch/loss_scale.ts";
import { loadRow } from "../launch/ring_buffer.ts";
import { mul } from "../ops/elementwise.ts";
import { reshape } from "../ops/view.ts";
import type { Shape } from "../shape.ts";
import { noGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/** Settings of {@link LossScale}. */
export interface LossScaleOptions {
  /** Scale of the first update, a power of two. */
  readonly first: number;
  /** Updates in a row without overflow after which the scale doubles. */
  readonly growthWindow: number;
}

/**
 * Sets of step values that are kept: more than updates can be skipped before the host hears of it.
 */
const ROWS = 64;

/**
 * Loss scale, counters and step values of a run under mixed precision (Micikevicius et al., 2018).
 * An update goes: `offer` its step values, `take` those of the update that is next, `seed` the
 * backward passes, `settle` with the norm of the gradients, apply what the gate lets through.
 */
export class LossScale implements Disposable {
  /** f32 [6], see `LOSS_SCALE_FIELDS`: what checkpoints hold. */
  readonly state: Tensor;
  /** [1] 1 if the update under way is applied, else 0; valid after {@link settle}. */
  readonly gate: Tensor;
  readonly #fields: Readonly<Record<"scale" | "inverse" | "skipped", Tensor>>;
  /** Decay and complement of an average that stays as it is. */
  readonly #still: Tensor;
  /** [ROWS, width], the values of update u in row u mod ROWS. */
  readonly #ring: Tensor;
  /** Skipped updates as far as the host knows. */
  #skipped = 0;
  #started = false;

  /**
   * Fills the state with the values of a fresh run.
   *
   * @param width f32 elements that an update's step values take
   */
  constructor(
    private readonly device: Device,
    private readonly width: number,
    private readonly options: LossScaleOptions,
  ) {
    needDevice("LossScale", device);
    needWhole("LossScale", "the width", width, 1);
    needOptions("LossScale", options, ["first", "growthWindow"]);
    needNumber("LossScale", "the first scale", options.first, 2 ** -126);
    needWhole("LossScale", "the growth window", options.growthWindow, 1);
    this.state = device.zeros([LOSS_SCALE_FIELDS.length]);
    const field = (name: typeof LOSS_SCALE_FIELDS[number]) =>
      this.state.view([1], undefined, LOSS_SCALE_FIELDS.indexOf(name));
    this.gate = field("gate");
    this.#fields = {
      scale: field("scale"),
      inverse: field("inverse"),
      skipped: field("skipped"),
    };
    this.#still = device.tensor([1, 0]);
    this.#ring = device.zeros([ROWS, width]);
  }

  /** Goes on with a state that a checkpoint held. */
  restore(state: Float32Array): void {
    if (!(state instanceof Float32Array) || state.length !== LOSS_SCALE_FIELDS.length) {
      throw new ShapeError(`LossScale: ${kindOf(state)} is no state of 6 numbers`);
    }
    this.device.write(this.state, state);
    this.#skipped = state[LOSS_SCALE_FIELDS.indexOf("skipped")];
    this.#started = true;
  }

  /** Takes notice of how many updates metrics say were skipped. */
  noteSkipped(skipped: number): void {
    this.#skipped = Math.max(this.#skipped, skipped);
  }

  /**
   * The number, among applied updates, that the next update has unless some were skipped that the
   * host has not heard of.
   *
   * @param attempts updates so far, applied and skipped
   */
  latest(attempts: number): number {
    return attempts - this.#skipped;
  }

  /**
   * Hands over the step values of update `latest(attempts)`. If updates were skipped meanwhile, the
   * device takes those of an earlier one, which it has.
   */
  offer(attempts: number, values: Float32Array): void {
    if (!this.#started) {
      const { first } = this.options;
      this.restore(Float32Array.of(first, 1 / first, 0, 0, attempts, 0));
    }
    const row = this.latest(attempts) % ROWS;
    const place = this.#ring.view([this.width], undefined, row * this.width);
    this.device.write(place, values);
    place.dispose();
  }

  /** Overwrites `values` with those of the update that is next on the device. */
  take(values: Tensor): void {
    loadRow(values, this.#ring, this.state, LOSS_SCALE_FIELDS.indexOf("applied"));
  }

  /**
   * What a backward pass starts from: the scale times `tokens`, which makes a mean over tokens
   * their sum.
   *
   * @param shape the loss's
   */
  seed(tokens: number, shape: Shape): Tensor {
    return noGrad(() => reshape(mul(this.#fields.scale, tokens), shape));
  }

  /** [1] reciprocal of the scale. */
  get inverse(): Tensor {
    return this.#fields.inverse;
  }

  /** Ends the backward passes of an update; see `lossScaleStep`. */
  settle(gradNorm: Tensor): void {
    lossScaleStep(this.state, gradNorm, this.options.growthWindow);
  }

  /** [2] decay and complement of an average, such that a skipped update changes nothing. */
  gated(decays: Tensor): Tensor {
    const result = this.device.empty([2]);
    assign(result, this.#still);
    assign(result, decays, this.gate);
    return result;
  }

  /** What it adds to a row of metrics. */
  get row(): readonly Tensor[] {
    return [this.#fields.scale, this.#fields.skipped, this.gate];
  }

  /** Frees everything. */
  [Symbol.dispose](): void {
    for (
      const tensor of [
        ...Object.values(this.#fields),
        this.gate,
        this.#still,
        this.#ring,
        this.state,
      ]
    ) {
      tensor.dispose();
    }
  }
}
