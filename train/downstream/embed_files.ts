/**
 * From audio files to a file of embeddings.
 *
 * @module
 */
import { ShapeError } from "../../engine/mod.ts";
import type { Clip } from "../../model/encoder/embed_queue.ts";
import { InterruptedError, NoDataError } from "../errors.ts";
import { AUDIO_EXTENSIONS, isFolder, type OnSkip, walkFiles } from "../io/folders.ts";
import type { WorkerPool } from "../data/worker_pool.ts";
import { FileError } from "../data/clip_reading.ts";
import { lineOf } from "../io/json_lines.ts";
import { yieldToEventLoop } from "../io/event_loop.ts";
import type { Choices, ClipEncoder } from "./clip_encoder.ts";
import { EmbeddingFile, type KeptClips, type RowShape } from "./embedding_file.ts";
import { isInShard, type Shard, type ShardFolder } from "../io/shards.ts";
import type { SkippedClip } from "../data/clip_source.ts";
import { removeIfThere, writeAtomic } from "../io/atomic_write.ts";

/** Seconds that a long file is decoded by. */
const BLOCK_SECONDS = 80;
/** Files that are opened ahead of the GPU while they are short, that is, one block. */
const MOST_OPEN = 32;
/** And while there are long ones among them, which may be decoded as a whole. */
const LEAST_OPEN = 4;

/** What {@link embedFiles} works with. */
export interface EmbedFilesOptions {
  /** Computes. */
  readonly encoder: ClipEncoder;
  /** Decodes. */
  readonly pool: WorkerPool;
  /** Audio files. */
  readonly files: readonly string[];
  /** File of embeddings; its ending decides its form. */
  readonly out: string;
  /** Which embeddings. */
  readonly choices: Choices;
  /** Called after every file, and after parts of long ones. */
  readonly onProgress?: (state: EmbedState) => void;
  /** Aborts. */
  readonly signal?: AbortSignal;
  /** The part of the files to embed, whose embeddings are kept for {@link mergeEmbeddings}. */
  readonly part?: { readonly shard: Shard; readonly folder: ShardFolder<EmbedPart> };
}

/** What a shard leaves beside its embeddings. */
export interface EmbedPart {
  /** Of the rows. */
  readonly shape: RowShape;
  /** Clips that it embedded. */
  readonly clips: KeptClips;
  /** Files that it could not use. */
  readonly skipped: readonly (readonly [index: number, row: SkippedClip])[];
  /** Seconds of audio that it read. */
  readonly seconds: number;
}

/** How far it is. */
export interface EmbedState {
  /** Files embedded. */
  readonly embedded: number;
  /** Files that cannot be used. */
  readonly skipped: number;
  /** Seconds of audio that were read. */
  readonly seconds: number;
}

/** What came of it. */
export interface EmbedResult extends EmbedState {
  /** Files that cannot be used, in order; {@link skippedPath} lists them too. */
  readonly skippedFiles: readonly SkippedClip[];
}

/** Where the files that cannot be used are listed. */
export function skippedPath(out: string): string {
  return `${out}.skipped.jsonl`;
}

/**
 * The audio files that some paths mean: files as they are, whatever they are called, and all audio
 * under folders.
 *
 * @param onSkip hears of subfolders that cannot be listed
 * @throws {FolderError} if a folder cannot be listed.
 */
export async function audioFiles(
  paths: readonly string[],
  onSkip: OnSkip = () => {},
): Promise<string[]> {
  const files = new Set<string>();
  for (const path of paths) {
    if (!await isFolder(path)) files.add(path);
    else for await (const file of walkFiles(path, AUDIO_EXTENSIONS, onSkip)) files.add(file);
  }
  return [...files];
}

/**
 * Embeds audio files. Files that cannot be used are left out and listed beside the file of
 * embeddings. Memory holds the names, a few batches of audio and some blocks of files that are
 * decoded ahead.
 *
 * @throws {NoDataError} if no file can be used
 * @throws {UsageError} if the file of embeddings cannot be made
 * @throws {InterruptedError} when the signal aborted; nothing was written then.
 */
