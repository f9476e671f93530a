import { AudioError, loadWaveform } from "./audio.ts";
import { AUDIO_EXTENSIONS, listAudioFiles } from "./files.ts";
import { Prng, type PrngState } from "./prng.ts";
import { syntheticClip } from "./synthetic.ts";

/** Hop and window of the front end in samples (SPEC 1.1). */
const HOP = 160;
const WINDOW = 400;
const MEBIBYTE = 2 ** 20;

/** What one training step consumes. */
export interface Batch {
  /** [batch, cropSamples], mono, 16 kHz, row-major, all finite. */
  readonly samples: Float32Array;
  /** The source's clip index per row. */
  readonly clips: number[];
  /** Epoch of the first row, from 0. */
  readonly epoch: number;
}

/** An input that could not be used. */
export interface SkippedClip {
  /** Path of the file, or the clip's description. */
  readonly path: string;
  /** What is wrong with it. */
  readonly reason: string;
}

/** A numbered collection of waveforms. */
export interface ClipSource {
  /** Number of clips, usable or not. */
  readonly size: number;
  /** For messages: "folder /data/esc10", "synthetic corpus". */
  readonly name: string;
  /** Clips found unusable so far, in the order they were met. */
  readonly skipped: readonly SkippedClip[];
  /** Mono 16 kHz [samples], at least one; undefined when the clip is unusable and recorded in `skipped`. */
  load(index: number): Promise<Float32Array | undefined>;
  /** The clip's path or name, for messages. */
  describe(index: number): string;
}

/** Nothing to train on. The message names the source and how many files were found and skipped. */
export class NoDataError extends Error {
  /** The class name, as printed. */
  override readonly name = "NoDataError";
}

/** Options of `audioFolderSource`. */
export interface AudioFolderOptions {
  /** Called once per file that cannot be used. */
  readonly onSkip?: (path: string, reason: string) => void;
  /** Budget for decoded waveforms kept in memory, bytes; default 512 MiB. */
  readonly cacheBytes?: number;
}

/**
 * All audio files under some folders, decoded on demand. Waveforms are kept until the budget is used up, so that later
 * epochs do not decode them again; those that no longer fit are decoded each time. (Nothing is evicted: when every clip
 * is read once per epoch, a full least-recently-used cache would hardly ever hit.)
 *
 * @throws FolderError when a folder cannot be listed.
 * @throws NoDataError when the folders hold no audio file at all.
 */
export async function audioFolderSource(
  folders: readonly string[],
  options: AudioFolderOptions = {},
): Promise<ClipSource> {
  const { onSkip, cacheBytes = 512 * MEBIBYTE } = options;
  const paths: string[] = [];
  for (const folder of folders) paths.push(...await listAudioFiles(folder));
  const name = `folder ${folders.join(", ")}`;
  if (paths.length === 0) {
    throw new NoDataError(
      `no audio in ${name}: no ${AUDIO_EXTENSIONS.join(" ")} files`,
    );
  }
  const cache = new Map<number, Float32Array>();
  const skipped: SkippedClip[] = [];
  let free = cacheBytes;
  return {
    size: paths.length,
    name,
    skipped,
    describe: (index) => paths[index],
    async load(index: number): Promise<Float32Array | undefined> {
      const cached = cache.get(index);
      if (cached) return cached;
      const path = paths[index];
      try {
        const waveform = await loadWaveform(path);
        if (waveform.byteLength <= free) {
          free -= waveform.byteLength;
          cache.set(index, waveform);
        }
        return waveform;
      } catch (error) {
        if (!(error instanceof AudioError)) throw error;
        skipped.push({ path, reason: error.message });
        onSkip?.(path, error.message);
        return undefined;
      }
    },
  };
}

/**
 * The built-in corpus as a source: `size` clips of `samples` samples each, made on demand.
 */
export function syntheticSource(
  { size, seed, samples }: { size: number; seed: number; samples: number },
): ClipSource {
  return {
    size,
    name: "synthetic corpus",
    skipped: [],
    describe: (index) => `synthetic clip ${index}`,
    load: (index) => Promise.resolve(syntheticClip(seed, index, samples).waveform),
  };
}

/** Where a loader stands, ready for JSON. */
export interface LoaderState {
  /** Epoch of the next clip, from 0. */
  readonly epoch: number;
  /** Clips of that epoch already used or skipped. */
  readonly position: number;
  /** Generator of the crop positions. */
  readonly generator: PrngState;
  /** Number of clips in the source, to notice another data set. */
  readonly clips: number;
}

/** Constructor arguments of `Loader`. */
export interface LoaderOptions {
  /** Where the clips come from. */
  readonly source: ClipSource;
  /** Rows per batch. */
  readonly batch: number;
  /** Samples per row: (frames - 1) * 160 + 400. */
  readonly cropSamples: number;
  /** Determines order and crops. */
  readonly seed: number;
}

interface Prepared {
  readonly batch: Batch;
  readonly after: LoaderState;
}

