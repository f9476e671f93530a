/** `pretrain --profile`: what it leaves, and that training does not notice. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { run } from "../../../train/commands/pretrain.ts";
import { full, fullOnly } from "../../support/tier.ts";

const QUICK = ["--batch", "2", "--crop-frames", "48", "--quiet", "--log-every", "1"];

/** Losses of a run of `steps` updates. */
async function losses(out: string, steps: number, ...argv: string[]): Promise<number[]> {
  const words = [...QUICK, "--steps", `${steps}`, "--out", out, ...argv];
  assertEquals(await run(words, new AbortController().signal), 0);
  const text = await Deno.readTextFile(join(out, "metrics.jsonl"));
  return text.trim().split("\n").map((line) => JSON.parse(line).loss);
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

Deno.test("--profile leaves a table and a trace, and the run's numbers as they were", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const profiled = await losses(join(dir, "a"), 7, "--profile", "2");
    if (full) {
      assertEquals(profiled, await losses(join(dir, "b"), 7));
      assertEquals(await exists(join(dir, "b", "profile.txt")), false);
    }

    const text = await Deno.readTextFile(join(dir, "a", "profile.txt"));
    assertStringIncludes(text, "GFLOP/s");
    assertMatch(text, /^gemm\w* .* % /m);
    assertMatch(text, /^attention_forward .* % /m);
    const { traceEvents } = JSON.parse(
      await Deno.readTextFile(join(dir, "a", "profile.json")),
    );
    const names: string[] = traceEvents.map((it: { name: string }) => it.name);
    assertEquals(names.filter((name) => name === "log_mel").length, 2, "one per profiled update");
    assert(names.length > 200);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

fullOnly(
  "--profile: a run that ends early leaves what there is, or says why there is nothing",
  async () => {
    const dir = await Deno.makeTempDir();
    try {
      await losses(join(dir, "a"), 4, "--profile", "100");
      assert(await exists(join(dir, "a", "profile.json")));
      await losses(join(dir, "b"), 2, "--profile", "1");
      assertEquals(await exists(join(dir, "b", "profile.json")), false);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
);
