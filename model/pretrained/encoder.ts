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
  reshape,
  scope,
  ShapeError,
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
import { equalLengths, type Waiting } from "./equal_lengths.ts";
import type {
  Choice,
  EncodeOptions,
  PretrainedEmbedOptions,
  PretrainedInfo,
  PretrainedSizes,
  TokenAttention,
  Trace,
} from "./info.ts";
import type { PretrainedOptions } from "./options.ts";
import { joinedBlocks, readParts } from "./parts.ts";
import { loadParameters, type Plan } from "./state_dict.ts";
import { type Attend, tokenAttention } from "./token_attention.ts";

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

/** An encoder on a device with its front end. */
export abstract class PretrainedEncoder<Sizes extends PretrainedSizes = PretrainedSizes>
  implements Disposable {
  /** What is known of it. */
  readonly info: PretrainedInfo;
  /** Its parameters. */
  readonly arena: ParameterArena;
  /** Its sizes. */
  protected readonly sizes: Sizes;
  readonly #owned: Disposable[] = [];

  /**
   * Uploads parameters.
   *
   * @param plan what it takes from a file
   * @throws {EncoderError} if a parameter is missing or has another shape.
   */
  constructor(readonly device: Device, plan: Plan<Sizes>, options: PretrainedOptions = {}) {
    const { arena, unused } = loadParameters(device, plan, options);
    this.arena = arena;
    this.sizes = plan.sizes;
    const { width, depth, heads } = plan.sizes;
    this.info = { ...plan.about, width, depth, heads, unused };
  }

  /** What is freed with the encoder. */
  protected owned<T extends Disposable>(it: T): T {
    this.#owned.push(it);
    return it;
  }

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

  /**
   * Whom a token attends to, in all blocks and heads; weights of patches behind the clip, with
   * which some systems fill their canvas, are left out.
   *
   * @param wave at `info.sampleRate`; as many columns of patches as `info.attention` has at most
   * @param token a patch by its row and column, or the number of a token before the patches
   * @throws {ShapeError} if `info` has no `attention`, there is no such token, or
   * the wave has not one column of patches or too many.
   */
  async attention(
    wave: Float32Array,
    token: { readonly row: number; readonly column: number } | number,
  ): Promise<TokenAttention> {
    const { attention: layout, title, rows, heads, minSamples } = this.info;
    if (!layout) throw new ShapeError(`attention: ${title} has no attention to give`);
    const { own, timeMajor, columnSamples, columns: most } = layout;
    const columns = Math.min(most, this.columnsOf(wave.length));
    if (wave.length < minSamples || wave.length > (most + 1) * columnSamples) {
      throw new ShapeError(`attention: ${wave.length} samples are not of 1 to ${most} columns`);
    }
    let all = 0;
    const at = (row: number, column: number): number =>
      own + (timeMajor ? column * rows + row : row * ((all - own) / rows) + column);
    const weights = await this.valuesOf(wave, 1, (features) => {
      const found: Tensor[] = [];
      const attend: Attend = (qkv, beside) => {
        all = qkv.shape[1];
        const number = typeof token === "number" ? token : at(token.row, token.column);
        const isThere = typeof token === "number"
          ? token < own
          : token.row < rows && token.column < columns;
        if (!isThere || !(number >= 0)) throw new ShapeError("attention: there is no such token");
        found.push(keep(tokenAttention(qkv, heads, number, beside)));
      };
      this.encode(features, { attend });
      return found;
    });
    const blocks = weights.map(([values]) => {
      const kept = new Float32Array(heads * (own + rows * columns));
      for (let head = 0; head < heads; head++) {
        const [from, to] = [head * all, head * (own + rows * columns)];
        kept.set(values.subarray(from, from + own), to);
        for (let i = 0; i < rows * columns; i++) {
          kept[to + own + i] = values[from + at(Math.floor(i / columns), i % columns)];
        }
      }
      return kept;
    });
    return { columns, blocks };
  }

  /** Columns of patches that begin in so many samples. */
  columnsOf(samples: number): number {
    return this.stepsOf(samples);
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
    const { depth } = this;
    const steps = this.stepsOf(waves.length / clips);
    const blocks = await this.valuesOf(waves, clips, (features) => {
      const read: Tensor[] = [];
      const trace: Trace = (stage, x) => {
        const block = /^block(\d+)$/.exec(stage);
        if (block && Number(block[1]) >= depth - count && Number(block[1]) < depth - 1) {
          read.push(keep(this.pooled(x, pool, bands)));
        }
      };
      const last = this.encode(features, count > 1 ? { trace } : {});
      return [...read, this.pooled(last, pool, bands)];
    });
    return { blocks, steps, times: this.timesOf(steps) };
  }

  /**
   * Reads what is made of clips of one length without gradients.
   *
   * @param waves [clips, samples]
   * @param make tensors whose first axis is the clips, of {@link features}
   * @returns of each tensor, of each clip
   */
  protected async valuesOf(
    waves: Float32Array,
    clips: number,
    make: (features: Tensor) => Tensor[],
  ): Promise<Float32Array[][]> {
    const made = noGrad(() =>
      scope(() => make(this.features(this.device.tensor(waves, [clips, waves.length / clips]))))
    );
    return await readParts(made, clips);
  }

  /** Where time steps start, ms. */
  protected timesOf(steps: number): Float32Array {
    const { hopSamples, sampleRate } = this.info;
    return Float32Array.from({ length: steps }, (_, i) => i * hopSamples * 1000 / sampleRate);
  }

  /**
   * Tokens pooled over time, patches of a step averaged or side by side.
   *
   * @param x [clips, steps * rows, width]
   * @returns [clips, values], without pooling [clips, steps, values]
   */
  protected pooled(x: Tensor, pool: ClipPool | "none", bands: Bands): Tensor {
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
    for await (const group of equalLengths(this.#waves(clips, options), together, options.batch)) {
      let found: Embedding[];
      try {
        found = await this.#together(group.map(({ wave }) => wave), options);
      } catch (error) {
        // What is wrong with a length is wrong with all clips of it.
        for (const { failed } of group) {
          if (!failed || !(error instanceof ShapeError)) throw error;
          failed(error);
        }
        continue;
      }
      for (const [i, { key }] of group.entries()) yield [key, found[i]];
    }
  }

  async *#waves<Key>(
    clips: Iterable<Clip<Key>> | AsyncIterable<Clip<Key>>,
    options: PretrainedEmbedOptions,
  ): AsyncGenerator<Waiting<Key>> {
    for await (const { key, audio, failed } of clips) {
      let wave: Float32Array;
      try {
        wave = this.waveOf(await wholeOf(audio), options);
      } catch (error) {
        if (!failed) throw error;
        failed(error);
        continue;
      }
      yield { key, wave, failed };
    }
  }

  /** Embeds clips of one length. */
  async #together(
    waves: readonly Float32Array[],
    options: PretrainedEmbedOptions,
  ): Promise<Embedding[]> {
    const { depth } = this.info;
    const { pool = "mean", layers = false, join = "concat", blocks = this.usualBlocks } = options;
    const count = layers ? depth : depth + 1 - Math.min(...blocks);
    const cell = this.cellSize(options);
    const found = await this.blocksOf(joined(waves), waves.length, count, options);
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
    for (const it of [this.arena, ...this.#owned]) it[Symbol.dispose]();
  }
}
