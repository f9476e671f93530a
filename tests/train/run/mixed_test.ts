/** Mixed precision: close to f32, exact about what it skips, and resumed exactly. */
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { join } from "@std/path";
import { type Device, openDevice } from "../../../engine/mod.ts";
import { readSafetensors } from "../../../engine/formats/safetensors.ts";
import { initialise } from "../../../model/objectives/initialise.ts";
import { randomMask } from "../../../model/objectives/masking.ts";
import type { Precision } from "../../../model/objectives/masked_model.ts";
import { Matpac } from "../../../model/objectives/matpac.ts";
import { patchGrid } from "../../../model/vit/geometry.ts";
import { lossWeights, type Recipe, RECIPES } from "../../../model/objectives/recipe.ts";
import { loadCheckpoint, saveCheckpoint } from "../../../train/run/checkpoint.ts";
import { run as pretrainCommand } from "../../../train/commands/pretrain.ts";
import { resolveConfig } from "../../../train/config/config.ts";
import { Prng } from "../../../engine/prng.ts";
import { syntheticSource } from "../../../train/data/clip_source.ts";
import { DivergedError } from "../../../train/errors.ts";
import { pretrain } from "../../../train/run/loop.ts";
import { GROWTH_WINDOW } from "../../../train/run/loss_scale.ts";
import { measureRun } from "../../../train/run/memory.ts";
import { refuseDivergence } from "../../../train/run/metrics_log.ts";
import { Progress } from "../../../train/cli/progress.ts";
import { openRunDirectory } from "../../../train/run/run_directory.ts";
import { cropSamples } from "../../../train/run/schedule.ts";
import { STEP_DEFAULTS, Trainer } from "../../../train/run/update.ts";
import type { StepValues } from "../../../train/metrics/update_metrics.ts";
import { inTempDir } from "../../support/audio_files.ts";
import { SMALL } from "../../support/small_geometry.ts";
import { constantSchedules } from "../../support/constant_schedules.ts";
import { fullOnly, test } from "../../support/tier.ts";

const { patches: PATCHES } = patchGrid(SMALL);
const BATCH = 4;

/** Every value differs from update to update, so that taking another update's shows. */
const SCHEDULES = constantSchedules({
  lr: (u) => 1e-3 * (1 + u / 8),
  teacherTemp: (u) => 0.05 + 0.001 * u,
  emaEncoder: (u) => 0.9 + 0.001 * u,
  emaHead: (u) => 0.8 + 0.002 * u,
});

/** A small model with its trainer; batches come from one generator. */
class Run implements Disposable {
  readonly model: Matpac;
  readonly trainer: Trainer;
  readonly #clips: Float32Array;

  constructor(
    readonly device: Device,
    precision: Precision,
    readonly passes = 1,
    recipe: Recipe = RECIPES.paper,
    options: { capture?: boolean; recompute?: boolean } = {},
  ) {
    this.model = new Matpac(device, SMALL, recipe, precision);
    this.model.recompute = options.recompute ?? false;
    initialise(this.model, new Prng(3));
    this.trainer = new Trainer(device, this.model, SCHEDULES, {
      ...STEP_DEFAULTS,
      weights: lossWeights(recipe, 0.5, 1),
      microBatches: passes,
      capture: options.capture,
    });
    const random = new Prng(4);
    this.#clips = Float32Array.from(
      { length: BATCH * 80 * SMALL.cropFrames },
      () => random.normal(),
    );
  }

  /** One update; masks belong to `seed`. */
  update(seed: number): void {
    const random = new Prng(5, seed);
    const rows = BATCH / this.passes;
    const size = this.#clips.length / this.passes;
    for (let pass = 0; pass < this.passes; pass++) {
      using input = this.device.tensor(this.#clips.subarray(pass * size, (pass + 1) * size), [
        rows,
        80,
        SMALL.cropFrames,
      ]);
      this.trainer.step(
        input,
        randomMask(() => random.uniform(), rows, PATCHES, SMALL.maskRatio),
      );
    }
  }

  /** Overwrites the loss scale, which overflows every gradient when it is large. */
  async setScale(scale: number): Promise<void> {
    const { state } = this.trainer.lossScale!;
    const [, , clean, skipped, applied, gate] = await state.data();
    this.device.write(
      state,
      Float32Array.of(scale, 1 / scale, clean, skipped, applied, gate),
    );
  }

  /** Loss scale, updates since it changed, skipped and applied updates. */
  async scale(): Promise<{ scale: number; clean: number; skipped: number; applied: number }> {
    const [scale, inverse, clean, skipped, applied] = await this.trainer.lossScale!.state.data();
    assertEquals(scale * inverse, 1);
    return { scale, clean, skipped, applied };
  }

  /** What an update may change, except the loss scale. */
  async state(): Promise<unknown> {
    const { model, trainer } = this;
    return await this.device.read([
      model.student.values,
      model.teacherEncoder.values,
      model.teacherHead.values,
      model.centre,
      model.pendingCentre,
      trainer.m,
      trainer.v,
    ]);
  }

  [Symbol.dispose](): void {
    this.trainer[Symbol.dispose]();
    this.model[Symbol.dispose]();
  }
}

