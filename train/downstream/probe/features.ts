/**
 * What probes see of a clip: an encoder's embedding, or the mean of its log-mel spectrogram.
 *
 * @module
 */
import { type Device, ShapeError } from "../../../engine/mod.ts";
import type { Clip } from "../../../model/encoder/embed_queue.ts";
import type { ClipPool } from "../../../model/encoder/pooling.ts";
import { MATPAC_STATISTICS } from "../../../model/frontend/log_mel.ts";
import { FRAME_SAMPLES, frameCount, HOP_SAMPLES, MEL_80 } from "../../../model/frontend/tables.ts";
import { SAMPLE_RATE } from "../../audio/decode.ts";
import { BATCH_FRAMES, LogMelQueue } from "../../store/logmel_queue.ts";
import type { WorkerPool } from "../../data/worker_pool.ts";
import type { SkippedClip } from "../../data/clip_source.ts";
import { samplesOf } from "../../data/crop.ts";
import { FileError } from "../../data/clip_reading.ts";
import { InterruptedError } from "../../errors.ts";
import { WaitLine } from "../../cli/wait_line.ts";
import { yieldToEventLoop } from "../../io/event_loop.ts";
import type { ClipChoices, ClipEncoder } from "../clip_encoder.ts";
import { isInShard, type Shard } from "../../io/shards.ts";
import { FeatureRows, fileDigest } from "./feature_cache.ts";

/** Files that are decoded ahead of the GPU. */
const OPEN_FILES = 64;
/** Files that are hashed at a time. */
const HASHED_FILES = 8;

/** A way to compute features. */
export interface FeatureSource {
  /** All that decides what the values are; goes into the name of the cache. */
  readonly identity: unknown;
  /** Values of a clip. */
  readonly size: number;
  /** Samples per second of the clips. */
  readonly sampleRate: number;
  /** Computes them; clips come out in any order. */
  compute<Key>(clips: AsyncIterable<Clip<Key>>): AsyncIterable<readonly [Key, Float32Array]>;
}

/** How long clips are made. */
export interface ClipLength {
  /** Clips are cut to this many seconds, or filled up with silence. */
  readonly seconds?: number;
  /** Shorter clips are filled up to this many seconds with silence. */
  readonly leastSeconds?: number;
}

/** How an encoder's output becomes features. */
export type FeatureOptions = ClipLength & ClipChoices & { readonly pool: ClipPool };

/**
 * Clip embeddings of an encoder.
 *
 * @param weights says which encoder it is: a digest
 * @throws {UsageError} if there is no such choice.
 */
export function encoderSource(
  encoder: ClipEncoder,
  weights: string,
  choices: ClipChoices,
): FeatureSource {
  encoder.needChoices(choices);
  return {
    identity: { kind: "encoder", weights, heads: encoder.heads, ...encoder.resolved(choices) },
    size: encoder.embeddingSize(choices),
    sampleRate: encoder.sampleRate,
    async *compute(clips) {
      for await (const [key, { values }] of encoder.embedEach(clips, choices)) yield [key, values];
    },
  };
}

/**
 * Mean over time of the log-mel spectrogram, 80 values, and its standard deviation over time, 80
 * values more, both brought to the scale in which encoders take it: what is known of a clip without
 * any learning. {@link firstValues} takes the mean alone.
 */
export function melSource(device: Device): FeatureSource {
  return {
    identity: { kind: "log-mel mean and deviation", ...MATPAC_STATISTICS },
    size: 2 * MEL_80.bands,
    sampleRate: SAMPLE_RATE,
    async *compute<Key>(clips: AsyncIterable<Clip<Key>>) {
      using queue = new LogMelQueue(device);
      const waiting: { readonly key: Key; readonly values: Promise<Float32Array | undefined> }[] =
        [];
      const first = async () => {
        const { key, values } = waiting.shift()!;
        const mean = await values;
        return mean === undefined ? [] : [[key, mean] as const];
      };
      for await (const clip of clips) {
        const values = momentsOfLogMel(queue, clip).catch((error) => {
          if (!clip.failed) throw error;
          clip.failed(error);
          return undefined;
        });
        // It is waited for later.
        values.catch(() => {});
        waiting.push({ key: clip.key, values });
        if (waiting.length >= OPEN_FILES) yield* await first();
      }
      while (waiting.length > 0) yield* await first();
    },
  };
}

/** Values of {@link melSource} that are the mean. */
export const MEL_MEANS: number = MEL_80.bands;

