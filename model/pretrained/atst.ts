/**
 * ATST-Clip (Li and Li, arXiv:2204.12076) and ATST-Frame (Li et al., arXiv:2306.04186): a student
 * follows its teacher's class token, or each of its frames. The teacher's encoder is read
 * (model/README.md, Encoders of others).
 *
 * @module
 */
import {
  add,
  composite,
  concat,
  expand,
  mean,
  mul,
  noGrad,
  permute,
  reshape,
  scope,
  ShapeError,
  slice,
  sum,
  type Tensor,
} from "../../engine/functions.ts";
import { joined } from "../encoder/chunks.ts";
import type { CheckpointFile } from "../formats/checkpoint_file.ts";
import type { StoredTensors } from "../formats/checkpoint_names.ts";
import { ATST_MEL, atstFrames, AtstMel } from "../frontend/htk_mel.ts";
import { dense, norm } from "../vit/blocks.ts";
import { type BlockValues, PretrainedEncoder } from "./encoder.ts";
import type { EncodeOptions, PretrainedEmbedOptions, PretrainedSizes, Trace } from "./info.ts";
import { headsOf, type PretrainedOptions } from "./options.ts";
import { cut, eachOf, readParts, weightedMean } from "./parts.ts";
import { preNormBlocks, preNormSources } from "./pre_norm.ts";
import { tokenMask } from "./sequence.ts";
import {
  asStored,
  below,
  countBlocks,
  layer,
  type Plan,
  prefixOf,
  shapeOf,
  type Source,
} from "./state_dict.ts";

const TITLE = "ATST";
/** Frames of a patch; it holds all bands. */
const PATCH = 4;
const EPS = 1e-6;
/** Frames of a chunk: 6 s and 10 s and the one that mirrored ends add. */
const CHUNK = { clip: 601, frame: 1001 } as const;
/** In the official divisor of means. */
const DIVISOR_EPS = 1e-6;
/** Names before those of the teacher's encoder: in files of Lightning, as DINO, by themselves. */
const PREFIXES = ["model.teacher.encoder.", "teacher.module.backbone.", ""];
const EMBED = "patch_embed.patch_embed";

/** What stands before the names of the teacher's encoder; undefined if it is none of ATST. */
function prefixIn(tensors: StoredTensors): string | undefined {
  return prefixOf(tensors, PREFIXES, [`${EMBED}.weight`, "pos_embed"]);
}

/** Whether tensors are those of ATST-Clip or ATST-Frame. */
export function isAtst(tensors: StoredTensors): boolean {
  return prefixIn(tensors) !== undefined;
}

/** Sizes of an encoder. */
export interface AtstSizes extends PretrainedSizes {
  /** Rows of the position table, the class token's counted. */
  readonly positions: number;
  /** Which of the two. */
  readonly kind: "clip" | "frame";
}

/** Parameters of an encoder of such sizes, and what of a file they are made of. */
export function sourcesOf({ width, depth, positions, kind }: AtstSizes): Source[] {
  return [
    ...layer(EMBED, [width, ATST_MEL.bands * PATCH]),
    asStored("pos_embed", [1, positions, width]),
    ...(kind === "clip" ? [asStored("cls_token", [1, 1, width])] : []),
    ...Array.from(
      { length: depth },
      (_, i) => preNormSources(`blocks.${i}`, width, { qkvBias: false }),
    ).flat(),
    ...layer(kind === "clip" ? "norm" : "norm_frame", [width]),
  ];
}

/**
 * What an encoder takes from a file: its teacher.
 *
 * @throws {EncoderError} if sizes cannot be told.
 */
