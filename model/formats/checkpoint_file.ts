/**
 * Checkpoints of any origin, PyTorch's or safetensors: which tensors a file holds and which model
 * they make.
 *
 * @module
 */
import {
  type CheckpointDifferences,
  type CheckpointGeometry,
  type CheckpointPart,
  differences,
  expectedParts,
  geometryOf,
  type KnownHeads,
} from "./checkpoint_geometry.ts";
import {
  recognise,
  type Recognised,
  type Renamed,
  type StoredTensors,
  type SystemName,
  toMatpacNames,
} from "./checkpoint_names.ts";
import { START_BYTES } from "../../engine/formats/foreign_file.ts";
import { PickleDict, type PickleValue } from "./pickle_values.ts";
import type { RandomAccess } from "./stored_tensor.ts";
import { openSafetensors } from "./safetensors_stream.ts";
import {
  isLegacyTorch,
  isZip,
  openTorch,
  TorchError,
  TorchTensor,
  torchTensors,
} from "./torch_read.ts";

/** Tensors of a file and what was said with them. */
export interface CheckpointFile {
  /** Which kind of file. */
  readonly format: "torch" | "safetensors";
  /** The state dict; dictionaries inside it are flattened, their keys joined by points. */
  readonly tensors: StoredTensors;
  /** Key of the state dict inside the file; empty where the file is one. */
  readonly container: string;
  /** Tensors beside the state dict, such as an optimizer's. */
  readonly beside: StoredTensors;
  /** Free text of a safetensors file. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Attention heads that the file speaks of. */
  readonly heads: KnownHeads;
  /**
   * A value of the configuration, `cfg`, that training programs keep beside the state dict, and
   * imported files in their metadata, by the keys that lead to it; undefined where there is none or
   * it is no number, text or truth value.
   */
  readonly setting: (...keys: readonly string[]) => Setting | undefined;
  /**
   * Names of classes by their numbers: `label_dict`, which BEATs' fine-tuned files have beside the
   * state dict and imported ones in their metadata.
   */
  readonly labels?: Readonly<Record<string, string>>;
}

/** A value of a configuration. */
export type Setting = number | string | boolean;

/** Keys under which training programs put a state dict. */
const CONTAINERS = ["model", "state_dict", "model_state_dict"] as const;

/**
 * Opens a file, whichever of the two it is; its tensors are read when they are asked for.
 *
 * @throws {ZipError} {PickleError} {TorchError} {SafetensorsError} if it is damaged or of another
 * kind
 */
export function openCheckpoint(source: RandomAccess): CheckpointFile {
  const start = source.read(0, Math.min(START_BYTES, source.size));
  if (isLegacyTorch(start)) {
    throw new TorchError(
      "it is of the form before PyTorch 1.6; save it anew: torch.save(torch.load(IN), OUT)",
    );
  }
  if (!isZip(start)) {
    const { tensors, metadata } = openSafetensors(source);
    const heads = headsIn(metadata);
    const said = objectIn(metadata, "cfg");
    const setting = (...keys: readonly string[]) => settingOf(said[keys.join(".")]);
    return {
      ...{ format: "safetensors", tensors, container: "", beside: new Map(), metadata, heads },
      setting,
      ...labelsOf(Object.entries(objectIn(metadata, "label_dict"))),
    };
  }
  const { value } = openTorch(source);
  const container = CONTAINERS.find((key) => holdsTensors(entryOf(value, key))) ?? "";
  const state = container === "" ? value : entryOf(value, container)!;
  const others = new PickleDict();
  if (container !== "" && value instanceof PickleDict) {
    for (const [key, it] of value) if (key !== container) others.set(key, it);
  }
  return {
    format: "torch",
    tensors: torchTensors(state, source.size),
    container,
    beside: torchTensors(others, source.size),
    metadata: {},
    heads: headsInFairseq(value),
    setting: (...keys) => settingIn(entryOf(value, "cfg"), keys),
    ...labelsOf(entriesOf(entryOf(value, "label_dict"))),
  };
}

function settingIn(
  configuration: PickleValue | undefined,
  keys: readonly string[],
): Setting | undefined {
  return settingOf(keys.reduce(entryOf, configuration));
}

