/**
 * Batches of random crops, read ahead.
 *
 * @module
 */
import { MEL_80 } from "../../model/frontend/tables.ts";
import type { Group } from "../cluster/group.ts";
import { NoDataError } from "../errors.ts";
import { samplesOf } from "./crop.ts";
import { atSpeed, framesAtSpeed } from "./speed.ts";
import { Prng } from "../../engine/prng.ts";
import type { ClipSource, Crop, SkippedClip, SourcePart } from "./clip_source.ts";

/**
 * What one training step consumes; row r is in `samples` or in `logmels`, the other one's row r is
 * 0.
 */
export interface Batch {
  /**
   * [batch, cropSamples], mono, 16 kHz, row-major, all finite; absent when no row is a waveform.
   */
  readonly samples?: Float32Array;
  /** [batch, 80, frames], standardised, all finite; absent when no row is a log-mel. */
  readonly logmels?: Float32Array;
  /** What each row is. */
  readonly kinds: readonly Crop["kind"][];
  /** The source's clip index per row. */
  readonly clips: number[];
  /** Epoch of the first row, from 0: passes over as many clips as the source has. */
  readonly epoch: number;
}

/** Where the loader stands in one part of the source. */
export interface PartState {
  /** Epoch of the next clip, from 0. */
  readonly epoch: number;
  /** Clips of that epoch already used or skipped. */
  readonly position: number;
}

/** Where a loader stands, ready for JSON. */
export interface LoaderState {
  /** Determines order and crops. */
  readonly seed: number;
  /** Clips handed out, as many rows where each has one crop. */
  readonly rows: number;
  /** One per part of the source. */
  readonly parts: readonly PartState[];
  /** Number of clips in each part, to notice another data set. */
  readonly clips: readonly number[];
}

/** How crops of clips are taken. */
export interface CropChoice {
  /** Crops of a clip in a row. */
  readonly cropsPerClip: number;
  /** Slowest and fastest that they are played, 1 as they are. */
  readonly speeds: readonly [slowest: number, fastest: number];
}

/** Constructor arguments of `Loader`; by default one crop of a clip, played as it is. */
export interface LoaderOptions extends Partial<CropChoice> {
  /** Where the clips come from. */
  readonly source: ClipSource;
  /** Rows per batch, a multiple of `cropsPerClip`. */
  readonly batch: number;
  /** Samples per row: (frames - 1) * 160 + 400. */
  readonly cropSamples: number;
  /** Determines order and crops. */
  readonly seed: number;
  /** Batches that are read ahead; default 2, or more where that is fewer than 32 clips. */
  readonly ahead?: number;
  /** Other processes with which the clips are shared; default none. */
  readonly share?: LoaderShare;
}

/**
 * Processes that share one sequence of clips, each as many batches in a row as an update has of it,
 * in the order of ranks. All have the same source and call `next` equally often.
 */
export interface LoaderShare {
  /** The processes. */
  readonly group: Pick<Group, "rank" | "size" | "gather">;
  /** Batches of this process in a row. */
  readonly passes: number;
  /** Called with clips that other processes could not use. */
  readonly onSkip: (clip: SkippedClip) => void;
}

/** A clip and its crops. */
interface Drawn {
  readonly clip: number;
  readonly crops: readonly Crop[];
}

/** Consecutive clips of all processes, of which some are this one's. */
interface Window {
  /** All of them. */
  readonly clips: number;
  /** This process's: from `start` on, before `end`. */
  readonly start: number;
  readonly end: number;
}

/** A place whose clip cannot be used. */
type BadPlace = readonly [part: number, place: number];

/** Crops asked for and not used yet. Places count a part's clips through all epochs. */
interface Reading {
  /** Per part, by place; undefined for a clip that cannot be used. */
  readonly crops: readonly Map<number, Promise<Drawn | undefined>>[];
  /** First place, per part, that was never asked for. */
  readonly next: number[];
  /** Clips of all batches for which a place was asked for. */
  clips: number;
}

