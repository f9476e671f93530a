/** `deno task export`: a checkpoint of this project to a .pt that official programs load. */

import { basename } from "../deps/path.ts";
import { exported, type ExportFormat } from "../../model/formats/checkpoint_convert.ts";
import { torchChunks } from "../../model/formats/torch_write.ts";
import {
  checkOut,
  errorOfFile,
  interruptible,
  knownModel,
  namingFile,
  openCheckpointFile,
} from "../io/checkpoint_file.ts";
import { differenceLines, modelLines } from "../downstream/checkpoint_report.ts";
import { modelPath } from "../downstream/encoder_file.ts";
import { formatBytes } from "../../engine/mod.ts";
import { WaitLine } from "../cli/wait_line.ts";
import { command } from "../cli/command.ts";
import { flag, option } from "../cli/option.ts";
import { force } from "../cli/shared_options.ts";
import { choice, file } from "../cli/value_types.ts";
import { writeAtomic } from "../io/atomic_write.ts";
import { writeInto } from "../io/result_file.ts";

const FORMATS: readonly ExportFormat[] = ["flat", "fairseq", "m2d", "msm-mae"];

/** The command as help and parsing see it. */
export const COMMAND = command({
  name: "export",
  options: {
    input: option(
      file("IN"),
      "A run's folder, encoder.safetensors, a checkpoint of a run, or an imported file.",
      { positional: true, required: true },
    ),
    out: option(file(), "Where to write; .pt.", { required: true }),
    format: option(
      choice(FORMATS),
      "flat: the state dict that MATPAC's inference package loads; fairseq: a training " +
        "checkpoint, teachers in nested dictionaries; m2d, msm-mae: names of those systems.",
      { defaultText: "that of the system it was imported from, else flat" },
    ),
    "encoder-only": flag("Leaves out predictor, heads and teachers."),
    force,
  },
  footer: "Values are written as they are stored. Optimizer state is left out: official programs " +
    "keep theirs in another form.",
});

/** Text of `--help`. */
export const help = COMMAND.help;

/** Runs the command. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const { out, format, force, "encoder-only": encoderOnly, ...given } = COMMAND.read(argv).values;
  const input = await modelPath(given.input);
  using opened = openCheckpointFile(input);
  checkOut(out, input, force);
  const { model, value } = namingFile(input, () => {
    const model = knownModel(opened);
    const options = { encoderOnly, ...(format !== undefined && { format }) };
    return { model, value: exported(opened.file, model, options) };
  });
  // torch names the folder inside the archive after the file; the name is free.
  const prefix = basename(out).replace(/\.[^.]*$/, "").replace(/[^\w.-]/g, "_") || "archive";
  let written = 0;
  using _ = new WaitLine(() => `writing ${out}: ${formatBytes(written)}`);
  try {
    await writeInto(
      out,
      () =>
        writeAtomic(
          out,
          interruptible(torchChunks(value, prefix), signal, (bytes) => written = bytes),
        ),
    );
  } catch (error) {
    throw errorOfFile(input, error);
  }
  console.log([...modelLines(model), ...differenceLines(model), `written: ${out}`].join("\n"));
  return 0;
}
