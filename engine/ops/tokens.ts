/**
 * Gathering tokens by index, as masking does (SPEC section 2.3).
 *
 * @module
 */
import source from "../../kernels/tokens.wgsl" with { type: "text" };
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refFrom, refRandom, refZeros } from "../reference.ts";
import { show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { materialize } from "./copy.ts";
import { rowChunks, rowsOf } from "./launch.ts";

const kernel = defineKernel("tokens", source);
const WORKGROUP = 64;
const MODES = { gather: 0, scatter: 1, gatherAdd: 2 } as const;

/** Moves rows between `wide` [batch, rows, d] and `narrow` [batch, ids per batch, d]. */
function move(mode: keyof typeof MODES, from: Tensor, ids: Tensor, to: Tensor): void {
  const { device } = from;
  const [wide, narrow] = mode === "gather" ? [from, to] : [to, from];
  const [batch, rows, d] = wide.shape;
  const count = narrow.shape[1];
  const vector = d % 4 === 0 ? 4 : 1;
  for (const [first, size] of rowChunks(device, batch, [rows * d, count * d, 1])) {
    const idStart = ids.offset + first * ids.strides[0];
    const alignment = device.offsetAlignment / ids.itemSize;
    const offset = idStart % alignment;
    const written = to === wide ? rows * d : count * d;
    const perItem = mode === "scatter" ? count * d : written;
    device.run(
      kernel,
      { WG: WORKGROUP, W: vector, MODE: MODES[mode], E: from.dtype },
      [
        rowsOf(from, first, size, from === wide ? rows * d : count * d),
        {
          tensor: ids,
          start: idStart - offset - ids.offset,
          count: offset + (size - 1) * ids.strides[0] + count,
        },
        rowsOf(to, first, size, written),
      ],
      {
        count: size * perItem / vector,
        rows_in: rows,
        rows_out: count,
        width: d / vector,
        ids_stride: ids.strides[0],
        offset_ids: offset,
        missing: NaN,
      },
      Math.ceil(size * perItem / vector / WORKGROUP),
    );
  }
}

interface GatherAttributes {
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

const gatherOp = defineOp<GatherAttributes>({
  name: "gather",
  dtypes: "any",
  half: true,
  // Indices are read through their batch stride, so that a slice of a permutation needs no copy.
  strided: true,
  forward([x, ids], _, save) {
    const [batch, tokens, d] = x.shape;
    x.device.anomalies?.checkIndices("gather", ids, tokens);
    const y = x.device.empty([batch, ids.shape[1], d], x.dtype);
    const indices = ids.strides[1] === 1 ? ids : materialize(ids);
    move("gather", materialize(x), indices, y);
    save(indices);
    return [y];
  },
  backward({ grads: [dy], saved: [ids], shapes: [shape] }, { unique }) {
    const { device, dtype } = dy!;
    // Every row is written when the indices are a whole permutation.
    const dx = !unique || ids.shape[1] === shape[1]
      ? device.empty(shape, dtype)
      : device.zeros(shape, dtype);
    move(unique ? "scatter" : "gatherAdd", materialize(dy!), ids, dx);
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
  samples: () => [
    {
      label: "unique",
      inputs: [refRandom([2, 5, 4], 1), refFrom([2, 3], (i) => [4, 0, 2, 1, 3, 0][i])],
      integer: { 1: "u32" },
      attrs: { unique: true },
    },
    {
      label: "permutation, odd width",
      inputs: [refRandom([2, 3, 7], 2), refFrom([2, 3], (i) => [2, 0, 1, 1, 0, 2][i])],
      integer: { 1: "u32" },
      attrs: { unique: true },
    },
    {
      label: "repeated",
      inputs: [refRandom([1, 4, 8], 3), refFrom([1, 6], (i) => [3, 3, 0, 1, 3, 0][i])],
      integer: { 1: "u32" },
      attrs: { unique: false },
    },
  ],
});

/**
 * Picks tokens: `y[b, i, :] = x[b, ids[b, i], :]`.
 *
 * @param x [batch, tokens, d]
 * @param ids u32 [batch, n], each below `tokens`; a slice along the second axis costs no copy. A larger index gives a
 * token of NaN and passes no gradient, and anomaly mode reports it with op, index and size
 * @param options `unique` promises that no index repeats within a batch, which makes backward a plain scatter
 * @returns [batch, n, d]
 * @throws {ShapeError} if ranks, batches or dtypes do not fit.
 */
export function gather(
  x: Tensor,
  ids: Tensor,
  options: { readonly unique?: boolean } = {},
): Tensor {
  if (
    x.shape.length !== 3 || ids.shape.length !== 2 || ids.shape[0] !== x.shape[0] ||
    ids.dtype !== "u32"
  ) {
    throw new ShapeError(
      `gather: tokens ${show(x.shape)} [batch, tokens, d] against indices ${
        show(ids.shape)
      } [batch, n] of ${ids.dtype}`,
    );
  }
  return gatherOp.apply([x, ids], { unique: options.unique ?? false })[0];
}
