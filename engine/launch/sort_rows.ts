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

const kernel = defineKernel("sort_rows", source);
const WORKGROUP = 64;

/**
 * The first `keep` elements of each row in order, with where they stood; equal ones in order of
 * position.
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
  const shape = [...x.shape.slice(0, -1), keep];
  const values = device.empty(shape, x.dtype);
  const indices = device.empty(shape, "u32");
  if (values.size === 0) return { values, indices };
  for (const [first, count] of rowChunks(device, rows, [width, keep])) {
    device.run(
      kernel,
      {
        WG: WORKGROUP,
        E: x.dtype,
        FLOAT: isFloat(x.dtype),
        SIGNED: x.dtype === "i32",
        DESCENDING: descending,
      },
      [
        rowsOf(x, first, count, width),
        rowsOf(values, first, count, keep),
        rowsOf(indices, first, count, keep),
      ],
      { count: count * width, width, keep },
      Math.ceil(count * width / WORKGROUP),
    );
  }
  return { values, indices };
}
