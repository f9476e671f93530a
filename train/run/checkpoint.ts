/**
 * Checkpoints of a run: `checkpoints/step-00001000.safetensors`, `checkpoints/latest` naming the
 * newest complete one and `checkpoints/best` the one of lowest loss.
 *
 * Each file's metadata begins with `crc32`: the CRC-32 of the whole file, these eight digits taken
 * as zeros. Readers of plain safetensors need not know.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { join } from "../deps/path.ts";
import type { HostArray } from "../../engine/mod.ts";
import {
  bytesOf,
  encodeHeader,
  headerLength,
  parseHeader,
  readSafetensors,
  SafetensorsError,
  type SafetensorsFile,
  type SafetensorsTensor,
} from "../../engine/formats/safetensors.ts";
import { yieldToEventLoop } from "../io/event_loop.ts";
import { DivergedError, UsageError } from "../errors.ts";
import { isFolder, namesIn } from "../io/folders.ts";
import { openRegular, readRegular } from "../io/regular_file.ts";
import { runPaths } from "./run_directory.ts";
import { readFully } from "../io/bytes.ts";
import { removeIfThere, writeAtomic } from "../io/atomic_write.ts";

/** A tensor to be saved, row-major. */
export interface CheckpointTensor {
  /** Sizes of the axes. */
  readonly shape: readonly number[];
  /** Values, row-major. */
  readonly data: HostArray;
}

/** A checkpoint that was read. */
export interface Checkpoint extends SafetensorsFile {
  /** Updates done when it was saved. */
  readonly step: number;
  /** The file. */
  readonly path: string;
  /** Newer files that were passed over because they were damaged, with the reason. */
  readonly passedOver: readonly { readonly path: string; readonly reason: string }[];
}

/** Which checkpoints stay. */
export interface Keeping {
  /** How many of the newest; default all. */
  readonly keep?: number;
  /** How many of those with the lowest `loss` in their metadata, beside the newest; default 0. */
  readonly keepBest?: number;
}

const NAME = /^step-(\d{8,})\.safetensors$/;

/** Start of a file behind the length of its header, up to the digits of its checksum. */
const BEFORE_CHECKSUM = new TextEncoder().encode('{"__metadata__":{"crc32":"');
const CHECKSUM_AT = 8 + BEFORE_CHECKSUM.length;
const NO_CHECKSUM = "00000000";
/** Most bytes of a file that names another. */
const MOST_POINTER_BYTES = 256;

/**
 * Bytes that are looked through at a time, so that a save holds nobody up for more than a few
 * milliseconds.
 */
const PIECE_BYTES = 1 << 24;

/** File name of the checkpoint after `step` updates. */
export function checkpointName(step: number): string {
  return `step-${String(step).padStart(8, "0")}.safetensors`;
}

/**
 * Saves a checkpoint in the run directory `dir`, then points `latest` and `best` where they belong,
 * then removes what is not to be kept. The same input gives the same bytes. Tensors are written one
 * by one, so that no second copy of them is held.
 *
 * @param metadata text kept in the file; `step` is added; `loss`, a number, says how good it is
 * @returns path of the file
 * @throws {DiskFullError} if there is no room; earlier checkpoints stay as they are
 */
export async function saveCheckpoint(
  dir: string,
  step: number,
  tensors: Iterable<readonly [name: string, tensor: CheckpointTensor]>,
  metadata: Readonly<Record<string, string>>,
  { keep = Infinity, keepBest = 0 }: Keeping = {},
): Promise<string> {
  const { checkpoints } = runPaths(dir);
  const path = join(checkpoints, checkpointName(step));
  const write = async () => {
    await Deno.mkdir(checkpoints, { recursive: true });
    await writeTensors(path, tensors, { step: String(step), ...metadata });
  };
  await write().catch(async (error) => {
    // Somebody removed the folder meanwhile.
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    await write();
  });
  const point = async (name: string, to: number) => {
    const pointer = join(checkpoints, name);
    // A folder in its place cannot be replaced; readers go by the names then.
    if (await isFolder(pointer)) return;
    await writeAtomic(pointer, [new TextEncoder().encode(`${checkpointName(to)}\n`)]);
  };
  await point("latest", step);
  const others = (await stepsIn(checkpoints)).filter((it) => it !== step);
  const best = bestOf(checkpoints, [step, ...others], keepBest);
  if (best.length > 0) await point("best", best[0]);
  for (const it of others.slice(Math.max(0, keep - 1))) {
    if (!best.includes(it)) await removeIfThere(join(checkpoints, checkpointName(it)));
  }
  return path;
}

/**
 * Writes one safetensors file with a checksum atomically, tensor by tensor.
 *
 * @throws {DiskFullError} if there is no room
 */
