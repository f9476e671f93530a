/**
 * Updates whose batch comes in several passes against the same updates in one.
 *
 * Sums are the same up to their order: f32 rounds each of some hundred additions by 6e-8 of values
 * no larger than the sum of magnitudes. Adam's eps is raised, since a step with eps 1e-8 is as
 * large for a gradient that is nothing but rounding (that of a key's bias, which attention does not
 * see) as for any other.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { type Device, openDevice, type Tensor } from "../../../engine/mod.ts";
import { initialise } from "../../../model/objectives/initialise.ts";
import { type Mask, randomMask } from "../../../model/objectives/masking.ts";
import { Matpac } from "../../../model/objectives/matpac.ts";
import { patchGrid } from "../../../model/vit/geometry.ts";
import { lossWeights, type Recipe, RECIPES } from "../../../model/objectives/recipe.ts";
import { run as pretrainCommand } from "../../../train/commands/pretrain.ts";
import { resolveConfig } from "../../../train/config/config.ts";
import { Prng } from "../../../engine/prng.ts";
import { measureRun } from "../../../train/run/memory.ts";
import { STEP_DEFAULTS, Trainer } from "../../../train/run/update.ts";
import type { StepValues } from "../../../train/metrics/update_metrics.ts";
import { inTempDir } from "../../support/audio_files.ts";
import { SMALL } from "../../support/small_geometry.ts";
import { constantSchedules } from "../../support/constant_schedules.ts";
import { full, fullOnly, test } from "../../support/tier.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const { patches: PATCHES } = patchGrid(SMALL);
const BATCH = 6;
const UPDATES = 3;

const SCHEDULES = constantSchedules({ lr: (u) => 1e-3 * (u + 1) });

/** Rows `first` to `first + count` of a mask. */
function part({ shuffle, restore, visible }: Mask, first: number, count: number): Mask {
  const [a, b] = [shuffle, restore].map((ids) =>
    ids.subarray(first * PATCHES, (first + count) * PATCHES)
  );
  return { shuffle: a, restore: b, visible };
}

interface Outcome {
  readonly metrics: readonly StepValues[];
  readonly tensors: Readonly<Record<string, Float32Array>>;
  readonly arena: number;
  readonly dispatches: number;
}

async function train(
  device: Device,
  base: Recipe,
  passes: number,
  options: { capture?: boolean; recompute?: boolean } = {},
): Promise<Outcome> {
  const recipe: Recipe = { ...base, adam: { ...base.adam, eps: 1e-3 } };
  using model = new Matpac(device, SMALL, recipe);
  model.recompute = options.recompute ?? false;
  initialise(model, new Prng(3));
  using trainer = new Trainer(device, model, SCHEDULES, {
    ...STEP_DEFAULTS,
    weights: lossWeights(recipe, 0.3, 1),
    microBatches: passes,
    capture: options.capture,
  });
  const random = new Prng(4);
  const rows = BATCH / passes;
  for (let update = 0; update < UPDATES; update++) {
    const size = 80 * SMALL.cropFrames;
    const clips = Float32Array.from({ length: BATCH * size }, () => random.normal());
    const mask = randomMask(() => random.uniform(), BATCH, PATCHES, SMALL.maskRatio);
    for (let first = 0; first < BATCH; first += rows) {
      using input = device.tensor(clips.subarray(first * size, (first + rows) * size), [
        rows,
        80,
        SMALL.cropFrames,
      ]);
      assertEquals(trainer.step(input, part(mask, first, rows)), first + rows === BATCH);
    }
  }
  assertEquals(trainer.updates, UPDATES);
  const named: Record<string, Tensor> = {
    gradients: model.student.grads!,
    parameters: model.student.values,
    encoder: model.teacherEncoder.values,
    head: model.teacherHead.values,
    centre: model.centre,
    pending: model.pendingCentre,
    m: trainer.m,
    v: trainer.v,
  };
  const values = await device.read(Object.values(named));
  return {
    metrics: await trainer.recent(UPDATES).values(),
    tensors: Object.fromEntries(
      Object.keys(named).map((name, i) => [name, values[i] as Float32Array]),
    ),
    arena: trainer.plan?.memory.arena ?? 0,
    dispatches: trainer.dispatches ?? 0,
  };
}

function assertClose(actual: Outcome, expected: Outcome): void {
  for (const [name, values] of Object.entries(expected.tensors)) {
    const scale = values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    assert(scale > 0, name);
    const error = values.reduce(
      (most, x, i) => Math.max(most, Math.abs(x - actual.tensors[name][i])),
      0,
    );
    assert(error <= 1e-5 * scale, `${name}: ${error / scale}`);
  }
  expected.metrics.forEach((row, u) => {
    for (const [name, value] of Object.entries(row)) {
      const error = Math.abs(actual.metrics[u][name as keyof StepValues] as number - value);
      assert(error <= 1e-5 * Math.abs(value), `${name} of update ${u}: ${error / value}`);
    }
  });
}

