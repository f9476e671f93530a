/**
 * Encoders as folders for Hugging Face: weights, sizes, code that computes with torch alone, and a
 * model card (train/README.md, Hugging Face).
 *
 * @module
 */
import modeling from "./modeling_tessera.py" with { type: "text" };
import { type EncoderContent, encoderFileSpecs } from "../../model/encoder/encoder.ts";
import { safetensorsChunks } from "../../model/formats/safetensors_stream.ts";
import {
  CONFIG_FILE,
  type HuggingFaceConfig,
  MODEL_TYPE,
  WEIGHT_FILES,
} from "../../model/formats/hugging_face.ts";
import { MATPAC_STATISTICS } from "../../model/frontend/log_mel.ts";
import { classTokens } from "../../model/vit/tokens.ts";
import { join } from "../deps/path.ts";
import { SAMPLE_RATE } from "../audio/decode.ts";
import { interruptible } from "../io/checkpoint_file.ts";
import { writeAtomic } from "../io/atomic_write.ts";
import { writeInto, writeJson, writeResult } from "../io/result_file.ts";

/** Name of the code's file, as config.json refers to it. */
const CODE = "modeling_tessera";

/** Sizes and front end of an encoder as config.json says them. */
export function configOf(
  { geometry, frontend, readout, system, tensors }: EncoderContent,
): HuggingFaceConfig {
  const { statistics = MATPAC_STATISTICS, framing = "inside" } = frontend;
  return {
    model_type: MODEL_TYPE,
    system,
    hidden_size: geometry.width,
    num_hidden_layers: geometry.depth,
    num_attention_heads: geometry.heads,
    patch_size: geometry.patch,
    chunk_frames: geometry.cropFrames,
    class_token: classTokens(geometry) === 1,
    positions: tensors.get("pos_embed")!.shape[1],
    framing,
    ...readout,
    ...statistics,
  };
}

/** How {@link writeFolder} goes. */
export interface WriteFolderOptions {
  /** Aborts. */
  readonly signal: AbortSignal;
  /** Hears how many bytes of weights have been written. */
  readonly onBytes?: (done: number) => void;
}

/**
 * Writes the folder; files that are there are replaced, each when its new content is whole.
 *
 * @param card text of the model card
 * @throws {UsageError} if it cannot be written
 * @throws the signal's reason.
 */
export async function writeFolder(
  dir: string,
  content: EncoderContent,
  card: string,
  { signal, onBytes }: WriteFolderOptions,
): Promise<void> {
  const { tensors, metadata, geometry } = content;
  const entries = encoderFileSpecs(geometry).map(({ name }) => [name, tensors.get(name)!] as const);
  // transformers takes no safetensors file that does not say whose layout of tensors it has.
  const pieces = safetensorsChunks(entries, { ...metadata, format: "pt" });
  const weights = join(dir, WEIGHT_FILES[0]);
  await writeInto(weights, () => writeAtomic(weights, interruptible(pieces, signal, onBytes)));
  await writeJson(join(dir, CONFIG_FILE), {
    architectures: ["TesseraModel"],
    auto_map: { AutoConfig: `${CODE}.TesseraConfig`, AutoModel: `${CODE}.TesseraModel` },
    ...configOf(content),
    torch_dtype: "float32",
  });
  await writeJson(join(dir, "preprocessor_config.json"), {
    feature_extractor_type: "Wav2Vec2FeatureExtractor",
    feature_size: 1,
    sampling_rate: SAMPLE_RATE,
    padding_side: "right",
    padding_value: 0,
    do_normalize: false,
    return_attention_mask: true,
  });
  await writeResult(join(dir, `${CODE}.py`), modeling);
  await writeResult(join(dir, "README.md"), card);
}
