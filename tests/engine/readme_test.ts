/**
 * Examples of README.md and engine/README.md, from their text and run without permission; the full
 * tier checks the types of these and of README's others (train/downstream/embed_test.ts runs them).
 */
import { assert, assertAlmostEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { deno } from "../support/deno_process.ts";
import { inTempDir } from "../support/audio_files.ts";
import { fullOnly, test } from "../support/tier.ts";

const ROOT = new URL("../..", import.meta.url);

/** A manual's example that uses the engine and holds a text. */
async function exampleOf(manual: string, text: string): Promise<string> {
  const readme = await Deno.readTextFile(new URL(manual, ROOT));
  const blocks = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code);
  const code = blocks.find((it) => it.includes("engine/mod.ts") && it.includes(text));
  if (code === undefined) throw new Error(`${manual} has no example with ${text}`);
  return code;
}

async function example(manual: string, text: string, mostLines: number): Promise<string> {
  const code = await exampleOf(manual, text);
  const lines = code.trim().split("\n").filter((line) => line !== "");
  assert(lines.length <= mostLines, `${lines.length} lines, not ${mostLines} as promised`);
  return code;
}

/** What the code prints. */
async function run(code: string): Promise<string> {
  return (await deno(["run", "--no-prompt", "--no-check", "--quiet", "-"], code)).out;
}

test("the README's regression runs as printed and finds the line", async () => {
  // Ten lines and the import.
  const [weight, bias] = (await run(await example("README.md", "sgdStep", 11))).split(" ").map(
    Number,
  );
  assertAlmostEquals(weight, 2, 1e-2);
  assertAlmostEquals(bias, 1, 2e-2);
});

// The quick tier trains a transformer in examples/gpt_test.ts.
fullOnly("engine/README.md's transformer runs as printed and tells shapes apart", async () => {
  const right = Number(await run(await example("engine/README.md", "TransformerBlock", 39)));
  assert(right > 0.9, `${100 * right} % right`);
});

fullOnly("the types of the READMEs' examples fit", () =>
  inTempDir(async (dir) => {
    const files: string[] = [];
    for (
      const [manual, text] of [
        ...[["README.md", "sgdStep"], ["engine/README.md", "TransformerBlock"]],
        ...[["README.md", "loadWaveform"], ["README.md", "Deno.serve"]],
      ]
    ) {
      files.push(join(dir, `${files.length}.ts`));
      const code = await exampleOf(manual, text);
      await Deno.writeTextFile(files.at(-1)!, code.replaceAll('"./', `"${ROOT}`));
    }
    const config = fromFileUrl(new URL("deno.json", ROOT));
    await deno(["check", "--quiet", "--config", config, ...files]);
  }));
