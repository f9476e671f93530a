/**
 * AST (Gong et al., arXiv:2104.01778), trained on labels, and SSAST (arXiv:2110.09784), its
 * self-supervised form: names of their files, the authors' and those of transformers
 * (model/README.md, Encoders of others).
 *
 * @module
 */
import { EncoderError } from "../encoder/file_values.ts";
import type { CheckpointFile } from "../formats/checkpoint_file.ts";
import type { StoredTensors } from "../formats/checkpoint_names.ts";
import { KALDI_128 } from "../frontend/kaldi_fbank.ts";
import { headsOf, type PretrainedOptions } from "./options.ts";
import {
  AUDIOSET_STATISTICS,
  CANVAS,
  patchesAlong,
  vitAbout,
  type VitSizes,
  vitSources,
} from "./spectrogram_vit.ts";
import { asStored, countBlocks, type Plan, shapeOf } from "./state_dict.ts";

/** Epsilon of timm's norms; transformers has another, which its configuration says. */
const EPS = 1e-6;
/** Epsilon of transformers' norms where no configuration says one: its default. */
const TRANSFORMERS_EPS = 1e-12;

/** How a file names its tensors. */
interface Style {
  /** What stands before the encoder's names. */
  readonly prefix: string;
  /** Whether the rest are the names of transformers; else they are timm's. */
  readonly transformers: boolean;
}

const PREFIXES = ["module.v.", "v.", "audio_spectrogram_transformer.", ""];

function styleOf(tensors: StoredTensors): Style | undefined {
  for (const prefix of PREFIXES) {
    if (tensors.has(`${prefix}embeddings.distillation_token`)) {
      return { prefix, transformers: true };
    }
    // Without a prefix these are names of DeiT, and of PaSST.
    const timm = prefix !== "" && tensors.has(`${prefix}dist_token`);
    if (timm && tensors.has(`${prefix}pos_embed`)) return { prefix, transformers: false };
  }
  return undefined;
}

/** Whether tensors are those of AST or SSAST. */
export function isAst(tensors: StoredTensors): boolean {
  return styleOf(tensors) !== undefined;
}

/** Names of transformers for timm's; the first that fits is taken. */
const TRANSFORMERS: readonly (readonly [timm: RegExp, named: readonly string[]])[] = [
  [/^cls_token$/, ["embeddings.cls_token"]],
  [/^dist_token$/, ["embeddings.distillation_token"]],
  [/^pos_embed$/, ["embeddings.position_embeddings"]],
  [/^patch_embed\.proj(?=\.)/, ["embeddings.patch_embeddings.projection"]],
  [/^norm(?=\.)/, ["layernorm"]],
  [/\.norm1(?=\.)/, [".layernorm_before"]],
  [/\.norm2(?=\.)/, [".layernorm_after"]],
  [/\.attn\.qkv(?=\.)/, ["query", "key", "value"].map((it) => `.attention.attention.${it}`)],
  [/\.attn\.proj(?=\.)/, [".attention.output.dense"]],
  [/\.mlp\.fc1(?=\.)/, [".intermediate.dense"]],
  [/\.mlp\.fc2(?=\.)/, [".output.dense"]],
];

function transformersNames(timm: string): string[] {
  const [pattern, named] = TRANSFORMERS.find(([it]) => it.test(timm))!;
  return named.map((it) => timm.replace(pattern, it).replace(/^blocks\./, "encoder.layer."));
}

/** Classes, the unused classes of DeiT, and what SSAST is pre-trained with. */
const BESIDE =
  /(^|\.)((classifier|mlp_head|head|head_dist|cpredlayer|gpredlayer)\.|p_input_[ft]dim$)/;

/** What files of SSAST have in the place of masked patches. */
const MASK = ["module.mask_embed", "mask_embed"];

/**
 * Stride and columns of a table of positions: what the configuration says; else what fits the
 * canvas of AudioSet; else the stride of the published models for shorter clips.
 */
function layoutOf(
  { setting }: CheckpointFile,
  [bands, frames]: readonly [number, number],
  patches: number,
): Pick<VitSizes, "stride" | "grid" | "frames"> {
  const said = [setting("frequency_stride"), setting("time_stride")];
  const length = setting("max_length");
  const layouts = [...new Set([said[0], 10, 12, 14, 16, bands])].flatMap((stride, i) => {
    if (typeof stride !== "number" || stride < 1) return [];
    const other = i === 0 && typeof said[1] === "number"
      ? said[1]
      : bands === frames
      ? stride
      : frames;
    const rows = patchesAlong(KALDI_128.bands, bands, stride);
    const columns = patches / rows;
    if (!Number.isInteger(columns)) return [];
    const fits = (it: unknown): it is number =>
      typeof it === "number" && patchesAlong(it, frames, other) === columns;
    const canvas = [length, CANVAS].find(fits);
    return [{
      stride: [stride, other] as const,
      grid: [rows, columns] as const,
      frames: canvas ?? frames + (columns - 1) * other,
      sure: typeof said[0] === "number" && i === 0 || canvas !== undefined,
    }];
  });
  const found = layouts.find(({ sure }) => sure) ?? layouts[0];
  if (found) return found;
  throw new EncoderError(
    `${patches} positions are no grid of patches over ${KALDI_128.bands} bands`,
  );
}

/**
 * What an encoder takes from a file.
 *
 * @throws {EncoderError} if sizes cannot be told.
 */
export function astPlan(file: CheckpointFile, options: PretrainedOptions): Plan<VitSizes> {
  const { tensors, setting } = file;
  const mask = MASK.find((it) => tensors.has(it));
  const title = mask === undefined ? "AST" : "SSAST";
  const { prefix, transformers } = styleOf(tensors)!;
  const named = (name: string) =>
    (transformers ? transformersNames(name) : [name]).map((it) => prefix + it);
  const [, tokens, width] = shapeOf(title, tensors, named("pos_embed")[0], 3);
  const weight = shapeOf(title, tensors, named("patch_embed.proj.weight")[0], 4);
  const patch = [weight[2], weight[3]] as const;
  const own = ["cls_token", "dist_token"];
  const [eps, mean, std] = [setting("layer_norm_eps"), setting("mean"), setting("std")];
  const known = typeof mean === "number" && typeof std === "number";
  const blocks = `${prefix}${transformers ? "encoder.layer." : "blocks."}`;
  const sizes: VitSizes = {
    ...{ width, patch, own, timeFirst: false, norm: "norm" as const },
    depth: countBlocks(title, tensors, setting("num_hidden_layers"), blocks),
    heads: headsOf(width, file.heads.encoder, options),
    ...layoutOf(file, patch, tokens - own.length),
    eps: typeof eps === "number" ? eps : transformers ? TRANSFORMERS_EPS : EPS,
    ...(known ? { mean, std } : AUDIOSET_STATISTICS),
  };
  const sources = [
    ...vitSources(sizes, named),
    // Not computed with, but kept: it tells what an imported file is.
    ...(mask === undefined ? [] : [asStored(mask, [1, 1, width])]),
  ];
  const [repository, paper] = title === "AST" ? ["ast", "2104.01778"] : ["ssast", "2110.09784"];
  const about = vitAbout(sizes, {
    system: "ast",
    title,
    source: `https://github.com/YuanGongND/${repository}, arXiv:${paper}`,
    licence: "BSD-3-Clause of the code; none stated for weights",
    // SSAST never trained the tokens in front.
    vectors: title === "AST" ? ["tokens", "patches"] : ["patches", "tokens"],
  });
  return { about, sizes, tensors, sources, beside: BESIDE };
}
