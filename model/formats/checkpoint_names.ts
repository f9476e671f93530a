/**
 * Names of tensors in the checkpoints of MATPAC, MATPAC++, M2D and MSM-MAE, to and from MATPAC's
 * own, which this project uses for all of them (model/README.md, Checkpoints). What has no
 * counterpart there keeps its name: nothing is lost.
 *
 * @module
 */
import { quoted } from "../../engine/formats/printable.ts";
import { bytesIn, type StoredTensor, wholeBytes } from "./stored_tensor.ts";

/** A checkpoint that cannot be taken for one of the systems, or not given in the form asked for. */
export class CheckpointError extends Error {
  /** Stable name. */
  override name = "CheckpointError";
}

/** What a checkpoint was trained as. */
export type SystemName = "matpac" | "matpac-plus" | "m2d" | "msm-mae";

/** Whose names the tensors have: `msm-mae` has q_bias and v_bias where the others have qkv.bias. */
export type NameStyle = "matpac" | "m2d" | "msm-mae";

/** Which system a state dict belongs to, seen from its names and shapes alone. */
export interface Recognised {
  /**
   * What it was trained as; files of an encoder alone do not tell MATPAC from MATPAC++, nor every
   * MSM-MAE from M2D.
   */
  readonly system: SystemName;
  /** Whose names its tensors have. */
  readonly style: NameStyle;
  /** What stands before the model's names, as in EVAR's fine-tuned files; often empty. */
  readonly prefix: string;
}

/** Tensors by name. */
export type StoredTensors = ReadonlyMap<string, StoredTensor>;

const PATCHES = "patch_embed.proj.weight";
/** Prefix of a model inside EVAR's fine-tuning module, whose head has names of its own. */
const EVAR = "module.ar.runtime.backbone.";

/** Starts of names: MATPAC's and M2D's. Order matters: the first that fits is taken. */
const STARTS: readonly (readonly [matpac: string, m2d: string])[] = [
  ["student_encoder.blocks.", "blocks."],
  ["student_encoder.norm.", "norm."],
  ["_ema.blocks.", "target_blocks."],
  ["_ema.norm.", "target_norm."],
  ["decoder.decoder_", "decoder_"],
  ["decoder.mask_token", "mask_token"],
];
const EVAR_HEAD: readonly (readonly [matpac: string, evar: string])[] = [
  ["head_norm.", "module.head.norm."],
  ["head.", "module.head.mlp.mlp.0."],
];

/**
 * Recognises a state dict whose nested dictionaries were flattened.
 *
 * @returns undefined if it is none of the four systems
 */
export function recognise(tensors: StoredTensors): Recognised | undefined {
  const prefixes = [...tensors.keys()].filter((it) => it.endsWith(PATCHES))
    .map((it) => it.slice(0, -PATCHES.length)).sort((a, b) => a.length - b.length);
  for (const prefix of prefixes) {
    const has = (name: string) => tensors.has(prefix + name);
    if (has("student_encoder.blocks.0.norm1.weight")) {
      const several = has("mcl_heads.mcl_heads.0.weight");
      return { system: several ? "matpac-plus" : "matpac", style: "matpac", prefix };
    }
    // PaSST's blocks are timm's as well, but it has positions of its own.
    if (!has("blocks.0.norm1.weight") || has("freq_new_pos_embed")) continue;
    if (has("blocks.0.attn.q_bias") && !has("blocks.0.attn.qkv.bias")) {
      return { system: "msm-mae", style: "msm-mae", prefix };
    }
    const system = !has("target_norm.weight") && predictsPixels(tensors, prefix)
      ? "msm-mae"
      : "m2d";
    return { system, style: "m2d", prefix };
  }
  return undefined;
}

/**
 * Whether the predictor's outputs are a patch's values, not a latent: MSM-MAE, also under M2D's
 * names.
 */
function predictsPixels(tensors: StoredTensors, prefix: string): boolean {
  const outputs = tensors.get(`${prefix}decoder_pred.weight`)?.shape[0];
  const [width, , bands, frames] = tensors.get(prefix + PATCHES)?.shape ?? [];
  return outputs !== undefined && outputs === bands * frames && outputs !== width;
}

/** Tensors under MATPAC's names. */
export interface Renamed {
  /** The tensors, in the order of the file. */
  readonly tensors: Map<string, StoredTensor>;
  /** Names of those that did not have the prefix of the others. */
  readonly outside: readonly string[];
  /** What was done beside renaming, for people. */
  readonly done: readonly string[];
}

/**
 * Renames tensors to MATPAC's names and makes `qkv.bias` of q_bias and v_bias.
 *
 * @throws {CheckpointError} if two tensors get the same name
 */
