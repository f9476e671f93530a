/**
 * Margins around a tensor.
 *
 * @module
 */
import { kindOf, needFitting, needTensors } from "../arguments.ts";
import padSource from "../../kernels/pad.wgsl" with { type: "text" };
import { BYTES_PER_ELEMENT } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp } from "../op.ts";
import { refZeros } from "../reference.ts";
import { denseStrides, type Shape, show, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { accumulate, denseCopy, fill, materialize, partOf, writePart } from "../launch/copy.ts";
import { reduceInto } from "./reduce.ts";
import { alignedRows, rowChunks, rowsOf } from "../launch/elementwise.ts";

const padKernel = /* @__PURE__ */ defineKernel("pad", padSource);
const WORKGROUP = 64;

/** How {@link pad} fills the margins with values of the tensor itself. */
export type PadMode = "reflect" | "replicate" | "circular";

interface PadAttrs {
  /** Elements before and after, per axis. */
  readonly widths: readonly (readonly [number, number])[];
  /** One value, or how values of the tensor are repeated. */
  readonly fill: number | PadMode;
}

const PAD_MODES: Readonly<Record<PadMode, number>> = { reflect: 0, replicate: 1, circular: 2 };

const paddedShape = (shape: Shape, widths: PadAttrs["widths"]): number[] =>
  shape.map((size, axis) => widths[axis][0] + size + widths[axis][1]);
const firsts = (widths: PadAttrs["widths"]): number[] => widths.map(([before]) => before);

/**
 * One axis of a dense tensor: padded, or (`adjoint`) the gradient of the padded one folded back.
 */
function padAxis(
  x: Tensor,
  axis: number,
  [before, after]: readonly [number, number],
  mode: PadMode,
  adjoint: boolean,
): Tensor {
  const { device, shape, dtype } = x;
  const [size, total] = adjoint
    ? [shape[axis] - before - after, shape[axis]]
    : [shape[axis], before + shape[axis] + after];
  const target = adjoint ? size : total;
  const y = device.empty(shape.map((s, i) => i === axis ? target : s), dtype);
  if (y.size === 0) return y;
  const inner = sizeOf(shape.slice(axis + 1));
  const [from, to] = [shape[axis] * inner, target * inner];
  const outer = sizeOf(shape.slice(0, axis));
  const most = device.bindingLimit / BYTES_PER_ELEMENT / Math.max(from, to);
  const together = (width: number) => alignedRows(device, width, BYTES_PER_ELEMENT);
  if (outer > Math.max(1, most) && Math.max(together(from), together(to)) > most) {
    // No two rows begin aligned within a binding: each is copied to where it does.
    const rest = shape.slice(axis);
    for (let i = 0; i < outer; i++) {
      const row = denseCopy(x.view([1, ...rest], denseStrides([1, ...rest]), x.offset + i * from));
      const padded = padAxis(row, 1, [before, after], mode, adjoint);
      const place = y.view(padded.shape, denseStrides(padded.shape), y.offset + i * to);
      accumulate(place, padded, false);
      [row, padded, place].forEach((it) => it.dispose());
    }
    return y;
  }
  for (const [first, count] of rowChunks(device, outer, [from, to])) {
    device.run(
      padKernel,
      { WG: WORKGROUP, E: dtype, MODE: PAD_MODES[mode], ADJOINT: adjoint },
      [rowsOf(x, first, count, from), rowsOf(y, first, count, to)],
      { count: count * to, size, before, total, inner },
      Math.ceil(count * to / WORKGROUP),
    );
  }
  return y;
}

/**
 * The gradient of an axis padded by its ends folded back: each end gets the sum of its margin and
 * itself.
 */
function foldEnds(
  dy: Tensor,
  axis: number,
  [before, after]: readonly [number, number],
): Tensor {
  const { device, shape, dtype } = dy;
  const size = shape[axis] - before - after;
  const sized = (length: number) => shape.map((s, i) => i === axis ? length : s);
  const at = (place: number) => shape.map((_, i) => i === axis ? place : 0);
  const dx = device.empty(sized(size), dtype);
  if (dx.size === 0) return dx;
  if (size > 1) writePart(dx, at(0), partOf(dy, at(before), sized(size)));
  /** Sums `length` places from `first` on into place `to`. */
  const fold = (first: number, length: number, to: number) => {
    const part = materialize(partOf(dy, at(first), sized(length)));
    const sums = device.empty(sized(1), dtype);
    const outer = sizeOf(shape.slice(0, axis));
    reduceInto(sums, part, { outer, reduce: length, inner: sizeOf(shape.slice(axis + 1)) });
    writePart(dx, at(to), sums);
  };
  if (size === 1) {
    fold(0, before + 1 + after, 0);
  } else {
    if (before > 0) fold(0, before + 1, 0);
    if (after > 0) fold(before + size - 1, after + 1, size - 1);
  }
  return dx;
}

/** The padded element that place `j` of an axis repeats; undefined where it is a constant. */
function refPadded(
  j: number,
  size: number,
  before: number,
  fill: PadAttrs["fill"],
): number | undefined {
  const p = j - before;
  if (p >= 0 && p < size) return p;
  if (fill === "replicate") return p < 0 ? 0 : size - 1;
  if (fill === "circular") return (p + size) % size;
  if (fill === "reflect") return p < 0 ? -p : 2 * (size - 1) - p;
  return undefined;
}

/** Visits every element of a padded array: (index in it, index in x or undefined). */
function refPadVisit(
  shape: Shape,
  { widths, fill }: PadAttrs,
  visit: (to: number, from: number | undefined) => void,
): void {
  const whole = paddedShape(shape, widths);
  const [steps, strides] = [denseStrides(whole), denseStrides(shape)];
  for (let to = 0; to < sizeOf(whole); to++) {
    let from: number | undefined = 0;
    for (let axis = 0; axis < shape.length && from !== undefined; axis++) {
      const j = Math.floor(to / steps[axis]) % whole[axis];
      const k = refPadded(j, shape[axis], widths[axis][0], fill);
      from = k === undefined ? undefined : from + k * strides[axis];
    }
    visit(to, from);
  }
}

const padOp = /* @__PURE__ */ defineOp<PadAttrs>({
  name: "pad",
  dtypes: "same",
  half: true,
  strided: true,
  forward([x], { widths, fill: value }) {
    if (typeof value === "number") {
      const y = x.device.empty(paddedShape(x.shape, widths), x.dtype);
      fill(y, value);
      writePart(y, firsts(widths), x);
      return [y];
    }
    let y = x;
    widths.forEach((sides, axis) => {
      if (sides[0] + sides[1] > 0) y = padAxis(materialize(y), axis, sides, value, false);
    });
    return [y === x ? x.view(x.shape, x.strides) : y];
  },
  backward({ grads: [dy], shapes: [shape] }, { widths, fill: value }) {
    if (typeof value === "number") return [partOf(dy!, firsts(widths), shape)];
    let dx = dy!;
    widths.forEach((sides, axis) => {
      if (sides[0] + sides[1] === 0) return;
      dx = value === "replicate"
        ? foldEnds(dx, axis, sides)
        : padAxis(materialize(dx), axis, sides, value, true);
    });
    return [dx];
  },
  reference: {
    forward([x], attrs) {
      const y = refZeros(paddedShape(x.shape, attrs.widths));
      refPadVisit(
        x.shape,
        attrs,
        (to, from) => y.data[to] = from === undefined ? attrs.fill as number : x.data[from],
      );
      return [y];
    },
    backward([x], attrs, [dy]) {
      const dx = refZeros(x.shape);
      refPadVisit(x.shape, attrs, (to, from) => {
        if (from !== undefined) dx.data[from] += dy.data[to];
      });
      return [dx];
    },
  },
});

/**
 * Surrounds a tensor with margins: of one value, or of its own values.
 *
 * - `"reflect"` mirrors at the first and last element, which are not repeated (d c b | a b c d | c
 *   b a);
 * - `"replicate"` repeats them (a a a | a b c d | d d d);
 * - `"circular"` goes round (b c d | a b c d | a b c).
 *
 * @param widths elements `[before, after]` for each axis; below the axis' size to reflect, up to it
 * to go round
 * @param filling a number, default 0, or how values are repeated
 * @throws {ShapeError} if there is not one non-negative pair per axis, or a margin is wider than
 * the axis allows.
 */
export function pad(
  x: Tensor,
  widths: readonly (readonly [number, number])[],
  filling: number | PadMode = 0,
): Tensor {
  needTensors("pad", { x });
  const isPair = (it: unknown) =>
    Array.isArray(it) && it.length === 2 && it.every((w) => Number.isInteger(w) && w >= 0);
  if (!Array.isArray(widths) || widths.length !== x.shape.length || !widths.every(isPair)) {
    throw new ShapeError(
      `pad: ${show(x.shape)} needs ${x.shape.length} pairs of whole numbers from 0, not ${
        JSON.stringify(widths)
      }`,
    );
  }
  if (typeof filling === "number") needFitting("pad", filling, x.dtype);
  else if (!Object.hasOwn(PAD_MODES, filling)) {
    throw new ShapeError(
      `pad: ${kindOf(filling)} is given; a number, ${Object.keys(PAD_MODES).join(", ")} are known`,
    );
  }
  widths.forEach((sides, axis) => {
    const size = x.shape[axis];
    const most = typeof filling === "number" || filling === "replicate" && size > 0
      ? Infinity
      : Math.max(0, filling === "reflect" ? size - 1 : size);
    if (Math.max(...sides) > most) {
      throw new ShapeError(
        `pad: ${filling} margins of axis ${axis} of ${show(x.shape)} can be ${most} wide, not ${
          Math.max(...sides)
        }`,
      );
    }
  });
  return padOp.apply([x], { widths, fill: filling })[0];
}
