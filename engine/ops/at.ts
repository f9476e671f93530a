/**
 * Basic indexing as NumPy has it: `at(x, "1:-1:2", "...", 0, null)` is `x[1:-1:2, ..., 0, None]`.
 *
 * @module
 */
import { kindOf, needTensors } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { type Window, windowOf } from "../launch/copy.ts";
import { elementwise } from "../launch/elementwise.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refFrom, refZeros } from "../reference.ts";
import { denseStrides, type Shape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";

/** `start:stop` or `start:stop:step` with Python's meaning; what is left out is the axis' end. */
export type Slice =
  | `${number | ""}:${number | ""}`
  | `${number | ""}:${number | ""}:${number | ""}`;

/**
 * What is taken of an axis: one place, which drops the axis, or a slice; `"..."` stands for all
 * axes that are not named, `null` makes a new axis of size 1.
 */
export type Index = number | Slice | "..." | null;

/** What is read of an axis: `length` places from `start`, `step` apart. */
export interface Span {
  readonly start: number;
  readonly step: number;
  readonly length: number;
  /** Whether the axis goes; `length` is 1 then. */
  readonly drop: boolean;
}

/** All of an axis. */
export const whole = (size: number): Span => ({ start: 0, step: 1, length: size, drop: false });

interface AtAttrs {
  /** One span per axis of the operand, and null where the result has a new axis between. */
  readonly entries: readonly (Span | null)[];
}

/** The part of a window that entries name. */
function partOf(x: Window, { entries }: AtAttrs): Window {
  const [shape, strides]: number[][] = [[], []];
  let [axis, offset] = [0, x.offset];
  for (const entry of entries) {
    const stride = entry ? x.strides[axis++] : 1;
    offset += entry ? entry.start * stride : 0;
    if (entry?.drop) continue;
    shape.push(entry?.length ?? 1);
    strides.push(stride * (entry?.step ?? 1));
  }
  return { shape, strides, offset };
}

const spansOf = ({ entries }: AtAttrs): Span[] => entries.filter((it) => it !== null);

/** The window of the operand within a result that holds all of it, in order. */
function inverseOf(y: Window, { entries }: AtAttrs): Window {
  const [shape, strides]: number[][] = [[], []];
  let axis = 0;
  for (const entry of entries) {
    const stride = entry?.drop ? 1 : y.strides[axis++];
    if (!entry) continue;
    shape.push(entry.length);
    strides.push(stride);
  }
  return { shape, strides, offset: y.offset };
}

/** Visits every element of the result: (index in it, in the operand). */
function refVisit(shape: Shape, attrs: AtAttrs, visit: (to: number, from: number) => void): void {
  const part = partOf({ shape, strides: denseStrides(shape), offset: 0 }, attrs);
  const steps = denseStrides(part.shape);
  refZeros(part.shape).data.forEach((_, i) =>
    visit(
      i,
      part.shape.reduce(
        (at, size, axis) => at + Math.floor(i / steps[axis]) % size * part.strides[axis],
        part.offset,
      ),
    )
  );
}

const atOp = /* @__PURE__ */ defineOp<AtAttrs>({
  name: "at",
  dtypes: "same",
  half: true,
  strided: true,
  forward([x], attrs) {
    const part = partOf(x, attrs);
    if (spansOf(attrs).every(({ step }) => step > 0)) {
      return [x.view(part.shape, part.strides, part.offset)];
    }
    const y = x.device.empty(part.shape, x.dtype);
    elementwise(y, [windowOf(x, part)], { expression: "a" });
    return [y];
  },
  backward({ grads: [dy], shapes: [shape] }, attrs) {
    const spans = spansOf(attrs);
    const all = spans.every(({ length }, axis) => length === shape[axis]);
    if (all && spans.every(({ step }) => step === 1)) {
      const back = inverseOf(dy!, attrs);
      return [dy!.view(back.shape, back.strides, back.offset)];
    }
    const dx = all ? dy!.device.empty(shape, dy!.dtype) : dy!.device.zeros(shape, dy!.dtype);
    elementwise(windowOf(dx, partOf(dx, attrs)), [dy!], { expression: "a" });
    return [dx];
  },
  reference: {
    forward([x], attrs): RefArray[] {
      const { shape } = partOf({ shape: x.shape, strides: x.shape, offset: 0 }, attrs);
      const y = refZeros(shape);
      refVisit(x.shape, attrs, (to, from) => y.data[to] = x.data[from]);
      return [y];
    },
    backward([x], attrs, [dy]) {
      const dx = refFrom(x.shape, () => 0);
      refVisit(x.shape, attrs, (to, from) => dx.data[from] = dy.data[to]);
      return [dx];
    },
  },
});

/** What spans, and null for new axes, name: a view, or a copy where a step is negative. */
export function bySpans(x: Tensor, entries: readonly (Span | null)[]): Tensor {
  return atOp.apply([x], { entries })[0];
}

/** Python's `slice.indices`. */
function spanOf(slice: string, axis: number, shape: Shape): Span {
  const size = shape[axis];
  const parts = /^([^:]*):([^:]*)(?::([^:]*))?$/.exec(slice)?.slice(1).map((it) => it?.trim());
  const numbers = parts?.map((it) => it ? Number(it) : undefined);
  if (!numbers || numbers.some((it) => it !== undefined && !Number.isInteger(it))) {
    throw new ShapeError(
      `at: ${kindOf(slice)} for axis ${axis} of ${show(shape)}; a whole number, "start:stop" or ` +
        `"start:stop:step" is needed`,
    );
  }
  const step = numbers[2] ?? 1;
  if (step === 0) throw new ShapeError(`at: the step of ${kindOf(slice)} is 0`);
  const [least, most] = step > 0 ? [0, size] : [-1, size - 1];
  const bound = (value: number | undefined, missing: number) =>
    value === undefined
      ? missing
      : Math.min(Math.max(value < 0 ? value + size : value, least), most);
  const start = bound(numbers[0], step > 0 ? least : most);
  const stop = bound(numbers[1], step > 0 ? most : least);
  const length = Math.max(0, Math.ceil((stop - start) / step));
  return { start: length > 0 ? start : 0, step: length > 0 ? step : 1, length, drop: false };
}

/**
 * The part of a tensor that indices name, as `x[…]` in NumPy and PyTorch: `at(x, -1)` is the last
 * row, `at(x, "...", "::2")` every other column, `at(x, "::-1")` the rows backwards. A view, but
 * that steps below 0 copy.
 *
 * @param indices one per axis from the first on; axes behind the last index are taken whole
 * @throws {ShapeError} if there are more indices than axes, or one is out of range or no index.
 */
export function at(x: Tensor, ...indices: Index[]): Tensor {
  needTensors("at", { x });
  const { shape } = x;
  const named = indices.filter((it) => it !== null && it !== "...").length;
  const dots = indices.filter((it) => it === "...").length;
  if (named > shape.length || dots > 1) {
    throw new ShapeError(
      `at: ${named} indices${dots > 1 ? ` and ${dots} times "..."` : ""} for ${show(shape)}; ` +
        `one per axis, and "..." once, are possible`,
    );
  }
  const given = dots > 0 ? indices : [...indices, "..." as const];
  let axis = 0;
  const entries = given.flatMap((index): (Span | null)[] => {
    if (index === null) return [null];
    if (index === "...") {
      const rest = shape.slice(axis, axis + shape.length - named);
      axis += rest.length;
      return rest.map(whole);
    }
    const size = shape[axis];
    if (typeof index === "string") return [spanOf(index, axis++, shape)];
    if (!Number.isInteger(index) || index < -size || index >= size) {
      throw new ShapeError(
        `at: ${kindOf(index)} for axis ${axis} of ${show(shape)}; ` +
          `a whole number from ${-size} below ${size} is needed`,
      );
    }
    axis++;
    return [{ start: index < 0 ? index + size : index, step: 1, length: 1, drop: true }];
  });
  return bySpans(x, entries);
}
