/**
 * What the files of run directories say of their runs, whatever state they were left in.
 *
 * @module
 */
import { join } from "../deps/path.ts";
import type { ResolvedConfig } from "../config/config.ts";
import { openCheckpointFile } from "../io/checkpoint_file.ts";
import { readFully } from "../io/bytes.ts";
import { isFolder, namesIn } from "../io/folders.ts";
import { isLocked } from "../io/lock.ts";
import type { MetricsRow } from "../metrics/metrics_row.ts";
import { stepsIn } from "./checkpoint.ts";
import { runPaths } from "./run_directory.ts";

/** A run as its directory shows it. What is not known is null. */
export interface ListedRun {
  /** Its directory. */
  readonly dir: string;
  /**
   * running: a process is writing it. finished: its encoder is there, after the last update.
   * interrupted: neither; `--resume` goes on with it. damaged: config.json cannot be read.
   */
  readonly state: "running" | "finished" | "interrupted" | "damaged";
  readonly objective: string | null;
  readonly preset: string | null;
  /** Updates done, as far as they were logged. */
  readonly steps: number | null;
  /** Updates of the whole run; of a run that is counted in epochs, once it is finished. */
  readonly total_steps: number | null;
  /** Length of a run that is counted in epochs. */
  readonly epochs: number | null;
  /** The step that `--resume` would go on from. */
  readonly checkpoint_step: number | null;
  /** Losses of the newest row. */
  readonly loss: number | null;
  readonly loss_pred: number | null;
  readonly loss_cls: number | null;
  /** The newest evaluation of `--eval`. */
  readonly evaluation: {
    readonly step: number;
    readonly metric: "accuracy" | "mAP";
    readonly score: number;
  } | null;
  /** Seconds of training, in all processes that worked on it. */
  readonly seconds: number | null;
  readonly samples_per_s: number | null;
}

/** Folders below the given one that are looked through. */
const MOST_LEVELS = 3;
/** Bytes at the end of metrics.jsonl that are read. */
const MOST_BYTES = 1 << 26;

/**
 * The runs in a folder and its subfolders, or the folder itself if it is one, sorted by name.
 *
 * @param levels subfolders that are looked through
 */
export async function listRuns(dir: string, levels = MOST_LEVELS): Promise<ListedRun[]> {
  const runs: ListedRun[] = [];
  for await (const run of findRuns(dir, listedRun, levels)) runs.push(run);
  return runs;
}

/**
 * Walks through a folder as {@link listRuns} does.
 *
 * @param look what a folder is; undefined where it is no run and may have runs below it
 */
export async function* findRuns<Run>(
  dir: string,
  look: (dir: string) => Promise<Run | undefined>,
  levels = MOST_LEVELS,
): AsyncGenerator<Run> {
  const run = await look(dir);
  if (run !== undefined) return yield run;
  if (levels === 0) return;
  // A folder that must not be read has no runs.
  const names = await namesIn(dir).catch(() => []);
  for (const name of names.filter((it) => !it.startsWith(".")).sort()) {
    const path = join(dir, name);
    if (await isFolder(path)) yield* findRuns(path, look, levels - 1);
  }
}

async function listedRun(dir: string): Promise<ListedRun | undefined> {
  const paths = runPaths(dir);
  if (textOf(paths.config) === undefined) return undefined;
  const rows = rowsOf(paths.metrics);
  return await runOf(dir, {
    last: rows.at(-1),
    evaluated: rows.findLast((it) => it.eval_accuracy !== undefined || it.eval_map !== undefined),
    seconds: secondsOf(rows),
  });
}

/** What the rows of a run say of it. */
export interface RowFacts {
  /** The newest. */
  readonly last: MetricsRow | undefined;
  /** The newest with a score. */
  readonly evaluated: MetricsRow | undefined;
  /** Seconds of training, in all processes. */
  readonly seconds: number;
}

/** What a run's directory says; undefined where it is none. */
export async function runOf(
  dir: string,
  { last, evaluated, seconds }: RowFacts,
): Promise<ListedRun | undefined> {
  const paths = runPaths(dir);
  const text = textOf(paths.config);
  if (text === undefined) return undefined;
  const config = parsed<Partial<ResolvedConfig>>(text);
  // Other programs have files of this name as well.
  if (typeof config?.objective !== "string" && !last) return undefined;
  const given: { readonly steps?: number; readonly epochs?: number } = config?.length ?? {};
  // Stages before the last one count, too.
  const length = given.steps === undefined
    ? given
    : { steps: given.steps + (config?.paint?.steps ?? 0) };
  const encoderStep = encoderStepOf(paths.encoder);
  const done = encoderStep !== undefined &&
    encoderStep >= (length.steps ?? last?.step ?? 0);
  const isRunning = isLocked(dir);
  return {
    dir,
    state: isRunning
      ? "running"
      : config === undefined
      ? "damaged"
      : done
      ? "finished"
      : "interrupted",
    objective: config?.objective ?? null,
    preset: config?.preset ?? null,
    steps: last?.step ?? null,
    total_steps: length.steps ?? (done && !isRunning ? encoderStep : null),
    epochs: length.epochs ?? null,
    checkpoint_step: (await stepsIn(paths.checkpoints).catch(() => []))[0] ?? null,
    loss: last?.loss ?? null,
    loss_pred: last?.loss_pred ?? null,
    loss_cls: last?.loss_cls ?? null,
    evaluation: evaluated
      ? {
        step: evaluated.step,
        metric: evaluated.eval_map === undefined ? "accuracy" : "mAP",
        score: evaluated.eval_map ?? evaluated.eval_accuracy!,
      }
      : null,
    seconds: last ? seconds : null,
    samples_per_s: last?.samples_per_s ?? null,
  };
}

/** Rows count from the start of a process; where they begin anew, another one went on. */
function secondsOf(rows: readonly MetricsRow[]): number {
  return rows.reduce((sum, { seconds }, i) => {
    const isLastOfProcess = i + 1 === rows.length || rows[i + 1].seconds < seconds;
    return isLastOfProcess ? sum + seconds : sum;
  }, 0);
}

/** Rows that are whole; a last line may be under way. */
function rowsOf(path: string): MetricsRow[] {
  return (textOf(path) ?? "").split("\n").flatMap((line) => {
    const row = parsed<MetricsRow>(line);
    return row && typeof row.step === "number" && typeof row.seconds === "number" ? [row] : [];
  });
}

function encoderStepOf(path: string): number | undefined {
  try {
    if (!Deno.statSync(path).isFile) return undefined;
    using checkpoint = openCheckpointFile(path);
    const step = Number(checkpoint.file.metadata.step);
    return Number.isFinite(step) ? step : undefined;
  } catch {
    return undefined;
  }
}

/** The end of a file; undefined where there is none that can be read. */
function textOf(path: string): string | undefined {
  try {
    const { isFile, size } = Deno.statSync(path);
    if (!isFile) return undefined;
    using file = Deno.openSync(path);
    file.seekSync(Math.max(0, size - MOST_BYTES), Deno.SeekMode.Start);
    return new TextDecoder().decode(readFully(file, Math.min(size, MOST_BYTES)));
  } catch {
    return undefined;
  }
}

function parsed<Value extends object>(text: string): Value | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value as Value : undefined;
  } catch {
    return undefined;
  }
}
