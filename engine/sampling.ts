/**
 * Draws from distributions, on the numbers of random.ts: the same seed, stream and step give the
 * same draws. No gradient flows through them.
 *
 * @module
 */
import {
  needDevice,
  needDType,
  needFitting,
  needOptions,
  needTensors,
  needWhole,
} from "./arguments.ts";
import type { Device } from "./device.ts";
import { isFloat } from "./dtype.ts";
import { ShapeError } from "./errors.ts";
import { materialize } from "./launch/copy.ts";
import { elementwise } from "./launch/elementwise.ts";
import { cast } from "./ops/cast.ts";
import { less } from "./ops/compare.ts";
import { argmax } from "./ops/sort.ts";
import { Prng } from "./prng.ts";
import {
  needRandom,
  type NormalOptions,
  randomNormal,
  type RandomOptions,
  randomUniform,
  runRandom,
  type UniformOptions,
} from "./random.ts";
import { scope } from "./scope.ts";
import { needShape, normalizeAxis, type Shape, show } from "./shape.ts";
import { noGrad } from "./tape.ts";
import type { Tensor } from "./tensor.ts";

/** Options of {@link randint}. */
export interface RandintOptions extends RandomOptions {
  /** Default i32 where `low` is below 0, else u32. */
  readonly dtype?: "u32" | "i32";
}

/**
 * A tensor of whole numbers from `low` up to, but without, `high`, each as probable as the others
 * up to 2^-32.
 *
 * @param seed whole number below 2^32
 * @throws {ShapeError} if there is no number in the range, or the element type does not hold all.
 */
export function randint(
  device: Device,
  low: number,
  high: number,
  shape: Shape,
  seed: number,
  options: RandintOptions = {},
): Tensor {
  needDevice("randint", device);
  needShape("randint", shape);
  needOptions("randint", options, ["dtype", "stream", "step"]);
  const { dtype = low < 0 ? "i32" : "u32" } = options;
  needDType("randint", dtype);
  needWhole("randint", "low", low, -(2 ** 31));
  needWhole("randint", "high", high, low + 1);
  if (isFloat(dtype)) throw new ShapeError(`randint: ${dtype} is no element type of integers`);
  for (const end of [low, high - 1]) needFitting("randint", end, dtype);
  const result = device.empty(shape, dtype);
  runRandom("integer", result, needRandom("randint", seed, options), low, high);
  return result;
}

/** Uniform numbers with the shape and element type of another tensor; see {@link randomUniform}. */
export function randLike(x: Tensor, seed: number, options: UniformOptions = {}): Tensor {
  needTensors("randLike", { x });
  needOptions("randLike", options, ["low", "high", "stream", "step"]);
  needRandom("randLike", seed, options);
  return like("randLike", x, () => randomUniform(x.device, x.shape, seed, options));
}

/** Normal numbers with the shape and element type of another tensor; see {@link randomNormal}. */
export function randnLike(x: Tensor, seed: number, options: NormalOptions = {}): Tensor {
  needTensors("randnLike", { x });
  needOptions("randnLike", options, ["mean", "deviation", "stream", "step"]);
  needRandom("randnLike", seed, options);
  return like("randnLike", x, () => randomNormal(x.device, x.shape, seed, options));
}

function like(op: string, { shape, dtype }: Tensor, draw: () => Tensor): Tensor {
  if (!isFloat(dtype)) {
    throw new ShapeError(`${op}: ${show(shape)} of ${dtype}; a tensor of floats is needed`);
  }
  return dtype === "f32" ? draw() : scope(() => cast(draw(), dtype));
}

/**
 * 1 with a probability that each element says, else 0, in the element type of the probabilities.
 *
 * @param probabilities in 0..1
 * @param seed whole number below 2^32
 * @throws {ShapeError} if the probabilities are integers.
 */
export function bernoulli(
  probabilities: Tensor,
  seed: number,
  options: RandomOptions = {},
): Tensor {
  needTensors("bernoulli", { probabilities });
  needOptions("bernoulli", options, ["stream", "step"]);
  needRandom("bernoulli", seed, options);
  const { device, shape, dtype } = probabilities;
  if (!isFloat(dtype)) {
    throw new ShapeError(`bernoulli: ${show(shape)} of ${dtype}: probabilities are floats`);
  }
  return scope(() =>
    noGrad(() => {
      const drawn = less(randomUniform(device, shape, seed, options), cast(probabilities, "f32"));
      return dtype === "f32" ? drawn : cast(drawn, dtype);
    })
  );
}

/** Options of {@link categorical}. */
export interface CategoricalOptions extends RandomOptions {
  /** Axis of the classes; default the last one. */
  readonly axis?: number;
}

/**
 * One class for each set of logits, with the probabilities of their softmax: the largest of logit +
 * Gumbel noise (from numbers of 24 bits, so nothing rarer than 2^-24 is drawn faithfully). For
 * several draws give {@link expand}ed logits.
 *
 * @param seed whole number below 2^32
 * @returns u32, without the axis of the classes
 * @throws {ShapeError} if the axis does not exist, is empty, or the logits are integers.
 */
export function categorical(
  logits: Tensor,
  seed: number,
  options: CategoricalOptions = {},
): Tensor {
  needTensors("categorical", { logits });
  needOptions("categorical", options, ["axis", "stream", "step"]);
  const { device, shape, dtype } = logits;
  const { axis = -1, ...numbers } = options;
  needRandom("categorical", seed, numbers);
  if (shape[normalizeAxis("categorical", axis, shape.length)] === 0) {
    throw new ShapeError(`categorical: ${show(shape)} has no classes along axis ${axis}`);
  }
  if (!isFloat(dtype)) {
    throw new ShapeError(`categorical: ${show(shape)} of ${dtype}: logits are floats`);
  }
  return scope(() => {
    const uniform = randomUniform(device, shape, seed, numbers);
    const noisy = device.empty(shape);
    elementwise(noisy, [materialize(logits), uniform], {
      expression: "a - log_$V(-log_$V(b))",
    });
    return argmax(noisy, { axis });
  });
}

/**
 * The numbers 0 to `count` - 1 in a random order, u32: `Prng.permutation` as a tensor. A captured
 * function keeps the order of its recording.
 *
 * @param seed a seed, or the generator to draw from
 */
export function permutation(device: Device, count: number, seed: number | Prng): Tensor {
  needDevice("permutation", device);
  needWhole("permutation", "the count", count);
  if (!(seed instanceof Prng)) needWhole("permutation", "the seed", seed);
  const random = seed instanceof Prng ? seed : new Prng(seed);
  return device.tensor(random.permutation(count));
}
