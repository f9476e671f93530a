/** Schedules against spot values of the papers (model/README.md, Schedules) and golden tables. */
import { exponentialDecay, linearRamp, warmupCosine } from "../../../engine/mod.ts";
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { peakLearningRate, PRESETS } from "../../../model/objectives/presets.ts";
import { mixedRecipe, RECIPES } from "../../../model/objectives/recipe.ts";
import { resolveConfig } from "../../../train/config/config.ts";
import { CHOICE_TEMPERATURE, HARD_CHOICE, schedulesOf } from "../../../train/run/schedule.ts";
import golden from "../../golden/matpac_step.json" with { type: "json" };

/** Clips of AudioSet as the released schedules count them. */
const CLIPS = 2_012_615;
const { schedules } = golden.scalars;

/** Both sides compute in float64, in another order. */
const close = (actual: number, expected: number, what: string) =>
  assert(
    Math.abs(actual - expected) <= 1e-14 + 1e-12 * Math.abs(expected),
    `${what}: ${actual}, not ${expected}`,
  );

Deno.test("the published schedules have their spot values", () => {
  const [total, warmup] = [294_816, 19_654];
  const lr = warmupCosine(3e-4, warmup, total);
  assertEquals(lr(0), 0);
  assertAlmostEquals(lr(9827), 1.5e-4, 1e-12);
  assertAlmostEquals(lr(100_000), 2.4119e-4, 1e-8);
  assertAlmostEquals(lr(200_000), 7.9637e-5, 1e-9);
  const temperature = linearRamp(0.04, 0.07, 9827);
  assertEquals(temperature(0), 0.04);
  assertAlmostEquals(temperature(9827), 0.07, 1e-15);
  assertEquals(temperature(50_000), 0.07);
  assertAlmostEquals(linearRamp(0.99995, 0.99999, total)(100_000), 0.99996357, 1e-8);
  const head = linearRamp(0.998, 1, total);
  assertAlmostEquals(head(100_000), 0.99867839, 1e-8);
  // At and past the end the head's decay is 1, where the released code falls back to another.
  assertEquals(head(total), 1);
  assertEquals(head(total + 5), 1);
  // MATPAC++ turns hard at u = 230,256.
  const choice = exponentialDecay(CHOICE_TEMPERATURE.start, CHOICE_TEMPERATURE.decay);
  assertEquals(choice(230_255) > HARD_CHOICE, true);
  assertEquals(choice(230_256) > HARD_CHOICE, false);
});

Deno.test("schedules of base by epochs and by steps are the official code's tables", () => {
  const words = ["--preset", "base", "--recipe", "released"];
  const { cosine_lr: cosine, full_size: full } = schedules;
  const steps = [
    ...[...words, "--steps", String(full.max_update)],
    ...["--warmup", String(cosine.warmup_updates)],
  ];
  for (const argv of [words, steps]) {
    const config = resolveConfig(argv);
    const run = schedulesOf(config, CLIPS);
    assertEquals(run.total, full.max_update);
    for (const { u, lr } of cosine.rows) close(run.lr(u), lr, `lr(${u})`);
    for (const row of full.rows) {
      const { u } = row;
      close(run.teacherTemp(u), row.teacher_temp, `temperature(${u})`);
      // null: the official code does not average at update 0.
      const { encoder_decay_set_in_forward: encoder, head_decay_set_in_forward: head } = row;
      if (encoder !== null) close(run.emaEncoder(u), encoder, `encoder decay(${u})`);
      // Past its end the official head falls to the encoder's decay (row 13 of the differences).
      if (head !== null && u < run.total) close(run.emaHead(u), head, `head decay(${u})`);
    }
  }
});

