/**
 * What an encoder makes of spectrograms without masking (model/README.md, Embeddings).
 *
 * @module
 */
import {
  concat,
  type Device,
  matmul,
  max,
  mul,
  noGrad,
  permute,
  reshape,
  scope,
  slice,
  sub,
  type Tensor,
  within,
} from "../../engine/functions.ts";
import type { MaskedModel } from "../objectives/masked_model.ts";
import { type PatchGrid, patchSides } from "../vit/geometry.ts";
import { behindClass, classTokens, tokenView } from "../vit/tokens.ts";
import { block, type Lookup, norm } from "../vit/blocks.ts";

/** Sizes of an encoder. */
export interface EncoderGeometry {
  /** Width D. */
  readonly width: number;
  /** Blocks. */
  readonly depth: number;
  /** Attention heads. */
  readonly heads: number;
  /** Mel bands of the input. */
  readonly melBands: number;
  /** Frames (10 ms) that it was made for: the length of a chunk. */
  readonly cropFrames: number;
  /** Bands and frames of a patch. */
  readonly patch: readonly [bands: number, frames: number];
  /** Whether a class token goes before the patches; default true. */
  readonly classToken?: boolean;
  /** Whether keys have a bias; default true. */
  readonly keyBias?: boolean;
}

/** An encoder: what it computes with. */
export interface EncoderNetwork {
  /** Where its parameters are. */
  readonly device: Device;
  /** Its sizes. */
  readonly geometry: EncoderGeometry;
  /**
   * Parameters and the position table `pos_embed` by official name (model/README.md, Checkpoints).
   */
  readonly parameter: Lookup;
}

/** The student's encoder of a model, as its parameters are at the time of use. */
export function studentNetwork(model: MaskedModel): EncoderNetwork {
  const { device, student, geometry } = model;
  return {
    device,
    geometry: { ...geometry, patch: patchSides(geometry) },
    parameter: (name) => model.fixedPositions[name] ?? student.get(name),
  };
}

/**
 * How the values of one time step are put together from its frequency bands: side by side, the low
 * one first, or averaged.
 */
export type Bands = "concat" | "mean";

/** Which outputs are read, and how they are pooled. */
export interface Readout {
  /**
   * What is made of the time steps; `moments` are their sum, and behind it the sum of their squared
   * distances to their mean.
   */
  readonly pool: "sum" | "max" | "moments" | "none";
  /** What is made of the bands of a step. */
  readonly bands: Bands;
  /** All blocks' outputs, or those of {@link blocks} alone. */
  readonly layers: boolean;
  /** Blocks, counted from 1, 0 for what enters the first; default the last one. */
  readonly blocks?: readonly number[];
  /** Time steps from the first that are read; default all. */
  readonly steps?: number;
}

/** Patches along frequency and along time of a chunk of full length. */
export function gridOf(
  { melBands, cropFrames, patch: [bands, frames] }: EncoderGeometry,
): PatchGrid {
  return { rows: melBands / bands, columns: Math.floor(cropFrames / frames) };
}

/** Values of a time step. */
export function stepSize(geometry: EncoderGeometry, bands: Bands): number {
  return bands === "mean" ? geometry.width : gridOf(geometry).rows * geometry.width;
}

/**
 * Encodes chunks of one length. Positions of a shorter chunk are those of its first columns. The
 * class token takes part, if there is one, and is left out of the result.
 *
 * @param logmel [chunks, bands, frames], standardised; at least a patch of frames, at most as many
 * as the encoder was made for; frames that fill no patch are dropped
 * @returns the blocks' outputs in order, the last one after the final norm and the others without
 * it; only the last one unless `layers` or `blocks` say otherwise. Each is [chunks, values of a
 * step], twice as many values of moments, or [chunks, steps, values of a step] without pooling
 */
export function encodeChunks(
  { geometry, parameter: p }: EncoderNetwork,
  logmel: Tensor,
  readout: Readout,
): Tensor[] {
  const { patch, depth, heads, width, keyBias } = geometry;
  const prefix = classTokens(geometry);
  const grid = gridOf(geometry);
  const [chunks, , frames] = logmel.shape;
  const steps = Math.floor(frames / patch[1]);
  const encoder = within(p, "student_encoder.");
  const wanted = new Set(blocksRead(depth, readout));
  const read = (hidden: Tensor) =>
    scope(() =>
      readGrid(
        reshape(slice(hidden, 1, prefix, grid.rows * steps), [chunks, grid.rows, steps, width]),
        readout,
      )
    );
  return noGrad(() =>
    scope(() => {
      const view = tokenView(p, logmel, { ...geometry, grid }, p("pos_embed"));
      let hidden = behindClass(view, view.tokens);
      const outputs: Tensor[] = wanted.has(0) ? [read(hidden)] : [];
      for (let i = 0; i < Math.max(...wanted); i++) {
        // One block's intermediate results at a time: depth must not count in the memory.
        using input = hidden;
        hidden = scope(() => block(within(encoder, `blocks.${i}.`), input, heads, keyBias));
        if (wanted.has(i + 1) && i + 1 < depth) outputs.push(read(hidden));
      }
      return wanted.has(depth) ? [...outputs, read(norm(encoder, "norm", hidden))] : outputs;
    })
  );
}

/** Blocks whose outputs are read, in order, counted from 1. */
export function blocksRead(
  depth: number,
  { layers, blocks = [depth] }: Pick<Readout, "layers" | "blocks">,
): number[] {
  return layers
    ? Array.from({ length: depth }, (_, i) => i + 1)
    : [...blocks].sort((a, b) => a - b);
}

/** @param whole [chunks, rows, steps, width] */
function readGrid(whole: Tensor, { pool, bands, steps = whole.shape[2] }: Readout): Tensor {
  const [chunks, , all] = whole.shape;
  const grid = steps === all ? whole : slice(whole, 2, 0, steps);
  const [, rows, , width] = whole.shape;
  const stacked = bands === "mean"
    ? sumInOrder(reshape(grid, [chunks, rows, -1]), 1 / rows, [chunks, 1, steps, width])
    : grid;
  if (pool === "none") {
    return reshape(permute(stacked, [0, 2, 1, 3]), [chunks, steps, -1]);
  }
  if (pool === "max") return reshape(max(stacked, { axes: [2] }), [chunks, -1]);
  const each = reshape(stacked, [-1, steps, width]);
  const total = sumInOrder(each, 1, [each.shape[0], 1, width]);
  const summed = reshape(total, [chunks, -1]);
  if (pool === "sum") return summed;
  const off = sub(each, mul(total, 1 / steps));
  return concat([summed, sumInOrder(mul(off, off), 1, [chunks, -1])], 1);
}

/**
 * Sums over the middle axis of [outer, terms, inner], times `scale`. Products add in order whatever
 * their sizes; reductions by how many there are, and then the bits of a clip's embedding would
 * depend on the clips beside it.
 */
function sumInOrder(x: Tensor, scale: number, shape: readonly number[]): Tensor {
  const [outer, terms] = x.shape;
  return reshape(matmul(x.device.full([outer, 1, terms], scale), x), shape);
}
