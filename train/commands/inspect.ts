/** `deno task inspect`: what a checkpoint holds, which model it is, what it lacks. */

import {
  type CheckpointFile,
  type CheckpointModel,
  modelOf,
  SYSTEM_TITLES,
} from "../../model/formats/checkpoint_file.ts";
import {
  inspectPretrained,
  PRETRAINED_TITLES,
  type PretrainedFindings,
} from "../../model/pretrained/load.ts";
import { printable } from "../../engine/formats/printable.ts";
import { bytesIn, type StoredTensor } from "../../model/formats/stored_tensor.ts";
import { formatBytes } from "../../engine/mod.ts";
import { yieldToEventLoop } from "../io/event_loop.ts";
import { namingFile, type OpenCheckpoint, openCheckpointFile } from "../io/checkpoint_file.ts";
import {
  differenceLines,
  encoderLines,
  modelLines,
  statisticsOf,
  type TensorStatistics,
  valuesIn,
} from "../downstream/checkpoint_report.ts";
import { modelPath } from "../downstream/encoder_file.ts";
import { standardOutput } from "../cli/live_line.ts";
import { WaitLine } from "../cli/wait_line.ts";
import { command } from "../cli/command.ts";
import { option } from "../cli/option.ts";
import { printJson } from "../cli/shared_options.ts";
import { file } from "../cli/value_types.ts";

/** The command as help and parsing see it. */
export const COMMAND = command({
  name: "inspect",
  options: {
    checkpoint: option(
      file("F"),
      "A safetensors file, a .pt or .pth file of torch.save, a run's folder, or one for Hugging " +
        "Face.",
      {
        positional: true,
        required: true,
      },
    ),
    json: printJson,
  },
  footer:
    "Mean, standard deviation (of all values), smallest and largest are over finite values. " +
    "Names are those of the file; dictionaries inside the state dict are joined by points. " +
    "Missing and surplus are told under MATPAC's names.",
});

/** Text of `--help`. */
export const help = COMMAND.help;

interface Row extends TensorStatistics {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: string;
}

function table(rows: readonly Row[]): string[] {
  const number = (x: number) => Number.isNaN(x) ? "-" : String(Number(x.toPrecision(5)));
  const cells = [
    ["name", "shape", "dtype", "mean", "std", "min", "max", ""],
    ...rows.map(({ name, shape, dtype, mean, std, min, max, nonFinite }) => [
      printable(name),
      `[${shape.join(", ")}]`,
      dtype,
      ...[mean, std, min, max].map(number),
      nonFinite > 0 ? `${nonFinite} not finite` : "",
    ]),
  ];
  const widths = cells[0].map((_, i) =>
    cells.reduce((most, row) => Math.max(most, row[i].length), 0)
  );
  return cells.map((row) =>
    row.map((cell, i) => i > 2 ? cell.padStart(widths[i]) : cell.padEnd(widths[i])).join("  ")
      .trimEnd()
  );
}

function bytesOf(tensors: Iterable<StoredTensor>): number {
  let sum = 0;
  for (const it of tensors) sum += bytesIn(it);
  return sum;
}

/** What a file holds: a model, an encoder of another system, or why it is neither. */
interface Judgement {
  readonly model?: CheckpointModel;
  readonly encoder?: PretrainedFindings;
  readonly reason?: string;
}

function judged(file: CheckpointFile): Judgement {
  try {
    const encoder = inspectPretrained(file);
    if (encoder) return { encoder };
    const model = modelOf(file);
    return model ? { model } : {
      reason: `none of MATPAC, MATPAC++, M2D, MSM-MAE, ${PRETRAINED_TITLES}`,
    };
  } catch (error) {
    // What is wrong with the model is what inspect is asked for.
    if (error instanceof Error && ["CheckpointError", "EncoderError"].includes(error.name)) {
      return { reason: error.message };
    }
    throw error;
  }
}

function record({ file, path, bytes }: OpenCheckpoint, rows: readonly Row[]): unknown {
  const { model, encoder, reason } = judged(file);
  return {
    path,
    bytes,
    format: file.format,
    container: file.container,
    tensors: rows,
    beside: { tensors: file.beside.size, bytes: bytesOf(file.beside.values()) },
    metadata: file.metadata,
    model: model
      ? {
        system: model.system,
        names: model.style,
        prefix: model.prefix,
        parts: model.parts.map(({ name }) => name),
        geometry: model.geometry,
        ...model.differences,
      }
      : null,
    encoder: encoder ?? null,
    reason: reason ?? null,
  };
}

function report({ file, path, bytes }: OpenCheckpoint, rows: readonly Row[]): string {
  const { model, encoder, reason } = judged(file);
  const metadata = Object.entries(file.metadata);
  const bad = rows.filter(({ nonFinite }) => nonFinite > 0).length;
  return [
    ...table(rows),
    "",
    ...(metadata.length > 0 ? ["metadata:"] : []),
    ...metadata.map(([key, text]) => `  ${printable(key)}: ${printable(text)}`),
    `${path}: ${file.format}${
      file.container === "" ? "" : `, state dict under "${file.container}"`
    }; ${file.tensors.size} tensors, ${
      valuesIn(file.tensors.values()).toLocaleString("en")
    } values; ${formatBytes(bytes)}`,
    ...(file.beside.size > 0
      ? [
        `beside the state dict: ${file.beside.size} tensors, ${
          formatBytes(bytesOf(file.beside.values()))
        } (state of the optimizer)`,
      ]
      : []),
    ...(model ? modelLines(model) : encoder ? encoderLines(encoder) : [`model: ${reason}`]),
    ...(model && model.style !== "matpac" ? [`names: those of ${SYSTEM_TITLES[model.style]}`] : []),
    ...(model ? differenceLines(model) : []),
    ...(model && model.differences.missing.length + model.differences.misshaped.length === 0
      ? ["nothing is missing"]
      : []),
    ...(bad > 0 ? [`${bad} tensors hold values that are not finite`] : []),
  ].join("\n");
}

/** Bytes between two turns of the event loop, and as many of them as a tensor takes in any case. */
const [TURN_BYTES, TENSOR_BYTES] = [1 << 24, 1 << 14];

/** Runs the command. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const { checkpoint: given, json } = COMMAND.read(argv).values;
  const checkpoint = await modelPath(given);
  using opened = openCheckpointFile(checkpoint);
  const rows: Row[] = [];
  const all = opened.file.tensors;
  {
    const output = standardOutput(Deno.stderr);
    using _ = new WaitLine(() => `reading tensor ${rows.length + 1} of ${all.size}`, { output });
    let bytes = 0;
    for (const [name, tensor] of all) {
      // Signals and the line have their turn after some tensors: there may be very many.
      if (bytes > TURN_BYTES) {
        await yieldToEventLoop();
        signal.throwIfAborted();
        bytes = 0;
      }
      bytes += bytesIn(tensor) + TENSOR_BYTES;
      const { shape, dtype } = tensor;
      rows.push({ name, shape, dtype, ...namingFile(checkpoint, () => statisticsOf(tensor)) });
    }
  }
  console.log(json ? JSON.stringify(record(opened, rows), null, 1) : report(opened, rows));
  return 0;
}
