/**
 * The runs of a comparison, `deno task compare`: which are finished, training the others, and what
 * their logs say.
 *
 * Read on in this order: plan.ts makes the plan of runs and probes from the options, probes.ts
 * probes the encoders of these runs, results.ts puts rows and differences together with
 * intervals.ts, report.ts writes them as Markdown.
 *
 * @module
 */
import { readRegularText } from "../../io/regular_file.ts";
import { join } from "../../deps/path.ts";
import { type ObjectiveName, OBJECTIVES } from "../../../model/objectives/objectives.ts";
import { readJsonLines } from "../../io/json_lines.ts";
import { namesIn } from "../../io/folders.ts";
import { openCheckpointFile } from "../../io/checkpoint_file.ts";
import { run as pretrain } from "../../commands/pretrain.ts";
import { lastingOptions, type ResolvedConfig } from "../../config/config.ts";
import { describeError, exitCodeOf, InterruptedError, UsageError } from "../../errors.ts";
import type { MetricsRow } from "../../metrics/metrics_row.ts";
import { meanOf } from "../probe/metrics.ts";
import { OWN_CHECKPOINTS, runPaths } from "../../run/run_directory.ts";
import { medianOf } from "./intervals.ts";
import type { PlannedRun } from "./plan.ts";

/**
 * Share of a run's rows at its start that its rate leaves out, and at its end that its losses are
 * means of.
 */
const EDGE = 0.1;

/** What a finished run's files say of it. */
export interface RunSummary {
  /** Updates. */
  readonly steps: number;
  /** Clips per second, the median over logged rows without the first tenth. */
  readonly samples_per_s: number;
  /** Losses, means over the last tenth of the logged rows. */
  readonly loss: number;
  readonly loss_pred: number;
  /** In objectives that classify. */
  readonly loss_cls?: number;
  /** Where it was trained. */
  readonly adapter: string;
}

/** Something that ended in an error. */
export interface Failure {
  /** What. */
  readonly name: string;
  /** The first line of the error. */
  readonly reason: string;
}

/**
 * Works on one thing; errors of its own are printed and do not end the others'.
 *
 * @throws {InterruptedError} when the signal aborted
 * @throws what would end all others as well: wrong usage, no adapter, no data, a full disk
 */
export async function attempt<Result>(
  name: string,
  signal: AbortSignal,
  work: () => Promise<Result>,
): Promise<Result | Failure> {
  try {
    return await work();
  } catch (error) {
    const { name: kind } = error as Error;
    if (kind === "InterruptedError" || error === signal.reason) throw interrupted();
    const common = ![1, 5].includes(exitCodeOf(error)) || kind === "DiskFullError";
    if (common) throw error;
    console.error(`${name} failed\n${describeError(error)}`);
    return { name, reason: error instanceof Error ? error.message.split("\n")[0] : String(error) };
  }
}

/**
 * Ends a comparison between two of its works. @throws {InterruptedError} when the signal aborted
 */
export function throwIfInterrupted(signal: AbortSignal): void {
  if (signal.aborted) throw interrupted();
}

function interrupted(): InterruptedError {
  return new InterruptedError("interrupted; what is done is kept, and the same command goes on");
}

/** Trained parameters of a model. */
export function parametersOf({ objective, geometry, choices }: ResolvedConfig): number {
  return OBJECTIVES[objective].specs(geometry, choices)
    .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
}

/**
 * Whether a run is there with its last update done.
 *
 * @throws {UsageError} if the folder holds a run with other options
 */
export function isFinished({ name, config }: PlannedRun): boolean {
  const there = recorded(config.out);
  if (there === undefined) return false;
  if (lastingOptions(there) !== lastingOptions(config)) {
    const [was, is] = [there, config].map((it): Record<string, unknown> =>
      JSON.parse(lastingOptions(it))
    );
    const names = [...new Set([...Object.keys(was), ...Object.keys(is)])]
      .filter((name) => JSON.stringify(was[name]) !== JSON.stringify(is[name]));
    throw new UsageError(
      `--out: ${name} in it was trained with other options (${names.join(", ")})`,
      "give the same options to go on, or another folder",
    );
  }
  const steps = stepsOf(config.out);
  return steps !== undefined && (!("steps" in config.length) || steps === config.length.steps);
}

/** What a run directory's config.json says; undefined where there is none. */
function recorded(out: string):
  | (Pick<ResolvedConfig, "options"> & {
    readonly adapter_info: { readonly description: string };
  })
  | undefined {
  try {
    return JSON.parse(readRegularText(runPaths(out).config));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Updates behind the encoder of a run that came to its end. */
function stepsOf(out: string): number | undefined {
  const { encoder } = runPaths(out);
  try {
    Deno.statSync(encoder);
  } catch {
    return undefined;
  }
  using checkpoint = openCheckpointFile(encoder);
  return Number(checkpoint.file.metadata.step);
}

/**
 * Trains a run from its start or from where it was ended.
 *
 * @param keepCheckpoints whether its checkpoints stay when it is finished
 * @throws as `pretrain`
 */
export async function trainRun(
  { config, words }: PlannedRun,
  keepCheckpoints: boolean,
  signal: AbortSignal,
): Promise<void> {
  const begun = recorded(config.out) !== undefined;
  await pretrain(begun ? resumingWords(config) : [...words], signal);
  if (keepCheckpoints) return;
  const { checkpoints } = runPaths(config.out);
  const names = await namesIn(checkpoints);
  for (const name of names.filter((it) => OWN_CHECKPOINTS.test(it))) {
    await Deno.remove(join(checkpoints, name));
  }
  if (names.every((it) => OWN_CHECKPOINTS.test(it))) await Deno.remove(checkpoints);
}

/** A resumed run inherits its options but for those that belong to one invocation. */
function resumingWords({ out, options }: ResolvedConfig): string[] {
  const own = ["workers", "memory-limit", "tune", "anomaly", "quiet"].flatMap((name) => {
    const value = options[name];
    if (value === undefined || value === false) return [];
    return value === true ? [`--${name}`] : [`--${name}`, String(value)];
  });
  return ["--resume", "--out", out, ...own];
}

/** What a finished run's files say. */
export function runSummary({ config: { out } }: PlannedRun): RunSummary {
  const { rows } = readJsonLines<MetricsRow>(runPaths(out).metrics);
  const edge = Math.ceil(EDGE * rows.length);
  const settled = rows.slice(Math.min(edge, rows.length - 1));
  const last = rows.slice(-edge);
  const mean = (of: (row: MetricsRow) => number) => meanOf(last.map(of));
  return {
    steps: stepsOf(out)!,
    samples_per_s: medianOf(settled.map((row) => row.samples_per_s)),
    loss: mean(({ loss }) => loss),
    loss_pred: mean(({ loss_pred }) => loss_pred),
    ...last[0].loss_cls !== undefined && { loss_cls: mean(({ loss_cls }) => loss_cls!) },
    adapter: recorded(out)!.adapter_info.description,
  };
}

/** A run and what came of it. */
export interface RunOutcome {
  readonly objective: ObjectiveName;
  readonly seed: number;
  readonly name: string;
  readonly result: RunSummary | Failure;
}

/** Whether something failed. */
export function isFailure(result: object): result is Failure {
  return "reason" in result;
}