/** The first values of each clip. */
export function firstValues(
  table: ReadonlyMap<string, Float32Array>,
  count: number,
): Map<string, Float32Array> {
  return new Map([...table].map(([digest, values]) => [digest, values.slice(0, count)]));
}

async function momentsOfLogMel(
  queue: LogMelQueue,
  { audio }: Clip<unknown>,
): Promise<Float32Array> {
  const parts = audio instanceof Float32Array ? [audio] : audio as AsyncIterable<Float32Array>;
  const sums = new Float64Array(MEL_80.bands);
  // Squares are of differences to the first frame: those of a constant sound are 0.
  const firsts = new Float64Array(sums.length);
  const shifted = new Float64Array(sums.length);
  const squares = new Float64Array(sums.length);
  let all = 0;
  for await (const waveform of parts) {
    for (const piece of piecesOf(waveform)) {
      const logmel = await queue.add(piece);
      const frames = logmel.length / sums.length;
      for (let band = 0; band < sums.length; band++) {
        if (all === 0) firsts[band] = logmel[band * frames];
        for (let t = 0; t < frames; t++) {
          const value = logmel[band * frames + t];
          sums[band] += value;
          shifted[band] += value - firsts[band];
          squares[band] += (value - firsts[band]) ** 2;
        }
      }
      all += frames;
    }
  }
  const { mean, std } = MATPAC_STATISTICS;
  const deviation = (_: number, band: number): number =>
    Math.sqrt(Math.max(0, squares[band] / all - (shifted[band] / all) ** 2)) / std;
  return Float32Array.of(
    ...sums.map((sum) => (sum / all - mean) / std),
    ...sums.map(deviation),
  );
}

/**
 * Pieces whose frames are those of the whole, the last without frames left out; at least one frame.
 */
function* piecesOf(waveform: Float32Array): Generator<Float32Array> {
  if (waveform.length < FRAME_SAMPLES) {
    const frame = new Float32Array(FRAME_SAMPLES);
    frame.set(waveform);
    yield frame;
    return;
  }
  const step = BATCH_FRAMES * HOP_SAMPLES;
  for (let at = 0; frameCount(waveform.length - at, false) > 0; at += step) {
    yield waveform.subarray(at, at + samplesOf(BATCH_FRAMES));
  }
}

/** What {@link clipFeatures} works with. */
export interface ClipFeaturesOptions extends ClipLength {
  /** Computes. */
  readonly source: FeatureSource;
  /** Audio files. */
  readonly paths: readonly string[];
  /** SHA-256 of each file, as {@link audioDigests} finds them. */
  readonly digests: ReadonlyMap<string, string>;
  /** Decodes. */
  readonly pool: WorkerPool;
  /** Where rows are kept. */
  readonly folder?: string;
  /** The part of the files to work on; those of others are taken where they are kept. */
  readonly shard?: Shard;
  /**
   * Called with the files that are done, of how many that were not kept, and the seconds of audio
   * in them.
   */
  readonly onProgress?: (done: number, total: number, seconds: number) => void;
  /** Called once per file that cannot be used. */
  readonly onSkip: (row: SkippedClip) => void;
  /** Aborts. */
  readonly signal?: AbortSignal;
}

/**
 * SHA-256 of audio files.
 *
 * @param onSkip called once per file that cannot be read
 * @param signal aborts
 * @throws {InterruptedError} when it did
 */
export async function audioDigests(
  paths: readonly string[],
  onSkip: (row: SkippedClip) => void,
  { signal, quiet = false }: { readonly signal?: AbortSignal; readonly quiet?: boolean } = {},
): Promise<Map<string, string>> {
  const digests = new Map<string, string>();
  const files = new Set(paths);
  const todo = files.values();
  let done = 0;
  using _ = new WaitLine(() => `reading ${done} of ${files.size} files`, { quiet });
  const work = async () => {
    for (const path of todo) {
      if (signal?.aborted) throw new InterruptedError("interrupted");
      done++;
      try {
        digests.set(path, await fileDigest(path));
      } catch (error) {
        onSkip({ path, reason: error instanceof Error ? error.message : String(error) });
      }
    }
  };
  await Promise.all(Array.from({ length: HASHED_FILES }, work));
  return digests;
}

/** A clip of an audio file. */
export interface DecodedClip<Key> extends Clip<Key> {
  /** The whole waveform, in one piece, as long as {@link ClipLength} says. */
  readonly audio: AsyncGenerator<Float32Array>;
  /** Skips the file for an error of {@link audio}, if that is the file's. */
  readonly failed: (error: unknown) => void;
}

