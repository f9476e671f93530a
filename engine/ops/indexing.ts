/**
 * Reading and adding by index. What reads, by what an index names:
 *
 * - `embedding`: a row of a table, for indices of any shape (torch's `nn.functional.embedding`).
 * - `indexSelect`: a slice along an axis, for a list of indices (torch's `index_select`; `take`
 *   with an axis in NumPy and JAX).
 * - `gather`: one element along an axis, for each element of the result (torch's `gather`, NumPy's
 *   and JAX's `take_along_axis`).
 * - `batchedIndexSelect` in batched_index_select.ts: a row of the same batch.
 *
 * `scatterAdd` adds rows where `indexSelect` would read them (torch's `index_add` to zeros, JAX's
 * `segment_sum`); `oneHot` of picks.ts writes indices as vectors.
 *
 * @module
 */
import { kindOf, needTensors, needWhole } from "../arguments.ts";
import scatterSource from "../../kernels/scatter.wgsl" with { type: "text" };
import type { Device } from "../device.ts";
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refFrom, refZeros } from "../reference.ts";
import { composite } from "../scope.ts";
import { normalizeAxis, sameShape, type Shape, show, sizeOf } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { accumulate, fill, materialize } from "../launch/copy.ts";
import { elementwise } from "../launch/elementwise.ts";
import { alignedWindow, windowLimit } from "../launch/reduce.ts";
import { sortRows } from "../launch/sort_rows.ts";
import { rowsAndWidth } from "../launch/rows.ts";
import { bySpans, whole } from "./at.ts";
import { needIds, pickRows, rowsById } from "./picks.ts";
import { permute } from "./view.ts";

const scatterKernel = /* @__PURE__ */ defineKernel("scatter", scatterSource, {
  // A search, and at most all indices.
  rounds: ({ params: { picks } }) => Math.ceil(Math.log2(picks)) + 3 + picks,
});
const WORKGROUP = 64;
/** Indices per batch whose rows are folded at once: the longest loop of scatter.wgsl. */
const FOLDED_AT_ONCE = 8192;

/** Indices of an op: a u32 tensor, or values from the host, which are checked and uploaded. */
export type Indices = Tensor | Uint32Array | readonly number[];

/**
 * Adjoint of {@link pickRows}: a tensor of `shape` [..., n] that holds the sums. Records nothing.
 */
export function spreadPicks(dy: Tensor, ids: Tensor, shape: Shape): Tensor {
  const { rows, width } = rowsAndWidth(shape);
  return addRows(dy, ids, { batch: rows, rows: width, width: 1 }).view(shape);
}

/** Sizes of {@link foldRows}. */
export interface FoldedRows {
  readonly batch: number;
  /** Rows of the result per batch. */
  readonly rows: number;
  /** Elements per row. */
  readonly width: number;
}

/**
 * Adds rows of each batch by index: a dense tensor [batch, rows, width] with the sums of the rows
 * of dense `values` [batch, n, width] that share an index in dense `ids` [batch, n], added in order
 * of position; those of an index that is not below `rows` are left out. Records nothing.
 */
export function addRows(values: Tensor, ids: Tensor, sizes: FoldedRows): Tensor {
  return foldRows(values, ids, sizes, "add");
}

/** What becomes of rows that share an index: FOLD of kernels/scatter.wgsl. */
const FOLDS: Readonly<Record<Fold, number>> = { add: 0, set: 1, max: 2 };

/** What becomes of elements that share an index: their sum, the last, the largest. */
export type Fold = "add" | "set" | "max";

/**
 * The same for any way to fold rows that share an index.
 *
 * @param onto dense, of as many elements as the result: what it is before; default zeros, which
 * only sums may start from. A maximum takes rows of width 1
 */
