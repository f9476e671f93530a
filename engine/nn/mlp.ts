/**
 * The feed-forward part of a transformer.
 *
 * @module
 */
import { needWhole } from "../arguments.ts";
import type { Device } from "../device.ts";
import type { LinearOptions } from "../ops/matmul.ts";
import { mlp } from "../ops/mlp.ts";
import type { Tensor } from "../tensor.ts";
import { type LayerSource, Linear, Module, shared, within } from "./layers.ts";

/** Two linear layers with a GELU between them. */
export class Mlp extends Module {
  /** To the hidden layer. */
  readonly fc1: Linear;
  /** Back. */
  readonly fc2: Linear;
  /** Parameters and inner layers by name. */
  protected readonly parts: Readonly<Record<string, Module>>;

  /**
   * Draws the weights, or looks `fc1.weight`, `fc1.bias`, `fc2.weight` and `fc2.bias` up.
   *
   * @param width size of a token
   * @param hidden size between the layers
   */
  constructor(device: Device, width: number, hidden: number, source: LayerSource) {
    super();
    needWhole("Mlp", "the width", width);
    needWhole("Mlp", "the size between the layers", hidden);
    const from = shared(this, device, source);
    this.fc1 = new Linear(device, width, hidden, within(from, "fc1."));
    this.fc2 = new Linear(device, hidden, width, within(from, "fc2."));
    this.parts = { fc1: this.fc1, fc2: this.fc2 };
  }

  /** [..., width] to the same shape; `residual` is added in the last kernel. */
  apply(x: Tensor, options: Pick<LinearOptions, "residual"> = {}): Tensor {
    return mlp(x, [this.fc1, this.fc2], options);
  }
}
