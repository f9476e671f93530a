/**
 * Weights that a run starts from (`--init`): those of another run, or of the official programs.
 *
 * @module
 */
import { TRAINING_STATE } from "../../model/formats/checkpoint_geometry.ts";
import { asFloat32, wholeBytes } from "../../model/formats/stored_tensor.ts";
import type { ObjectiveName } from "../../model/objectives/objectives.ts";
import { type PresetName, PRESETS } from "../../model/objectives/presets.ts";
import type { SafetensorsTensor } from "../../engine/formats/safetensors.ts";
import { UsageError } from "../errors.ts";
import { knownModel, openCheckpointFile } from "../io/checkpoint_file.ts";
import type { Tensors } from "./state_dict.ts";

/**
 * The tensors of a file under MATPAC's names and in float32, without the state of its training:
 * student, and where they are there teachers, heads and centre.
 *
 * @throws {UsageError | NoDataError} if it cannot be read or holds none of the four systems
 */
export function initialTensors(path: string): Tensors {
  using opened = openCheckpointFile(path);
  const { tensors } = knownModel(opened);
  return new Map(
    [...tensors].filter(([name]) => !TRAINING_STATE.test(name)).map((
      [name, stored],
    ): [string, SafetensorsTensor] => {
      const tensor = asFloat32(stored);
      const bytes = wholeBytes(tensor);
      const { dtype, shape } = tensor;
      return dtype === "F32"
        ? [name, { dtype, shape, data: new Float32Array(bytes.buffer) }]
        : [name, { dtype: "U8", shape: [bytes.length], data: bytes }];
    }),
  );
}

/** What a file of weights says of the run that is to go on from it. */
export interface InitialModel {
  /** Of its sizes. */
  readonly preset: PresetName;
  /** What it was trained as. */
  readonly objective: ObjectiveName;
  /** Frames of its crops. */
  readonly frames: number;
  /** Bands and frames of a patch. */
  readonly patch: readonly [bands: number, frames: number];
  /** Whether there is a class token. */
  readonly classToken: boolean;
  /** Predictor heads that compete; 0 without. */
  readonly choices: number;
  /** Whether a teacher is in it, which the student then has no need to be. */
  readonly teacher: boolean;
}

/**
 * Looks at a file of weights.
 *
 * @throws {UsageError} if its sizes are those of no preset, or it cannot be read
 */
export function initialModel(path: string): InitialModel {
  using opened = openCheckpointFile(path);
  const { system, geometry, tensors } = knownModel(opened);
  const { width, depth, frames, patch, classToken, choices } = geometry;
  const names = Object.keys(PRESETS) as PresetName[];
  const preset = names.find((name) => {
    const own = PRESETS[name].geometry;
    return own.width === width && own.depth === depth;
  });
  if (!preset) {
    throw new UsageError(
      `--init ${path}: ${depth} blocks of width ${width} are of no preset (${names.join(", ")})`,
    );
  }
  const teacher = [...tensors.keys()].some((name) => name.startsWith("_ema."));
  return { preset, objective: system, frames, patch, classToken, choices, teacher };
}
