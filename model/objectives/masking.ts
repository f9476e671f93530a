/**
 * Which patches of a clip are masked: at random, whole rows and columns, runs of columns, or as the
 * caller says (model/README.md, Masking). Patches are counted row by row, low frequencies first.
 *
 * @module
 */

import type { PatchGrid } from "../vit/geometry.ts";

/**
 * How the masks of a run are drawn: single patches; whole rows and columns; or whole columns, in
 * runs of `run` (the last columns of a run may be cut off).
 */
export type Masking =
  | { readonly kind: "random" }
  | { readonly kind: "structured" }
  | { readonly kind: "time"; readonly run: number };

/** Names of the ways to mask. */
export const MASK_KINDS = ["random", "structured", "time"] as const satisfies Masking["kind"][];

/** Which patches each clip keeps. */
export interface Mask {
  /** [batch, patches]: patch numbers, visible ones first, in drawn order. */
  readonly shuffle: Uint32Array;
  /** [batch, patches]: where in `shuffle` each patch stands. */
  readonly restore: Uint32Array;
  /** Visible patches per clip. */
  readonly visible: number;
}

/**
 * Patches that stay visible: the double product truncated, literally as the released code has it.
 *
 * @param patches patches per clip
 * @param ratio share that is masked
 */
export function visibleCount(patches: number, ratio: number): number {
  return Math.trunc(patches * (1 - ratio));
}

/**
 * Patches that stay visible in every clip of every mask that {@link drawMask} draws.
 *
 * @param ratio share that is masked: of patches, or of columns under `time`
 */
export function visiblePatches(
  { kind }: Masking,
  { rows, columns }: PatchGrid,
  ratio: number,
): number {
  return kind === "time"
    ? rows * (columns - Math.trunc(columns * ratio))
    : visibleCount(rows * columns, ratio);
}

/**
 * Draws the mask of a training step. All masks of a run leave {@link visiblePatches} patches
 * visible, because the recorded step replays for one number of tokens only; the released {@link
 * structuredMask} does not, so `structured` is {@link evenStructuredMask} here.
 *
 * @param uniform draws from [0, 1); clips are drawn one after the other, so that passes over parts
 * of a batch draw the same masks as one over all of it
 * @param ratio as in {@link visiblePatches}
 */
export function drawMask(
  masking: Masking,
  uniform: () => number,
  batch: number,
  grid: PatchGrid,
  ratio: number,
): Mask {
  switch (masking.kind) {
    case "random":
      return randomMask(uniform, batch, grid.rows * grid.columns, ratio);
    case "structured":
      return evenStructuredMask(uniform, batch, grid, ratio);
    case "time":
      return runMask(uniform, batch, grid, ratio, masking.run);
  }
}

/** Numbers from 0 in ascending order of their values; ties keep the lower number first. */
function argsort(values: ArrayLike<number>): Uint32Array {
  return Uint32Array.from({ length: values.length }, (_, i) => i)
    .sort((i, j) => values[i] - values[j] || i - j);
}

/** A random order of 0 to n - 1. */
function shuffled(uniform: () => number, n: number): Uint32Array {
  return argsort(Float64Array.from({ length: n }, uniform));
}

/**
 * Turns noise into a mask: patches ordered by ascending noise, the first ones visible.
 *
 * @param noise [batch, patches]; ties keep the lower patch first
 * @param visible patches that stay visible
 */
export function maskFromNoise(
  noise: ArrayLike<number>,
  batch: number,
  patches: number,
  visible: number,
): Mask {
  const shuffle = new Uint32Array(batch * patches);
  const restore = new Uint32Array(batch * patches);
  for (let b = 0; b < batch; b++) {
    const first = b * patches;
    const order = argsort(Array.from({ length: patches }, (_, i) => noise[first + i]));
    shuffle.set(order, first);
    order.forEach((patch, i) => restore[first + patch] = i);
  }
  return { shuffle, restore, visible };
}

/**
 * Draws a random mask for each clip of a batch.
 *
 * @param uniform draws from [0, 1)
 */
export function randomMask(
  uniform: () => number,
  batch: number,
  patches: number,
  ratio: number,
): Mask {
  const noise = Float64Array.from({ length: batch * patches }, uniform);
  return maskFromNoise(noise, batch, patches, visibleCount(patches, ratio));
}

