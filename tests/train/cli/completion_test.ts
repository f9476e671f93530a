/** The nearest word, and the scripts of completion. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { completionScript, SHELLS } from "../../../train/cli/completion.ts";
import { run as completionCommand } from "../../../train/commands/completion.ts";
import { editDistance, nearest, suggestion } from "../../../train/cli/nearest.ts";
import { flag, option } from "../../../train/cli/option.ts";
import { choice, folder, repeated, whole } from "../../../train/cli/value_types.ts";

Deno.test("nearest: distances and words", () => {
  for (
    const [a, b, distance] of [
      ["", "", 0],
      ["", "abc", 3],
      ["kitten", "sitting", 3],
      ["pretrian", "pretrain", 1],
      ["ca", "abc", 3],
      ["setps", "steps", 1],
    ] as const
  ) {
    assertEquals([editDistance(a, b), editDistance(b, a)], [distance, distance], `${a} ${b}`);
  }
  const words = ["adapter", "batch", "steps", "out", "lr", "micro-batch", "workers"];
  for (
    const [word, meant] of [
      ["setps", "steps"],
      ["STEPS", "steps"],
      ["micro_batch", "micro-batch"],
      ["device", "adapter"],
      ["learning_rate", "lr"],
      ["num-workers", "workers"],
      ["adap", "adapter"],
      ["nope", undefined],
      ["x".repeat(1e6), undefined],
      ["toString", undefined],
      ["model", undefined],
    ] as const
  ) {
    assertEquals(nearest(word, words), meant, word.slice(0, 20));
  }
  assertEquals(suggestion("setps", words, "--"), "; did you mean --steps?");
  assertEquals(suggestion("nope", words, "--"), "");
});

Deno.test("completion: commands that start elsewhere have their options", async () => {
  const { log } = console;
  const printed: string[] = [];
  console.log = (text: string) => void printed.push(text);
  try {
    assertEquals(await completionCommand(["bash"]), 0);
  } finally {
    console.log = log;
  }
  for (
    const [name, options] of Object.entries({
      bench: "--filter --quick --json",
      fuzz: "--seconds --seed --target --keep",
      setup: "--quiet",
      test: "--full --filter",
      pretrain: "--preset",
    })
  ) {
    const [, names] = printed[0].split(`    ${name})\n      names='`);
    assertStringIncludes(names.split("'")[0], options);
  }
});

Deno.test("completion: every shell's script has commands, options, words and folders", () => {
  const options = {
    dir: option(repeated(folder()), "Don't [brackets].", { positional: true }),
    mode: option(choice(["slow", "fast"]), "How."),
    count: option(whole(1), "How many."),
    quiet: flag("Says nothing."),
  };
  const wanted = {
    bash: [
      "names='--mode --count --quiet --help --version'",
      "--mode) action='words slow fast'",
      "'') action='folder'",
      "compgen -W 'inspect' ",
    ],
    zsh: [
      "'*:Don'\\''t \\[brackets\\]:_files -/'",
      "'--mode=[How]:mode:(slow fast)'",
      "'--quiet[Says nothing]'",
      "'inspect:Looks'",
    ],
    fish: [
      "'__tessera_task inspect' -l mode -x -a 'slow fast' -d 'How'",
      "-l quiet -f -d 'Says nothing'",
      "-f -a '(__fish_complete_directories (commandline -ct))' -d 'Don\\'t [brackets]'",
      "-f -a inspect -d 'Looks'",
    ],
  };
  for (const shell of SHELLS) {
    const script = completionScript(shell, [{ name: "inspect", summary: "Looks.", options }]);
    for (const part of wanted[shell]) assertStringIncludes(script, part);
  }
});