Deno.test("schedules of a short run are the official code's tables", () => {
  const { max_update: total, teacher_temp_warmup_steps: warmup, rows } = schedules;
  const run = schedulesOf(
    {
      ...PRESETS.base.training,
      objective: "matpac",
      lr: 3e-4,
      length: { steps: total },
      teacherTempWarmup: { steps: warmup },
      choices: RECIPES.released,
    },
    CLIPS,
  );
  for (const row of rows) {
    close(run.teacherTemp(row.u), row.teacher_temp, `temperature(${row.u})`);
    if (row.u === 0) continue;
    close(run.emaEncoder(row.u), row.encoder_decay_set_in_forward!, `encoder decay(${row.u})`);
    const head = row.u < total ? row.head_decay_set_in_forward! : 1;
    close(run.emaHead(row.u), head, `head decay(${row.u})`);
  }
  const choice = exponentialDecay(CHOICE_TEMPERATURE.start, CHOICE_TEMPERATURE.decay);
  for (const { u, temperature } of schedules.mcl_temperature.rows) {
    close(choice(u), temperature, `multiple-choice temperature(${u})`);
  }
});

for (const recipe of ["paper", "released"] as const) {
  for (const by of ["epochs", "steps"] as const) {
    Deno.test(`base has the published schedules, recipe ${recipe}, length in ${by}`, () => {
      // 300 epochs are 294,816 updates, 20 of warm-up 19,654 (model/README.md, Schedules); the
      // paper's rate is for 256 clips, of 2048.
      const length = { epochs: ["--epochs", "300"], steps: ["--steps", "294816"] }[by];
      const config = resolveConfig([
        ...["--preset", "base", "--recipe", recipe, ...length],
        ...(by === "steps" ? ["--warmup", "19654"] : []),
      ]);
      const run = schedulesOf(config, CLIPS);
      assertEquals([run.total, config.batch], [294_816, 2048]);
      const scale = recipe === "paper" ? 8 : 1;
      const rates = [
        [0, 0, 0],
        [9827, 1.5e-4, 1e-12],
        [19_654, 3e-4, 1e-12],
        [100_000, 2.4119e-4, 1e-8],
        [200_000, 7.9637e-5, 1e-9],
        [294_816, 0, 1e-15],
      ];
      for (const [u, rate, tolerance] of rates) {
        assertAlmostEquals(run.lr(u), scale * rate, scale * tolerance, `lr(${u})`);
      }
      const temperatures = [[0, 0.04], [4913.5, 0.055], [9827, 0.07], [200_000, 0.07]];
      for (const [u, temperature] of temperatures) {
        assertAlmostEquals(run.teacherTemp(u), temperature, 1e-15, `temperature(${u})`);
      }
      const decays = [[0, 0.99995, 0.998], [100_000, 0.99996357, 0.99867839], [
        294_816,
        0.99999,
        1,
      ]];
      for (const [u, encoder, head] of decays) {
        assertAlmostEquals(run.emaEncoder(u), encoder, 1e-8, `encoder decay(${u})`);
        assertAlmostEquals(run.emaHead(u), head, 1e-8, `head decay(${u})`);
      }
    });
  }
}

Deno.test("the number of clips of an epoch comes from the data, the paper or the released code", () => {
  const { training } = PRESETS.base;
  const total = (side?: "paper" | "released") => {
    const choices = mixedRecipe("paper", { "dataset-size": side });
    return schedulesOf({ ...training, objective: "matpac", lr: 1, choices }, 20_480).total;
  };
  // floor(clips * 300 / 2048)
  assertEquals([total(), total("paper"), total("released")], [3000, 294_758, 294_816]);
});

Deno.test("the paper scales the rate with the batch, the released code does not", () => {
  const { peakRate, batch } = PRESETS.base.training;
  assertAlmostEquals(peakLearningRate(peakRate.paper, batch), 2.4e-3, 1e-15);
  assertEquals(peakLearningRate(peakRate.released, batch), 3e-4);
});

Deno.test("a run without warm-up starts at the peak and ends at zero", () => {
  const lr = warmupCosine(1, 0, 10);
  assertEquals(lr(0), 1);
  assertAlmostEquals(lr(10), 0, 1e-15);
});
