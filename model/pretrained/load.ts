/**
 * Encoders of other systems from their official files: which one a file is follows from names and
 * shapes of its tensors.
 *
 * @module
 */
import type { Device } from "../../engine/functions.ts";
import { EncoderError, explaining, floatsOf } from "../encoder/file_values.ts";
import { openFile } from "../encoder/open_file.ts";
import { type CheckpointFile, openCheckpoint, type Setting } from "../formats/checkpoint_file.ts";
import type { StoredTensors } from "../formats/checkpoint_names.ts";
import { bytesAccess, countOf } from "../formats/stored_tensor.ts";
import { astPlan, isAst } from "./ast.ts";
import { Atst, atstPlan, isAtst } from "./atst.ts";
import { audioMaePlan, isAudioMae } from "./audiomae.ts";
import { Beats, beatsPlan, isBeats } from "./beats.ts";
import { Ced, cedPlan, isCed } from "./ced.ts";
import type { PretrainedEncoder } from "./encoder.ts";
import type { PretrainedSizes, PretrainedSystem } from "./info.ts";
import { eatPlan, isEat } from "./eat.ts";
import { Htsat, htsatPlan, isHtsat } from "./htsat.ts";
import { isMaeAst, MaeAst, maeAstPlan } from "./mae_ast.ts";
import { isPasst, Passt, passtPlan } from "./passt.ts";
import type { PretrainedOptions } from "./options.ts";
import { SpectrogramVit } from "./spectrogram_vit.ts";
import { findTensors, nameOf, type Plan } from "./state_dict.ts";

/** What people call the systems that are known here. */
export const PRETRAINED_TITLES =
  "MAE-AST, BEATs, ATST, PaSST, HTS-AT, AST, SSAST, AudioMAE, EAT, SSLAM, CED and Dasheng";

/** A system that is known here. */
interface Known {
  /** Whether tensors are its own. */
  readonly is: (tensors: StoredTensors) => boolean;
  /** What it takes from a file. */
  readonly plan: (file: CheckpointFile, options: PretrainedOptions) => Plan<PretrainedSizes>;
  /** Loads it. */
  readonly load: (
    device: Device,
    file: CheckpointFile,
    options: PretrainedOptions,
  ) => PretrainedEncoder;
}

function known<Sizes extends PretrainedSizes>(
  is: Known["is"],
  plan: (file: CheckpointFile, options: PretrainedOptions) => Plan<Sizes>,
  System: new (device: Device, plan: Plan<Sizes>, options: PretrainedOptions) => PretrainedEncoder,
): Known {
  const load: Known["load"] = (device, file, options) =>
    new System(device, plan(file, options), options);
  return { is, plan, load };
}

const KNOWN: Readonly<Record<PretrainedSystem, Known>> = {
  "mae-ast": known(isMaeAst, maeAstPlan, MaeAst),
  beats: known(isBeats, beatsPlan, Beats),
  htsat: known(isHtsat, htsatPlan, Htsat),
  passt: known(isPasst, passtPlan, Passt),
  atst: known(isAtst, atstPlan, Atst),
  ast: known(isAst, astPlan, SpectrogramVit),
  audiomae: known(isAudioMae, audioMaePlan, SpectrogramVit),
  eat: known(isEat, eatPlan, SpectrogramVit),
  ced: known(isCed, cedPlan, Ced),
};

/** Which system the tensors of a file are of; undefined for none of those here. */
export function pretrainedSystem(tensors: StoredTensors): PretrainedSystem | undefined {
  return (Object.keys(KNOWN) as PretrainedSystem[]).find((it) => KNOWN[it].is(tensors));
}

/** What {@link inspectPretrained} finds. */
export interface PretrainedFindings extends PretrainedSizes {
  /** Which system. */
  readonly system: PretrainedSystem;
  /** What people call it. */
  readonly title: string;
  /** Values of the encoder's tensors in the file, tables of positions and the like counted. */
  readonly parameters: number;
  /** Names of tensors that are no part of it, nor of what it was trained with. */
  readonly unused: readonly string[];
}

