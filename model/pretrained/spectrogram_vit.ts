/**
 * What AST, SSAST, AudioMAE and EAT have in common (model/README.md, Encoders of others): Kaldi's
 * filter bank under a Hann window on a canvas of fixed length, patches with a table of positions
 * behind one or two tokens of their own, transformer blocks.
 *
 * @module
 */
import {
  add,
  composite,
  concat,
  conv2d,
  expand,
  mean,
  mul,
  pad,
  permute,
  reshape,
  ShapeError,
  slice,
  sub,
  type Tensor,
  TransformerBlock,
  within,
} from "../../engine/functions.ts";
import { joined } from "../encoder/chunks.ts";
import { KALDI_128, KaldiFbank, kaldiFrames } from "../frontend/kaldi_fbank.ts";
import { hannSymmetric } from "../frontend/passt_mel.ts";
import { type Lookup, norm } from "../vit/blocks.ts";
import { type BlockValues, PretrainedEncoder } from "./encoder.ts";
import type {
  EncodeOptions,
  PretrainedEmbedOptions,
  PretrainedInfo,
  PretrainedSizes,
} from "./info.ts";
import { type Chunk, cut, eachOf, piecesOf, weightedMean } from "./parts.ts";
import { postNormBlock } from "./post_norm.ts";
import { preNormSources } from "./pre_norm.ts";
import { throughBlocks } from "./sequence.ts";
import { type Attend, preNormProjections } from "./token_attention.ts";
import { asStored, layer, type Plan, renamed, type Source } from "./state_dict.ts";

/** Statistics of log-mel over AudioSet that these systems standardise with. */
export const AUDIOSET_STATISTICS = { mean: -4.2677393, std: 4.5689974 } as const;
/** Frames of the canvas of models for AudioSet. */
export const CANVAS = 1024;

/** Frequency and time. */
type Pair = readonly [bands: number, frames: number];

/** Sizes of an encoder. */
export interface VitSizes extends PretrainedSizes {
  /** Bands and frames of a patch. */
  readonly patch: Pair;
  /** Bands and frames from one patch to the next. */
  readonly stride: Pair;
  /** Patches along frequency and time. */
  readonly grid: readonly [rows: number, columns: number];
  /** Frames of the canvas, and of a chunk. */
  readonly frames: number;
  /** Names of the tokens before the patches. */
  readonly own: readonly string[];
  /** Epsilon of every layer norm. */
  readonly eps: number;
  /** What log-mel values are standardised with: (x - mean) / (2 std). */
  readonly mean: number;
  /** See {@link mean}. */
  readonly std: number;
  /**
   * Whether images have time first: patches go through time-major and their kernels have frames
   * before bands.
   */
  readonly timeFirst: boolean;
  /** The last norm: `norm` of tokens, `fc_norm` of their mean, none behind post-norm blocks. */
  readonly norm?: "norm" | "fc_norm";
  /** Whether tokens go through a norm, `norm_pre`, and then post-norm blocks; default pre-norm. */
  readonly postNorm?: boolean;
}

/** Patches along an axis. */
export function patchesAlong(size: number, patch: number, stride: number): number {
  return Math.floor((size - patch) / stride) + 1;
}

/**
 * Parameters under timm's names.
 *
 * @param named what the file calls them: names of the tensors that are one behind the other
 */
export function vitSources(
  { width, depth, patch, grid, own, timeFirst, norm, postNorm }: VitSizes,
  named: (name: string) => readonly string[],
): Source[] {
  const sides = timeFirst ? patch.toReversed() : patch;
  return [
    ...own.map((it) => asStored(it, [1, 1, width])),
    asStored("pos_embed", [1, own.length + grid[0] * grid[1], width]),
    ...layer("patch_embed.proj", [width, 1, ...sides]),
    ...Array.from({ length: depth }, (_, i) => preNormSources(`blocks.${i}`, width)).flat(),
    ...(postNorm ? layer("norm_pre", [width]) : []),
    ...(norm ? layer(norm, [width]) : []),
  ].map((it) => renamed(it, named));
}

/**
 * What is known of such an encoder.
 *
 * @param of what is its own; of `vectors` the first is the default
 */
