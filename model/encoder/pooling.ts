/**
 * How a clip's time steps become one embedding (model/README.md, Embeddings).
 *
 * @module
 */
import { type EncoderGeometry, type Readout, stepSize } from "./embed.ts";
import type { EmbedOptions } from "./embed_queue.ts";

/** Ways to pool, as files and options call them. */
export const CLIP_POOLS = ["mean", "max", "mean-std"] as const;

/** Mean, maximum, or mean and standard deviation; see {@link EmbedOptions.pool}. */
export type ClipPool = typeof CLIP_POOLS[number];

/** What an encoder's file says that clips' embeddings are. */
export interface ClipReadout {
  /** What is made of the time steps. */
  readonly pool: ClipPool;
  /** Blocks whose outputs are put side by side; the last one where there is no word of them. */
  readonly blocks?: readonly number[];
}

/**
 * Options of a clip's embedding with what the encoder does by default. Its blocks belong to its
 * way to pool: they hold only where neither is asked for, and not beside all layers.
 */
export function withReadout<
  Options extends Pick<EmbedOptions, "pool" | "blocks" | "layers">,
>(
  options: Options,
  { pool, blocks }: ClipReadout,
): Options & { readonly pool: NonNullable<Options["pool"]> | ClipPool } {
  const isSilent = options.pool === undefined && options.blocks === undefined && !options.layers;
  return {
    ...options,
    pool: options.pool ?? pool,
    ...isSilent && blocks && { blocks },
  };
}

/** What is read of chunks for each way to pool. */
export const READ: Readonly<Record<ClipPool | "none", Readout["pool"]>> = {
  mean: "sum",
  max: "max",
  "mean-std": "moments",
  none: "none",
};

/** Values of an embedding of such options, or of a time step. */
export function embeddingSize(
  geometry: EncoderGeometry,
  { pool, bands = "concat", blocks }: Pick<EmbedOptions, "pool" | "bands" | "blocks">,
): number {
  return (blocks?.length ?? 1) * (pool === "mean-std" ? 2 : 1) * stepSize(geometry, bands);
}

/** @throws {RangeError} for blocks that the encoder does not have, or one twice */
export function refuseBlocks(
  { depth }: Pick<EncoderGeometry, "depth">,
  blocks?: readonly number[],
): void {
  if (blocks === undefined) return;
  const wrong = blocks.some((it, i) =>
    !Number.isInteger(it) || it < 0 || it > depth || blocks.indexOf(it) !== i
  );
  if (wrong || blocks.length === 0) {
    throw new RangeError(`embed: blocks [${blocks}] must be different ones from 0 to ${depth}`);
  }
}

/** Tables of [rows, size], row by row one behind the other. */
export function sideBySide(
  tables: readonly Float32Array[],
  rows: number,
  size: number,
): Float32Array {
  const all = new Float32Array(rows * tables.length * size);
  tables.forEach((table, at) => {
    for (let row = 0; row < rows; row++) {
      const values = table.subarray(row * size, (row + 1) * size);
      all.set(values, (row * tables.length + at) * size);
    }
  });
  return all;
}

/** Time steps of a clip, and how some of them are to be pooled. */
export interface StepsToPool {
  /** [steps, size], blocks side by side. */
  readonly steps: { readonly values: Float32Array; readonly size: number };
  /** How. */
  readonly pool: ClipPool;
  /** How many blocks are side by side; default 1. */
  readonly blocks?: number;
}

/**
 * What the time steps from `first` up to `end` come to, laid out as a clip's embedding is: for each
 * block its mean or maximum, or its mean and deviation.
 */
export function pooledSteps(
  { steps: { values, size }, pool, blocks = 1 }: StepsToPool,
  first: number,
  end: number,
): Float32Array {
  const column = (k: number): number[] =>
    Array.from({ length: end - first }, (_, i) => values[(first + i) * size + k]);
  const mean = (them: readonly number[]): number => them.reduce((a, b) => a + b, 0) / them.length;
  const of = {
    max: [(them: readonly number[]) => Math.max(...them)],
    mean: [mean],
    "mean-std": [mean, (them: readonly number[]) => {
      const centre = mean(them);
      return Math.sqrt(mean(them.map((it) => (it - centre) ** 2)));
    }],
  }[pool];
  const width = size / blocks;
  return Float32Array.from(
    Array.from(
      { length: blocks },
      (_, block) =>
        of.flatMap((pooled) =>
          Array.from({ length: width }, (_, k) => pooled(column(block * width + k)))
        ),
    ).flat(),
  );
}