/**
 * What encoder a file holds, without reading values.
 *
 * @returns undefined if it is none of those here
 * @throws {EncoderError} if it is not whole.
 */
export function inspectPretrained(
  file: CheckpointFile,
  options: PretrainedOptions = {},
): PretrainedFindings | undefined {
  const system = pretrainedSystem(file.tensors);
  if (!system) return undefined;
  const plan = KNOWN[system].plan(file, options);
  const { unused } = findTensors(plan);
  const { about: { title }, sizes: { width, depth, heads }, sources } = plan;
  const parameters = sources.flatMap(({ from }) => from)
    .reduce((all, { shape }) => all + countOf(shape), 0);
  return { system, title, width, depth, heads, parameters, unused };
}

/** An encoder's tensors on their way to a file of their own. */
export interface ImportedEncoder extends PretrainedFindings {
  /** They, under the names of the encoder. */
  readonly tensors: StoredTensors;
  /** What the file must say beside: system, heads and what of the configuration is used. */
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * The encoder of a file without what else was in it: decoders, students, state of the optimizer.
 *
 * @returns undefined if it is none of those here
 * @throws {EncoderError} if it is not whole.
 */
export function importPretrained(
  file: CheckpointFile,
  options: PretrainedOptions = {},
): ImportedEncoder | undefined {
  const cfg: Record<string, Setting> = {};
  const setting: CheckpointFile["setting"] = (...keys) => {
    const value = file.setting(...keys);
    if (value !== undefined) cfg[keys.join(".")] = value;
    return value;
  };
  const listening = { ...file, setting };
  const found = inspectPretrained(listening, options);
  if (!found) return undefined;
  const { used } = findTensors(KNOWN[found.system].plan(listening, options));
  const { system, heads } = found;
  const metadata = {
    ...{ system, geometry: JSON.stringify({ heads }), cfg: JSON.stringify(cfg) },
    ...file.labels && { label_dict: JSON.stringify(file.labels) },
  };
  return { ...found, tensors: used, metadata };
}

/** A tensor's values with their shape. */
interface Values {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/**
 * The tensors of an encoder's file with other values of what can be trained.
 *
 * @param file that the encoder was loaded from
 * @param values of its parameters, by their names in its arena
 * @throws {EncoderError} as {@link loadPretrained}, or if a parameter is of several tensors that
 * cannot be told from it
 */
export function trainedTensors(
  file: CheckpointFile,
  options: PretrainedOptions,
  values: ReadonlyMap<string, Values>,
): (readonly [string, Values])[] {
  const plan = KNOWN[pretrainedSystem(file.tensors)!].plan(file, options);
  const { stored } = findTensors(plan);
  const all = plan.sources.flatMap(({ name, from, frozen, fold, unfold }) => {
    const { data } = values.get(name)!;
    let at = 0;
    if (!frozen && fold && !unfold && from.length > 0) {
      throw new EncoderError(`${name} was put together and cannot be taken apart again`);
    }
    const parts = frozen
      ? from.map((it) => floatsOf(nameOf(it), stored.get(it)!))
      : unfold
      ? unfold(data)
      : from.map(({ shape }) => data.subarray(at, at += countOf(shape)));
    return from.map((it, i) =>
      [nameOf(it), { shape: it.shape, data: parts[i] as Float32Array }] as const
    );
  });
  // A batch norm's tensors are in its factor and in its summand.
  return [...new Map(all)];
}

/**
 * Loads an encoder from an official file of one of {@link PRETRAINED_TITLES}, or from one that was
 * imported.
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
  if (!system) {
    throw new EncoderError(`its tensors are those of none of ${PRETRAINED_TITLES}`);
  }
  return explaining(() => KNOWN[system].load(device, file, options));
}
