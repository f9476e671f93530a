/**
 * Copies of tensors on the device, such as a model as it was at its best epoch.
 *
 * @module
 */
import { assign, noGrad, scope, type Tensor } from "../../engine/mod.ts";

/** Some tensors as they were when they were last kept; zeros at first. */
export class Snapshot implements Disposable {
  readonly #tensors: readonly { readonly current: Tensor; readonly kept: Tensor }[];

  /** @param tensors which their owner frees */
  constructor(tensors: readonly Tensor[]) {
    this.#tensors = tensors.map((current) => ({
      current,
      kept: current.device.zeros(current.shape),
    }));
  }

  /** Remembers the tensors as they are. */
  keep(): void {
    noGrad(() => scope(() => this.#tensors.forEach(({ current, kept }) => assign(kept, current))));
  }

  /** Gives the tensors the values that were kept. */
  restore(): void {
    noGrad(() => scope(() => this.#tensors.forEach(({ current, kept }) => assign(current, kept))));
  }

  /** Frees the copies. */
  [Symbol.dispose](): void {
    for (const { kept } of this.#tensors) kept.dispose();
  }
}