/** Clips that are read ahead by default, at least: small passes follow each other quickly. */
const LEAST_AHEAD = 32;

/**
 * Independent sequences of random numbers; those of a run's parameters and masks have positive
 * numbers.
 */
const STREAMS = { order: -1, crops: -2, parts: -3 } as const;

/**
 * Endless random crops. Every epoch visits each usable clip of a part once in a new seeded order. A
 * crop starts at a uniformly random frame from 0 to T - cropFrames inclusive; a shorter clip is
 * padded with silence at its end. Where a clip has several crops, they follow each other; each is
 * played at a speed of its own, if speeds are given, uniform in pitch. The last batch of an epoch
 * is completed from the next epoch. Clips are read ahead side by side, without waiting for the
 * calling thread in between: while it submits an update it answers nobody.
 *
 * Order, crops and the choice of parts are functions of seed, epoch, clip and row alone. So the
 * same seed and source give the same rows, however many are in a batch, whichever thread is first,
 * and also across `state` and `restore`.
 */
export class Loader {
  readonly #options: LoaderOptions;
  readonly #frames: number;
  readonly #parts: readonly (SourcePart & { readonly first: number })[];
  /** Clips whose last use failed, per part. */
  readonly #failing: readonly Set<number>[];
  readonly #orders: ({ epoch: number; seed: number; clips: Uint32Array } | undefined)[] = [];
  #state: LoaderState;
  /** Where reading ahead stands; replaced when the loader is restored. */
  #reading: Reading;
  /** This process's clips, taken and not handed out; none between updates. */
  #ready: (Drawn & { readonly epoch: number })[] = [];
  /** Unusable clips that the other processes have heard of. */
  #told = 0;
  /** The call to {@link next} under way. */
  #last: Promise<unknown> = Promise.resolve();

