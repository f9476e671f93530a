/**
 * Masked autoencoders from files.
 *
 * @module
 */
import type { Device } from "../../engine/mod.ts";
import {
  type CheckpointFile,
  type CheckpointModel,
  modelOf,
  objectIn,
  SYSTEM_TITLES,
} from "../../model/formats/checkpoint_file.ts";
import { asFloat32, valuesOf, wholeBytes } from "../../model/formats/stored_tensor.ts";
import type { Masking } from "../../model/objectives/masking.ts";
import { MsmMae } from "../../model/objectives/msm_mae.ts";
import { recipeFor } from "../../model/objectives/objectives.ts";
import { namingFile, openCheckpointFile } from "../io/checkpoint_file.ts";
import { encoderPath } from "../downstream/encoder_file.ts";
import { newestCheckpoint } from "../run/checkpoint.ts";
import { UsageError } from "../errors.ts";

/** What a checkpoint is, and what of it can be drawn beside its encoder. */
export interface OpenModel extends Disposable {
  /** For people. */
  readonly title: string;
  /** The autoencoder, or why there is none. */
  readonly autoencoder: MsmMae | { readonly missing: string };
  /** How it was masked in training, as far as the file says it. */
  readonly trained: { readonly masking?: Masking; readonly ratio?: number };
}

/**
 * The file with the most in it that a path means: itself, or a run's newest checkpoint, or else the
 * run's encoder.
 */
async function fullestFile(path: string): Promise<string> {
  const encoder = encoderPath(path);
  return encoder === path ? path : await newestCheckpoint(path) ?? encoder;
}

/**
 * Finds out what a checkpoint is, and loads it if it predicts pixels.
 *
 * @param heads attention heads of the encoder, where the file does not say them
 * @throws {UsageError} if it cannot be read
 * @throws {NoDataError} if it is damaged
 */
export async function openModel(
  device: Device,
  path: string,
  heads: number | undefined,
): Promise<OpenModel> {
  const fullest = await fullestFile(path);
  using opened = openCheckpointFile(fullest);
  const { file } = opened;
  const found = namingFile(fullest, () => modelIn(device, file, heads));
  if (!found) throw new UsageError(`--checkpoint ${path}: no model that is known here`);
  return found;
}

/**
 * As {@link openModel}, of a file that is open.
 *
 * @returns undefined if it holds no model that is known here
 * @throws {CheckpointError} if sizes cannot be told
 */
export function modelIn(
  device: Device,
  file: CheckpointFile,
  heads: number | undefined,
): OpenModel | undefined {
  const found = modelOf(file, heads === undefined ? {} : { encoder: heads });
  if (!found) return undefined;
  const autoencoder = autoencoderOf(device, file, found);
  return {
    title: SYSTEM_TITLES[found.system],
    autoencoder,
    trained: trainingOf(file),
    [Symbol.dispose]: () => {
      if (autoencoder instanceof MsmMae) autoencoder[Symbol.dispose]();
    },
  };
}

/** What there is of another system's encoder: it alone is read. */
export function encoderAlone(title: string): OpenModel {
  return {
    title,
    autoencoder: { missing: `of ${title} the encoder alone is read; there is nothing to draw` },
    trained: {},
    [Symbol.dispose]: () => {},
  };
}

function trainingOf(file: CheckpointFile): OpenModel["trained"] {
  const { "mask-ratio": ratio, "mask-run": run, mask } = objectIn(file.metadata, "config");
  return {
    ...(typeof ratio === "number" && { ratio }),
    ...(mask === "structured" && { masking: { kind: mask } }),
    ...(mask === "time" && { masking: { kind: mask, run: typeof run === "number" ? run : 1 } }),
  };
}

function autoencoderOf(
  device: Device,
  file: CheckpointFile,
  { system, geometry, tensors, differences }: CheckpointModel,
): OpenModel["autoencoder"] {
  const { predictor, heads, patch } = geometry;
  if (system !== "msm-mae") {
    return {
      missing: `${SYSTEM_TITLES[system]} predicts latent values; there is no spectrogram to draw`,
    };
  }
  if (!predictor || predictor.outputs !== patch[0] * patch[1]) {
    return {
      missing: "the file holds the encoder alone; checkpoints of training have the decoder",
    };
  }
  if (heads === null || predictor.heads === null) {
    return { missing: "nothing in the file tells the numbers of attention heads" };
  }
  const lacking = [...differences.missing, ...differences.misshaped.map(({ name }) => name)][0];
  if (lacking !== undefined) return { missing: `the model is not whole: see ${lacking}` };
  const { "norm-pix": standardised } = objectIn(file.metadata, "config");
  const model = new MsmMae(
    device,
    {
      ...{ width: geometry.width, depth: geometry.depth, heads },
      predictorWidth: predictor.width,
      predictorDepth: predictor.depth,
      predictorHeads: predictor.heads,
      // Not there in this objective.
      ...{ headHidden: 0, prototypes: 0, bottleneck: 0 },
      melBands: geometry.melBands,
      patchSize: patch,
      cropFrames: geometry.frames,
      maskRatio: 0,
      classToken: geometry.classToken,
      keyBias: tensors.has("student_encoder.blocks.0.attn.qkv.bias"),
      // The file's own table takes its place, whatever its layout.
      predictorPositions: "1d",
    },
    {
      ...recipeFor("msm-mae", "released"),
      positions: "learned",
      targets: standardised === true ? "standardised" : "raw",
    },
  );
  try {
    for (const { name } of model.student.specs) {
      const values = Float32Array.from(valuesOf(wholeBytes(asFloat32(tensors.get(name)!)), "F32"));
      model.student.load([[name, values]]);
    }
  } catch (error) {
    model[Symbol.dispose]();
    throw error;
  }
  return model;
}
