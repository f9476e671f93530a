/**
 * Fixed sin-cos position tables (SPEC section 2.2).
 *
 * @module
 */

/**
 * Two-dimensional sin-cos table: the first half of a row encodes time, the second frequency, each as
 * [sin | cos] of position times 10000^(-k / (dim / 4)). Computed in float64, stored float32.
 *
 * @param dim width, a multiple of 4
 * @param rows patches along frequency
 * @param columns patches along time
 * @returns [1 + rows * columns, dim]; row 0 is the class token's and zero; token = row * columns + column
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
 * One-dimensional interleaved table over flattened patches, MSM-MAE's decoder default (SPEC section 2.2): entry j is
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