/** Marks whole rows and columns of one clip. */
function markLines(
  marks: Uint8Array,
  { rows, columns }: PatchGrid,
  markedRows: Iterable<number>,
  markedColumns: Iterable<number>,
): void {
  for (const row of markedRows) marks.fill(1, row * columns, (row + 1) * columns);
  for (const column of markedColumns) {
    for (let row = 0; row < rows; row++) marks[row * columns + column] = 1;
  }
}

/** Rows that structured masking marks, from one draw; always at least one stays. */
function rowsToMark({ rows }: PatchGrid, ratio: number, draw: number): number {
  return Math.min(rows - 1, Math.trunc(rows * (ratio + 1 / rows) * draw));
}

/**
 * M2D's structured mask: in each clip as many random rows and columns are marked as one draw for
 * the whole batch and `ratio` say, so that all clips of a batch keep equally many, but one batch
 * more than another. Rows and columns overlap: less than `ratio` is marked. M2D uses it in
 * fine-tuning, where nothing is predicted.
 *
 * `released` is what the code does: it sorts descending, so that the first patches, which are kept,
 * are the marked ones and then the lowest unmarked, as many in all as there are unmarked ones
 * (model/README.md, Where paper and released code differ, row 35). `fixed` keeps the unmarked ones.
 * Ties of the sort keep the lower patch first.
 *
 * @param uniform draws from [0, 1)
 * @throws {RangeError} if nothing would stay visible, which takes a ratio near 1 or few columns.
 */
export function structuredMask(
  uniform: () => number,
  batch: number,
  grid: PatchGrid,
  ratio: number,
  variant: "released" | "fixed",
): Mask {
  const { rows, columns } = grid;
  const patches = rows * columns;
  const markedRows = rowsToMark(grid, ratio, uniform());
  const rest = Math.max(ratio + 0.5 / columns - markedRows / rows, 0);
  const markedColumns = Math.trunc(columns * rest);
  const visible = (rows - markedRows) * (columns - markedColumns);
  if (visible <= 0) {
    throw new RangeError(
      `a structured mask of ratio ${ratio} leaves none of ${rows} x ${columns} patches visible`,
    );
  }
  const marks = new Uint8Array(batch * patches);
  for (let b = 0; b < batch; b++) {
    markLines(
      marks.subarray(b * patches, (b + 1) * patches),
      grid,
      shuffled(uniform, rows).subarray(0, markedRows),
      shuffled(uniform, columns).subarray(0, markedColumns),
    );
  }
  if (variant === "fixed") return maskFromBinary(marks, batch, patches);
  return maskFromNoise(Int8Array.from(marks, (mark) => -mark), batch, patches, visible);
}

/**
 * A structured mask that leaves exactly as many patches visible as a random one of the same ratio,
 * for pre-training: random rows as in {@link structuredMask}, but drawn for each clip by itself and
 * no more than fit, then random columns, the last of which is masked in part (random rows of it) to
 * hit the number. A constant number lets the recorded step replay and makes the ratio mean what it
 * means for the other masks; a plan for each number of rows would take that many times the memory
 * for activations, and one draw for the whole run would always mask equally many rows.
 *
 * @param uniform draws from [0, 1)
 */
export function evenStructuredMask(
  uniform: () => number,
  batch: number,
  grid: PatchGrid,
  ratio: number,
): Mask {
  const { rows, columns } = grid;
  const patches = rows * columns;
  const masked = patches - visibleCount(patches, ratio);
  const marks = new Uint8Array(batch * patches);
  for (let b = 0; b < batch; b++) {
    const own = marks.subarray(b * patches, (b + 1) * patches);
    const markedRows = Math.min(
      rowsToMark(grid, ratio, uniform()),
      Math.floor(masked / columns),
    );
    const rowOrder = shuffled(uniform, rows);
    const columnOrder = shuffled(uniform, columns);
    const height = rows - markedRows;
    const rest = masked - markedRows * columns;
    const markedColumns = Math.floor(rest / height);
    markLines(
      own,
      grid,
      rowOrder.subarray(0, markedRows),
      columnOrder.subarray(0, markedColumns),
    );
    for (const row of rowOrder.subarray(markedRows, markedRows + rest % height)) {
      own[row * columns + columnOrder[markedColumns]] = 1;
    }
  }
  return maskFromBinary(marks, batch, patches);
}

