/**
 * The directory a run leaves behind: its paths, config.json, and writing that a reader
 * never sees half done.
 */

import { dirname, fromFileUrl, isAbsolute, join, resolve } from "@std/path";
import project from "../../deno.json" with { type: "json" };
import type { ResolvedConfig } from "../config/config.ts";
import { nameDiskFull, UsageError } from "../errors.ts";
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

/** What a file that is being written is called until it is whole. */
const BESIDE = ".tmp";

/**
 * Makes the run directory and keeps other processes from writing it until the result is disposed;
 * when a run is resumed, removes what a killed process left half written.
 *
 * @throws UsageError when it holds something already and the run is not resumed, when another
 * process is writing it, or when it cannot be made
 */
export async function openRunDirectory(
  config: Pick<ResolvedConfig, "out" | "resume">,
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
    opened.use(lockFolder(out, "run"));
    for (const dir of [out, paths.checkpoints]) await removeUnfinished(dir);
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

/**
 * Whether there is more than what a process leaves that was killed before its configuration was
 * written.
 */
async function holdsSomething(dir: string): Promise<boolean> {
  return (await namesIn(dir)).some((name) => name !== LOCK_FILE && !name.endsWith(BESIDE));
}

async function removeUnfinished(dir: string): Promise<void> {
  for (const name of await namesIn(dir)) {
    if (name.endsWith(BESIDE)) await Deno.remove(join(dir, name));
  }
}

/** Names in a folder; none when there is no folder. */
export async function namesIn(dir: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const { name } of Deno.readDir(dir)) names.push(name);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return names;
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
 * what it was or complete, also after a loss of power where the file system keeps its promises.
 *
 * @throws {DiskFullError} if there is no room
 */
export async function writeAtomic(path: string, chunks: Iterable<Uint8Array>): Promise<void> {
  const beside = `${path}${BESIDE}`;
  try {
    {
      using file = await Deno.open(beside, { write: true, create: true, truncate: true });
      for (const chunk of gathered(chunks)) {
        for (let done = 0; done < chunk.byteLength;) {
          done += await file.write(chunk.subarray(done));
        }
      }
      await file.sync();
    }
    await Deno.rename(beside, path);
  } catch (error) {
    await Deno.remove(beside).catch(() => {});
    throw nameDiskFull(error, path);
  }
  await syncFolder(dirname(path));
}

/** Bytes that small chunks are gathered to: beside training, each write waits for an update. */
const GATHERED_BYTES = 1 << 24;

/** The same bytes in fewer chunks. */
function* gathered(chunks: Iterable<Uint8Array>): Generator<Uint8Array> {
  let small: Uint8Array[] = [];
  let bytes = 0;
  for (const chunk of chunks) {
    if (bytes + chunk.byteLength > GATHERED_BYTES) {
      yield concat(small, bytes);
      [small, bytes] = [[], 0];
    }
    if (chunk.byteLength > GATHERED_BYTES) yield chunk;
    else {
      small.push(chunk);
      bytes += chunk.byteLength;
    }
  }
  yield concat(small, bytes);
}

function concat(chunks: readonly Uint8Array[], bytes: number): Uint8Array {
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.byteLength;
  }
  return whole;
}

/** Makes a rename in a folder last. Not every system can open a folder: then that is left to it. */
async function syncFolder(dir: string): Promise<void> {
  try {
    using folder = await Deno.open(dir, { read: true });
    await folder.sync();
  } catch {
    // The file itself is synced.
  }
}

/**
 * The commit checked out in the repository that holds `start` (default: this project), read
 * from git's own files so that no program has to be run; undefined outside a repository.
 */
export function gitCommit(start: string = fromFileUrl(new URL("../..", import.meta.url))):
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
