/**
 * Functions of ops whose operands lie in the same memory: a plan, which binds everything for
 * writing, may not bind any of it twice.
 *
 * @module
 */
import {
  attention,
  matmul,
  mul,
  reshape,
  slice,
  sub,
  sum,
  type Tensor,
  transpose,
} from "../../engine/mod.ts";

const rows = (x: Tensor, start: number, end: number) => slice(x, 0, start, end - start);
const columns = (x: Tensor, start: number, end: number) => slice(x, 1, start, end - start);

/** By name, of x [9, 16] in f32 or f16. */
export const OVERLAPPING: Readonly<Record<string, (x: Tensor) => Tensor>> = {
  "a tensor with itself": (x) => mul(x, x),
  "neighbouring rows": (x) => sub(rows(x, 1, 9), rows(x, 0, 8)),
  "neighbouring columns": (x) => sub(columns(x, 1, 16), columns(x, 0, 15)),
  "halves of rows": (x) => mul(columns(x, 0, 8), columns(x, 8, 16)),
  "vectors and one element of each row": (x) => mul(x, columns(x, 1, 2)),
  "vectors and one element of each row, fused": (x) =>
    sub(mul(mul(x, 3), columns(x, 3, 4)), mul(rows(x, 2, 3), x)),
  "a product with its transpose": (x) => matmul(x, transpose(x)),
  "a product with itself": (x) => matmul(columns(x, 0, 9), columns(x, 0, 9)),
  "attention to itself": (x) => {
    const heads = reshape(x, [1, 3, 3, 16]);
    return attention(heads, heads, heads);
  },
  "sums of what is multiplied by itself": (x) => sum(mul(x, x), { axes: [1] }),
};