export function foldRows(
  values: Tensor,
  ids: Tensor,
  { batch, rows, width }: FoldedRows,
  fold: Fold,
  onto?: Tensor,
): Tensor {
  const { device, dtype } = values;
  const result = device.empty([batch, rows, width], dtype);
  if (result.size === 0) return result;
  if (ids.size === 0) {
    if (onto) accumulate(result, onto.view(result.shape), false);
    else fill(result, 0);
    return result;
  }
  const picks = ids.size / batch;
  const step = Math.min(picks, FOLDED_AT_ONCE, Math.floor(windowLimit(ids) / width));
  const bound = Math.min(rows, Math.floor(windowLimit(ids) / width));
  if (step === 0) {
    throw new RangeError(`a row of ${width} values exceeds the adapter's binding limit`);
  }
  const once = Math.max(1, Math.floor(windowLimit(ids) / (Math.max(picks, rows) * width)));
  const vector = width % 4 === 0 ? 4 : 1;
  // Sums of parts are added up in f32.
  const sums = step < picks && dtype === "f16" ? device.empty(result.shape) : result;
  if (onto) accumulate(sums, onto.view(sums.shape), false);
  for (let start = 0; start < picks; start += step) {
    const length = Math.min(step, picks - start);
    const seen = ids.view([batch, length], [picks, 1], ids.offset + start);
    const part = materialize(seen);
    const { values: sorted, indices: order } = sortRows(part, length, false);
    for (let b = 0; b < batch; b += once) {
      const batches = Math.min(once, batch - b);
      const span = ((batches - 1) * picks + length) * width;
      const source = alignedWindow(values, (b * picks + start) * width, span);
      const [byValue, byOrder] = [sorted, order].map((t) =>
        alignedWindow(t, b * length, batches * length)
      );
      for (let first = 0; first < rows; first += bound) {
        const size = Math.min(bound, rows - first);
        const target = alignedWindow(sums, (b * rows + first) * width, batches * size * width);
        const count = batches * size * width / vector;
        device.run(
          scatterKernel,
          {
            ...{ WG: WORKGROUP, W: vector, E: dtype, EO: sums.dtype, FOLD: FOLDS[fold] },
            ...{ S: isFloat(dtype) ? "f32" : dtype, FLOAT: isFloat(dtype) },
            ADD: fold === "add" && (start > 0 || onto !== undefined),
          },
          [source, byValue, byOrder, target].map(({ operand }) => operand),
          {
            ...{ count, picks: length, stride: picks * width / vector, width: width / vector },
            ...{ first, rows: size, offset_source: source.before / vector },
            ...{ offset_sorted: byValue.before, offset_result: target.before / vector },
          },
          Math.ceil(count / WORKGROUP),
        );
      }
    }
    if (part !== seen) part.dispose();
    [seen, sorted, order].forEach((t) => t.dispose());
  }
  if (sums !== result) {
    elementwise(result, [sums], { expression: "a" });
    sums.dispose();
  }
  return result;
}

/**
 * Adjoint of {@link rowsById}: a tensor of `shape` [rows, ...], see {@link addRows}. Records
 * nothing.
 */
