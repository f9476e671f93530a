/**
 * Order along the last axis: argmax, argmin, argsort and topk.
 *
 * @module
 */
import source from "../../kernels/argmax.wgsl" with { type: "text" };
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp, type Op, type RefArray, type Sample } from "../op.ts";
import { refFrom, refRandom, refZeros } from "../reference.ts";
import { type Shape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { spreadPicks } from "./indexing.ts";
import { rowChunks, rowsOf } from "./launch.ts";
import { sortRows } from "./rank.ts";
import { rowsAndWidth } from "./rows.ts";

const kernel = defineKernel("argmax", source);
const WORKGROUP = 64;

/** Indices that sort each row, by value and then by position. */
function refOrder(x: RefArray, descending: boolean): number[][] {
  const { rows, width } = rowsAndWidth(x.shape);
  return Array.from({ length: rows }, (_, r) => {
    const row = x.data.subarray(r * width, (r + 1) * width);
    return [...row.keys()].sort((a, b) =>
      (descending ? row[b] - row[a] : row[a] - row[b]) || a - b
    );
  });
}

/** Values with many ties. */
const coarse = (shape: Shape, seed: number): RefArray => {
  const { data } = refRandom(shape, seed);
  return refFrom(shape, (i) => Math.round(data[i] * 2) / 2);
};

function defineArg(name: "argmax" | "argmin"): Op<null> {
  const minimum = name === "argmin";
  return defineOp<null>({
    name,
    dtypes: "any",
    auxiliary: [0],
    forward([x]) {
      const { device } = x;
      const { rows, width } = rowsAndWidth(x.shape);
      const y = device.empty(x.shape.slice(0, -1), "u32");
      for (const [first, count] of rowChunks(device, rows, [width, 1])) {
        device.run(
          kernel,
          { WG: WORKGROUP, E: x.dtype, MIN: minimum },
          [rowsOf(x, first, count, width), rowsOf(y, first, count, 1)],
          { rows: count, width },
          count,
        );
      }
      return [y];
    },
    reference: {
      forward([x]) {
        const order = refOrder(x, !minimum);
        return [refFrom(x.shape.slice(0, -1), (r) => order[r][0])];
      },
    },
    samples: (): Sample<null>[] => [
      { label: "[1]", inputs: [refRandom([1], 1)], attrs: null },
      { label: "[3, 7]", inputs: [refRandom([3, 7], 2)], attrs: null },
      { label: "ties", inputs: [coarse([5, 64], 3)], attrs: null },
      { label: "[2, 3, 1037]", inputs: [refRandom([2, 3, 1037], 4)], attrs: null },
      { label: "all equal", inputs: [refZeros([2, 130])], attrs: null },
      {
        label: "u32",
        inputs: [refFrom([3, 5], (i) => (i * 7) % 11)],
        integer: { 0: "u32" },
        attrs: null,
      },
    ],
  });
}

const argmaxOp = defineArg("argmax");
const argminOp = defineArg("argmin");

function needRow(name: string, x: Tensor): number {
  const width = x.shape[x.shape.length - 1];
  if (width === undefined || width === 0) {
    throw new ShapeError(`${name}: ${show(x.shape)} has no elements along a last axis`);
  }
  return width;
}

/**
 * Index of the largest element along the last axis, the lowest among equals; u32, without a gradient. NaN may be
 * passed over.
 *
 * @param x `[..., n]`
 * @returns `[...]`
 * @throws {ShapeError} if there is no last axis or it is empty.
 */
export function argmax(x: Tensor): Tensor {
  needRow("argmax", x);
  return argmaxOp.apply([x], null)[0];
}

/** Index of the smallest element along the last axis; see {@link argmax}. */
export function argmin(x: Tensor): Tensor {
  needRow("argmin", x);
  return argminOp.apply([x], null)[0];
}

interface OrderAttrs {
  readonly descending: boolean;
}

const argsortOp = defineOp<OrderAttrs>({
  name: "argsort",
  dtypes: "any",
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
  samples: () => [
    { label: "[1]", inputs: [refRandom([1], 1)], attrs: { descending: false } },
    { label: "[3, 7]", inputs: [refRandom([3, 7], 2)], attrs: { descending: true } },
    { label: "ties", inputs: [coarse([5, 64], 3)], attrs: { descending: false } },
    { label: "ties, descending", inputs: [coarse([5, 61], 4)], attrs: { descending: true } },
    { label: "[2, 1037]", inputs: [refRandom([2, 1037], 5)], attrs: { descending: false } },
    {
      label: "i32",
      inputs: [refFrom([2, 9], (i) => (i * 7) % 11 - 5)],
      integer: { 0: "i32" },
      attrs: { descending: false },
    },
    {
      label: "extreme",
      inputs: [{ shape: [6], data: Float64Array.of(Infinity, -1e30, 0, -Infinity, -0, 1e-30) }],
      attrs: { descending: false },
    },
  ],
});

/** Options of {@link argsort}. */
export interface SortOptions {
  /** Largest first; equal values still stand in order of position. Default false. */
  readonly descending?: boolean;
}

/**
 * Indices that sort the last axis, stable; u32, without a gradient. Costs n comparisons per element: meant for rows of
 * up to a few thousand.
 *
 * @param x `[..., n]` of any dtype
 * @returns `[..., n]`
 * @throws {ShapeError} if there is no last axis or it is empty.
 */
export function argsort(x: Tensor, { descending = false }: SortOptions = {}): Tensor {
  needRow("argsort", x);
  return argsortOp.apply([x], { descending })[0];
}

const topkOp = defineOp<{ readonly k: number }>({
  name: "topk",
  dtypes: "any",
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
  samples: () => [
    { label: "[1]", inputs: [refRandom([1], 1)], attrs: { k: 1 } },
    { label: "3 of [3, 7]", inputs: [refRandom([3, 7], 2)], attrs: { k: 3 } },
    {
      label: "ties",
      inputs: [coarse([5, 64], 3)],
      attrs: { k: 5 },
      skipDifferences: true,
    },
    { label: "all of [2, 130]", inputs: [refRandom([2, 130], 4)], attrs: { k: 130 } },
    { label: "8 of [2, 2, 1037]", inputs: [refRandom([2, 2, 1037], 5)], attrs: { k: 8 } },
  ],
});

/**
 * The `k` largest elements along the last axis, largest first, equal ones in order of position. With `k = n` it sorts.
 *
 * @param x `[..., n]`; n up to a few thousand, see {@link argsort}
 * @returns `values` and u32 `indices`, each `[..., k]`; the gradient of the values flows to where they stood
 * @throws {ShapeError} if the last axis has fewer than `k` elements.
 */
export function topk(x: Tensor, k: number): { values: Tensor; indices: Tensor } {
  const width = needRow("topk", x);
  if (!Number.isInteger(k) || k < 1 || k > width) {
    throw new ShapeError(`topk: ${show(x.shape)} has no ${k} elements along its last axis`);
  }
  const [values, indices] = topkOp.apply([x], { k });
  return { values, indices };
}