export function vitAbout(
  { grid, stride, own, timeFirst }: VitSizes,
  of: Pick<PretrainedInfo, "system" | "title" | "source" | "licence" | "vectors">,
): Plan<VitSizes>["about"] {
  return {
    ...of,
    frontend: "Kaldi filter bank under a Hann window, 128 bands from 20 to 8000 Hz, 25 ms " +
      "every 10 ms",
    sampleRate: KALDI_128.sampleRate,
    minSamples: KALDI_128.frame,
    hopSamples: stride[1] * KALDI_128.hop,
    rows: grid[0],
    attention: {
      ...{ own: own.length, timeMajor: timeFirst, columns: grid[1] },
      columnSamples: stride[1] * KALDI_128.hop,
    },
    choices: ["bands concat", "blocks"],
  };
}

/** Names of timm's blocks for those of {@link postNormBlock}. */
function timmName(name: string): string {
  const [module] = name.split(/\.(?=weight$|bias$)/);
  const timm: Readonly<Record<string, string>> = {
    "self_attn.qkv": "attn.qkv",
    "self_attn.out_proj": "attn.proj",
    self_attn_layer_norm: "norm1",
    fc1: "mlp.fc1",
    fc2: "mlp.fc2",
    final_layer_norm: "norm2",
  };
  return timm[module] + name.slice(module.length);
}

/** An encoder of such a system. */
export class SpectrogramVit extends PretrainedEncoder<VitSizes> {
  readonly #fbank = this.owned(new KaldiFbank(this.device, hannSymmetric(KALDI_128.frame)));
  readonly #vector = this.info.vectors![0];

  /** @inheritdoc The log-mel is not standardised yet: {@link encode} does so. */
  features(waves: Tensor): Tensor {
    return this.#fbank.apply(waves);
  }

