/**
 * CED (Dinkel et al., arXiv:2308.11957), trained on labels of an ensemble, and Dasheng (Dinkel et
 * al., arXiv:2406.06992), a masked auto-encoder of which the encoder is read: one network with
 * patches of its own, under the names of the authors and of transformers' folders (model/README.md,
 * Encoders of others).
 *
 * @module
 */
import {
  add,
  composite,
  conv2d,
  mul,
  noGrad,
  permute,
  reshape,
  scope,
  ShapeError,
  slice,
  type Tensor,
} from "../../engine/functions.ts";
import { joined } from "../encoder/chunks.ts";
import { EncoderError } from "../encoder/file_values.ts";
import type { CheckpointFile } from "../formats/checkpoint_file.ts";
import type { StoredTensors } from "../formats/checkpoint_names.ts";
import { CED_MEL, centredFrames, MelDecibels } from "../frontend/htk_mel.ts";
import { norm } from "../vit/blocks.ts";
import { type BlockValues, PretrainedEncoder } from "./encoder.ts";
import type { EncodeOptions, PretrainedEmbedOptions, PretrainedSizes } from "./info.ts";
import { headsOf, type PretrainedOptions } from "./options.ts";
import { type Chunk, cut, eachOf, readParts, weightedMean } from "./parts.ts";
import { preNormBlocks, preNormSources } from "./pre_norm.ts";
import {
  asStored,
  below,
  countBlocks,
  frozenBatchNorm,
  layer,
  type Plan,
  prefixOf,
  shapeOf,
  type Source,
} from "./state_dict.ts";

/** Epsilon of layer norms, and of the batch norm of bands. */
const [EPS, BATCH_NORM_EPS] = [1e-6, 1e-5];
/** Frames of a patch of CED, and of a chunk, of which the last 4 are in no patch. */
const [CED_PATCH, CED_FRAMES] = [16, 1012];
/** Width and heads of the Dasheng of 0.6 billion parameters, whose heads are not 64 wide. */
const [WIDE, WIDE_HEADS] = [1280, 16];
const PREFIXES = ["", "encoder."];

function prefixIn(tensors: StoredTensors): string | undefined {
  const own = ["time_pos_embed", "freq_pos_embed", "patch_embed.proj.weight"];
  const prefix = prefixOf(tensors, PREFIXES, own);
  const hasNorm = (it: string) => tensors.has(`${prefix}${it}.running_mean`);
  return prefix !== undefined && ["init_bn.1", "init_bn"].some(hasNorm) ? prefix : undefined;
}

/** Whether tensors are those of CED or Dasheng. */
export function isCed(tensors: StoredTensors): boolean {
  return prefixIn(tensors) !== undefined;
}

/** Sizes of an encoder. */
export interface CedSizes extends PretrainedSizes {
  /** Bands and frames of a patch. */
  readonly patch: readonly [bands: number, frames: number];
  /** Most patches along time. */
  readonly columns: number;
}

/** Parameters of an encoder of such sizes, and what of a file they are made of. */
export function sourcesOf({ width, depth, patch, columns }: CedSizes): Source[] {
  const rows = CED_MEL.bands / patch[0];
  return [
    ...frozenBatchNorm(["init_bn.1", "init_bn"], CED_MEL.bands, BATCH_NORM_EPS),
    ...layer("patch_embed.proj", [width, 1, ...patch]),
    asStored("time_pos_embed", [1, width, 1, columns]),
    asStored("freq_pos_embed", [1, width, rows, 1]),
    ...Array.from({ length: depth }, (_, i) => preNormSources(`blocks.${i}`, width)).flat(),
    ...layer("norm", [width]),
  ];
}

/**
 * What an encoder takes from a file.
 *
 * @throws {EncoderError} if sizes cannot be told, or it has parts that no released file has.
 */
export function cedPlan(file: CheckpointFile, options: PretrainedOptions): Plan<CedSizes> {
  const tensors = below(file.tensors, prefixIn(file.tensors)!);
  const weight = shapeOf("CED", tensors, "patch_embed.proj.weight", 4);
  const [width, , bands, frames] = weight;
  const title = bands === CED_MEL.bands ? "Dasheng" : "CED";
  const other = [...tensors.keys()].find((it) => /^(cls_token|blocks\.\d+\.ls\d\.)/.test(it));
  if (other !== undefined || CED_MEL.bands % bands !== 0) {
    throw new EncoderError(
      `${other ?? `patches of ${bands} bands`}: no released ${title} has such`,
    );
  }
  const said = file.heads.encoder ?? file.setting("num_heads");
  const sizes: CedSizes = {
    width,
    depth: countBlocks(title, tensors, undefined, "blocks."),
    heads: headsOf(width, said ?? (width === WIDE ? WIDE_HEADS : undefined), options),
    patch: [bands, frames],
    columns: shapeOf(title, tensors, "time_pos_embed", 4)[3],
  };
  const about = {
    system: "ced",
    title,
    source: title === "CED"
      ? "https://github.com/RicherMans/CED, arXiv:2308.11957"
      : "https://github.com/XiaoMi/dasheng, arXiv:2406.06992",
    licence: title === "CED" ? "none stated" : "Apache-2.0",
    frontend: "mel decibels, 64 HTK bands from 0 to 8000 Hz, 32 ms every 10 ms",
    sampleRate: CED_MEL.sampleRate,
    minSamples: Math.max(CED_MEL.size / 2 + 1, (frames - 1) * CED_MEL.hop),
    hopSamples: frames * CED_MEL.hop,
    rows: CED_MEL.bands / bands,
    choices: ["bands concat", "blocks"],
  } as const;
  const beside = /^(front_end|outputlayer)\.|^init_bn\.(1\.)?num_batches_tracked$/;
  return { about, sizes, tensors, sources: sourcesOf(sizes), beside };
}

