/**
 * The directory a run leaves behind: its paths, config.json, and writing that a reader
 * never sees half done.
 */

import { fromFileUrl, isAbsolute, join, resolve } from "@std/path";
import project from "../deno.json" with { type: "json" };
import type { ResolvedConfig } from "./config.ts";
import { UsageError } from "./errors.ts";

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
 * Makes the run directory and its `checkpoints` folder.
 *
 * @throws UsageError when it holds something already and the run is not resumed, or when
 * it cannot be made
 */
export async function openRunDirectory(
  config: Pick<ResolvedConfig, "out" | "resume">,
): Promise<RunPaths> {
  const { out, resume } = config;
  const paths = runPaths(out);
  try {
    if (!resume && await holdsSomething(out)) {
      throw new UsageError(
        `--out ${out}: is not empty; give another directory, or --resume to go on with that run`,
      );
    }
    await Deno.mkdir(paths.checkpoints, { recursive: true });
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(
      `--out ${out}: cannot be used as a run directory`,
      error instanceof Error ? error.message : String(error),
    );
  }
  return paths;
}

async function holdsSomething(dir: string): Promise<boolean> {
  try {
    for await (const _ of Deno.readDir(dir)) return true;
    return false;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
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
    versions: { tessera: project.version, deno: Deno.version.deno, v8: Deno.version.v8 },
    platform: `${Deno.build.os}-${Deno.build.arch}`,
    git_commit: gitCommit() ?? null,
  };
  await writeAtomic(paths.config, [
    new TextEncoder().encode(JSON.stringify(record, null, 2) + "\n"),
  ]);
}

/**
 * Writes `chunks` one after the other beside `path`, syncs, and renames: `path` is either
 * what it was or complete.
 */
export async function writeAtomic(path: string, chunks: Iterable<Uint8Array>): Promise<void> {
  const beside = `${path}.tmp`;
  try {
    {
      using file = await Deno.open(beside, { write: true, create: true, truncate: true });
      for (const chunk of chunks) {
        for (let done = 0; done < chunk.byteLength;) {
          done += await file.write(chunk.subarray(done));
        }
      }
      await file.sync();
    }
    await Deno.rename(beside, path);
  } catch (error) {
    await Deno.remove(beside).catch(() => {});
    throw error;
  }
}

/**
 * The commit checked out in the repository that holds `start` (default: this project), read
 * from git's own files so that no program has to be run; undefined outside a repository.
 */
export function gitCommit(start: string = fromFileUrl(new URL("..", import.meta.url))):
  | string
  | undefined {
  try {
    const git = gitDirectory(start);
    const head = Deno.readTextFileSync(join(git, "HEAD")).trim();
    const ref = /^ref: (.+)$/.exec(head)?.[1];
    if (ref === undefined) return asCommit(head);
    // In a worktree, branches are kept in the main repository.
    const common = tryRead(join(git, "commondir"))?.trim();
    const dirs = common === undefined ? [git] : [git, resolve(git, common)];
    for (const dir of dirs) {
      const loose = asCommit(tryRead(join(dir, ref))?.trim());
      if (loose !== undefined) return loose;
      const packed = tryRead(join(dir, "packed-refs"))?.split("\n")
        .find((line) => line.endsWith(` ${ref}`));
      if (packed !== undefined) return asCommit(packed.split(" ")[0]);
    }
    return undefined;
  } catch {
    return undefined;
  }
}

function gitDirectory(start: string): string {
  const git = join(start, ".git");
  if (Deno.statSync(git).isDirectory) return git;
  const target = Deno.readTextFileSync(git).replace(/^gitdir:/, "").trim();
  return isAbsolute(target) ? target : resolve(start, target);
}

function tryRead(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return undefined;
  }
}

function asCommit(text: string | undefined): string | undefined {
  return text !== undefined && /^[0-9a-f]{40}([0-9a-f]{24})?$/.test(text) ? text : undefined;
}
