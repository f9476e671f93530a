/**
 * Resampling of the places of [batch, channels, ...], axis by axis.
 *
 * @module
 */
import { kindOf, needOptions, needTensors, needWhole } from "../arguments.ts";
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { type Band, bandedAlong } from "./banded.ts";

/** How {@link interpolate} makes values between places. */
export type InterpolateMode = "nearest" | "linear" | "bilinear" | "trilinear" | "bicubic";

/** Options of {@link interpolate}: either `size` or `scale`. */
export interface InterpolateOptions {
  /** Places of the result: a number for all axes, or one for each. */
  readonly size?: number | readonly number[];
  /** Factor of the sizes, for all axes or each; results are rounded down. */
  readonly scale?: number | readonly number[];
  /** Default "nearest". */
  readonly mode?: InterpolateMode;
  /**
   * Whether the centres of the first and last places stay where they are, instead of the outer
   * edges of these places; not for "nearest". Default false.
   */
  readonly alignCorners?: boolean;
}

/** Spatial axes of each mode; "nearest" takes any number. */
const AXES: Readonly<Record<InterpolateMode, number | undefined>> = {
  nearest: undefined,
  linear: 1,
  bilinear: 2,
  trilinear: 3,
  bicubic: 2,
};

/** Weights of the four places around a point `t` behind the second (Keys, 1981, with a = -0.75). */
function cubicWeights(t: number): number[] {
  const a = -0.75;
  const near = (x: number) => ((a + 2) * x - (a + 3)) * x * x + 1;
  const far = (x: number) => ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return [far(t + 1), near(t), near(1 - t), far(2 - t)];
}

/** Weighted places, those beyond the ends moved to them, as one band. */
function bandOf(first: number, weights: readonly number[], size: number): Band {
  const clamped = weights.map((_, i) => Math.max(0, Math.min(size - 1, first + i)));
  const band = new Array<number>(clamped[clamped.length - 1] - clamped[0] + 1).fill(0);
  weights.forEach((weight, i) => band[clamped[i] - clamped[0]] += weight);
  return { first: clamped[0], weights: band };
}

/** The bands of one axis; `step` is how far neighbouring places of the result lie apart. */
function bandsOf(size: number, to: number, step: number, mode: InterpolateMode, corners: boolean) {
  return Array.from({ length: to }, (_, j): Band => {
    if (mode === "nearest") return bandOf(Math.floor(j * step), [1], size);
    const at = corners ? j * step : (j + 0.5) * step - 0.5;
    if (mode === "bicubic") {
      const first = Math.floor(at);
      return bandOf(first - 1, cubicWeights(at - first), size);
    }
    const inside = Math.max(0, at);
    const first = Math.min(Math.floor(inside), size - 1);
    return bandOf(first, [1 - (inside - first), inside - first], size);
  });
}

/**
 * Resamples places as torch's `interpolate`, each axis by itself: the nearest place, linearly
 * between two, or by cubic convolution of four.
 *
 * @param x [batch, channels, ...] with 1 to 3 axes of places
 * @returns [batch, channels, ...] of the new sizes
 * @throws {ShapeError} if not exactly one of `size` and `scale` is given, or the mode does not fit
 * the number of axes.
 */
export function interpolate(x: Tensor, options: InterpolateOptions): Tensor {
  const name = "interpolate";
  needTensors(name, { x });
  needOptions(name, options, ["size", "scale", "mode", "alignCorners"]);
  const { size, scale, mode = "nearest", alignCorners = false } = options;
  const places = x.shape.slice(2);
  const n = places.length;
  if (!Object.hasOwn(AXES, mode)) {
    throw new ShapeError(
      `${name}: the mode is ${kindOf(mode)}; ${Object.keys(AXES).join(", ")} are known`,
    );
  }
  if (
    n < 1 || n > 3 || AXES[mode] !== undefined && n !== AXES[mode] || !isFloat(x.dtype) ||
    places.some((it) => it < 1)
  ) {
    throw new ShapeError(
      `${name}: x is ${kindOf(x)}; floats [batch, channels, ...] with ${
        AXES[mode] ?? "1 to 3"
      } axes of places are needed for ${mode}`,
    );
  }
  if ((size === undefined) === (scale === undefined)) {
    throw new ShapeError(`${name}: either size or scale is needed`);
  }
  const each = [size ?? scale!].flat();
  const given = each.length === 1 ? places.map(() => each[0]) : each;
  if (given.length !== n || !given.every((it) => Number.isFinite(it) && it > 0)) {
    throw new ShapeError(`${name}: ${show(given)} are not positive numbers for ${n} axes`);
  }
  const sizes = given.map((it, i) => size === undefined ? Math.floor(places[i] * it) : it);
  sizes.forEach((it) => needWhole(name, "a size of the result", it, 1));
  const corners = alignCorners && mode !== "nearest";
  const step = (i: number) =>
    corners
      ? (sizes[i] > 1 ? (places[i] - 1) / (sizes[i] - 1) : 0)
      : size === undefined
      ? 1 / given[i]
      : places[i] / sizes[i];
  return bandedAlong(
    x,
    places.map((_, i) => i + 2),
    places.map((from, i) => bandsOf(from, sizes[i], step(i), mode, corners)),
  );
}