/**
 * Endless random crops. Every epoch visits each usable clip once in a new seeded order. A crop starts at a uniformly
 * random frame from 0 to T - cropFrames inclusive (SPEC 1.2, item 5); a shorter clip is padded with silence at its end.
 * The last batch of an epoch is completed from the next epoch. One batch is prepared ahead.
 *
 * The same seed and source give the same batches, also across `state` and `restore`.
 */
export class Loader {
  readonly #options: LoaderOptions;
  readonly #unusable = new Set<number>();
  #order: { epoch: number; clips: Uint32Array } | undefined;
  #state: LoaderState;
  #pending: Promise<Prepared> | undefined;

  /**
   * Starts at the first clip of the first epoch.
   *
   * @throws RangeError when batch or cropSamples are not possible; NoDataError when the source is empty.
   */
  constructor(options: LoaderOptions) {
    const { source, batch, cropSamples, seed } = options;
    if (!Number.isSafeInteger(batch) || batch < 1) {
      throw new RangeError(`batch must be a positive integer, got ${batch}`);
    }
    if (cropSamples < WINDOW || (cropSamples - WINDOW) % HOP !== 0) {
      throw new RangeError(
        `cropSamples must be (frames - 1) * ${HOP} + ${WINDOW}, got ${cropSamples}`,
      );
    }
    if (source.size < 1) throw new NoDataError(`${source.name} has no clips`);
    this.#options = options;
    this.#state = {
      epoch: 0,
      position: 0,
      generator: new Prng(seed, -1).state(),
      clips: source.size,
    };
  }

  /** Clips that could not be used, with the reason. */
  get skipped(): readonly SkippedClip[] {
    return this.#options.source.skipped;
  }

  /**
   * The next batch; starts on the one after it. Calls may overlap: they are answered in order.
   *
   * @throws NoDataError when no clip of the source is usable.
   */
  async next(): Promise<Batch> {
    const current = this.#pending ?? this.#prepare(this.#state);
    const following = current.then(({ after }) => this.#prepare(after));
    // A failure ahead of time is reported by the call that asks for that batch.
    following.catch(() => {});
    this.#pending = following;
    const { batch, after } = await current;
    this.#state = after;
    return batch;
  }

  /** The position after the last batch handed out; the one prepared ahead does not count. */
  state(): LoaderState {
    return this.#state;
  }

  /**
   * Continues from a saved position.
   *
   * @throws RangeError when the state belongs to a source with another number of clips.
   */
  restore(state: LoaderState): void {
    const { source } = this.#options;
    if (state.clips !== source.size) {
      throw new RangeError(
        `cannot resume: the data had ${state.clips} clips then, ` +
          `${source.name} has ${source.size} now`,
      );
    }
    this.#state = state;
    this.#pending = undefined;
  }

  async #prepare(from: LoaderState): Promise<Prepared> {
    const { source, batch, cropSamples } = this.#options;
    const prng = Prng.fromState(from.generator);
    const samples = new Float32Array(batch * cropSamples);
    const clips: number[] = [];
    let { epoch, position } = from;
    let firstEpoch = epoch;
    while (clips.length < batch) {
      if (position === source.size) {
        epoch++;
        position = 0;
      }
      const index = this.#orderOf(epoch)[position++];
      const waveform = await this.#load(index);
      if (!waveform) continue;
      if (clips.length === 0) firstEpoch = epoch;
      samples.set(
        randomCrop(waveform, cropSamples, prng),
        clips.length * cropSamples,
      );
      clips.push(index);
    }
    return {
      batch: { samples, clips, epoch: firstEpoch },
      after: { ...from, epoch, position, generator: prng.state() },
    };
  }

  async #load(index: number): Promise<Float32Array | undefined> {
    if (this.#unusable.has(index)) return undefined;
    const { source } = this.#options;
    const waveform = await source.load(index);
    if (waveform) return waveform;
    this.#unusable.add(index);
    if (this.#unusable.size === source.size) {
      const [first] = source.skipped;
      throw new NoDataError(
        `no usable audio in ${source.name}: all ${source.size} files were skipped` +
          (first ? `, the first one ${first.path}: ${first.reason}` : ""),
      );
    }
    return undefined;
  }

  /** Each epoch's order has its own generator, so that it need not be saved. */
  #orderOf(epoch: number): Uint32Array {
    if (this.#order?.epoch !== epoch) {
      const { seed, source } = this.#options;
      const clips = new Prng(seed, epoch).permutation(source.size);
      this.#order = { epoch, clips };
    }
    return this.#order.clips;
  }
}

/** A view of at most `length` samples from a random frame-aligned position. */
function randomCrop(
  waveform: Float32Array,
  length: number,
  prng: Prng,
): Float32Array {
  if (waveform.length <= length) return waveform;
  // T - cropFrames: both have the same window, so only hops count.
  const starts = Math.floor((waveform.length - length) / HOP) + 1;
  const start = HOP * prng.integer(starts);
  return waveform.subarray(start, start + length);
}
