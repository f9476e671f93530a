/**
 * From a folder of audio to a store: one log-mel `.npy` per clip in the same tree, a manifest,
 * statistics.
 *
 * @module
 */
import { dirname, join, relative, resolve } from "../deps/path.ts";
import type { Device } from "../../engine/mod.ts";
import { FRAME_SAMPLES, frameCount, HOP_SAMPLES } from "../../model/frontend/tables.ts";
import {
  InterruptedError,
  isSystemError,
  nameDiskFull,
  NoDataError,
  UsageError,
} from "../errors.ts";
import { lockFolder } from "../io/lock.ts";
import { JsonLines, lineOf } from "../io/json_lines.ts";
import { isInShard, type Shard, type ShardFacts, ShardFolder } from "../io/shards.ts";
import type { SkippedClip } from "../data/clip_source.ts";
import { samplesOf } from "../data/crop.ts";
import { writeAtomic } from "../io/atomic_write.ts";
import { digestOf } from "../io/digest.ts";
import { makeFolder, writeInto, writeJson, writeResult } from "../io/result_file.ts";
import { type ClipSums, ClipWriter, existingClip, statisticsOf } from "./clip_writer.ts";
import { AUDIO_EXTENSIONS, isFolder, listAudioFiles } from "../io/folders.ts";
import { ClipJournal } from "./journal.ts";
import { BATCH_FRAMES, LogMelQueue } from "./logmel_queue.ts";
import { manifestChunks } from "../data/manifest.ts";
import { STORE_FILES } from "../data/data_source.ts";
import type { NpyDtype } from "../io/npy.ts";
import type { WorkerPool } from "../data/worker_pool.ts";
import { FileError } from "../data/clip_reading.ts";

/** Shorter files, at their own rate, are left out. */
const FEWEST_SAMPLES = 1200;
/** Frames that a long clip goes through the front end at a time, 80 s; whole workgroups. */
const PIECE_FRAMES = BATCH_FRAMES / 2;
/** Clips under way at a time: enough to fill a batch with short ones. */
const MOST_OPEN = 128;
/** Clips between two looks at the signal while all that come are there already. */
const YIELD_EVERY = 256;

/** What {@link prepareStore} works with. */
export interface PrepareOptions {
  /** Folder of audio. */
  readonly data: string;
  /** Folder of the store; made where it is not there. */
  readonly out: string;
  /** Number format of the files. */
  readonly dtype: NpyDtype;
  /** Clips of fewer frames are not in the manifest. */
  readonly minFrames: number;
  /** Computes the log-mel; where there is none, all clips have to be there already. */
  readonly device: Device | undefined;
  /** Decodes. */
  readonly pool: WorkerPool;
  /** Hears of every file that is done. */
  readonly onProgress?: (state: PrepareState) => void;
  /** Aborts. */
  readonly signal?: AbortSignal;
  /** The part of the clips to make; without it all, or what shards made is put together. */
  readonly shard?: Shard;
  /** What shards have in common beside {@link dtype} and the files. */
  readonly facts?: ShardFacts;
}

/** What a shard leaves beside its clips and journal: what it skipped, by number of the file. */
type StorePart = readonly (readonly [file: number, reason: string])[];

/** Folder of the records of shards. */
function shardDir(out: string): string {
  return join(out, ".shards");
}

/** Whether shards have worked on a store that nobody has put together yet. */
export async function hasShards(out: string): Promise<boolean> {
  return await isFolder(shardDir(out));
}

/** How far a store is. */
export interface PrepareState {
  /** Files found. */
  readonly total: number;
  /** Files made in this run. */
  readonly made: number;
  /** Files that were there already. */
  readonly kept: number;
  /** Files that cannot be used. */
  readonly skipped: number;
  /** Seconds of audio made in this run. */
  readonly seconds: number;
}

/** What a store holds. */
export interface PrepareResult extends PrepareState {
  /** What is known of all clips together; undefined of a shard. */
  readonly whole?: {
    /** Clips in the manifest. */
    readonly listed: number;
    /** Mean over all values. */
    readonly mean: number;
    /** Standard deviation over all values. */
    readonly std: number;
  };
  /** Lines of prepare.jsonl that were passed over. */
  readonly damaged: number;
}

