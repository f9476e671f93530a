/**
 * HTS-AT (Chen et al., arXiv:2202.00874): a Swin transformer on spectrograms that are folded into a
 * square, trained on AudioSet's labels (model/README.md, Encoders of others).
 *
 * @module
 */
import {
  add,
  composite,
  conv2d,
  frames,
  interpolate,
  linear,
  log,
  matmul,
  maximum,
  mean,
  mul,
  noGrad,
  pad,
  permute,
  reshape,
  scope,
  ShapeError,
  sigmoid,
  slice,
  square,
  type Tensor,
  tile,
  within,
} from "../../engine/functions.ts";
import { joined } from "../encoder/chunks.ts";
import { EncoderError } from "../encoder/file_values.ts";
import type { CheckpointFile } from "../formats/checkpoint_file.ts";
import type { StoredTensors } from "../formats/checkpoint_names.ts";
import { norm } from "../vit/blocks.ts";
import { type BlockValues, PretrainedEncoder } from "./encoder.ts";
import type { EncodeOptions, PretrainedEmbedOptions, PretrainedSizes } from "./info.ts";
import type { PretrainedOptions } from "./options.ts";
import { type Chunk, cut, eachOf, piecesOf, weightedMean } from "./parts.ts";
import { preNormSources } from "./pre_norm.ts";
import { timeMajorPatches } from "./sequence.ts";
import {
  asStored,
  below,
  countBlocks,
  fixed,
  frozenBatchNorm,
  layer,
  type Plan,
  prefixOf,
  shapeOf,
  type Source,
} from "./state_dict.ts";
import { mergeNeighbours, SWIN_EPS, windowBlock, WindowTables } from "./windows.ts";

const TITLE = "HTS-AT";
const PREFIXES = ["sed_model.", ""];
const EPS = 1e-5;
/** Samples per second of released files. */
const SAMPLE_RATE = 32_000;
/** Frames of the canvas, which are folded into segments that lie above each other. */
const [CANVAS, SEGMENTS] = [1024, 4];
/** Rows and columns of a patch. */
const PATCH = 4;
/** Seconds of a chunk. */
const CHUNK = 10;
const FLOOR = 1e-10;
const STFT = "spectrogram_extractor.stft";

function prefixIn(tensors: StoredTensors): string | undefined {
  return prefixOf(tensors, PREFIXES, [`${STFT}.conv_real.weight`, "patch_embed.norm.weight"]);
}

/** Whether tensors are those of HTS-AT. */
export function isHtsat(tensors: StoredTensors): boolean {
  return prefixIn(tensors) !== undefined;
}

/** Blocks of one resolution. */
interface Stage {
  readonly blocks: number;
  readonly heads: number;
  readonly width: number;
  readonly hidden: number;
  readonly side: number;
}

/** Sizes of an encoder. */
export interface HtsatSizes extends PretrainedSizes {
  /** Samples of a frame. */
  readonly size: number;
  /** Mel bands. */
  readonly bands: number;
  /** Tokens along either axis of a window. */
  readonly window: number;
  /** Stages. */
  readonly stages: readonly Stage[];
  /** Classes. */
  readonly classes: number;
}

/**
 * What an encoder takes from a file.
 *
 * @throws {EncoderError} if sizes cannot be told, or do not fit the square that spectrograms are
 * folded into.
 */
