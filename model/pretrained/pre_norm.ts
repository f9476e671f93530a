/**
 * Pre-norm transformer blocks under timm's names, as in vision transformers (Dosovitskiy et al.,
 * arXiv:2010.11929).
 *
 * @module
 */
import { type Tensor, TransformerBlock, within } from "../../engine/functions.ts";
import type { Lookup } from "../vit/blocks.ts";
import type { Trace } from "./info.ts";
import { throughBlocks } from "./sequence.ts";
import { layer, type Source } from "./state_dict.ts";
import { type Attend, preNormProjections } from "./token_attention.ts";

/** What {@link preNormSources} has to know. */
export interface PreNormOptions {
  /** Width between the two layers of the MLP; default 4 times that of a token. */
  readonly hidden?: number;
  /** Whether queries, keys and values have a bias; default true. Without one zeros stand for it. */
  readonly qkvBias?: boolean;
}

/**
 * Parameters of a block.
 *
 * @param name such as "blocks.0"
 */
export function preNormSources(
  name: string,
  width: number,
  { hidden = 4 * width, qkvBias = true }: PreNormOptions = {},
): Source[] {
  const zeros: Source = {
    name: `${name}.attn.qkv.bias`,
    shape: [3 * width],
    frozen: true,
    from: [],
    fold: () => new Float32Array(3 * width),
  };
  return [
    ...layer(`${name}.norm1`, [width]),
    ...layer(`${name}.attn.qkv`, [3 * width, width], qkvBias),
    ...qkvBias ? [] : [zeros],
    ...layer(`${name}.attn.proj`, [width, width]),
    ...layer(`${name}.norm2`, [width]),
    ...layer(`${name}.mlp.fc1`, [hidden, width]),
    ...layer(`${name}.mlp.fc2`, [width, hidden]),
  ];
}

/** How {@link preNormBlocks} runs. */
export interface PreNormRun {
  /** Blocks, and attention heads of each. */
  readonly sizes: { readonly depth: number; readonly heads: number };
  /** Epsilon of the layer norms. */
  readonly eps: number;
  /** How many of the last blocks are asked for. */
  readonly count: number;
  /** As of `attention`: [batch, tokens]. */
  readonly keyMask?: Tensor;
  /** Sees `block0` and so on. */
  readonly trace?: Trace;
  /** Sees what the attention of each block is computed of. */
  readonly attend?: Attend;
}

/**
 * All blocks, as {@link throughBlocks}.
 *
 * @param p has `blocks.0.*` and so on
 * @param x [batch, tokens, width], which is freed
 * @param result makes what is kept of the output of each block that is asked for
 * @returns that
 */
export function preNormBlocks(
  p: Lookup,
  x: Tensor,
  { sizes: { depth, heads }, eps, count, keyMask, trace, attend }: PreNormRun,
  result: (output: Tensor, block: number) => Tensor,
): Tensor[] {
  const outputs: Tensor[] = [];
  const each = (output: Tensor, i: number) => {
    if (i >= depth - count) outputs.push(result(output, i));
  };
  throughBlocks(x, depth, (input, i) => {
    const source = within(p, `blocks.${i}.`);
    attend?.(preNormProjections(source, input, eps), {});
    return new TransformerBlock(x.device, x.shape[2], heads, source, { eps })
      .apply(input, keyMask ? { keyMask } : {});
  }, { trace, each });
  return outputs;
}
