/**
 * Unrecorded sorting of rows, which ordering and indexing ops share.
 *
 * @module
 */
import source from "../../kernels/sort_rows.wgsl" with { type: "text" };
import { type DType, isFloat } from "../dtype.ts";
import { defineKernel } from "../kernel.ts";
import type { Shape } from "../shape.ts";
import type { Constants } from "../template.ts";
import type { Tensor } from "../tensor.ts";
import { fill } from "./copy.ts";
import { rowChunks, rowsOf } from "./elementwise.ts";
import { rowsAndWidth } from "./rows.ts";

const kernel = /* @__PURE__ */ defineKernel("sort_rows", source, {
  rounds: ({ constants: { MERGE, SPREAD }, params: { run, width } }) =>
    MERGE
      ? Math.ceil(Math.log2(run)) + 2 + CHUNK + 1
      : SPREAD
      ? 0
      : Math.ceil(Math.min(run, width) / 4) + 5,
});
const WORKGROUP = 64;
/** Elements that are sorted by counting; longer rows are merged from blocks of them. */
const BLOCK = 32;
/** Elements that one invocation merges: no fewer than a binary search has rounds. */
const CHUNK = 32;

const constantsOf = (dtype: DType, constants: Constants): Constants => ({
  WG: WORKGROUP,
  CHUNK,
  E: dtype,
  FLOAT: isFloat(dtype),
  SIGNED: dtype === "i32",
  DESCENDING: false,
  MERGE: false,
  SPREAD: false,
  ...constants,
});

/**
 * The first `keep` elements of each row in order, with where they stood; equal ones in order of
 * position. `n log n` comparisons per row of n, 32 n where `keep` is small.
 *
 * @param x dense `[..., n]` of any dtype
 * @returns values and u32 indices, each `[..., keep]`
 */
export function sortRows(
  x: Tensor,
  keep: number,
  descending: boolean,
): { values: Tensor; indices: Tensor } {
  const { device } = x;
  const { rows, width } = rowsAndWidth(x.shape);
  const sized = (places: number) => {
    const shape = [...x.shape.slice(0, -1), places];
    return { values: device.empty(shape, x.dtype), indices: device.empty(shape, "u32") };
  };
  if (rows * keep === 0) return sized(keep);
  /** Sorts blocks of `run` elements, or merges pairs of runs of so many, down to `kept` of each. */
  const pass = (from: Tensor, order: Tensor | undefined, run: number, kept: number) => {
    const { width } = rowsAndWidth(from.shape);
    const together = order ? 2 * run : run;
    const whole = Math.ceil(width / together) - 1;
    const to = sized(whole * kept + Math.min(width - whole * together, kept));
    const places = rowsAndWidth(to.values.shape).width;
    const chunks = Math.ceil(kept / CHUNK);
    for (const [first, count] of rowChunks(device, rows, [width, places], x.itemSize)) {
      const invocations = count * (order ? (whole + 1) * chunks : width);
      device.run(
        kernel,
        constantsOf(x.dtype, { DESCENDING: descending, MERGE: order !== undefined }),
        [
          rowsOf(from, first, count, width),
          rowsOf(to.values, first, count, places),
          rowsOf(to.indices, first, count, places),
          ...(order ? [rowsOf(order, first, count, width)] : []),
        ],
        { count: invocations, width, run, keep: kept, places, chunks },
        Math.ceil(invocations / WORKGROUP),
      );
    }
    return to;
  };
  let run = Math.min(BLOCK, keep);
  let sorted = pass(x, undefined, BLOCK, run);
  for (let runs = Math.ceil(width / BLOCK); runs > 1; runs = Math.ceil(runs / 2)) {
    const { values, indices } = sorted;
    const kept = Math.min(2 * run, keep);
    sorted = pass(values, indices, run, kept);
    run = kept;
    values.dispose();
    indices.dispose();
  }
  return sorted;
}

/**
 * The way back from {@link sortRows}: a tensor of `shape` `[..., n]` with the elements of dense
 * `values` `[..., k]` where dense u32 `indices` `[..., k]` say, no two of a row in one place, and 0
 * elsewhere.
 */
export function spreadRows(values: Tensor, indices: Tensor, shape: Shape): Tensor {
  const { device, dtype } = values;
  const { rows, width: places } = rowsAndWidth(shape);
  const { width } = rowsAndWidth(values.shape);
  const result = device.empty(shape, dtype);
  if (width < places) fill(result, 0);
  if (values.size === 0) return result;
  for (const [first, count] of rowChunks(device, rows, [width, places], result.itemSize)) {
    device.run(
      kernel,
      constantsOf(dtype, { SPREAD: true }),
      [
        rowsOf(values, first, count, width),
        rowsOf(result, first, count, places),
        rowsOf(indices, first, count, width),
      ],
      { count: count * width, width, run: 1, keep: 0, places, chunks: 0 },
      Math.ceil(count * width / WORKGROUP),
    );
  }
  return result;
}