export function htsatPlan(
  file: CheckpointFile,
  { sampleRate = SAMPLE_RATE }: PretrainedOptions,
): Plan<HtsatSizes> {
  const tensors = below(file.tensors, prefixIn(file.tensors)!);
  const shape = (name: string, axes: number) => shapeOf(TITLE, tensors, name, axes);
  const [, , size] = shape(`${STFT}.conv_real.weight`, 3);
  const [, bands] = shape("logmel_extractor.melW", 2);
  const [width] = shape("patch_embed.norm.weight", 1);
  const [classes] = shape("tscam_conv.weight", 4);
  const count = countBlocks(TITLE, tensors, undefined, "layers.");
  const stages = Array.from({ length: count }, (_, s): Stage => {
    const name = `layers.${s}.blocks.`;
    return {
      blocks: countBlocks(TITLE, tensors, undefined, name),
      heads: shape(`${name}0.attn.relative_position_bias_table`, 2)[1],
      hidden: shape(`${name}0.mlp.fc1.weight`, 2)[0],
      width: width * 2 ** s,
      side: CANVAS / SEGMENTS / PATCH / 2 ** s,
    };
  });
  const [places] = shape("layers.0.blocks.0.attn.relative_position_bias_table", 2);
  const window = (Math.sqrt(places) + 1) / 2;
  const fits = ({ side, width, heads }: Stage) =>
    Number.isInteger(side / window) && Number.isInteger(width / heads);
  if (bands * SEGMENTS !== CANVAS / SEGMENTS || !stages.every(fits)) {
    throw new EncoderError(`${bands} bands or windows of ${window} do not fit ${TITLE}'s square`);
  }
  const last = stages[count - 1];
  const sizes: HtsatSizes = {
    ...{ size, bands, window, stages, classes, width: last.width, heads: last.heads },
    depth: stages.reduce((all, { blocks }) => all + blocks, 0),
  };
  const about = {
    system: "htsat",
    title: TITLE,
    source: "https://github.com/RetroCirce/HTS-Audio-Transformer, arXiv:2202.00874",
    licence: "CC BY 4.0",
    frontend: `mel decibels by the file's own transform of ${size} samples and filters`,
    sampleRate,
    minSamples: Math.floor(size / 2) + 1,
    hopSamples: CANVAS / 32 * sampleRate / 100,
    rows: 2,
    choices: ["bands concat", "official"],
  } as const;
  const beside = /relative_position_index$|attn_mask$|num_batches_tracked$|^head\./;
  return { about, sizes, tensors, sources: sourcesOf(sizes), beside };
}

/** Parameters of an encoder of such sizes, and what of a file they are made of. */
export function sourcesOf({ size, bands, window, stages, width, classes }: HtsatSizes): Source[] {
  const bins = Math.floor(size / 2) + 1;
  return [
    ...["real", "imag"].map((it) => fixed(`${STFT}.conv_${it}.weight`, [bins, 1, size])),
    fixed("logmel_extractor.melW", [bins, bands]),
    ...frozenBatchNorm(["bn0"], bands, EPS),
    ...layer("patch_embed.proj", [stages[0].width, 1, PATCH, PATCH]),
    ...layer("patch_embed.norm", [stages[0].width]),
    ...stages.flatMap(({ blocks, heads, width, hidden }, s) => [
      ...Array.from({ length: blocks }, (_, b) => {
        const name = `layers.${s}.blocks.${b}`;
        return [
          ...preNormSources(name, width, { hidden }),
          asStored(`${name}.attn.relative_position_bias_table`, [(2 * window - 1) ** 2, heads]),
        ];
      }).flat(),
      ...(s < stages.length - 1
        ? [
          ...layer(`layers.${s}.downsample.norm`, [4 * width]),
          asStored(`layers.${s}.downsample.reduction.weight`, [2 * width, 4 * width]),
        ]
        : []),
    ]),
    ...layer("norm", [width]),
    ...layer("tscam_conv", [classes, width, 2, 3]),
  ];
}

/**
 * Brings the frames of clips onto the canvas: repeated as often as they fit, then stretched by
 * bicubic interpolation (a = -0.75) whose ends are those of the clip.
 *
 * @param x [clips, frames, bands], 1 to 1024 frames
 * @returns [clips, 1024, bands]
 */
export function onCanvas(x: Tensor): Tensor {
  const [clips, count, bands] = x.shape;
  const times = Math.floor(CANVAS / count);
  const repeated = times === 1 ? x : tile(x, [1, times, 1]);
  if (times * count === CANVAS) return repeated;
  const stretched = interpolate(reshape(repeated, [clips, 1, times * count, bands]), {
    size: [CANVAS, bands],
    mode: "bicubic",
    alignCorners: true,
  });
  return reshape(stretched, [clips, CANVAS, bands]);
}

