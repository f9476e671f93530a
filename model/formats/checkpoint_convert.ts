/**
 * A checkpoint in the names of this project, or back in those of the official programs.
 *
 * @module
 */
import { MATPAC_STATISTICS } from "../frontend/log_mel.ts";
import { type CheckpointFile, type CheckpointModel, count, objectIn } from "./checkpoint_file.ts";
import { ENCODER_PARTS, TRAINING_STATE } from "./checkpoint_geometry.ts";
import {
  CheckpointError,
  fromMatpacNames,
  type NameStyle,
  type StoredTensors,
  type SystemName,
} from "./checkpoint_names.ts";
import { listed, quoted } from "../../engine/formats/printable.ts";
import { asFloat32, type StoredTensor, valuesOf, wholeBytes } from "./stored_tensor.ts";
import { TorchDict, type TorchValue } from "./torch_write.ts";

/** Which tensors are taken. */
export interface Selection {
  /** Only those that embeddings need. */
  readonly encoderOnly?: boolean;
}

/**
 * Tensors of a model without the state of training. @throws {CheckpointError} if its encoder is not
 * whole
 */
export function selected(
  { tensors, parts, differences: { missing, misshaped } }: CheckpointModel,
  { encoderOnly = false }: Selection = {},
): Map<string, StoredTensor> {
  const encoder = parts[0].shapes;
  const absent = missing.filter((it) => encoder.has(it));
  if (absent.length > 0) {
    throw new CheckpointError(`the encoder lacks ${firstOf(absent)}`);
  }
  const wrong = misshaped.find((it) => encoder.has(it.name));
  if (wrong) {
    throw new CheckpointError(
      `${quoted(wrong.name)} has the shape ${listed(wrong.shape)} instead of [${wrong.expected}]`,
    );
  }
  return new Map(
    [...tensors].filter(([name]) =>
      !TRAINING_STATE.test(name) && (!encoderOnly || ENCODER_PARTS.test(name))
    ),
  );
}

function firstOf(names: readonly string[]): string {
  const shown = names.slice(0, 3).map(quoted).join(", ");
  return names.length > 3 ? `${shown} and ${names.length - 3} more` : shown;
}

/** What an import gives. */
export interface Imported {
  /** Tensors under this project's names. */
  readonly tensors: Map<string, StoredTensor>;
  /** What they are and what was done, as texts for a safetensors file. */
  readonly metadata: Record<string, string>;
}

/** How to import. */
export interface ImportOptions extends Selection {
  /** Turns float16, bfloat16 and float64 into float32; default: as stored. */
  readonly float32?: boolean;
}

/** M2D's statistics in files that have none of their own (model/README.md, Front end). */
const M2D_STATISTICS = { mean: -7.1, std: 4.2 } as const;

/**
 * A file in the names and with the metadata of this project.
 *
 * Metadata: `system`; `geometry` (JSON, {@link CheckpointGeometry}); `framing` of the front end,
 * `centred` or `inside`; `standardisation` (JSON, `mean` and `std`), where it is known; `source`
 * (JSON: `names`, `container`, `prefix`, `outside`: what {@link exported} needs to give the file
 * back); `conversion` (JSON, list of what was done); `dtype`.
 *
 * @throws {CheckpointError} if its encoder is not whole
 */
export function imported(
  file: CheckpointFile,
  model: CheckpointModel,
  options: ImportOptions = {},
): Imported {
  const { system, style, prefix, outside, geometry } = model;
  const kept = selected(model, options);
  const tensors = options.float32
    ? new Map([...kept].map(([name, it]) => [name, asFloat32(it)]))
    : kept;
  const nested = ["_ema", "_cls_head_ema"].filter((it) => has(kept, `${it}.`));
  const conversion = [
    ...(file.container === "" ? [] : [`taken from ${quoted(file.container)}`]),
    ...(style === "matpac" && file.format === "torch" && nested.length > 0
      ? [`dictionaries ${nested.join(" and ")} flattened`]
      : []),
    ...model.done,
    ...(options.float32 && has(kept, "", (it) => asFloat32(it) !== it)
      ? ["values to float32"]
      : []),
    ...(options.encoderOnly ? ["encoder alone"] : []),
  ];
  const statistics = statisticsOf(system, tensors);
  // A checksum is of the old file; the rest is still true of a file that says it already.
  const { crc32: _, conversion: earlier, dtype: __, ...said } = file.metadata;
  return {
    tensors,
    metadata: {
      system,
      framing: system === "m2d" || system === "msm-mae" ? "centred" : "inside",
      ...(statistics ? { standardisation: JSON.stringify(statistics) } : {}),
      source: JSON.stringify({ names: style, container: file.container, prefix, outside }),
      ...said,
      geometry: JSON.stringify(geometry),
      conversion: conversion.length === 0 && earlier ? earlier : JSON.stringify(conversion),
      dtype: [...new Set([...tensors.values()].map((it) => it.dtype))].join(","),
    },
  };
}

