/**
 * The runs below a folder, watched: which there are, what state they are in, their rows as they
 * are written.
 *
 * @module
 */
import { basename, relative, resolve } from "../deps/path.ts";
import type { EvaluationScore } from "../metrics/metrics_row.ts";
import { readJsonLines } from "../io/json_lines.ts";
import { readRegularText } from "../io/regular_file.ts";
import { findRuns, type ListedRun, runOf } from "../run/run_list.ts";
import { runPaths } from "../run/run_directory.ts";
import type { RunDetails, RunItem, SeriesQuery, SkippedRow, StudioEvent } from "./api.ts";
import { isInside, isThere } from "./confined.ts";
import { type Curve, type Series, seriesOf } from "./page/series.ts";
import { Rows } from "./rows.ts";

/** Milliseconds between two looks at the files of rows, and between two at the folders. */
const [LOOK, SCAN] = [700, 2_000];
/** Files up to here are read without being asked for. */
const SMALL = 4 << 20;
/** Skipped files that are sent. */
const MOST_SKIPPED = 1_000;

/** A run that is watched. */
interface Watched {
  readonly dir: string;
  readonly name: string;
  readonly rows: Rows;
  /** Whether all its rows are read. */
  wanted: boolean;
  item: RunItem;
}

/** Runs below a folder. Ends when it is disposed. */
export class Library implements Disposable {
  readonly #folder: string;
  #runs = new Map<string, Watched>();
  #listeners = new Set<(event: StudioEvent) => void>();
  #timers: ReturnType<typeof setInterval>[] = [];
  #pumping = false;
  #ended = false;
  #scanning: Promise<void> | undefined;
  #grown = new Set<string>();
  #said = "";