/** An encoder of HTS-AT. */
export class Htsat extends PretrainedEncoder<HtsatSizes> {
  /** Classes of its head. */
  readonly classes: number = this.sizes.classes;
  /** Samples from one frame to the next: 10 ms. */
  readonly hop: number = this.info.sampleRate / 100;
  readonly #tables = this.owned(new WindowTables(this.device, this.sizes.window));

  /** @inheritdoc Decibels. */
  features(waves: Tensor): Tensor {
    const { size } = this.sizes;
    const p = this.parameter;
    const [, samples] = waves.shape;
    const margin = Math.floor(size / 2);
    if (waves.shape.length !== 2 || samples <= margin) {
      throw new ShapeError(
        `mel decibels: audio [${waves.shape}] is not [clips, samples] of more than ${margin}`,
      );
    }
    return noGrad(() =>
      scope(() => {
        const centred = pad(waves, [[0, 0], [margin, margin]], "reflect");
        const pieces = frames(centred, size, this.hop);
        const [re, im] = ["real", "imag"].map((it) => {
          const kernel = p(`${STFT}.conv_${it}.weight`);
          return square(linear(pieces, reshape(kernel, [kernel.shape[0], size])));
        });
        const mel = matmul(add(re, im), p("logmel_extractor.melW"));
        return mul(log(maximum(mel, FLOOR)), 10 / Math.LN10);
      })
    );
  }

  /** @inheritdoc Those that lie in the first repetition of each chunk's frames. */
  stepsOf(samples: number): number {
    return this.chunks(samples).reduce((all, { length }) => all + this.#steps(length), 0);
  }

  /** Steps of 1/32 of the canvas that are whole in the first repetition of a chunk. */
  #steps(length: number): number {
    return Math.max(1, Math.floor(32 / Math.floor(CANVAS / (1 + Math.floor(length / this.hop)))));
  }

  /** Chunks of 10 s; a rest that is too short for a frame is left out. */
  chunks(samples: number): Chunk[] {
    const { sampleRate, minSamples } = this.info;
    return cut(samples, CHUNK * sampleRate).filter(({ length }) => length >= minSamples);
  }

