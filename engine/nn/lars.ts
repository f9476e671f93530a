/**
 * An optimizer for large batches; optimizers.ts has the others.
 *
 * @module
 */
import { elementwise } from "../launch/elementwise.ts";
import { sumOfSquares } from "../ops/reduce.ts";
import { keep } from "../scope.ts";
import type { Tensor } from "../tensor.ts";
import type { NamedTensor } from "./layers.ts";
import { Optimizer, type OptimizerOptions, type ParameterState } from "./optimizers.ts";

/** Settings of {@link LARS}. */
export interface LARSOptions extends OptimizerOptions {
  /** How much of the last direction stays; default 0.9. */
  readonly momentum?: number;
  /** Length of an update relative to the tensor's own; default 0.001. */
  readonly trust?: number;
}

/**
 * Layer-wise adaptive rates (You et al., 2017), in the form used for large-batch linear probing: `g
 * += weightDecay p; g *= trust |p| / |g|; direction = momentum direction + g; p -= rate direction`.
 * Tensors with one axis (biases, norms), or for which `decays` says no, take plain momentum steps;
 * so do tensors while |p| or |g| is 0.
 */
export class LARS extends Optimizer {
  readonly #momentum: number;
  readonly #trust: number;
  readonly #rate: Tensor;

  /**
   * Remembers nothing yet.
   *
   * @param parameters trainable tensors, alone or with names
   */
  constructor(parameters: Iterable<Tensor | NamedTensor>, options: LARSOptions) {
    super(
      parameters,
      { ...options, decays: options?.decays ?? ((_, { shape }) => shape.length > 1) },
      ["momentum"],
    );
    this.#momentum = options.momentum ?? 0.9;
    this.#trust = options.trust ?? 0.001;
    this.#rate = keep(this.device.zeros([1]));
  }

  /** See {@link Optimizer.advance}. */
  protected override writeHyper(rate: number): void {
    this.device.write(this.#rate, Float32Array.of(rate));
  }

  /** See {@link Optimizer.update}. */
  protected override updateOne({ tensor, decays, memory }: ParameterState, grad: Tensor): void {
    let factor = this.clip.view([], [], this.clip.offset + 1);
    let direction = grad;
    if (decays) {
      direction = this.device.empty(tensor.shape);
      elementwise(direction, [grad, factor, tensor], {
        expression: "a * b + params.alpha * c",
        alpha: this.weightDecay,
      });
      factor = this.device.empty([]);
      const lengths = [tensor, direction].map((it) => sumOfSquares(it, this.device.empty([])));
      elementwise(factor, lengths, {
        expression: "select(T(1.0), params.alpha * sqrt(a) / sqrt(b), min(a, b) > T(0.0))",
        alpha: this.#trust,
      });
    }
    elementwise(memory.momentum, [direction, factor], {
      expression: "params.alpha * o + a * b",
      readOut: true,
      alpha: this.#momentum,
    });
    elementwise(tensor, [memory.momentum, this.#rate.view([])], {
      expression: "o - b * a",
      readOut: true,
    });
  }

  /** Frees what is remembered; the parameters stay. */
  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#rate.dispose();
  }
}