/** How files are decoded. */
export interface DecodeOptions
  extends ClipLength, Pick<ClipFeaturesOptions, "pool" | "onSkip" | "signal"> {
  /** Samples per second of the clips. */
  readonly sampleRate: number;
  /** Called with the seconds of a file. */
  readonly onAudio?: (seconds: number) => void;
}

/**
 * Clips of audio files for an encoder, decoded some ahead of it.
 *
 * @param files keys and paths
 * @throws {InterruptedError} when the signal aborted.
 */
export async function* decodedClips<Key>(
  files: Iterable<readonly [Key, string]>,
  { pool, seconds, leastSeconds = 0, sampleRate, signal, onAudio, onSkip }: DecodeOptions,
): AsyncGenerator<DecodedClip<Key>> {
  const open = ([key, path]: readonly [Key, string]): DecodedClip<Key> => {
    const samples = seconds === undefined ? undefined : Math.round(seconds * sampleRate);
    const waveform = pool.run("waveform", {
      ...{ path, sampleRate },
      ...(samples !== undefined && { samples }),
    });
    // Errors are met when it is waited for.
    waveform.catch(() => {});
    async function* whole(): AsyncGenerator<Float32Array> {
      const audio = await waveform;
      onAudio?.(audio.length / sampleRate);
      const least = Math.max(audio.length, Math.round(leastSeconds * sampleRate));
      yield cut(audio, samples ?? least);
    }
    const failed = (error: unknown) => {
      // Of an encoder: a clip that is longer than its positions, for instance.
      if (!(error instanceof FileError || error instanceof ShapeError)) throw error;
      onSkip({ path, reason: error.message });
    };
    return { key, audio: whole(), failed };
  };
  const opened: DecodedClip<Key>[] = [];
  const todo = files[Symbol.iterator]();
  for (;;) {
    while (opened.length < OPEN_FILES) {
      const next = todo.next();
      if (next.done) break;
      opened.push(open(next.value));
    }
    const clip = opened.shift();
    if (!clip) return;
    await yieldToEventLoop();
    if (signal?.aborted) throw new InterruptedError("interrupted; what was computed is kept");
    yield clip;
  }
}

/** Features of audio files. */
export interface ClipFeatures {
  /** By SHA-256 of the file; those that cannot be used are missing. */
  readonly features: ReadonlyMap<string, Float32Array>;
  /** How many were computed now. */
  readonly computed: number;
  /** Shards that should have computed some of these before, as `2/8`. */
  readonly late: readonly string[];
}

/**
 * Features of audio files, kept ones where the same content was seen before.
 *
 * @throws {InterruptedError} when the signal aborted; what was computed is kept.
 */
export async function clipFeatures(options: ClipFeaturesOptions): Promise<ClipFeatures> {
  const { source, paths, digests, pool, folder, seconds, leastSeconds, shard } = options;
  const { onProgress, onSkip, signal } = options;
  const identity = { ...source.identity as object, seconds, leastSeconds };
  using rows = new FeatureRows(folder, identity, source.size, shard);
  const missing = new Map<string, string>();
  /** Which shard was to compute them. */
  const shardOf = new Map<string, number>();
  for (const [i, path] of paths.entries()) {
    const digest = digests.get(path);
    if (digest === undefined || rows.get(digest) || !isInShard(i, shard)) continue;
    missing.set(digest, path);
    if (shard === undefined && rows.shards) shardOf.set(digest, 1 + i % rows.shards);
  }
  const late = new Set<string>();
  let [done, computed, heard] = [0, 0, 0];
  const report = () => onProgress?.(done, missing.size, heard);
  const clips = decodedClips(missing, {
    pool,
    seconds,
    leastSeconds,
    signal,
    sampleRate: source.sampleRate,
    onAudio: (seconds) => heard += seconds,
    onSkip: (row) => {
      onSkip(row);
      done++;
      report();
    },
  });
  for await (const [digest, values] of source.compute(clips)) {
    rows.add(digest, values);
    if (shardOf.has(digest)) late.add(`${shardOf.get(digest)}/${rows.shards}`);
    done++;
    computed++;
    report();
  }
  const features = new Map<string, Float32Array>();
  for (const path of paths) {
    const digest = digests.get(path);
    const values = digest === undefined ? undefined : rows.get(digest);
    if (values) features.set(digest!, values);
  }
  return { features, computed, late: [...late].sort() };
}

function cut(waveform: Float32Array, samples: number): Float32Array {
  if (waveform.length >= samples) return waveform.subarray(0, samples);
  const filled = new Float32Array(samples);
  filled.set(waveform);
  return filled;
}