/** An encoder of CED or Dasheng. */
export class Ced extends PretrainedEncoder<CedSizes> {
  readonly #mel = this.owned(new MelDecibels(this.device, CED_MEL));

  /** @inheritdoc Decibels; their floor is that of each clip. */
  features(waves: Tensor): Tensor {
    return this.#mel.apply(waves);
  }

  /** Chunks of as many frames as there are positions for; none without a patch. */
  #chunks(samples: number): Chunk[] {
    const { patch: [, frames], columns } = this.sizes;
    const most = frames === CED_PATCH && columns === Math.floor(CED_FRAMES / frames)
      ? CED_FRAMES
      : columns * frames;
    return cut(centredFrames(samples, CED_MEL), most).filter(({ length }) => length >= frames);
  }

  /** @inheritdoc */
  stepsOf(samples: number): number {
    const [, frames] = this.sizes.patch;
    return this.#chunks(samples).reduce((all, it) => all + Math.floor(it.length / frames), 0);
  }

  /** @inheritdoc Normalised. */
  encode(features: Tensor, options: EncodeOptions = {}): Tensor {
    return this.encodeBlocks(features, 1, options)[0];
  }

  /**
   * Outputs of the last blocks, each normalised.
   *
   * @param features [clips, frames, 64]
   * @param count how many of the last blocks
   * @returns [clips, steps * rows, width] each, time-major
   * @throws {ShapeError} if they give no patch, more than there are positions for, or tokens of
   * padding are told.
   */
  encodeBlocks(features: Tensor, count: number, { tokens, trace }: EncodeOptions = {}): Tensor[] {
    const { width, patch, columns } = this.sizes;
    const { rows, title } = this.info;
    const p = this.parameter;
    const [clips, frames, bands] = features.shape;
    const steps = Math.floor(frames / patch[1]);
    if (features.shape.length !== 3 || bands !== CED_MEL.bands || steps < 1 || steps > columns) {
      throw new ShapeError(
        `encode: features [${features.shape}] are not [clips, frames, ${CED_MEL.bands}] of 1 to ` +
          `${columns} patches of ${patch[1]} frames`,
      );
    }
    if (tokens) throw new ShapeError(`encode: clips of ${title} cannot be padded`);
    return composite(() => {
      const standardised = add(mul(features, p("init_bn.factor")), p("init_bn.summand"));
      const image = reshape(permute(standardised, [0, 2, 1]), [clips, 1, bands, frames]);
      const patches = conv2d(image, p("patch_embed.proj.weight"), p("patch_embed.proj.bias"), {
        stride: patch,
      });
      const placed = add(
        add(patches, slice(p("time_pos_embed"), 3, 0, steps)),
        p("freq_pos_embed"),
      );
      const sequence = permute(reshape(placed, [clips, width, rows * steps]), [0, 2, 1]);
      trace?.("tokens_in", sequence);
      const run = { sizes: this.sizes, eps: EPS, count, trace };
      return preNormBlocks(p, sequence, run, (output) => {
        const grid = reshape(norm(p, "norm", output, EPS), [clips, rows, steps, width]);
        return reshape(permute(grid, [0, 2, 1, 3]), [clips, steps * rows, width]);
      });
    });
  }

  /** @inheritdoc Chunk by chunk, each of its own length, which count by their patches. */
  protected override async blocksOf(
    waves: Float32Array,
    clips: number,
    count: number,
    { pool = "mean", bands = "mean" }: PretrainedEmbedOptions,
  ): Promise<BlockValues> {
    const samples = waves.length / clips;
    const [, frames] = this.sizes.patch;
    const chunks = this.#chunks(samples);
    using features = scope(() => this.features(this.device.tensor(waves, [clips, samples])));
    const parts: Float32Array[][][] = [];
    const times: number[] = [];
    const weights = chunks.map(({ length }) => Math.floor(length / frames));
    for (const [i, { first, length }] of chunks.entries()) {
      const made = noGrad(() =>
        scope(() =>
          this.encodeBlocks(slice(features, 1, first, length), count)
            .map((it) => this.pooled(it, pool, bands))
        )
      );
      parts.push(await readParts(made, clips));
      for (let t = 0; t < weights[i]; t++) times.push((first + t * frames) * 10);
    }
    const blocks = eachOf(parts, (of) => pool === "none" ? joined(of) : weightedMean(of, weights));
    return { blocks, steps: times.length, times: Float32Array.from(times) };
  }
}