  /**
   * @inheritdoc Tokens are those of the canvas of 10.24 s, in 32 steps of 2 bands each, normalised;
   * shorter clips are repeated and stretched to fill it.
   */
  encode(features: Tensor, { tokens, trace }: EncodeOptions = {}): Tensor {
    const { bands, window, stages, width } = this.sizes;
    const p = this.parameter;
    const [clips, count] = features.shape;
    if (features.shape.length !== 3 || features.shape[2] !== bands || count > CANVAS) {
      throw new ShapeError(
        `encode: features [${features.shape}] are not [clips, frames, ${bands}] of up to ` +
          `${CANVAS} frames`,
      );
    }
    if (tokens) throw new ShapeError(`encode: clips of ${TITLE} cannot be padded`);
    return composite(() => {
      const standardised = add(mul(features, p("bn0.factor")), p("bn0.summand"));
      trace?.("bn0", standardised);
      const high = CANVAS / SEGMENTS;
      const parts = reshape(onCanvas(standardised), [clips, SEGMENTS, high, bands]);
      const image = reshape(permute(parts, [0, 1, 3, 2]), [clips, high, high]);
      trace?.("image", image);
      const weight = p("patch_embed.proj.weight");
      const patches = linear(
        timeMajorPatches(image, [PATCH, PATCH]),
        reshape(weight, [weight.shape[0], PATCH * PATCH]),
        p("patch_embed.proj.bias"),
      );
      trace?.("patch", patches);
      let hidden = norm(p, "patch_embed.norm", patches, SWIN_EPS);
      trace?.("tokens_in", hidden);
      stages.forEach(({ blocks, heads, side }, s) => {
        for (let b = 0; b < blocks; b++) {
          using input = hidden;
          const shifted = b % 2 === 1 && side > window;
          const own = within(p, `layers.${s}.blocks.${b}.`);
          hidden = windowBlock(own, input, { side, tables: this.#tables, heads, shifted });
          trace?.(`stage${s}.block${b}`, hidden);
        }
        if (s === stages.length - 1) return;
        using input = hidden;
        hidden = mergeNeighbours(within(p, `layers.${s}.downsample.`), input, side);
        trace?.(`stage${s}.merge`, hidden);
      });
      const normed = norm(p, "norm", hidden, SWIN_EPS);
      trace?.("norm", normed);
      // Segments of the canvas one behind the other again: [segment, row, column].
      const last = stages[stages.length - 1].side;
      const grid = reshape(normed, [clips, SEGMENTS, last / SEGMENTS, last, width]);
      return reshape(permute(grid, [0, 1, 3, 2, 4]), [clips, last * last, width]);
    });
  }

  /** @inheritdoc Merging is of the block before it. */
  override layerOf(name: string): number | undefined {
    const stage = /^layers\.(\d+)\.(?:blocks\.(\d+))?/.exec(name);
    if (!stage) return super.layerOf(name);
    const { stages } = this.sizes;
    const before = stages.slice(0, Number(stage[1])).reduce((all, { blocks }) => all + blocks, 0);
    return before +
      (stage[2] === undefined ? stages[Number(stage[1])].blocks : 1 + Number(stage[2]));
  }

  /**
   * The head: scores of classes in each step of the canvas, before the sigmoid.
   *
   * @param tokens [clips, 64, width], as {@link encode} gives them
   * @returns [clips, classes, 32]
   */
  scores(tokens: Tensor): Tensor {
    const { width, classes } = this.sizes;
    const p = this.parameter;
    const [clips, count] = tokens.shape;
    return composite(() => {
      const map = permute(reshape(tokens, [clips, count / 2, 2, width]), [0, 3, 2, 1]);
      const cut = conv2d(map, p("tscam_conv.weight"), p("tscam_conv.bias"), { padding: [0, 1] });
      return reshape(cut, [clips, classes, count / 2]);
    });
  }

  /** Probabilities of the classes of clips. @param scores [clips, classes, 32] */
  probabilities(scores: Tensor): Tensor {
    return composite(() => sigmoid(mean(scores, { axes: [2] })));
  }

  /**
   * @inheritdoc In chunks of 10 s. Steps are those of the first repetition of each chunk; `times`
   * are theirs in the clip.
   */
  protected override async blocksOf(
    waves: Float32Array,
    clips: number,
    _count: number,
    { pool = "mean", bands = "mean", official = false }: PretrainedEmbedOptions,
  ): Promise<BlockValues> {
    const { width, sampleRate } = this.info;
    const chunks = this.chunks(waves.length / clips);
    const parts: Float32Array[][][] = [];
    const times: number[] = [];
    for (const chunk of chunks) {
      const { first, length } = chunk;
      const count = this.#steps(length);
      parts.push(
        await this.valuesOf(piecesOf(waves, clips, chunk), clips, (features) => {
          const all = reshape(this.encode(features), [clips, -1, 2, width]);
          const steps = bands === "mean"
            ? mean(all, { axes: [2] })
            : reshape(all, [clips, -1, 2 * width]);
          // A copy: a view of the tokens would be freed with them.
          return [pool === "mean" ? mean(steps, { axes: [1] }) : mul(slice(steps, 1, 0, count), 1)];
        }),
      );
      const frames = 1 + Math.floor(length / this.hop);
      const step = Math.floor(CANVAS / frames) * frames / 32 * this.hop;
      for (let i = 0; i < count; i++) times.push((first + i * step) * 1000 / sampleRate);
    }
    const weights = chunks.map(({ length }) => official ? 1 : length);
    const blocks = eachOf(parts, (of) => pool === "mean" ? weightedMean(of, weights) : joined(of));
    return { blocks, steps: times.length, times: Float32Array.from(times) };
  }
}
