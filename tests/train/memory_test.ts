/** Runs that do not fit are refused before they take memory, and what they take is known. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { openDevice } from "../../engine/mod.ts";
import { run } from "../../train/commands/pretrain.ts";
import { resolveConfig } from "../../train/config.ts";
import { exitCodeOf } from "../../train/errors.ts";
import { measureRun, memoryText, totalBytes } from "../../train/memory.ts";
import { inTempDir } from "./data/files.ts";

const WORDS = ["--quiet", "--steps", "2"];
const QUICK = [...WORDS, "--batch", "2", "--crop-frames", "48"];

const pretrain = (words: string[]) => run(words, new AbortController().signal);

Deno.test("a run's memory is measured without taking any, and grows with what it should", async () => {
  using device = await openDevice();
  const { buffersCreated } = device.memory;
  const measured = (...words: string[]) =>
    measureRun(device, resolveConfig([...WORDS, "--crop-frames", "208", ...words]));
  const [two, four] = [measured("--batch", "2"), measured("--batch", "4")];
  const recomputed = measured("--batch", "4", "--recompute");
  assertEquals(device.memory.buffersCreated, buffersCreated);
  assertEquals([two.parameters, two.gradients], [four.parameters, four.gradients]);
  assertEquals(two.optimizer, 2 * two.parameters);
  assert(four.activations > 1.8 * two.activations && four.activations < 2.2 * two.activations);
  assert(recomputed.activations < 0.6 * four.activations);
  assertStringIncludes(memoryText(two), "activations");
});

Deno.test("a run stays within what was measured, and one byte less refuses it with exit code 5", () =>
  inTempDir(async (dir) => {
    using device = await openDevice();
    const needed = totalBytes(measureRun(device, resolveConfig(QUICK)));
    const out = (name: string) => ["--out", join(dir, name)];
    assertEquals(await pretrain([...QUICK, "--memory-limit", `${needed}`, ...out("a")]), 0);
    const error = await assertRejects(() =>
      pretrain([...QUICK, "--memory-limit", `${needed - 1}`, ...out("b")])
    );
    assertEquals(exitCodeOf(error), 5);
    assertStringIncludes((error as Error).message, "the run needs");
    const { details } = error as Error & { details: string };
    for (
      const option of ["--micro-batch", "--crop-frames", "--preset", "--recompute", "activations"]
    ) {
      assertStringIncludes(details, option);
    }
  }));

Deno.test("a run above the adapter's largest buffer is refused before it starts", () =>
  inTempDir(async (dir) => {
    const error = await assertRejects(() =>
      pretrain([...WORDS, "--batch", "2048", "--out", join(dir, "a")])
    );
    assertEquals(exitCodeOf(error), 5);
    assertStringIncludes((error as Error).message, "this adapter's largest is");
  }));

Deno.test("--anomaly trains to the same numbers and names the op that breaks", () =>
  inTempDir(async (dir) => {
    const rows = async (name: string) =>
      (await Deno.readTextFile(join(dir, name, "metrics.jsonl"))).trim().split("\n")
        .map((line) => JSON.parse(line).loss);
    const words = [...QUICK, "--log-every", "1"];
    assertEquals(await pretrain([...words, "--anomaly", "--out", join(dir, "a")]), 0);
    assertEquals(await pretrain([...words, "--out", join(dir, "b")]), 0);
    assertEquals(await rows("a"), await rows("b"));
    const error = await assertRejects(() =>
      pretrain([...QUICK, "--anomaly", "--lr", "1e30", "--warmup", "0", "--out", join(dir, "c")])
    ) as Error;
    assertEquals([error.name, exitCodeOf(error)], ["AnomalyError", 1]);
    assertStringIncludes(error.message, "holds");
  }));
