/** Generated tables and indexes are those that the code gives: `deno task docs --check`. */
import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { openDevice } from "../engine/mod.ts";
import { outdated } from "./docs.ts";
import { withTable } from "./support/markdown.ts";
import { opTable } from "./support/op_table.ts";
import { memoryCell } from "./support/preset_tables.ts";
import { sampledOps } from "./support/samples.ts";

Deno.test("tables and indexes are up to date; `deno task docs` writes them", async () => {
  using device = await openDevice();
  assertEquals([...(await outdated(device)).keys()], []);
  const manual = await Deno.readTextFile(new URL("../train/README.md", import.meta.url));
  // Parameters of the published model (model/README.md, Checkpoints) with two position tables that
  // `paper` trains.
  assertMatch(manual, /^\| `base` .* 118\.3 M /m);
});

Deno.test("memory in the table of presets is written anew beyond a tenth", () => {
  assertEquals(memoryCell("100.0 MiB", 109 * 2 ** 20), "100.0 MiB");
  assertEquals(memoryCell("100.0 MiB", 112 * 2 ** 20), "112.0 MiB");
  assertEquals(memoryCell(undefined, 2 ** 31), "2.0 GiB");
});

Deno.test("the table of ops says what samples and registry do", async () => {
  const table = opTable(await sampledOps());
  const row = (name: string) => table.split("\n").find((line) => line.startsWith(`| ${name} `));
  assertMatch(row("embedding")!, /\| yes +\| yes +\| beside +\| yes +\|$/);
  assertMatch(row("argmax")!, /\| yes +\| yes +\| yes +\| no +\|$/);
  assertMatch(row("oneHot")!, /\| no +\| no +\| beside +\| no +\|$/);
  assertMatch(row("conv2d")!, /\| yes +\| through f32 +\| no +\| yes +\|$/);
});

Deno.test("a table goes between its markers and nowhere else", () => {
  const text = "a\n<!-- t: begin -->\n\nold\n\n<!-- t: end -->\nb";
  assertEquals(
    withTable(text, "t", "new"),
    "a\n<!-- t: begin -->\n\nnew\n\n<!-- t: end -->\nb",
  );
  assertThrows(() => withTable(text, "u", "new"), Error, "<!-- u: begin -->");
});
