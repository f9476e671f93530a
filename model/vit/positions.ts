/**
 * Sin-cos position tables, and tables cut for shorter inputs (model/README.md, Patches and
 * positions).
 *
 * @module
 */
import { concat, reshape, slice, type Tensor } from "../../engine/functions.ts";
import type { PatchGrid } from "./geometry.ts";

/**
 * Two-dimensional sin-cos table: the first half of a row encodes time, the second frequency, each
 * as [sin | cos] of position times 10000^(-k / (dim / 4)). Computed in float64, stored float32.
 *
 * @param dim width, a multiple of 4
 * @param rows patches along frequency
 * @param columns patches along time
 * @returns [1 + rows * columns, dim]; row 0 is the class token's and zero; token = row * columns +
 * column
 * @throws {RangeError} if `dim` is no multiple of 4.
 */
export function sinCosPositions(dim: number, rows: number, columns: number): Float32Array {
  if (dim % 4 !== 0) {
    throw new RangeError(`a 2-D position table needs a width that is a multiple of 4, not ${dim}`);
  }
  const quarter = dim / 4;
  const table = new Float32Array((1 + rows * columns) * dim);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const at = (1 + row * columns + column) * dim;
      for (let k = 0; k < quarter; k++) {
        const omega = 1 / 10000 ** (k / quarter);
        table[at + k] = Math.sin(column * omega);
        table[at + quarter + k] = Math.cos(column * omega);
        table[at + 2 * quarter + k] = Math.sin(row * omega);
        table[at + 3 * quarter + k] = Math.cos(row * omega);
      }
    }
  }
  return table;
}

/**
 * One-dimensional interleaved table over flattened patches, MSM-MAE's decoder default: entry j is
 * sin (even j) or cos (odd j) of p / 10000^(2 floor(j / 2) / dim).
 *
 * @param dim width
 * @param patches number of patches
 * @returns [1 + patches, dim]; row 0 is the class token's and zero
 */
export function sinCosPositions1d(dim: number, patches: number): Float32Array {
  const table = new Float32Array((1 + patches) * dim);
  for (let p = 0; p < patches; p++) {
    for (let j = 0; j < dim; j++) {
      const angle = p / 10000 ** (2 * Math.floor(j / 2) / dim);
      table[(1 + p) * dim + j] = j % 2 ? Math.cos(angle) : Math.sin(angle);
    }
  }
  return table;
}

/**
 * Positions of an input of fewer columns: those of the first columns of each row. A 2-D sin-cos
 * table cut so is that of the smaller grid; a 1-D one is not, as its positions go on from row to
 * row.
 *
 * @param table [1, 1 + rows * columns, width], or without the class token's row [1, rows * columns,
 * width]
 * @param grid patches that the table is for
 * @param kept columns of the input
 * @returns [1, 1 + rows * kept, width], or without that row; the table itself where all columns are
 * kept
 * @throws {RangeError} if the table is for another grid, or there are not so many columns.
 */
export function cropPositions(table: Tensor, { rows, columns }: PatchGrid, kept: number): Tensor {
  const [, tokens, width] = table.shape;
  const patches = rows * columns;
  const before = tokens - patches;
  if (before !== 0 && before !== 1) {
    throw new RangeError(`${tokens} positions are not those of ${rows} x ${columns} patches`);
  }
  if (!Number.isInteger(kept) || kept < 1 || kept > columns) {
    throw new RangeError(`positions for ${columns} columns of patches cannot serve ${kept}`);
  }
  if (kept === columns) return table;
  const grid = reshape(slice(table, 1, before, patches), [1, rows, columns, width]);
  const cut = reshape(slice(grid, 2, 0, kept), [1, rows * kept, width]);
  return before === 0 ? cut : concat([slice(table, 1, 0, 1), cut], 1);
}
