/**
 * Batch normalisation without scale and shift, as torch's `BatchNorm1d(affine=False)`.
 *
 * @module
 */
import {
  add,
  type Device,
  div,
  emaStep,
  mean,
  noGrad,
  scope,
  ShapeError,
  sqrt,
  sub,
  type Tensor,
  variance,
} from "../../../engine/mod.ts";

/** Added to the variance. */
export const BATCH_NORM_EPS = 1e-5;
/** How much of the running statistics a batch replaces. */
const MOMENTUM = 0.1;

/** Standardises each value over the batch, and remembers with what. */
export class BatchNorm implements Disposable {
  /** Running mean, f32 [width]; zeros at first. */
  readonly mean: Tensor;
  /** Running variance, of samples (n - 1), f32 [width]; ones at first. */
  readonly variance: Tensor;

  /** @param width size of the last axis */
  constructor(device: Device, width: number) {
    this.mean = device.zeros([width]);
    this.variance = device.tensor(new Float32Array(width).fill(1));
  }

  /**
   * `(x - mean) / sqrt(variance + eps)` with mean and biased variance of the batch, which then
   * enter the running ones. Can be captured.
   *
   * @param x [batch, width], at least two rows
   * @returns the same shape
   * @throws {ShapeError} if it is not.
   */
  apply(x: Tensor): Tensor {
    const [batch, width] = x.shape;
    if (x.shape.length !== 2 || batch < 2 || width !== this.mean.size) {
      throw new ShapeError(
        `batch norm: [${x.shape}] is not [batch, ${this.mean.size}] of two rows or more`,
      );
    }
    const centre = mean(x, { axes: [0], keepDims: true });
    const spread = variance(x, { axes: [0], keepDims: true, correction: 0 });
    this.#remember(centre, spread, batch);
    return div(sub(x, centre), sqrt(add(spread, BATCH_NORM_EPS)));
  }

  #remember(centre: Tensor, spread: Tensor, batch: number): void {
    noGrad(() =>
      scope(() => {
        const { device } = centre;
        const decays = (factor: number) => device.tensor([1 - MOMENTUM, MOMENTUM * factor]);
        emaStep(this.mean, centre, decays(1));
        emaStep(this.variance, spread, decays(batch / (batch - 1)));
      })
    );
  }

  /** Frees the running statistics. */
  [Symbol.dispose](): void {
    this.mean.dispose();
    this.variance.dispose();
  }
}
