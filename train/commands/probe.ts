/**
 * `deno task probe`: what an encoder is good for on a labelled folder. Linear probes, HEAR's
 * perceptrons and fine-tuning share the options; each is a file beside this one.
 *
 * @module
 */
import { command, refuse } from "../cli/command.ts";
import { FINETUNE_OPTIONS } from "../downstream/finetune/options.ts";
import { HEAR_OPTIONS } from "../downstream/hear/options.ts";
import { NOT_WITH_SHOTS, PROBE_OPTIONS } from "../downstream/probe/options.ts";
import { runFineTuneCommand } from "./probe_finetune.ts";
import { runHearCommand } from "./probe_hear.ts";
import { runLinearCommand } from "./probe_linear.ts";
import { runShotsCommand } from "./probe_shots.ts";

/** The command as help and parsing see it. */
export const COMMAND = command({
  name: "probe",
  options: PROBE_OPTIONS,
  footer: "Scores are percent: the mean over repeats of the mean over folds, with 1.96 sd / " +
    "sqrt(repeats). The baselines see a clip's log-mel spectrum, its mean over time (80 values), " +
    "and mean and standard deviation (160): once under the same protocol, and once tuned, that " +
    "is standardised and with the best of the learning rates 1e-3, 1e-2 and 1e-1 on validation " +
    "clips. evar is without its random crops. hear trains HEAR " +
    "2021's grid of perceptrons; with events.csv (filename,onset_ms,offset_ms,label) in the " +
    "folder it looks for onsets of events. --finetune trains encoder and head in every fold " +
    "anew, without baselines.",
});

/** Text of `--help`. */
export const help = COMMAND.help;

/** Runs the command. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const { values, words } = COMMAND.read(argv);
  if (values.shots !== undefined) {
    refuse(words, [...NOT_WITH_SHOTS, ...Object.keys(FINETUNE_OPTIONS)], "not with --shots");
    return await runShotsCommand({ ...values, shots: values.shots }, signal);
  }
  if (values.finetune) return await runFineTuneCommand(values, words, signal);
  refuse(words, Object.keys(FINETUNE_OPTIONS), "belongs to --finetune");
  if (values.protocol === "hear") return await runHearCommand(values, words, signal);
  refuse(words, Object.keys(HEAR_OPTIONS), "belongs to --protocol hear");
  // A protocol that is asked for by name is the paper's also in how clips are pooled.
  const pool = values.pool ?? (words.protocol === undefined ? undefined : "mean");
  return await runLinearCommand({ ...values, pool, protocol: values.protocol }, signal);
}
