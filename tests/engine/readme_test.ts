/** Examples of README.md and engine/README.md, from their text and run without permission. */
import { assert, assertAlmostEquals } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { deno } from "../support/deno_process.ts";

const ROOT = fromFileUrl(new URL("../..", import.meta.url));

/** A manual's example that uses the engine and holds a text. */
async function example(manual: string, text: string, mostLines: number): Promise<string> {
  const readme = await Deno.readTextFile(`${ROOT}${manual}`);
  const blocks = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code);
  const code = blocks.find((it) => it.includes("engine/mod.ts") && it.includes(text));
  if (code === undefined) throw new Error(`${manual} has no example with ${text}`);
  const lines = code.trim().split("\n").filter((line) => line !== "");
  assert(lines.length <= mostLines, `${lines.length} lines, not ${mostLines} as promised`);
  return code;
}

/** What the code prints. */
async function run(code: string): Promise<string> {
  return (await deno(["run", "--no-prompt", "--check", "--quiet", "-"], code)).out;
}

Deno.test("the README's regression runs as printed and finds the line", async () => {
  // Ten lines and the import.
  const [weight, bias] = (await run(await example("README.md", "sgdStep", 11))).split(" ").map(
    Number,
  );
  assertAlmostEquals(weight, 2, 1e-2);
  assertAlmostEquals(bias, 1, 2e-2);
});

Deno.test("engine/README.md's transformer runs as printed and tells shapes apart", async () => {
  const right = Number(await run(await example("engine/README.md", "TransformerBlock", 39)));
  assert(right > 0.9, `${100 * right} % right`);
});
