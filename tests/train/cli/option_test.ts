/** Options: what words become, what is refused and how, and what help looks like. */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import denoJson from "../../../deno.json" with { type: "json" };
import { command, refuse } from "../../../train/cli/command.ts";
import { flag, group, option } from "../../../train/cli/option.ts";
import { SUMMARIES } from "../../../train/cli/summaries.ts";
import {
  choice,
  file,
  number,
  pair,
  parsed,
  repeated,
  several,
  sides,
  whole,
} from "../../../train/cli/value_types.ts";
import { UsageError } from "../../../train/errors.ts";

const COMMAND = command({
  name: "inspect",
  options: {
    input: option(file("IN"), "What is read.", { positional: true, required: true }),
    out: option(file(), "What is written.", { required: true }),
    data: option(repeated(file()), "May be given several times.", { default: [] }),
    count: option(whole(2, 9), "How many.", { default: 4 }),
    ...group("Numbers", {
      rate: option(number({ above: 0, below: 1 }), "A share.", { defaultText: "as it fits" }),
      span: option(pair(number({ from: 0, to: 1 })), "From and to."),
      layers: option(several(whole(1), { most: 3, distinct: true }), "Which ones."),
      size: option(sides(whole(1, 8, "B"), whole(1, 8, "F"), "two sizes"), "Of a patch."),
    }),
    mode: option(choice(["slow", "fast"]), "How.", { default: "slow" }),
    even: option(
      parsed("N", "an even number", (it) => Number(it) % 2 === 0 ? Number(it) : undefined),
      "Even.",
    ),
    quiet: flag("Says nothing."),
  },
  footer: "The end.",
});
const NEEDED = ["in.pt", "--out", "out.pt"];

Deno.test("option: words become typed values, defaults fill in what is not given", () => {
  assertEquals(COMMAND.read(NEEDED).values as unknown, {
    ...{ input: "in.pt", out: "out.pt", data: [], count: 4, mode: "slow", quiet: false },
  });
  const words = "--data a --data=b --count 9 --rate 5e-1 --span 0,1 --layers 3,1 --size 2x4 " +
    "--mode fast --even 6 --quiet";
  const { values, words: given } = COMMAND.read([...NEEDED, ...words.split(" ")]);
  assertEquals(values, {
    ...{ input: "in.pt", out: "out.pt", data: ["a", "b"], count: 9, rate: 0.5, span: [0, 1] },
    ...{ layers: [3, 1], size: [2, 4], mode: "fast", even: 6, quiet: true },
  });
  assertEquals([given.rate, given.quiet], ["5e-1", true]);
  assertEquals(COMMAND.read(NEEDED).words, { input: "in.pt", out: "out.pt" });
});

Deno.test("option: what is wrong is named with what is allowed, all of it at once", () => {
  const messages = (...words: string[]): string[] => {
    const error = assertThrows(() => COMMAND.read(words), UsageError);
    return [error.message, ...(error.details ?? "").split("\n")];
  };
  for (
    const [name, word, allowed] of [
      ["count", "1", "a whole number from 2 to 9"],
      ["count", "2.5", "a whole number from 2 to 9"],
      ["count", "", "a whole number from 2 to 9"],
      ["rate", "1", "a number above 0 and below 1"],
      ["rate", "Infinity", "a number above 0 and below 1"],
      ["span", "0.5", "two numbers from 0 to 1 with a comma between them"],
      ["span", "0,2", "two numbers from 0 to 1 with a comma between them"],
      ["layers", "1,1", "at most 3 different whole numbers from 1 with commas between them"],
      ["layers", "1,2,3,4", "at most 3 different whole numbers from 1 with commas between them"],
      ["size", "2", "two sizes"],
      ["size", "2x9", "two sizes"],
      ["mode", "odd", "slow or fast"],
      ["even", "3", "an even number"],
      ["out", "", "a file"],
    ] as const
  ) {
    const words = name === "out" ? ["in.pt"] : NEEDED;
    assertEquals(
      messages(...words, `--${name}`, word)[0],
      `--${name} ${word || '""'}: must be ${allowed}`,
    );
  }
  assertEquals(messages("--count", "0", "--mode", "x"), [
    "IN: is needed",
    "--out: is needed",
    "--count 0: must be a whole number from 2 to 9",
    "--mode x: must be slow or fast",
    "See: deno task inspect --help",
  ]);
  assertThrows(
    () => refuse(COMMAND.read([...NEEDED, "--quiet"]).words, ["rate", "quiet"], "not here"),
    UsageError,
    "--quiet: not here",
  );
});

Deno.test("option: help has the options without a group first, the others under headings", () => {
  assertEquals(
    COMMAND.help(),
    `Usage: deno task inspect IN --out FILE [options]

${SUMMARIES.inspect}

  IN                    What is read. (needed)
  --out FILE            What is written. (needed)
  --data FILE           May be given several times.
  --count N             How many. (default: 4)
  --mode slow|fast      How. (default: slow)
  --even N              Even.
  --quiet               Says nothing.

Numbers:
  --rate X              A share. (default: as it fits)
  --span X,X            From and to.
  --layers N[,N...]     Which ones.
  --size BxF            Of a patch.

The end.`,
  );
});

Deno.test("option: every command's help fits 80 columns, with ten options or less at the top", async () => {
  const tasks: Readonly<Record<string, { description: string }>> = denoJson.tasks;
  for (const [name, summary] of Object.entries(SUMMARIES)) {
    assertEquals(tasks[name].description, summary);
    if (["setup", "bench", "fuzz"].includes(name)) continue;
    const { help } = await import(`../../../train/commands/${name.replace(":", "_")}.ts`);
    const text: string = help();
    assertStringIncludes(text.replace(/\s+/g, " "), `deno task ${name}`);
    assertStringIncludes(text.replace(/\s+/g, " "), summary);
    for (const line of text.split("\n")) assert(line.length <= 80, `${name}: ${line}`);
    const top = text.split(/^\S.*:$/m)[0].match(/^ {2}--/gm) ?? [];
    assert(top.length <= 10, `${name}: ${top.length}`);
  }
});
