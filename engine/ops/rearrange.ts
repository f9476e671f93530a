/**
 * Slices along axes in another order, repeated or apart.
 *
 * @module
 */
import {
  axesOf,
  needOptions,
  needTensorList,
  needTensors,
  needWhole,
  needWholes,
} from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { composite } from "../scope.ts";
import { normalizeAxis, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { repeat, split } from "./assemble.ts";
import { bySpans, whole } from "./at.ts";
import { flatten, unsqueeze } from "./axes.ts";
import { indexSelect } from "./indexing.ts";
import { concat, expand, reshape } from "./view.ts";

/** Turns axes round, all by default: `y[..., i, ...] = x[..., n - 1 - i, ...]`. A copy. */
export function flip(x: Tensor, axes?: number | readonly number[]): Tensor {
  needTensors("flip", { x });
  const { shape } = x;
  const turned = axesOf("flip", axes ?? [...shape.keys()], shape.length);
  return bySpans(
    x,
    shape.map((size, axis) =>
      turned.includes(axis) && size > 1
        ? { ...whole(size), start: size - 1, step: -1 }
        : whole(size)
    ),
  );
}

/**
 * Moves elements along axes; what leaves at one end comes in at the other.
 *
 * @param shifts places towards the end, one per axis
 * @param axes default: the flattened tensor is rolled, and takes its shape again
 * @throws {ShapeError} if there are not as many shifts as axes.
 */
export function roll(
  x: Tensor,
  shifts: number | readonly number[],
  axes?: number | readonly number[],
): Tensor {
  needTensors("roll", { x });
  const by = typeof shifts === "number" ? [shifts] : shifts;
  needWholes("roll", "the shifts", by);
  if (axes === undefined) {
    needWhole("roll", "the count of shifts without axes", by.length, 1, 1);
    return composite(() => reshape(roll(flatten(x), by, 0), x.shape));
  }
  const along = typeof axes === "number" ? [axes] : axes;
  needWholes("roll", "the axes", along);
  if (along.length !== by.length) {
    throw new ShapeError(`roll: the shifts [${by}] and the axes [${along}] differ in number`);
  }
  return composite(() =>
    along.reduce((y, axis, i) => {
      const size = y.shape[normalizeAxis("roll", axis, y.shape.length)];
      const end = size === 0 ? 0 : (by[i] % size + size) % size;
      return end === 0 ? y : concat(split(y, axis, [size - end, end]).reverse(), axis);
    }, reshape(x, x.shape))
  );
}

/**
 * Cuts an axis into `count` parts of one size, the last of which may be smaller; there are fewer
 * where that size fills the axis earlier. As torch's; {@link split} is strict.
 *
 * @throws {ShapeError} if `count` is no whole number from 1.
 */
export function chunk(x: Tensor, count: number, axis = 0): Tensor[] {
  needTensors("chunk", { x });
  needWhole("chunk", "the count", count, 1);
  const size = x.shape[normalizeAxis("chunk", axis, x.shape.length)];
  const part = Math.max(1, Math.ceil(size / count));
  const parts = Math.max(1, Math.ceil(size / part));
  return split(
    x,
    axis,
    Array.from({ length: parts }, (_, i) => Math.min(part, size - i * part)),
  );
}

/**
 * {@link repeat} that also takes fewer counts than there are axes: they are for the last ones.
 *
 * @throws {ShapeError} if a count is not a whole number from 1.
 */
export function tile(x: Tensor, counts: readonly number[]): Tensor {
  needTensors("tile", { x });
  needWholes("tile", "the counts", counts);
  const missing = Math.max(0, x.shape.length - counts.length);
  return repeat(x, [...new Array<number>(missing).fill(1), ...counts]);
}

/**
 * Repeats each element along an axis: `[a, b]` becomes `[a, a, b, b]`; NumPy's `repeat`.
 *
 * @param counts how often, for all or for each place of the axis
 * @param axis default: the flattened tensor is repeated
 * @throws {ShapeError} if counts are no whole numbers from 0, or not one per place.
 */
export function repeatInterleave(
  x: Tensor,
  counts: number | readonly number[],
  axis?: number,
): Tensor {
  needTensors("repeatInterleave", { x });
  if (axis === undefined) return composite(() => repeatInterleave(flatten(x), counts, 0));
  const index = normalizeAxis("repeatInterleave", axis, x.shape.length);
  const size = x.shape[index];
  if (typeof counts === "number") {
    needWhole("repeatInterleave", "the count", counts);
    const each = [...x.shape.slice(0, index + 1), counts, ...x.shape.slice(index + 1)];
    const result = x.shape.map((n, i) => i === index ? n * counts : n);
    return composite(() => reshape(expand(unsqueeze(x, index + 1), each), result));
  }
  needWholes("repeatInterleave", "the counts", counts);
  if (counts.length !== size || counts.some((count) => count < 0)) {
    throw new ShapeError(
      `repeatInterleave: the counts [${counts}] for axis ${axis} of ${show(x.shape)}: ` +
        `${size} whole numbers from 0 are needed`,
    );
  }
  return indexSelect(x, counts.flatMap((count, i) => new Array<number>(count).fill(i)), index);
}

/**
 * The coordinates of a grid: tensor i varies along axis i alone, without a copy.
 *
 * @param vectors one per axis of the grid, of one axis each
 * @param indexing `"xy"` swaps the first two axes of the grid, as NumPy does by default
 * @throws {ShapeError} if one has another number of axes.
 */
export function meshgrid(
  vectors: readonly Tensor[],
  options: { readonly indexing?: "ij" | "xy" } = {},
): Tensor[] {
  needTensorList("meshgrid", vectors);
  needOptions("meshgrid", options, ["indexing"]);
  const { indexing = "ij" } = options;
  const bad = vectors.find(({ shape }) => shape.length !== 1);
  if (bad) throw new ShapeError(`meshgrid: ${show(bad.shape)} is no vector`);
  const axisOf = (i: number) => indexing === "xy" && i < 2 && vectors.length > 1 ? 1 - i : i;
  const shape: number[] = [];
  vectors.forEach(({ size }, i) => shape[axisOf(i)] = size);
  return vectors.map((vector, i) => {
    const alone = shape.map((size, axis) => axis === axisOf(i) ? size : 1);
    return composite(() => expand(reshape(vector, alone), shape));
  });
}
