/** `deno task pretrain:mpi`: one of the processes of a job. */

import { fromWords, group as inGroup, judge, option } from "../cli/option.ts";
import { command } from "../cli/command.ts";
import { parseArguments, type RawArguments } from "../cli/parser.ts";
import { number } from "../cli/value_types.ts";
import { openGroup } from "../cluster/group.ts";
import { PRETRAIN } from "../config/config.ts";
import { EXIT_INTERRUPTED, InterruptedError, reportError } from "../errors.ts";
import { run as pretrain } from "./pretrain.ts";

/** What it has besides the options of `pretrain`. */
const OWN = inGroup("Job", {
  timeout: option(
    number({ above: 0, unit: "seconds" }),
    "How long a rank waits for others before it ends the job; more than an evaluation and a " +
      "checkpoint take.",
    { default: 600 },
  ),
});

/** The command as help and parsing see it. */
export const COMMAND = command({
  name: "pretrain:mpi",
  options: { ...PRETRAIN.options, ...OWN },
});

/** Text of `--help`. */
export const help = COMMAND.help;

/**
 * Joins the job and trains. Whatever ends one rank ends all: none leaves before all are done, as
 * launchers take an early end without an error for success.
 */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const words = parseArguments(COMMAND.program, COMMAND.options, argv);
  const given: RawArguments = words.timeout === undefined ? {} : { timeout: words.timeout };
  const { timeout } = judge(OWN, fromWords(OWN, given), {});
  const group = await openGroup({ timeout });
  let code: number;
  try {
    code = await pretrain(withoutOwn(argv), signal, group);
  } catch (error) {
    if (!(error instanceof InterruptedError && error.together)) return await group.abort(error);
    if (group.rank === 0) reportError(error);
    code = EXIT_INTERRUPTED;
  }
  // Rank 0 may still have been writing.
  await group.gather("");
  await group.finish(code);
  return code;
}

/** The words that `pretrain` has as well. */
function withoutOwn(argv: readonly string[]): string[] {
  return argv.filter((word, i) =>
    !/^--timeout(=|$)/.test(word) && !(i > 0 && argv[i - 1] === "--timeout")
  );
}
