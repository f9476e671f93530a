/**
 * BEATs (Chen et al., arXiv:2212.09058): an encoder of spectrogram patches that predicts the labels
 * of a tokenizer learned along the way (model/README.md, Encoders of others).
 *
 * @module
 */
import {
  add,
  composite,
  conv1d,
  div,
  gelu,
  linear,
  mean,
  mul,
  noGrad,
  permute,
  reshape,
  scope,
  sigmoid,
  sub,
  type Tensor,
  within,
} from "../../engine/functions.ts";
import { EncoderError } from "../encoder/file_values.ts";
import type { CheckpointFile } from "../formats/checkpoint_file.ts";
import type { StoredTensors } from "../formats/checkpoint_names.ts";
import { KALDI_128, KaldiFbank, kaldiFrames } from "../frontend/kaldi_fbank.ts";
import { dense, norm } from "../vit/blocks.ts";
import { PretrainedEncoder } from "./encoder.ts";
import type { EncodeOptions, PretrainedSizes, Trace } from "./info.ts";
import { headsOf, type PretrainedOptions } from "./options.ts";
import { POST_NORM_EPS, postNormBlock, postNormSources } from "./post_norm.ts";
import { biasGate, type Buckets, relativeBias } from "./relative_positions.ts";
import { throughBlocks, timeMajorPatches, tokenMask } from "./sequence.ts";
import {
  asStored,
  countBlocks,
  layer,
  type Plan,
  shapeOf,
  type Source,
  type Stored,
} from "./state_dict.ts";

const TITLE = "BEATs";
/** Kaldi's 16-bit integers of samples in [-1, 1]. */
const SAMPLE_SCALE = 32_768;
/** Log-mel values are standardised with this mean, and twice this deviation. */
const [MEAN, DEVIATION] = [15.41663, 6.55582];
/** Distance of the last bucket in all released files; those that do not say mean another. */
const MAX_DISTANCE = 1280;

const TABLE = "self_attn.relative_attention_bias.weight";
const POSITIONS = "encoder.pos_conv.0";

/** Whether tensors are those of BEATs, its tokenizer's not counted. */
export function isBeats(tensors: StoredTensors): boolean {
  return tensors.has("patch_embedding.weight") && tensors.has(`encoder.layers.0.${TABLE}`) &&
    !tensors.has("quantize.embedding.weight");
}

/** Sizes of an encoder. */
export interface BeatsSizes extends PretrainedSizes {
  /** Width of the patch embedding. */
  readonly embedding: number;
  /** Width between the two layers of the MLP. */
  readonly hidden: number;
  /** Frames, and bands, of a patch. */
  readonly patch: number;
  /** Whether patches have a bias. */
  readonly patchBias: boolean;
  /** Width of a group, and length, of the kernels of convolutional positions. */
  readonly kernel: readonly [channels: number, length: number];
  /** How distances fall into buckets. */
  readonly buckets: Buckets;
  /** Factor of the residual. */
  readonly alpha: number;
  /** Classes of a fine-tuned file; 0 without. */
  readonly classes: number;
  /** Their names, where the file has them. */
  readonly labels?: readonly string[];
}

function sizesOf(
  { tensors, setting, labels }: CheckpointFile,
  options: PretrainedOptions,
): BeatsSizes {
  const shape = (name: string, axes: number) => shapeOf(TITLE, tensors, name, axes);
  const [width] = shape("encoder.layer_norm.weight", 1);
  const [embedding, , patch, bands] = shape("patch_embedding.weight", 4);
  const [hidden] = shape("encoder.layers.0.fc1.weight", 2);
  const [count, heads] = shape(`encoder.layers.0.${TABLE}`, 2);
  const weight = [`${POSITIONS}.weight_v`, `${POSITIONS}.parametrizations.weight.original1`].find((
    it,
  ) => tensors.has(it)) ?? `${POSITIONS}.weight_v`;
  const [, channels, length] = shape(weight, 3);
  const depth = countBlocks(TITLE, tensors, setting("encoder_layers"));
  if (patch !== bands || KALDI_128.bands % bands !== 0 || width % channels !== 0) {
    throw new EncoderError(
      `patches of ${patch} x ${bands}, or groups of ${channels} channels of ${width}, do not fit`,
    );
  }
  if (setting("encoder_embed_dim") === undefined && setting("deep_norm") === undefined) {
    throw new EncoderError(
      "its configuration, cfg, is missing: shapes do not tell all that it says",
    );
  }
  if (setting("layer_norm_first") === true) {
    throw new EncoderError("its blocks normalise first, which no released BEATs does");
  }
  const activation = setting("activation_fn");
  if (activation !== undefined && activation !== "gelu") {
    throw new EncoderError(`its activation ${activation} is not that of a released BEATs`);
  }
  const distance = setting("max_distance") ?? MAX_DISTANCE;
  if (typeof distance !== "number" || !(distance > count / 4)) {
    throw new EncoderError(`its max_distance ${distance} does not fit ${count} buckets`);
  }
  const classes = tensors.get("predictor.weight")?.shape[0] ?? 0;
  return {
    ...{ width, embedding, depth, hidden, patch, classes },
    labels: labels && Array.from({ length: classes }, (_, i) => labels[i] ?? `class ${i}`),
    heads: headsOf(width, heads, options),
    patchBias: tensors.has("patch_embedding.bias"),
    kernel: [channels, length],
    buckets: { count, maxDistance: distance },
    alpha: setting("deep_norm") === true ? (2 * depth) ** 0.25 : 1,
  };
}

