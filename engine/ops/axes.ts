/**
 * Axes added, dropped, moved, turned round and repeated; all of it made of views and copies of
 * other files.
 *
 * @module
 */
import { needOptions, needTensorList, needTensors, needWhole, needWholes } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { composite } from "../scope.ts";
import { normalizeAxis, show, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { repeat, split } from "./assemble.ts";
import { bySpans, whole } from "./at.ts";
import { indexSelect } from "./indexing.ts";
import { concat, expand, permute, reshape } from "./view.ts";

/** Some axes by their indices, none of them twice. */
function axesOf(op: string, axes: number | readonly number[], rank: number): number[] {
  const list = typeof axes === "number" ? [axes] : axes;
  needWholes(op, "the axes", list);
  const indices = list.map((axis) => normalizeAxis(op, axis, rank));
  if (new Set(indices).size === indices.length) return indices;
  throw new ShapeError(`${op}: the axes [${list}] name one axis twice`);
}

/**
 * Drops axes of size 1, without a copy.
 *
 * @param axes default: all of that size
 * @throws {ShapeError} if one has another size, as in NumPy (PyTorch leaves it).
 */
export function squeeze(x: Tensor, axes?: number | readonly number[]): Tensor {
  needTensors("squeeze", { x });
  const { shape } = x;
  const dropped = axes === undefined
    ? [...shape.keys()].filter((axis) => shape[axis] === 1)
    : axesOf("squeeze", axes, shape.length);
  const wide = dropped.find((axis) => shape[axis] !== 1);
  if (wide !== undefined) {
    throw new ShapeError(`squeeze: axis ${wide} of ${show(shape)} has size ${shape[wide]}, not 1`);
  }
  return bySpans(x, shape.map((size, axis) => ({ ...whole(size), drop: dropped.includes(axis) })));
}

/**
 * Adds an axis of size 1, without a copy.
 *
 * @param axis where it stands in the result; negative from the end
 * @throws {ShapeError} if the result has no such axis.
 */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  needTensors("unsqueeze", { x });
  const entries: Parameters<typeof bySpans>[1][number][] = x.shape.map(whole);
  entries.splice(normalizeAxis("unsqueeze", axis, x.shape.length + 1), 0, null);
  return bySpans(x, entries);
}

/**
 * Makes one axis of some neighbouring ones, of all by default; a view where `x` is dense.
 *
 * @param first first axis
 * @param last last axis
 * @throws {ShapeError} if `last` comes before `first`.
 */
export function flatten(x: Tensor, first = 0, last = -1): Tensor {
  needTensors("flatten", { x });
  const { shape } = x;
  if (shape.length === 0) return reshape(x, [1]);
  const [from, to] = [first, last].map((axis) => normalizeAxis("flatten", axis, shape.length));
  if (to < from) {
    throw new ShapeError(`flatten: axis ${last} of ${show(shape)} comes before axis ${first}`);
  }
  const size = sizeOf(shape.slice(from, to + 1));
  return reshape(x, [...shape.slice(0, from), size, ...shape.slice(to + 1)]);
}

/** Swaps two axes, without a copy; see {@link permute}. */
export function swapaxes(x: Tensor, a: number, b: number): Tensor {
  needTensors("swapaxes", { x });
  const order = [...x.shape.keys()];
  const [i, j] = [a, b].map((axis) => normalizeAxis("swapaxes", axis, order.length));
  [order[i], order[j]] = [j, i];
  return permute(x, order);
}

/**
 * Moves axes to other places, without a copy; the others keep their order.
 *
 * @throws {ShapeError} if there are not as many places as axes.
 */
export function moveaxis(
  x: Tensor,
  from: number | readonly number[],
  to: number | readonly number[],
): Tensor {
  needTensors("moveaxis", { x });
  const rank = x.shape.length;
  const [sources, places] = [from, to].map((axes) => axesOf("moveaxis", axes, rank));
  if (sources.length !== places.length) {
    throw new ShapeError(`moveaxis: the axes [${from}] and the places [${to}] differ in number`);
  }
  const rest = [...x.shape.keys()].filter((axis) => !sources.includes(axis));
  const order = Array.from({ length: rank }, (_, place) => {
    const moved = places.indexOf(place);
    return moved === -1 ? rest.shift()! : sources[moved];
  });
  return permute(x, order);
}

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
