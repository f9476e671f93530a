/**
 * Swin's windows (Liu et al., arXiv:2103.14030): attention within squares of tokens that every
 * other block shifts, and merging of neighbours.
 *
 * @module
 */
import {
  add,
  type Device,
  indexSelect,
  layerNorm,
  linear,
  permute,
  reshape,
  roll,
  scope,
  selfAttention,
  type Tensor,
} from "../../engine/functions.ts";
import type { Lookup } from "../vit/blocks.ts";

/** Epsilon of all layer norms. */
export const SWIN_EPS = 1e-5;
/** Added to the scores of pairs that only the roll brought together. */
const HIDDEN = -100;

/** How a block attends. */
export interface WindowSizes {
  /** Tokens along either axis. */
  readonly side: number;
  /** Tokens along either axis of a window. */
  readonly window: number;
  /** Attention heads. */
  readonly heads: number;
  /** Whether windows are shifted by half of their side. */
  readonly shifted: boolean;
}

/**
 * Row of the table of relative positions for each pair: (rows apart + w - 1) (2 w - 1) + columns
 * apart + w - 1, query less key.
 *
 * @returns [w^2 queries, w^2 keys]
 */
export function windowIndex(window: number): Uint32Array {
  const area = window * window;
  return Uint32Array.from({ length: area * area }, (_, i) => {
    const [query, key] = [Math.floor(i / area), i % area];
    const rows = Math.floor(query / window) - Math.floor(key / window);
    const columns = query % window - key % window;
    return (rows + window - 1) * (2 * window - 1) + columns + window - 1;
  });
}

/**
 * What is added to scores in shifted windows: -100 between tokens that lie in different parts of
 * the image before the roll.
 *
 * @returns [windows, w^2, w^2]
 */
export function shiftMask(side: number, window: number): Float32Array {
  const shift = Math.floor(window / 2);
  const part = (i: number) => i < side - window ? 0 : i < side - shift ? 1 : 2;
  const [across, area] = [side / window, window * window];
  const regionOf = (at: number, token: number) => {
    const row = Math.floor(at / across) * window + Math.floor(token / window);
    const column = at % across * window + token % window;
    return 3 * part(row) + part(column);
  };
  return Float32Array.from({ length: across * across * area * area }, (_, i) => {
    const [at, query, key] = [Math.floor(i / area / area), Math.floor(i / area) % area, i % area];
    return regionOf(at, query) === regionOf(at, key) ? 0 : HIDDEN;
  });
}

/** Bias of the scores of a block's windows: [1 or windows, heads, w^2, w^2]. */
function biasOf(device: Device, table: Tensor, { side, window, heads, shifted }: WindowSizes) {
  const area = window * window;
  const pairs = indexSelect(table, [...windowIndex(window)]);
  const bias = reshape(permute(pairs, [1, 0]), [1, heads, area, area]);
  if (!shifted) return bias;
  const mask = device.tensor(shiftMask(side, window), [(side / window) ** 2, 1, area, area]);
  return add(bias, mask);
}

/**
 * A block: x += Attn(LN(x)) within windows; x += MLP(LN(x)), exact GELU.
 *
 * @param p has `norm1.*`, `attn.relative_position_bias_table`, `attn.qkv.*`, `attn.proj.*`,
 * `norm2.*`, `mlp.fc1.*` and `mlp.fc2.*`
 * @param x [side^2, width], row by row
 * @returns the same shape
 */
export function windowBlock(p: Lookup, x: Tensor, sizes: WindowSizes): Tensor {
  const { side, window, heads, shifted } = sizes;
  const [tokens, width] = x.shape;
  const across = side / window;
  const shift = Math.floor(window / 2);
  const normed = (name: string, it: Tensor) =>
    layerNorm(it, p(`${name}.weight`), p(`${name}.bias`), SWIN_EPS);
  const layered = (name: string, it: Tensor, options: { gelu?: boolean; residual?: Tensor } = {}) =>
    linear(it, p(`${name}.weight`), p(`${name}.bias`), options);
  return scope(() => {
    const image = reshape(normed("norm1", x), [side, side, width]);
    const rolled = shifted ? roll(image, [-shift, -shift], [0, 1]) : image;
    const squares = permute(reshape(rolled, [across, window, across, window, width]), [
      0,
      2,
      1,
      3,
      4,
    ]);
    const cut = reshape(squares, [across * across, window * window, width]);
    const mixed = selfAttention(layered("attn.qkv", cut), heads, {
      bias: biasOf(x.device, p("attn.relative_position_bias_table"), sizes),
    });
    const parts = reshape(mixed, [across, across, window, window, width]);
    const joined = reshape(permute(parts, [0, 2, 1, 3, 4]), [side, side, width]);
    const back = shifted ? roll(joined, [shift, shift], [0, 1]) : joined;
    const attended = layered("attn.proj", reshape(back, [tokens, width]), { residual: x });
    const inner = layered("mlp.fc1", normed("norm2", attended), { gelu: true });
    return layered("mlp.fc2", inner, { residual: attended });
  });
}

/**
 * Four neighbours become one token of twice the width.
 *
 * @param p has `norm.*` and `reduction.weight`
 * @param x [side^2, width], row by row
 * @returns [side^2 / 4, 2 width]
 */
export function mergeNeighbours(p: Lookup, x: Tensor, side: number): Tensor {
  const width = x.shape[1];
  return scope(() => {
    const parts = reshape(x, [side / 2, 2, side / 2, 2, width]);
    // The left column of the four first, the upper row first in each.
    const four = reshape(permute(parts, [0, 2, 3, 1, 4]), [side * side / 4, 4 * width]);
    const normed = layerNorm(four, p("norm.weight"), p("norm.bias"), SWIN_EPS);
    return linear(normed, p("reduction.weight"));
  });
}
