/**
 * Layers that convolve: signals and images.
 *
 * @module
 */
import type { Device } from "../device.ts";
import { needOptions, needWhole } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { conv1d, type Conv1dOptions, conv2d, type Conv2dOptions } from "../ops/conv.ts";
import type { Shape } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { xavierUniform } from "./init.ts";
import { type LayerSource, Module, zeros } from "./layers.ts";

/** Settings of {@link Conv1d}. */
export interface Conv1dSettings extends Conv1dOptions {
  /** Whether there is a bias; default true. In front of a `BatchNorm` it changes nothing. */
  readonly bias?: boolean;
}

/** Settings of {@link Conv2d}. */
export interface Conv2dSettings extends Conv2dOptions {
  /** Whether there is a bias; default true. In front of a `BatchNorm` it changes nothing. */
  readonly bias?: boolean;
}

const SETTINGS = ["stride", "padding", "dilation", "groups", "bias"];

/**
 * The shape of a layer's kernels.
 *
 * @throws {ShapeError} if sizes are no whole numbers, or the groups do not divide the channels.
 */
function kernelShape(
  name: string,
  [outputs, inputs, ...kernel]: Shape,
  settings: Conv1dSettings | Conv2dSettings,
): Shape {
  needWhole(name, "the count of inputs", inputs);
  needOptions(name, settings, SETTINGS);
  const { groups = 1 } = settings;
  needWhole(name, "the count of groups", groups, 1);
  if (inputs % groups !== 0 || outputs % groups !== 0) {
    throw new ShapeError(
      `${name}: ${inputs} channels to ${outputs} do not divide into ${groups} groups`,
    );
  }
  return [outputs, inputs / groups, ...kernel];
}

/** Cross-correlation of signals, plus a bias. */
export class Conv1d extends Module {
  /** [outputs, inputs / groups, kernel], Xavier-uniform at first. */
  readonly weight: Tensor;
  /** [outputs], zeros at first; undefined without a bias. */
  readonly bias: Tensor | undefined;
  /** Stride, padding, dilation and groups. */
  readonly options: Conv1dOptions;
  /** Parameters and inner layers by name. */
  protected readonly parts: Readonly<Record<string, Tensor | undefined>>;

  /**
   * Draws the kernels, or looks `weight` and `bias` up.
   *
   * @param inputs channels of `x`
   * @param outputs channels of the result
   * @param kernel elements of a kernel
   * @param settings stride, padding, dilation and groups; `bias: false` leaves the bias out
   * @throws {ShapeError} if the groups do not divide `inputs` and `outputs`.
   */
  constructor(
    device: Device,
    inputs: number,
    outputs: number,
    kernel: number,
    source: LayerSource,
    settings: Conv1dSettings = {},
  ) {
    super();
    const shape = kernelShape("Conv1d", [outputs, inputs, kernel], settings);
    const { bias = true, ...options } = settings;
    this.options = options;
    this.weight = this.parameter(device, source, "weight", shape, xavierUniform);
    this.bias = bias ? this.parameter(device, source, "bias", [outputs], zeros) : undefined;
    this.parts = { weight: this.weight, bias: this.bias };
  }

  /** [batch, inputs, length] to [batch, outputs, places]. */
  apply(x: Tensor): Tensor {
    return conv1d(x, this.weight, this.bias, this.options);
  }
}

/** Cross-correlation of images with square kernels, plus a bias. */
export class Conv2d extends Module {
  /** [outputs, inputs / groups, kernel, kernel], Xavier-uniform at first. */
  readonly weight: Tensor;
  /** [outputs], zeros at first; undefined without a bias. */
  readonly bias: Tensor | undefined;
  /** Stride, padding, dilation and groups. */
  readonly options: Conv2dOptions;
  /** Parameters and inner layers by name. */
  protected readonly parts: Readonly<Record<string, Tensor | undefined>>;

  /**
   * Draws the kernels, or looks `weight` and `bias` up.
   *
   * @param inputs channels of `x`
   * @param outputs channels of the result
   * @param kernel rows and columns of a kernel
   * @param settings stride, padding, dilation and groups; `bias: false` leaves the bias out
   * @throws {ShapeError} if the groups do not divide `inputs` and `outputs`.
   */
  constructor(
    device: Device,
    inputs: number,
    outputs: number,
    kernel: number,
    source: LayerSource,
    settings: Conv2dSettings = {},
  ) {
    super();
    const shape = kernelShape("Conv2d", [outputs, inputs, kernel, kernel], settings);
    const { bias = true, ...options } = settings;
    this.options = options;
    this.weight = this.parameter(device, source, "weight", shape, xavierUniform);
    this.bias = bias ? this.parameter(device, source, "bias", [outputs], zeros) : undefined;
    this.parts = { weight: this.weight, bias: this.bias };
  }

  /** [batch, inputs, height, width] to [batch, outputs, rows, columns]. */
  apply(x: Tensor): Tensor {
    return conv2d(x, this.weight, this.bias, this.options);
  }
}
