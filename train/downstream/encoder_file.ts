/**
 * Encoders that a user names: a file, or a run's folder.
 *
 * @module
 */
import type { Device } from "../../engine/mod.ts";
import { type Encoder, EncoderError } from "../../model/encoder/encoder.ts";
import { explaining } from "../../model/encoder/file_values.ts";
import { openFile } from "../../model/encoder/open_file.ts";
import { type CheckpointFile, openCheckpoint } from "../../model/formats/checkpoint_file.ts";
import { WEIGHT_FILES } from "../../model/formats/hugging_face.ts";
import type { RandomAccess } from "../../model/formats/stored_tensor.ts";
import type { PretrainedOptions } from "../../model/pretrained/options.ts";
import { join } from "../deps/path.ts";
import { UsageError } from "../errors.ts";
import { withFolderConfig } from "../io/checkpoint_file.ts";
import { isFolder } from "../io/folders.ts";
import { openRegular } from "../io/regular_file.ts";
import { isSystemError } from "../io/result_file.ts";
import { newestCheckpoint } from "../run/checkpoint.ts";
import { runPaths } from "../run/run_directory.ts";
import { type Choices, type ClipEncoder, loadClipEncoder } from "./clip_encoder.ts";

/**
 * The file that a path means: itself, or of a folder a run's encoder or the weights that Hugging
 * Face's folders have.
 *
 * @throws {UsageError} if it cannot be read.
 */
export function encoderPath(path: string): string {
  try {
    const { encoder } = runPaths(path);
    const file = !Deno.statSync(path).isDirectory
      ? path
      : [encoder, ...weightFiles(path)].find(isFile) ?? encoder;
    openRegular(file).close();
    return file;
  } catch (error) {
    throw new UsageError(`--checkpoint ${path}: cannot be read: ${(error as Error).message}`);
  }
}

const weightFiles = (folder: string): string[] => WEIGHT_FILES.map((it) => join(folder, it));

/**
 * The file that a path means: itself, or in a run's folder the encoder, and as long as that is not
 * there the newest checkpoint; in a Hugging Face folder the weights.
 *
 * @throws {UsageError} if it is a folder without any of them
 */
export async function modelPath(path: string): Promise<string> {
  if (!await isFolder(path)) return path;
  const { encoder } = runPaths(path);
  if (isFile(encoder)) return encoder;
  const found = await newestCheckpoint(path) ?? weightFiles(path).find(isFile);
  if (found !== undefined) return found;
  throw new UsageError(
    `${path}: is a folder without encoder.safetensors, without checkpoints of a run and without ` +
      WEIGHT_FILES.join(" or "),
  );
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/**
 * Loads an encoder of any kind.
 *
 * @param heads attention heads, where the file does not say them
 * @throws {UsageError} if it cannot be read, holds none or not all of one.
 */
export async function encoderFrom(
  device: Device,
  path: string,
  heads: number | undefined,
  { trainable = false }: PretrainedOptions = {},
): Promise<ClipEncoder> {
  return await usable(path, async () => {
    using opened = await openFile(encoderPath(path));
    const options = heads === undefined ? { trainable } : { heads, trainable };
    return await loadClipEncoder(device, checkpointIn(opened, path), options);
  });
}

/**
 * Loads an encoder of this project's models.
 *
 * @param what needs one of these, for messages
 * @throws {UsageError} as {@link encoderFrom}, or if it is one of another system.
 */
export async function ownEncoderFrom(
  device: Device,
  path: string,
  heads: number | undefined,
  what: string,
): Promise<Encoder> {
  const found = await encoderFrom(device, path, heads);
  try {
    return found.own(what);
  } catch (error) {
    found[Symbol.dispose]();
    throw error;
  }
}

/** What a file holds that {@link encoderPath} found. */
function checkpointIn(opened: RandomAccess, path: string): CheckpointFile {
  return withFolderConfig(explaining(() => openCheckpoint(opened)), encoderPath(path));
}

/** Says how clips are pooled where the encoder's file asks for another way than the papers'. */
export function readoutText({ pool, blocks }: Pick<Choices, "pool" | "blocks">): string {
  const of = blocks ? `blocks ${blocks.join(" and ")} side by side are pooled` : "clips are pooled";
  return `${of} by ${pool}, as the encoder's file says; --pool mean is the papers' way`;
}

/** Runs `load`; what is wrong with the file is told with its name. */
async function usable<T>(path: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    if (error instanceof EncoderError) {
      throw new UsageError(`--checkpoint ${path}: no usable encoder: ${error.message}`);
    }
    if (!isSystemError(error)) throw error;
    throw new UsageError(`--checkpoint ${path}: cannot be read: ${error.message}`);
  }
}
