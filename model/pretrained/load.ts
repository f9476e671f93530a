/**
 * Encoders of other systems from their official files: which one a file is follows from names and
 * shapes of its tensors.
 *
 * @module
 */
import type { Device } from "../../engine/functions.ts";
import { EncoderError, explaining } from "../encoder/file_values.ts";
import { openFile } from "../encoder/open_file.ts";
import { type CheckpointFile, openCheckpoint } from "../formats/checkpoint_file.ts";
import type { StoredTensors } from "../formats/checkpoint_names.ts";
import { bytesAccess } from "../formats/stored_tensor.ts";
import { Atst, isAtst } from "./atst.ts";
import { Beats, isBeats } from "./beats.ts";
import type { PretrainedEncoder, PretrainedSystem } from "./encoder.ts";
import { isMaeAst, MaeAst } from "./mae_ast.ts";
import type { PretrainedOptions } from "./options.ts";

/** A system that is known here. */
interface Known {
  /** Whether tensors are its own. */
  readonly is: (tensors: StoredTensors) => boolean;
  /** Loads it. */
  readonly load: (
    device: Device,
    file: CheckpointFile,
    options: PretrainedOptions,
  ) => PretrainedEncoder;
}

const KNOWN: Readonly<Record<PretrainedSystem, Known>> = {
  "mae-ast": { is: isMaeAst, load: (...of) => new MaeAst(...of) },
  beats: { is: isBeats, load: (...of) => new Beats(...of) },
  atst: { is: isAtst, load: (...of) => new Atst(...of) },
};

/** Which system the tensors of a file are of; undefined for none of those here. */
export function pretrainedSystem(tensors: StoredTensors): PretrainedSystem | undefined {
  return (Object.keys(KNOWN) as PretrainedSystem[]).find((it) => KNOWN[it].is(tensors));
}

/**
 * Loads an encoder from an official file of MAE-AST, BEATs or ATST.
 *
 * ```ts
 * using encoder = await loadPretrained(device, "BEATs_iter3.pt");
 * const { values } = await encoder.embed(waveform);
 * ```
 *
 * @param source path or bytes of a file, in browsers its address, or a file that was opened
 * @throws {EncoderError} if it holds none of them, or not the whole encoder
 * @throws {Deno.errors.NotFound} and the like if a path cannot be read.
 */
export async function loadPretrained(
  device: Device,
  source: string | URL | Uint8Array | CheckpointFile,
  options: PretrainedOptions = {},
): Promise<PretrainedEncoder> {
  if (typeof source === "string" || source instanceof URL) {
    using opened = await openFile(source);
    return loaded(device, explaining(() => openCheckpoint(opened)), options);
  }
  const file = source instanceof Uint8Array
    ? explaining(() => openCheckpoint(bytesAccess(source)))
    : source;
  return loaded(device, file, options);
}

function loaded(
  device: Device,
  file: CheckpointFile,
  options: PretrainedOptions,
): PretrainedEncoder {
  const system = pretrainedSystem(file.tensors);
  if (!system) throw new EncoderError("its tensors are those of none of MAE-AST, BEATs and ATST");
  return explaining(() => KNOWN[system].load(device, file, options));
}
