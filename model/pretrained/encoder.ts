/**
 * What encoders of other systems have in common (model/README.md, Encoders of others): a front end,
 * tokens of time-frequency patches, blocks, and embeddings of clips and time steps. Each system has
 * a file here that says how it differs.
 *
 * @module
 */
import {
  type Device,
  keep,
  mean,
  noGrad,
  permute,
  reshape,
  scope,
  ShapeError,
  slice,
  type Tensor,
} from "../../engine/functions.ts";
import type { Clip, Embedding } from "../encoder/embed_queue.ts";
import type { Bands } from "../encoder/embed.ts";
import { needSound } from "../encoder/chunks.ts";
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
  | "audiomae";

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

/** How a clip is embedded. */
export interface PretrainedEmbedOptions {
  /** Samples per second of the waveform, resampled as files are; default the encoder's. */
  readonly sampleRate?: number;
  /** Mean over time (default), or every time step. */
  readonly pool?: "mean" | "none";
  /** Patches of one time step averaged (default), or side by side, the low one first. */
  readonly bands?: Bands;
  /** Whether all blocks' outputs are given; the last one's always are. */
  readonly layers?: boolean;
}

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
   * The encoder.
   *
   * @param features as {@link features} gives them; frames that fill no patch are dropped
   * @returns [clips, steps * rows, width], the last block's tokens, time-major: token = step * rows
   * + row
   * @throws {ShapeError} if they give no token, or more than the encoder has positions for.
   */
  abstract encode(features: Tensor, options?: EncodeOptions): Tensor;

  /** Values of a time step, of a clip's embedding and of each layer. */
  stepSize(bands: Bands = "mean"): number {
    const { rows, width } = this.info;
    return bands === "mean" ? width : rows * width;
  }

  /**
   * Embeds a clip, the whole of it at once. Audio too short for one time step is taken with silence
   * behind it.
   *
   * @param audio mono waveform in [-1, 1]
   * @returns `layers`, where asked, are the outputs of all blocks
   * @throws {ShapeError} for audio without samples or that is no waveform, or above `maxSteps`.
   */
  async embed(audio: Float32Array, options: PretrainedEmbedOptions = {}): Promise<Embedding> {
    const { sampleRate: rate, depth, hopSamples } = this.info;
    const { pool = "mean", bands = "mean", layers = false } = options;
    const padded = this.waveOf(audio, options);
    const outputs = noGrad(() =>
      scope(() => {
        const read: Tensor[] = [];
        const pooled = (x: Tensor) => scope(() => this.#pooled(x, pool, bands));
        const trace: Trace = (stage, x) => {
          if (layers && stage.startsWith("block") && stage !== `block${depth - 1}`) {
            read.push(keep(pooled(x)));
          }
        };
        const features = this.features(this.device.tensor(padded, [1, padded.length]));
        const last = this.encode(features, layers ? { trace } : {});
        return [...read, pooled(last)];
      })
    );
    const values = await Promise.all(outputs.map((it) => it.data()));
    const { shape } = outputs[0];
    const steps = this.stepsOf(padded.length);
    for (const it of outputs) it.dispose();
    const size = values[0].length;
    return {
      values: values[values.length - 1],
      shape,
      steps,
      ...pool === "none" && {
        times: Float32Array.from({ length: steps }, (_, i) => i * hopSamples * 1000 / rate),
      },
      ...layers && {
        layers: values.reduce(
          (all, it, i) => (all.set(it, i * size), all),
          new Float32Array(
            size * values.length,
          ),
        ),
      },
    };
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

  /** @param x [1, steps * rows, width] */
  #pooled(x: Tensor, pool: "mean" | "none", bands: Bands): Tensor {
    const { rows, width } = this.info;
    const steps = x.shape[1] / rows;
    const grid = reshape(x, [steps, rows, width]);
    const joined = bands === "mean"
      ? (rows === 1 ? reshape(grid, [steps, width]) : mean(grid, { axes: [1] }))
      : reshape(grid, [steps, rows * width]);
    return pool === "mean" ? mean(joined, { axes: [0] }) : joined;
  }

  /** Blocks. */
  get depth(): number {
    return this.info.depth;
  }

  /** Values of what {@link embed} gives with such options, of a step where nothing is pooled. */
  embeddingSize({ bands }: PretrainedEmbedOptions = {}): number {
    return this.stepSize(bands);
  }

  /**
   * Embeds any number of clips, one after the other; each is held as a whole.
   *
   * @throws as {@link embed}, unless a clip's `failed` takes it.
   */
  async *embedEach<Key>(
    clips: Iterable<Clip<Key>> | AsyncIterable<Clip<Key>>,
    options: PretrainedEmbedOptions = {},
  ): AsyncGenerator<readonly [Key, Embedding]> {
    for await (const { key, audio, failed } of clips) {
      let embedding: Embedding;
      try {
        embedding = await this.embed(await wholeOf(audio), options);
      } catch (error) {
        if (!failed) throw error;
        failed(error);
        continue;
      }
      yield [key, embedding];
    }
  }

  /** Frees parameters and tables. */
  [Symbol.dispose](): void {
    this.arena[Symbol.dispose]();
  }
}

/** A clip's waveform in one piece. */
async function wholeOf(audio: Clip<unknown>["audio"]): Promise<Float32Array> {
  if (!(Symbol.asyncIterator in audio)) return audio as Float32Array;
  const blocks: Float32Array[] = [];
  for await (const block of audio) blocks.push(block);
  if (blocks.length === 1) return blocks[0];
  const whole = new Float32Array(blocks.reduce((all, it) => all + it.length, 0));
  let at = 0;
  for (const block of blocks) {
    whole.set(block, at);
    at += block.length;
  }
  return whole;
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
  return scope(() => {
    const whole = steps * high === frames ? x : slice(x, 1, 0, steps * high);
    const parts = reshape(whole, [clips, steps, high, rows, wide]);
    return reshape(permute(parts, [0, 1, 3, 2, 4]), [clips, steps * rows, high * wide]);
  });
}
