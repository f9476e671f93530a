/**
 * Folders as Hugging Face has them: what their config.json says of the weights beside it.
 *
 * @module
 */
import { type CheckpointFile, count, settingOf } from "./checkpoint_file.ts";

/** What weights are called in such folders; the first that is there is taken. */
export const WEIGHT_FILES: readonly string[] = ["model.safetensors", "pytorch_model.bin"];
/** What sizes and settings are called in them. */
export const CONFIG_FILE = "config.json";
/** What settings of the front end are called in them. */
export const PROCESSOR_FILE = "preprocessor_config.json";
/** `model_type` of folders that this project writes. */
export const MODEL_TYPE = "tessera";

/** The values of a config.json that this project writes; model/README.md, Checkpoints. */
export interface HuggingFaceConfig {
  /** {@link MODEL_TYPE} */
  readonly model_type: string;
  /** What it was trained as. */
  readonly system: string;
  readonly hidden_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  /** Mel bands and frames. */
  readonly patch_size: readonly [bands: number, frames: number];
  /** Frames of a chunk. */
  readonly chunk_frames: number;
  readonly class_token: boolean;
  /** Rows of the position table. */
  readonly positions: number;
  /** Where frames lie. */
  readonly framing: "inside" | "centred";
  /** How a clip's steps become its embedding: mean, max or mean-std. */
  readonly pool: string;
  /** Blocks that are put side by side, where that is not the last one alone. */
  readonly blocks?: readonly number[];
  /** Statistics that log-mel values are standardised with. */
  readonly mean: number;
  readonly std: number;
}

/**
 * The same file with what the config.json beside it says: attention heads under the name that
 * `transformers` has for them, and from folders of this project system, framing and
 * standardisation, which files lose when `transformers` saves them anew.
 *
 * Whatever else they say are settings of the file.
 *
 * @param config the object in config.json; anything else says nothing
 */
export function withConfig(file: CheckpointFile, config: unknown): CheckpointFile {
  if (typeof config !== "object" || config === null) return file;
  const said = config as Partial<Record<keyof HuggingFaceConfig, unknown>>;
  const encoder = count(said.num_attention_heads);
  const heads = encoder === undefined ? file.heads : { ...file.heads, encoder };
  const values = new Map(Object.entries(said));
  const setting: CheckpointFile["setting"] = (...keys) =>
    (keys.length === 1 ? settingOf(values.get(keys[0])) : undefined) ?? file.setting(...keys);
  if (said.model_type !== MODEL_TYPE) return { ...file, heads, setting };
  const { system, framing, pool, blocks, mean, std } = said;
  const metadata = {
    ...file.metadata,
    ...(typeof system === "string" ? { system } : {}),
    ...(typeof framing === "string" ? { framing } : {}),
    ...(typeof pool === "string" ? { pool } : {}),
    ...(Array.isArray(blocks) ? { blocks: String(blocks) } : {}),
    ...(typeof mean === "number" && typeof std === "number"
      ? { standardisation: JSON.stringify({ mean, std }) }
      : {}),
  };
  return { ...file, heads, setting, metadata };
}
