/**
 * PaSST (Koutini et al., arXiv:2110.05069): a transformer of overlapping patches that was trained
 * on AudioSet's labels, some patches left out (model/README.md, Encoders of others).
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
  permute,
  reshape,
  ShapeError,
  slice,
  type Tensor,
} from "../../engine/functions.ts";
import { joined } from "../encoder/chunks.ts";
import { EncoderError } from "../encoder/file_values.ts";
import type { CheckpointFile } from "../formats/checkpoint_file.ts";
import type { StoredTensors } from "../formats/checkpoint_names.ts";
import { PASST_MEL, passtFrames, PasstMel } from "../frontend/passt_mel.ts";
import { dense, norm } from "../vit/blocks.ts";
import { type BlockValues, PretrainedEncoder } from "./encoder.ts";
import type { EncodeOptions, PretrainedEmbedOptions, PretrainedSizes, Vector } from "./info.ts";
import { headsOf, type PretrainedOptions } from "./options.ts";
import { weightedMean } from "./parts.ts";
import { preNormBlocks, preNormSources } from "./pre_norm.ts";
import { asStored, countBlocks, layer, type Plan, shapeOf, type Source } from "./state_dict.ts";

const TITLE = "PaSST";
const EPS = 1e-6;
/** Of the layer norm in front of the classes. */
const HEAD_EPS = 1e-5;
/** Bands, and frames, of a patch. */
const PATCH = 16;
/** Frames of the 10 s that a clip of files read here may have at once. */
const FRAMES = 1000;
/** Class and distillation token. */
const OWN = 2;
/** Samples of a window of a clip's embedding, and from one to the next. */
const SCENE = { window: 320_000, hop: 80_000 } as const;
/** Samples of a window of a time step's embedding, and from one to the next. */
const STEP = { window: 5120, hop: 1600 } as const;
/** Windows of time steps that go through together. */
const TOGETHER = 64;

/** Whether tensors are those of PaSST. */
export function isPasst(tensors: StoredTensors): boolean {
  return tensors.has("freq_new_pos_embed") && tensors.has("time_new_pos_embed");
}

/** Sizes of an encoder. */
export interface PasstSizes extends PretrainedSizes {
  /** Patches along frequency. */
  readonly rows: number;
  /** Most patches along time. */
  readonly columns: number;
  /** Bands, and frames, from one patch to the next. */
  readonly stride: number;
  /** Classes. */
  readonly classes: number;
}

/**
 * What an encoder takes from a file.
 *
 * @throws {EncoderError} if sizes cannot be told, or it is for longer clips or more frames.
 */
export function passtPlan(file: CheckpointFile, options: PretrainedOptions): Plan<PasstSizes> {
  const { tensors } = file;
  const [, width, rows] = shapeOf(TITLE, tensors, "freq_new_pos_embed", 4);
  const [, , , columns] = shapeOf(TITLE, tensors, "time_new_pos_embed", 4);
  const [classes] = shapeOf(TITLE, tensors, "head.1.weight", 2);
  if (rows < 2 || rows > PASST_MEL.bands - PATCH + 1) {
    throw new EncoderError(`${rows} patches along frequency are not those of ${TITLE}`);
  }
  // 12, 10, 9 and 8 rows: 10, 12, 14 and 16.
  const stride = Math.floor((PASST_MEL.bands - PATCH) / (rows - 1));
  // 200 places are those of 20 s, or of 10 s with frames twice as often.
  if (columns > Math.floor(FRAMES / stride)) {
    throw new EncoderError(
      `its ${columns} positions along time are for clips above 10 s or frames more often than ` +
        "every 10 ms, which nothing in the file tells apart; such files are not read",
    );
  }
  const sizes: PasstSizes = {
    width,
    depth: countBlocks(TITLE, tensors, undefined, "blocks."),
    heads: headsOf(width, file.heads.encoder, options),
    ...{ rows, columns, classes, stride },
  };
  const about = {
    system: "passt",
    title: TITLE,
    source: "https://github.com/kkoutini/PaSST, arXiv:2110.05069",
    licence: "Apache-2.0 of the code; none stated for weights",
    frontend: "log-mel, 128 of Kaldi's bands up to 15 kHz, 25 ms every 10 ms at 32 kHz",
    sampleRate: PASST_MEL.sampleRate,
    minSamples: (PATCH - 1) * PASST_MEL.hop + 1,
    hopSamples: STEP.hop,
    rows,
    attention: {
      ...{ own: OWN, timeMajor: false, columns, columnSamples: stride * PASST_MEL.hop },
    },
    choices: ["blocks"],
    vectors: ["features", "logits", "all"],
  } as const;
  return { about, sizes, tensors, sources: sourcesOf(sizes), beside: /^head_dist\./ };
}

