/**
 * Order along an axis: argmax and argmin; along the last one: argsort and topk.
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
import { normalizeAxis, type Shape, show, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { spreadPicks } from "./indexing.ts";
import { fill, materialize } from "../launch/copy.ts";
import { alignedWindow, windowLimit } from "../launch/reduce.ts";
import { sortRows } from "../launch/sort_rows.ts";
import { rowsAndWidth } from "../launch/rows.ts";

const kernel = defineKernel("argmax", source, {
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

const argmaxOp = defineArg("argmax");
const argminOp = defineArg("argmin");

/** Options of {@link argmax} and {@link argmin}. */
export interface ArgOptions {
  /** Axis to look along, negative from the end; default the last. */
  readonly axis?: number;
  /** Keep that axis with size 1; default false. */
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
  const { axis = -1, keepDims = false } = options;
  const index = normalizeAxis(name, axis, x.shape.length);
  if (x.shape[index] === 0) {
    throw new ShapeError(`${name}: ${show(x.shape)} has no elements along axis ${axis}`);
  }
  return op.apply([x], { axis: index, keepDims })[0];
}

function needRow(name: string, x: Tensor): number {
  needTensors(name, { x });
  const width = x.shape[x.shape.length - 1];
  if (width === undefined) throw new ShapeError(`${name}: ${show(x.shape)} has no last axis`);
  return width;
}

/**
 * Index of the largest element along an axis, the lowest among equals, or of the first NaN; u32,
 * without a gradient.
 *
 * @param x of any dtype
 * @returns the shape of `x` without the axis, or with size 1 in its place (`keepDims`)
 * @throws {ShapeError} if the axis does not exist or is empty.
 */
export function argmax(x: Tensor, options: ArgOptions = {}): Tensor {
  return arg("argmax", argmaxOp, x, options);
}

/** Index of the smallest element along an axis, or of the first NaN; see {@link argmax}. */
export function argmin(x: Tensor, options: ArgOptions = {}): Tensor {
  return arg("argmin", argminOp, x, options);
}

interface OrderAttrs {
  readonly descending: boolean;
}

const argsortOp = defineOp<OrderAttrs>({
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

/** Options of {@link argsort}. */
export interface SortOptions {
  /** Largest first; equal values still stand in order of position. Default false. */
  readonly descending?: boolean;
}

/**
 * Indices that sort the last axis, stable, NaN above infinity; u32, without a gradient. Costs n
 * log^2 n comparisons per row.
 *
 * @param x `[..., n]` of any dtype
 * @returns `[..., n]`
 * @throws {ShapeError} if there is no last axis.
 */
export function argsort(x: Tensor, options: SortOptions = {}): Tensor {
  needRow("argsort", x);
  needOptions("argsort", options, ["descending"]);
  const { descending = false } = options;
  return argsortOp.apply([x], { descending })[0];
}

const topkOp = defineOp<{ readonly k: number }>({
  name: "topk",
  dtypes: "any",
  half: true,
  auxiliary: [1],
  forward([x], { k }, save) {
    const { values, indices } = sortRows(x, k, true);
    save(indices);
    return [values, indices];
  },
  backward: (
    { grads: [dy], saved: [indices], shapes: [shape] },
  ) => [spreadPicks(dy!, indices, shape)],
  reference: {
    forward([x], { k }) {
      const { width } = rowsAndWidth(x.shape);
      const shape = [...x.shape.slice(0, -1), k];
      const flat = refOrder(x, true).flatMap((row) => row.slice(0, k));
      return [
        refFrom(shape, (i) => x.data[Math.floor(i / k) * width + flat[i]]),
        refFrom(shape, (i) => flat[i]),
      ];
    },
    backward([x], { k }, [dy]) {
      const { width } = rowsAndWidth(x.shape);
      const dx = refZeros(x.shape);
      refOrder(x, true).forEach((row, r) =>
        row.slice(0, k).forEach((at, j) => dx.data[r * width + at] = dy.data[r * k + j])
      );
      return [dx];
    },
  },
});

/**
 * The `k` largest elements along the last axis, largest first, equal ones in order of position, NaN
 * above infinity. With `k = n` it sorts.
 *
 * @param x `[..., n]`
 * @returns `values` and u32 `indices`, each `[..., k]`; the gradient of the values flows to where
 * they stood
 * @throws {ShapeError} if the last axis has fewer than `k` elements.
 */
export function topk(x: Tensor, k: number): { values: Tensor; indices: Tensor } {
  const width = needRow("topk", x);
  needWhole("topk", `the count of ${width} elements`, k, 0, width);
  const [values, indices] = topkOp.apply([x], { k });
  return { values, indices };
}
