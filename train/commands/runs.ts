/** `deno task runs`: a table of runs. */

import { printable } from "../../engine/formats/printable.ts";
import { command } from "../cli/command.ts";
import { option } from "../cli/option.ts";
import { durationText } from "../cli/progress.ts";
import { printJson } from "../cli/shared_options.ts";
import { folder } from "../cli/value_types.ts";
import { lined } from "../cli/table.ts";
import { NoDataError } from "../errors.ts";
import { isFolder } from "../io/folders.ts";
import { type ListedRun, listRuns } from "../run/run_list.ts";

/** The command as help and parsing see it. */
export const COMMAND = command({
  name: "runs",
  options: {
    dir: option(
      folder(),
      "A run, or a folder with runs in it or in its subfolders, such as a comparison's.",
      { positional: true, default: "runs" },
    ),
    json: printJson,
  },
  footer: "running: a process is writing it. finished: its encoder is there. interrupted: " +
    "pretrain --resume --out DIR goes on with it. Steps and losses are those of the newest row " +
    "of metrics.jsonl, evaluation the newest score of pretrain --eval, time that of training.",
});

/** Text of `--help`. */
export const help = COMMAND.help;

/** Runs the command. */
export async function run(argv: string[]): Promise<number> {
  const { values: { dir, json }, words } = COMMAND.read(argv);
  if (words.dir !== undefined && !await isFolder(dir)) {
    throw new NoDataError(`${dir}: no such folder`);
  }
  const runs = await listRuns(dir);
  if (json) console.log(JSON.stringify({ dir, runs }, null, 2));
  else if (runs.length === 0) {
    console.log(`no runs in ${dir}; deno task pretrain makes one`);
  } else console.log(tableOf(dir, runs).join("\n"));
  return 0;
}

function tableOf(dir: string, runs: readonly ListedRun[]): string[] {
  const hasEvaluation = runs.some(({ evaluation }) => evaluation !== null);
  const interrupted = runs.find(({ state }) => state === "interrupted");
  return [
    ...lined([
      ["run", "state", "model", "steps", "loss", ...hasEvaluation ? ["eval"] : [], "time"],
      ...runs.map((it) => [
        nameOf(dir, it.dir),
        it.state,
        [it.objective, it.preset].filter((part) => part !== null).join(" ") || "-",
        stepsText(it),
        it.loss?.toFixed(4) ?? "-",
        ...hasEvaluation ? [evaluationText(it)] : [],
        it.seconds === null ? "-" : shortDuration(it.seconds),
      ]),
    ], 3),
    ...interrupted
      ? ["", `to go on: deno task pretrain --resume --out ${printable(interrupted.dir)}`]
      : [],
  ];
}

/** A run's name inside the folder; that of the folder itself is whole. */
function nameOf(dir: string, path: string): string {
  const base = dir.replace(/[/\\]+$/, "");
  return path.startsWith(base) && path.length > dir.length ? path.slice(base.length + 1) : path;
}

function stepsText({ steps, total_steps: total, epochs }: ListedRun): string {
  const length = total ?? (epochs === null ? undefined : `${epochs} epochs`);
  return `${steps ?? 0}${length === undefined ? "" : `/${length}`}`;
}

function evaluationText({ evaluation }: ListedRun): string {
  return evaluation === null ? "-" : `${(100 * evaluation.score).toFixed(1)} %`;
}

/** The two largest units. */
const shortDuration = (seconds: number): string =>
  durationText(seconds).split(" ").slice(0, 2).join(" ");
