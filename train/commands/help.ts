/** `deno task help`: all commands, or the options of one. */

import { command } from "../cli/command.ts";
import { overview } from "../cli/help.ts";
import { suggestion } from "../cli/nearest.ts";
import { option } from "../cli/option.ts";
import { SUMMARIES } from "../cli/summaries.ts";
import { choice } from "../cli/value_types.ts";
import { UsageError } from "../errors.ts";
import { COMMANDS } from "./mod.ts";

/** The command as help and parsing see it. */
export const COMMAND = command({
  name: "help",
  options: {
    command: option(choice(Object.keys(SUMMARIES), "COMMAND"), "Of which command.", {
      positional: true,
      defaultText: "all commands in a line each",
    }),
  },
});

/** Text of `--help`. */
export const help = COMMAND.help;

/** Runs the command. */
export async function run([name, ...rest]: string[]): Promise<number> {
  if (name !== undefined && !name.startsWith("-") && !Object.hasOwn(SUMMARIES, name)) {
    throw new UsageError(
      `unknown command ${name}${suggestion(name, Object.keys(SUMMARIES))}`,
      overview(),
    );
  }
  const given = COMMAND.read(name === undefined ? [] : [name, ...rest]).values.command;
  if (given === undefined) console.log(overview());
  else if (Object.hasOwn(COMMANDS, given)) console.log((await COMMANDS[given]()).help());
  else {
    const summary = SUMMARIES[given as keyof typeof SUMMARIES];
    console.log(`Usage: deno task ${given} [options]\n\n${summary}`);
    if (given !== "setup") console.log(`\ndeno task ${given} --help lists its options.`);
  }
  return 0;
}
