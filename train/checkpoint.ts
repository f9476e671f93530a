/**
 * Checkpoints of a run: `checkpoints/step-00001000.safetensors`, and `checkpoints/latest`
 * naming the newest complete one.
 */

import { basename, join } from "@std/path";
import type { HostArray } from "../engine/mod.ts";
import {
  bytesOf,
  encodeHeader,
  readSafetensors,
  SafetensorsError,
  type SafetensorsFile,
  type SafetensorsTensor,
} from "../model/formats/safetensors.ts";
import { runPaths, writeAtomic } from "./rundir.ts";

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

const NAME = /^step-(\d{8,})\.safetensors$/;

/** File name of the checkpoint after `step` updates. */
export function checkpointName(step: number): string {
  return `step-${String(step).padStart(8, "0")}.safetensors`;
}

/**
 * Saves a checkpoint in the run directory `dir`, then points `latest` to it, then removes
 * all but the `keep` newest. The same input gives the same bytes. Tensors are written one
 * by one, so that no second copy of them is held.
 *
 * @param metadata text kept in the file; `step` is added
 * @returns path of the file
 */
export async function saveCheckpoint(
  dir: string,
  step: number,
  tensors: Iterable<readonly [name: string, tensor: CheckpointTensor]>,
  metadata: Readonly<Record<string, string>>,
  keep: number = Infinity,
): Promise<string> {
  const { checkpoints } = runPaths(dir);
  await Deno.mkdir(checkpoints, { recursive: true });
  const path = join(checkpoints, checkpointName(step));
  await writeTensors(path, tensors, { step: String(step), ...metadata });
  await writeAtomic(join(checkpoints, "latest"), [
    new TextEncoder().encode(`${basename(path)}\n`),
  ]);
  const older = (await stepsIn(checkpoints)).filter((it) => it !== step);
  for (const it of older.slice(Math.max(0, keep - 1))) {
    await Deno.remove(join(checkpoints, checkpointName(it)));
  }
  return path;
}

/** Writes one safetensors file atomically, tensor by tensor. */
export async function writeTensors(
  path: string,
  tensors: Iterable<readonly [name: string, tensor: CheckpointTensor]>,
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const entries: [string, SafetensorsTensor][] = [];
  for (const [name, { shape, data }] of tensors) {
    entries.push([name, { shape, ...stored(data) }]);
  }
  await writeAtomic(path, [
    encodeHeader(entries, metadata),
    ...entries.map(([, it]) => bytesOf(it.data)),
  ]);
}

/**
 * Reads the newest complete checkpoint of the run directory `dir`: the one that `latest`
 * names, or where that is damaged or missing the newest one that is whole; undefined when
 * there is none.
 */
export async function loadCheckpoint(dir: string): Promise<Checkpoint | undefined> {
  const { checkpoints } = runPaths(dir);
  const steps = await stepsIn(checkpoints);
  const latest = NAME.exec(await readText(join(checkpoints, "latest")) ?? "")?.[1];
  const named = latest === undefined ? undefined : Number(latest);
  const order = named === undefined ? steps : [named, ...steps.filter((it) => it !== named)];
  const passedOver: { path: string; reason: string }[] = [];
  for (const step of order) {
    const path = join(checkpoints, checkpointName(step));
    try {
      return { ...readSafetensors(await Deno.readFile(path)), step, path, passedOver };
    } catch (error) {
      if (!(error instanceof SafetensorsError || error instanceof Deno.errors.NotFound)) {
        throw error;
      }
      passedOver.push({ path, reason: error.message });
    }
  }
  return undefined;
}

/** Steps of the checkpoints in a folder, newest first; empty when there is no folder. */
async function stepsIn(checkpoints: string): Promise<number[]> {
  const steps: number[] = [];
  try {
    for await (const { name } of Deno.readDir(checkpoints)) {
      const match = NAME.exec(name);
      if (match !== null) steps.push(Number(match[1]));
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return steps.sort((a, b) => b - a);
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return (await Deno.readTextFile(path)).trim();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
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
