/**
 * Reading a set of reference numbers of `deno task verify`: NAME.safetensors beside NAME.json. Each
 * set has a file here that runs its checks, with tolerances and rows of report.ts; what sets of
 * training steps have in common is training_step.ts.
 *
 * @module
 */
import { join } from "../deps/path.ts";
import type { HostArray } from "../../engine/mod.ts";
import { readSafetensors } from "../../engine/formats/safetensors.ts";
import { UsageError } from "../errors.ts";

/** A reference tensor. */
export interface GoldenTensor {
  /** Sizes of the axes. */
  readonly shape: readonly number[];
  /** Values; int32 indices come as u32, which kernels take. */
  readonly data: HostArray;
}

/** A set of reference numbers. */
export class GoldenSet {
  /**
   * @param tensors by name
   * @param json hyperparameters and scalars
   */
  constructor(
    readonly tensors: ReadonlyMap<string, GoldenTensor>,
    // deno-lint-ignore no-explicit-any -- the files' own structure, checked where it is read
    readonly json: any,
  ) {}

  /** @throws {UsageError} if the set has no tensor of that name. */
  get(name: string): GoldenTensor {
    const tensor = this.tensors.get(name);
    if (!tensor) throw new UsageError(`the reference set has no tensor ${name}`);
    return tensor;
  }

  /** Names that start with `prefix`, without it. */
  below(prefix: string): string[] {
    return [...this.tensors.keys()].filter((name) => name.startsWith(prefix)).map((name) =>
      name.slice(prefix.length)
    );
  }
}

/**
 * Reads a set, or returns undefined when the folder does not hold it.
 *
 * @throws {UsageError} if only half of it is there or it is damaged.
 */
export function readGolden(folder: string, name: string): GoldenSet | undefined {
  const read = (ending: string): Uint8Array | undefined => {
    try {
      return Deno.readFileSync(join(folder, `${name}${ending}`));
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  };
  const [bytes, json] = [read(".safetensors"), read(".json")];
  if (!bytes && !json) return undefined;
  if (!bytes || !json) {
    throw new UsageError(`${folder}: of ${name}, only one of .safetensors and .json is there`);
  }
  return goldenSet(bytes, new TextDecoder().decode(json));
}

/** The set of a safetensors file and the text of its JSON file. */
export function goldenSet(bytes: Uint8Array, json: string): GoldenSet {
  const tensors = new Map<string, GoldenTensor>();
  for (const [key, { dtype, shape, data }] of readSafetensors(bytes).tensors) {
    if (dtype === "F32") tensors.set(key, { shape, data: data as Float32Array });
    else if (dtype === "I32" || dtype === "U32") {
      tensors.set(key, { shape, data: Uint32Array.from(data as Int32Array) });
    }
  }
  return new GoldenSet(tensors, JSON.parse(json));
}