  /** Looks at nothing yet. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Looks for runs, and from then on again and again. */
  async watch(): Promise<void> {
    await this.scan();
    if (this.#ended) return;
    this.#timers = [
      setInterval(() => this.#look(), LOOK),
      setInterval(() => void this.scan(), SCAN),
    ];
  }

  /** As they are now, sorted by name. */
  get items(): RunItem[] {
    return [...this.#runs.values()].map(({ item }) => item);
  }

  /** The directory of a run; undefined where there is none of this name. */
  directory(id: string): string | undefined {
    return this.#runs.get(id)?.dir;
  }

  /** Calls `hear` with what happens until the result is called. */
  listen(hear: (event: StudioEvent) => void): () => void {
    this.#listeners.add(hear);
    return () => this.#listeners.delete(hear);
  }

  /** Looks for runs that are new or gone; calls that overlap share one look. */
  scan(): Promise<void> {
    return this.#scanning ??= this.#scan().finally(() => this.#scanning = undefined);
  }

  /** The points of curves, as far as rows were read. */
  series({ runs, metric, x, log, ...view }: SeriesQuery): Series {
    const curves = runs.map((id): Curve => {
      const run = this.#runs.get(id);
      if (!run) return { x: [], y: [] };
      this.#want(run);
      const y = run.rows.column(metric);
      return y ? { x: x === "step" ? run.rows.steps : run.rows.seconds, y } : { x: [], y: [] };
    });
    return seriesOf(curves, { ...view, log });
  }

  /** The rows of a run, as far as they were read. */
  rowsOf(id: string): Rows | undefined {
    return this.#runs.get(id)?.rows;
  }

  /** Reads all rows of a run. */
  async readAll(id: string): Promise<void> {
    const run = this.#runs.get(id);
    if (!run) return;
    this.#want(run);
    while (!this.#ended && run.rows.more()) await pause();
  }

  /** What config.json, skipped.jsonl and the rows say; undefined where there is no such run. */
  details(id: string): RunDetails | undefined {
    const run = this.#runs.get(id);
    if (!run) return undefined;
    this.#want(run);
    const paths = runPaths(run.dir);
    const config = isInside(this.#folder, paths.config) ? configOf(paths.config) : {};
    const skipped = isInside(this.#folder, paths.skipped) ? skippedOf(paths.skipped) : [];
    const { steps } = run.rows;
    const metric = run.rows.names.includes("eval_map") ? "eval_map" : "eval_accuracy";
    const scores = run.rows.column(metric satisfies keyof EvaluationScore);
    return {
      options: objectOr(config.options, null),
      machine: machineOf(config),
      resume: run.item.state === "interrupted"
        ? `deno task pretrain --resume --out ${shellWord(resolve(run.dir))}`
        : null,
      skipped: skipped.slice(0, MOST_SKIPPED),
      skippedCount: skipped.length,
      evaluations: Array.from(scores ?? [])
        .flatMap((score, i) => Number.isFinite(score) ? [{ step: steps[i], score }] : []),
      metric: scores ? metric === "eval_map" ? "mAP" : "accuracy" : null,
    };
  }

  /** Ends watching. */
  [Symbol.dispose](): void {
    this.#ended = true;
    for (const it of this.#timers) clearInterval(it);
    this.#listeners.clear();
  }

  async #scan(): Promise<void> {
    const found = new Map<string, Watched>();
    const look = async (dir: string): Promise<Watched | undefined> => {
      if (this.#ended || !isThere(runPaths(dir).config)) return undefined;
      const run = await this.#watched(dir).catch(() => undefined);
      // So that others are answered in between.
      await pause();
      return run;
    };
    for await (const run of findRuns(this.#folder, look)) found.set(run.name, run);
    if (this.#ended) return;
    this.#runs = found;
    const { items } = this;
    const text = JSON.stringify(items);
    if (text !== this.#said) {
      this.#said = text;
      this.#tell({ kind: "runs", runs: items });
    }
    void this.#pump();
  }

  async #watched(dir: string): Promise<Watched | undefined> {
    const name = relative(this.#folder, dir) || basename(resolve(dir)) || dir;
    const paths = runPaths(dir);
    const outside = [paths.config, paths.metrics, paths.skipped, paths.encoder, paths.checkpoints]
      .find((path) => isThere(path) && !isInside(this.#folder, path));
    if (outside !== undefined || !isInside(this.#folder, dir)) {
      const message = `${basename(outside ?? dir)} is a link out of the folder and is not read`;
      const rows = new Rows(paths.metrics);
      return { dir, name, rows, wanted: false, item: emptyItem(name, message) };
    }
    const known = this.#runs.get(name);
    const rows = known?.rows ?? new Rows(paths.metrics);
    rows.look();
    const { last } = rows;
    const { done, of } = rows.read;
    const seconds = done === of ? rows.seconds.at(-1) ?? 0 : last?.seconds ?? 0;
    const listed = await runOf(dir, { last, evaluated: rows.evaluated, seconds });
    if (!listed) return undefined;
    return {
      dir,
      name,
      rows,
      wanted: known?.wanted ?? (of <= SMALL),
      item: itemOf(name, listed, rows),
    };
  }

  #want(run: Watched): void {
    if (run.wanted) return;
    run.wanted = true;
    void this.#pump();
  }

  #look(): void {
    for (const run of this.#runs.values()) {
      if (run.item.message !== undefined && run.rows.length === 0) continue;
      if (run.rows.look() !== "same") this.#grown.add(run.name);
    }
    void this.#pump();
  }

  /** Reads what is to be read, a piece of each run in turn, and tells of it twice a second. */
  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    let told = performance.now();
    try {
      for (let more = true; more && !this.#ended;) {
        more = false;
        for (const run of this.#runs.values()) {
          const { done, of } = run.rows.read;
          if (!run.wanted || done >= of) continue;
          more = run.rows.more() || more;
          this.#grown.add(run.name);
          await pause();
        }
        if (performance.now() - told > 500) {
          told = performance.now();
          this.#tellGrown();
        }
      }
    } finally {
      this.#pumping = false;
      this.#tellGrown();
    }
  }

  #tellGrown(): void {
    if (this.#grown.size === 0) return;
    const runs = [...this.#grown];
    this.#grown.clear();
    this.#tell({ kind: "rows", runs });
  }

  #tell(event: StudioEvent): void {
    for (const hear of this.#listeners) hear(event);
  }
}

const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

function itemOf(name: string, listed: ListedRun, rows: Rows): RunItem {
  const { dir: _, ...rest } = listed;
  const { done, of } = rows.read;
  const { last } = rows;
  const { total_steps: total, state } = listed;
  // Clips of an update.
  const batch = last ? last.samples / last.step : NaN;
  const left = (total ?? NaN) - (last?.step ?? NaN);
  const seconds = left * batch / (last?.samples_per_s || NaN);
  return {
    ...rest,
    id: name,
    name,
    rows: rows.length,
    read: of === 0 ? 1 : done / of,
    damaged: rows.damaged,
    metrics: rows.names,
    newest: Object.fromEntries(
      Object.entries(last ?? {}).filter((it): it is [string, number] => typeof it[1] === "number"),
    ),
    left: state === "running" && Number.isFinite(seconds) ? seconds : null,
    ...(state === "damaged" && { message: "config.json cannot be read" }),
  };
}

function emptyItem(name: string, message: string): RunItem {
  return {
    ...{
      id: name,
      name,
      message,
      state: "damaged",
      rows: 0,
      read: 1,
      damaged: 0,
      metrics: [],
      newest: {},
    },
    ...{ objective: null, preset: null, steps: null, total_steps: null, epochs: null },
    ...{ checkpoint_step: null, loss: null, loss_pred: null, loss_cls: null, evaluation: null },
    ...{ seconds: null, samples_per_s: null, left: null },
  };
}

type Loose = Readonly<Record<string, unknown>>;

function objectOr<Other>(value: unknown, other: Other): Loose | Other {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? value as Loose
    : other;
}

/** config.json; nothing where it cannot be read. */
export function configOf(path: string): Loose {
  try {
    return objectOr(JSON.parse(readRegularText(path)), {});
  } catch {
    return {};
  }
}

function machineOf(config: Loose): Record<string, string> {
  const { adapter_info, versions, platform, git_commit } = config;
  const description = objectOr(adapter_info, {} as Loose).description;
  const found = { adapter: description, ...objectOr(versions, {}), platform, commit: git_commit };
  return Object.fromEntries(
    Object.entries(found).filter((it): it is [string, string] => typeof it[1] === "string"),
  );
}

function skippedOf(path: string): SkippedRow[] {
  try {
    return readJsonLines<SkippedRow>(path).rows
      .map(({ path, reason }) => ({ path: String(path), reason: String(reason) }));
  } catch {
    return [];
  }
}

/** A word as a shell reads it back. */
export function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