export function atstPlan(file: CheckpointFile, options: PretrainedOptions): Plan<AtstSizes> {
  const tensors = below(file.tensors, prefixIn(file.tensors)!);
  const [width] = shapeOf(TITLE, tensors, `${EMBED}.weight`, 2);
  const sizes: AtstSizes = {
    width,
    depth: countBlocks(TITLE, tensors, undefined, "blocks."),
    heads: headsOf(width, file.heads.encoder, options),
    positions: shapeOf(TITLE, tensors, "pos_embed", 3)[1],
    kind: tensors.has("norm_frame.weight") ? "frame" : "clip",
  };
  const clip = sizes.kind === "clip";
  const about = {
    system: "atst",
    title: clip ? "ATST-Clip" : "ATST-Frame",
    source: "https://github.com/Audio-WestlakeU/audiossl, " +
      (clip ? "arXiv:2204.12076" : "arXiv:2306.04186"),
    licence: "MIT",
    frontend: "mel decibels, 64 HTK bands from 60 to 7800 Hz, 64 ms every 10 ms",
    sampleRate: ATST_MEL.sampleRate,
    minSamples: ATST_MEL.size / 2 + 1,
    hopSamples: PATCH * ATST_MEL.hop,
    rows: 1,
    attention: {
      ...{ own: clip ? 1 : 0, timeMajor: true, columnSamples: PATCH * ATST_MEL.hop },
      columns: Math.min(sizes.positions - 1, Math.floor(CHUNK[sizes.kind] / PATCH)),
    },
    choices: ["blocks", "official", ...clip ? [] : ["official downstream"] as const],
  } as const;
  return { about, sizes, tensors, sources: sourcesOf(sizes), beside: /^mask_embed$/ };
}

/** An encoder of ATST-Clip or ATST-Frame. */
export class Atst extends PretrainedEncoder<AtstSizes> {
  /** Which of the two. */
  readonly kind: "clip" | "frame" = this.sizes.kind;
  readonly #mel = this.owned(new AtstMel(this.device));

  /** @inheritdoc Decibels from -1 to 1; their floor is that of each clip. */
  features(waves: Tensor): Tensor {
    return this.#mel.apply(waves);
  }

  /** @inheritdoc */
  stepsOf(samples: number): number {
    return this.chunks(atstFrames(samples)).reduce((all, { patches }) => all + patches, 0);
  }

  /** Chunks of so many frames, the first of each and their whole patches; none without a patch. */
  chunks(frames: number): { first: number; patches: number }[] {
    return cut(frames, CHUNK[this.kind])
      .map(({ first, length }) => ({ first, patches: Math.floor(length / PATCH) }))
      .filter(({ patches }) => patches > 0);
  }

  /** @inheritdoc Normalised, without the class token. */
  encode(features: Tensor, options: EncodeOptions = {}): Tensor {
    return composite(() => {
      const blocks = this.encodeBlocks(features, 1, options);
      const last = blocks[0];
      return this.kind === "clip" ? slice(last, 1, 1, last.shape[1] - 1) : last;
    });
  }

  /**
   * Outputs of the last blocks, each normalised.
   *
   * @param features [clips, frames, 64], at most a chunk
   * @param count how many of the last blocks
   * @returns [clips, tokens, width] each, of ATST-Clip with the class token in front
   * @throws {ShapeError} if they give no patch, or more than there are positions for.
   */
  encodeBlocks(
    features: Tensor,
    count: number,
    { tokens, trace, attend }: EncodeOptions = {},
  ): Tensor[] {
    const { positions, kind } = this.sizes;
    const p = this.parameter;
    const [clips, frames, bands] = features.shape;
    const patches = Math.floor(frames / PATCH);
    if (features.shape.length !== 3 || patches < 1 || patches > positions - 1) {
      throw new ShapeError(
        `encode: features [${features.shape}] are not [clips, frames, ${bands}] of 1 to ` +
          `${positions - 1} patches of ${PATCH} frames`,
      );
    }
    return composite(() => {
      const own = kind === "clip" ? 1 : 0;
      const mask = tokens &&
        tokenMask(this.device, tokens.map((it) => it + own), clips, patches + own);
      const sequence = this.#tokens(features, patches, trace);
      trace?.("tokens_in", sequence);
      const run = { sizes: this.sizes, eps: EPS, count, keyMask: mask, trace, attend };
      return preNormBlocks(p, sequence, run, (output, i) => {
        const normed = norm(p, kind === "clip" ? "norm" : "norm_frame", output);
        trace?.(`norm${i}`, normed);
        return normed;
      });
    });
  }