export async function writeTensors(
  path: string,
  tensors: Iterable<readonly [name: string, tensor: CheckpointTensor]>,
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const entries: [string, SafetensorsTensor][] = [];
  for (const [name, { shape, data }] of tensors) {
    entries.push([name, { shape, ...stored(data) }]);
  }
  const header = encodeHeader(entries, { crc32: NO_CHECKSUM, ...metadata });
  const chunks = [header, ...entries.map(([, it]) => bytesOf(it.data))];
  const checksum = await checksumOf(chunks);
  header.set(new TextEncoder().encode(checksum), CHECKSUM_AT);
  await writeAtomic(path, chunks);
}

/** CRC-32 of chunks one after the other, as eight hexadecimal digits. */
async function checksumOf(chunks: Iterable<Uint8Array>): Promise<string> {
  let sum = 0;
  for (const chunk of chunks) {
    for (let at = 0; at < chunk.length; at += PIECE_BYTES) {
      sum = crc32(chunk.subarray(at, at + PIECE_BYTES), sum);
      if (chunk.length > PIECE_BYTES) await yieldToEventLoop();
    }
  }
  return sum.toString(16).padStart(NO_CHECKSUM.length, "0");
}

/** Reads a file of {@link writeTensors}. @throws {SafetensorsError} if it is damaged. */
async function readChecked(path: string): Promise<SafetensorsFile> {
  const bytes = readRegular(path);
  const file = readSafetensors(bytes);
  const after = CHECKSUM_AT + NO_CHECKSUM.length;
  if (!BEFORE_CHECKSUM.every((byte, i) => bytes[8 + i] === byte)) {
    throw new SafetensorsError("it has no checksum");
  }
  const found = await checksumOf([
    bytes.subarray(0, CHECKSUM_AT),
    new TextEncoder().encode(NO_CHECKSUM),
    bytes.subarray(after),
  ]);
  const { crc32: expected, ...metadata } = file.metadata;
  if (found !== expected) {
    throw new SafetensorsError(`its checksum is ${found}, not ${expected} as it was written with`);
  }
  return { ...file, metadata };
}

/**
 * Reads the newest complete checkpoint of the run directory `dir`: the one that `latest`
 * names, or where that is damaged or missing the newest one that is whole; undefined when
 * there is none.
 *
 * @throws {UsageError} if there are checkpoints, and all of them are damaged
 */
export async function loadCheckpoint(dir: string): Promise<Checkpoint | undefined> {
  const { checkpoints } = runPaths(dir);
  const passedOver: { path: string; reason: string }[] = [];
  for (const step of await newestFirst(checkpoints)) {
    const path = join(checkpoints, checkpointName(step));
    try {
      return { ...await readChecked(path), step, path, passedOver };
    } catch (error) {
      if (!(error instanceof SafetensorsError) && isRegularFile(path)) throw error;
      passedOver.push({ path, reason: (error as Error).message });
    }
  }
  if (passedOver.length === 0) return undefined;
  throw new UsageError(
    `no checkpoint in ${checkpoints} can be read`,
    passedOver.map(({ path, reason }) => `${path}: ${reason}`).join("\n"),
  );
}

/**
 * The newest checkpoint of the run directory `dir`, as {@link loadCheckpoint} would try it first;
 * undefined where there is none.
 */
export async function newestCheckpoint(dir: string): Promise<string | undefined> {
  const { checkpoints } = runPaths(dir);
  for (const step of await newestFirst(checkpoints)) {
    const path = join(checkpoints, checkpointName(step));
    if (isRegularFile(path)) return path;
  }
  return undefined;
}

/** Steps of the checkpoints in a folder, that which `latest` names first, then the newest. */
async function newestFirst(checkpoints: string): Promise<number[]> {
  const steps = await stepsIn(checkpoints);
  const latest = NAME.exec(readPointer(join(checkpoints, "latest")))?.[1];
  if (latest === undefined) return steps;
  const named = Number(latest);
  return [named, ...steps.filter((it) => it !== named)];
}

/** Steps of the checkpoints in a folder, newest first; empty when there is no folder. */
export async function stepsIn(checkpoints: string): Promise<number[]> {
  return (await namesIn(checkpoints)).flatMap((name) => {
    const match = NAME.exec(name);
    return match === null || !isRegularFile(join(checkpoints, name)) ? [] : [Number(match[1])];
  }).sort((a, b) => b - a);
}

function isRegularFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/**
 * Of some checkpoints, the newest first, the `count` of lowest loss, the lowest first; of a run in
 * stages those of the newest one's objective.
 */
function bestOf(checkpoints: string, steps: readonly number[], count: number): number[] {
  if (count === 0 || steps.length === 0) return [];
  const said = (step: number) => metadataOf(join(checkpoints, checkpointName(step)));
  const { system } = said(steps[0]);
  const found = steps.flatMap((step) => {
    const { loss, system: own } = said(step);
    // Losses of another stage of the run are of something else.
    if (own !== system) return [];
    return loss !== undefined && Number.isFinite(Number(loss))
      ? [{ step, loss: Number(loss) }]
      : [];
  });
  found.sort((a, b) => a.loss - b.loss || a.step - b.step);
  return found.slice(0, count).map(({ step }) => step);
}

