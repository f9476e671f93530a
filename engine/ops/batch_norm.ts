/**
 * Normalisation of channels [batch, channels, ...]: over the batch, in groups, or each by itself.
 *
 * @module
 */
import { kindOf, needNumber, needOptions, needTogether, needWhole } from "../arguments.ts";
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { emaStep } from "../launch/in_place.ts";
import { composite, scope } from "../scope.ts";
import { show } from "../shape.ts";
import { noGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { cast } from "./cast.ts";
import { add, div, mul, sub } from "./elementwise.ts";
import { layerNorm } from "./layernorm.ts";
import { mean } from "./reduce.ts";
import { sqrt } from "./unary.ts";
import { variance } from "./variance.ts";
import { reshape } from "./view.ts";

/** Scale and shift of channels. */
export interface AffineOptions {
  /** Scale [channels]; default 1. */
  readonly weight?: Tensor;
  /** Shift [channels]; default 0. */
  readonly bias?: Tensor;
  /** Added to the variance; default 1e-5. */
  readonly eps?: number;
}

/** @throws {ShapeError} if x has no channels, or something given for each has another shape. */
function checkChannels(
  name: string,
  x: Tensor,
  perChannel: Readonly<Record<string, Tensor | undefined>>,
  eps: number,
): void {
  needTogether(name, { x }, perChannel);
  needNumber(name, "eps", eps, 0);
  const [, channels] = x.shape;
  if (x.shape.length < 2 || !isFloat(x.dtype)) {
    throw new ShapeError(`${name}: x is ${kindOf(x)}; floats [batch, channels, ...] are needed`);
  }
  for (const [what, it] of Object.entries(perChannel)) {
    if (it && !(it.shape.length === 1 && it.size === channels)) {
      throw new ShapeError(
        `${name}: ${what} is ${show(it.shape)} beside x ${show(x.shape)}; ${show([channels])} is ` +
          "needed",
      );
    }
  }
}

/** What is given for each channel, seen from [batch, channels, ...]. */
const seen = (it: Tensor, { shape }: Tensor): Tensor =>
  shape.length === 2 ? it : reshape(it, [it.size, ...shape.slice(2).map(() => 1)]);

/** `y * weight + bias` for each channel, as far as they are given. */
function affine(y: Tensor, { weight, bias }: AffineOptions): Tensor {
  const scaled = weight ? mul(y, seen(weight, y)) : y;
  return bias ? add(scaled, seen(bias, y)) : scaled;
}

/** Options of {@link batchNorm}. */
export interface BatchNormFunctionOptions extends AffineOptions {
  /** Whether the batch's own mean and variance are taken; default false: the running ones. */
  readonly training?: boolean;
  /** Share of the running averages that a batch replaces in training; default 0.1. */
  readonly momentum?: number;
}

/**
 * Batch normalisation (Ioffe and Szegedy, arXiv:1502.03167) as torch's `batch_norm`: `(x - mean) /
 * sqrt(variance + eps) * weight + bias` for each channel. In training mean and biased variance are
 * those of batch and places, which then enter the running averages (of samples, n - 1) where these
 * are given; in evaluation they are the running ones. Can be captured.
 *
 * @param x [batch, channels, ...]; in training at least two values for each channel
 * @param runningMean f32 [channels], updated in place in training; may be undefined then
 * @param runningVariance as `runningMean`
 * @returns the shape of `x`
 * @throws {ShapeError} if shapes do not fit, or averages are missing in evaluation.
 */
export function batchNorm(
  x: Tensor,
  runningMean: Tensor | undefined,
  runningVariance: Tensor | undefined,
  options: BatchNormFunctionOptions = {},
): Tensor {
  needOptions("batchNorm", options, ["weight", "bias", "eps", "training", "momentum"]);
  const { weight, bias, eps = 1e-5, training = false, momentum = 0.1 } = options;
  checkChannels("batchNorm", x, { runningMean, runningVariance, weight, bias }, eps);
  needNumber("batchNorm", "momentum", momentum, 0);
  const count = x.size / x.shape[1];
  if (training ? count < 2 : !runningMean || !runningVariance) {
    throw new ShapeError(
      training
        ? `batchNorm: ${show(x.shape)} has fewer than two values for each channel`
        : "batchNorm: running mean and variance are needed in evaluation",
    );
  }
  return composite(() => {
    const over = { axes: x.shape.flatMap((_, axis) => axis === 1 ? [] : [axis]), keepDims: true };
    const running = (it: Tensor) => seen(it.dtype === x.dtype ? it : cast(it, x.dtype), x);
    const centre = training ? mean(x, over) : running(runningMean!);
    const spread = training ? variance(x, { ...over, correction: 0 }) : running(runningVariance!);
    if (training) {
      noGrad(() =>
        scope(() => {
          const shares = (factor: number) => x.device.tensor([1 - momentum, momentum * factor]);
          if (runningMean) emaStep(runningMean, centre, shares(1));
          if (runningVariance) emaStep(runningVariance, spread, shares(count / (count - 1)));
        })
      );
    }
    return affine(div(sub(x, centre), sqrt(add(spread, eps))), { weight, bias });
  });
}

/**
 * Group normalisation (Wu and He, arXiv:1803.08494) as torch's `group_norm`: channels fall into
 * groups, and each group of each batch is normalised by its own mean and biased variance.
 *
 * @param x [batch, channels, ...]
 * @param groups divides the channels
 * @returns the shape of `x`
 * @throws {ShapeError} if shapes do not fit or the groups do not divide the channels.
 */
export function groupNorm(x: Tensor, groups: number, options: AffineOptions = {}): Tensor {
  needOptions("groupNorm", options, ["weight", "bias", "eps"]);
  const { weight, bias, eps = 1e-5 } = options;
  checkChannels("groupNorm", x, { weight, bias }, eps);
  needWhole("groupNorm", "the number of groups", groups, 1);
  return grouped("groupNorm", x, groups, options);
}

function grouped(
  name: string,
  x: Tensor,
  groups: number,
  { weight, bias, eps = 1e-5 }: AffineOptions,
): Tensor {
  const [batch, channels, ...places] = x.shape;
  if (channels % groups !== 0) {
    throw new ShapeError(
      `${name}: ${groups} groups do not divide the channels of ${show(x.shape)}`,
    );
  }
  return composite(() => {
    const width = places.reduce((a, b) => a * b, channels / groups);
    const rows = reshape(x, [batch * groups, width]);
    const [one, zero] = [1, 0].map((value) => x.device.full([width], value, x.dtype));
    return affine(reshape(layerNorm(rows, one, zero, eps), x.shape), { weight, bias });
  });
}

/**
 * Instance normalisation (Ulyanov et al., arXiv:1607.08022): each channel of each batch is
 * normalised by its own mean and biased variance, as torch's `instance_norm` without running
 * averages.
 *
 * @param x [batch, channels, ...], with more than one place
 * @returns the shape of `x`
 * @throws {ShapeError} if shapes do not fit or there is a single place.
 */
export function instanceNorm(x: Tensor, options: AffineOptions = {}): Tensor {
  needOptions("instanceNorm", options, ["weight", "bias", "eps"]);
  const { weight, bias, eps = 1e-5 } = options;
  checkChannels("instanceNorm", x, { weight, bias }, eps);
  const [batch, channels] = x.shape;
  if (x.size > 0 && x.size === batch * channels) {
    throw new ShapeError(`instanceNorm: ${show(x.shape)} has one value for each channel, not more`);
  }
  return grouped("instanceNorm", x, channels, options);
}
