/** The speed guard: what counts as slower, and the command as users run it. */
import { assert, assertEquals } from "@std/assert";
import { learn } from "../../bench/check.ts";
import type { Row } from "../../bench/harness.ts";
import { fullOnly, test } from "../support/tier.ts";

const MAIN = new URL("../../bench/main.ts", import.meta.url).pathname;

async function bench(...words: string[]) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--no-check", "--allow-read", "--allow-write", MAIN, ...words],
  }).output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

/** Names of the rows that a check calls failed. */
function failed(out: string): string[] {
  return [...out.matchAll(/^(\S+) .* failed$/gm)].map(([, name]) => name);
}

fullOnly("no kernel has fallen below half of what the baseline expects of it", async () => {
  // Fractions of ceilings measured beside each kernel, a band of half, a second try for what fell.
  // What else runs on a shared machine can halve a fraction now and then, but not every time; a
  // kernel at half its speed fails every time.
  let names: string[] = [];
  for (let attempt = 0; attempt < 4; attempt++) {
    const filter = names.map((name) => name.replace(/[^\w/-]/g, "\\$&")).join("|");
    const { code, out, err } = await bench(
      ...["--check", "--quick", "--band", "0.5"],
      ...(names.length > 0 ? ["--filter", `^(${filter})$`] : []),
    );
    const verdict = out.trimEnd().split("\n").at(-1)!;
    assert(/^check: /.test(verdict), `${out}\n${err}`);
    if (/too noisy to judge:|nothing is judged/.test(verdict)) {
      console.log(`not judged: ${verdict}`);
    }
    if (code === 0) return;
    names = failed(out);
    assert(names.length > 0, out);
    console.log(`attempt ${attempt + 1}: ${verdict}: ${names.join(", ")}`);
  }
  assertEquals(names, [], "these fell below half of the baseline four times in a row");
});

test("wrong words are refused before anything is measured", async () => {
  for (
    const words of [
      ["--filter", "("],
      ["--band", "1.5", "--check"],
      ["--learn", "0"],
      ["--check", "--learn", "2"],
      ["--filter", "no such benchmark"],
    ]
  ) {
    const { code, err } = await bench(...words);
    assertEquals(code, 2, `${words}: ${err}`);
  }
});

test("one kernel: lines, JSON and page", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const [json, page] = [`${folder}/a.json`, `${folder}/a.html`];
    const name = "layernorm/forward/1072x768";
    const { code, out, err } = await bench(
      ...["--quick", "--filter", `^${name}$`, "--json", json, "--html", page],
    );
    assertEquals(code, 0, err);
    assert(out.includes(name) && out.includes("% of copy"), out);
    const { ceiling, results }: { ceiling: Record<string, number>; results: Row[] } = JSON.parse(
      await Deno.readTextFile(json),
    );
    assert(Object.values(ceiling).every((it) => it > 0));
    const [row] = results;
    assertEquals([results.length, row.name, row.bound], [1, name, "copy"]);
    assert(row.ms > 0 && row.gbps! > 0 && row.fraction > 0 && row.naive_ratio! > 0);
    assertEquals(Object.keys(learn([results])), [name]);
    assert((await Deno.readTextFile(page)).includes(name));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
