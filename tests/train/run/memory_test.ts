/** Runs that do not fit are refused before they take memory, and what they take is known. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { openDevice } from "../../../engine/mod.ts";
import { LogMel } from "../../../model/frontend/log_mel.ts";
import { Matpac } from "../../../model/objectives/matpac.ts";
import { run } from "../../../train/commands/pretrain.ts";
import { resolveConfig } from "../../../train/config/config.ts";
import { Prng } from "../../../engine/prng.ts";
import { labelledFolder } from "../../../train/data/labelled_folder.ts";
import { syntheticClip } from "../../../train/data/synthetic.ts";
import { exitCodeOf } from "../../../train/errors.ts";
import { Evaluator, QUICK_PROBE } from "../../../train/run/evaluate.ts";
import { measureRun, memoryText, totalBytes } from "../../../train/run/memory.ts";
import { LinearProbes } from "../../../train/downstream/probe/linear_probes.ts";
import { runProbe } from "../../../train/downstream/probe/probe.ts";
import { probeData } from "../../../train/downstream/probe/splits.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { fullOnly, test } from "../../support/tier.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const WORDS = ["--quiet", "--steps", "2"];
const QUICK = [...WORDS, "--batch", "2", "--crop-frames", "48"];

const pretrain = (words: string[]) => run(words, new AbortController().signal);

test("a run's memory is measured without taking any, and grows with what it should", () => {
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

test("a run stays within what was measured, and one byte less refuses it with exit code 5", () =>
  inTempDir(async (dir) => {
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

fullOnly("an evaluation is counted, and takes no more than that", () =>
  inTempDir(async (dir) => {
    const folder = join(dir, "labelled");
    Deno.mkdirSync(join(folder, "audio"), { recursive: true });
    // Clips of many chunks, and many of one short chunk.
    const long = [1, 2, 3, 4].map(() => 12 * 16_000);
    const lengths = [...long, ...Array.from({ length: 40 }, (_, i) => 2000 + 100 * (i % 5))];
    const names = lengths.map((samples, i) => {
      const { waveform } = syntheticClip(1, i, samples);
      Deno.writeFileSync(join(folder, "audio", `${i}.wav`), wav(waveform, 16_000));
      return `${i}.wav,${i % 2},${1 + (i >> 1) % 2}`;
    });
    Deno.writeTextFileSync(
      join(folder, "meta.csv"),
      ["filename,label,fold", ...names].join("\n") + "\n",
    );
    for (const crop of ["48", "208"]) {
      const words = [...WORDS, "--batch", "1", "--crop-frames", crop];
      using device = await openDevice(); // Its peak is looked at.
      const measured = (...more: string[]) =>
        measureRun(device, resolveConfig([...words, ...more]));
      const { evaluation } = measured("--eval", folder);
      assertEquals(measured().evaluation, 0);
      assertEquals(
        totalBytes(measured("--eval", folder)) - totalBytes(measured()),
        evaluation,
      );
      assertStringIncludes(memoryText(measured("--eval", folder)), "evaluation");

      const { geometry, choices } = resolveConfig(words);
      using model = new Matpac(device, geometry, choices);
      using frontend = new LogMel(device);
      const before = device.memory.liveBytes;
      const labelled = labelledFolder(folder);
      await new Evaluator({ device, model, frontend, folder: labelled }).score();
      const taken = device.memory.peakBytes - before;
      assert(
        taken <= evaluation && taken > 0.5 * evaluation,
        `${taken} bytes taken, ${evaluation} counted`,
      );
    }
  }));

fullOnly("probing takes no more than is counted for it, and more than half of that", async () => {
  for (const [count, dim, classes, folds] of [[700, 320, 7, 4], [90, 1000, 3, 10]]) {
    const clips = Array.from({ length: count }, (_, i) => ({
      ...{ path: `${i}`, labels: [`${i % classes}`] },
      part: String(Math.floor(i / classes) % folds),
    }));
    const data = probeData({ dir: "", clips, protocol: "leave-one-part-out" }, clips);
    const random = new Prng(5);
    const features = Float32Array.from({ length: count * dim }, () => random.uniform(-1, 1));
    const protocol = { ...QUICK_PROBE, epochs: 2 };
    using device = await openDevice(); // Its peak is looked at.
    await runProbe({ device, data, features, metric: "accuracy", protocol });
    const tried = Math.ceil(count / folds);
    const sizes = { clips: count, dim, classes, problems: folds, tried };
    const counted = LinearProbes.bytes(device, sizes, protocol);
    const { peakBytes } = device.memory;
    assert(peakBytes <= counted && peakBytes > 0.5 * counted, `${peakBytes} of ${counted}`);
  }
});

test("a run above the adapter's largest buffer is refused before it starts", () =>
  inTempDir(async (dir) => {
    const error = await assertRejects(() =>
      pretrain([...WORDS, "--batch", "2048", "--out", join(dir, "a")])
    );
    assertEquals(exitCodeOf(error), 5);
    assertStringIncludes((error as Error).message, "this adapter's largest is");
  }));

fullOnly(
  "--anomaly trains to the same numbers and names the op that breaks",
  () =>
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
    }),
);
