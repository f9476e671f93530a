/**
 * Shapes, strides and broadcasting. Strides count elements; a stride of 0 repeats an axis.
 *
 * @module
 */
import { ShapeError } from "./errors.ts";

/** Sizes of the axes, outermost first; `[]` is a scalar. */
export type Shape = readonly number[];

/** @throws {ShapeError} if `shape` is no array of whole numbers from 0. */
export function needShape(op: string, shape: unknown): asserts shape is Shape {
  let good = Array.isArray(shape);
  // Every view comes through here.
  for (let i = 0; good && i < (shape as Shape).length; i++) {
    const size = (shape as Shape)[i];
    good = Number.isSafeInteger(size) && size >= 0;
  }
  if (good && Number.isSafeInteger(sizeOf(shape as Shape))) return;
  throw new ShapeError(
    `${op}: ${Array.isArray(shape) ? show(shape) : String(shape)} is no shape: an array of whole ` +
      "numbers from 0 is needed",
  );
}

/** Number of elements of a tensor of this shape. */
export function sizeOf(shape: Shape): number {
  let size = 1;
  for (let axis = 0; axis < shape.length; axis++) size *= shape[axis];
  return size;
}

/** Row-major strides of a dense tensor of this shape. */
export function denseStrides(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = step;
    step *= shape[axis];
  }
  return strides;
}

/** Whether elements lie in row-major order without gaps (axes of size 1 may have any stride). */
export function isDense(shape: Shape, strides: readonly number[]): boolean {
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== step) return false;
    step *= shape[axis];
  }
  return true;
}

/**
 * Whether no two elements lie in the same place. Strides that interleave axes without meeting count
 * as meeting.
 */
export function isDisjoint(shape: Shape, strides: readonly number[]): boolean {
  const axes = shape.map((size, axis) => [strides[axis], size]).filter(([, size]) => size !== 1)
    .sort(([a], [b]) => a - b);
  let reach = 0;
  return axes.every(([stride, size]) => {
    const free = stride > reach;
    reach += stride * (size - 1);
    return free;
  });
}

/** `[2, 3]` in the style of messages. */
export function show(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

/** Whether two shapes are the same. */
export function sameShape(a: Shape, b: Shape): boolean {
  if (a === b) return true;
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

/**
 * NumPy broadcasting of two shapes.
 *
 * @throws {ShapeError} if an axis differs and neither side is 1.
 */
export function broadcastShapes(op: string, a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  const result = new Array<number>(rank);
  for (let i = 1; i <= rank; i++) {
    const x = a[a.length - i] ?? 1;
    const y = b[b.length - i] ?? 1;
    if (x !== y && x !== 1 && y !== 1) {
      throw new ShapeError(
        `${op}: shapes ${show(a)} and ${show(b)} do not broadcast: axis -${i} is ${x} against ${y}`,
      );
    }
    result[rank - i] = x === 1 ? y : x;
  }
  return result;
}

/** Strides that read a tensor of `shape`/`strides` as if it had the broadcast shape `target`. */
export function broadcastStrides(
  shape: Shape,
  strides: readonly number[],
  target: Shape,
): number[] {
  const added = target.length - shape.length;
  return target.map((_, axis) =>
    axis < added || shape[axis - added] === 1 ? 0 : strides[axis - added]
  );
}

/**
 * Turns a possibly negative axis into an index.
 *
 * @throws {ShapeError} if the axis does not exist.
 */
export function normalizeAxis(op: string, axis: number, rank: number): number {
  const index = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || index < 0 || index >= rank) {
    throw new ShapeError(
      `${op}: axis ${String(axis)} does not exist in a tensor of rank ${rank}`,
    );
  }
  return index;
}

/**
 * Merges neighbouring axes that all operands step through with one stride, so that kernels see few
 * axes.
 *
 * @param shape common shape of the operands
 * @param operands strides of each operand over `shape`
 * @returns the merged shape and the operands' strides over it; at least one axis
 */
export function collapseAxes(
  shape: Shape,
  operands: readonly (readonly number[])[],
): { shape: number[]; strides: number[][] } {
  const merged: number[] = [];
  const strides: number[][] = operands.map(() => []);
  for (let axis = 0; axis < shape.length; axis++) {
    if (shape[axis] === 1) continue;
    const last = merged.length - 1;
    const joins = last >= 0 &&
      operands.every((operand, i) => strides[i][last] === operand[axis] * shape[axis]);
    if (joins) {
      merged[last] *= shape[axis];
      operands.forEach((operand, i) => strides[i][last] = operand[axis]);
    } else {
      merged.push(shape[axis]);
      operands.forEach((operand, i) => strides[i].push(operand[axis]));
    }
  }
  if (merged.length === 0) {
    merged.push(1);
    strides.forEach((operand) => operand.push(1));
  }
  return { shape: merged, strides };
}