/** Parameters of an encoder of such sizes, and what of a file they are made of. */
export function sourcesOf(sizes: BeatsSizes): Source[] {
  const { width, embedding, depth, hidden, heads, patch, patchBias, buckets, classes } = sizes;
  const [channels, length] = sizes.kernel;
  const weight = (old: string, index: 0 | 1, shape: readonly number[]): Stored => ({
    name: [`${POSITIONS}.${old}`, `${POSITIONS}.parametrizations.weight.original${index}`],
    shape,
  });
  const blocks = Array.from({ length: depth }, (_, i) => {
    const name = `encoder.layers.${i}`;
    return [
      ...postNormSources(name, { width, hidden }),
      ...layer(`${name}.self_attn.grep_linear`, [8, width / heads]),
      asStored(`${name}.self_attn.grep_a`, [1, heads, 1, 1]),
    ];
  });
  return [
    ...layer("patch_embedding", [embedding, 1, patch, patch], patchBias),
    ...layer("layer_norm", [embedding]),
    ...(embedding === width ? [] : layer("post_extract_proj", [width, embedding])),
    {
      name: `${POSITIONS}.weight`,
      shape: [width, channels, length],
      from: [
        weight("weight_g", 0, [1, 1, length]),
        weight("weight_v", 1, [width, channels, length]),
      ],
      fold: ([g, v]) => foldedLastAxis(g, v),
      // The norm of a weight is its g, where it is its own v.
      unfold: (w) => [Float32Array.from(squaresOfLastAxis(w, length), Math.sqrt), w],
    },
    asStored(`${POSITIONS}.bias`, [width]),
    ...layer("encoder.layer_norm", [width]),
    // One table for all layers, which the file repeats.
    asStored(`encoder.layers.0.${TABLE}`, [buckets.count, heads]),
    ...blocks.flat(),
    ...(classes > 0 ? layer("predictor", [classes, width]) : []),
  ];
}

/**
 * A weight w = g v / |v| whose norms are over all axes but the last (Salimans and Kingma,
 * arXiv:1602.07868, torch's `weight_norm` with `dim=2`).
 *
 * @param g [last]
 * @param v [..., last]
 * @returns as `v`
 */
export function foldedLastAxis(g: Float32Array, v: Float32Array): Float32Array {
  const squares = squaresOfLastAxis(v, g.length);
  return v.map((it, i) => it * g[i % g.length] / Math.sqrt(squares[i % g.length]));
}

/** Sums of squares over all axes but the last. */
function squaresOfLastAxis(v: Float32Array, length: number): Float64Array {
  const squares = new Float64Array(length);
  v.forEach((it, i) => squares[i % length] += it * it);
  return squares;
}

/**
 * What an encoder takes from a file.
 *
 * @throws {EncoderError} if sizes cannot be told, or it is of a kind that was never released.
 */
export function beatsPlan(file: CheckpointFile, options: PretrainedOptions): Plan<BeatsSizes> {
  const sizes = sizesOf(file, options);
  const { patch, classes } = sizes;
  const about = {
    system: "beats",
    title: classes > 0 ? `${TITLE}, fine-tuned for ${classes} classes` : TITLE,
    source: "https://github.com/microsoft/unilm/tree/master/beats, arXiv:2212.09058",
    licence: "MIT",
    frontend: "Kaldi filter bank, 128 bands from 20 to 8000 Hz, 25 ms every 10 ms",
    sampleRate: KALDI_128.sampleRate,
    minSamples: KALDI_128.frame + (patch - 1) * KALDI_128.hop,
    hopSamples: patch * KALDI_128.hop,
    rows: KALDI_128.bands / patch,
    attention: {
      ...{ own: 0, timeMajor: true, columnSamples: patch * KALDI_128.hop, columns: Infinity },
    },
    choices: ["pool", "bands concat", "blocks"],
  } as const;
  // All layers' tables are that of the first.
  const beside = new RegExp(`\\.${TABLE}$`);
  return { about, sizes, tensors: file.tensors, sources: sourcesOf(sizes), beside };
}