  /**
   * Starts at the first clip of the first epoch.
   *
   * @throws RangeError when batch, cropsPerClip, speeds or cropSamples are not possible;
   * NoDataError when the source is empty.
   */
  constructor(options: LoaderOptions) {
    const { source, batch, cropSamples, seed, cropsPerClip = 1 } = options;
    const { speeds: [slowest, fastest] = [1, 1] } = options;
    if (!Number.isSafeInteger(batch) || batch < 1) {
      throw new RangeError(`batch must be a positive integer, got ${batch}`);
    }
    if (!Number.isSafeInteger(cropsPerClip) || cropsPerClip < 1 || batch % cropsPerClip !== 0) {
      throw new RangeError(
        `cropsPerClip must be a whole number that divides batch (${batch}), got ${cropsPerClip}`,
      );
    }
    if (!(slowest > 0 && slowest <= fastest && fastest < Infinity)) {
      throw new RangeError(`speeds must be above 0, the slower first, got ${slowest}, ${fastest}`);
    }
    const hop = samplesOf(2) - samplesOf(1);
    this.#frames = 1 + (cropSamples - samplesOf(1)) / hop;
    if (!Number.isSafeInteger(this.#frames) || this.#frames < 1) {
      throw new RangeError(
        `cropSamples must be (frames - 1) * ${hop} + ${samplesOf(1)}, got ${cropSamples}`,
      );
    }
    const parts = source.parts ?? [{ name: source.name, size: source.size, weight: 1 }];
    let first = 0;
    this.#parts = parts.map((part) => {
      if (part.size < 1) throw new NoDataError(`${part.name} has no clips`);
      const placed = { ...part, first };
      first += part.size;
      return placed;
    });
    this.#failing = parts.map(() => new Set());
    this.#options = options;
    this.#state = {
      seed,
      rows: 0,
      parts: parts.map(() => ({ epoch: 0, position: 0 })),
      clips: parts.map(({ size }) => size),
    };
    this.#reading = this.#readingFrom(this.#state);
  }

  #readingFrom({ rows, parts }: LoaderState): Reading {
    return {
      crops: parts.map(() => new Map()),
      next: parts.map((it, part) => this.#placeOf(part, it)),
      clips: rows,
    };
  }

  #placeOf(part: number, { epoch, position }: PartState): number {
    return epoch * this.#parts[part].size + position;
  }

  /** Clips that could not be used, with the reason. */
  get skipped(): readonly SkippedClip[] {
    return this.#options.source.skipped;
  }

  /**
   * The next batch; starts on those after it. Calls may overlap: they are answered in order.
   *
   * @throws NoDataError when no clip of the source is usable.
   */
  next(): Promise<Batch> {
    const batch = this.#last.then(() => this.#next());
    this.#last = batch.catch(() => {});
    return batch;
  }

  /** The position after the last batch handed out; those prepared ahead do not count. */
  state(): LoaderState {
    return this.#state;
  }

  /** The position after so many clips from the start, were all of them usable. */
  stateAfter(clips: number): LoaderState {
    const places = this.#parts.map(() => 0);
    for (let i = 0; i < clips; i++) places[this.#partOf(this.#state.seed, i)]++;
    const parts = places.map((place, part) => this.#stateAt(part, place));
    return { ...this.#state, rows: clips, parts };
  }

  /**
   * Continues from a saved position, with the seed of that time.
   *
   * @throws RangeError when the state belongs to a source with other numbers of clips.
   */
  restore(state: LoaderState): void {
    const { source } = this.#options;
    const now = this.#state.clips;
    if (`${state.clips}` !== `${now}`) {
      throw new RangeError(
        `cannot resume: the data had ${state.clips.join(" and ")} clips then, ` +
          `${source.name} has ${now.join(" and ")} now`,
      );
    }
    this.#state = state;
    this.#ready = [];
    this.#reading = this.#readingFrom(state);
  }

  async #next(): Promise<Batch> {
    if (this.#ready.length === 0) this.#ready = await this.#take();
    const [first] = this.#ready;
    const clips = this.#ready.splice(0, this.#clips);
    return { ...this.#assemble(clips), epoch: first.epoch };
  }

  /** Clips of a batch. */
  get #clips(): number {
    const { batch, cropsPerClip = 1 } = this.#options;
    return batch / cropsPerClip;
  }

  /** The clips of one batch, or of all that this process has in a row. */
  get #window(): Window {
    const { share } = this.#options;
    const own = this.#clips * (share?.passes ?? 1);
    const { rank, size } = share?.group ?? { rank: 0, size: 1 };
    return { clips: own * size, start: rank * own, end: (rank + 1) * own };
  }

  /** Takes this process's clips of the next window, once all processes know which they are. */
  async #take(): Promise<(Drawn & { readonly epoch: number })[]> {
    const { source, ahead = Math.max(2, Math.ceil(LEAST_AHEAD / this.#clips)), share } =
      this.#options;
    const from = this.#state;
    const { seed } = from;
    const { clips, start, end } = this.#window;
    const picks = Array.from({ length: clips }, (_, i) => this.#partOf(seed, from.rows + i));
    const bad = this.#parts.map(() => new Set<number>());
    const crops = this.#parts.map(() => new Map<number, Promise<Drawn | undefined>>());
    for (;;) {
      const next = from.parts.map((it, part) => this.#placeOf(part, it));
      const places = picks.map((part) => {
        while (bad[part].has(next[part]) || share && this.#isKnownBad(seed, part, next[part])) {
          next[part]++;
        }
        return next[part]++;
      });
      const asked = picks.slice(start, end).map((part, i) => {
        const place = places[start + i];
        const crop = crops[part].get(place) ?? this.#taken(seed, part, place);
        crops[part].set(place, crop);
        return crop;
      });
      const ends = this.#reading.next;
      next.forEach((place, part) => ends[part] = Math.max(ends[part], place));
      this.#readAhead(seed, from.rows + clips, share ? 2 * clips : ahead * this.#clips);
      const taken = await Promise.all(asked);
      const failed = taken.flatMap((it, i): BadPlace[] =>
        it ? [] : [[picks[start + i], places[start + i]]]
      );
      const all = share ? await this.#agree(seed, share, failed) : failed;
      for (const [part, place] of all) bad[part].add(place);
      if (all.length > 0) {
        // What others were to read may be this process's now.
        if (share) this.#reading = this.#readingFrom(from);
        continue;
      }
      const drawn = from.parts.reduce((sum, it, part) => sum + this.#placeOf(part, it), 0);
      const epoch = Math.floor(drawn / source.size);
      this.#state = {
        ...from,
        rows: from.rows + clips,
        parts: next.map((place, part) => this.#stateAt(part, place)),
      };
      // Of other windows' clips, once clips were left out.
      this.#reading.crops.forEach((known, part) => {
        for (const place of known.keys()) if (place < next[part]) known.delete(place);
      });
      return taken.map((it) => ({ ...it!, epoch }));
    }
  }

  #stateAt(part: number, place: number): PartState {
    const { size } = this.#parts[part];
    return { epoch: Math.floor(place / size), position: place % size };
  }

  /** Whether another process, or this one, has found that the clip at a place cannot be used. */
  #isKnownBad(seed: number, part: number, place: number): boolean {
    const failing = this.#failing[part];
    return failing.size > 0 && failing.has(this.#clipAt(seed, part, place));
  }

  /** Tells the other processes of clips that cannot be used, and hears of theirs. */
  async #agree(
    seed: number,
    { group, onSkip }: LoaderShare,
    places: readonly BadPlace[],
  ): Promise<readonly BadPlace[]> {
    const skipped = this.skipped.slice(this.#told);
    this.#told = this.skipped.length;
    const told = { places, skipped };
    const texts = await group.gather(
      places.length + skipped.length > 0 ? JSON.stringify(told) : "",
    );
    const all: BadPlace[] = [];
    for (const [rank, text] of texts.entries()) {
      if (text === "") continue;
      const heard: typeof told = JSON.parse(text);
      all.push(...heard.places);
      if (rank !== group.rank) heard.skipped.forEach(onSkip);
    }
    for (const [part, place] of all) {
      this.#noteUnusable(part, this.#clipAt(seed, part, place));
    }
    return all;
  }

  #assemble(drawn: readonly Drawn[]): Omit<Batch, "epoch"> {
    const rows = drawn.flatMap(({ clip, crops }) => crops.map((crop) => ({ clip, crop })));
    const array = (kind: Crop["kind"], size: number): Float32Array | undefined => {
      if (rows.every(({ crop }) => crop.kind !== kind)) return undefined;
      const values = new Float32Array(rows.length * size);
      rows.forEach(({ crop }, row) => crop.kind === kind && values.set(crop.values, row * size));
      return values;
    };
    const samples = array("waveform", this.#options.cropSamples);
    const logmels = array("logmel", MEL_80.bands * this.#frames);
    return {
      ...(samples && { samples }),
      ...(logmels && { logmels }),
      kinds: rows.map(({ crop }) => crop.kind),
      clips: rows.map(({ clip }) => clip),
    };
  }

  /** The clip at a place, which is read ahead or not. */
  #taken(seed: number, part: number, place: number): Promise<Drawn | undefined> {
    const known = this.#reading.crops[part];
    const crop = known.get(place) ?? this.#ask(seed, part, place);
    known.delete(place);
    return crop;
  }

  /**
   * Asks for this process's clips from `first` on, as far as that was not done before.
   */
  #readAhead(seed: number, first: number, count: number): void {
    const reading = this.#reading;
    const { share } = this.#options;
    const { clips, start, end } = this.#window;
    for (reading.clips = Math.max(reading.clips, first); reading.clips < first + count;) {
      const clip = reading.clips++;
      const part = this.#partOf(seed, clip);
      if (!share) {
        this.#ask(seed, part, reading.next[part]);
        continue;
      }
      while (this.#isKnownBad(seed, part, reading.next[part])) reading.next[part]++;
      const place = reading.next[part]++;
      const at = (clip - first) % clips;
      if (at >= start && at < end) this.#ask(seed, part, place);
    }
  }

  #clipAt(seed: number, part: number, place: number): number {
    const { size, first } = this.#parts[part];
    return first + this.#orderOf(seed, part, Math.floor(place / size))[place % size];
  }

  #ask(seed: number, part: number, place: number): Promise<Drawn | undefined> {
    const reading = this.#reading;
    const epoch = Math.floor(place / this.#parts[part].size);
    const drawn = this.#draw(seed, part, epoch, this.#clipAt(seed, part, place));
    reading.next[part] = Math.max(reading.next[part], place + 1);
    reading.crops[part].set(place, drawn);
    drawn.then((it) => {
      // As many stay ahead; with other processes, all have to hear of it first.
      if (it || reading !== this.#reading || this.#options.share) return;
      void this.#ask(seed, part, reading.next[part]);
    }).catch(() => {
      // Whoever needs the clip reports it.
    });
    return drawn;
  }

  async #draw(seed: number, part: number, epoch: number, clip: number): Promise<Drawn | undefined> {
    const random = new Prng(seed, STREAMS.crops, epoch, clip);
    const crops: (Crop | undefined)[] = [];
    // One after the other: with the first, the whole clip may have come.
    for (let i = 0; i < (this.#options.cropsPerClip ?? 1); i++) {
      const crop = await this.#crop(clip, random);
      crops.push(crop);
      if (!crop) break;
    }
    if (crops.every((it) => it !== undefined)) {
      // With other processes, what cannot be used is what all have heard of.
      if (!this.#options.share) this.#failing[part].delete(clip);
      return { clip, crops };
    }
    if (!this.#options.share) this.#noteUnusable(part, clip);
    return undefined;
  }

  async #crop(clip: number, random: Prng): Promise<Crop | undefined> {
    const { source, speeds: [slowest, fastest] = [1, 1] } = this.#options;
    const position = random.uniform();
    if (slowest === 1 && fastest === 1) {
      return await source.crop(clip, { frames: this.#frames, position });
    }
    const speed = slowest * (fastest / slowest) ** random.uniform();
    const crop = await source.crop(clip, { frames: framesAtSpeed(this.#frames, speed), position });
    return crop && atSpeed(crop, speed, this.#frames);
  }

  /** @throws {NoDataError} if that was the last clip of its part */
  #noteUnusable(part: number, clip: number): void {
    const failing = this.#failing[part].add(clip);
    const { name, size } = this.#parts[part];
    if (failing.size < size) return;
    const [first] = this.#options.source.skipped;
    throw new NoDataError(
      `no usable audio in ${name}: all ${size} files were skipped` +
        (first ? `, the first one ${first.path}: ${first.reason}` : ""),
    );
  }

  /** Which part a row comes from. */
  #partOf(seed: number, row: number): number {
    const parts = this.#parts;
    if (parts.length === 1) return 0;
    const total = parts.reduce((sum, { weight }) => sum + weight, 0);
    let place = new Prng(seed, STREAMS.parts, row).uniform() * total;
    const found = parts.findIndex(({ weight }) => (place -= weight) < 0);
    return found < 0 ? parts.length - 1 : found;
  }

  /** Each epoch's order has its own generator, so that it need not be saved. */
  #orderOf(seed: number, part: number, epoch: number): Uint32Array {
    const known = this.#orders[part];
    if (known?.epoch === epoch && known.seed === seed) return known.clips;
    const clips = new Prng(seed, STREAMS.order, part, epoch).permutation(this.#parts[part].size);
    this.#orders[part] = { epoch, seed, clips };
    return clips;
  }
}
