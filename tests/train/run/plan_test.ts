/** What a run on data takes where nobody says how: sizes, lengths, when it is planned at all. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { join } from "@std/path";
import * as fc from "fast-check";
import { openDevice } from "../../../engine/mod.ts";
import { PRESETS } from "../../../model/objectives/presets.ts";
import { plannedHours, resolveConfig, resolvePlanned } from "../../../train/config/config.ts";
import { syntheticClip } from "../../../train/data/synthetic.ts";
import { dataSource } from "../../../train/data/data_source.ts";
import { WorkerPool } from "../../../train/data/worker_pool.ts";
import { planLengths, planSizes, soundOf } from "../../../train/run/plan.ts";
import { planRun } from "../../../train/run/plan_run.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { test } from "../../support/tier.ts";

const SOUND = { clips: 3583, hours: 1.4, median: 0.5 };
const NOW = new Date(0);

/** Writes clips of so many seconds each. */
async function writeClips(folder: string, seconds: readonly number[]): Promise<void> {
  await Deno.mkdir(folder);
  for (const [i, it] of seconds.entries()) {
    const { waveform } = syntheticClip(1, i, 16_000 * it);
    await Deno.writeFile(join(folder, `${i}.wav`), wav(waveform));
  }
}

test("plan: an hour on two cores paints short crops; a GPU and much sound get a larger model", () => {
  const small = planSizes(SOUND, 70, 1);
  assertEquals(small.painting, 0);
  assertEquals(small.values, {
    ...{ preset: "tiny", batch: 32, "crop-frames": 64, "mask-ratio": 0.5, lr: 5e-4 },
    ...{ objective: "msm-mae", "norm-pix": true, pool: "mean-std", blocks: [0, 12] },
    "log-every": 20,
  });
  assertEquals(small.contrast!.values, { contrast: 0.3, speeds: [0.75, 1.33] });
  const gpu = planSizes({ clips: 6000, hours: 12, median: 8 }, 20_000, 1);
  assertEquals([gpu.values.preset, gpu.values.objective], ["small", "matpac"]);
  assertEquals([gpu.values["crop-frames"], gpu.painting > 0], [208, true]);
  const large = planSizes({ clips: 2e6, hours: 5000, median: 10 }, 50_000, 100);
  assertEquals([large.values.preset, large.values.pool], ["base", undefined]);
  // Short clips are not filled up with silence.
  assertEquals(planSizes({ ...SOUND, hours: 12 }, 20_000, 1).values["crop-frames"], 64);
  // What is asked for stays.
  assertEquals(planSizes(SOUND, 70, 1, { preset: "base" }).values.preset, "base");
  assert(planSizes(SOUND, 70, 1, { objective: "m2d" }).painting > 0);
});

test("plan: lengths fill the time given, and every plan is a configuration", () => {
  const facts = fc.record({
    clips: fc.integer({ min: 1, max: 1e6 }),
    sound: fc.double({ min: 0, max: 1e4, noNaN: true }),
    median: fc.double({ min: 0, max: 600, noNaN: true }),
    rate: fc.double({ min: 0.1, max: 1e5, noNaN: true }),
    hours: fc.double({ min: 1e-3, max: 500, noNaN: true }),
  });
  fc.assert(
    fc.property(facts, ({ clips, sound, median, rate, hours }) => {
      const sizes = planSizes({ clips, hours: sound, median }, rate, hours);
      const rates = sizes.painting > 0 ? [rate, rate / 3] : [rate];
      const of = (values: Record<string, unknown>) =>
        resolvePlanned(["--data", "x"], NOW, { values, reasons: [] });
      const known = of({ ...sizes.values, steps: 1 });
      const { values } = planLengths(sizes, rates, hours, known);
      const config = of({ ...sizes.values, ...values });
      const { steps } = config.length as { steps: number };
      const paint = config.paint?.steps ?? 0;
      assertEquals(paint > 0, sizes.painting > 0);
      const seconds = config.batch * (paint / rates[0] + steps / rates.at(-1)!);
      const { training } = PRESETS[config.preset];
      const least = "steps" in training.length ? training.length.steps : 64;
      assert(steps >= least && (paint === 0 || paint >= least));
      const shortest = steps === least || paint === least;
      assert(shortest || seconds <= hours * 3600, `${seconds} s of ${hours} h`);
      // Rounded down to hundreds or tens, the rest is used.
      assert(shortest || seconds >= 0.85 * hours * 3600, `${seconds} s of ${hours} h`);
      const [start, end] = config.emaEncoder;
      assert(start < end && end < 1);
    }),
    { numRuns: 60, seed: 3 },
  );
});

test("plan: only runs on data are planned of which no option says how to train", () => {
  const data = ["--data", "x"];
  assertEquals(plannedHours(data), 1);
  assertEquals(plannedHours([...data, "--out", "y", "--seed", "3", "--eval", "z", "--quiet"]), 1);
  assertEquals(plannedHours([...data, "--hours", "0.5", "--preset", "small"]), 0.5);
  assertEquals(plannedHours([]), undefined);
  for (
    const more of ["--recipe paper", "--steps 5", "--preset tiny", "--lr 1e-3", "--objective m2d"]
  ) assertEquals(plannedHours([...data, ...more.split(" ")]), undefined, more);
  for (const more of ["--steps 5", "--epochs 1", "--recipe paper", "--paint-steps 3"]) {
    const words = [...data, "--hours", "1", ...more.split(" ")];
    assertThrows(() => plannedHours(words), Error, more.split(" ")[0]);
  }
  assertThrows(() => plannedHours(["--hours", "1"]), Error, "needs --data");
});