export async function embedFiles(options: EmbedFilesOptions): Promise<EmbedResult> {
  const { encoder, pool, files, out, signal, onProgress, choices, part } = options;
  const { pool: pooling, layers } = choices;
  const { sampleRate } = encoder;
  const shape = {
    size: encoder.embeddingSize(choices),
    frames: pooling === "none",
    ...(layers && { layers: encoder.depth }),
  };
  using own = await part?.folder.begin(part.shard);
  if (own?.before) return resultOf(own.before.clips.length, [own.before]);
  using file = new EmbeddingFile(out, shape);
  const todo = [...files.keys()].filter((i) => isInShard(i, part?.shard));
  const skipped = new Map<number, SkippedClip>();
  let samples = 0;
  const state = () => ({
    embedded: file.clips,
    skipped: skipped.size,
    seconds: samples / sampleRate,
  });
  const request = { samples: BLOCK_SECONDS * sampleRate, sampleRate, overlap: 0, fewest: 1 };
  let mostOpen = LEAST_OPEN;

  /** Begins to decode a file. */
  const open = (index: number): Clip<number> => {
    const pieces = pool.pieces({ path: files[index], ...request });
    const ahead = () => {
      const next = pieces.next();
      // Errors are met when it is waited for.
      next.catch(() => {});
      return next;
    };
    const first = ahead();
    first.then(({ value }) => {
      const short = value?.stream === undefined;
      mostOpen = short ? Math.min(MOST_OPEN, mostOpen + 1) : LEAST_OPEN;
    }, () => {});
    async function* blocks(): AsyncGenerator<Float32Array> {
      for (let it = await first; !it.done;) {
        const next = ahead();
        samples += it.value.samples.length;
        yield it.value.samples;
        onProgress?.(state());
        signal?.throwIfAborted();
        it = await next;
      }
    }
    const failed = (error: unknown) => {
      // Of an encoder: a clip that is longer than its positions, for instance.
      if (!(error instanceof FileError || error instanceof ShapeError)) throw error;
      skipped.set(index, { path: files[index], reason: error.message });
      onProgress?.(state());
    };
    return { key: index, audio: blocks(), failed };
  };
  function* clips(): Generator<Clip<number>> {
    const opened: Clip<number>[] = [];
    for (let next = 0;;) {
      while (opened.length < mostOpen && next < todo.length) opened.push(open(todo[next++]));
      const clip = opened.shift();
      if (!clip) return;
      signal?.throwIfAborted();
      yield clip;
    }
  }

  try {
    for await (const [index, embedding] of encoder.embedEach(clips(), choices)) {
      file.add(index, embedding);
      await yieldToEventLoop();
      onProgress?.(state());
    }
    signal?.throwIfAborted();
  } catch (error) {
    if (!signal?.aborted || error !== signal.reason) throw error;
    throw new InterruptedError(
      `interrupted after ${file.clips} of ${todo.length} files; nothing was written`,
    );
  }
  const found = { shape, skipped: [...skipped], seconds: samples / sampleRate };
  if (!part || !own) return await finish(file, files, [found]);
  const kept = await file.keep(partPath(part.folder, part.shard));
  await own.finish({ ...found, clips: kept });
  return resultOf(kept.length, [found]);
}

function partPath(folder: ShardFolder<EmbedPart>, shard: Shard): string {
  return folder.path(shard, ".f32");
}

/**
 * Makes the file of embeddings of what all shards left: the same bytes as {@link embedFiles}
 * without shards.
 *
 * @returns undefined where there are no shards; else the values of an embedding as well
 * @throws {UsageError} as {@link ShardFolder.parts}
 * @throws {NoDataError} if no file can be used
 */
export async function mergeEmbeddings(
  folder: ShardFolder<EmbedPart>,
  files: readonly string[],
  out: string,
): Promise<EmbedResult & { readonly size: number } | undefined> {
  const parts = await folder.parts();
  if (!parts) return undefined;
  const [{ part: { shape } }] = parts;
  using file = new EmbeddingFile(out, shape);
  for (const { shard, part } of parts) file.take(partPath(folder, shard), part.clips);
  const result = await finish(file, files, parts.map(({ part }) => part));
  await folder.remove();
  return { ...result, size: shape.size };
}

/** Writes the list of skipped files and the file of embeddings. */
async function finish(
  file: EmbeddingFile,
  files: readonly string[],
  parts: readonly Outcome[],
): Promise<EmbedResult> {
  const result = resultOf(file.clips, parts);
  const list = skippedPath(file.path);
  await writeSkipped(list, result.skippedFiles);
  if (file.clips === 0) {
    throw new NoDataError(`no usable audio: all ${files.length} files were skipped; see ${list}`);
  }
  await file.finish(files);
  return result;
}

/** What is said of embedded files. */
type Outcome = Pick<EmbedPart, "skipped" | "seconds">;

function resultOf(embedded: number, parts: readonly Outcome[]): EmbedResult {
  const skippedFiles = parts.flatMap(({ skipped }) => skipped).sort(([a], [b]) => a - b)
    .map(([, row]) => row);
  const seconds = parts.reduce((sum, part) => sum + part.seconds, 0);
  return { embedded, skipped: skippedFiles.length, seconds, skippedFiles };
}

/** Writes the list, or removes that of an earlier run when there is nothing to list. */
async function writeSkipped(path: string, rows: readonly SkippedClip[]): Promise<void> {
  if (rows.length > 0) {
    const text = rows.map(lineOf).join("");
    await writeAtomic(path, [new TextEncoder().encode(text)]);
    return;
  }
  await removeIfThere(path);
}