/** Metadata of a file, without reading its tensors; none where it is damaged. */
function metadataOf(path: string): Partial<Record<string, string>> {
  try {
    using file = openRegular(path);
    const { size } = file.statSync();
    const length = headerLength(readFully(file, 8), size);
    return parseHeader(readFully(file, length), size - 8 - length).metadata;
  } catch (error) {
    if (error instanceof SafetensorsError) return {};
    throw error;
  }
}

/** What a file that names another says; nothing where it cannot be read. */
function readPointer(path: string): string {
  try {
    using file = openRegular(path);
    return new TextDecoder().decode(readFully(file, MOST_POINTER_BYTES)).trim();
  } catch {
    return "";
  }
}

/** The values as safetensors holds them; 16-bit floats as their bits. */
function stored(data: HostArray): Pick<SafetensorsTensor, "dtype" | "data"> {
  if (data instanceof Float16Array) {
    return {
      dtype: "F16",
      data: new Uint16Array(data.buffer, data.byteOffset, data.length),
    };
  }
  if (data instanceof Float32Array) return { dtype: "F32", data };
  return data instanceof Uint32Array ? { dtype: "U32", data } : { dtype: "I32", data };
}

/** What a checkpoint holds. */
export interface CheckpointContent {
  /** Tensors by name, in the order of the file. */
  readonly tensors: readonly (readonly [name: string, tensor: CheckpointTensor])[];
  /** Text by name; see {@link saveCheckpoint}. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** A state as it was, on its way to the host. */
export interface CheckpointSnapshot {
  /** Waits for it. */
  fetch(): Promise<CheckpointContent>;
}

/** Writes checkpoints while training goes on, one at a time. */
export class CheckpointWriter {
  readonly #dir: string;
  readonly #keeping: Keeping;
  #underWay: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;
  /** The newest complete checkpoint. */
  saved: { readonly step: number; readonly path: string } | undefined;

  /** Writes into the run directory `dir`. */
  constructor(dir: string, keeping: Keeping) {
    this.#dir = dir;
    this.#keeping = keeping;
  }

  /**
   * Goes on from a checkpoint that was read: older ones that are not to be kept any more are
   * removed at once, so that `--keep` makes room on a full disk.
   */
  async goOnFrom(from: { readonly step: number; readonly path: string }): Promise<void> {
    this.saved = from;
    const { keep = Infinity, keepBest = 0 } = this.#keeping;
    const { checkpoints } = runPaths(this.#dir);
    const known = (await stepsIn(checkpoints)).filter((step) => step <= from.step);
    const best = bestOf(checkpoints, known, keepBest);
    for (const step of known.slice(keep)) {
      if (!best.includes(step)) await removeIfThere(join(checkpoints, checkpointName(step)));
    }
  }

  /**
   * Waits for the checkpoint under way, takes a snapshot, and goes on by itself.
   *
   * @throws as {@link finish}, about the one before.
   */
  async save(step: number, snapshot: () => CheckpointSnapshot): Promise<void> {
    await this.finish();
    const taken = snapshot();
    this.#underWay = this.#write(step, taken).catch((error) => {
      this.#failure = { error };
    });
  }

  /** Throws what a save ran into since; waits for nothing. */
  check(): void {
    if (this.#failure) throw this.#failure.error;
  }

  /**
   * Waits for the checkpoint under way.
   *
   * @throws {DiskFullError} if there is no room for it
   * @throws {DivergedError} if it holds a NaN or an infinity: it is not written then
   */
  async finish(): Promise<void> {
    await this.#underWay;
    this.check();
  }

  async #write(step: number, snapshot: CheckpointSnapshot): Promise<void> {
    // The next update is submitted first: fetching makes the host wait for the device.
    await yieldToEventLoop();
    const { tensors, metadata } = await snapshot.fetch();
    for (const [name, { data }] of tensors) {
      if (!await allFinite(data)) {
        throw new DivergedError(
          `the state after step ${step} is not saved: ${name} holds a NaN or an infinity`,
          step,
        );
      }
    }
    const path = await saveCheckpoint(this.#dir, step, tensors, metadata, this.#keeping);
    this.saved = { step, path };
  }
}

async function allFinite(data: HostArray): Promise<boolean> {
  if (data instanceof Uint32Array || data instanceof Int32Array) return true;
  const piece = PIECE_BYTES / data.BYTES_PER_ELEMENT;
  for (let start = 0; start < data.length; start += piece) {
    const end = Math.min(data.length, start + piece);
    for (let i = start; i < end; i++) if (!Number.isFinite(data[i])) return false;
    if (data.length > piece) await yieldToEventLoop();
  }
  return true;
}
