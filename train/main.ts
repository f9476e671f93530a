/** The command line: picks the command, hands it its words and an AbortSignal, exits. */

import { VERSION } from "./version.ts";
import { overview } from "./cli/help.ts";
import { suggestion } from "./cli/nearest.ts";
import { wantsHelp, wantsVersion } from "./cli/parser.ts";
import { COMMANDS } from "./commands/mod.ts";
import { EXIT_INTERRUPTED, reportError, UsageError } from "./errors.ts";
import { restrictThreads } from "./data/thread_permissions.ts";
import { lossNow } from "./io/unfinished_work.ts";
import { outliveReaders } from "./cli/live_line.ts";
import {
  END_SIGNALS,
  NOTICE_SIGNAL,
  SIGNAL_ECHO,
  sinceInterrupted,
  watchSignals,
} from "./io/interruption.ts";
import { gitCommit } from "./io/git.ts";

/**
 * Runs one command.
 *
 * @param argv the command's name and its words
 * @returns the exit code; see errors.ts
 */
export async function main(argv: readonly string[]): Promise<number> {
  const [name, ...words] = argv;
  const interrupted = new AbortController();
  using _ = outliveReaders();
  try {
    if (name === "--help" || name === "-h") {
      console.log(overview());
      return 0;
    }
    if (wantsVersion(argv)) {
      console.log(versionText());
      return 0;
    }
    if (name === undefined || !Object.hasOwn(COMMANDS, name)) {
      throw new UsageError(
        name === undefined
          ? "no command given"
          : `unknown command ${name}${suggestion(name, Object.keys(COMMANDS))}`,
        overview(),
      );
    }
    const command = await COMMANDS[name]();
    if (wantsHelp(words)) {
      console.log(command.help());
      return 0;
    }
    listen(interrupted);
    watchSignals();
    restrictThreads();
    return await command.run(words, interrupted.signal);
  } catch (error) {
    const stopped = interrupted.signal.aborted && error === interrupted.signal.reason;
    return stopped ? EXIT_INTERRUPTED : reportError(error);
  }
}

/** What `--version` prints. */
function versionText(): string {
  const commit = gitCommit();
  return [
    `tessera ${VERSION}`,
    ...commit === undefined ? [] : [`commit ${commit.slice(0, 12)}`],
    `Deno ${Deno.version.deno}`,
  ].join(", ");
}

/** Milliseconds between two looks at a command that was told to end. */
const LOOK_INTERVAL = 250;

/** Milliseconds after the signal at which it is ended if it is still waiting. */
const LONGEST_END = 8_500;

/**
 * Aborts at the first SIGINT, SIGTERM, SIGHUP (a closed terminal) or SIGUSR1. From then on SIGINT
 * and SIGTERM do what they do by default: a second one ends the process at once, also while the
 * script waits for the GPU and could not run a listener. A terminal sends Ctrl-C to this process
 * and to the `deno task` above it, which passes it on: so the first signal is waited out before
 * another counts. Further SIGHUPs count for nothing, as shells and terminals send several.
 *
 * A command that then still waits, such as for a file system that does not answer, is ended after
 * 8.5 s, and says what is lost by that; not after SIGUSR1, which leaves it its time.
 *
 * @param exit ends the process
 */
export function listen(
  controller: AbortController,
  exit: (code: number) => void = Deno.exit,
): void {
  const stop = (signal: Deno.Signal): void => {
    if (controller.signal.aborted) return;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, SIGNAL_ECHO);
    for (const [it, hear] of listeners) {
      if (it !== "SIGHUP" && it !== NOTICE_SIGNAL) Deno.removeSignalListener(it, hear);
    }
    controller.abort();
    if (signal === NOTICE_SIGNAL) return;
    const before = sinceInterrupted();
    const start = performance.now();
    const timer = setInterval(() => {
      if (before + performance.now() - start < LONGEST_END) return;
      const text = lossNow() ?? "what it was waiting for did not come in time";
      console.error(`error: interrupted; ${text}`);
      exit(EXIT_INTERRUPTED);
    }, LOOK_INTERVAL);
    Deno.unrefTimer(timer);
  };
  const listeners = END_SIGNALS.map((it) => [it, () => stop(it)] as const);
  for (const [it, hear] of listeners) Deno.addSignalListener(it, hear);
}

if (import.meta.main) {
  Deno.exit(await main(Deno.args));
}
