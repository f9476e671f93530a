/**
 * Layers that convolve signals, images and volumes, and the transposes of these.
 *
 * @module
 */
import type { Device } from "../device.ts";
import { kindOf, needOptions, needWhole } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import {
  conv1d,
  type Conv1dOptions,
  conv2d,
  type Conv2dOptions,
  conv3d,
  type Conv3dOptions,
} from "../ops/conv.ts";
import {
  convTranspose1d,
  type ConvTranspose1dOptions,
  convTranspose2d,
  type ConvTranspose2dOptions,
} from "../ops/conv_transpose.ts";
import type { Tensor } from "../tensor.ts";
import { xavierUniform } from "./init.ts";
import { type LayerSource, Module, shared, zeros } from "./layers.ts";

/** Settings of a layer: those of its function, and whether it has a bias. */
export type ConvolutionSettings<Options> = Options & {
  /** Whether there is a bias; default true. In front of a `BatchNorm` it changes nothing. */
  readonly bias?: boolean;
};

/** The function behind a layer, and how it sees its kernels. */
export interface ConvolutionFunction<Options> {
  /** The function itself. */
  readonly apply: (x: Tensor, weight: Tensor, bias?: Tensor, options?: Options) => Tensor;
  /** Axes of a kernel. */
  readonly axes: number;
  /** Whether kernels are [inputs, outputs / groups, ...]. */
  readonly transposed?: boolean;
}

/** What layers that convolve share. */
export abstract class Convolution<Options extends { readonly groups?: number }> extends Module {
  /** [outputs, inputs / groups, ...kernel], Xavier-uniform at first; transposed: see there. */
  readonly weight: Tensor;
  /** [outputs], zeros at first; undefined without a bias. */
  readonly bias: Tensor | undefined;
  /** What the function behind the layer takes: stride, padding, dilation, groups. */
  readonly options: Options;
  /** Parameters and inner layers by name. */
  protected readonly parts: Readonly<Record<string, Tensor | undefined>>;

  /**
   * Draws the kernels, or looks `weight` and `bias` up.
   *
   * @param inputs channels of `x`
   * @param outputs channels of the result
   * @param kernel elements of a kernel along every axis, or along each
   * @param settings of the function behind the layer; `bias: false` leaves the bias out
   * @throws {ShapeError} if sizes are no whole numbers, or the groups do not divide the channels.
   */
  constructor(
    device: Device,
    inputs: number,
    outputs: number,
    kernel: number | readonly number[],
    source: LayerSource,
    settings: ConvolutionSettings<Options> = {} as Options,
  ) {
    super();
    const name = this.constructor.name;
    const { axes, transposed } = this.convolution();
    needWhole(name, "the count of inputs", inputs);
    const names = ["stride", "padding", "dilation", "groups", "bias"];
    needOptions(name, settings, transposed ? [...names, "outputPadding"] : names);
    const { bias = true, ...options } = settings;
    const { groups = 1 } = settings;
    needWhole(name, "the count of groups", groups, 1);
    if (inputs % groups !== 0 || outputs % groups !== 0) {
      throw new ShapeError(
        `${name}: ${inputs} channels to ${outputs} do not divide into ${groups} groups`,
      );
    }
    const sizes = typeof kernel === "number" ? new Array<number>(axes).fill(kernel) : kernel;
    if (!Array.isArray(sizes) || sizes.length !== axes) {
      throw new ShapeError(
        `${name}: the kernel is ${kindOf(kernel)}; a whole number or ${axes} of them are needed`,
      );
    }
    const [first, second] = transposed ? [inputs, outputs] : [outputs, inputs];
    const shape = [first, second / groups, ...sizes];
    const from = shared(this, device, source);
    this.options = options as unknown as Options;
    this.weight = this.parameter(device, from, "weight", shape, xavierUniform);
    this.bias = bias ? this.parameter(device, from, "bias", [outputs], zeros) : undefined;
    this.parts = { weight: this.weight, bias: this.bias };
  }

  /** The function behind the layer. */
  protected abstract convolution(): ConvolutionFunction<Options>;

  /** [batch, inputs, ...places] to [batch, outputs, ...places]. */
  apply(x: Tensor): Tensor {
    return this.convolution().apply(x, this.weight, this.bias, this.options);
  }
}

/** Cross-correlation of signals [batch, inputs, length], plus a bias; see `conv1d`. */
export class Conv1d extends Convolution<Conv1dOptions> {
  /** The function behind the layer. */
  protected convolution(): ConvolutionFunction<Conv1dOptions> {
    return { apply: conv1d, axes: 1 };
  }
}

/** Cross-correlation of images [batch, inputs, height, width], plus a bias; see `conv2d`. */
export class Conv2d extends Convolution<Conv2dOptions> {
  /** The function behind the layer. */
  protected convolution(): ConvolutionFunction<Conv2dOptions> {
    return { apply: conv2d, axes: 2 };
  }
}

/** Cross-correlation of volumes [batch, inputs, depth, height, width]; see `conv3d`. */
export class Conv3d extends Convolution<Conv3dOptions> {
  /** The function behind the layer. */
  protected convolution(): ConvolutionFunction<Conv3dOptions> {
    return { apply: conv3d, axes: 3 };
  }
}

/** Transpose of {@link Conv1d}, with kernels [inputs, outputs / groups, k]. */
export class ConvTranspose1d extends Convolution<ConvTranspose1dOptions> {
  /** The function behind the layer. */
  protected convolution(): ConvolutionFunction<ConvTranspose1dOptions> {
    return { apply: convTranspose1d, axes: 1, transposed: true };
  }
}

/** Transpose of {@link Conv2d}, with kernels [inputs, outputs / groups, kh, kw]. */
export class ConvTranspose2d extends Convolution<ConvTranspose2dOptions> {
  /** The function behind the layer. */
  protected convolution(): ConvolutionFunction<ConvTranspose2dOptions> {
    return { apply: convTranspose2d, axes: 2, transposed: true };
  }
}
