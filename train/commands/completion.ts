/** `deno task completion`: what makes a shell complete the commands. */

import { command } from "../cli/command.ts";
import { type CompletedCommand, completionScript, SHELLS } from "../cli/completion.ts";
import { option } from "../cli/option.ts";
import { SUMMARIES } from "../cli/summaries.ts";
import { choice } from "../cli/value_types.ts";
import { COMMANDS } from "./mod.ts";

/** The command as help and parsing see it. */
export const COMMAND = command({
  name: "completion",
  options: {
    shell: option(choice(SHELLS), "Which shell's.", { positional: true, required: true }),
  },
  footer: "deno task -q completion bash > ~/.tessera-completion, and in ~/.bashrc (~/.zshrc, " +
    "behind compinit; config.fish): source ~/.tessera-completion",
});

/** Text of `--help`. */
export const help = COMMAND.help;

/** Runs the command. */
export async function run(argv: string[]): Promise<number> {
  const { shell } = COMMAND.read(argv).values;
  const commands = Object.entries(SUMMARIES).map(
    async ([name, summary]): Promise<CompletedCommand> => ({
      ...{ name, summary },
      options: Object.hasOwn(COMMANDS, name) ? (await COMMANDS[name]()).COMMAND.options : {},
    }),
  );
  console.log(completionScript(shell, await Promise.all(commands)));
  return 0;
}
