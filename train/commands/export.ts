/**
 * `deno task export`: a checkpoint of this project to a .pt that official programs load, or to a
 * folder for Hugging Face.
 */

import { basename, join, resolve } from "../deps/path.ts";
import { exported, type ExportFormat } from "../../model/formats/checkpoint_convert.ts";
import { encoderContent } from "../../model/encoder/encoder.ts";
import { torchChunks } from "../../model/formats/torch_write.ts";
import {
  checkOut,
  checkOutFolder,
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
import { command, refuse } from "../cli/command.ts";
import { flag, option, type Values } from "../cli/option.ts";
import { force, heads } from "../cli/shared_options.ts";
import { choice, file, parsed } from "../cli/value_types.ts";
import { UsageError } from "../errors.ts";
import { configOf, writeFolder } from "../huggingface/folder.ts";
import { modelCard, trainingFigures } from "../huggingface/model_card.ts";
import { isFolder } from "../io/folders.ts";
import { writeAtomic } from "../io/atomic_write.ts";
import { writeInto } from "../io/result_file.ts";

const FORMATS: readonly (ExportFormat | "huggingface")[] = [
  "flat",
  "fairseq",
  "m2d",
  "msm-mae",
  "huggingface",
];

const OPTIONS = {
  input: option(
    file("IN"),
    "A run's folder, encoder.safetensors, a checkpoint of a run, or an imported file.",
    { positional: true, required: true },
  ),
  out: option(file(), "Where to write; .pt, a folder with --format huggingface.", {
    defaultText: "with --format huggingface: huggingface in the run's folder",
  }),
  format: option(
    choice(FORMATS),
    "flat: the state dict that MATPAC's inference package loads; fairseq: a training " +
      "checkpoint, teachers in nested dictionaries; m2d, msm-mae: names of those systems; " +
      "huggingface: a folder with the encoder, code for torch, and a model card.",
    { defaultText: "that of the system it was imported from, else flat" },
  ),
  "encoder-only": flag("Leaves out predictor, heads and teachers."),
  license: option(
    parsed(
      "ID",
      "a licence as the Hub names it, such as apache-2.0",
      (word) => /^[\w.-]+$/.test(word) ? word : undefined,
    ),
    "With --format huggingface: licence of the weights, for the card.",
    { defaultText: "other" },
  ),
  heads,
  force,
};

/** The command as help and parsing see it. */
export const COMMAND = command({
  name: "export",
  options: OPTIONS,
  footer:
    "Values are written as they are stored, with --format huggingface in float32. Optimizer " +
    "state is left out: official programs keep theirs in another form.",
});

/** Text of `--help`. */
export const help = COMMAND.help;

/** Runs the command. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const { values, words } = COMMAND.read(argv);
  const { out, format, force, "encoder-only": encoderOnly } = values;
  if (format === "huggingface") return await exportFolder(values, signal);
  refuse(words, ["license", "heads"], "is for --format huggingface");
  if (out === undefined) throw new UsageError("--out: is needed");
  const input = await modelPath(values.input);
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

/** `--format huggingface`. */
async function exportFolder(
  { input: given, out, force, license = "other", heads }: Values<typeof OPTIONS>,
  signal: AbortSignal,
): Promise<number> {
  const isRun = await isFolder(given);
  const dir = out ?? (isRun ? join(given, "huggingface") : undefined);
  if (dir === undefined) throw new UsageError("--out: is needed, as IN is no run's folder");
  const input = await modelPath(given);
  using opened = openCheckpointFile(input);
  await checkOutFolder(dir, force);
  const model = knownModel(opened, heads);
  const content = namingFile(
    input,
    () => encoderContent(opened.file, heads === undefined ? {} : { heads }),
  );
  const config = configOf(content);
  const name = basename(resolve(isRun ? given : dir));
  const figures = isRun ? await trainingFigures(given) : [];
  const card = modelCard(content, { name, license, config, figures });
  let written = 0;
  using _ = new WaitLine(() => `writing ${dir}: ${formatBytes(written)}`);
  try {
    await writeFolder(dir, content, card, { signal, onBytes: (bytes) => written = bytes });
  } catch (error) {
    throw errorOfFile(input, error);
  }
  console.log([...modelLines(model), `written: ${dir}, the encoder alone`].join("\n"));
  return 0;
}