/** Of all tests here: what one of them compiled is there for the next. */
const device = await openDevice();

const OVERFLOWING = 2 ** 60;

for (const name of ["paper", "released"] as const) {
  fullOnly(`${name}: 40 updates in mixed precision stay within 2 % of f32`, async () => {
    const losses = async (precision: Precision): Promise<number[]> => {
      using run = new Run(device, precision, 1, RECIPES[name]);
      for (let u = 0; u < 40; u++) run.update(u);
      return (await run.trainer.recent(40).values()).map(({ loss }) => loss);
    };
    const [full, mixed] = [await losses("f32"), await losses("mixed")];
    assert(full[39] < 0.9 * full[0], `the loss went from ${full[0]} to ${full[39]}`);
    assert(mixed.some((loss, u) => loss !== full[u]));
    mixed.forEach((loss, u) =>
      assert(Math.abs(loss / full[u] - 1) < 0.02, `${loss} for ${full[u]} in update ${u}`)
    );
  });
}

fullOnly("gradients are those of f32, whatever the loss scale", async () => {
  const gradients = async (precision: Precision, scale?: number): Promise<Float32Array> => {
    using run = new Run(device, precision);
    run.update(0);
    if (scale) await run.setScale(scale);
    run.update(1);
    return await run.model.student.grads!.data();
  };
  const expected = await gradients("f32");
  const largest = expected.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  for (const scale of [2, 128, 512]) {
    const actual = await gradients("mixed", scale);
    // Layouts differ, the sum of squares does not: f16 rounds every activation and gradient by up
    // to 2^-11.
    const norm = (x: Float32Array) => Math.sqrt(x.reduce((sum, value) => sum + value * value, 0));
    assertAlmostEquals(norm(actual) / norm(expected), 1, 5e-3, `scale ${scale}`);
    const top = actual.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    assertAlmostEquals(top / largest, 1, 2e-2, `scale ${scale}`);
  }
});

for (const passes of [1, 2]) {
  fullOnly(
    `an overflow skips exactly that update and halves the scale (${passes} passes)`,
    async () => {
      // Also in the first update, and with the host hearing of it before or after the next.
      for (const [at, hears] of [[0, true], [2, true], [2, false]] as const) {
        using plain = new Run(device, "mixed", passes);
        using skipping = new Run(device, "mixed", passes);
        for (let u = 0; u < 4; u++) {
          if (u === at) {
            if (u === 0) {
              // The state comes with the first update.
              skipping.trainer.lossScale!.restore(
                Float32Array.of(OVERFLOWING, 1 / OVERFLOWING, 0, 0, 0, 0),
              );
            } else await skipping.setScale(OVERFLOWING);
            const before = await skipping.state();
            skipping.update(100);
            assertEquals(await skipping.state(), before);
            assertEquals(
              await skipping.scale(),
              { scale: OVERFLOWING / 2, clean: 0, skipped: 1, applied: at },
            );
            await skipping.setScale(128);
            if (hears) {
              const [{ skipped, skipped_updates, clip_coefficient }] = await skipping.trainer
                .recent(1).values();
              assertEquals([skipped, skipped_updates, clip_coefficient], [true, 1, 0]);
            }
          }
          plain.update(u);
          skipping.update(u);
        }
        assertEquals(await skipping.state(), await plain.state());
        const { skipped, applied } = await skipping.scale();
        assertEquals([skipped, applied, skipping.trainer.updates], [1, 4, 5]);
      }
    },
  );
}