/**
 * Makes or completes a store. It can be killed at any time and run again: what is complete is kept.
 * Shards make their clips and no manifest; the call without one takes over what they found and
 * makes nothing.
 *
 * @throws {NoDataError | FolderError} if there is nothing to prepare
 * @throws {UsageError} when another process is writing the store, or as {@link ShardFolder}
 * @throws {InterruptedError} when the signal aborted.
 */
export async function prepareStore(options: PrepareOptions): Promise<PrepareResult> {
  const { data, out, dtype, minFrames, device, pool, onProgress, signal, shard } = options;
  const leftOut: SkippedClip[] = [];
  const found = await listAudioFiles(data, (path, reason) => leftOut.push({ path, reason }));
  const files = found.map((path) => relative(data, path)).filter((file) => {
    // The manifest has a line for each; others split it at tabs.
    if (!/\p{Cc}/u.test(file)) return true;
    leftOut.push({ path: join(data, file), reason: "its name holds a control character" });
    return false;
  });
  if (found.length === 0) {
    throw new NoDataError(`no audio in folder ${data}: no ${AUDIO_EXTENSIONS.join(" ")} files`);
  }
  if (/\p{Cc}/u.test(resolve(out))) {
    throw new UsageError(`--out ${out}: no control character may be in it, manifests hold it`);
  }
  const names = storeNames(files);
  await makeFolder(out);
  const open = <T>(make: () => T): T => {
    try {
      return make();
    } catch (error) {
      throw unwritable(error, out);
    }
  };
  const shards = new ShardFolder<StorePart>(shardDir(out), {
    ...options.facts,
    ...{ dtype, files: files.length, "names of files": digestOf(files) },
  });
  const parts = shard === undefined ? await shards.parts() : undefined;
  using _lock = open(() => lockFolder(out, "store", shard !== undefined));
  using own = shard && await shards.begin(shard);
  const log = (name: string, it = shard) => it ? shards.path(it, `-${name}`) : join(out, name);
  using journal = open(() => new ClipJournal(log("prepare.jsonl"), dtype));
  for (const { shard } of parts ?? []) {
    using theirs = new ClipJournal(log("prepare.jsonl", shard), dtype);
    journal.addAll(theirs);
  }
  /** Reasons by number of the file. */
  const refused = new Map<number, string>(parts?.flatMap(({ part }) => part));
  using queue = device && new LogMelQueue(device);
  const clips: (ClipSums | undefined)[] = new Array(files.length);
  const todo = [...files.keys()].filter((i) => isInShard(i, shard));
  const others = shard === undefined ? leftOut : [];
  const state = {
    ...{ total: todo.length + others.length, made: 0, kept: 0, seconds: 0 },
    skipped: others.length + refused.size,
  };
  const folders = new Set<string>();
  const makeClip = async (name: string, source: string): Promise<ClipSums> => {
    const path = join(out, name);
    if (!queue) throw new UsageError(`${path}: was made by a shard and is not there any more`);
    const folder = dirname(path);
    if (!folders.has(folder)) await Deno.mkdir(folder, { recursive: true });
    folders.add(folder);
    using writer = new ClipWriter(path, dtype);
    const request = {
      path: source,
      samples: samplesOf(PIECE_FRAMES),
      overlap: FRAME_SAMPLES - HOP_SAMPLES,
      fewest: FEWEST_SAMPLES,
    };
    let frames = 0;
    for await (const { samples } of pool.pieces(request)) {
      signal?.throwIfAborted();
      const count = frameCount(samples.length, false);
      if (count > 0) writer.add(await queue.add(samples));
      frames += count;
    }
    if (frames === 0) throw new FileError("shorter than one frame of 25 ms");
    return await writer.finish();
  };
  const skips = log("skipped.jsonl");
  let failure: { readonly error: unknown } | undefined;
  {
    using skipped = open(() => JsonLines.create<SkippedClip>(skips));
    for (const row of others) skipped.write(row);
    let next = 0;
    const work = async (): Promise<void> => {
      while (next < todo.length && !failure && !signal?.aborted) {
        const step = next++;
        const index = todo[step];
        if (step % YIELD_EVERY === 0) await new Promise((resolve) => setTimeout(resolve, 0));
        if (refused.has(index)) continue;
        const name = names[index];
        const source = join(data, files[index]);
        try {
          const there = existingClip(join(out, name), dtype, journal.known(name));
          if (there) state.kept++;
          const clip = clips[index] = there ?? await makeClip(name, source);
          if (!there) {
            state.made++;
            state.seconds += clip.frames * HOP_SAMPLES / 16_000;
          }
          journal.add(name, clip);
        } catch (error) {
          const reason = error instanceof FileError ? error.message : refusedName(error, name);
          if (reason === undefined) throw unwritable(error, out);
          state.skipped++;
          refused.set(index, reason);
          skipped.write({ path: source, reason });
        }
        onProgress?.(state);
      }
    };
    const fail = (error: unknown): void => {
      failure ??= { error };
    };
    await Promise.all(Array.from({ length: MOST_OPEN }, () => work().catch(fail)));
  }
  if (signal?.aborted) {
    throw new InterruptedError(
      `interrupted after ${state.made + state.kept} of ${todo.length} files; ` +
        "the same command goes on from there",
    );
  }
  if (failure) throw failure.error;
  // In the order of the files, whenever each was met.
  const skipped = [...refused].sort(([a], [b]) => a - b);
  if (own) {
    await own.finish(skipped);
    return { ...state, damaged: journal.damaged };
  }
  const rows = skipped.map(([i, reason]) => ({ path: join(data, files[i]), reason }));
  await writeResult(skips, [...leftOut, ...rows].map(lineOf).join(""));
  const complete = clips.filter((clip) => clip !== undefined);
  if (complete.length === 0) {
    throw new NoDataError(
      `no usable audio in folder ${data}: all ${files.length} files were skipped; ` +
        `see ${join(out, "skipped.jsonl")}`,
    );
  }
  const listed = names.flatMap((name, i) => {
    const frames = clips[i]?.frames ?? 0;
    return frames >= minFrames ? [[name, frames] as const] : [];
  });
  const statistics = statisticsOf(complete);
  const record = { ...statistics, clips: complete.length, dtype };
  await writeJson(join(out, STORE_FILES.stats), record);
  const root = await Deno.realPath(out);
  const manifest = join(out, STORE_FILES.manifest);
  await writeInto(manifest, () => writeAtomic(manifest, manifestChunks(root, listed)));
  if (parts) await shards.remove();
  const { mean, std } = statistics;
  return { ...state, whole: { listed: listed.length, mean, std }, damaged: journal.damaged };
}

