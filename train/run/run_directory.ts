/**
 * The directory that a run leaves behind: its paths and config.json.
 *
 * @module
 */
import { basename, join } from "../deps/path.ts";
import { VERSION } from "../version.ts";
import type { ResolvedConfig } from "../config/config.ts";
import { UsageError } from "../errors.ts";
import { isUnfinished, removeUnfinished, writeAtomic } from "../io/atomic_write.ts";
import { namesIn } from "../io/folders.ts";
import { gitCommit } from "../io/git.ts";
import { LOCK_FILE, lockFolder } from "../io/lock.ts";

/** Paths inside a run directory. */
export interface RunPaths {
  /** The run directory itself. */
  readonly dir: string;
  /** Every resolved value. */
  readonly config: string;
  /** Logged steps. */
  readonly metrics: string;
  /** Inputs that could not be used. */
  readonly skipped: string;
  /** Folder of checkpoints. */
  readonly checkpoints: string;
  /** The student's encoder at the end. */
  readonly encoder: string;
  /** Table of `--profile`. */
  readonly profileTable: string;
  /** Chrome trace of `--profile`. */
  readonly profileTrace: string;
}

/** The paths of the run directory `dir`. */
export function runPaths(dir: string): RunPaths {
  return {
    dir,
    config: join(dir, "config.json"),
    metrics: join(dir, "metrics.jsonl"),
    skipped: join(dir, "skipped.jsonl"),
    checkpoints: join(dir, "checkpoints"),
    encoder: join(dir, "encoder.safetensors"),
    profileTable: join(dir, "profile.txt"),
    profileTrace: join(dir, "profile.json"),
  };
}

/**
 * Makes the run directory and keeps other processes from writing it until the result is disposed;
 * when a run is resumed, removes what a killed process left half written.
 *
 * @throws UsageError when it holds something already and the run is not resumed, when another
 * process is writing it, or when it cannot be made
 */
export async function openRunDirectory(
  config: Pick<ResolvedConfig, "out" | "resume"> & Partial<Pick<ResolvedConfig, "ranks">>,
): Promise<RunPaths & Disposable> {
  const { out, resume } = config;
  const paths = runPaths(out);
  using opened = new DisposableStack();
  try {
    if (!resume && await holdsSomething(out)) {
      throw new UsageError(
        `--out ${out}: is not empty; give another directory, or --resume to go on with that run`,
      );
    }
    await Deno.mkdir(out, { recursive: true });
    opened.use(await lockRun(out, config.ranks ?? 1));
    await removeUnfinished(out, (name) => OWN_FILES.has(name));
    await removeUnfinished(paths.checkpoints, (name) => OWN_CHECKPOINTS.test(name));
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(
      `--out ${out}: cannot be used as a run directory`,
      error instanceof Error ? error.message : String(error),
    );
  }
  const held = opened.move();
  return { ...paths, [Symbol.dispose]: () => held.dispose() };
}

/** Files of a run directory that are written beside first. */
const OWN_FILES: ReadonlySet<string> = new Set(
  ["config", "metrics", "skipped", "encoder", "profileTable", "profileTrace"]
    .map((key) => basename(runPaths("")[key as keyof RunPaths])),
);

/** Names in the folder of checkpoints. */
export const OWN_CHECKPOINTS = /^(latest|best|step-\d{8,}\.safetensors)$/;

/**
 * Whether there is more than what a process leaves that was killed before its configuration was
 * written.
 */
async function holdsSomething(dir: string): Promise<boolean> {
  return (await namesIn(dir)).some((name) =>
    name !== LOCK_FILE && !isUnfinished(name, (it) => OWN_FILES.has(it))
  );
}

/**
 * Writes config.json: every resolved value (`options` under their option names, so that
 * the file's `options` are a configuration file themselves), adapter, versions, git commit.
 *
 * @param adapter what the engine says about the adapter, as it stands
 */
export async function writeRunConfig(
  paths: RunPaths,
  config: ResolvedConfig,
  adapter: unknown,
): Promise<void> {
  const record = {
    ...config,
    adapter_info: adapter,
    versions: { tessera: VERSION, deno: Deno.version.deno, v8: Deno.version.v8 },
    platform: `${Deno.build.os}-${Deno.build.arch}`,
    git_commit: gitCommit() ?? null,
  };
  await writeAtomic(paths.config, [
    new TextEncoder().encode(JSON.stringify(record, null, 2) + "\n"),
  ]);
}

/** Milliseconds between tries to lock a run, and how often it is tried for several ranks. */
const [PATIENCE, TRIES] = [500, 60];

/** Launchers may return before the last rank of a job that somebody killed has ended. */
async function lockRun(out: string, ranks: number): Promise<Disposable> {
  for (let tries = ranks > 1 ? TRIES : 1;; tries--) {
    try {
      return lockFolder(out, "run");
    } catch (error) {
      if (tries === 1) throw error;
    }
    await new Promise((done) => setTimeout(done, PATIENCE));
  }
}
