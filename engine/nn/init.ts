/**
 * Initial values of parameters, drawn on the host. Matrices are [outputs, inputs]; the kernels of a
 * convolution count as the matrix that has their first axis as outputs and all others as inputs.
 * What is no shape, generator or number is refused by a `ShapeError`.
 *
 * @module
 */
import { kindOf, needNumber } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import type { RandomSource } from "../prng.ts";
import { needShape, type Shape, sizeOf } from "../shape.ts";

/** Values of a parameter, row-major. */
export type InitialValues = Float32Array<ArrayBuffer>;

/** `Float32Array.from` with a function takes several times as long. */
function filled(shape: Shape, draw: () => number): InitialValues {
  const values = new Float32Array(sizeOf(shape));
  for (let i = 0; i < values.length; i++) values[i] = draw();
  return values;
}

/** Outputs and inputs together. */
const fans = ([outputs = 1, ...inputs]: Shape): number => Math.max(1, outputs + sizeOf(inputs));

function needDraws(name: string, shape: Shape, random: RandomSource, scale: number): void {
  needShape(name, shape);
  if (typeof random?.uniform !== "function" || typeof random.normal !== "function") {
    throw new ShapeError(`${name}: ${kindOf(random)} is given, a generator such as Prng is needed`);
  }
  needNumber(name, "the scale", scale);
}

/** The same value everywhere. */
export function constantValues(shape: Shape, value: number): InitialValues {
  needShape("constantValues", shape);
  if (typeof value !== "number") needNumber("constantValues", "the value", value);
  return new Float32Array(sizeOf(shape)).fill(value);
}

/** Uniform from -bound to bound. */
export function uniformValues(shape: Shape, random: RandomSource, bound: number): InitialValues {
  needDraws("uniformValues", shape, random, bound);
  return filled(shape, () => bound * (2 * random.uniform() - 1));
}

/** Normal with mean 0. */
export function normalValues(
  shape: Shape,
  random: RandomSource,
  deviation: number,
): InitialValues {
  needDraws("normalValues", shape, random, deviation);
  return filled(shape, () => deviation * random.normal());
}

/**
 * Normal with mean 0, drawn again where the value lies outside -cut to cut, as torch's
 * `trunc_normal_` with its limits.
 *
 * @param cut an absolute value, not a multiple of the deviation
 * @throws {ShapeError} if the deviation is negative or infinite, or hardly any value lies within
 * the cut.
 */
export function truncatedNormalValues(
  shape: Shape,
  random: RandomSource,
  deviation: number,
  cut = 2,
): InitialValues {
  needDraws("truncatedNormalValues", shape, random, deviation);
  needNumber("truncatedNormalValues", "the cut", cut);
  if (!(deviation >= 0 && deviation <= 1000 * cut) || deviation === Infinity) {
    throw new ShapeError(
      `truncatedNormalValues: deviation ${deviation}, cut ${cut}: a deviation from 0 and a cut ` +
        "of a thousandth of it or more are needed",
    );
  }
  return filled(shape, () => {
    for (;;) {
      const value = deviation * random.normal();
      if (Math.abs(value) <= cut) return value;
    }
  });
}

/**
 * Xavier-uniform (Glorot and Bengio, 2010): within `gain sqrt(6 / (inputs + outputs))`, so that
 * activations and gradients keep their size.
 *
 * @param gain for the function before the layer: torch's `calculate_gain`, sqrt(2) for ReLU
 */
export function xavierUniform(shape: Shape, random: RandomSource, gain = 1): InitialValues {
  needDraws("xavierUniform", shape, random, gain);
  return uniformValues(shape, random, gain * Math.sqrt(6 / fans(shape)));
}

/** Xavier-normal: deviation `gain sqrt(2 / (inputs + outputs))`; see {@link xavierUniform}. */
export function xavierNormal(shape: Shape, random: RandomSource, gain = 1): InitialValues {
  needDraws("xavierNormal", shape, random, gain);
  return normalValues(shape, random, gain * Math.sqrt(2 / fans(shape)));
}
