/**
 * Swin's windows (Liu et al., arXiv:2103.14030): attention within squares of tokens that every
 * other block shifts, and merging of neighbours.
 *
 * @module
 */
import {
  composite,
  type Device,
  indexSelect,
  keep,
  linear,
  permute,
  reshape,
  selfAttention,
  type Tensor,
  windowPartition,
  windowReverse,
} from "../../engine/functions.ts";
import { dense, type Lookup, norm } from "../vit/blocks.ts";

/** Epsilon of all layer norms. */
export const SWIN_EPS = 1e-5;

/** How a block attends. */
export interface WindowSizes {
  /** Tokens along either axis. */
  readonly side: number;
  /** Of its windows. */
  readonly tables: WindowTables;
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
 * Which pairs of tokens of shifted windows lie together in the image too: others met only as
 * windows go on at its other end. The official program adds -100 to their scores, which leaves
 * them e^-100 of the others' weight, nothing beside float32's 6e-8.
 *
 * @returns [windows, w^2, w^2] of 1 and 0
 */
export function shiftMask(side: number, window: number): Uint32Array<ArrayBuffer> {
  const shift = Math.floor(window / 2);
  const part = (i: number) => i < side - window ? 0 : i < side - shift ? 1 : 2;
  const [across, area] = [side / window, window * window];
  const mask = new Uint32Array(across * across * area * area);
  for (let at = 0; at < across * across; at++) {
    const regions = Array.from({ length: area }, (_, token) => {
      const row = Math.floor(at / across) * window + Math.floor(token / window);
      return 3 * part(row) + part(at % across * window + token % window);
    });
    regions.forEach((query, i) =>
      regions.forEach((key, j) => mask[(at * area + i) * area + j] = +(query === key))
    );
  }
  return mask;
}

/** What blocks share that have windows of one size; made when first asked for. */
export class WindowTables implements Disposable {
  readonly #masks = new Map<number, Tensor>();
  #index?: Tensor;

  constructor(readonly device: Device, readonly window: number) {}

  /** {@link windowIndex} as [w^4]. */
  get index(): Tensor {
    const { device, window } = this;
    return this.#index ??= keep(device.tensor(windowIndex(window), [window ** 4]));
  }

  /** {@link shiftMask} as [windows, 1, w^2, w^2]. */
  maskOf(side: number): Tensor {
    const { device, window } = this;
    const area = window * window;
    let mask = this.#masks.get(side);
    if (!mask) {
      const shape = [(side / window) ** 2, 1, area, area];
      this.#masks.set(side, mask = keep(device.tensor(shiftMask(side, window), shape)));
    }
    return mask;
  }

  /** Frees them. */
  [Symbol.dispose](): void {
    [this.#index, ...this.#masks.values()].forEach((it) => it?.dispose());
    this.#index = undefined;
    this.#masks.clear();
  }
}

/**
 * A block: x += Attn(LN(x)) within windows; x += MLP(LN(x)), exact GELU.
 *
 * @param p has `norm1.*`, `attn.relative_position_bias_table`, `attn.qkv.*`, `attn.proj.*`,
 * `norm2.*`, `mlp.fc1.*` and `mlp.fc2.*`
 * @param x [clips, side^2, width], row by row
 * @returns the same shape
 */
export function windowBlock(p: Lookup, x: Tensor, sizes: WindowSizes): Tensor {
  const { side, tables, heads, shifted } = sizes;
  const { window } = tables;
  const [clips, , width] = x.shape;
  const area = window * window;
  const shift = shifted ? Math.floor(window / 2) : 0;
  return composite(() => {
    const image = reshape(norm(p, "norm1", x, SWIN_EPS), [clips, side, side, width]);
    const qkv = dense(p, "attn.qkv", windowPartition(image, window, { shift }));
    const pairs = indexSelect(p("attn.relative_position_bias_table"), tables.index);
    const mixed = selfAttention(qkv, heads, {
      bias: reshape(permute(pairs, [1, 0]), [heads, area, area]),
      ...shifted && { mask: tables.maskOf(side) },
    });
    const back = windowReverse(mixed, side, window, { shift });
    const attended = dense(p, "attn.proj", reshape(back, x.shape), { residual: x });
    const inner = dense(p, "mlp.fc1", norm(p, "norm2", attended, SWIN_EPS), { gelu: true });
    return dense(p, "mlp.fc2", inner, { residual: attended });
  });
}

/**
 * Four neighbours become one token of twice the width.
 *
 * @param p has `norm.*` and `reduction.weight`
 * @param x [clips, side^2, width], row by row
 * @returns [clips, side^2 / 4, 2 width]
 */
export function mergeNeighbours(p: Lookup, x: Tensor, side: number): Tensor {
  const [clips, , width] = x.shape;
  return composite(() => {
    const parts = reshape(x, [clips, side / 2, 2, side / 2, 2, width]);
    // The left column of the four first, the upper row first in each.
    const four = reshape(permute(parts, [0, 1, 3, 4, 2, 5]), [clips, side * side / 4, 4 * width]);
    return linear(norm(p, "norm", four, SWIN_EPS), p("reduction.weight"));
  });
}
