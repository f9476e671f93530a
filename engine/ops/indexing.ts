/**
 * Reading and adding by index: embedding, take, takeAlong, scatterAdd and oneHot.
 *
 * @module
 */
import source from "../../kernels/indices.wgsl" with { type: "text" };
import scatterSource from "../../kernels/scatter_add.wgsl" with { type: "text" };
import { BYTES_PER_ELEMENT } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refFrom, refRandom, refZeros } from "../reference.ts";
import { normalizeAxis, type Shape, show, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { rowChunks, rowsOf } from "./launch.ts";
import { sortRows } from "./rank.ts";
import { rowsAndWidth } from "./rows.ts";
import { permute } from "./view.ts";

const kernel = defineKernel("indices", source);
const scatterKernel = defineKernel("scatter_add", scatterSource);
const WORKGROUP = 64;
/** Indices that are sorted at once: sorting compares each with each. */
const SORTED_AT_ONCE = 8192;

const NO_PARAMS = { size: 0, picks: 0, width: 0, first: 0, last: 0 };

/** `y[r, j] = x[r, ids[r, j]]` for dense `x` [..., n] and u32 `ids` [..., m]. Records nothing. */
export function pickRows(x: Tensor, ids: Tensor): Tensor {
  const { device } = x;
  const { rows, width } = rowsAndWidth(x.shape);
  const picks = ids.shape[ids.shape.length - 1];
  const y = device.empty(ids.shape);
  for (const [first, count] of rowChunks(device, rows, [width, picks])) {
    device.run(
      kernel,
      { WG: WORKGROUP, W: 1, MODE: 1 },
      [
        rowsOf(ids, first, count, picks),
        rowsOf(y, first, count, picks),
        rowsOf(x, first, count, width),
      ],
      { ...NO_PARAMS, count: count * picks, size: width, picks },
      Math.ceil(count * picks / WORKGROUP),
    );
  }
  return y;
}

/** Adjoint of {@link pickRows}: a tensor of `shape` [..., n] that holds the sums. Records nothing. */
export function spreadPicks(dy: Tensor, ids: Tensor, shape: Shape): Tensor {
  const { device } = dy;
  const { rows, width } = rowsAndWidth(shape);
  const picks = ids.shape[ids.shape.length - 1];
  const dx = device.empty(shape);
  for (const [first, count] of rowChunks(device, rows, [width, picks])) {
    device.run(
      kernel,
      { WG: WORKGROUP, W: 1, MODE: 2 },
      [
        rowsOf(ids, first, count, picks),
        rowsOf(dx, first, count, width),
        rowsOf(dy, first, count, picks),
      ],
      { ...NO_PARAMS, count: count * width, size: width, picks },
      Math.ceil(count * width / WORKGROUP),
    );
  }
  return dx;
}

/** Rows of a dense `[rows, ...]` table, for dense u32 `ids`: `[...ids, ...]`. Records nothing. */
function rowsById(table: Tensor, ids: Tensor): Tensor {
  const { device } = table;
  const [rows, ...rest] = table.shape;
  const width = sizeOf(rest);
  const vector = width % 4 === 0 ? 4 : 1;
  const y = device.empty([...ids.shape, ...rest]);
  if (y.size === 0) return y;
  for (const [firstId, picks] of rowChunks(device, ids.size, [width, 1])) {
    for (const [first, count] of rowChunks(device, rows, [width])) {
      device.run(
        kernel,
        { WG: WORKGROUP, W: vector, MODE: 3 },
        [
          rowsOf(ids, firstId, picks, 1),
          rowsOf(y, firstId, picks, width),
          rowsOf(table, first, count, width),
        ],
        {
          count: picks * width / vector,
          size: count,
          picks,
          width: width / vector,
          first,
          last: rows - 1,
        },
        Math.ceil(picks * width / vector / WORKGROUP),
      );
    }
  }
  return y;
}

/**
 * Adjoint of {@link rowsById}: a tensor of `shape` [rows, ...] with the sums of the rows of `values` that share an
 * index, added in order of position. Records nothing.
 */
function addRowsById(values: Tensor, ids: Tensor, shape: Shape): Tensor {
  const { device } = values;
  const [rows, ...rest] = shape;
  const width = sizeOf(rest);
  const vector = width % 4 === 0 ? 4 : 1;
  const result = device.empty(shape);
  if (ids.size === 0) return device.zeros(shape);
  const limit = Math.floor(device.bindingLimit / BYTES_PER_ELEMENT / Math.max(width, 1) / 64) * 64;
  const step = ids.size * width * BYTES_PER_ELEMENT <= device.bindingLimit
    ? SORTED_AT_ONCE
    : Math.min(SORTED_AT_ONCE, limit);
  if (step === 0) {
    throw new RangeError(
      `scatterAdd: 64 rows of ${width} values exceed the adapter's binding limit`,
    );
  }
  for (let start = 0; start < ids.size; start += step) {
    const picks = Math.min(step, ids.size - start);
    const part = ids.view([picks], [1], ids.offset + start);
    const { values: sorted, indices: order } = sortRows(part, picks, false);
    for (const [first, count] of rowChunks(device, rows, [width])) {
      device.run(
        scatterKernel,
        { WG: WORKGROUP, W: vector, ADD: start > 0 },
        [
          rowsOf(values, start, picks, width),
          sorted,
          order,
          rowsOf(result, first, count, width),
        ],
        { count: count * width / vector, picks, width: width / vector, first },
        Math.ceil(count * width / vector / WORKGROUP),
      );
    }
    [part, sorted, order].forEach((t) => t.dispose());
  }
  return result;
}

function refRowsById(table: RefArray, ids: RefArray): RefArray {
  const rest = table.shape.slice(1);
  const width = sizeOf(rest);
  return refFrom(
    [...ids.shape, ...rest],
    (i) => table.data[ids.data[Math.floor(i / width)] * width + i % width],
  );
}

function refAddRowsById(values: RefArray, ids: RefArray, shape: Shape): RefArray {
  const width = sizeOf(shape.slice(1));
  const result = refZeros(shape);
  values.data.forEach((v, i) =>
    result.data[ids.data[Math.floor(i / width)] * width + i % width] += v
  );
  return result;
}

/** Pseudo-random indices below `most`. */
const refIds = (shape: Shape, most: number, seed: number): RefArray =>
  refFrom(shape, (i) => ((i + seed) * 7919 % 104729 + i * i) % most);

const embeddingOp = defineOp<null>({
  name: "embedding",
  dtypes: "any",
  forward([table, ids], _, save) {
    save(ids);
    return [rowsById(table, ids)];
  },
  backward: ({ grads: [dy], saved: [ids], shapes: [shape] }) => [
    addRowsById(dy!, ids, shape),
    undefined,
  ],
  reference: {
    forward: ([table, ids]) => [refRowsById(table, ids)],
    backward: ([table, ids], _, [dy]) => [refAddRowsById(dy, ids, table.shape), undefined],
  },
  samples: () =>
    [
      { shape: [1, 1], ids: [1] },
      { shape: [5, 7], ids: [3] },
      { shape: [11, 8], ids: [2, 13] },
      { shape: [3, 4], ids: [130] },
      { shape: [300, 12], ids: [2, 3, 5] },
      { shape: [17], ids: [4, 6] },
      { shape: [4, 2, 3], ids: [9] },
      { shape: [7, 1], ids: [8195] },
    ].map(({ shape, ids }, seed) => ({
      label: `${show(ids)} of ${show(shape)}`,
      inputs: [refRandom(shape, seed), refIds(ids, shape[0], seed)],
      integer: { 1: "u32" as const },
      attrs: null,
      // Sums of up to 1200 gradients.
      tolerance: seed === 7 ? 1e-5 : undefined,
    })),
});

function needIds(name: string, ids: Tensor): void {
  if (ids.dtype !== "u32") {
    throw new ShapeError(`${name}: the indices ${show(ids.shape)} are ${ids.dtype}, not u32`);
  }
}

/**
 * Rows of a table: `y[..., :] = table[ids[...], :]`. The gradient of the table adds in order of position, without
 * atomics.
 *
 * @param table [V, D] (or [V, ...])
 * @param ids u32 of any shape, each below V; larger ones read the last row and pass no gradient
 * @returns [...ids, D]
 * @throws {ShapeError} if the table has no rows or the indices are not u32.
 */
export function embedding(table: Tensor, ids: Tensor): Tensor {
  needIds("embedding", ids);
  if (table.shape.length === 0 || table.shape[0] === 0) {
    throw new ShapeError(`embedding: the table ${show(table.shape)} has no rows`);
  }
  return embeddingOp.apply([table, ids], null)[0];
}

/** Order that puts `axis` at `place`, and its inverse. */
function moved(rank: number, axis: number, place: number): number[] {
  const order = [...Array(rank).keys()].filter((i) => i !== axis);
  order.splice(place, 0, axis);
  return order;
}

/**
 * Picks whole slices: `y[..., i, ...] = x[..., ids[i], ...]` along an axis (NumPy's `take`, torch's `index_select`).
 *
 * @param ids u32 [n], each below the size of the axis
 * @returns the shape of `x` with `n` in place of the axis; a view
 * @throws {ShapeError} if the axis does not exist or `ids` is not a list of u32.
 */
export function take(x: Tensor, ids: Tensor, axis = 0): Tensor {
  needIds("take", ids);
  if (ids.shape.length !== 1) {
    throw new ShapeError(`take: the indices are ${show(ids.shape)}, one axis is needed`);
  }
  const rank = x.shape.length;
  const index = normalizeAxis("take", axis, rank);
  if (index === 0) return embedding(x, ids);
  return permute(embedding(permute(x, moved(rank, index, 0)), ids), moved(rank, 0, index));
}

const takeAlongOp = defineOp<null>({
  name: "takeAlong",
  dtypes: "any",
  forward([x, ids], _, save) {
    save(ids);
    return [pickRows(x, ids)];
  },
  backward: ({ grads: [dy], saved: [ids], shapes: [shape] }) => [
    spreadPicks(dy!, ids, shape),
    undefined,
  ],
  reference: {
    forward([x, ids]) {
      const [width, picks] = [rowsAndWidth(x.shape).width, rowsAndWidth(ids.shape).width];
      return [refFrom(ids.shape, (i) => x.data[Math.floor(i / picks) * width + ids.data[i]])];
    },
    backward([x, ids], _, [dy]) {
      const [width, picks] = [rowsAndWidth(x.shape).width, rowsAndWidth(ids.shape).width];
      const dx = refZeros(x.shape);
      ids.data.forEach((id, i) => dx.data[Math.floor(i / picks) * width + id] += dy.data[i]);
      return [dx, undefined];
    },
  },
  samples: () =>
    ([[[1], 1], [[3, 7], 4], [[2, 3, 8], 11], [[5, 130], 1], [[40, 65], 3]] as [Shape, number][])
      .map(([shape, picks], seed) => ({
        label: `${picks} of ${show(shape)}`,
        inputs: [
          refRandom(shape, seed),
          refIds([...shape.slice(0, -1), picks], shape[shape.length - 1], seed),
        ],
        integer: { 1: "u32" as const },
        attrs: null,
      })),
});

/**
 * Picks single elements along an axis: for the last one `y[..., j] = x[..., ids[..., j]]` (NumPy's `take_along_axis`,
 * torch's `gather`). Backward looks through a row's indices for every element: meant for few indices per row.
 *
 * @param ids u32, of the shape of `x` beside the axis; each below the size of the axis
 * @returns the shape of `ids`
 * @throws {ShapeError} if shapes differ beside the axis or `ids` is not u32.
 */
export function takeAlong(x: Tensor, ids: Tensor, axis = -1): Tensor {
  needIds("takeAlong", ids);
  const rank = x.shape.length;
  const index = normalizeAxis("takeAlong", axis, rank);
  if (
    ids.shape.length !== rank || x.shape.some((size, i) => i !== index && size !== ids.shape[i])
  ) {
    throw new ShapeError(
      `takeAlong: indices ${show(ids.shape)} do not fit ${show(x.shape)} beside axis ${axis}`,
    );
  }
  if (index === rank - 1) return takeAlongOp.apply([x, ids], null)[0];
  const order = moved(rank, index, rank - 1);
  const [y] = takeAlongOp.apply([permute(x, order), permute(ids, order)], null);
  return permute(y, moved(rank, rank - 1, index));
}

const scatterAddOp = defineOp<{ readonly rows: number }>({
  name: "scatterAdd",
  dtypes: "any",
  forward([values, ids], { rows }, save) {
    save(ids);
    return [addRowsById(values, ids, [rows, ...values.shape.slice(1)])];
  },
  backward: ({ grads: [dy], saved: [ids] }) => [rowsById(dy!, ids), undefined],
  reference: {
    forward: (
      [values, ids],
      { rows },
    ) => [refAddRowsById(values, ids, [rows, ...values.shape.slice(1)])],
    backward: ([, ids], _, [dy]) => [refRowsById(dy, ids), undefined],
  },
  samples: () =>
    ([[[1], 1], [[3, 7], 5], [[13, 8], 4], [[130, 4], 3], [[6, 2, 3], 300]] as [Shape, number][])
      .map(([shape, rows], seed) => ({
        label: `${show(shape)} to ${rows} rows`,
        inputs: [refRandom(shape, seed), refIds([shape[0]], rows, seed)],
        integer: { 1: "u32" as const },
        attrs: { rows },
      })),
});

/**
 * Adds rows by index: `y[ids[i], ...] += values[i, ...]`, starting from zeros, in order of `i` and without atomics.
 *
 * @param values [n, ...]
 * @param ids u32 [n], each below `rows`
 * @param rows rows of the result
 * @returns [rows, ...]
 * @throws {ShapeError} if there is not one u32 index per row of values.
 */
export function scatterAdd(values: Tensor, ids: Tensor, rows: number): Tensor {
  needIds("scatterAdd", ids);
  if (ids.shape.length !== 1 || ids.shape[0] !== values.shape[0]) {
    throw new ShapeError(
      `scatterAdd: values ${show(values.shape)} [n, ...] against indices ${show(ids.shape)} [n]`,
    );
  }
  return scatterAddOp.apply([values, ids], { rows })[0];
}

const oneHotOp = defineOp<{ readonly classes: number }>({
  name: "oneHot",
  dtypes: "any",
  forward([ids], { classes }) {
    const { device } = ids;
    const y = device.empty([...ids.shape, classes]);
    for (const [first, count] of rowChunks(device, ids.size, [1, classes])) {
      device.run(
        kernel,
        { WG: WORKGROUP, W: 1, MODE: 0 },
        [rowsOf(ids, first, count, 1), rowsOf(y, first, count, classes)],
        { ...NO_PARAMS, count: count * classes, size: classes },
        Math.ceil(count * classes / WORKGROUP),
      );
    }
    return [y];
  },
  reference: {
    forward: ([ids], { classes }) => [
      refFrom([...ids.shape, classes], (i) => +(ids.data[Math.floor(i / classes)] === i % classes)),
    ],
  },
  samples: () =>
    ([[[1], 1], [[5], 3], [[2, 7], 11], [[67], 40], [[], 4]] as [Shape, number][]).map(
      ([shape, classes], seed) => ({
        label: `${show(shape)} of ${classes}`,
        inputs: [refIds(shape, classes, seed)],
        integer: { 0: "u32" as const },
        attrs: { classes },
      }),
    ),
});

/**
 * 1 at each index and 0 elsewhere; f32, without a gradient. An index of `classes` or more gives a row of zeros.
 *
 * @param ids u32 [...]
 * @returns [..., classes]
 * @throws {ShapeError} if the indices are not u32.
 */
export function oneHot(ids: Tensor, classes: number): Tensor {
  needIds("oneHot", ids);
  return oneHotOp.apply([ids], { classes })[0];
}
