/** `deno task completion`: what makes a shell complete the commands. */

import { command } from "../cli/command.ts";
import { type CompletedCommand, completionScript, SHELLS } from "../cli/completion.ts";
import { flag, option } from "../cli/option.ts";
import { SUMMARIES } from "../cli/summaries.ts";
import { choice, file, parsed, repeated } from "../cli/value_types.ts";
import { type CommandModule, COMMANDS } from "./mod.ts";

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

/** Commands that start by themselves, with what they alone need. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  setup: "../setup.ts",
  fuzz: "../../tests/fuzz.ts",
  bench: "../../bench/main.ts",
};

/** Loads one of them; packages are without it. */
function elsewhere(name: string): () => Promise<Pick<CommandModule, "COMMAND">> {
  return () => import(new URL(ELSEWHERE[name], import.meta.url).href);
}

/** `deno task test`, which hands its words to `deno test`. */
const TEST: CompletedCommand = {
  name: "test",
  summary: "Static checks and all tests.",
  options: {
    paths: option(repeated(file("PATH")), "Files or folders of tests.", { positional: true }),
    full: flag("Every test; otherwise the quick ones."),
    filter: option(parsed("WORDS", "words", (it) => it), "Tests whose names hold the words."),
  },
};

/** Runs the command. */
export async function run(argv: string[]): Promise<number> {
  const { shell } = COMMAND.read(argv).values;
  const commands = Object.entries(SUMMARIES).map(
    async ([name, summary]): Promise<CompletedCommand> => {
      const { COMMAND } = await (COMMANDS[name] ?? elsewhere(name))();
      return { name, summary, options: COMMAND.options };
    },
  );
  console.log(completionScript(shell, [...await Promise.all(commands), TEST]));
  return 0;
}