for (const name of ["paper", "released"] as const) {
  (name === "paper" ? Deno.test : fullOnly)(
    `${name}: two, three and six passes give the update of one`,
    async () => {
      const whole = await train(device, RECIPES[name], 1);
      for (const passes of full ? [2, 3, 6] : [3]) {
        assertClose(await train(device, RECIPES[name], passes), whole);
      }
    },
  );
}

fullOnly(
  "recorded and recomputed passes give the bits of eager ones, and hold one pass's activations",
  async () => {
    const recorded = await train(device, RECIPES.paper, 3);
    for (const options of [{ capture: false }, { recompute: true }]) {
      const other = await train(device, RECIPES.paper, 3, options);
      assertEquals(other.tensors, recorded.tensors);
      assertEquals(other.metrics, recorded.metrics);
    }
    const whole = await train(device, RECIPES.paper, 1);
    assert(recorded.arena < 0.5 * whole.arena, `${recorded.arena} of ${whole.arena} bytes`);
    // Gradients are added up in one dispatch, not one for each parameter.
    const extra = recorded.dispatches / 3 - whole.dispatches;
    assert(extra < 20, `${extra} more dispatches for a pass than for a whole update`);
  },
);

fullOnly(
  "memory stays from update to update, and whole updates alone can be inspected",
  async () => {
    using model = new Matpac(device, SMALL, RECIPES.paper);
    initialise(model, new Prng(3));
    const settings = { ...STEP_DEFAULTS, weights: { pred: 0.5, cls: 0.5 }, microBatches: 2 };
    using trainer = new Trainer(device, model, SCHEDULES, settings);
    using input = device.zeros([1, 80, SMALL.cropFrames]);
    const random = new Prng(1);
    const update = async () => {
      for (let pass = 0; pass < 2; pass++) {
        trainer.step(input, randomMask(() => random.uniform(), 1, PATCHES, SMALL.maskRatio));
      }
      await device.sync();
    };
    const counters = () => [
      device.memory.liveBytes,
      device.memory.buffersCreated,
      device.counters.bindGroupsCreated,
    ];
    for (let u = 0; u < 3; u++) await update();
    const early = counters();
    for (let u = 0; u < 20; u++) await update();
    assertEquals(counters(), early);
    const mask = randomMask(() => random.uniform(), 1, PATCHES, SMALL.maskRatio);
    assertThrows(() => trainer.step(input, mask, () => {}), RangeError, "2 micro-batches");
  },
);

const WORDS = ["--batch", "4", "--crop-frames", "48", "--quiet", "--log-every", "1", "--seed", "5"];

/** Metrics of a run that do not depend on its time. */
async function metricsOf(out: string, ...words: string[]): Promise<Record<string, number>[]> {
  await pretrainCommand([...WORDS, ...words, "--out", out], new AbortController().signal);
  const lines = (await Deno.readTextFile(join(out, "metrics.jsonl"))).trim().split("\n");
  return lines.map((line) => {
    const { step, epoch, samples, loss, grad_norm, lr, target_perplexity } = JSON.parse(line);
    return { step, epoch, samples, loss, grad_norm, lr, target_perplexity };
  });
}

fullOnly(
  "a run in micro-batches draws the same clips, crops and masks, and goes on exactly",
  () =>
    inTempDir(async (dir) => {
      const out = (name: string) => join(dir, name);
      const whole = await metricsOf(out("whole"), "--steps", "3");
      const parts = await metricsOf(out("parts"), "--steps", "3", "--micro-batch", "2");
      // Full-size Adam steps on gradients that are nothing but rounding: losses move by less than
      // 1e-4 in three updates.
      parts.forEach((row, i) => {
        for (const [name, value] of Object.entries(whole[i])) {
          assert(Math.abs(row[name] - value) <= 1e-4 * Math.abs(value), `${name} of row ${i}`);
        }
      });
      const stop = new AbortController();
      stop.abort();
      const words = [...WORDS, "--steps", "3", "--micro-batch", "2", "--out", out("resumed")];
      await assertRejects(() => pretrainCommand(words, stop.signal), Error, "after step 1");
      assertEquals(await metricsOf(out("resumed"), "--resume"), parts);
    }),
);

test("a run takes memory for the activations of one pass", () => {
  const measured = (...words: string[]) =>
    measureRun(device, resolveConfig(["--crop-frames", "208", ...words]));
  const [four, twoOfFour] = [
    measured("--batch", "4"),
    measured("--batch", "4", "--micro-batch", "2"),
  ];
  const two = measured("--batch", "2");
  assert(twoOfFour.activations < 0.6 * four.activations);
  assert(Math.abs(twoOfFour.activations / two.activations - 1) < 0.05);
  // A pass fills gradients of its own, which are then added to the update's.
  assertEquals(twoOfFour.gradients, 2 * four.gradients);
});
