/**
 * MAE-AST (Baade et al., arXiv:2203.16691): a masked auto-encoder of spectrogram patches, of which
 * the encoder is read (model/README.md, Encoders of others).
 *
 * @module
 */
import {
  add,
  composite,
  mul,
  reshape,
  ShapeError,
  slice,
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
import type { EncodeOptions, PretrainedSizes } from "./info.ts";
import { headsOf, type PretrainedOptions } from "./options.ts";
import { POST_NORM_EPS, postNormBlock, postNormSources } from "./post_norm.ts";
import { throughBlocks, timeMajorPatches, tokenMask } from "./sequence.ts";
import {
  countBlocks,
  fixed,
  layer,
  type Plan,
  shapeOf,
  type Source,
  type Stored,
} from "./state_dict.ts";

const TITLE = "MAE-AST";
/** Epsilon of the batch norm of the input. */
const BATCH_NORM_EPS = 1e-5;
/** What the standardised input is multiplied by. */
const INPUT_SCALE = 0.5;

/** Names of the decoder, the heads and what training alone needs; the first norm is never used. */
const BESIDE = new RegExp(
  "^(batch_norm\\.num_batches_tracked$|layer_norm\\.|decoder\\.|" +
    "dec_sine_pos_embed\\.|(enc|dec)oder_mask_emb$|final_proj_)",
);

/** Whether tensors are those of MAE-AST. */
export function isMaeAst(tensors: StoredTensors): boolean {
  return tensors.has("enc_sine_pos_embed.pe") && tensors.has("post_extract_proj.weight");
}

/** Sizes of an encoder. */
export interface MaeAstSizes extends PretrainedSizes {
  /** Width between the two layers of the MLP. */
  readonly hidden: number;
  /** Rows of the position table. */
  readonly positions: number;
  /** Frames and bands of a patch. */
  readonly patch: readonly [frames: number, bands: number];
}

function sizesOf(file: CheckpointFile, options: PretrainedOptions): MaeAstSizes {
  const { tensors, setting } = file;
  const [width, values] = shapeOf(TITLE, tensors, "post_extract_proj.weight", 2);
  const [, positions] = shapeOf(TITLE, tensors, "enc_sine_pos_embed.pe", 3);
  const [hidden] = shapeOf(TITLE, tensors, "encoder.layers.0.fc1.weight", 2);
  const depth = countBlocks(TITLE, tensors, setting("model", "encoder_layers"));
  // Patches of 16 x 16 and of 2 x 128 have as many values: the configuration tells them apart.
  const frames = setting("model", "ast_kernel_size_time");
  const bands = setting("model", "ast_kernel_size_chan");
  const patch = options.patch ?? [frames, bands];
  const [high, wide] = patch;
  if (frames === undefined && options.patch === undefined) {
    throw new EncoderError(
      "nothing in it tells frames and bands of a patch; the option patch gives them",
    );
  }
  if (
    typeof high !== "number" || typeof wide !== "number" || high * wide !== values ||
    KALDI_128.bands % wide !== 0
  ) {
    throw new EncoderError(`patches of ${high} frames x ${wide} bands have not ${values} values`);
  }
  for (const [key, size] of [["time", high], ["chan", wide]] as const) {
    const stride = setting("model", `ast_kernel_stride_${key}`);
    if (stride !== undefined && stride !== size) {
      throw new EncoderError(`patches of ${size} every ${stride} overlap, which is not read here`);
    }
  }
  const heads = headsOf(
    width,
    file.heads.encoder ?? setting("model", "encoder_attention_heads"),
    options,
  );
  return { width, depth, hidden, heads, positions, patch: [high, wide] };
}

/** Parameters of an encoder of such sizes, and what of a file they are made of. */
export function sourcesOf({ width, depth, hidden, positions, patch }: MaeAstSizes): Source[] {
  const statistic = (name: string): Stored => ({ name: `batch_norm.running_${name}`, shape: [1] });
  return [
    // The batch norm without weights that the log-mel goes through.
    { name: "input.mean", shape: [1], frozen: true, from: [statistic("mean")] },
    {
      name: "input.factor",
      shape: [1],
      frozen: true,
      from: [statistic("var")],
      fold: ([[variance]]) => Float32Array.of(INPUT_SCALE / Math.sqrt(variance + BATCH_NORM_EPS)),
    },
    ...layer("post_extract_proj", [width, patch[0] * patch[1]]),
    fixed("enc_sine_pos_embed.pe", [1, positions, width]),
    ...layer("encoder.layer_norm", [width]),
    ...Array.from(
      { length: depth },
      (_, i) => postNormSources(`encoder.layers.${i}`, { width, hidden }),
    ).flat(),
  ];
}

/**
 * What an encoder takes from a file.
 *
 * @throws {EncoderError} if sizes cannot be told.
 */
export function maeAstPlan(file: CheckpointFile, options: PretrainedOptions): Plan<MaeAstSizes> {
  const sizes = sizesOf(file, options);
  const { positions, patch: [frames, bands] } = sizes;
  const rows = KALDI_128.bands / bands;
  const about = {
    system: "mae-ast",
    title: rows === 1 ? `${TITLE}, frames` : `${TITLE}, patches`,
    source: "https://github.com/AlanBaade/MAE-AST-Public, arXiv:2203.16691",
    licence: "none stated",
    frontend: "Kaldi filter bank, 128 bands from 20 to 8000 Hz, 25 ms every 10 ms",
    sampleRate: KALDI_128.sampleRate,
    minSamples: KALDI_128.frame + (frames - 1) * KALDI_128.hop,
    maxSteps: Math.floor(positions / rows),
    hopSamples: frames * KALDI_128.hop,
    rows,
    attention: {
      ...{ own: 0, timeMajor: true, columnSamples: frames * KALDI_128.hop },
      columns: Math.floor(positions / rows),
    },
    choices: ["pool", "bands concat", "blocks"],
  } as const;
  return { about, sizes, tensors: file.tensors, sources: sourcesOf(sizes), beside: BESIDE };
}

/** An encoder of MAE-AST, of patches or of frames. */
export class MaeAst extends PretrainedEncoder<MaeAstSizes> {
  readonly #fbank = this.owned(new KaldiFbank(this.device));

  /** @inheritdoc The log-mel is not standardised yet: {@link encode} does so. */
  features(waves: Tensor): Tensor {
    return this.#fbank.apply(waves);
  }

  /** @inheritdoc */
  stepsOf(samples: number): number {
    return Math.floor(kaldiFrames(samples) / this.sizes.patch[0]);
  }

  /** @inheritdoc */
  encode(features: Tensor, { tokens, trace, attend }: EncodeOptions = {}): Tensor {
    const { depth, heads, positions, patch } = this.sizes;
    const p = this.parameter;
    return composite(() => {
      const standardised = mul(sub(features, p("input.mean")), p("input.factor"));
      const patches = timeMajorPatches(standardised, patch);
      trace?.("patch", patches);
      const [clips, count] = patches.shape;
      if (count > positions) {
        throw new ShapeError(
          `encode: ${count} tokens are more than the ${positions} positions of this encoder`,
        );
      }
      const mask = tokens && tokenMask(this.device, tokens, clips, count);
      const projected = dense(p, "post_extract_proj", patches);
      trace?.("proj", projected);
      // Positions follow the flattened index, over rows and steps alike.
      const table = slice(p("enc_sine_pos_embed.pe"), 1, 0, count);
      const placed = add(projected, mask ? mul(table, reshape(mask, [clips, count, 1])) : table);
      const sequence = norm(p, "encoder.layer_norm", placed, POST_NORM_EPS);
      trace?.("enc_in", sequence);
      return throughBlocks(
        sequence,
        depth,
        (input, i) =>
          postNormBlock(within(p, `encoder.layers.${i}.`), input, {
            ...{ heads, keyMask: mask, attend },
            trace: trace && ((stage, x) => trace(`${stage}${i}`, x)),
          }),
        { trace },
      );
    });
  }
}