fullOnly("the scale doubles after a window without overflow", async () => {
  using run = new Run(device, "mixed");
  run.trainer.lossScale!.restore(Float32Array.of(64, 1 / 64, GROWTH_WINDOW - 2, 0, 0, 0));
  run.update(0);
  assertEquals(await run.scale(), { scale: 64, clean: GROWTH_WINDOW - 1, skipped: 0, applied: 1 });
  run.update(1);
  assertEquals(await run.scale(), { scale: 128, clean: 0, skipped: 0, applied: 2 });
  run.update(2);
  assertEquals(await run.scale(), { scale: 128, clean: 1, skipped: 0, applied: 3 });
});

fullOnly("recorded, recomputed and eager updates have the same bits", async () => {
  const results: unknown[] = [];
  for (const options of [{}, { capture: false }, { recompute: true }]) {
    using run = new Run(device, "mixed", 2, RECIPES.paper, options);
    for (let u = 0; u < 3; u++) run.update(u);
    results.push(await run.state());
  }
  assertEquals(results[1], results[0]);
  assertEquals(results[2], results[0]);
});

fullOnly("two passes in mixed precision are close to one", async () => {
  const metrics = async (passes: number): Promise<StepValues> => {
    using run = new Run(device, "mixed", passes);
    // Masks are drawn per pass from one generator: the same for any number of passes.
    run.update(0);
    return await run.trainer.metrics();
  };
  const [one, two] = [await metrics(1), await metrics(2)];
  // f16 rounds activations alike; sums of gradients over two clips and over four round apart, by up
  // to 2^-11 each.
  assertAlmostEquals(two.loss / one.loss, 1, 1e-5);
  assertAlmostEquals(two.grad_norm / one.grad_norm, 1, 1e-3);
  assertAlmostEquals(two.target_std / one.target_std, 1, 1e-4);
});

test("a loss scale that has collapsed stops the run; a skipped update's loss does not", () => {
  const row: StepValues = {
    loss: NaN,
    loss_pred: 1,
    loss_cls: 1,
    grad_norm: Infinity,
    clip_coefficient: 0,
    target_perplexity: 1,
    target_std: 1,
    prediction_std: 1,
    distinct_targets: 1,
    loss_scale: 1,
    skipped_updates: 3,
    skipped: true,
  };
  refuseDivergence([row], 5);
  const collapsed = { ...row, loss_scale: 2 ** -14 };
  assertThrows(() => refuseDivergence([row, collapsed], 5), Error, "at step 5 the loss scale");
  assertThrows(() => refuseDivergence([{ ...row, skipped: false }], 5), Error, "step 5 is NaN");
});

const WORDS = ["--batch", "2", "--crop-frames", "48", "--precision", "mixed"];

fullOnly("a run in mixed precision is resumed exactly", () =>
  inTempDir(async (dir) => {
    const words = [...WORDS, "--quiet", "--steps", "3", "--warmup", "0"];
    const out = (name: string) => ["--out", join(dir, name)];
    const tensors = async (name: string) => {
      const file = join(dir, name, "checkpoints", "step-00000003.safetensors");
      return readSafetensors(await Deno.readFile(file)).tensors;
    };
    const never = new AbortController().signal;
    assertEquals(await pretrainCommand([...words, ...out("whole")], never), 0);
    const stop = new AbortController();
    stop.abort();
    const stopped = () => pretrainCommand([...words, ...out("parts")], stop.signal);
    await assertRejects(stopped, Error, "after step 1");
    assertEquals(await pretrainCommand(["--resume", "--quiet", ...out("parts")], never), 0);
    const [whole, parts] = [await tensors("whole"), await tensors("parts")];
    assertEquals(parts, whole);
    assertEquals(
      [...whole.get("optimizer.loss_scale")!.data as Float32Array],
      [128, 1 / 128, 3, 0, 3, 1],
    );
  }));

/** Overwrites the loss scale in the newest checkpoint of a run. */
async function setSavedScale(out: string, scale: number): Promise<void> {
  const { step, tensors, metadata } = (await loadCheckpoint(out))!;
  const state = tensors.get("optimizer.loss_scale")!.data as Float32Array;
  state.set([scale, 1 / scale]);
  const all = [...tensors].map(([name, { shape, data }]) =>
    [name, { shape, data: data as Float32Array }] as const
  );
  await saveCheckpoint(out, step, all, metadata);
}

