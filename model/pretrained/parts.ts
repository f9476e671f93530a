/**
 * Parts of clips: chunks of one length, what encoders make of them, means over them.
 *
 * @module
 */
import type { Tensor } from "../../engine/functions.ts";
import { joined } from "../encoder/chunks.ts";

/** A part of a clip, in samples or frames. */
export interface Chunk {
  /** Where it begins. */
  readonly first: number;
  /** How long it is. */
  readonly length: number;
}

/** Chunks of one length, the last one as short as it is. */
export function cut(total: number, length: number): Chunk[] {
  return Array.from({ length: Math.ceil(total / length) }, (_, i) => ({
    first: i * length,
    length: Math.min(length, total - i * length),
  }));
}

/** A part of each of several waves, one behind the other. @param waves [clips, samples] */
export function piecesOf(waves: Float32Array, clips: number, part: Chunk): Float32Array {
  const samples = waves.length / clips;
  return joined(
    Array.from({ length: clips }, (_, clip) => {
      const from = clip * samples + part.first;
      return waves.subarray(from, from + part.length);
    }),
  );
}

/**
 * Brings chunks together.
 *
 * @param parts of each chunk, block and clip
 * @param whole makes one of what a clip's chunks give
 * @returns of each block and clip
 */
export function eachOf(
  parts: readonly (readonly (readonly Float32Array[])[])[],
  whole: (chunks: readonly Float32Array[]) => Float32Array,
): Float32Array[][] {
  return parts[0].map((clips, block) =>
    clips.map((_, clip) => whole(parts.map((chunk) => chunk[block][clip])))
  );
}

/**
 * Reads tensors whose first axis is the clips, and frees them.
 *
 * @returns of each tensor, of each clip
 */
export async function readParts(
  tensors: readonly Tensor[],
  clips: number,
): Promise<Float32Array[][]> {
  const all = await Promise.all(tensors.map((it) => it.data()));
  for (const it of tensors) it.dispose();
  return all.map((values) => {
    const size = values.length / clips;
    return Array.from({ length: clips }, (_, i) => values.slice(i * size, (i + 1) * size));
  });
}

/** The mean of arrays that count by their weights. */
export function weightedMean(
  parts: readonly Float32Array[],
  weights: readonly number[] = parts.map(() => 1),
): Float32Array {
  const all = weights.reduce((a, b) => a + b);
  return parts[0].map((_, i) => parts.reduce((sum, it, k) => sum + it[i] * weights[k], 0) / all);
}

/**
 * What several blocks give, side by side or averaged.
 *
 * @param blocks of each, [vectors, width]
 */
export function joinedBlocks(
  blocks: readonly Float32Array[],
  width: number,
  join: "concat" | "mean",
): Float32Array {
  if (blocks.length === 1) return blocks[0];
  if (join === "mean") return weightedMean(blocks);
  const values = new Float32Array(blocks.length * blocks[0].length);
  blocks.forEach((block, b) => {
    for (let at = 0; at < block.length; at += width) {
      values.set(block.subarray(at, at + width), at * blocks.length + b * width);
    }
  });
  return values;
}
