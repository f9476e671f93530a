/**
 * Softmax weights of attention, which the fused kernels never write: computed beside them from the
 * same projections.
 *
 * @module
 */
import {
  add,
  composite,
  layerNorm,
  linear,
  matmul,
  mul,
  permute,
  reshape,
  slice,
  softmax,
  type Tensor,
} from "../../engine/functions.ts";
import type { Lookup } from "../vit/blocks.ts";

/** What a block's attention is computed of beside its queries, keys and values. */
export interface BesideScores {
  /** As of `attention`: [1, heads, tokens, tokens]. */
  readonly bias?: Tensor;
  /** As of `attention`: [1, heads, tokens]. */
  readonly gate?: Tensor;
}

/** Sees [clips, tokens, 3 width] of each block, queries first, before the attention. */
export type Attend = (qkv: Tensor, beside: BesideScores) => void;

/** Queries, keys and values of a pre-norm block with timm's names. */
export function preNormProjections(p: Lookup, x: Tensor, eps: number): Tensor {
  const normed = layerNorm(x, p("norm1.weight"), p("norm1.bias"), eps);
  return linear(normed, p("attn.qkv.weight"), p("attn.qkv.bias"));
}

/**
 * Whom a token attends to: softmax(q kᵀ / sqrt(d) + gate bias).
 *
 * @param qkv [1, tokens, 3 width]
 * @param token number of the token
 * @returns [heads, tokens]; each row sums up to 1
 */
export function tokenAttention(
  qkv: Tensor,
  heads: number,
  token: number,
  { bias, gate }: BesideScores,
): Tensor {
  const [, tokens, all] = qkv.shape;
  const width = all / 3;
  const size = width / heads;
  return composite(() => {
    const keys = permute(reshape(slice(qkv, 2, width, width), [tokens, heads, size]), [1, 2, 0]);
    const query = reshape(slice(slice(qkv, 1, token, 1), 2, 0, width), [heads, 1, size]);
    const scores = mul(matmul(query, keys), size ** -0.5);
    const row = bias && reshape(slice(bias, 2, token, 1), [heads, 1, tokens]);
    const factor = gate && reshape(slice(gate, 2, token, 1), [heads, 1, 1]);
    const added = row ? add(scores, factor ? mul(row, factor) : row) : scores;
    return reshape(softmax(added), [heads, tokens]);
  });
}
