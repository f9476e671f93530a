/**
 * Numbered collections of clips that training takes crops from.
 *
 * @module
 */
import { isAbsolute, join } from "../deps/path.ts";
import { MATPAC_STATISTICS } from "../../model/frontend/log_mel.ts";
import { NoDataError } from "../errors.ts";
import { AUDIO_EXTENSIONS, walkFiles } from "../io/folders.ts";
import { NameTable } from "./manifest.ts";
import { WorkerPool } from "./worker_pool.ts";
import { syntheticClip } from "./synthetic.ts";
import { type ClipAudio, FileError, LONG_CLIP } from "./clip_reading.ts";
import { type CropPlace, cropStart, samplesOf } from "./crop.ts";

/** Bytes that sources may still keep of decoded waveforms; what one keeps the others lack. */
export interface CacheBudget {
  /** What is left. */
  free: number;
}

/** Bytes of decoded waveforms that are kept. */
export const CACHE_BYTES: number = 512 * 2 ** 20;
/** Bytes of the longest clip that is kept, 17 minutes: until then each crop would decode to it. */
const MOST_KEPT = CACHE_BYTES / 8;

/** Mean and standard deviation of log-mel values. */
export interface Statistics {
  /** Subtracted. */
  readonly mean: number;
  /** Divided by. */
  readonly std: number;
}

/** An input that could not be used. */
export interface SkippedClip {
  /** Path of the file, or the clip's description. */
  readonly path: string;
  /** What is wrong with it. */
  readonly reason: string;
}

/** A part of a clip; what is missing at the end of a short one is silence. */
export interface Crop {
  /** Audio that the front end still has to look at, or what it would make of it, standardised. */
  readonly kind: "waveform" | "logmel";
  /** [(frames - 1) * 160 + 400] at 16 kHz, or [80, frames]. */
  readonly values: Float32Array;
}

/** Clips of a source that share a weight. */
export interface SourcePart {
  /** For messages. */
  readonly name: string;
  /** Clips; the parts follow one another. */
  readonly size: number;
  /** Rows of training come from the parts in proportion to their weights. */
  readonly weight: number;
}

/** A numbered collection of clips. */
export interface ClipSource {
  /** Number of clips, usable or not. */
  readonly size: number;
  /** For messages: "folder /data/esc10", "synthetic corpus". */
  readonly name: string;
  /** Clips found unusable so far, each once, in the order they were met. */
  readonly skipped: readonly SkippedClip[];
  /** Parts that are drawn from by weight; without them every clip is visited once per epoch. */
  readonly parts?: readonly SourcePart[];
  /** Sources that follow one another in this one, when there are several. */
  readonly joined?: readonly Omit<SourcePart, "weight">[];
  /** What log-mel values are standardised with; default the paper's. */
  readonly statistics?: Statistics;
  /** A part of a clip; undefined when the clip is unusable and recorded in `skipped`. */
  crop(index: number, place: CropPlace): Promise<Crop | undefined>;
  /** The clip's path or name, for messages. */
  describe(index: number): string;
}

/** A source of whole waveforms. */
export interface WaveformSource extends ClipSource {
  /**
   * Mono 16 kHz [samples], at least one; undefined when the clip is unusable and recorded in
   * `skipped`.
   */
  load(index: number): Promise<Float32Array | undefined>;
}

/** Options of sources that read files. */
export interface FileSourceOptions {
  /** Called once per file that cannot be used. */
  readonly onSkip?: (path: string, reason: string) => void;
  /** For decoded waveforms kept in memory; default {@link CACHE_BYTES}, for this source alone. */
  readonly cache?: CacheBudget;
  /** Who reads and decodes; default the calling thread. */
  readonly pool?: WorkerPool;
  /** What `.npy` values are standardised with; default the paper's. */
  readonly statistics?: Statistics;
}

/** Options of `audioFolderSource`. */
export type AudioFolderOptions = FileSourceOptions;

/**
 * Files by name, read on demand: names that end in `.npy` are log-mel spectrograms of which only
 * the crop is read, all others audio. Waveforms are kept until the budget is used up, so that later
 * epochs do not decode them again; those that no longer fit are decoded each time. (Nothing is
 * evicted: when every clip is read once per epoch, a full least-recently-used cache would hardly
 * ever hit.)
 *
 * @param name for messages
 * @param root folder of relative names
 */
