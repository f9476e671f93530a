/** The README's examples, taken from its text and run without any permission. */
import { assert, assertAlmostEquals, assertEquals, assertMatch } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { withTable } from "../support/readme.ts";
import { opTable } from "../support/op_table.ts";
import { sampledOps } from "../support/samples.ts";
import { deno } from "../support/deno_process.ts";

const ROOT = fromFileUrl(new URL("../..", import.meta.url));

/** The README's `index`-th example that uses the engine. */
async function example(index: number, mostLines: number): Promise<string> {
  const readme = await Deno.readTextFile(`${ROOT}README.md`);
  const blocks = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code);
  const code = blocks.filter((it) => it.includes("engine/mod.ts"))[index];
  if (code === undefined) throw new Error(`README.md has no example ${index}`);
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
  const [weight, bias] = (await run(await example(0, 11))).split(" ").map(Number);
  assertAlmostEquals(weight, 2, 1e-2);
  assertAlmostEquals(bias, 1, 2e-2);
});

Deno.test("the README's transformer runs as printed and tells shapes apart", async () => {
  const right = Number(await run(await example(1, 39)));
  assert(right > 0.9, `${100 * right} % right`);
});

Deno.test("the README's table of ops is the registry's; tests/support/op_table.ts writes it", async () => {
  const readme = await Deno.readTextFile(`${ROOT}README.md`);
  const table = opTable(await sampledOps());
  assertEquals(readme, withTable(readme, "ops", table));
  const row = (name: string) => table.split("\n").find((line) => line.startsWith(`| ${name} `));
  assertMatch(row("embedding")!, /\| yes +\| yes +\| beside +\| yes +\|$/);
  assertMatch(row("argmax")!, /\| yes +\| yes +\| yes +\| no +\|$/);
  assertMatch(row("oneHot")!, /\| no +\| no +\| beside +\| no +\|$/);
  assertMatch(row("conv2d")!, /\| yes +\| through f32 +\| no +\| yes +\|$/);
});
