/** `deno task import`: an official checkpoint to safetensors in this project's names. */

import { asFloat32 } from "../../model/formats/stored_tensor.ts";
import { importPretrained, PRETRAINED_TITLES } from "../../model/pretrained/load.ts";
import { imported } from "../../model/formats/checkpoint_convert.ts";
import { safetensorsChunks } from "../../model/formats/safetensors_stream.ts";
import {
  checkOut,
  errorOfFile,
  interruptible,
  knownModel,
  namingFile,
  openCheckpointFile,
} from "../io/checkpoint_file.ts";
import {
  differenceLines,
  encoderLines,
  modelLines,
  valuesIn,
} from "../downstream/checkpoint_report.ts";
import { modelPath } from "../downstream/encoder_file.ts";
import { formatBytes } from "../../engine/mod.ts";
import { WaitLine } from "../cli/wait_line.ts";
import { command } from "../cli/command.ts";
import { flag, option } from "../cli/option.ts";
import { force, heads } from "../cli/shared_options.ts";
import { choice, file } from "../cli/value_types.ts";
import { writeAtomic } from "../io/atomic_write.ts";
import { writeInto } from "../io/result_file.ts";

/** The command as help and parsing see it. */
export const COMMAND = command({
  name: "import",
  options: {
    input: option(
      file("IN"),
      "A .pt or .pth file of torch.save, a safetensors file with official names, or a folder for " +
        "Hugging Face.",
      { positional: true, required: true },
    ),
    out: option(file(), "Where to write; .safetensors.", { required: true }),
    dtype: option(choice(["stored", "f32"]), "Number format of floating-point tensors.", {
      default: "stored",
    }),
    "encoder-only": flag(
      "Leaves out predictor, heads and teachers: what embed and probe need stays.",
    ),
    heads,
    force,
  },
  footer:
    "Tensors get MATPAC's names, whatever the system; what has no counterpart there keeps its " +
    "own. MSM-MAE's q_bias and v_bias become qkv.bias. The file's metadata says system, sizes, " +
    "front end and what was done; deno task export turns it back. Optimizer state is left out. " +
    `Of ${PRETRAINED_TITLES} the encoder alone is taken, under its own names.`,
});

/** Text of `--help`. */
export const help = COMMAND.help;

/** Runs the command. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const { input: given, out, dtype, heads, force, "encoder-only": encoderOnly } =
    COMMAND.read(argv).values;
  const input = await modelPath(given);
  using opened = openCheckpointFile(input);
  checkOut(out, input, force);
  const { file } = opened;
  const { model, other, tensors, metadata } = namingFile(input, () => {
    const other = importPretrained(file, heads === undefined ? {} : { heads });
    if (other) {
      const tensors = dtype === "f32"
        ? new Map([...other.tensors].map(([name, it]) => [name, asFloat32(it)]))
        : other.tensors;
      const dtypes = new Set([...tensors.values()].map((it) => it.dtype));
      const metadata = { ...other.metadata, dtype: [...dtypes].join(",") };
      return { model: undefined, other, tensors, metadata };
    }
    const model = knownModel(opened, heads);
    const options = { encoderOnly, float32: dtype === "f32" };
    return { model, other, ...imported(file, model, options) };
  });
  let written = 0;
  using _ = new WaitLine(() => `writing ${out}: ${formatBytes(written)}`);
  try {
    await writeInto(
      out,
      () =>
        writeAtomic(
          out,
          interruptible(safetensorsChunks([...tensors], metadata), signal, (bytes) =>
            written = bytes),
        ),
    );
  } catch (error) {
    throw errorOfFile(input, error);
  }
  const lines = [
    ...(other ? encoderLines(other) : [...modelLines(model), ...differenceLines(model)]),
    ...(model?.geometry.heads === null
      ? ["the number of attention heads is not known: embed needs it, give --heads N"]
      : []),
    ...(file.beside.size > 0
      ? [`${file.beside.size} tensors beside the model are left out (state of the optimizer)`]
      : []),
    `${out}: ${tensors.size} tensors, ${
      valuesIn(tensors.values()).toLocaleString("en")
    } values, ${metadata.dtype}`,
  ];
  console.log(lines.join("\n"));
  return 0;
}