/**
 * The 1-D mask (M2D's `--cont_mask`): in each clip runs of columns from random starts, which may
 * overlap and are cut off at the end, until the ratio is reached; then the latest masked columns
 * are made visible again to hit it exactly. As in the released code, both ends of a clip are masked
 * less often than its middle: fewer runs reach them.
 *
 * @param uniform draws from [0, 1)
 * @param ratio share of columns that is masked
 * @param run columns of a run
 * @throws {RangeError} if `run` is not a whole number from 1, or `ratio` not in 0 to 1.
 */
export function runMask(
  uniform: () => number,
  batch: number,
  grid: PatchGrid,
  ratio: number,
  run: number,
): Mask {
  if (!Number.isInteger(run) || run < 1) {
    throw new RangeError(`a run of masked columns has a whole number from 1 of them, not ${run}`);
  }
  if (!(ratio >= 0 && ratio <= 1)) throw new RangeError(`the masked share is ${ratio}, not 0 to 1`);
  const { rows, columns } = grid;
  const patches = rows * columns;
  const masked = Math.trunc(columns * ratio);
  const marks = new Uint8Array(batch * patches);
  for (let b = 0; b < batch; b++) {
    const marked = new Set<number>();
    while (marked.size < masked) {
      const start = Math.floor(uniform() * columns);
      for (let i = start; i < Math.min(start + run, columns); i++) marked.add(i);
    }
    const kept = [...marked].sort((i, j) => i - j).slice(0, masked);
    markLines(marks.subarray(b * patches, (b + 1) * patches), grid, [], kept);
  }
  return maskFromBinary(marks, batch, patches);
}

/**
 * A mask that was given: visible patches in order, then masked ones. MSM-MAE takes it as is; M2D's
 * code expects twice as many values, which this does not.
 *
 * @param binary [batch, patches]: 0 for visible, 1 for masked
 * @throws {RangeError} if a value is neither, if the size is another, or if clips do not keep
 * equally many.
 */
export function maskFromBinary(binary: ArrayLike<number>, batch: number, patches: number): Mask {
  checkSize("a binary mask", binary, batch, patches);
  let visible: number | undefined;
  for (let b = 0; b < batch; b++) {
    let own = 0;
    for (let i = b * patches; i < (b + 1) * patches; i++) {
      if (binary[i] !== 0 && binary[i] !== 1) {
        throw new RangeError(`a binary mask holds 0 (visible) and 1 (masked), not ${binary[i]}`);
      }
      own += 1 - binary[i];
    }
    visible ??= own;
    if (own !== visible) {
      throw new RangeError(
        `clips of a batch must keep equally many patches: clip 0 keeps ${visible}, ` +
          `clip ${b} keeps ${own}`,
      );
    }
  }
  return maskFromNoise(binary, batch, patches, visible ?? 0);
}

/**
 * A mask that was given as the place of each patch in the shuffled order (the released
 * `ids_restore` and `len_keep`).
 *
 * @param restore [batch, patches]
 * @param visible places from 0 that are visible
 * @throws {RangeError} if the size is another, a clip's places are no permutation, or `visible` is
 * out of range.
 */
export function maskFromRestore(
  restore: ArrayLike<number>,
  visible: number,
  batch: number,
  patches: number,
): Mask {
  checkSize("ids_restore", restore, batch, patches);
  if (!Number.isInteger(visible) || visible < 0 || visible > patches) {
    throw new RangeError(`${visible} of ${patches} patches cannot be visible`);
  }
  const shuffle = new Uint32Array(batch * patches).fill(patches);
  for (let b = 0; b < batch; b++) {
    const own = shuffle.subarray(b * patches, (b + 1) * patches);
    for (let patch = 0; patch < patches; patch++) {
      const place = restore[b * patches + patch];
      if (own[place] !== patches) {
        throw new RangeError(`ids_restore of clip ${b} is no permutation: see patch ${patch}`);
      }
      own[place] = patch;
    }
  }
  return { shuffle, restore: Uint32Array.from(restore), visible };
}

/**
 * Whether each patch is masked, in the order of the grid.
 *
 * @returns [batch, patches]: 0 for visible, 1 for masked
 */
export function binaryMask({ restore, visible }: Pick<Mask, "restore" | "visible">): Uint8Array {
  return Uint8Array.from(restore, (place) => place < visible ? 0 : 1);
}

function checkSize(
  what: string,
  values: ArrayLike<number>,
  batch: number,
  patches: number,
): void {
  if (values.length !== batch * patches) {
    throw new RangeError(
      `${what} of ${batch} x ${patches} patches has ${values.length} values`,
    );
  }
}