function has(
  tensors: StoredTensors,
  start: string,
  test: (it: StoredTensor) => boolean = () => true,
): boolean {
  return [...tensors].some(([name, it]) => name.startsWith(start) && test(it));
}

/** How the system's log-mel is standardised; undefined where neither file nor system says so. */
function statisticsOf(
  system: SystemName,
  tensors: StoredTensors,
): { mean: number; std: number } | undefined {
  const stored = tensors.get("norm_stats");
  if (stored?.shape.length === 1 && stored.shape[0] === 2) {
    const [mean, std] = Array.from(valuesOf(wholeBytes(stored), stored.dtype));
    if (Number.isFinite(mean) && Number.isFinite(std) && std > 0) return { mean, std };
  }
  if (system === "msm-mae") return undefined;
  return system === "m2d" ? M2D_STATISTICS : MATPAC_STATISTICS;
}

/** Forms in which official programs read a model. */
export type ExportFormat = "flat" | "fairseq" | "m2d" | "msm-mae";

/**
 * What to hand to `torchChunks` so that official programs read the model: `flat`, the state dict
 * that MATPAC's inference package loads; `fairseq`, a training checkpoint with `_ema` and
 * `_cls_head_ema` as dictionaries inside `model`; `m2d` and `msm-mae`, those systems' names, in
 * `model` unless the file was imported from a bare state dict. Optimizer state is left out.
 * Default: the system's own; for MATPAC `flat`.
 *
 * @throws {CheckpointError} if the encoder is not whole or has no such form
 */
export function exported(
  file: CheckpointFile,
  model: CheckpointModel,
  { format, ...selection }: Selection & { readonly format?: ExportFormat } = {},
): TorchDict {
  const tensors = selected(model, selection);
  const source = objectIn(file.metadata, "source");
  const chosen = format ?? ownFormat(model.system, source.names);
  if (chosen === "fairseq") return fairseqFile(tensors, model, file.metadata.step);
  // Only a file that is given back in its own names has its own prefix.
  const own = source.names === (chosen === "flat" ? "matpac" : chosen);
  const named = fromMatpacNames(tensors, {
    style: chosen === "flat" ? "matpac" : chosen,
    prefix: own && typeof source.prefix === "string" ? source.prefix : "",
    outside: own && Array.isArray(source.outside) ? source.outside.map(String) : [],
  });
  const state = new TorchDict(named, true);
  const bare = chosen === "flat" || (own && source.container === "");
  return bare ? state : new TorchDict([["model", state]]);
}

function isStyle(value: unknown): value is NameStyle {
  return value === "matpac" || value === "m2d" || value === "msm-mae";
}

/** The form that a model was imported from, or that its system has. */
function ownFormat(system: SystemName, imported: unknown): ExportFormat {
  const style = isStyle(imported) ? imported : system;
  return style === "m2d" || style === "msm-mae" ? style : "flat";
}

/**
 * Top level as fairseq's trainer writes it; what is not known has the values of an unused trainer.
 */
function fairseqFile(tensors: StoredTensors, model: CheckpointModel, step = "0"): TorchDict {
  const state: [string, TorchValue][] = [];
  const nested = new Map(
    ["_ema", "_cls_head_ema"].map((name): [string, [string, TorchValue][]] => [name, []]),
  );
  for (const [name, tensor] of tensors) {
    const [first] = name.split(".", 1);
    const inner = nested.get(first);
    if (inner) inner.push([name.slice(first.length + 1), tensor]);
    else state.push([name, tensor]);
  }
  for (const [name, entries] of nested) {
    if (entries.length > 0) state.push([name, new TorchDict(entries)]);
  }
  const dict = (entries: Record<string, TorchValue>) => new TorchDict(Object.entries(entries));
  const { geometry: { width, depth, heads, predictor, grid, patch, melBands, choices } } = model;
  const configuration = dict({
    _name: "matpac",
    encoder: dict({ embed_dim: width, depth, num_heads: heads, mlp_ratio: 4 }),
    ...(predictor && {
      decoder: dict({
        embed_dim: width,
        decoder_embed_dim: predictor.width,
        decoder_depth: predictor.depth,
        decoder_num_heads: predictor.heads,
        mlp_ratio: 4,
      }),
    }),
    use_mcl: choices > 0,
    n_freq: melBands,
    n_t: grid[1] * patch[1],
    patch_size: patch[0],
  });
  return dict({
    args: null,
    cfg: dict({ model: configuration }),
    model: new TorchDict(state, true),
    criterion: null,
    optimizer_history: [dict({
      criterion_name: "ModelCriterion",
      optimizer_name: "FairseqAdam",
      lr_scheduler_state: dict({ best: null }),
      num_updates: count(Number(step)) ?? 0,
    })],
    task_state: dict({}),
    extra_state: dict({
      train_iterator: dict({ epoch: 1, iterations_in_epoch: 0, shuffle: true }),
      val_loss: null,
    }),
    last_optimizer_state: null,
  });
}
