/**
 * The encoder's and predictor's layers: those of engine/nn on parameters that an arena holds
 * (model/README.md, Encoder).
 *
 * @module
 */
import {
  LayerNorm,
  layerNorm,
  Linear,
  type LinearOptions,
  recompute,
  type Tensor,
  TransformerBlock,
  within,
} from "../../engine/functions.ts";

/** Looks a parameter up by its name within a module. */
export type Lookup = (name: string) => Tensor;

/** Epsilon of layer norms where none is said. */
const EPS = 1e-6;

const widthOf = (x: Tensor): number => x.shape[x.shape.length - 1];

/**
 * A layer norm with the weights of a module.
 *
 * @param p has `name.weight` and `name.bias`, [width] each
 * @param x [..., width]
 * @param eps default 1e-6
 */
export function norm(p: Lookup, name: string, x: Tensor, eps = EPS): Tensor {
  return new LayerNorm(x.device, widthOf(x), eps, within(p, `${name}.`)).apply(x);
}

/**
 * A layer norm without weights: every vector to mean 0 and variance 1.
 *
 * @param x [..., width]
 */
export function standardised(x: Tensor): Tensor {
  const [ones, zeros] = [1, 0].map((value) => x.device.full([widthOf(x)], value, x.dtype));
  return layerNorm(x, ones, zeros, EPS);
}

/**
 * A linear layer with the weights of a module.
 *
 * @param p has `name.weight` [outputs, inputs] and `name.bias` [outputs]
 * @param x [..., inputs]
 * @param options GELU or a residual in the same kernel
 * @returns [..., outputs]
 */
export function dense(p: Lookup, name: string, x: Tensor, options?: LinearOptions): Tensor {
  const [outputs, inputs] = p(`${name}.weight`).shape;
  return new Linear(x.device, inputs, outputs, within(p, `${name}.`)).apply(x, options);
}

/**
 * A pre-norm block: x += Attn(LN(x)); x += MLP(LN(x)), exact GELU.
 *
 * @param p parameters of the block, named as in {@link blockSpecs} without its prefix
 * @param x [batch, tokens, width]
 * @param keyBias as in {@link blockSpecs}
 * @returns the same shape
 */
export function block(p: Lookup, x: Tensor, heads: number, keyBias = true): Tensor {
  return new TransformerBlock(x.device, widthOf(x), heads, p, { keyBias, eps: EPS }).apply(x);
}

/** What {@link blocks} has to know. */
export interface BlocksOptions {
  /** Blocks. */
  readonly depth: number;
  /** Attention heads. */
  readonly heads: number;
  /** As in {@link blockSpecs}; default true. */
  readonly keyBias?: boolean;
  /**
   * Whether the backward pass computes each block again instead of keeping what it needs; default
   * false.
   */
  readonly recompute?: boolean;
  /** Sees the output of each block, counted from 1. */
  readonly each?: (block: number, y: Tensor) => void;
}

/**
 * Blocks `0` to `depth - 1` below `prefix` (such as "blocks.").
 *
 * @param x [batch, tokens, width]
 * @returns the same shape, before any final norm
 */
export function blocks(p: Lookup, prefix: string, x: Tensor, options: BlocksOptions): Tensor {
  const { depth, heads, keyBias, each } = options;
  let y = x;
  for (let i = 0; i < depth; i++) {
    const run = (input: Tensor) => block(within(p, `${prefix}${i}.`), input, heads, keyBias);
    y = options.recompute ? recompute(run, y) : run(y);
    each?.(i + 1, y);
  }
  return y;
}
