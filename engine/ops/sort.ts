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
import type { TensorWindow } from "../device.ts";
import type { Tensor } from "../tensor.ts";
import { spreadPicks } from "./indexing.ts";
import { rowChunks, rowsOf } from "../launch/elementwise.ts";
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

function defineArg(name: "argmax" | "argmin"): Op<ArgAttrs> {
  const minimum = name === "argmin";
  return defineOp<ArgAttrs>({
    name,
    dtypes: "any",
    half: true,
    auxiliary: [0],
    forward([x], attrs) {
      const { device, shape } = x;
      const y = device.empty(argShape(shape, attrs), "u32");
      if (y.size === 0) return [y];
      const width = shape[attrs.axis];
      const inner = sizeOf(shape.slice(attrs.axis + 1));
      const outer = sizeOf(shape.slice(0, attrs.axis));
      const parts = Math.ceil(width / BLOCK);
      const partial = parts > 1 ? device.empty([outer * inner, parts], "u32") : undefined;
      const chunks = rowChunks(device, outer, [width * inner, inner * parts, inner], x.itemSize);
      for (const [first, count] of chunks) {
        const rows = count * inner;
        const source = rowsOf(x, first, count, width * inner);
        const result = rowsOf(y, first, count, inner);
        const candidates = partial ? [rowsOf(partial, first, count, inner * parts)] : [];
        const pass = (operands: readonly TensorWindow[], parts: number, block: number) =>
          device.run(
            kernel,
            {
              WG: WORKGROUP,
              E: x.dtype,
              FLOAT: isFloat(x.dtype),
              SIGNED: x.dtype === "i32",
              MIN: minimum,
              JOIN: operands.length > 2,
            },
            operands,
            { rows, parts, block, width, inner },
            rows * parts,
          );
        pass([source, candidates[0] ?? result], parts, BLOCK);
        if (partial) pass([source, result, ...candidates], 1, parts);
      }
      partial?.dispose();
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
