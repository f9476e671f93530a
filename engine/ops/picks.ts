/**
 * Elements and rows by index, and indices as vectors.
 *
 * @module
 */
import { needTensors, needWhole } from "../arguments.ts";
import source from "../../kernels/indexing.wgsl" with { type: "text" };
import { type DType, isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { rowChunks, rowsOf } from "../launch/elementwise.ts";
import { alignedWindow, windowLimit } from "../launch/reduce.ts";
import { rowsAndWidth } from "../launch/rows.ts";
import { defineOp } from "../op.ts";
import { refFrom } from "../reference.ts";
import { show, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";

const kernel = /* @__PURE__ */ defineKernel("indexing", source);
const WORKGROUP = 64;

/** Parameters of kernels/indexing.wgsl that a mode leaves alone. */
const NO_PARAMS = {
  ...{ size: 0, picks: 0, width: 0, first: 0, rows: 0, missing: 0 },
  ...{ offset_ids: 0, offset_result: 0, offset_source: 0 },
};

/** What an index that is out of range gives. */
const missingOf = (dtype: DType): number => isFloat(dtype) ? NaN : 0;

/** `[first, count]` of each part of `size`, of at most `most`. */
function pieces(size: number, most: number): [number, number][] {
  return Array.from({ length: Math.ceil(size / most) }, (_, i) => {
    return [i * most, Math.min(most, size - i * most)];
  });
}

/**
 * `y[r, j] = x[r, ids[r, j]]` for dense `x` [..., n] and u32 `ids` [..., m]; NaN where an index is
 * not below n. Records nothing.
 */
export function pickRows(x: Tensor, ids: Tensor): Tensor {
  const { device } = x;
  const y = device.empty(ids.shape, x.dtype);
  const { rows, width } = rowsAndWidth(x.shape);
  const picks = ids.shape[ids.shape.length - 1];
  const limit = windowLimit(ids);
  // As many rows at a time as fit, or one in pieces.
  const together = Math.max(1, Math.floor(limit / Math.max(width, picks)));
  for (const [row, count] of pieces(rows, together)) {
    for (const [pick, some] of pieces(picks, limit)) {
      const [from, to] = [ids, y].map((t) => alignedWindow(t, row * picks + pick, count * some));
      for (const [first, size] of width > limit ? pieces(width, limit) : [[0, width]]) {
        const source = alignedWindow(x, row * width + first, count * size);
        device.run(
          kernel,
          { WG: WORKGROUP, W: 1, MODE: 1, E: x.dtype },
          [from, to, source].map(({ operand }) => operand),
          {
            ...{ ...NO_PARAMS, count: count * some, picks: some, size, first, rows: width },
            missing: missingOf(x.dtype),
            ...{ offset_ids: from.before, offset_result: to.before, offset_source: source.before },
          },
          Math.ceil(count * some / WORKGROUP),
        );
      }
    }
  }
  return y;
}

/**
 * Rows of a dense `[rows, ...]` table, for dense u32 `ids`: `[...ids, ...]`, NaN where an index is
 * not below `rows`. Records nothing.
 */
export function rowsById(table: Tensor, ids: Tensor): Tensor {
  const { device } = table;
  const [rows, ...rest] = table.shape;
  const width = sizeOf(rest);
  const vector = width % 4 === 0 ? 4 : 1;
  const y = device.empty([...ids.shape, ...rest], table.dtype);
  if (y.size === 0) return y;
  for (const [firstId, picks] of rowChunks(device, ids.size, [width, 1])) {
    for (const [first, count] of rowChunks(device, rows, [width])) {
      device.run(
        kernel,
        { WG: WORKGROUP, W: vector, MODE: 2, E: table.dtype },
        [
          rowsOf(ids, firstId, picks, 1),
          rowsOf(y, firstId, picks, width),
          rowsOf(table, first, count, width),
        ],
        {
          ...NO_PARAMS,
          count: picks * width / vector,
          size: count,
          width: width / vector,
          first,
          rows,
          missing: missingOf(table.dtype),
        },
        Math.ceil(picks * width / vector / WORKGROUP),
      );
    }
  }
  return y;
}

/** @throws {ShapeError} if indices are no u32 tensor. */
export function needIds(name: string, ids: Tensor): void {
  needTensors(name, { indices: ids });
  if (ids.dtype !== "u32") {
    throw new ShapeError(`${name}: the indices ${show(ids.shape)} are ${ids.dtype}, not u32`);
  }
}

const oneHotOp = /* @__PURE__ */ defineOp<{ readonly classes: number }>({
  name: "oneHot",
  dtypes: "any",
  forward([ids], { classes }) {
    const { device } = ids;
    const y = device.empty([...ids.shape, classes]);
    const limit = windowLimit(y);
    for (const [row, count] of pieces(ids.size, Math.max(1, Math.floor(limit / classes)))) {
      const from = alignedWindow(ids, row, count);
      for (const [first, size] of pieces(classes, limit)) {
        const to = alignedWindow(y, row * classes + first, count * size);
        device.run(
          kernel,
          { WG: WORKGROUP, W: 1, MODE: 0, E: "f32" },
          [from.operand, to.operand],
          {
            ...{ ...NO_PARAMS, count: count * size, size, first },
            ...{ offset_ids: from.before, offset_result: to.before },
          },
          Math.ceil(count * size / WORKGROUP),
        );
      }
    }
    return [y];
  },
  reference: {
    forward: ([ids], { classes }) => [
      refFrom([...ids.shape, classes], (i) => +(ids.data[Math.floor(i / classes)] === i % classes)),
    ],
  },
});

/**
 * 1 at each index and 0 elsewhere; f32, without a gradient. An index of `classes` or more gives a
 * row of zeros.
 *
 * @param ids u32 [...]
 * @returns [..., classes]
 * @throws {ShapeError} if the indices are not u32.
 */
export function oneHot(ids: Tensor, classes: number): Tensor {
  needIds("oneHot", ids);
  needWhole("oneHot", "the count of classes", classes);
  return oneHotOp.apply([ids], { classes })[0];
}
