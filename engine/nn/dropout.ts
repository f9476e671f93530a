/**
 * Dropout as a layer.
 *
 * @module
 */
import type { Device } from "../device.ts";
import { ShapeError } from "../errors.ts";
import { denseCopy } from "../launch/copy.ts";
import { elementwise } from "../launch/elementwise.ts";
import { dropout } from "../ops/dropout.ts";
import type { RandomSource } from "../prng.ts";
import { composite, keep } from "../scope.ts";
import type { Tensor } from "../tensor.ts";
import { Module, type Seed, shared } from "./layers.ts";

/**
 * Sets elements to 0 with chance `rate` in training and divides the others by `1 - rate`; in
 * evaluation it does nothing. Every use draws another mask, replays of a captured step too: a count
 * of uses lies on the device, and is saved with the layer.
 */
export class Dropout extends Module {
  /** No parameters. */
  protected readonly parts: Readonly<Record<string, Tensor>> = {};
  /** Uses so far, u32 [1]. */
  protected override readonly buffers: Readonly<Record<string, Tensor>>;
  readonly #seed: number;
  readonly #uses: Tensor;

  /**
   * Draws the seed of the masks.
   *
   * @param rate chance of an element to be dropped, from 0 to below 1
   * @param source equal seeds give equal masks; a generator gives each layer its own
   * @throws {ShapeError} if the rate is not in [0, 1).
   */
  constructor(device: Device, readonly rate: number, source: Seed) {
    super();
    if (!(rate >= 0 && rate < 1)) {
      throw new ShapeError(`Dropout: the rate ${rate} is not in [0, 1)`);
    }
    const random = shared(this, device, source) as RandomSource;
    this.#seed = Math.floor(random.uniform() * 2 ** 31);
    this.#uses = keep(device.tensor(Uint32Array.of(0)));
    this.buffers = { uses: this.#uses };
  }

  /** The same shape; `x` itself in evaluation. */
  apply(x: Tensor): Tensor {
    if (!this.training || this.rate === 0) return x;
    return composite(() => {
      // Its own copy, which the backward pass still finds.
      const step = denseCopy(this.#uses);
      elementwise(this.#uses, [], { expression: "o + TV(1)", readOut: true });
      return dropout(x, { rate: this.rate, seed: this.#seed, step });
    });
  }
}
