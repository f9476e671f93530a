/** `deno task import`: an official checkpoint to safetensors in this project's names. */

import { imported } from "../../model/formats/checkpoint_convert.ts";
import { modelOf } from "../../model/formats/checkpoint_file.ts";
import { safetensorsChunks } from "../../model/formats/safetensors_ranges.ts";
import {
  blamed,
  blaming,
  checkOut,
  interruptible,
  openCheckpointFile,
} from "../io/checkpoint_file.ts";
import { differenceLines, modelLines, valuesIn } from "../downstream/checkpoint_report.ts";
import { type CommandSpec, helpText, parseArguments } from "../cli/parser.ts";
import { NoDataError } from "../data/errors.ts";
import { UsageError } from "../errors.ts";
import { writeAtomic } from "../run/rundir.ts";

const SPEC: CommandSpec = {
  program: "deno task import",
  summary: "Turns a checkpoint of MATPAC, MATPAC++, M2D or MSM-MAE into safetensors.",
  options: [
    {
      name: "IN",
      kind: "positional",
      metavar: "IN",
      description: "A .pt or .pth file of torch.save, or a safetensors file with official names.",
    },
    { name: "out", kind: "value", metavar: "FILE", description: "Where to write; .safetensors." },
    {
      name: "dtype",
      kind: "value",
      metavar: "stored|f32",
      description: "Number format of floating-point tensors.",
      defaultText: "stored",
    },
    {
      name: "encoder-only",
      kind: "flag",
      description: "Leaves out predictor, heads and teachers: what embed and probe need stays.",
    },
    {
      name: "heads",
      kind: "value",
      metavar: "N",
      description: "Attention heads of the encoder; tensors do not tell them.",
      defaultText: "the file's own configuration, else one for 64 values",
    },
    { name: "force", kind: "flag", description: "Replaces FILE where it is there already." },
  ],
  footer:
    "Tensors get MATPAC's names, whatever the system; what has no counterpart there keeps its own. MSM-MAE's q_bias " +
    "and v_bias become qkv.bias. The file's metadata says system, sizes, front end and what was done; " +
    "deno task export turns it back. Optimizer state is left out.",
};

/** Text of `--help`. */
export function help(): string {
  return helpText(SPEC);
}

/** Runs the command. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const { IN, out, dtype = "stored", heads, force, "encoder-only": encoderOnly } = parseArguments(
    SPEC,
    argv,
  );
  if (typeof IN !== "string") {
    throw new UsageError("IN: is needed", `See: ${SPEC.program} --help`);
  }
  if (dtype !== "stored" && dtype !== "f32") {
    throw new UsageError(`--dtype ${dtype}: must be stored or f32`);
  }
  const encoder = heads === undefined ? undefined : Number(heads);
  if (encoder !== undefined && !(Number.isInteger(encoder) && encoder >= 1 && encoder <= 1024)) {
    throw new UsageError(`--heads ${heads}: must be a whole number from 1 to 1024`);
  }
  using opened = openCheckpointFile(IN);
  const target = checkOut(out, IN, force === true);
  const { file } = opened;
  const { model, tensors, metadata } = blaming(IN, () => {
    const model = modelOf(file, encoder === undefined ? {} : { encoder });
    if (!model) {
      throw new NoDataError(
        `${IN}: holds no model of MATPAC, MATPAC++, M2D or MSM-MAE\n` +
          `deno task inspect ${IN} lists what it holds`,
      );
    }
    const options = { encoderOnly: encoderOnly === true, float32: dtype === "f32" };
    return { model, ...imported(file, model, options) };
  });
  try {
    await writeAtomic(target, interruptible(safetensorsChunks([...tensors], metadata), signal));
  } catch (error) {
    throw blamed(IN, error);
  }
  const lines = [
    ...modelLines(model),
    ...differenceLines(model),
    ...(model.geometry.heads === null
      ? ["the number of attention heads is not known: embed needs it, give --heads N"]
      : []),
    ...(file.beside.size > 0
      ? [`${file.beside.size} tensors beside the model are left out (state of the optimizer)`]
      : []),
    `${target}: ${tensors.size} tensors, ${
      valuesIn(tensors.values()).toLocaleString("en")
    } values, ${metadata.dtype}`,
  ];
  console.log(lines.join("\n"));
  return 0;
}
