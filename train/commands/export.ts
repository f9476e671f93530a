/** `deno task export`: a checkpoint of this project to a .pt that official programs load. */

import { basename } from "@std/path";
import { exported, type ExportFormat } from "../../model/formats/checkpoint_convert.ts";
import { modelOf } from "../../model/formats/checkpoint_file.ts";
import { torchChunks } from "../../model/formats/torch_write.ts";
import {
  blamed,
  blaming,
  checkOut,
  interruptible,
  openCheckpointFile,
} from "../io/checkpoint_file.ts";
import { differenceLines, modelLines } from "../downstream/checkpoint_report.ts";
import { type CommandSpec, helpText, parseArguments } from "../cli/parser.ts";
import { NoDataError } from "../data/errors.ts";
import { UsageError } from "../errors.ts";
import { writeAtomic } from "../run/rundir.ts";

const FORMATS: readonly ExportFormat[] = ["flat", "fairseq", "m2d", "msm-mae"];

const SPEC: CommandSpec = {
  program: "deno task export",
  summary: "Turns a checkpoint into a .pt file that torch.load and the official programs read.",
  options: [
    {
      name: "IN",
      kind: "positional",
      metavar: "IN",
      description: "encoder.safetensors, a checkpoint of a run, or an imported file.",
    },
    { name: "out", kind: "value", metavar: "FILE", description: "Where to write; .pt." },
    {
      name: "format",
      kind: "value",
      metavar: FORMATS.join("|"),
      description:
        "flat: the state dict that MATPAC's inference package loads; fairseq: a training " +
        "checkpoint, teachers in nested dictionaries; m2d, msm-mae: names of those systems.",
      defaultText: "that of the system it was imported from, else flat",
    },
    {
      name: "encoder-only",
      kind: "flag",
      description: "Leaves out predictor, heads and teachers.",
    },
    { name: "force", kind: "flag", description: "Replaces FILE where it is there already." },
  ],
  footer:
    "Values are written as they are stored. Optimizer state is left out: official programs keep theirs in another form.",
};

/** Text of `--help`. */
export function help(): string {
  return helpText(SPEC);
}

/** Runs the command. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const { IN, out, format, force, "encoder-only": encoderOnly } = parseArguments(SPEC, argv);
  if (typeof IN !== "string") {
    throw new UsageError("IN: is needed", `See: ${SPEC.program} --help`);
  }
  const wanted = FORMATS.find((it) => it === format);
  if (format !== undefined && wanted === undefined) {
    throw new UsageError(`--format ${format}: must be ${FORMATS.join(", ")}`);
  }
  using opened = openCheckpointFile(IN);
  const target = checkOut(out, IN, force === true);
  const { model, value } = blaming(IN, () => {
    const model = modelOf(opened.file);
    if (!model) {
      throw new NoDataError(
        `${IN}: holds no model of MATPAC, MATPAC++, M2D or MSM-MAE\n` +
          `deno task inspect ${IN} lists what it holds`,
      );
    }
    const options = {
      encoderOnly: encoderOnly === true,
      ...(wanted === undefined ? {} : { format: wanted }),
    };
    return { model, value: exported(opened.file, model, options) };
  });
  // torch names the folder inside the archive after the file; the name is free.
  const prefix = basename(target).replace(/\.[^.]*$/, "").replace(/[^\w.-]/g, "_") || "archive";
  try {
    await writeAtomic(target, interruptible(torchChunks(value, prefix), signal));
  } catch (error) {
    throw blamed(IN, error);
  }
  console.log([...modelLines(model), ...differenceLines(model), `written: ${target}`].join("\n"));
  return 0;
}