function addRowsById(values: Tensor, ids: Tensor, shape: Shape): Tensor {
  const [rows, ...rest] = shape;
  return addRows(values, ids, { batch: 1, rows, width: sizeOf(rest) }).view(shape);
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

const embeddingOp = /* @__PURE__ */ defineOp<{ readonly name: string }>({
  name: "embedding",
  dtypes: "any",
  half: true,
  forward([table, ids], { name }, save) {
    table.device.anomalies?.checkIndices(name, ids, table.shape[0]);
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
});

/**
 * Calls `use` with indices as a u32 tensor. Those of the host become one for that long, after each
 * was looked at.
 *
 * @param size what each must be below
 * @throws {ShapeError} if a tensor is not u32, or a host value is no index.
 */
function withIndices<T>(
  name: string,
  ids: Indices,
  device: Device,
  size: number,
  use: (ids: Tensor) => T,
): T {
  if (ids instanceof Tensor) {
    needIds(name, ids);
    return use(ids);
  }
  if (!Array.isArray(ids) && !ArrayBuffer.isView(ids)) {
    throw new ShapeError(
      `${name}: the indices are ${kindOf(ids)}; a u32 tensor or a list is needed`,
    );
  }
  const bad = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= size);
  if (bad !== -1) {
    throw new ShapeError(
      `${name}: index ${bad} of ${ids.length} is ${
        ids[bad]
      }; whole numbers from 0 below ${size} are needed`,
    );
  }
  using uploaded = device.tensor(Uint32Array.from(ids));
  return use(uploaded);
}

function rowsOfTable(name: string, table: Tensor, ids: Indices): Tensor {
  needTensors(name, { table });
  const picks = ids instanceof Tensor ? ids.size : ids?.length;
  if (table.shape.length === 0 || table.shape[0] === 0 && picks !== 0) {
    throw new ShapeError(`${name}: the table ${show(table.shape)} has no rows`);
  }
  return withIndices(
    name,
    ids,
    table.device,
    table.shape[0],
    (indices) => embeddingOp.apply([table, indices], { name })[0],
  );
}

/**
 * Rows of a table: `y[..., :] = table[ids[...], :]`. The gradient of the table adds in order of
 * position, without atomics.
 *
 * @param table [V, D] (or [V, ...])
 * @param ids u32 of any shape, each below V, or a list of the host, which is checked at once. On
 * the GPU nothing can be thrown: a larger index gives a row of NaN and passes no gradient, and
 * anomaly mode reports it with op, index and size
 * @returns [...ids, D]
 * @throws {ShapeError} if the table has no rows for indices, the indices are not u32, or one of the
 * host is not below V.
 */
export function embedding(table: Tensor, ids: Indices): Tensor {
  return rowsOfTable("embedding", table, ids);
}

/** Order that puts `axis` at `place`, and its inverse. */
export function moved(rank: number, axis: number, place: number): number[] {
  const order = [...Array(rank).keys()].filter((i) => i !== axis);
  order.splice(place, 0, axis);
  return order;
}

/**
 * Slices along an axis: `y[..., i, ...] = x[..., ids[i], ...]` (torch's `index_select`; `take` with
 * an axis in NumPy and JAX).
 *
 * @param ids u32 [n], each below the size of the axis, or a list of the host; what is out of range
 * is treated as by {@link embedding}
 * @returns the shape of `x` with `n` in place of the axis; a view
 * @throws {ShapeError} if the axis does not exist, `ids` is not a list of u32, or one of the host
 * is out of range.
 */
export function indexSelect(x: Tensor, ids: Indices, axis = 0): Tensor {
  needTensors("indexSelect", { x });
  if (ids instanceof Tensor && ids.shape.length !== 1) {
    throw new ShapeError(`indexSelect: the indices are ${show(ids.shape)}, one axis is needed`);
  }
  const rank = x.shape.length;
  const index = normalizeAxis("indexSelect", axis, rank);
  if (index === 0) return rowsOfTable("indexSelect", x, ids);
  return composite(() =>
    permute(
      rowsOfTable("indexSelect", permute(x, moved(rank, index, 0)), ids),
      moved(rank, 0, index),
    )
  );
}

const gatherOp = /* @__PURE__ */ defineOp<null>({
  name: "gather",
  dtypes: "any",
  half: true,
  forward([x, ids], _, save) {
    x.device.anomalies?.checkIndices("gather", ids, rowsAndWidth(x.shape).width);
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
});

/**
 * Elements along an axis: for the last one `y[..., j] = x[..., ids[..., j]]` (torch's `gather`;
 * `take_along_axis` in NumPy and JAX). Backward adds in order of position, without atomics.
 *
 * @param ids u32, of as many axes as `x` and beside the axis no larger; each below the size of the
 * axis. Larger ones give NaN (integers 0) and pass no gradient, and anomaly mode reports them
 * @returns the shape of `ids`
 * @throws {ShapeError} if `ids` is larger beside the axis or not u32.
 */
export function gather(x: Tensor, ids: Tensor, axis = -1): Tensor {
  needTensors("gather", { x, ids });
  needIds("gather", ids);
  const rank = x.shape.length;
  const index = normalizeAxis("gather", axis, rank);
  if (
    ids.shape.length !== rank || x.shape.some((size, i) => i !== index && size < ids.shape[i])
  ) {
    throw new ShapeError(
      `gather: indices ${show(ids.shape)} do not fit ${show(x.shape)} beside axis ${axis}`,
    );
  }
  const part = ids.shape.map((size, i) => i === index ? x.shape[i] : size);
  const same = sameShape(part, x.shape);
  if (index === rank - 1 && same) return gatherOp.apply([x, ids], null)[0];
  const order = moved(rank, index, rank - 1);
  return composite(() => {
    const from = same ? x : bySpans(x, part.map(whole));
    const [y] = gatherOp.apply([permute(from, order), permute(ids, order)], null);
    return permute(y, moved(rank, rank - 1, index));
  });
}

const scatterAddOp = /* @__PURE__ */ defineOp<{ readonly rows: number }>({
  name: "scatterAdd",
  dtypes: "any",
  half: true,
  forward([values, ids], { rows }, save) {
    values.device.anomalies?.checkIndices("scatterAdd", ids, rows);
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
});

/**
 * Adds rows by index: `y[ids[i], ...] += values[i, ...]`, starting from zeros, in order of `i` and
 * without atomics.
 *
 * @param values [n, ...]
 * @param ids u32 [n], each below `rows`, or a list of the host, which is checked at once. On the
 * GPU rows of a larger index are added nowhere and have NaN as their gradient, and anomaly mode
 * reports them
 * @param rows rows of the result
 * @returns [rows, ...]
 * @throws {ShapeError} if there is not one u32 index per row of values, or one of the host is not
 * below `rows`.
 */
export function scatterAdd(values: Tensor, ids: Indices, rows: number): Tensor {
  needTensors("scatterAdd", { values });
  needWhole("scatterAdd", "the count of rows", rows);
  const shape = ids instanceof Tensor ? ids.shape : [ids?.length];
  if (shape.length !== 1 || shape[0] !== values.shape[0]) {
    throw new ShapeError(
      `scatterAdd: values ${show(values.shape)} [n, ...] against indices ${show(shape)} [n]`,
    );
  }
  return withIndices(
    "scatterAdd",
    ids,
    values.device,
    rows,
    (indices) => scatterAddOp.apply([values, indices], { rows })[0],
  );
}
