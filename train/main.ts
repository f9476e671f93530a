/** The command line: picks the command, hands it its words and an AbortSignal, exits. */

import { wrapped } from "./cli/help.ts";
import { wantsHelp } from "./cli/parser.ts";
import { SUMMARIES } from "./cli/summaries.ts";
import { EXIT_INTERRUPTED, reportError, UsageError } from "./errors.ts";

/** What every module in `commands/` exports. */
export interface CommandModule {
  /** Text of `--help`. */
  help(): string;
  /**
   * Runs with the words after the command's name; returns the exit code. When `signal`
   * aborts, the command saves what must not be lost and returns or throws soon.
   */
  run(argv: string[], signal: AbortSignal): Promise<number>;
}

// Loaded when called, so that `--help` of one does not pay for the others.
const COMMANDS: Readonly<Record<string, () => Promise<CommandModule>>> = {
  pretrain: () => import("./commands/pretrain.ts"),
  prepare: () => import("./commands/prepare.ts"),
  import: () => import("./commands/import.ts"),
  export: () => import("./commands/export.ts"),
  inspect: () => import("./commands/inspect.ts"),
  embed: () => import("./commands/embed.ts"),
  probe: () => import("./commands/probe.ts"),
  compare: () => import("./commands/compare.ts"),
  dataset: () => import("./commands/dataset.ts"),
  visualize: () => import("./commands/visualize.ts"),
  verify: () => import("./commands/verify.ts"),
  doctor: () => import("./commands/doctor.ts"),
};

function overview(): string {
  const rows = Object.entries(SUMMARIES).map(([name, summary]) =>
    wrapped(summary, 13, `  ${name.padEnd(11)}`)
  );
  return [
    "Usage: deno task COMMAND [options]",
    "",
    ...rows,
    "",
    "deno task COMMAND --help lists the options of a command.",
  ].join("\n");
}

/**
 * Runs one command.
 *
 * @param argv the command's name and its words
 * @returns the exit code; see errors.ts
 */
export async function main(argv: readonly string[]): Promise<number> {
  const [name, ...words] = argv;
  if (name === "--help" || name === "-h") {
    console.log(overview());
    return 0;
  }
  const interrupted = new AbortController();
  try {
    if (name === undefined || !Object.hasOwn(COMMANDS, name)) {
      throw new UsageError(
        name === undefined ? "no command given" : `unknown command ${name}`,
        overview(),
      );
    }
    const command = await COMMANDS[name]();
    if (wantsHelp(words)) {
      console.log(command.help());
      return 0;
    }
    listen(interrupted);
    return await command.run(words, interrupted.signal);
  } catch (error) {
    const stopped = interrupted.signal.aborted && error === interrupted.signal.reason;
    return stopped ? EXIT_INTERRUPTED : reportError(error);
  }
}

/** Milliseconds after a signal in which another counts as the same. */
const SIGNAL_ECHO = 200;

/**
 * Aborts at the first SIGINT or SIGTERM. From then on signals do what they do by default: a second
 * one ends the process at once, also while the script waits for the GPU and could not run a
 * listener. A terminal sends Ctrl-C to this process and to the `deno task` above it, which passes
 * it on: so the first signal is waited out before another counts.
 */
export function listen(controller: AbortController): void {
  const signals: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];
  const stop = (): void => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, SIGNAL_ECHO);
    for (const it of signals) Deno.removeSignalListener(it, stop);
    controller.abort();
  };
  for (const it of signals) Deno.addSignalListener(it, stop);
}

if (import.meta.main) {
  Deno.exit(await main(Deno.args));
}
