/**
 * Rows by index within each batch, such as the visible tokens of masked sequences. indexing.ts has
 * the other ops that read by index, and says which is which.
 *
 * @module
 */
import { needOptions, needTensors } from "../arguments.ts";
import source from "../../kernels/tokens.wgsl" with { type: "text" };
import inverseSource from "../../kernels/tokens_inverse.wgsl" with { type: "text" };
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp, type RefArray } from "../op.ts";
import { addRows } from "./indexing.ts";
import { refZeros } from "../reference.ts";
import { show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { fill, materialize } from "../launch/copy.ts";
import { rowChunks, rowsOf, streams } from "../launch/elementwise.ts";
import { alignedWindow } from "../launch/reduce.ts";

const kernel = /* @__PURE__ */ defineKernel("tokens", source, {
  rounds: ({ constants: { RUN, U } }) => Number(RUN) / Number(U) + 1,
});
const inverseKernel = /* @__PURE__ */ defineKernel("tokens_inverse", inverseSource);
const WORKGROUP = 64;

/** A window of indices [batch, n] with a stride between batches, from batch `first` on. */
function idsWindow(ids: Tensor, first: number, size: number) {
  const [stride] = ids.strides;
  return alignedWindow(ids, first * stride, (size - 1) * stride + ids.shape[1]);
}

/** An index that names no token: the largest u32 that is an f32. */
const NOWHERE = 2 ** 32 - 256;

/**
 * Fills `to` [batch, n, d] with tokens of `from` [batch, m, d] that `ids` [batch, n] name.
 *
 * @param missing what tokens without a source are filled with
 */
function move(from: Tensor, ids: Tensor, to: Tensor, missing: number): void {
  const { device, dtype } = from;
  const [batch, rows, d] = to.shape;
  if (to.size === 0) return;
  if (from.size === 0) {
    fill(to, isFloat(dtype) ? missing : 0);
    return;
  }
  const sources = from.shape[1];
  const vector = d % 4 === 0 ? 4 : 1;
  const width = d / vector;
  const { workgroup, run, step } = streams(device, to.size / vector, vector, width);
  for (const [first, size] of rowChunks(device, batch, [sources * d, rows * d, 1])) {
    const indices = idsWindow(ids, first, size);
    const count = size * rows * width;
    device.run(
      kernel,
      {
        ...{ WG: workgroup, W: vector, E: dtype, RUN: run, U: step },
        HALF: dtype === "f16" && vector === 4,
      },
      [
        rowsOf(from, first, size, sources * d),
        indices.operand,
        rowsOf(to, first, size, rows * d),
      ],
      {
        count,
        rows_in: sources,
        rows_out: rows,
        width,
        ids_stride: ids.strides[0],
        offset_ids: indices.before,
        missing,
      },
      Math.ceil(count / (workgroup * run)),
    );
  }
}

/** For each of `tokens` which index names it, as [batch, tokens]; {@link NOWHERE} for none. */
function inverseOf(ids: Tensor, tokens: number): Tensor {
  const { device } = ids;
  const [batch, picks] = ids.shape;
  const inverse = device.empty([batch, tokens], "u32");
  fill(inverse, NOWHERE);
  for (const [first, size] of rowChunks(device, batch, [tokens, ids.strides[0]])) {
    const indices = idsWindow(ids, first, size);
    device.run(
      inverseKernel,
      { WG: WORKGROUP },
      [indices.operand, rowsOf(inverse, first, size, tokens)],
      {
        ...{ count: size * picks, picks, tokens },
        ...{ ids_stride: ids.strides[0], offset_ids: indices.before },
      },
      Math.ceil(size * picks / WORKGROUP),
    );
  }
  return inverse;
}

interface BatchedIndexSelectAttrs {
  /** Whether no index repeats within a batch. */
  readonly unique: boolean;
}

function refMove(
  ids: RefArray,
  wide: RefArray["shape"],
  visit: (narrowAt: number, wideAt: number) => void,
): void {
  const [batch, rows, d] = wide;
  const count = ids.shape[1];
  for (let b = 0; b < batch; b++) {
    for (let i = 0; i < count; i++) {
      const row = ids.data[b * count + i];
      for (let c = 0; c < d; c++) visit((b * count + i) * d + c, (b * rows + row) * d + c);
    }
  }
}

const batchedIndexSelectOp = /* @__PURE__ */ defineOp<BatchedIndexSelectAttrs>({
  name: "batchedIndexSelect",
  dtypes: "any",
  half: true,
  // Indices are read through their batch stride, so that a slice of a permutation needs no copy.
  strided: true,
  forward([x, ids], _, save) {
    const [batch, tokens, d] = x.shape;
    x.device.anomalies?.checkIndices("batchedIndexSelect", ids, tokens);
    const y = x.device.empty([batch, ids.shape[1], d], x.dtype);
    const indices = ids.strides[1] === 1 ? ids : materialize(ids);
    move(materialize(x), indices, y, NaN);
    save(indices);
    return [y];
  },
  backward({ grads: [dy], saved: [ids], shapes: [shape] }, { unique }) {
    const [batch, rows, width] = shape;
    const from = materialize(dy!);
    if (!unique) return [addRows(from, materialize(ids), { batch, rows, width }), undefined];
    const dx = from.device.empty(shape, from.dtype);
    move(from, inverseOf(ids, rows), dx, 0);
    return [dx, undefined];
  },
  reference: {
    forward([x, ids]) {
      const y = refZeros([x.shape[0], ids.shape[1], x.shape[2]]);
      refMove(ids, x.shape, (narrow, wide) => y.data[narrow] = x.data[wide]);
      return [y];
    },
    backward([x, ids], _, [dy]) {
      const dx = refZeros(x.shape);
      refMove(ids, x.shape, (narrow, wide) => dx.data[wide] += dy.data[narrow]);
      return [dx, undefined];
    },
  },
});

/**
 * Rows by index within each batch: `y[b, i, :] = x[b, ids[b, i], :]`, an `indexSelect` with indices
 * for each batch (torch: `x.gather(1, ids[..., None].expand(-1, -1, d))`; JAX:
 * `take_along_axis(x, ids[..., None], 1)`).
 *
 * @param x [batch, rows, d]
 * @param ids u32 [batch, n], each below `rows`; a slice along the second axis costs no copy. A
 * larger index gives a row of NaN and passes no gradient, and anomaly mode reports it with op,
 * index and size
 * @param options `unique` promises that no index repeats within a batch, which makes backward as
 * cheap as forward
 * @returns [batch, n, d]
 * @throws {ShapeError} if ranks, batches or dtypes do not fit.
 */
export function batchedIndexSelect(
  x: Tensor,
  ids: Tensor,
  options: { readonly unique?: boolean } = {},
): Tensor {
  needTensors("batchedIndexSelect", { x, ids });
  needOptions("batchedIndexSelect", options, ["unique"]);
  if (
    x.shape.length !== 3 || ids.shape.length !== 2 || ids.shape[0] !== x.shape[0] ||
    ids.dtype !== "u32"
  ) {
    throw new ShapeError(
      `batchedIndexSelect: ${show(x.shape)} [batch, rows, d] against indices ${
        show(ids.shape)
      } [batch, n] of ${ids.dtype}`,
    );
  }
  return batchedIndexSelectOp.apply([x, ids], { unique: options.unique ?? false })[0];
}
