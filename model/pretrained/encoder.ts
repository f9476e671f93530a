/**
 * What encoders of other systems have in common (model/README.md, Encoders of others): a front end,
 * tokens of time-frequency patches, blocks, and embeddings of clips and time steps. Each system has
 * a file here that says how it differs.
 *
 * @module
 */
import {
  composite,
  concat,
  type Device,
  keep,
  max,
  mean,
  noGrad,
  permute,
  reshape,
  scope,
  ShapeError,
  slice,
  sqrt,
  square,
  sub,
  type Tensor,
} from "../../engine/functions.ts";
import type { Clip, Embedding } from "../encoder/embed_queue.ts";
import type { ClipPool } from "../encoder/pooling.ts";
import type { Bands } from "../encoder/embed.ts";
import { joined, needSound, wholeOf } from "../encoder/chunks.ts";
import { needAudio } from "../encoder/embed_service.ts";
import { resample } from "../frontend/resample.ts";
import type { Lookup } from "../vit/blocks.ts";
import type { ParameterArena } from "../vit/parameter_arena.ts";

/** Which system an encoder is of. */
export type PretrainedSystem =
  | "mae-ast"
  | "beats"
  | "atst"
  | "passt"
  | "htsat"
  | "ast"
  | "audiomae"
  | "eat";

/** Sizes that every encoder has. */
export interface PretrainedSizes {
  /** Width of a token. */
  readonly width: number;
  /** Blocks. */
  readonly depth: number;
  /** Attention heads. */
  readonly heads: number;
}

/** What is known of an encoder. */
export interface PretrainedInfo extends PretrainedSizes {
  /** Which system. */
  readonly system: PretrainedSystem;
  /** What people call it. */
  readonly title: string;
  /** Where it was published. */
  readonly source: string;
  /** Terms of the released weights. */
  readonly licence: string;
  /** The front end in words. */
  readonly frontend: string;
  /** Samples per second of the audio it takes. */
  readonly sampleRate: number;
  /** Least samples that give a time step. */
  readonly minSamples: number;
  /** Most time steps of a clip; undefined where there is no limit but memory. */
  readonly maxSteps?: number;
  /** Samples from one time step to the next. */
  readonly hopSamples: number;
  /** Tokens of a time step: patches along frequency, the low one first. */
  readonly rows: number;
  /** What there is to choose of its embeddings. */
  readonly choices: readonly Choice[];
  /** Vectors that an embedding can be, the default first, where there are several. */
  readonly vectors?: readonly Vector[];
  /** Names of tensors in the file that no part of the encoder is. */
  readonly unused: readonly string[];
}

/**
 * Sees the results of an encoder's stages by name: `patch`, `proj`, `enc_in`, `mid0`, `block0` and
 * what else a system has. They are freed soon after: who needs one later keeps a copy.
 */
export type Trace = (stage: string, value: Tensor) => void;

/** How {@link PretrainedEncoder.encode} runs. */
export interface EncodeOptions {
  /**
   * Tokens of each clip that are of it; those behind are of padding: no other token sees them, and
   * their own results mean nothing. Default: all.
   */
  readonly tokens?: readonly number[];
  /** Sees each stage. */
  readonly trace?: Trace;
}

/**
 * What there is to choose of an embedding that not every encoder has: another pooling than the mean
 * over time, bands side by side, outputs of other blocks, joining of chunks as official programs do
 * it, and of ATST-Frame as its probes do it.
 */
export type Choice =
  | "pool"
  | "bands concat"
  | "blocks"
  | "official"
  | "official downstream";

/** Which vector of an output an embedding is; see {@link PretrainedEmbedOptions.vector}. */
export type Vector = "features" | "logits" | "all" | "tokens" | "patches";

