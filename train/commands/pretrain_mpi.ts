/** `deno task pretrain:mpi`: one of the processes of a job. */

import { fromWords, group as inGroup, judge, option } from "../cli/option.ts";
import { command } from "../cli/command.ts";
import { parseArguments, type RawArguments } from "../cli/parser.ts";
import { number } from "../cli/value_types.ts";
import { adapterChoice, cardsOf, hasDeviceSelect } from "../cluster/adapters.ts";
import { openGroup } from "../cluster/group.ts";
import { systemFiles } from "../cluster/system_files.ts";
import { PRETRAIN } from "../config/config.ts";
import { EXIT_INTERRUPTED, InterruptedError, reportError } from "../errors.ts";
import { environment } from "../io/environment.ts";
import { run as pretrain } from "./pretrain.ts";

/** What it has besides the options of `pretrain`. */
const OWN = inGroup("Job", {
  timeout: option(
    number({ above: 0, unit: "seconds" }),
    "How long a rank waits for others before it ends the job; for rank 0 it waits longer while " +
      "that evaluates or saves.",
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
  if (group.size > 1) chooseAdapter(group.localRank);
  let code: number;
  try {
    code = await pretrain(withoutOwn(argv), signal, group);
  } catch (error) {
    if (!(error instanceof InterruptedError && error.together)) return await group.abort(error);
    if (group.rank === 0) reportError(error);
    code = EXIT_INTERRUPTED;
  }
  // Rank 0 may still have been writing.
  if (group.rank > 0) group.waitForFirst();
  await group.gather("");
  await group.finish(code);
  return code;
}

/** Has the Vulkan loader name this process's card first: it reads variables when it starts. */
function chooseAdapter(localRank: number | undefined): void {
  const files = systemFiles();
  const [cards, layer] = [cardsOf(files), hasDeviceSelect(files, environment)];
  const choice = adapterChoice({ localRank, cards, layer, get: environment });
  for (const [name, value] of Object.entries(choice?.variables ?? {})) {
    if (value === null) Deno.env.delete(name);
    else Deno.env.set(name, value);
  }
}

/** The words that `pretrain` has as well. */
function withoutOwn(argv: readonly string[]): string[] {
  return argv.filter((word, i) =>
    !/^--timeout(=|$)/.test(word) && !(i > 0 && argv[i - 1] === "--timeout")
  );
}
