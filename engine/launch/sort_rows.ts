/**
 * Unrecorded sorting of rows, which ordering and indexing ops share.
 *
 * @module
 */
import source from "../../kernels/sort_rows.wgsl" with { type: "text" };
import { isFloat } from "../dtype.ts";
import { defineKernel } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";
import { rowChunks, rowsOf } from "./elementwise.ts";
import { rowsAndWidth } from "./rows.ts";

const kernel = defineKernel("sort_rows", source, {
  rounds: ({ constants: { MERGE }, params: { run, width } }) =>
    MERGE ? Math.ceil(Math.log2(run)) + 2 : Math.ceil(Math.min(run, width) / 4) + 5,
});
const WORKGROUP = 64;
/** Elements that are sorted by counting; longer rows are merged from blocks of them. */
const BLOCK = 256;

/**
 * The first `keep` elements of each row in order, with where they stood; equal ones in order of
 * position. n log^2 n comparisons per row.
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
  /** Sorts blocks of `run` elements, or merges sorted runs of so many. */
  const pass = (from: Tensor, order: Tensor | undefined, run: number) => {
    const places = (order ? 2 * run : run) < width ? width : keep;
    const to = sized(places);
    for (const [first, count] of rowChunks(device, rows, [width, places], x.itemSize)) {
      device.run(
        kernel,
        {
          WG: WORKGROUP,
          E: x.dtype,
          FLOAT: isFloat(x.dtype),
          SIGNED: x.dtype === "i32",
          DESCENDING: descending,
          MERGE: order !== undefined,
        },
        [
          rowsOf(from, first, count, width),
          rowsOf(to.values, first, count, places),
          rowsOf(to.indices, first, count, places),
          ...(order ? [rowsOf(order, first, count, width)] : []),
        ],
        { count: count * width, width, run, keep: places },
        Math.ceil(count * width / WORKGROUP),
      );
    }
    return to;
  };
  let sorted = pass(x, undefined, BLOCK);
  for (let run = BLOCK; run < width; run *= 2) {
    const { values, indices } = sorted;
    sorted = pass(values, indices, run);
    values.dispose();
    indices.dispose();
  }
  return sorted;
}