/** How a clip is embedded; the same words mean the same with every encoder. */
export interface PretrainedEmbedOptions {
  /** Samples per second of the waveform, resampled as files are; default the encoder's. */
  readonly sampleRate?: number;
  /** Mean over time (default), maximum, mean and deviation, or every time step. */
  readonly pool?: ClipPool | "none";
  /** Patches of one time step averaged (default), or side by side, the low one first. */
  readonly bands?: Bands;
  /** Whether all blocks' outputs are given; the last one's always are. */
  readonly layers?: boolean;
  /**
   * Blocks that an embedding is of, counted from 1; default the last one, of ATST-Frame all, as
   * EVAR has them.
   */
  readonly blocks?: readonly number[];
  /** Whether these are side by side (default) or averaged. */
  readonly join?: "concat" | "mean";
  /**
   * Joins chunks as official programs do, which count alike however short one is. Of ATST-Clip
   * those are left out that have at most half of the length, and means are divided by the patches
   * that remain in the clip rather than by those of the chunk; `downstream` is what ATST-Frame's
   * probes do, without a later chunk of at most half its length. Default: each chunk counts by its
   * length.
   */
  readonly official?: boolean | "downstream";
  /**
   * Of PaSST: `features` (default), the mean of class and distillation token; `logits` of the
   * classes; `all`, HEAR's: both, logits first. Of AST, SSAST and AudioMAE: the mean of the
   * `tokens` before the patches, or of the `patches`; default the system's.
   */
  readonly vector?: Vector;
  /** Most clips of one length that go through together; default what 80 s hold. */
  readonly batch?: number;
}

/** What clips of one length come to. */
export interface BlockValues {
  /** Of each block that was asked for, of each clip: its vector, or its steps [steps, size]. */
  readonly blocks: readonly (readonly Float32Array[])[];
  /** Steps that were pooled, or are given. */
  readonly steps: number;
  /** Where each starts, ms. */
  readonly times: Float32Array;
}

/** Seconds of audio that go through together. */
const TOGETHER_SECONDS = 80;
/** So many times as much may wait for clips of the same length. */
const WAITING = 4;

/** An encoder on a device with its front end. */
export abstract class PretrainedEncoder implements Disposable {
  /** What is known of it. */
  abstract readonly info: PretrainedInfo;

  /** Takes its parameters, which it owns from now on. */
  protected constructor(readonly device: Device, readonly arena: ParameterArena) {}

  /** A parameter by name: the file's, but for those that were put together. */
  protected readonly parameter: Lookup = (name) => this.arena.get(name);

  /**
   * The front end.
   *
   * @param waves [clips, samples] at `info.sampleRate`, in [-1, 1]
   * @returns [clips, frames, bands]
   * @throws {ShapeError} if the audio is shorter than one frame.
   */
  abstract features(waves: Tensor): Tensor;

  /**
   * The encoder. Gradients reach its parameters where it was loaded to be trained.
   *
   * @param features as {@link features} gives them; frames that fill no patch are dropped
   * @returns [clips, steps * rows, width], the last block's tokens, time-major: token = step * rows
   * + row
   * @throws {ShapeError} if they give no token, or more than the encoder has positions for.
   */
  abstract encode(features: Tensor, options?: EncodeOptions): Tensor;

  /**
   * What {@link embed} gives of clips by default, as far as they are one chunk. Gradients reach
   * parameters where the encoder was loaded to be trained.
   *
   * @param features as {@link features} gives them
   * @returns [clips, values]
   * @throws {ShapeError} as {@link encode}
   */
  vectors(features: Tensor): Tensor {
    return composite(() => mean(this.encode(features), { axes: [1] }));
  }

  /**
   * Which layer a parameter is of: 0 what comes before the first block, then the blocks, depth + 1
   * what follows.
   *
   * @returns undefined for classes of the file, which no embedding needs
   */
  layerOf(name: string): number | undefined {
    if (/^(predictor|head|tscam_conv)\./.test(name)) return undefined;
    const block = /(?:^|\.)(?:blocks|layers)\.(\d+)\./.exec(name);
    if (block) return 1 + Number(block[1]);
    return /^norm(_frame)?\./.test(name) ? this.depth + 1 : 0;
  }

  /** Values of a time step, of a clip's embedding and of each layer. */
  stepSize(bands: Bands = "mean"): number {
    const { rows, width } = this.info;
    return bands === "mean" ? width : rows * width;
  }

