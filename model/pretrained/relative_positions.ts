/**
 * Relative-position bias in buckets, T5's (Raffel et al., arXiv:1910.10683), with the gate of WavLM
 * and BEATs (Chen et al., arXiv:2110.13900): Chi et al.'s gated relative position bias
 * (arXiv:2106.16138).
 *
 * @module
 */
import {
  add,
  flip,
  frames,
  indexSelect,
  linear,
  mul,
  permute,
  reshape,
  sigmoid,
  slice,
  sub,
  sum,
  type Tensor,
} from "../../engine/functions.ts";
import type { Lookup } from "../vit/blocks.ts";

/** How distances fall into buckets. */
export interface Buckets {
  /** Buckets of both directions together. */
  readonly count: number;
  /** Distance from which on all share the last bucket. */
  readonly maxDistance: number;
}

const f32 = Math.fround;

/**
 * Bucket of each distance, key's place less query's: half of the buckets for keys behind the query;
 * in each half short distances have a bucket each, longer ones share on a logarithmic scale.
 *
 * @param tokens of the sequence
 * @returns [2 tokens - 1], from -(tokens - 1) to tokens - 1
 */
export function relativeBuckets(tokens: number, { count, maxDistance }: Buckets): Uint32Array {
  const half = Math.floor(count / 2);
  const exact = Math.floor(half / 2);
  const scale = f32(Math.log(maxDistance / exact));
  return Uint32Array.from({ length: 2 * tokens - 1 }, (_, i) => {
    const distance = i - (tokens - 1);
    const far = Math.abs(distance);
    // In float32, as torch has it: where a logarithm falls on a whole number decides a bucket.
    const log = f32(f32(f32(Math.log(f32(far / exact))) / scale) * (half - exact));
    const shared = Math.min(half - 1, exact + Math.trunc(log));
    return (distance > 0 ? half : 0) + (far < exact ? far : shared);
  });
}

/**
 * The bias of every pair of tokens.
 *
 * @param table [buckets, heads]
 * @returns [1, heads, tokens, tokens], query before key
 */
export function relativeBias(table: Tensor, tokens: number, buckets: Buckets): Tensor {
  const ids = [...relativeBuckets(tokens, buckets)];
  const byDistance = permute(indexSelect(table, ids), [1, 0]);
  // Row i of the window starts at the distance i - (tokens - 1), that of the last query.
  const windows = frames(reshape(byDistance, [1, table.shape[1], 2 * tokens - 1]), tokens, 1);
  return flip(windows, [2]);
}

/**
 * A gate of the bias for each head and query, from the query's vector q before it is scaled: with u
 * = W q + b in two groups of four and their sums s, t, it is sigmoid(s) (sigmoid(t) a_head - 1) +
 * 2.
 *
 * @param p has `grep_linear.weight` [8, width / heads], `grep_linear.bias` and `grep_a` [1, heads,
 * 1, 1]
 * @param qkv [batch, tokens, 3 width]
 * @param see sees the results of the linear layer, [batch, heads, tokens, 8]
 * @returns [batch, heads, tokens]
 */
export function biasGate(p: Lookup, qkv: Tensor, see?: (x: Tensor) => void): Tensor {
  const [batch, tokens, all] = qkv.shape;
  const a = p("grep_a");
  const heads = a.shape[1];
  const queries = reshape(slice(qkv, 2, 0, all / 3), [batch, tokens, heads, all / 3 / heads]);
  const u = linear(queries, p("grep_linear.weight"), p("grep_linear.bias"));
  see?.(permute(u, [0, 2, 1, 3]));
  const gates = sigmoid(sum(reshape(u, [batch, tokens, heads, 2, 4]), { axes: [4] }));
  const [s, t] = [0, 1].map((i) => reshape(slice(gates, 3, i, 1), [batch, tokens, heads]));
  const gate = add(mul(s, sub(mul(t, reshape(a, [heads])), 1)), 2);
  return permute(gate, [0, 2, 1]);
}
