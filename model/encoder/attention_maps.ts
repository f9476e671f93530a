/**
 * What an encoder's tokens attend to: softmax weights of every layer and head.
 *
 * @module
 */
import {
  indexSelect,
  linear,
  matmul,
  mul,
  noGrad,
  permute,
  reshape,
  scope,
  ShapeError,
  slice,
  softmax,
  type Tensor,
  transpose,
  within,
} from "../../engine/functions.ts";
import { type EncoderGeometry, type EncoderNetwork, gridOf } from "./embed.ts";
import { behindClass, classTokens, tokenView } from "../vit/tokens.ts";
import type { PatchGrid } from "../vit/geometry.ts";
import { block, type Lookup, norm } from "../vit/blocks.ts";

/** A token that attends: the class token, or patch row * columns + column, the low row first. */
export type AttentionQuery = "class" | number;

/** Weights with which some tokens of a chunk attend to all of them. */
export interface AttentionMaps {
  /** Patches of the chunk. */
  readonly grid: PatchGrid;
  /** Attention heads. */
  readonly heads: number;
  /** Tokens before the patches, that of the class first; of this project's encoders one or none. */
  readonly classTokens: number;
  /** The tokens that attend. */
  readonly queries: readonly AttentionQuery[];
  /**
   * Of every layer: [heads, queries, classTokens + patches], the class token first; each row sums
   * up to 1.
   */
  readonly layers: readonly Float32Array[];
}

/**
 * Runs a chunk through an encoder, all patches visible, and gives the softmax weights of chosen
 * tokens, as in the notebooks beside MSM-MAE and M2D (model/README.md, Embeddings). The fused
 * kernel of {@link block} never writes them, so they are computed beside it, from the same input of
 * each block.
 *
 * @param logmel [1, bands, frames], standardised; as for {@link encodeChunks}
 * @throws {ShapeError} if the log-mel is not one chunk that fits the encoder, or there is no such
 * token.
 */
export async function attentionMaps(
  { geometry, parameter: p }: EncoderNetwork,
  logmel: Tensor,
  queries: readonly AttentionQuery[],
): Promise<AttentionMaps> {
  const { patch, depth, heads, melBands, cropFrames, keyBias } = geometry;
  const prefix = classTokens(geometry);
  const whole = gridOf(geometry);
  const [chunks, bands, frames] = logmel.shape;
  const grid = { rows: whole.rows, columns: Math.floor(frames / patch[1]) };
  const patches = grid.rows * grid.columns;
  if (
    chunks !== 1 || bands !== melBands || grid.columns < 1 || grid.columns > whole.columns
  ) {
    throw new ShapeError(
      `attentionMaps: [${logmel.shape}] is not [1, ${melBands}, ${patch[1]} to ${cropFrames}]`,
    );
  }
  const isThere = (it: AttentionQuery) =>
    it === "class" ? prefix === 1 : Number.isInteger(it) && it >= 0 && it < patches;
  if (queries.length === 0 || !queries.every(isThere)) {
    throw new ShapeError(
      `attentionMaps: [${queries}] are not among the patches 0 to ${patches - 1}${
        prefix ? " and class" : ""
      }`,
    );
  }
  const tokens = queries.map((it) => it === "class" ? 0 : prefix + it);
  const encoder = within(p, "student_encoder.");
  const weights = noGrad(() =>
    scope(() => {
      const view = tokenView(p, logmel, { ...geometry, grid: whole }, p("pos_embed"));
      let hidden = behindClass(view, view.tokens);
      return Array.from({ length: depth }, (_, i) => {
        using input = hidden;
        const [weights, output] = scope(() => {
          const layer = within(encoder, `blocks.${i}.`);
          return [
            weightsOf(layer, input, geometry, tokens),
            block(layer, input, heads, keyBias),
          ];
        });
        hidden = output;
        return weights;
      });
    })
  );
  const layers = await Promise.all(weights.map((it) => it.data() as Promise<Float32Array>));
  for (const it of weights) it.dispose();
  return { grid, heads, classTokens: prefix, queries, layers };
}

/**
 * softmax(q kᵀ / sqrt(d)) of some tokens of `x` [1, tokens, width]: [heads, queries, tokens]. A
 * bias of keys adds the same to all scores of a query, so that it makes no difference.
 */
function weightsOf(
  p: Lookup,
  x: Tensor,
  { heads, width, keyBias = true }: EncoderGeometry,
  queries: readonly number[],
): Tensor {
  const normed = reshape(norm(p, "norm1", x), [-1, width]);
  const weight = p("attn.qkv.weight");
  const bias = keyBias ? slice(p("attn.qkv.bias"), 0, 0, width) : p("attn.q_bias");
  const byHead = (rows: Tensor) =>
    permute(reshape(rows, [rows.shape[0], heads, width / heads]), [1, 0, 2]);
  const q = byHead(linear(indexSelect(normed, queries), slice(weight, 0, 0, width), bias));
  const k = byHead(matmul(normed, transpose(slice(weight, 0, width, width))));
  return softmax(mul(matmul(q, transpose(k)), (width / heads) ** -0.5));
}
