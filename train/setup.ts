/**
 * Makes sure that a WebGPU adapter is there, in three processes that the task `adapter` chains:
 * `probe` looks for one; where there is none, `install` puts Mesa's software Vulkan driver in place
 * if it may, and `confirm` looks again. Separate processes, because a Vulkan loader that found no
 * driver does not look a second time; and so that only `install` may run programs. `deno task
 * setup` is `confirm` after them.
 *
 * The task `start` runs them before every command that computes, in the environment that it sets
 * for them and for the command: `NODEVICE_SELECT` silences a Vulkan layer of Mesa's that looks for
 * a display server, and `DENO_WEBGPU_BACKEND` leaves out OpenGL, which takes 0.4 s to look for. The
 * thresholds of `MALLOC_…` let glibc keep freed blocks of 32 MiB and more, up to 4 GiB of them: it
 * would get and return each from the system, page by page, and copies that large would take many
 * times as long per byte.
 *
 * Exit codes: 0 there is an adapter (`install`: the packages went in), 3 there is none.
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
  const plan = await planInstall({ os: Deno.build.os, uid: Deno.uid(), run: silently });
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
