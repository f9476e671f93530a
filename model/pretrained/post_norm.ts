/**
 * Post-norm transformer blocks under fairseq's names, as in Vaswani et al., arXiv:1706.03762, with
 * DeepNorm's factor of the residual (Wang et al., arXiv:2203.00555).
 *
 * @module
 */
import { mul, residualLayerNorm, selfAttention, type Tensor } from "../../engine/functions.ts";
import { dense, type Lookup } from "../vit/blocks.ts";
import type { Trace } from "./info.ts";
import { layer, type Source } from "./state_dict.ts";
import type { Attend } from "./token_attention.ts";

/** Epsilon of the layer norms. */
export const POST_NORM_EPS = 1e-5;

/** Sizes of a block. */
export interface PostNormSizes {
  /** Width D. */
  readonly width: number;
  /** Width between the two layers of the MLP. */
  readonly hidden: number;
}

/**
 * Parameters of a block. The three projections of the file become one, `self_attn.qkv`.
 *
 * @param name such as "encoder.layers.0"
 */
export function postNormSources(name: string, { width, hidden }: PostNormSizes): Source[] {
  const projections = ["q_proj", "k_proj", "v_proj"].map((it) => `${name}.self_attn.${it}`);
  return [
    {
      name: `${name}.self_attn.qkv.weight`,
      shape: [3 * width, width],
      from: projections.map((it) => ({ name: `${it}.weight`, shape: [width, width] })),
    },
    {
      name: `${name}.self_attn.qkv.bias`,
      shape: [3 * width],
      from: projections.map((it) => ({ name: `${it}.bias`, shape: [width] })),
    },
    ...layer(`${name}.self_attn.out_proj`, [width, width]),
    ...layer(`${name}.self_attn_layer_norm`, [width]),
    ...layer(`${name}.fc1`, [hidden, width]),
    ...layer(`${name}.fc2`, [width, hidden]),
    ...layer(`${name}.final_layer_norm`, [width]),
  ];
}

/** What {@link postNormBlock} has to know. */
export interface PostNormOptions {
  /** Attention heads. */
  readonly heads: number;
  /** DeepNorm's factor of the residual; default 1. */
  readonly alpha?: number;
  /** Epsilon of the layer norms; default {@link POST_NORM_EPS}. */
  readonly eps?: number;
  /** As of `attention`: [batch, tokens]. */
  readonly keyMask?: Tensor;
  /** As of `attention`: broadcasts to [batch, heads, tokens, tokens]. */
  readonly bias?: Tensor;
  /** Makes the gate of the bias from the fused projections [batch, tokens, 3 width]. */
  readonly gate?: (qkv: Tensor) => Tensor;
  /** Sees `attn_out` and `mid`. */
  readonly trace?: Trace;
  /** Sees what the attention is computed of. */
  readonly attend?: Attend;
}

/**
 * x = LN1(alpha x + Attn(x)); x = LN2(alpha x + MLP(x)), exact GELU.
 *
 * @param p parameters of the block, named as in {@link postNormSources} without its name
 * @param x [batch, tokens, width]
 * @returns the same shape
 */
export function postNormBlock(p: Lookup, x: Tensor, options: PostNormOptions): Tensor {
  const { heads, alpha = 1, eps = POST_NORM_EPS, keyMask, bias, gate, trace, attend } = options;
  const scaled = (it: Tensor) => alpha === 1 ? it : mul(it, alpha);
  const layered = (name: string, it: Tensor, gelu = false) => dense(p, name, it, { gelu });
  const normed = (name: string, added: Tensor, residual: Tensor) =>
    residualLayerNorm(
      added,
      scaled(residual),
      p(`${name}.weight`),
      p(`${name}.bias`),
      eps,
    ).y;
  const qkv = layered("self_attn.qkv", x);
  const beside = { ...bias && { bias }, ...gate && { gate: gate(qkv) } };
  attend?.(qkv, beside);
  const mixed = selfAttention(qkv, heads, { ...keyMask && { keyMask }, ...beside });
  const attended = layered("self_attn.out_proj", mixed);
  trace?.("attn_out", attended);
  const mid = normed("self_attn_layer_norm", attended, x);
  trace?.("mid", mid);
  return normed("final_layer_norm", layered("fc2", layered("fc1", mid, true)), mid);
}