/** Parameters of an encoder of such sizes, and what of a file they are made of. */
export function sourcesOf({ width, depth, rows, columns, classes }: PasstSizes): Source[] {
  return [
    ...["cls_token", "dist_token"].map((it) => asStored(it, [1, 1, width])),
    asStored("new_pos_embed", [1, OWN, width]),
    asStored("freq_new_pos_embed", [1, width, rows, 1]),
    asStored("time_new_pos_embed", [1, width, 1, columns]),
    ...layer("patch_embed.proj", [width, 1, PATCH, PATCH]),
    ...Array.from({ length: depth }, (_, i) => preNormSources(`blocks.${i}`, width)).flat(),
    ...layer("norm", [width]),
    ...layer("head.0", [width]),
    ...layer("head.1", [classes, width]),
  ];
}

/** An encoder of PaSST. */
export class Passt extends PretrainedEncoder<PasstSizes> {
  /** Classes of its head. */
  readonly classes: number = this.sizes.classes;
  readonly #mel = this.owned(new PasstMel(this.device));

  /** @inheritdoc */
  features(waves: Tensor): Tensor {
    return this.#mel.apply(waves);
  }

  /** @inheritdoc Windows of 160 ms every 50 ms, whose middles are in the clip. */
  stepsOf(samples: number): number {
    return Math.floor(samples / STEP.hop) + 1;
  }

  /** @inheritdoc */
  override columnsOf(samples: number): number {
    return Math.floor((passtFrames(samples) - PATCH) / this.sizes.stride) + 1;
  }

  /** @inheritdoc Normalised patches, without class and distillation token. */
  encode(features: Tensor, options: EncodeOptions = {}): Tensor {
    return composite(() => {
      const [last] = this.encodeBlocks(features, 1, options);
      const [clips, tokens, width] = last.shape;
      const { rows } = this.sizes;
      const grid = reshape(slice(last, 1, OWN, tokens - OWN), [clips, rows, -1, width]);
      return reshape(permute(grid, [0, 2, 1, 3]), [clips, tokens - OWN, width]);
    });
  }

  /**
   * Outputs of the last blocks, each normalised.
   *
   * @param features [clips, frames, 128]
   * @param count how many of the last blocks
   * @returns [clips, 2 + rows * steps, width] each: class and distillation token, then patches,
   * frequency-major
   * @throws {ShapeError} if they give no patch, more than there are positions for, or tokens of
   * padding are told: clips of one length alone go together.
   */
  encodeBlocks(
    features: Tensor,
    count: number,
    { tokens, trace, attend }: EncodeOptions = {},
  ): Tensor[] {
    const { width, rows, columns, stride } = this.sizes;
    const p = this.parameter;
    const [clips, frames, bands] = features.shape;
    const steps = Math.floor((frames - PATCH) / stride) + 1;
    if (features.shape.length !== 3 || bands !== PASST_MEL.bands || steps < 1 || steps > columns) {
      throw new ShapeError(
        `encode: features [${features.shape}] are not [clips, frames, ${PASST_MEL.bands}] of ` +
          `${PATCH} to ${PATCH - 1 + columns * stride} frames`,
      );
    }
    if (tokens) throw new ShapeError("encode: clips of PaSST cannot be padded");
    return composite(() => {
      const image = reshape(permute(features, [0, 2, 1]), [clips, 1, bands, frames]);
      const cut = conv2d(image, p("patch_embed.proj.weight"), p("patch_embed.proj.bias"), {
        stride,
      });
      const sequence = (x: Tensor) => permute(reshape(x, [clips, width, rows * steps]), [0, 2, 1]);
      trace?.("patch", sequence(cut));
      const placed = add(
        add(cut, slice(p("time_new_pos_embed"), 3, 0, steps)),
        p("freq_new_pos_embed"),
      );
      const own = ["cls_token", "dist_token"].map((name, i) =>
        expand(add(p(name), slice(p("new_pos_embed"), 1, i, 1)), [clips, 1, width])
      );
      const tokens = concat([...own, sequence(placed)], 1);
      trace?.("tokens_in", tokens);
      const run = { sizes: this.sizes, eps: EPS, count, trace, attend };
      const outputs = preNormBlocks(p, tokens, run, (output) => norm(p, "norm", output));
      trace?.("norm", outputs[outputs.length - 1]);
      return outputs;
    });
  }