  /** Patches of all bands, band by band, embedded, with positions. */
  #tokens(features: Tensor, patches: number, trace?: Trace): Tensor {
    const { width, kind } = this.sizes;
    const p = this.parameter;
    const [clips, , bands] = features.shape;
    const whole = reshape(slice(features, 1, 0, patches * PATCH), [clips, patches, PATCH, bands]);
    const values = reshape(permute(whole, [0, 1, 3, 2]), [clips, patches, bands * PATCH]);
    const embedded = dense(p, EMBED, values);
    trace?.("patch", embedded);
    // The table's first row is the class token's; ATST-Frame never uses it.
    const table = p("pos_embed");
    const placed = add(embedded, slice(table, 1, 1, patches));
    if (kind === "frame") return placed;
    const cls = expand(add(p("cls_token"), slice(table, 1, 0, 1)), [clips, 1, width]);
    return concat([cls, placed], 1);
  }

  /**
   * @inheritdoc Chunk by chunk. Steps are patches of 40 ms of all chunks, without class tokens;
   * pooled, ATST-Clip has the class token first, then the mean of patches.
   */
  protected override async blocksOf(
    waves: Float32Array,
    clips: number,
    count: number,
    { pool = "mean", official = false }: PretrainedEmbedOptions,
  ): Promise<BlockValues> {
    const { width } = this.info;
    const samples = waves.length / clips;
    const frames = atstFrames(samples);
    const chunks = this.chunks(frames);
    using features = scope(() => this.features(this.device.tensor(waves, [clips, samples])));
    /** Of each chunk, block and clip: class token and sum over patches, or the patches. */
    const parts: Float32Array[][][] = [];
    for (const { first, patches } of chunks) {
      const outputs = noGrad(() =>
        scope(() => {
          const part = slice(features, 1, first, patches * PATCH);
          return this.encodeBlocks(part, count).map((it) => {
            const own = it.shape[1] - patches;
            const steps = slice(it, 1, own, patches);
            // A copy: views of a block would be freed with it.
            if (pool === "none") return mul(steps, 1);
            const total = sum(steps, { axes: [1], keepDims: true });
            return own > 0 ? concat([slice(it, 1, 0, 1), total], 1) : total;
          });
        })
      );
      parts.push(await readParts(outputs, clips));
    }
    const counts = this.#weights(frames, chunks, official);
    const pooled = (of: readonly Float32Array[]) =>
      weightedMean(
        // The sum over patches comes last.
        of.map((it, c) => it.map((x, i) => i < it.length - width ? x : x / counts[c].divisor)),
        counts.map(({ weight }) => weight),
      );
    const steps = chunks.reduce((all, { patches }) => all + patches, 0);
    const blocks = eachOf(parts, pool === "none" ? joined : pooled);
    return { blocks, steps, times: this.timesOf(steps) };
  }

  /** @inheritdoc */
  override vectors(features: Tensor): Tensor {
    const { width } = this.info;
    return composite(() => {
      const parts = this.encodeBlocks(features, this.usualBlocks.length).flatMap((it) => {
        const [clips, tokens] = it.shape;
        const own = this.kind === "clip" ? 1 : 0;
        const middle = mean(slice(it, 1, own, tokens - own), { axes: [1] });
        return own > 0 ? [reshape(slice(it, 1, 0, 1), [clips, width]), middle] : [middle];
      });
      return parts.length === 1 ? parts[0] : concat(parts, 1);
    });
  }

  /** @inheritdoc */
  protected override get usualBlocks(): readonly number[] {
    const { depth } = this.info;
    return this.kind === "clip" ? [depth] : Array.from({ length: depth }, (_, i) => i + 1);
  }

  /** @inheritdoc Class tokens of all blocks go first. */
  protected override cellSize(): number {
    return this.info.width;
  }

  /** @inheritdoc */
  protected override blockSize({ pool }: PretrainedEmbedOptions): number {
    return this.info.width * (this.kind === "clip" && pool !== "none" ? 2 : 1);
  }

  /** What each chunk counts, and what its sum over patches is divided by. */
  #weights(
    frames: number,
    chunks: readonly { first: number; patches: number }[],
    official: boolean | "downstream",
  ): { weight: number; divisor: number }[] {
    const half = Math.floor(CHUNK[this.kind] / 2);
    return chunks.map(({ first, patches }, i) => {
      if (!official) return { weight: patches, divisor: patches };
      const long = i === 0 || frames - first > half;
      const remaining = this.kind === "clip" ? Math.floor((frames - first) / PATCH) : patches;
      return {
        weight: long || this.kind === "frame" && official === true ? 1 : 0,
        divisor: remaining + DIVISOR_EPS,
      };
    });
  }
}