fullOnly(
  "an overflow that is skipped is no anomaly, and is not blamed for what comes after it",
  () =>
    inTempDir(async (dir) => {
      const never = new AbortController().signal;
      const rows = async (out: string): Promise<Record<string, number>[]> =>
        (await Deno.readTextFile(join(out, "metrics.jsonl"))).trim().split("\n")
          .map((line) => JSON.parse(line));
      const first = join(dir, "first");
      const words = [...WORDS, "--quiet", "--warmup", "0", "--log-every", "1"];
      assertEquals(await pretrainCommand([...words, "--steps", "1", "--out", first], never), 0);
      const copyOfFirst = async (name: string): Promise<string> => {
        const out = join(dir, name);
        await Deno.mkdir(join(out, "checkpoints"), { recursive: true });
        const checkpoint = join("checkpoints", "step-00000001.safetensors");
        for (const file of ["config.json", "metrics.jsonl", checkpoint]) {
          await Deno.copyFile(join(first, file), join(out, file));
        }
        await setSavedScale(out, 2 ** 20);
        return out;
      };
      const resume = (out: string, ...more: string[]) =>
        pretrainCommand(["--resume", "--quiet", "--out", out, ...more], never);

      // Halved until the first update that does not overflow.
      const falling = await copyOfFirst("falling");
      assertEquals(await resume(falling, "--steps", "16"), 0);
      const skipped = (await rows(falling)).map((it) => it.skipped_updates);
      const applied = skipped.findIndex((it, i) => i > 0 && it === skipped[i - 1]) + 1;
      assert(applied > 2, `${skipped}`);
      const steps = ["--steps", `${applied}`];

      const watched = await copyOfFirst("watched");
      assertEquals(await resume(watched, ...steps, "--anomaly"), 0);
      assertEquals(
        (await rows(watched)).map((it) => it.skipped_updates),
        skipped.slice(0, applied),
      );

      // The update that is applied leaves infinities.
      const astray = await copyOfFirst("astray");
      const error = await assertRejects(() => resume(astray, ...steps, "--lr", "1e39"));
      assert(error instanceof DivergedError, `${error}`);
      assertEquals(error.step, applied);
      const { details } = error as unknown as { details: string };
      assertStringIncludes(details, "worked again op by op, every value was finite");
      assertStringIncludes(details, "the checkpoint of step 1 is safe");
    }),
);

fullOnly(
  "a loss scale that collapses is blamed on the op that overflows",
  () =>
    inTempDir(async (dir) => {
      const words = [...WORDS, "--quiet", "--warmup", "0", "--steps", "40", "--lr", "1e30"];
      const error = await assertRejects(
        () => pretrainCommand([...words, "--out", join(dir, "run")], new AbortController().signal),
        DivergedError,
        "overflow 16-bit floats again and again",
      );
      const { details } = error as unknown as { details: string };
      assertStringIncludes(details, "first seen in ");
      assertStringIncludes(details, "(forward)");
    }),
);

fullOnly(
  "without 16-bit floats a run goes on in f32, with a warning",
  () =>
    inTempDir(async (dir) => {
      using device = await openDevice({ f16: false });
      const config = resolveConfig([...WORDS, "--steps", "1", "--out", join(dir, "run")]);
      let text = "";
      const output = { write: (it: string) => text += it, columns: () => undefined, now: () => 0 };
      using paths = await openRunDirectory(config);
      await pretrain({
        device,
        config,
        paths,
        source: syntheticSource({ size: 8, seed: 1, samples: cropSamples(config.geometry) }),
        progress: new Progress({ output }),
        signal: new AbortController().signal,
      });
      assertStringIncludes(text, "has no 16-bit floats (shader-f16): training in f32");
      const { loss_scale } = JSON.parse(await Deno.readTextFile(join(dir, "run", "metrics.jsonl")));
      assertEquals(loss_scale, undefined);
    }),
);

test("activations take about half the memory of f32, parameters half as much again", async () => {
  using device = await openDevice();
  const measured = (precision: Precision) =>
    measureRun(
      device,
      resolveConfig(["--batch", "4", "--crop-frames", "208", "--precision", precision]),
    );
  const [full, mixed] = [measured("f32"), measured("mixed")];
  const ratio = mixed.activations / full.activations;
  assert(ratio > 0.45 && ratio < 0.65, `${ratio}`);
  assertAlmostEquals(mixed.parameters / full.parameters, 1.5, 0.02);
  assertAlmostEquals(mixed.gradients / full.gradients, 1.5, 0.02);
  assertAlmostEquals(mixed.teachers / full.teachers, 1.5, 0.02);
});