  /** Steps whose patches begin in so many frames of a chunk. */
  #steps(frames: number): number {
    const { grid, stride } = this.sizes;
    return Math.min(grid[1], Math.ceil(frames / stride[1]));
  }

  /** @inheritdoc Those whose patches begin in the clip, chunk by chunk. */
  stepsOf(samples: number): number {
    return this.#chunks(samples).reduce((all, { length }) => all + this.#steps(length), 0);
  }

  /** Chunks as long as the canvas, in frames. */
  #chunks(samples: number): Chunk[] {
    return cut(kaldiFrames(samples), this.sizes.frames);
  }

  /**
   * Outputs of the last blocks: tokens of its own, then patches in the system's order.
   *
   * @param features [clips, frames, 128]; what is missing to the canvas is filled with zeros before
   * they are standardised, as these systems do
   * @param count how many blocks
   * @returns [clips, own tokens + patches, width] each, before the last norm
   * @throws {ShapeError} if they are of no frame or longer than the canvas, or tokens of padding
   * are told.
   */
  encodeBlocks(
    features: Tensor,
    count: number,
    { tokens, trace, attend }: EncodeOptions = {},
  ): Tensor[] {
    const { depth, width, stride, own, timeFirst, postNorm, ...sizes } = this.sizes;
    const p = this.parameter;
    const [clips, given, bands] = features.shape;
    if (
      features.shape.length !== 3 || bands !== KALDI_128.bands || given < 1 || given > sizes.frames
    ) {
      throw new ShapeError(
        `encode: features [${features.shape}] are not [clips, frames, ${KALDI_128.bands}] of up ` +
          `to ${sizes.frames} frames`,
      );
    }
    if (tokens) throw new ShapeError(`encode: clips of ${this.info.title} fill a canvas`);
    return composite(() => {
      const canvas = pad(features, [[0, 0], [0, sizes.frames - given], [0, 0]]);
      const standardised = mul(sub(canvas, sizes.mean), 1 / (2 * sizes.std));
      const sides = [sizes.frames, bands];
      const image = timeFirst ? standardised : permute(standardised, [0, 2, 1]);
      const embedded = conv2d(
        reshape(image, [clips, 1, ...(timeFirst ? sides : sides.toReversed())]),
        p("patch_embed.proj.weight"),
        p("patch_embed.proj.bias"),
        { stride: timeFirst ? [stride[1], stride[0]] : stride },
      );
      const patches = permute(reshape(embedded, [clips, width, -1]), [0, 2, 1]);
      trace?.("patch", patches);
      const before = own.map((name) => expand(p(name), [clips, 1, width]));
      const placed = add(concat([...before, patches], 1), p("pos_embed"));
      const sequence = postNorm ? this.#norm(placed, "norm_pre") : placed;
      trace?.("tokens_in", sequence);
      const outputs: Tensor[] = [];
      throughBlocks(
        sequence,
        depth,
        (input, i) => this.#block(within(p, `blocks.${i}.`), input, attend),
        {
          trace,
          // A copy: the next block frees what it has read.
          each: (output, i) => i >= depth - count && outputs.push(mul(output, 1)),
        },
      );
      return outputs;
    });
  }

  #block(p: Lookup, x: Tensor, attend?: Attend): Tensor {
    const { heads, width, eps, postNorm } = this.sizes;
    if (postNorm) {
      return postNormBlock((name) => p(timmName(name)), x, { heads, eps, attend });
    }
    attend?.(preNormProjections(p, x, eps), {});
    return new TransformerBlock(this.device, width, heads, p, { eps }).apply(x);
  }

  /** The last norm, where there is one, or another. */
  #norm(x: Tensor, name: string | undefined = this.sizes.norm): Tensor {
    return name === undefined ? x : norm(this.parameter, name, x, this.sizes.eps);
  }

  /** Patches of an output, time-major: [clips, columns, rows, width]. */
  #grid(output: Tensor): Tensor {
    const { grid: [rows, columns], own, timeFirst, width } = this.sizes;
    const patches = slice(output, 1, own.length, rows * columns);
    return timeFirst
      ? reshape(patches, [-1, columns, rows, width])
      : permute(reshape(patches, [-1, rows, columns, width]), [0, 2, 1, 3]);
  }

  /** @inheritdoc All of the canvas, through the last norm. */
  encode(features: Tensor, options: EncodeOptions = {}): Tensor {
    return composite(() => {
      const [last] = this.encodeBlocks(features, 1, options);
      return reshape(this.#grid(this.#norm(last)), [features.shape[0], -1, this.info.width]);
    });
  }

  /** [clips, values] of a chunk, or [clips, steps, values]. */
  #read(output: Tensor, steps: number, options: PretrainedEmbedOptions): Tensor {
    const { pool = "mean", bands = "mean", vector = this.#vector } = options;
    const { own, norm, grid: [rows], width } = this.sizes;
    const inFront = norm !== "fc_norm";
    const [clips] = output.shape;
    if (pool === "none") {
      const all = slice(this.#grid(this.#norm(output)), 1, 0, steps);
      return bands === "mean"
        ? mean(all, { axes: [2] })
        : reshape(all, [clips, steps, rows * width]);
    }
    const tokens = inFront ? this.#norm(output) : output;
    const pooled = vector === "tokens"
      ? mean(slice(tokens, 1, 0, own.length), { axes: [1] })
      : mean(this.#grid(tokens), { axes: bands === "mean" ? [1, 2] : [1] });
    const read = inFront ? pooled : this.#norm(pooled);
    return reshape(read, [clips, -1]);
  }

  /**
   * @inheritdoc In chunks of the canvas, each filled up as these systems do, which count by their
   * frames. Steps are those whose patches begin in the clip. All blocks go through the last norm.
   */
  protected override async blocksOf(
    waves: Float32Array,
    clips: number,
    count: number,
    options: PretrainedEmbedOptions,
  ): Promise<BlockValues> {
    const { pool = "mean", bands = "mean", vector = this.#vector } = options;
    if (pool === "mean" && vector === "tokens" && bands !== "mean") {
      throw new ShapeError("embed: tokens before the patches have no bands");
    }
    const { frame, hop } = KALDI_128;
    const samples = waves.length / clips;
    const chunks = this.#chunks(samples);
    const parts: Float32Array[][][] = [];
    const times: number[] = [];
    for (const { first, length } of chunks) {
      const steps = this.#steps(length);
      const size = (length - 1) * hop + frame;
      const part = piecesOf(waves, clips, { first: first * hop, length: size });
      parts.push(
        await this.valuesOf(part, clips, (features) =>
          this.encodeBlocks(features, count)
            .map((it) => this.#read(it, steps, { pool, bands, vector }))),
      );
      for (let i = 0; i < steps; i++) times.push((first + i * this.sizes.stride[1]) * 10);
    }
    const weights = chunks.map(({ length }) => length);
    const blocks = eachOf(
      parts,
      (of) => pool === "none" ? joined(of) : weightedMean(of, weights),
    );
    return { blocks, steps: times.length, times: Float32Array.from(times) };
  }

  /** @inheritdoc */
  override vectors(features: Tensor): Tensor {
    return composite(() => this.#read(this.encodeBlocks(features, 1)[0], 1, {}));
  }
}