export function fileSource(
  name: string,
  root: string,
  names: NameTable,
  options: FileSourceOptions = {},
): WaveformSource {
  const { onSkip, statistics = MATPAC_STATISTICS, pool = new WorkerPool(0) } = options;
  const { cache: budget = { free: CACHE_BYTES } } = options;
  const cache = new Map<number, Float32Array>();
  const skipped: SkippedClip[] = [];
  const reported = new Set<number>();
  const describe = (index: number): string => {
    const path = names.at(index);
    return isAbsolute(path) ? path : join(root, path);
  };
  const attempt = async <T>(
    index: number,
    read: (path: string) => Promise<T>,
  ): Promise<T | undefined> => {
    const path = describe(index);
    try {
      return await read(path);
    } catch (error) {
      if (!(error instanceof FileError)) throw error;
      if (!reported.has(index)) {
        reported.add(index);
        skipped.push({ path, reason: error.message });
        onSkip?.(path, error.message);
      }
      return undefined;
    }
  };
  const keep = (index: number, waveform: Float32Array): void => {
    if (waveform.byteLength > budget.free || cache.has(index)) return;
    budget.free -= waveform.byteLength;
    cache.set(index, waveform);
  };
  // Reading ahead in a small collection asks for the same clip in several epochs.
  const loading = new Map<number, Promise<Float32Array | undefined>>();
  const decoding = new Map<number, Promise<ClipAudio | undefined>>();
  const load = async (index: number): Promise<Float32Array | undefined> => {
    const known = cache.get(index);
    if (known) return known;
    const read = () => attempt(index, (path) => pool.run("waveform", { path }));
    const waveform = await once(loading, index, read);
    if (waveform) keep(index, waveform);
    return waveform;
  };
  /** Clips of which only crops come. */
  const long = new Set<number>();
  const crop = async (index: number, place: CropPlace): Promise<Crop | undefined> => {
    const known = cache.get(index);
    if (known) return waveformCrop(known, place);
    const most = Math.max(LONG_CLIP, Math.min(budget.free, MOST_KEPT) / 4);
    const read = () => attempt(index, (path) => pool.run("clip", { path, ...place, most }));
    const shared = decoding.has(index) && !long.has(index);
    let clip = await (long.has(index) ? read() : once(decoding, index, read));
    if (shared && clip && !clip.whole) clip = await read();
    if (!clip) return undefined;
    if (clip.whole) {
      keep(index, clip.samples);
      return waveformCrop(clip.samples, place);
    }
    long.add(index);
    return waveformCrop(clip.samples, { ...place, position: 0 });
  };
  return {
    size: names.size,
    name,
    skipped,
    statistics,
    describe,
    load,
    async crop(index, place): Promise<Crop | undefined> {
      if (!names.endsWith(index, ".npy")) return await crop(index, place);
      const values = await attempt(
        index,
        (path) => pool.run("crop", { path, ...place, ...statistics }),
      );
      return values && { kind: "logmel", values };
    },
  };
}

/**
 * All audio files under some folders, decoded on demand; see {@link fileSource}.
 *
 * @throws FolderError when a folder cannot be listed.
 * @throws NoDataError when the folders hold no audio file at all.
 */
export async function audioFolderSource(
  folders: readonly string[],
  options: AudioFolderOptions = {},
): Promise<WaveformSource> {
  const names = await NameTable.from(async function* () {
    for (const folder of folders) yield* walkFiles(folder, AUDIO_EXTENSIONS);
  }());
  const name = `folder ${folders.join(", ")}`;
  if (names.size === 0) {
    throw new NoDataError(`no audio in ${name}: no ${AUDIO_EXTENSIONS.join(" ")} files`);
  }
  return fileSource(name, "", names, options);
}

/** What is under way for an index, or else is started. */
function once<T>(
  running: Map<number, Promise<T>>,
  index: number,
  start: () => Promise<T>,
): Promise<T> {
  const known = running.get(index);
  if (known) return known;
  const started = start().finally(() => running.delete(index));
  running.set(index, started);
  return started;
}

/** The built-in corpus as a source: `size` clips of `samples` samples each, made on demand. */
export function syntheticSource(
  { size, seed, samples }: { size: number; seed: number; samples: number },
): WaveformSource {
  const load = (index: number) => Promise.resolve(syntheticClip(seed, index, samples).waveform);
  return {
    size,
    name: "synthetic corpus",
    skipped: [],
    describe: (index) => `synthetic clip ${index}`,
    load,
    crop: async (index, place) => waveformCrop(await load(index), place),
  };
}

/** The crop of a waveform, starting on a frame (model/README.md, Data). */
export function waveformCrop(
  waveform: Float32Array | undefined,
  place: CropPlace,
): Crop | undefined {
  if (!waveform) return undefined;
  const length = samplesOf(place.frames);
  const start = cropStart(waveform.length, place);
  const values = new Float32Array(length);
  values.set(waveform.subarray(start, start + length));
  return { kind: "waveform", values };
}

/**
 * Several sources as one, their clips behind one another.
 *
 * @param weights one per source: rows of training come from them in that proportion; without it
 * every clip of every source is visited once per epoch
 */
export function joinSources(
  sources: readonly ClipSource[],
  weights?: readonly number[],
): ClipSource {
  if (sources.length === 1) return sources[0];
  const starts: number[] = [];
  let size = 0;
  for (const source of sources) {
    starts.push(size);
    size += source.size;
  }
  const at = (index: number): [ClipSource, number] => {
    const part = starts.findLastIndex((start) => start <= index);
    return [sources[part], index - starts[part]];
  };
  const joined = sources.map(({ name, size }) => ({ name, size }));
  return {
    size,
    name: sources.map(({ name }) => name).join(", "),
    get skipped() {
      return sources.flatMap(({ skipped }) => skipped);
    },
    joined,
    ...(weights && { parts: joined.map((it, i) => ({ ...it, weight: weights[i] })) }),
    ...(sources[0].statistics && { statistics: sources[0].statistics }),
    describe(index): string {
      const [source, own] = at(index);
      return source.describe(own);
    },
    crop(index, place): Promise<Crop | undefined> {
      const [source, own] = at(index);
      return source.crop(own, place);
    },
  };
}
