/**
 * Layers that normalise, beside `LayerNorm` of layers.ts.
 *
 * @module
 */
import type { Device } from "../device.ts";
import { needDevice, needNumber, needOptions, needWhole } from "../arguments.ts";
import { batchNorm, groupNorm, instanceNorm } from "../ops/batch_norm.ts";
import { rmsNorm } from "../ops/rmsnorm.ts";
import { keep } from "../scope.ts";
import { needShape, type Shape } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import type { InitialValues } from "./init.ts";
import { type LayerSource, Module, ones, shared, zeros } from "./layers.ts";

/** Root-mean-square normalisation over the last axis with a scale per channel. */
export class RMSNorm extends Module {
  /** Scale [width], ones at first. */
  readonly weight: Tensor;
  /** Parameters and inner layers by name. */
  protected readonly parts: Readonly<Record<string, Tensor>>;

  /**
   * Starts as plain normalisation.
   *
   * @param width size of the last axis
   * @param eps added to the mean of squares
   * @param source looks `weight` up; default: the layer's own
   */
  constructor(device: Device, width: number, readonly eps = 1e-6, source: LayerSource = 0) {
    super();
    needNumber("RMSNorm", "eps", eps, 0);
    this.weight = this.parameter(device, source, "weight", [width], ones);
    this.parts = { weight: this.weight };
  }

  /** [..., width] to the same shape. */
  apply(x: Tensor): Tensor {
    return rmsNorm(x, this.weight, this.eps);
  }
}

/** Settings of {@link BatchNorm}. */
export interface BatchNormOptions {
  /** Added to the variance; default 1e-5. */
  readonly eps?: number;
  /** Share of the running averages that a batch replaces; default 0.1. */
  readonly momentum?: number;
  /** Whether there are a scale and a shift per channel; default true. */
  readonly affine?: boolean;
}

/**
 * Batch normalisation (Ioffe and Szegedy, 2015) of [batch, width, ...], as torch's `BatchNorm1d` to
 * `3d`: `(x - mean) / sqrt(variance + eps) * weight + bias`. In training mean and biased variance
 * are the batch's, which then enter the running averages; in evaluation they are the running ones.
 */
export class BatchNorm extends Module {
  /** Scale [width], ones at first; undefined unless affine. */
  readonly weight: Tensor | undefined;
  /** Shift [width], zeros at first; undefined unless affine. */
  readonly bias: Tensor | undefined;
  /** Running mean, f32 [width]; zeros at first. The layer's own, not trained. */
  readonly mean: Tensor;
  /** Running variance, of samples (n - 1), f32 [width]; ones at first. As {@link mean}. */
  readonly variance: Tensor;
  /** Added to the variance. */
  readonly eps: number;
  /** Share of the running averages that a batch replaces. */
  readonly momentum: number;
  /** Parameters and inner layers by name. */
  protected readonly parts: Readonly<Record<string, Tensor | undefined>>;
  /** The running averages by torch's names. */
  protected override readonly buffers: Readonly<Record<string, Tensor>>;

  /**
   * Starts as plain normalisation.
   *
   * @param width size of the last axis
   * @param source looks `weight` and `bias` up; default: the layer's own
   */
  constructor(
    device: Device,
    width: number,
    options: BatchNormOptions = {},
    source: LayerSource = 0,
  ) {
    super();
    needOptions("BatchNorm", options, ["eps", "momentum", "affine"]);
    const { eps = 1e-5, momentum = 0.1, affine = true } = options;
    needNumber("BatchNorm", "eps", eps, 0);
    needNumber("BatchNorm", "the momentum", momentum, 0);
    needDevice("BatchNorm", device);
    needShape("BatchNorm", [width]);
    this.eps = eps;
    this.momentum = momentum;
    this.weight = affine ? this.parameter(device, source, "weight", [width], ones) : undefined;
    this.bias = affine ? this.parameter(device, source, "bias", [width], zeros) : undefined;
    this.parts = { weight: this.weight, bias: this.bias };
    this.mean = keep(device.tensor(zeros([width])));
    this.variance = keep(device.tensor(ones([width])));
    this.buffers = { running_mean: this.mean, running_var: this.variance };
  }

  /**
   * Normalises; in training it updates the running averages as well. Can be captured.
   *
   * @param x [batch, width, ...]; at least two values for each channel in training
   * @param training default: {@link training}
   * @returns the same shape
   * @throws {ShapeError} if it is not.
   */
  apply(x: Tensor, training: boolean = this.training): Tensor {
    const { weight, bias, eps, momentum } = this;
    return batchNorm(x, this.mean, this.variance, { weight, bias, eps, momentum, training });
  }
}

/** Settings of {@link GroupNorm} and {@link InstanceNorm}. */
export interface GroupNormOptions {
  /** Added to the variance; default 1e-5. */
  readonly eps?: number;
  /** Whether there are a scale and a shift per channel; default true, of instances false. */
  readonly affine?: boolean;
}

/** Group normalisation of [batch, channels, ...], as torch's `GroupNorm`. */
export class GroupNorm extends Module {
  /** Scale [channels], ones at first; undefined unless affine. */
  readonly weight: Tensor | undefined;
  /** Shift [channels], zeros at first; undefined unless affine. */
  readonly bias: Tensor | undefined;
  /** Added to the variance. */
  readonly eps: number;
  /** Parameters and inner layers by name. */
  protected readonly parts: Readonly<Record<string, Tensor | undefined>>;

  /**
   * Starts as plain normalisation.
   *
   * @param groups of channels; each has a mean and a variance of its own
   * @param channels size of the second axis
   * @param source looks `weight` and `bias` up; default: the layer's own
   */
  constructor(
    device: Device,
    readonly groups: number,
    channels: number,
    options: GroupNormOptions = {},
    source: LayerSource = 0,
  ) {
    super();
    const layer = this.constructor.name;
    needOptions(layer, options, ["eps", "affine"]);
    const { eps = 1e-5, affine = true } = options;
    needNumber(layer, "eps", eps, 0);
    needWhole(layer, "the count of groups", groups, 1);
    needShape(layer, [channels]);
    const from = shared(this, device, source);
    this.eps = eps;
    const of = (name: string, initial: (shape: Shape) => InitialValues) =>
      affine ? this.parameter(device, from, name, [channels], initial) : undefined;
    this.weight = of("weight", ones);
    this.bias = of("bias", zeros);
    this.parts = { weight: this.weight, bias: this.bias };
  }

  /** [batch, channels, ...] to the same shape. */
  apply(x: Tensor): Tensor {
    const { weight, bias, eps } = this;
    return groupNorm(x, this.groups, { weight, bias, eps });
  }
}

/** Instance normalisation of [batch, channels, ...], as torch's `InstanceNorm1d` and `2d`. */
export class InstanceNorm extends GroupNorm {
  /**
   * Starts as plain normalisation.
   *
   * @param channels size of the second axis
   * @param source looks `weight` and `bias` up, where affine; default: the layer's own
   */
  constructor(
    device: Device,
    channels: number,
    options: GroupNormOptions = {},
    source: LayerSource = 0,
  ) {
    needOptions("InstanceNorm", options, ["eps", "affine"]);
    super(device, channels, channels, { affine: false, ...options }, source);
  }

  /** [batch, channels, ...] to the same shape. */
  override apply(x: Tensor): Tensor {
    const { weight, bias, eps } = this;
    return instanceNorm(x, { weight, bias, eps });
  }
}
