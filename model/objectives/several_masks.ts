/**
 * Several masks for each clip of a batch: clips [B, ...] become rows [B · M, ...], the masks of a
 * clip next to each other.
 *
 * @module
 */
import {
  batchedIndexSelect,
  contiguous,
  expand,
  reshape,
  type Tensor,
} from "../../engine/functions.ts";
import type { TokenView } from "../vit/tokens.ts";
import type { DeviceMask } from "./masked_model.ts";

/**
 * Each clip `times` times in a row; gradients of the copies add up.
 *
 * @param x [B, n, d]
 * @returns [B · times, n, d]
 */
export function repeatEach(x: Tensor, times: number): Tensor {
  if (times === 1) return x;
  const [batch, n, d] = x.shape;
  const copies = expand(reshape(x, [batch, 1, n, d]), [batch, times, n, d]);
  return reshape(copies, [batch * times, n, d]);
}

/**
 * Rows of clips by the indices of their masks, without copies of the clips; not to be
 * differentiated through, which would be slow.
 *
 * @param x [B, L, d]
 * @param ids u32 [B · M, n]
 * @returns [B · M, n, d]
 */
export function selectEach(x: Tensor, ids: Tensor): Tensor {
  const [batch, , d] = x.shape;
  const [rows, n] = ids.shape;
  if (rows === batch) return batchedIndexSelect(x, ids, { unique: true });
  const flat = reshape(contiguous(ids), [batch, rows / batch * n]);
  return reshape(batchedIndexSelect(x, flat), [rows, n, d]);
}

/** Clips and masks, a row for each mask. */
export interface MaskedRows {
  /** The clips' tokens, repeated for their masks. */
  readonly view: TokenView;
  /** [B · M, L] each. */
  readonly mask: DeviceMask;
}

/**
 * A row for each mask.
 *
 * @param view of B clips of L patches
 * @param mask indices [B, M · L]: for each clip M masks one behind the other
 */
export function rowsOfMasks(view: TokenView, { visible, ...ids }: DeviceMask): MaskedRows {
  const [batch, patches] = view.tokens.shape;
  const masks = ids.shuffle.shape[1] / patches;
  if (masks === 1) return { view, mask: { visible, ...ids } };
  const rows = (it: Tensor) => reshape(it, [batch * masks, patches]);
  return {
    view: {
      patchTokens: view.patchTokens,
      tokens: repeatEach(view.tokens, masks),
      cls: view.cls && repeatEach(view.cls, masks),
    },
    mask: { visible, shuffle: rows(ids.shuffle), restore: rows(ids.restore) },
  };
}
