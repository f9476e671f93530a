/** Generated tables and indexes are those that the code gives: `deno task docs --check`. */
import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { openDevice } from "../engine/mod.ts";
import { outdated } from "./docs.ts";
import { withTable } from "./support/markdown.ts";
import { opTable } from "./support/op_table.ts";
import { memoryCell } from "./support/preset_tables.ts";
import { composedOps, sampledOps } from "./support/samples.ts";
import { fullOnly, test } from "./support/tier.ts";

fullOnly("tables and indexes are up to date; `deno task docs` writes them", async () => {
  using device = await openDevice();
  assertEquals([...(await outdated(device)).keys()], []);
  const manual = await Deno.readTextFile(new URL("../train/README.md", import.meta.url));
  // Parameters of the published model (model/README.md, Checkpoints) with two position tables that
  // `paper` trains.
  assertMatch(manual, /^\| `base` .* 118\.3 M /m);
});

test("memory in the table of presets is written anew beyond a tenth", () => {
  assertEquals(memoryCell("100.0 MiB", 109 * 2 ** 20), "100.0 MiB");
  assertEquals(memoryCell("100.0 MiB", 112 * 2 ** 20), "112.0 MiB");
  assertEquals(memoryCell(undefined, 2 ** 31), "2.0 GiB");
});

test("the table of ops says what samples and registry do", async () => {
  const table = opTable(await sampledOps(), await composedOps());
  const row = (name: string) => table.split("\n").find((line) => line.startsWith(`| ${name} `));
  assertMatch(row("scatterAdd")!, /\| yes +\| yes +\| beside +\| yes +\|$/);
  assertMatch(row("argmax")!, /\| yes +\| yes +\| yes +\| no +\|$/);
  assertMatch(row("oneHot")!, /\| no +\| no +\| beside +\| no +\|$/);
  // Made of ops: what all of them take.
  assertMatch(row("conv1d")!, /\| yes +\| through f32 +\| no +\| yes +\|$/);
  assertMatch(row("transpose")!, /\| yes +\| yes +\| yes +\| yes +\|$/);
  // These refuse integers, which their ops take.
  for (const name of ["complexMul", "lerp", "median", "prelu", "quantile"]) {
    assertMatch(row(name)!, /\| yes +\| yes +\| no +\| yes +\|$/);
  }
  assertMatch(row("conv2d")!, /\| yes +\| through f32 +\| no +\| yes +\|$/);
});

test("a table goes between its markers and nowhere else", () => {
  const text = "a\n<!-- t: begin -->\n\nold\n\n<!-- t: end -->\nb";
  assertEquals(
    withTable(text, "t", "new"),
    "a\n<!-- t: begin -->\n\nnew\n\n<!-- t: end -->\nb",
  );
  assertThrows(() => withTable(text, "u", "new"), Error, "<!-- u: begin -->");
});

const ROOT = new URL("../", import.meta.url);
const MANUALS = ["README.md", "bench/RESULTS.md"].concat(
  ["bench", "engine", "kernels", "model", "tests", "train"].map((room) => `${room}/README.md`),
);

/** What links point at within a text: GitHub's names of its headings. */
function anchorsOf(text: string): Set<string> {
  const headings = text.replaceAll(/^```[^]*?^```/gm, "").matchAll(/^#+ (.*)$/gm);
  return new Set(
    [...headings].map(([, title]) =>
      title.toLowerCase().replaceAll(/[^\p{L}\p{N}_ -]/gu, "").replaceAll(" ", "-")
    ),
  );
}

test("links of manuals lead to files and headings that exist", () => {
  const broken = MANUALS.flatMap((manual) => {
    const text = Deno.readTextFileSync(new URL(manual, ROOT));
    const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link);
    return links.filter((link) => {
      const [path, anchor] = link.split("#");
      if (/^\w+:/.test(link)) return false;
      try {
        const target = new URL(path || manual.split("/").at(-1)!, new URL(manual, ROOT));
        if (anchor === undefined) return !Deno.statSync(target);
        return !anchorsOf(Deno.readTextFileSync(target)).has(anchor);
      } catch {
        return true;
      }
    }).map((link) => `${manual}: ${link}`);
  });
  assertEquals(broken, []);
});