test("plan: it looks at the sounds, times the adapter, and can be repeated by its configuration", () =>
  inTempDir(async (dir) => {
    const data = join(dir, "audio");
    await writeClips(data, [1, 2, 3, 4, 5, 6]);
    await Deno.writeTextFile(join(data, "bad.wav"), "no sound");
    using pool = new WorkerPool(0);
    const source = await dataSource([data], { pool });
    const sound = await soundOf(source, pool);
    // Clips of 1 to 6 s; of the seventh nothing is known.
    assertEquals([sound.clips, sound.median], [7, 4]);
    assert(Math.abs(sound.hours * 3600 - 7 * 3.5) < 1e-6, `${sound.hours}`);
    using device = await openDevice();
    const words = ["--data", data, "--seed", "4"];
    const context = { hours: 1e-4, device, source, pool, quiet: true };
    const config = await planRun(words, NOW, context);
    assertEquals([config.objective, config.seed], ["msm-mae", 4]);
    assertEquals([config.length, config.blocks], [PRESETS.tiny.training.length, [0, 12]]);
    assert(config.plan!.some((it) => it.includes("200 updates")), config.plan!.join("\n"));
    assertEquals(Object.hasOwn(config.options, "hours"), false);
    assertEquals([config.contrast, config.crops.speeds], [0.3, [0.75, 1.33]]);
    // A pass that has no two clips contrasts none.
    const single = await planRun([...words, "--micro-batch", "2"], NOW, context);
    assertEquals([single.contrast, single.crops.cropsPerClip], [0, 1]);
    assert(!single.plan!.some((it) => it.includes("contrast")), single.plan!.join("\n"));
    const pooled = await planRun([...words, "--pool", "mean"], NOW, context);
    assertEquals([pooled.pool, pooled.blocks], ["mean", undefined]);
    const file = join(dir, "config.json");
    await Deno.writeTextFile(file, JSON.stringify(config.options));
    const { plan: _, ...same } = config;
    assertEquals(plannedHours(["--config", file]), undefined);
    assertEquals(resolveConfig(["--config", file], NOW), same);
  }));

test("plan: of several folders every second of sound counts alike, and what is given stays", () =>
  inTempDir(async (dir) => {
    const [long, short, broken] = ["long", "short", "broken"].map((it) => join(dir, it));
    await writeClips(long, [1, 2, 3, 4, 5, 6]);
    await writeClips(short, Array(60).fill(0.25));
    await Deno.mkdir(broken);
    await Deno.writeTextFile(join(broken, "bad.wav"), "no sound");
    using pool = new WorkerPool(0);
    const data = [long, short, broken];
    const sound = await soundOf(await dataSource(data, { pool }), pool);
    assertEquals([sound.clips, sound.median], [67, 0.25]);
    assertEquals(sound.each!.map((it) => Math.round(3600 * it * 1000)), [21_000, 15_000, 0]);
    assert(Math.abs(sound.hours * 3600 - 36) < 1e-9, `${sound.hours}`);
    // Minutes, and a hundredth of them all where nothing is known.
    const { values, reasons } = planSizes(sound, 70, 1);
    assertEquals(values["data-weights"], [0.35, 0.25, 0.006]);
    assert(
      reasons.some(({ text }) => text.includes("by their minutes of sound, 0.35, 0.25, 0")),
      reasons.map(({ text }) => text).join("\n"),
    );
    const words = data.flatMap((it) => ["--data", it]);
    const resolved = (...more: string[]) =>
      resolvePlanned([...words, ...more], NOW, { values: { ...values, steps: 1 }, reasons });
    assertEquals(resolved().dataWeights, [0.35, 0.25, 0.006]);
    assertEquals(resolved("--data-weights", "1,2,3").dataWeights, [1, 2, 3]);
    // What is said is of what is planned and of nothing else.
    const said = (...more: string[]) => {
      const { plan = [] } = resolved(...more);
      const of = (start: string) => plan.find((it) => it.startsWith(start));
      return [plan.length, of("crops come from"), of("crops of"), of("embeddings are")] as const;
    };
    const [count, shares, crops, readout] = said();
    assertEquals(count, reasons.length);
    assert(shares && crops && readout);
    assertEquals(
      said("--data-weights", "1,2,3", "--batch", "8", "--mask-ratio", "0.7"),
      [count - 1, undefined, `${crops} (but --batch and --mask-ratio as given)`, readout],
    );
    assertEquals(said("--blocks", "3")[3], `${readout} (but --blocks as given)`);
    assertEquals(said("--pool", "max"), [count - 1, shares, crops, undefined]);
    assertEquals(planSizes({ ...sound, each: undefined }, 70, 1).values["data-weights"], undefined);
  }));
