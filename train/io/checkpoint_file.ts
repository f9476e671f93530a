/**
 * Checkpoint files on disk, read by ranges.
 *
 * @module
 */
import { basename, dirname, join } from "../deps/path.ts";
import {
  type CheckpointFile,
  type CheckpointModel,
  modelOf,
  openCheckpoint,
} from "../../model/formats/checkpoint_file.ts";
import {
  CONFIG_FILE,
  PROCESSOR_FILE,
  WEIGHT_FILES,
  withConfig,
} from "../../model/formats/hugging_face.ts";
import type { RandomAccess } from "../../model/formats/stored_tensor.ts";
import { readFully } from "./bytes.ts";
import { namesIn } from "./folders.ts";
import { openRegular, readRegularText } from "./regular_file.ts";
import { NoDataError, UsageError } from "../errors.ts";

/** Errors of the formats: the file is at fault, not the program. */
const FORMAT_ERRORS: ReadonlySet<string> = new Set([
  "CheckpointError",
  "EncoderError",
  "PickleError",
  "SafetensorsError",
  "TorchError",
  "ZipError",
]);

/** A file as ranges of bytes. */
class FileRanges implements RandomAccess, Disposable {
  readonly size: number;

  constructor(readonly file: Deno.FsFile) {
    this.size = file.statSync().size;
  }

  read(offset: number, length: number): Uint8Array {
    this.file.seekSync(offset, Deno.SeekMode.Start);
    const bytes = readFully(this.file, length);
    if (bytes.byteLength < length) {
      throw new NoDataError("the file became shorter while it was read");
    }
    return bytes;
  }

  [Symbol.dispose](): void {
    this.file.close();
  }
}

/** An open checkpoint; its tensors can be read until it is disposed. */
export interface OpenCheckpoint extends Disposable {
  /** What it holds. */
  readonly file: CheckpointFile;
  /** Path. */
  readonly path: string;
  /** Bytes of the file. */
  readonly bytes: number;
}

/**
 * The same file with what preprocessor_config.json and config.json of a Hugging Face folder say,
 * where it lies in one.
 *
 * @throws {NoDataError} if one of them is no JSON
 */
export function withFolderConfig(file: CheckpointFile, path: string): CheckpointFile {
  if (!WEIGHT_FILES.includes(basename(path))) return file;
  const said = [PROCESSOR_FILE, CONFIG_FILE].map((name) => {
    const beside = join(dirname(path), name);
    let text: string;
    try {
      text = readRegularText(beside);
    } catch {
      return {};
    }
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new NoDataError(`${beside}: ${(error as Error).message}`);
    }
  });
  return withConfig(file, Object.assign({}, ...said));
}

/**
 * Opens a checkpoint of PyTorch or safetensors; of one in a Hugging Face folder, what config.json
 * says beside it is part of it.
 *
 * @throws {UsageError} if there is no such file
 * @throws {NoDataError} if it is damaged or of another kind
 */
export function openCheckpointFile(path: string): OpenCheckpoint {
  using opened = new DisposableStack();
  const source = opened.use(openRanges(path));
  const file = withFolderConfig(namingFile(path, () => openCheckpoint(source)), path);
  const held = opened.move();
  return { file, path, bytes: source.size, [Symbol.dispose]: () => held.dispose() };
}

function openRanges(path: string): FileRanges {
  try {
    if (!Deno.statSync(path).isDirectory) return new FileRanges(openRegular(path));
  } catch (error) {
    throw new UsageError(`${path}: cannot be read`, (error as Error).message);
  }
  throw new UsageError(`${path}: is a folder; give a checkpoint inside it`);
}

/**
 * Runs `work`; what it finds wrong with the file is told with the file's name.
 *
 * @throws {NoDataError} in the place of an error of the formats
 */
export function namingFile<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw errorOfFile(path, error);
  }
}

/** An error of the formats as one that names the file; others as they are. */
export function errorOfFile(path: string, error: unknown): unknown {
  if (!(error instanceof Error && FORMAT_ERRORS.has(error.name))) return error;
  return new NoDataError(`${path}: ${error.message}`, { cause: error.cause });
}

/**
 * The model that a checkpoint holds.
 *
 * @param encoder attention heads of the encoder, for a file that does not say them
 * @throws {NoDataError} if it holds none of the systems that are known
 */
export function knownModel({ path, file }: OpenCheckpoint, encoder?: number): CheckpointModel {
  const model = modelOf(file, encoder === undefined ? {} : { encoder });
  if (model) return model;
  throw new NoDataError(
    `${path}: holds no model of MATPAC, MATPAC++, M2D or MSM-MAE\n` +
      `deno task inspect ${path} lists what it holds`,
  );
}

/**
 * Judges where a result is to go.
 *
 * @throws {UsageError} if `out` is there already without `force`, or is the input itself
 */
export function checkOut(out: string, input: string, force: boolean): void {
  let there: Deno.FileInfo | undefined;
  try {
    there = Deno.statSync(out);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) {
      throw new UsageError(`--out ${out}: cannot be written`, (error as Error).message);
    }
    return;
  }
  if (there.isDirectory) {
    throw new UsageError(
      `--out ${out}: is a folder; give a file, such as ${out}/${basename(input)}`,
    );
  }
  if (Deno.realPathSync(out) === Deno.realPathSync(input)) {
    throw new UsageError(`--out ${out}: is the input itself`);
  }
  if (!force) throw new UsageError(`--out ${out}: is there already; --force replaces it`);
}

/**
 * Judges a folder that a result is to be.
 *
 * @throws {UsageError} if `out` is a file, or a folder that holds something, without `force`
 */
export async function checkOutFolder(out: string, force: boolean): Promise<void> {
  let names: string[];
  try {
    names = await namesIn(out);
  } catch (error) {
    throw new UsageError(`--out ${out}: cannot be written`, (error as Error).message);
  }
  if (names.length > 0 && !force) {
    throw new UsageError(`--out ${out}: is not empty; --force replaces files in it`);
  }
}

/**
 * The same pieces until `signal` aborts; then its reason is thrown.
 *
 * @param onBytes hears how many bytes have been given
 */
export function* interruptible(
  pieces: Iterable<Uint8Array>,
  signal: AbortSignal,
  onBytes?: (done: number) => void,
): Generator<Uint8Array> {
  let done = 0;
  for (const piece of pieces) {
    signal.throwIfAborted();
    yield piece;
    onBytes?.(done += piece.byteLength);
  }
}