  /**
   * Embeds a clip, the whole of it at once or in the chunks that its system cuts. Audio too short
   * for one time step is taken with silence behind it.
   *
   * @param audio mono waveform in [-1, 1]
   * @returns `layers`, where asked, are the outputs of all blocks
   * @throws {ShapeError} for audio without samples or that is no waveform, or above `maxSteps`, and
   * for what this encoder has no choice of.
   */
  embed(audio: Float32Array, options?: PretrainedEmbedOptions): Promise<Embedding>;
  /** As above; clips of one length go through together. Embeddings come in the order of clips. */
  embed(
    audio: readonly Float32Array[],
    options?: PretrainedEmbedOptions,
  ): Promise<Embedding[]>;
  async embed(
    audio: Float32Array | readonly Float32Array[],
    options: PretrainedEmbedOptions = {},
  ): Promise<Embedding | Embedding[]> {
    const several = Array.isArray(audio) && typeof audio[0] !== "number";
    const clips = (several ? audio : [audio]) as readonly Float32Array[];
    const found: Embedding[] = [];
    const keyed = clips.map((audio, key) => ({ key, audio }));
    for await (const [key, it] of this.embedEach(keyed, options)) found[key] = it;
    return several ? found : found[0];
  }

  /**
   * The waveform at the encoder's rate, with silence behind it where it is too short for a step.
   *
   * @throws {ShapeError} for audio without samples or that is no waveform.
   */
  protected waveOf(
    audio: Float32Array,
    { sampleRate = this.info.sampleRate }: PretrainedEmbedOptions,
  ): Float32Array {
    needAudio(audio);
    if (!(audio instanceof Float32Array) || audio.length === 0) {
      throw new ShapeError("embed: a waveform (Float32Array) of at least one sample is needed");
    }
    needSound(audio);
    const { minSamples, sampleRate: rate } = this.info;
    const wave = resample(audio, sampleRate, rate);
    if (wave.length >= minSamples) return wave;
    const padded = new Float32Array(minSamples);
    padded.set(wave);
    return padded;
  }

  /** Time steps of so many samples at `info.sampleRate`. */
  abstract stepsOf(samples: number): number;