export function toMatpacNames(tensors: StoredTensors, from: Recognised): Renamed {
  const { prefix, style } = from;
  const renamed = new Map<string, StoredTensor>();
  const outside: string[] = [];
  const put = (name: string, tensor: StoredTensor): void => {
    if (renamed.has(name)) throw new CheckpointError(`two tensors become ${quoted(name)}`);
    renamed.set(name, tensor);
  };
  // Our own runs of MSM-MAE have MATPAC's names, with its biases.
  const merged = withFusedBias(tensors);
  for (const [full, tensor] of merged) {
    if (full.startsWith(prefix)) {
      const name = full.slice(prefix.length);
      put(style === "matpac" ? name : matpacName(name), tensor);
    } else {
      const name = prefix === EVAR ? exchange(full, EVAR_HEAD, 1) : full;
      if (name === full) outside.push(full);
      put(name, tensor);
    }
  }
  const done = [
    ...(prefix === "" ? [] : [`prefix ${prefix} removed`]),
    ...(style === "matpac" ? [] : ["names of M2D to those of MATPAC"]),
    ...(merged.size === tensors.size ? [] : ["qkv.bias = [q_bias, 0, v_bias]"]),
  ];
  return { tensors: renamed, outside, done };
}

/** How names are to be given back. */
export interface GivenBack {
  /** Whose names. */
  readonly style: NameStyle;
  /** What stands before the model's names. */
  readonly prefix?: string;
  /** Names that stay as they are in spite of `prefix`. */
  readonly outside?: readonly string[];
}

/**
 * The inverse of {@link toMatpacNames}.
 *
 * @throws {CheckpointError} if the key's part of a `qkv.bias` is not zero where q_bias and v_bias
 * are asked for
 */
export function fromMatpacNames(
  tensors: StoredTensors,
  { style, prefix = "", outside = [] }: GivenBack,
): Map<string, StoredTensor> {
  const kept = new Set(outside);
  const renamed = [...tensors].map(([name, tensor]): [string, StoredTensor] => {
    if (kept.has(name)) return [name, tensor];
    const evar = prefix === EVAR ? exchange(name, EVAR_HEAD, 0) : name;
    if (evar !== name) return [evar, tensor];
    return [prefix + (style === "matpac" ? name : exchange(name, STARTS, 0)), tensor];
  });
  return new Map(style === "msm-mae" ? renamed.flatMap(withSplitBias) : renamed);
}

/** MATPAC's name of a tensor that M2D or MSM-MAE names; biases of queries and values stay apart. */
export function matpacName(name: string): string {
  return exchange(name, STARTS, 1);
}

/** Puts the other start in the place of the first that `name` has on side `from`. */
function exchange(
  name: string,
  starts: readonly (readonly [string, string])[],
  from: 0 | 1,
): string {
  const pair = starts.find((it) => name.startsWith(it[from]));
  return pair ? pair[1 - from] + name.slice(pair[from].length) : name;
}

const Q_BIAS = "attn.q_bias";
const V_BIAS = "attn.v_bias";
const QKV_BIAS = "attn.qkv.bias";

/** `qkv.bias` in the place of each pair of q_bias and v_bias: the key's part is zero. */
function withFusedBias(tensors: StoredTensors): StoredTensors {
  const fused = new Map<string, StoredTensor>();
  for (const [name, tensor] of tensors) {
    const block = name.slice(0, -Q_BIAS.length);
    const q = name.endsWith(V_BIAS) ? tensors.get(block + Q_BIAS) : undefined;
    if (name.endsWith(Q_BIAS) && fusible(tensor, tensors.get(block + V_BIAS))) continue;
    if (fusible(q, tensor)) fused.set(block + QKV_BIAS, fusedBias(q, tensor));
    else fused.set(name, tensor);
  }
  return fused;
}

function fusible(q: StoredTensor | undefined, v: StoredTensor | undefined): q is StoredTensor {
  return q !== undefined && v !== undefined && q.dtype === v.dtype && q.shape.length === 1 &&
    v.shape.length === 1 && q.shape[0] === v.shape[0];
}

function fusedBias(q: StoredTensor, v: StoredTensor): StoredTensor {
  return {
    dtype: q.dtype,
    shape: [3 * q.shape[0]],
    *chunks() {
      yield* q.chunks();
      yield new Uint8Array(bytesIn(q));
      yield* v.chunks();
    },
  };
}

function withSplitBias([name, tensor]: readonly [string, StoredTensor]): [string, StoredTensor][] {
  if (!name.endsWith(QKV_BIAS) || tensor.shape.length !== 1 || tensor.shape[0] % 3 !== 0) {
    return [[name, tensor]];
  }
  const block = name.slice(0, -QKV_BIAS.length);
  const third = bytesIn(tensor) / 3;
  const part = (i: number): StoredTensor => ({
    dtype: tensor.dtype,
    shape: [tensor.shape[0] / 3],
    chunks: () => [wholeBytes(tensor).subarray(i * third, (i + 1) * third)],
  });
  for (const piece of part(1).chunks()) {
    if (piece.some((byte) => byte !== 0)) {
      throw new CheckpointError(`${quoted(name)} has a bias for keys, which MSM-MAE has not`);
    }
  }
  return [[block + Q_BIAS, part(0)], [block + V_BIAS, part(2)]];
}
