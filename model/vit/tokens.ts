/**
 * Spectrograms as the sequences that encoders take (model/README.md, Patches and positions).
 *
 * @module
 */
import {
  add,
  concat,
  expand,
  linear,
  permute,
  reshape,
  ShapeError,
  slice,
  type Tensor,
  within,
} from "../../engine/functions.ts";
import type { Lookup } from "./blocks.ts";
import { type Geometry, type PatchGrid, patchSides, type PatchSize } from "./geometry.ts";
import { cropPositions } from "./positions.ts";

/** Class tokens of a sequence: one or none. */
export function classTokens({ classToken = true }: Pick<Geometry, "classToken">): 0 | 1 {
  return classToken ? 1 : 0;
}

/** A batch as tokens. */
export interface TokenView {
  /** [B, L, D] patch embeddings before positions. */
  readonly patchTokens: Tensor;
  /** [B, L, D] the same with positions. */
  readonly tokens: Tensor;
  /** [B, 1, D] class token with its position, if there is one. */
  readonly cls: Tensor | undefined;
}

/**
 * Cuts spectrograms into patches, frequency-major: token = f * columns + t. Trailing frames that
 * fill no patch are dropped, as by a strided convolution.
 *
 * @param x [batch, bands, frames]
 * @returns [batch, tokens, values of a patch], frequency rows first inside a patch
 * @throws {ShapeError} if bands are no multiple of the patch or no patch fits.
 */
export function patchify(x: Tensor, patch: PatchSize): Tensor {
  const [high, wide] = patchSides({ patchSize: patch });
  const [batch, bands, frames] = x.shape;
  const [rows, columns] = [bands / high, Math.floor(frames / wide)];
  if (x.shape.length !== 3 || !Number.isInteger(rows) || columns === 0) {
    throw new ShapeError(
      `patchify: [${x.shape}] is not [batch, bands, frames] with patches of ${high} x ${wide}`,
    );
  }
  const whole = columns * wide === frames ? x : slice(x, 2, 0, columns * wide);
  const parts = reshape(whole, [batch, rows, high, columns, wide]);
  return reshape(permute(parts, [0, 1, 3, 2, 4]), [batch, rows * columns, high * wide]);
}

/**
 * Patch embedding: a convolution whose stride is its kernel, as one linear layer over patches.
 *
 * @param p has `proj.weight` [width, 1, ...patch] and `proj.bias`
 * @param x [batch, bands, frames]
 * @returns [batch, tokens, width]
 */
export function patchEmbed(p: Lookup, x: Tensor, patch: PatchSize): Tensor {
  const weight = p("proj.weight");
  const flat = reshape(weight, [weight.shape[0], weight.size / weight.shape[0]]);
  return linear(patchify(x, patch), flat, p("proj.bias"));
}

/** What {@link tokenView} has to know of an encoder. */
export interface TokenGeometry extends Pick<Geometry, "classToken"> {
  /** Bands and frames of a patch. */
  readonly patch: PatchSize;
  /** Patches that the position table is for. */
  readonly grid: PatchGrid;
}

/**
 * Patches of a batch as tokens, with positions: those of the table's first columns where the input
 * is shorter.
 *
 * @param p has `patch_embed.*` and, with a class token, `cls_token`
 * @param input [B, bands, frames]
 * @param table [1, 1 + patches, D] positions, the class token's first if there is one
 * @throws {ShapeError} {RangeError} if the input does not fit patches or table.
 */
export function tokenView(
  p: Lookup,
  input: Tensor,
  { patch, grid, ...geometry }: TokenGeometry,
  table: Tensor,
): TokenView {
  const prefix = classTokens(geometry);
  const patchTokens = patchEmbed(within(p, "patch_embed."), input, patch);
  const [batch, patches, width] = patchTokens.shape;
  const positions = cropPositions(table, grid, patches / grid.rows);
  const tokens = add(patchTokens, prefix ? slice(positions, 1, 1, patches) : positions);
  const cls = prefix
    ? expand(add(p("cls_token"), slice(positions, 1, 0, 1)), [batch, 1, width])
    : undefined;
  return { patchTokens, tokens, cls };
}

/** Puts the class token first, if there is one. */
export function behindClass({ cls }: Pick<TokenView, "cls">, tokens: Tensor): Tensor {
  return cls ? concat([cls, tokens], 1) : tokens;
}