  /**
   * What clips of one length come to.
   *
   * @param waves [clips, samples]
   * @param count how many of the last blocks
   */
  protected async blocksOf(
    waves: Float32Array,
    clips: number,
    count: number,
    { pool = "mean", bands = "mean" }: PretrainedEmbedOptions,
  ): Promise<BlockValues> {
    const { depth, hopSamples, sampleRate } = this.info;
    const steps = this.stepsOf(waves.length / clips);
    const outputs = noGrad(() =>
      scope(() => {
        const read: Tensor[] = [];
        const trace: Trace = (stage, x) => {
          const block = /^block(\d+)$/.exec(stage);
          if (block && Number(block[1]) >= depth - count && Number(block[1]) < depth - 1) {
            read.push(keep(this.#pooled(x, pool, bands)));
          }
        };
        const features = this.features(this.device.tensor(waves, [clips, waves.length / clips]));
        const last = this.encode(features, count > 1 ? { trace } : {});
        return [...read, this.#pooled(last, pool, bands)];
      })
    );
    const blocks = await readParts(outputs, clips);
    const times = Float32Array.from(
      { length: steps },
      (_, i) => i * hopSamples * 1000 / sampleRate,
    );
    return { blocks, steps, times };
  }

  /** @param x [clips, steps * rows, width] */
  #pooled(x: Tensor, pool: ClipPool | "none", bands: Bands): Tensor {
    const { rows, width } = this.info;
    const [clips, tokens] = x.shape;
    const steps = tokens / rows;
    return composite(() => {
      const grid = reshape(x, [clips, steps, rows, width]);
      const joined = bands === "mean"
        ? (rows === 1 ? reshape(grid, [clips, steps, width]) : mean(grid, { axes: [2] }))
        : reshape(grid, [clips, steps, rows * width]);
      if (pool === "none") return joined;
      if (pool === "max") return max(joined, { axes: [1] });
      const middle = mean(joined, { axes: [1], keepDims: true });
      const flat = reshape(middle, [clips, -1]);
      if (pool === "mean") return flat;
      const deviation = sqrt(mean(square(sub(joined, middle)), { axes: [1] }));
      return concat([flat, deviation], 1);
    });
  }

  /** Blocks. */
  get depth(): number {
    return this.info.depth;
  }

  /** Samples per second of the audio it takes. */
  get sampleRate(): number {
    return this.info.sampleRate;
  }

  /**
   * Refuses what this encoder has no choice of.
   *
   * @throws {ShapeError} that names the option.
   */
  needChoices(options: PretrainedEmbedOptions): void {
    const { choices, vectors = [], title, depth } = this.info;
    const { pool, bands, layers, blocks, join, official, vector } = options;
    const asked: [Choice, boolean][] = [
      ["pool", pool === "max" || pool === "mean-std"],
      ["bands concat", bands === "concat"],
      [
        "blocks",
        layers === true || join !== undefined || (blocks ?? [depth]).join() !== `${depth}`,
      ],
      ["official downstream", official === "downstream"],
      ["official", official === true],
    ];
    const lacking = asked.find(([choice, is]) => is && !choices.includes(choice));
    if (lacking) throw new ShapeError(`embed: ${title} has no choice of ${lacking[0]}`);
    if (vector !== undefined && !vectors.includes(vector)) {
      throw new ShapeError(`embed: ${title} has no choice of vector ${vector}`);
    }
    const wrong = blocks?.some((it, i) =>
      !Number.isInteger(it) || it < 1 || it > depth || blocks.indexOf(it) !== i
    );
    if (wrong || blocks?.length === 0) {
      throw new ShapeError(`embed: blocks [${blocks}] must be different ones from 1 to ${depth}`);
    }
  }

  /** Blocks of an embedding where it is not said which, counted from 1. */
  protected get usualBlocks(): readonly number[] {
    return [this.depth];
  }

  /** Values of what {@link embed} gives of one block, of a step where nothing is pooled. */
  protected blockSize({ bands, pool }: PretrainedEmbedOptions): number {
    return (pool === "mean-std" ? 2 : 1) * this.stepSize(bands);
  }

  /** Values that stay together where blocks are put side by side. */
  protected cellSize(options: PretrainedEmbedOptions): number {
    return this.blockSize(options);
  }

  /** Values of what {@link embed} gives with such options, of a step where nothing is pooled. */
  embeddingSize(options: PretrainedEmbedOptions = {}): number {
    const { blocks = this.usualBlocks, join = "concat" } = options;
    return (join === "concat" ? blocks.length : 1) * this.blockSize(options);
  }

  /**
   * Embeds any number of clips. Each is held as a whole; those of one length, which come one after
   * the other or not far behind, go through together. They come out in any order.
   *
   * @throws as {@link embed}, unless a clip's `failed` takes it.
   */
  async *embedEach<Key>(
    clips: Iterable<Clip<Key>> | AsyncIterable<Clip<Key>>,
    options: PretrainedEmbedOptions = {},
  ): AsyncGenerator<readonly [Key, Embedding]> {
    this.needChoices(options);
    const together = TOGETHER_SECONDS * this.info.sampleRate;
    /** By their length. */
    const waiting = new Map<number, Waiting<Key>[]>();
    let samples = 0;
    for await (const { key, audio, failed } of clips) {
      let wave: Float32Array;
      try {
        wave = this.waveOf(await wholeOf(audio), options);
      } catch (error) {
        if (!failed) throw error;
        failed(error);
        continue;
      }
      const { length } = wave;
      const group = waiting.get(length) ?? [];
      waiting.set(length, group);
      group.push({ key, wave, failed });
      samples += length;
      const most = Math.max(1, options.batch ?? Math.floor(together / length));
      const full = group.length >= most
        ? length
        : samples > WAITING * together
        ? largestOf(waiting)
        : undefined;
      if (full === undefined) continue;
      const taken = waiting.get(full)!;
      waiting.delete(full);
      samples -= full * taken.length;
      yield* this.#embedGroup(taken, options);
    }
    for (const group of waiting.values()) yield* this.#embedGroup(group, options);
  }

  async *#embedGroup<Key>(
    group: readonly Waiting<Key>[],
    options: PretrainedEmbedOptions,
  ): AsyncGenerator<readonly [Key, Embedding]> {
    let found: Embedding[];
    try {
      found = await this.#together(group.map(({ wave }) => wave), options);
    } catch (error) {
      // What is wrong with a length is wrong with all clips of it.
      for (const { failed } of group) {
        if (!failed || !(error instanceof ShapeError)) throw error;
        failed(error);
      }
      return;
    }
    for (const [i, { key }] of group.entries()) yield [key, found[i]];
  }

  /** Embeds clips of one length. */
  async #together(
    waves: readonly Float32Array[],
    options: PretrainedEmbedOptions,
  ): Promise<Embedding[]> {
    const { depth } = this.info;
    const { pool = "mean", layers = false, join = "concat", blocks = this.usualBlocks } = options;
    const all = new Float32Array(waves.length * waves[0].length);
    waves.forEach((it, i) => all.set(it, i * it.length));
    const count = layers ? depth : depth + 1 - Math.min(...blocks);
    const cell = this.cellSize(options);
    const found = await this.blocksOf(all, waves.length, count, options);
    return waves.map((_, clip): Embedding => {
      const own = found.blocks.map((block) => block[clip]);
      const asked = blocks.map((it) => own[count - 1 - (depth - it)]);
      const values = joinedBlocks(asked, cell, join);
      const { steps, times } = found;
      const shape = pool === "none" ? [steps, values.length / steps] : [values.length];
      return {
        ...{ values, shape, steps },
        ...pool === "none" && { times },
        ...layers && { layers: joined(own) },
      };
    });
  }