/** Why a file of the store cannot have its name; undefined for errors that are not about it. */
function refusedName(error: unknown, name: string): string | undefined {
  if (!isSystemError(error)) return undefined;
  const code = "code" in error ? error.code : undefined;
  if (code === "ENAMETOOLONG") return `the name of ${name} is too long for the store`;
  const taken = error instanceof Deno.errors.IsADirectory ||
    error instanceof Deno.errors.NotADirectory || code === "EISDIR" || code === "ENOTDIR";
  return taken ? `another file or folder of the store has the name ${name}` : undefined;
}

/** What the system refuses to write, as an error of usage or a full disk. */
function unwritable(error: unknown, out: string): unknown {
  const named = nameDiskFull(error, `a file in ${out}`);
  if (named !== error || !isSystemError(error)) return named;
  return new UsageError(`--out ${out}: cannot be written`, error.message);
}

/**
 * Names of the spectrograms: the ending becomes `.npy`; files that differ in nothing but the ending
 * keep it before, and so does one whose name without it is then taken (`a.mp3.wav` beside `a.mp3`
 * and `a.wav`).
 *
 * @param files relative paths
 */
export function storeNames(files: readonly string[]): string[] {
  const stemOf = (file: string) => file.replace(/\.[^./\\]*$/, "");
  const all = new Set(files);
  const uses = new Map<string, number>();
  for (const stem of files.map(stemOf)) uses.set(stem, (uses.get(stem) ?? 0) + 1);
  const keepsEnding = (file: string): boolean => {
    const stem = stemOf(file);
    return stem !== file && (uses.get(stem)! > 1 || all.has(stem) && keepsEnding(stem));
  };
  return files.map((file) => `${keepsEnding(file) ? file : stemOf(file)}.npy`);
}