  /**
   * Vectors of one output of {@link encodeBlocks}.
   *
   * @param output [clips, tokens, width]
   * @returns [clips, values]
   */
  vectorOf(output: Tensor, vector: Vector = "features"): Tensor {
    const p = this.parameter;
    return composite(() => {
      const features = mean(slice(output, 1, 0, OWN), { axes: [1] });
      if (vector === "features") return features;
      const logits = dense(p, "head.1", norm(p, "head.0", features, HEAD_EPS));
      return vector === "logits" ? logits : concat([logits, features], 1);
    });
  }

  /**
   * @inheritdoc As PaSST's HEAR functions do. Pooled: at once up to 10 s; longer ones by windows of
   * 10 s every 2.5 s over the clip with 5 s mirrored at either end, and their mean. Without
   * pooling: windows of 160 ms every 50 ms, in whose middles `times` lie. All blocks go through the
   * final norm.
   */
  protected override async blocksOf(
    waves: Float32Array,
    clips: number,
    count: number,
    { pool = "mean", vector = "features" }: PretrainedEmbedOptions,
  ): Promise<BlockValues> {
    const { window, hop } = pool === "none" ? STEP : SCENE;
    const samples = waves.length / clips;
    const whole = pool === "mean" && samples <= window;
    const size = whole ? samples : window;
    const sources = Array.from({ length: clips }, (_, i) => {
      const wave = waves.subarray(i * samples, (i + 1) * samples);
      return whole ? wave : mirrored(wave, window / 2);
    });
    const steps = Math.floor((sources[0].length - size) / hop) + 1;
    const windows = sources.flatMap((wave) =>
      Array.from({ length: steps }, (_, i) => wave.subarray(i * hop, i * hop + size))
    );
    /** Of each block, of each window. */
    const read: Float32Array[][] = Array.from({ length: count }, () => []);
    const together = Math.max(1, pool === "none" ? TOGETHER : clips);
    for (let first = 0; first < windows.length; first += together) {
      const pieces = windows.slice(first, first + together);
      const values = await this.valuesOf(
        joined(pieces),
        pieces.length,
        (features) => this.encodeBlocks(features, count).map((it) => this.vectorOf(it, vector)),
      );
      values.forEach((of, block) => read[block].push(...of));
    }
    const blocks = read.map((vectors) =>
      sources.map((_, clip) => {
        const own = vectors.slice(clip * steps, (clip + 1) * steps);
        return pool === "none" ? joined(own) : weightedMean(own);
      })
    );
    return { blocks, steps: pool === "none" ? steps : 1, times: this.timesOf(steps) };
  }

  /** @inheritdoc */
  override vectors(features: Tensor): Tensor {
    return composite(() => this.vectorOf(this.encodeBlocks(features, 1)[0]));
  }

  /** @inheritdoc */
  protected override blockSize({ vector = "features" }: PretrainedEmbedOptions): number {
    const { width } = this.info;
    if (vector === "features") return width;
    return vector === "all" ? this.classes + width : this.classes;
  }
}

/** The waveform with so many samples mirrored at either end, the edges not repeated. */
function mirrored(wave: Float32Array, margin: number): Float32Array {
  const last = wave.length - 1;
  const at = (i: number) => i < 0 ? -i : i > last ? 2 * last - i : i;
  return Float32Array.from(
    { length: wave.length + 2 * margin },
    (_, i) => wave[at(i - margin)],
  );
}