  /** Frees parameters and tables. */
  [Symbol.dispose](): void {
    this.arena[Symbol.dispose]();
  }
}

/** A clip that waits for others of its length. */
interface Waiting<Key> {
  readonly key: Key;
  readonly wave: Float32Array;
  readonly failed?: (error: unknown) => void;
}

/** The length that has most samples waiting. */
function largestOf(waiting: ReadonlyMap<number, readonly unknown[]>): number {
  const size = ([length, group]: readonly [number, readonly unknown[]]) => length * group.length;
  return [...waiting].reduce((a, b) => size(b) > size(a) ? b : a)[0];
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

/**
 * What several blocks give, side by side or averaged.
 *
 * @param blocks of each, [vectors, width]
 */
function joinedBlocks(
  blocks: readonly Float32Array[],
  width: number,
  join: "concat" | "mean",
): Float32Array {
  if (blocks.length === 1) return blocks[0];
  if (join === "mean") {
    return blocks[0].map((_, i) => blocks.reduce((sum, it) => sum + it[i], 0) / blocks.length);
  }
  const values = new Float32Array(blocks.length * blocks[0].length);
  blocks.forEach((block, b) => {
    for (let at = 0; at < block.length; at += width) {
      values.set(block.subarray(at, at + width), at * blocks.length + b * width);
    }
  });
  return values;
}

/**
 * Which tokens of a batch count, for the attention and for what is added to or taken from tokens.
 *
 * @param counts tokens of each clip
 * @returns [clips, tokens] of 1 and 0
 * @throws {ShapeError} if a count is not from 1 to `tokens`, or there are not as many as clips.
 */
export function tokenMask(
  device: Device,
  counts: readonly number[],
  clips: number,
  tokens: number,
): Tensor {
  if (
    counts.length !== clips ||
    counts.some((it) => !Number.isInteger(it) || it < 1 || it > tokens)
  ) {
    throw new ShapeError(`encode: [${counts}] are not the tokens of ${clips} clips of ${tokens}`);
  }
  const mask = new Float32Array(clips * tokens);
  counts.forEach((it, clip) => mask.fill(1, clip * tokens, clip * tokens + it));
  return device.tensor(mask, [clips, tokens]);
}

/**
 * Spectrograms as time-major patches: token = step * rows + row; inside a patch frames go first,
 * then bands. Trailing frames that fill no patch are dropped.
 *
 * @param x [clips, frames, bands]
 * @param patch frames and bands of a patch
 * @returns [clips, tokens, values of a patch]
 * @throws {ShapeError} if no patch fits.
 */
export function timeMajorPatches(
  x: Tensor,
  [high, wide]: readonly [frames: number, bands: number],
): Tensor {
  const [clips, frames, bands] = x.shape;
  const [steps, rows] = [Math.floor(frames / high), bands / wide];
  if (x.shape.length !== 3 || steps < 1 || !Number.isInteger(rows)) {
    throw new ShapeError(
      `encode: features [${x.shape}] are not [clips, frames, bands] that patches of ${high} ` +
        `frames and ${wide} bands fit`,
    );
  }
  return composite(() => {
    const whole = steps * high === frames ? x : slice(x, 1, 0, steps * high);
    const parts = reshape(whole, [clips, steps, high, rows, wide]);
    return reshape(permute(parts, [0, 1, 3, 2, 4]), [clips, steps * rows, high * wide]);
  });
}