/** An encoder of BEATs, pre-trained or fine-tuned. */
export class Beats extends PretrainedEncoder<BeatsSizes> {
  /** Classes of a fine-tuned file's head; 0 without one. */
  readonly classes: number = this.sizes.classes;
  /** Names of the classes, AudioSet's ids, in the order of the head; undefined without them. */
  readonly labels: readonly string[] | undefined = this.sizes.labels;
  readonly #fbank = this.owned(new KaldiFbank(this.device));

  /** @inheritdoc Standardised log-mel. */
  features(waves: Tensor): Tensor {
    return noGrad(() =>
      scope(() => div(sub(this.#fbank.apply(waves, SAMPLE_SCALE), MEAN), 2 * DEVIATION))
    );
  }

  /** @inheritdoc */
  stepsOf(samples: number): number {
    return Math.floor(kaldiFrames(samples) / this.sizes.patch);
  }

  /** @inheritdoc */
  encode(features: Tensor, { tokens, trace, attend }: EncodeOptions = {}): Tensor {
    const { depth, heads, buckets, alpha } = this.sizes;
    const p = this.parameter;
    return composite(() => {
      const embedded = this.#embedded(features, trace);
      const [clips, count] = embedded.shape;
      const mask = tokens && tokenMask(this.device, tokens, clips, count);
      const placed = this.#placed(
        mask ? mul(embedded, reshape(mask, [clips, count, 1])) : embedded,
        trace,
      );
      const bias = relativeBias(p(`encoder.layers.0.${TABLE}`), count, buckets);
      return throughBlocks(placed, depth, (input, i) => {
        const own = within(p, `encoder.layers.${i}.`);
        const see: Trace | undefined = trace && ((stage, x) => trace(`${stage}${i}`, x));
        return postNormBlock(own, input, {
          ...{ heads, alpha, bias, keyMask: mask, trace: see, attend },
          gate: (qkv) =>
            biasGate(within(own, "self_attn."), qkv, see && ((u) => see("gate_linear", u))),
        });
      }, { trace });
    });
  }

  /** Patches, embedded: [clips, tokens, width]. */
  #embedded(features: Tensor, trace?: Trace): Tensor {
    const { embedding, width, patch, patchBias } = this.sizes;
    const p = this.parameter;
    const patches = linear(
      timeMajorPatches(features, [patch, patch]),
      reshape(p("patch_embedding.weight"), [embedding, patch * patch]),
      patchBias ? p("patch_embedding.bias") : undefined,
    );
    trace?.("patch", patches);
    const normed = norm(p, "layer_norm", patches, POST_NORM_EPS);
    trace?.("patch_norm", normed);
    if (embedding === width) return normed;
    const projected = dense(p, "post_extract_proj", normed);
    trace?.("proj", projected);
    return projected;
  }

  /** With convolutional positions, normalised. */
  #placed(x: Tensor, trace?: Trace): Tensor {
    const { width, kernel: [channels, length] } = this.sizes;
    const p = this.parameter;
    // Kernels of even length reach one token further back than ahead.
    const padding = [Math.floor(length / 2), Math.ceil(length / 2) - 1] as const;
    const along = conv1d(
      permute(x, [0, 2, 1]),
      p(`${POSITIONS}.weight`),
      p(`${POSITIONS}.bias`),
      { padding, groups: width / channels },
    );
    const positions = gelu(permute(along, [0, 2, 1]));
    trace?.("pos_conv", positions);
    const placed = norm(p, "encoder.layer_norm", add(x, positions), POST_NORM_EPS);
    trace?.("enc_in", placed);
    return placed;
  }

  /**
   * Probabilities of a fine-tuned file's classes, in the order of its `label_dict`: the sigmoid of
   * the mean over tokens of the logits.
   *
   * @param tokens [clips, tokens, width], as {@link encode} gives them
   * @returns [clips, classes]
   * @throws {EncoderError} if the file has no head.
   */
  probabilities(tokens: Tensor): Tensor {
    if (this.classes === 0) throw new EncoderError("it has no classes: it is not fine-tuned");
    return composite(() =>
      sigmoid(mean(dense(this.parameter, "predictor", tokens), { axes: [1] }))
    );
  }
}
