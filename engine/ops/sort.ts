/**
 * Order along an axis: argmax and argmin, sort, argsort and topk.
 *
 * @module
 */
import { needOptions, needTensors, needWhole } from "../arguments.ts";
import source from "../../kernels/argmax.wgsl" with { type: "text" };
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp, type Op, type RefArray } from "../op.ts";
import { refFrom, refZeros } from "../reference.ts";
import { composite } from "../scope.ts";
import { normalizeAxis, type Shape, show, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { reshape, swapaxes } from "./view.ts";
import { fill, materialize } from "../launch/copy.ts";
import { alignedWindow, windowLimit } from "../launch/reduce.ts";
import { sortRows, spreadRows } from "../launch/sort_rows.ts";
import { rowsAndWidth } from "../launch/rows.ts";

const kernel = /* @__PURE__ */ defineKernel("argmax", source, {
  rounds: ({ params: { block, width } }) =>
    Math.ceil(Math.min(block, width) / WORKGROUP) + WORKGROUP + 1,
});
const WORKGROUP = 64;
/** Elements of a row that one workgroup of argmax.wgsl looks through. */
const BLOCK = 4096;

/** a - b, NaN being above infinity. */
const refCompare = (a: number, b: number): number =>
  +Number.isNaN(a) - +Number.isNaN(b) || +(a > b) - +(a < b);

/** Indices that sort each row, by value and then by position. */
function refOrder(x: RefArray, descending: boolean): number[][] {
  const { rows, width } = rowsAndWidth(x.shape);
  return Array.from({ length: rows }, (_, r) => {
    const row = x.data.subarray(r * width, (r + 1) * width);
    return [...row.keys()].sort((a, b) =>
      (descending ? refCompare(row[b], row[a]) : refCompare(row[a], row[b])) || a - b
    );
  });
}

interface ArgAttrs {
  readonly axis: number;
  readonly keepDims: boolean;
}

const argShape = (shape: Shape, { axis, keepDims }: ArgAttrs): number[] =>
  shape.flatMap((size, i) => i !== axis ? [size] : keepDims ? [1] : []);

interface ArgExtent {
  readonly outer: number;
  readonly width: number;
  readonly inner: number;
}

/** Index of the best element along the middle axis of dense `x` [outer, width, inner] into `y`. */
function bestOf(x: Tensor, y: Tensor, { outer, width, inner }: ArgExtent, minimum: boolean): void {
  const { device } = x;
  const limit = windowLimit(y);
  let [source, candidates]: (Tensor | undefined)[] = [x];
  for (let join = false;; join = true) {
    const block = Math.min(BLOCK, Math.floor(limit / inner));
    const parts = Math.ceil(width / block);
    const partial = parts > 1;
    const made = (partial ? [0, 1] : []).map(() => device.empty([outer, parts, inner], "u32"));
    const results = partial ? made : [y];
    const launch = (o: number, outers: number, b: number, blocks: number): void => {
      const read = Math.min(blocks * block, width - b * block);
      const count = outers * read * inner;
      if (count > limit && (outers > 1 || blocks > 1)) {
        const half = (n: number) => Math.ceil(n / 2);
        if (outers > 1) {
          launch(o, half(outers), b, blocks);
          launch(o + half(outers), outers - half(outers), b, blocks);
        } else {
          launch(o, 1, b, half(blocks));
          launch(o, 1, b + half(blocks), blocks - half(blocks));
        }
        return;
      }
      const [from, ...others] = [source!, ...candidates ? [candidates] : []].map((it) =>
        alignedWindow(it, (o * width + b * block) * inner, count)
      );
      const to = results.map((it) =>
        alignedWindow(it, (o * parts + b) * inner, outers * blocks * inner)
      );
      device.run(
        kernel,
        {
          WG: WORKGROUP,
          E: source!.dtype,
          FLOAT: isFloat(source!.dtype),
          SIGNED: source!.dtype === "i32",
          MIN: minimum,
          JOIN: join,
          PARTIAL: partial,
        },
        [from, ...to, ...others].map(({ operand }) => operand),
        {
          rows: outers * inner,
          parts: blocks,
          block,
          width: read,
          inner,
          start: b * block,
          offset_source: from.before,
          offset_result: to[0].before,
        },
        outers * inner * blocks,
      );
    };
    launch(0, outer, 0, parts);
    if (join) [source!, candidates!].forEach((it) => it.dispose());
    if (!partial) return;
    [candidates, source] = made;
    width = parts;
  }
}

function defineArg(name: "argmax" | "argmin"): Op<ArgAttrs> {
  const minimum = name === "argmin";
  return defineOp<ArgAttrs>({
    name,
    dtypes: "any",
    half: true,
    auxiliary: [0],
    forward([x], attrs) {
      const { shape } = x;
      const y = x.device.empty(argShape(shape, attrs), "u32");
      const [outer, inner] = [shape.slice(0, attrs.axis), shape.slice(attrs.axis + 1)].map(sizeOf);
      const width = shape[attrs.axis];
      if (width === 1) fill(y, 0);
      else if (y.size > 0 && 2 * inner > windowLimit(y)) {
        // No two slices fit a binding: the axis goes last, in a copy.
        const row = x.view([outer, width, inner]);
        const { strides: [o, w, i] } = row;
        const copy = materialize(row.view([outer, inner, width], [o, i, w]));
        bestOf(copy, y, { outer: outer * inner, width, inner: 1 }, minimum);
      } else if (y.size > 0) bestOf(x, y, { outer, width, inner }, minimum);
      return [y];
    },
    reference: {
      forward([x], attrs) {
        const { axis } = attrs;
        const inner = sizeOf(x.shape.slice(axis + 1));
        const better = (a: number, b: number) =>
          minimum && !Number.isNaN(a) && !Number.isNaN(b) ? a < b : refCompare(a, b) > 0;
        return [refFrom(argShape(x.shape, attrs), (r) => {
          const base = Math.floor(r / inner) * x.shape[axis] * inner + r % inner;
          let best = 0;
          for (let k = 1; k < x.shape[axis]; k++) {
            if (better(x.data[base + k * inner], x.data[base + best * inner])) best = k;
          }
          return best;
        })];
      },
    },
  });
}

const argmaxOp = /* @__PURE__ */ defineArg("argmax");
const argminOp = /* @__PURE__ */ defineArg("argmin");

/** Options of {@link argmax} and {@link argmin}. */
export interface ArgOptions {
  /** Axis to look along, negative from the end; default all elements in row-major order. */
  readonly axis?: number;
  /** Keep what is looked along with size 1; default false. */
  readonly keepDims?: boolean;
}

function arg(
  name: string,
  op: Op<ArgAttrs>,
  x: Tensor,
  options: ArgOptions,
): Tensor {
  needTensors(name, { x });
  needOptions(name, options, ["axis", "keepDims"]);
  const { axis, keepDims = false } = options;
  if (axis !== undefined) {
    const index = normalizeAxis(name, axis, x.shape.length);
    if (x.shape[index] === 0) {
      throw new ShapeError(`${name}: ${show(x.shape)} has no elements along axis ${axis}`);
    }
    return op.apply([x], { axis: index, keepDims })[0];
  }
  if (x.size === 0) throw new ShapeError(`${name}: ${show(x.shape)} has no elements`);
  return composite(() => {
    const [y] = op.apply([reshape(x, [-1])], { axis: 0, keepDims: false });
    return reshape(y, keepDims ? x.shape.map(() => 1) : []);
  });
}

/**
 * Index of the largest element along an axis or of all, the lowest among equals, or of the first
 * NaN; u32, without a gradient.
 *
 * @param x of any dtype
 * @returns the shape of `x` without the axis, or with size 1 in its place (`keepDims`)
 * @throws {ShapeError} if the axis does not exist or there are no elements along it.
 */
export function argmax(x: Tensor, options: ArgOptions = {}): Tensor {
  return arg("argmax", argmaxOp, x, options);
}

/** Index of the smallest element, or of the first NaN; see {@link argmax}. */
export function argmin(x: Tensor, options: ArgOptions = {}): Tensor {
  return arg("argmin", argminOp, x, options);
}

/** Applies a function of the last axis to another one. */
function along(x: Tensor, axis: number, apply: (x: Tensor) => readonly Tensor[]): Tensor[] {
  const last = x.shape.length - 1;
  if (axis === last) return [...apply(x)];
  return composite(() => apply(swapaxes(x, axis, last)).map((y) => swapaxes(y, axis, last)));
}

interface OrderAttrs {
  readonly descending: boolean;
}

const argsortOp = /* @__PURE__ */ defineOp<OrderAttrs>({
  name: "argsort",
  dtypes: "any",
  half: true,
  auxiliary: [0],
  forward([x], { descending }) {
    const { values, indices } = sortRows(x, x.shape[x.shape.length - 1], descending);
    values.dispose();
    return [indices];
  },
  reference: {
    forward: ([x], { descending }) => {
      const flat = refOrder(x, descending).flat();
      return [refFrom(x.shape, (i) => flat[i])];
    },
  },
});

/** Options of {@link sort} and {@link argsort}. */
export interface SortOptions {
  /** Axis to sort along, negative from the end; default the last. */
  readonly axis?: number;
  /** Largest first; equal values still stand in order of position. Default false. */
  readonly descending?: boolean;
}

/**
 * Indices that sort along an axis, stable, NaN above infinity (so last, or first with
 * `descending`); u32, without a gradient. Costs n log n comparisons per row.
 *
 * @param x of any dtype
 * @returns the shape of `x`
 * @throws {ShapeError} if the axis does not exist.
 */
export function argsort(x: Tensor, options: SortOptions = {}): Tensor {
  needTensors("argsort", { x });
  needOptions("argsort", options, ["axis", "descending"]);
  const { axis = -1, descending = false } = options;
  const index = normalizeAxis("argsort", axis, x.shape.length);
  return along(x, index, (rows) => argsortOp.apply([rows], { descending }))[0];
}

interface TopkAttrs extends OrderAttrs {
  readonly k: number;
}

const topkOp = /* @__PURE__ */ defineOp<TopkAttrs>({
  name: "topk",
  dtypes: "any",
  half: true,
  auxiliary: [1],
  forward([x], { k, descending }, save) {
    const { values, indices } = sortRows(x, k, descending);
    save(indices);
    return [values, indices];
  },
  backward: (
    { grads: [dy], saved: [indices], shapes: [shape] },
  ) => [spreadRows(dy!, indices, shape)],
  reference: {
    forward([x], { k, descending }) {
      const { width } = rowsAndWidth(x.shape);
      const shape = [...x.shape.slice(0, -1), k];
      const flat = refOrder(x, descending).flatMap((row) => row.slice(0, k));
      return [
        refFrom(shape, (i) => x.data[Math.floor(i / k) * width + flat[i]]),
        refFrom(shape, (i) => flat[i]),
      ];
    },
    backward([x], { k, descending }, [dy]) {
      const { width } = rowsAndWidth(x.shape);
      const dx = refZeros(x.shape);
      refOrder(x, descending).forEach((row, r) =>
        row.slice(0, k).forEach((at, j) => dx.data[r * width + at] = dy.data[r * k + j])
      );
      return [dx];
    },
  },
});

/** Elements in order, and where they stood. */
export interface Sorted {
  /** Elements, whose gradient flows to where they stood. */
  readonly values: Tensor;
  /** Their indices along the axis, u32. */
  readonly indices: Tensor;
}

/**
 * Elements in order along an axis; see {@link argsort}.
 *
 * @throws {ShapeError} if the axis does not exist.
 */
export function sort(x: Tensor, options: SortOptions = {}): Sorted {
  needTensors("sort", { x });
  needOptions("sort", options, ["axis", "descending"]);
  const { axis = -1, descending = false } = options;
  const index = normalizeAxis("sort", axis, x.shape.length);
  const [values, indices] = along(
    x,
    index,
    (rows) => topkOp.apply([rows], { k: x.shape[index], descending }),
  );
  return { values, indices };
}

/** Options of {@link topk}. */
export interface TopkOptions {
  /** Axis to look along, negative from the end; default the last. */
  readonly axis?: number;
  /** The largest, largest first; false: the smallest, smallest first. Default true. */
  readonly largest?: boolean;
}

/**
 * The `k` largest elements along an axis, largest first, equal ones in order of position, NaN above
 * infinity. Costs 32 comparisons per element while `k` is small, n log n in all at most.
 *
 * @returns `values` and `indices`, of the shape of `x` with `k` in place of the axis
 * @throws {ShapeError} if the axis does not exist or has fewer than `k` elements.
 */
export function topk(x: Tensor, k: number, options: TopkOptions = {}): Sorted {
  needTensors("topk", { x });
  needOptions("topk", options, ["axis", "largest"]);
  const { axis = -1, largest = true } = options;
  const index = normalizeAxis("topk", axis, x.shape.length);
  needWhole("topk", `the count of ${x.shape[index]} elements`, k, 0, x.shape[index]);
  const [values, indices] = along(
    x,
    index,
    (rows) => topkOp.apply([rows], { k, descending: largest }),
  );
  return { values, indices };
}
