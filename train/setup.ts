/**
 * Makes sure that a WebGPU adapter is there, in three processes that the task `adapter` chains:
 * `probe` looks for one; where there is none, `install` puts Mesa's software Vulkan driver in place
 * if it may, and `confirm` looks again. Separate processes, because a Vulkan loader that found no
 * driver does not look a second time; and so that only `install` may run more than `grep` and
 * `mkdir`. `deno task setup` is `confirm` after them.
 *
 * The task `start` runs them before every command that computes, in the environment that it sets
 * for them and for the command: `NODEVICE_SELECT` silences a Vulkan layer of Mesa's that looks for
 * a display server, and `DENO_WEBGPU_BACKEND` leaves out OpenGL, which takes 0.4 s to look for. The
 * thresholds of `MALLOC_…` let glibc keep freed blocks of 32 MiB and more, up to 4 GiB of them: it
 * would get and return each from the system, page by page, and copies that large would take many
 * times as long per byte. `lanes` prints what {@link wideVectors} finds.
 *
 * Exit codes: 0 there is an adapter (`install`: the packages went in; `lanes`: always), 3 there is
 * none.
 *
 * @module
 */

// Not the whole engine: this must be quick.
import { INSTALL_COMMAND, SOFTWARE_ADAPTER_PACKAGES } from "../engine/errors.ts";
import { command } from "./cli/command.ts";
import { flag } from "./cli/option.ts";
import { wantsHelp } from "./cli/parser.ts";
import { reportError } from "./errors.ts";

const NO_ADAPTER = 3;

/** The command as help, parsing and completion see it. */
export const COMMAND = command({
  name: "setup",
  options: { quiet: flag("Say nothing where all is well.") },
});

/** A program and its words, or the reason why packages cannot be installed from here. */
export type InstallPlan =
  | { readonly prefix: readonly string[] }
  | { readonly obstacle: string };

/** What of the machine decides how packages can be installed. */
export interface Machine {
  readonly os: string;
  readonly uid: number | null;
  /** Exit code of a program; undefined where there is no such program. */
  run(program: string, args: readonly string[]): Promise<number | undefined>;
}

/** How `apt-get` can be called here: as root, or through sudo that asks for no password. */
export async function planInstall(machine: Machine): Promise<InstallPlan> {
  if (machine.os !== "linux") return { obstacle: "packages are installed on Linux only" };
  if (await machine.run("apt-get", ["--version"]) !== 0) {
    return { obstacle: "there is no apt-get" };
  }
  if (machine.uid === 0) return { prefix: ["apt-get"] };
  if (await machine.run("sudo", ["-n", "true"]) === 0) {
    return { prefix: ["sudo", "-n", "DEBIAN_FRONTEND=noninteractive", "apt-get"] };
  }
  return { obstacle: "this is not root, and sudo is missing or wants a password" };
}

/**
 * Variables of the environment, `NAME=VALUE`, that make Mesa's software driver compute in vectors
 * of 16 floats instead of 8, where the processor has AVX-512 (kernels/README.md says what it
 * gains); none where the width has been chosen already. The kernels go to a cache of their own, for
 * Mesa's does not tell widths apart: below `MESA_SHADER_CACHE_DIR`, else in the folder for caches.
 *
 * @param variable reads an environment variable
 */
export async function wideVectors(
  machine: Machine,
  variable: (name: string) => string | undefined,
): Promise<string[]> {
  if (machine.os !== "linux" || variable("LP_NATIVE_VECTOR_WIDTH")) return [];
  // Deno itself reads below /proc only where it may do everything.
  if (await machine.run("grep", ["-qw", "avx512bw", "/proc/cpuinfo"]) !== 0) return [];
  const home = variable("HOME");
  const base = variable("MESA_SHADER_CACHE_DIR") || variable("XDG_CACHE_HOME") ||
    (home && `${home}/.cache`);
  // The shell of tasks would take white space for the end of a value. Mesa makes one folder, not
  // those above it.
  if (!base || /\s/.test(base) || await machine.run("mkdir", ["-p", base]) !== 0) return [];
  return ["LP_NATIVE_VECTOR_WIDTH=512", `MESA_SHADER_CACHE_DIR=${base}/mesa_16_lanes`];
}

async function adapterName(): Promise<string | undefined> {
  const adapter = await navigator.gpu?.requestAdapter();
  return adapter ? adapter.info.description || adapter.info.device || "unnamed" : undefined;
}

function noAdapter(reason: string): number {
  const packaged = Deno.build.os === "linux";
  console.error(`error: no WebGPU adapter: ${reason}`);
  console.error(
    packaged
      ? `Install a software adapter with:\n  ${INSTALL_COMMAND}`
      : "Install or update the graphics driver of this machine.",
  );
  return NO_ADAPTER;
}

async function install(): Promise<number> {
  const plan = await planInstall(thisMachine(Deno.uid()));
  if ("obstacle" in plan) return noAdapter(`none was found, and ${plan.obstacle}`);
  console.error(
    `No WebGPU adapter; installing ${SOFTWARE_ADAPTER_PACKAGES.join(" and ")} (once) …`,
  );
  const [program, ...words] = plan.prefix;
  // An unreachable extra source makes the update fail although the packages can be had.
  await loudly(program, [...words, "update"]);
  const code = await loudly(program, [
    ...words,
    "install",
    "-y",
    "--no-install-recommends",
    ...SOFTWARE_ADAPTER_PACKAGES,
  ]);
  return code === 0 ? 0 : noAdapter(`apt-get ended with code ${code}`);
}

const thisMachine = (uid: number | null): Machine => ({ os: Deno.build.os, uid, run: silently });

async function silently(program: string, args: readonly string[]): Promise<number | undefined> {
  try {
    const streams = { stdin: "null", stdout: "null", stderr: "null" } as const;
    return (await new Deno.Command(program, { args: [...args], ...streams }).output()).code;
  } catch (error) {
    // A program that is not installed cannot be permitted either.
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotCapable) {
      return undefined;
    }
    throw error;
  }
}

async function loudly(program: string, args: readonly string[]): Promise<number> {
  const child = new Deno.Command(program, {
    args: [...args],
    env: { DEBIAN_FRONTEND: "noninteractive" },
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
  });
  return (await child.output()).code;
}

async function main([stage, ...argv]: readonly string[]): Promise<number> {
  if (wantsHelp(argv)) {
    console.log(COMMAND.help());
    return 0;
  }
  if (stage === "install") return await install();
  if (stage === "lanes") {
    console.log((await wideVectors(thisMachine(null), (it) => Deno.env.get(it))).join(" "));
    return 0;
  }
  const adapter = await adapterName();
  if (stage === "probe") return adapter === undefined ? NO_ADAPTER : 0;
  const { quiet } = COMMAND.read(argv).values;
  if (adapter === undefined) {
    return noAdapter("none was found, also after the software driver was installed");
  }
  if (!quiet) console.log(`adapter: ${adapter}`);
  return 0;
}

if (import.meta.main) {
  Deno.exit(await main(Deno.args).catch(reportError));
}
