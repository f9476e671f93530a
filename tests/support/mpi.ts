/** Jobs of several ranks, for tests; both libraries of Debian can be there side by side. */
import { fromFileUrl } from "@std/path";
import { LAUNCH_VARIABLES } from "../../train/cluster/launcher.ts";

const ROOT = fromFileUrl(new URL("../../", import.meta.url));

/** Ranks share the cores with all other tests, so none may spin while it waits. */
const OPEN_MPI = [
  ...["--allow-run-as-root", "--oversubscribe"],
  ...["--mca", "mpi_yield_when_idle", "1", "--mca", "btl_vader_single_copy_mechanism", "none"],
];

/** A launcher and the words that it needs before those of the program. */
export interface Launcher {
  readonly name: string;
  readonly words: readonly string[];
}

function isThere(name: string): boolean {
  try {
    return new Deno.Command(name, { args: ["--version"], stdout: "null", stderr: "null" })
      .outputSync().success;
  } catch {
    return false;
  }
}

const ALL: readonly Launcher[] = [
  { name: "mpirun.openmpi", words: OPEN_MPI },
  { name: "mpirun.mpich", words: [] },
];

/** The launchers of this machine. */
export const LAUNCHERS: readonly Launcher[] = ALL.filter(({ name }) => isThere(name));

/** Permissions of a program that joins a group, beside those of its own. */
export const GROUP_PERMISSIONS: readonly string[] = [
  "--no-prompt",
  "--allow-ffi",
  "--allow-read",
  `--allow-env=TESSERA_MPI,${LAUNCH_VARIABLES}`,
];

/** What became of a job. */
export interface JobOutcome {
  readonly code: number;
  /** Lines of standard output of all ranks, in any order. */
  readonly lines: readonly string[];
  readonly err: string;
}

/** Starts a program of Deno as so many ranks. */
export function startJob(
  { name, words }: Launcher,
  ranks: number,
  program: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Deno.ChildProcess {
  return new Deno.Command(name, {
    args: [...words, "-n", String(ranks), Deno.execPath(), "run", "--no-check", ...program],
    cwd: ROOT,
    env: { NO_COLOR: "1", NODEVICE_SELECT: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Waits for a job. */
export async function outcomeOf(job: Deno.ChildProcess): Promise<JobOutcome> {
  const { code, stdout, stderr } = await job.output();
  const [out, err] = [stdout, stderr].map((it) => new TextDecoder().decode(it));
  return { code, lines: out.split("\n").filter((line) => line !== ""), err };
}

/** A test for each launcher, skipped with a message where there is none. */
export function mpiTest(
  name: string,
  fn: (launcher: Launcher) => Promise<void>,
  declare: Declare = Deno.test,
): void {
  for (const launcher of ALL) {
    const whole = `${launcher.name}: ${name}`;
    if (LAUNCHERS.includes(launcher)) declare(whole, () => fn(launcher));
    else Deno.test({ name: `${whole} (it is not installed)`, ignore: true, fn: () => {} });
  }
}

type Declare = (name: string, fn: () => Promise<void>) => void;

/**
 * Declares what is the same whatever the library is: with Open MPI, and with others as `others`
 * does, if given.
 */
export function once(declare: Declare, others?: Declare): Declare {
  return (name, fn) => (name.startsWith(ALL[0].name) ? declare : others)?.(name, fn);
}
