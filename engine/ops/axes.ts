/**
 * Axes added, dropped and joined: views, where `x` is dense.
 *
 * @module
 */
import { axesOf, needTensors } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { normalizeAxis, show, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { bySpans, whole } from "./at.ts";
import { reshape } from "./view.ts";

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