/** A value that is a setting; undefined for others. */
export function settingOf(value: unknown): Setting | undefined {
  return typeof value === "number" || typeof value === "string" || typeof value === "boolean"
    ? value
    : undefined;
}

function entriesOf(value: PickleValue | undefined): Iterable<readonly [unknown, unknown]> {
  return value instanceof PickleDict ? value : [];
}

function labelsOf(
  entries: Iterable<readonly [unknown, unknown]>,
): { readonly labels?: Readonly<Record<string, string>> } {
  const labels = [...entries].flatMap(([key, name]) =>
    typeof name === "string" ? [[String(key), name] as const] : []
  );
  return labels.length > 0 ? { labels: Object.fromEntries(labels) } : {};
}

function entryOf(value: PickleValue | undefined, key: string): PickleValue | undefined {
  return value instanceof PickleDict ? value.get(key) : undefined;
}

function holdsTensors(value: PickleValue | undefined): boolean {
  return value instanceof PickleDict && [...value.values()].some((it) => it instanceof TorchTensor);
}

export function count(value: unknown): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0 ? value : undefined;
}

/** fairseq keeps its configuration beside the model. */
function headsInFairseq(value: PickleValue): KnownHeads {
  const model = entryOf(entryOf(value, "cfg"), "model");
  return known(
    count(entryOf(entryOf(model, "encoder"), "num_heads")),
    count(entryOf(entryOf(model, "decoder"), "decoder_num_heads")),
  );
}

/** Our own files say their geometry. */
function headsIn(metadata: Readonly<Record<string, string>>): KnownHeads {
  const geometry = objectIn(metadata, "geometry");
  const predictor = geometry.predictor;
  const inner = typeof predictor === "object" && predictor !== null && "heads" in predictor
    ? predictor.heads
    : undefined;
  return known(count(geometry.heads), count(inner));
}

function known(encoder: number | undefined, predictor: number | undefined): KnownHeads {
  return {
    ...(encoder === undefined ? {} : { encoder }),
    ...(predictor === undefined ? {} : { predictor }),
  };
}

function parsed(metadata: Readonly<Record<string, string>>, key: string): unknown {
  if (!Object.hasOwn(metadata, key)) return undefined;
  try {
    return JSON.parse(metadata[key]);
  } catch {
    return undefined;
  }
}

export function objectIn(
  metadata: Readonly<Record<string, string>>,
  key: string,
): Partial<Record<string, unknown>> {
  const value = parsed(metadata, key);
  return typeof value === "object" && value !== null ? value : {};
}

/** The model that a file holds. */
export interface CheckpointModel extends Recognised, Pick<Renamed, "outside" | "done"> {
  /** Tensors under MATPAC's names. */
  readonly tensors: StoredTensors;
  /** Sizes. */
  readonly geometry: CheckpointGeometry;
  /** What it is made of. */
  readonly parts: readonly CheckpointPart[];
  /** What it lacks and has beyond that. */
  readonly differences: CheckpointDifferences;
}

const SYSTEMS: readonly SystemName[] = ["matpac", "matpac-plus", "m2d", "msm-mae"];

/** How systems are called. */
export const SYSTEM_TITLES: Readonly<Record<SystemName, string>> = {
  matpac: "MATPAC",
  "matpac-plus": "MATPAC++",
  m2d: "M2D",
  "msm-mae": "MSM-MAE",
};

/**
 * Recognises the model of a file by names and shapes.
 *
 * @param heads attention heads that are known better than the file does
 * @returns undefined if it is none of the systems
 * @throws {CheckpointError} if names clash or sizes cannot be told
 */
export function modelOf(file: CheckpointFile, heads: KnownHeads = {}): CheckpointModel | undefined {
  const found = recognise(file.tensors);
  if (!found) return undefined;
  // Files that were imported have MATPAC's names, whatever they were.
  const system = SYSTEMS.find((it) => it === file.metadata.system) ?? found.system;
  const { tensors, outside, done } = toMatpacNames(file.tensors, found);
  const geometry = geometryOf(tensors, system, { ...file.heads, ...heads });
  const parts = expectedParts(tensors, geometry);
  return {
    ...found,
    system,
    tensors,
    outside,
    done,
    geometry,
    parts,
    differences: differences(tensors, parts),
  };
}
