/**
 * Several masks for each clip of an update against as many passes over the same clips, one for each
 * mask, whose gradients add up.
 *
 * Sums are the same up to their order: see accumulation_test.ts, also about Adam's eps.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { openDevice, type Tensor } from "../../../engine/mod.ts";
import { Prng } from "../../../engine/prng.ts";
import { initialise } from "../../../model/objectives/initialise.ts";
import { type Mask, randomMask } from "../../../model/objectives/masking.ts";
import { type ObjectiveName, OBJECTIVES, recipeFor } from "../../../model/objectives/objectives.ts";
import { lossWeights, type Recipe } from "../../../model/objectives/recipe.ts";
import type { LatentForward } from "../../../model/objectives/m2d.ts";
import { patchGrid } from "../../../model/vit/geometry.ts";
import { resolveConfig } from "../../../train/config/config.ts";
import { run as pretrainCommand } from "../../../train/commands/pretrain.ts";
import type { StepValues } from "../../../train/metrics/update_metrics.ts";
import { measureRun, totalBytes } from "../../../train/run/memory.ts";
import { STEP_DEFAULTS, Trainer } from "../../../train/run/update.ts";
import { inTempDir } from "../../support/audio_files.ts";
import { constantSchedules } from "../../support/constant_schedules.ts";
import { smallFor } from "../../support/small_geometry.ts";
import { full, fullOnly, test } from "../../support/tier.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const [BATCH, MASKS, UPDATES] = [3, 4, 2];
const SCHEDULES = constantSchedules({ lr: (u) => 1e-3 * (u + 1) });

/** The `pass`-th mask of each clip, of masks that lie clip by clip. */
function passOf({ shuffle, restore, visible }: Mask, patches: number, pass: number): Mask {
  const pick = (ids: Uint32Array) =>
    Uint32Array.from({ length: BATCH * patches }, (_, at) => {
      const [clip, patch] = [Math.floor(at / patches), at % patches];
      return ids[(clip * MASKS + pass) * patches + patch];
    });
  return { shuffle: pick(shuffle), restore: pick(restore), visible };
}

interface Outcome {
  readonly metrics: readonly StepValues[];
  readonly tensors: ReadonlyMap<string, Float32Array>;
}

async function train(
  objective: ObjectiveName,
  choices: Partial<Recipe>,
  passes: 1 | typeof MASKS,
): Promise<Outcome> {
  const base = recipeFor(objective, "paper");
  const recipe: Recipe = { ...base, adam: { ...base.adam, eps: 1e-3 }, ...choices };
  const geometry = smallFor(objective);
  const { patches } = patchGrid(geometry);
  using model = OBJECTIVES[objective].create(device, geometry, recipe);
  initialise(model, new Prng(3));
  using trainer = new Trainer(device, model, SCHEDULES, {
    ...STEP_DEFAULTS,
    weights: lossWeights(recipe, 0.3, 1),
    microBatches: passes,
  });
  const random = new Prng(4);
  for (let update = 0; update < UPDATES; update++) {
    const shape = [BATCH, 80, geometry.cropFrames];
    const clips = Float32Array.from({ length: BATCH * 80 * shape[2] }, () => random.normal());
    const mask = randomMask(() => random.uniform(), BATCH * MASKS, patches, geometry.maskRatio);
    using input = device.tensor(clips, shape);
    if (passes === 1) assertEquals(trainer.step(input, mask), true);
    else {
      for (let pass = 0; pass < passes; pass++) {
        assertEquals(trainer.step(input, passOf(mask, patches, pass)), pass === passes - 1);
      }
    }
  }
  const { student, teachers, centre, pendingCentre } = model;
  const named: [string, Tensor | undefined][] = [
    ["gradients", student.grads],
    ["parameters", student.values],
    ...teachers.map(({ name, arena }): [string, Tensor] => [name, arena.values]),
    ["centre", centre],
    ["pending", pendingCentre],
    ["m", trainer.m],
    ["v", trainer.v],
  ];
  const there = named.filter((it): it is [string, Tensor] => it[1] !== undefined);
  const values = await device.read(there.map(([, it]) => it));
  return {
    metrics: await trainer.recent(UPDATES).values(),
    tensors: new Map(there.map(([name], i) => [name, values[i] as Float32Array])),
  };
}

function assertClose(actual: Outcome, expected: Outcome, what: string): void {
  for (const [name, values] of expected.tensors) {
    const scale = values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    assert(scale > 0, `${what}: ${name}`);
    const found = actual.tensors.get(name)!;
    const error = values.reduce((most, x, i) => Math.max(most, Math.abs(x - found[i])), 0);
    assert(error <= 1e-5 * scale, `${what}: ${name} is off by ${error / scale}`);
  }
  expected.metrics.forEach((row, u) => {
    for (const [name, value] of Object.entries(row)) {
      const found = actual.metrics[u][name as keyof StepValues] as number;
      const error = Math.abs(found - value) / Math.abs(value);
      assert(error <= 1e-5, `${what}: ${name} of update ${u} is off by ${error}`);
    }
  });
}

for (const objective of ["m2d", "matpac", "matpac-plus"] as const) {
  (objective === "matpac" ? Deno.test : fullOnly)(
    `${objective}: an update of four masks per clip is that of four passes`,
    async () => {
      const kinds: Partial<Recipe>[] = [
        { teacherView: "clip" },
        ...full
          ? [
            { teacherView: "masked" } as const,
            { teacherView: "clip", clipCentredTargets: true, targetLayers: [1, 2] } as const,
            { teacherView: "clip", centerOn: "probabilities" } as const,
          ]
          : [],
      ];
      // MATPAC takes all of them, the others half each.
      const half = objective === "m2d" ? [0, 2] : [1, 3];
      for (const choices of objective === "matpac" ? kinds : half.map((i) => kinds[i])) {
        const what = JSON.stringify(choices);
        const passes = await train(objective, choices, MASKS);
        assertClose(await train(objective, choices, 1), passes, what);
      }
    },
  );
}

fullOnly(
  "several masks: the teacher sees a clip once, its latents are those of the masked patches",
  async () => {
    const geometry = smallFor("matpac");
    const { patches } = patchGrid(geometry);
    using model = OBJECTIVES.matpac.create(device, geometry, {
      ...recipeFor("matpac", "paper"),
      teacherView: "clip",
    });
    initialise(model, new Prng(3));
    const weights = { pred: 0.5, cls: 0.5 };
    using trainer = new Trainer(device, model, SCHEDULES, { ...STEP_DEFAULTS, weights });
    const random = new Prng(5);
    const mask = randomMask(() => random.uniform(), 2 * 3, patches, geometry.maskRatio);
    const size = 2 * 80 * geometry.cropFrames;
    const clips = Float32Array.from({ length: size }, () => random.normal());
    using input = device.tensor(clips, [2, 80, geometry.cropFrames]);
    let pending: ReturnType<typeof device.readLater> | undefined;
    trainer.step(input, mask, (forward) => {
      const { teacherTokens, target } = forward as LatentForward;
      assertEquals(teacherTokens.shape, [2, 1 + patches, geometry.width]);
      assertEquals(target.shape, [2 * 3, patches - mask.visible, geometry.width]);
      pending = device.readLater([teacherTokens, target]);
    });
    const [seen, targets] = await pending!.values() as Float32Array[];
    const { width } = geometry;
    const masked = patches - mask.visible;
    for (let row = 0; row < 6; row++) {
      for (let i = 0; i < masked; i++) {
        const patch = mask.shuffle[row * patches + mask.visible + i];
        const from = (Math.floor(row / 3) * (1 + patches) + 1 + patch) * width;
        const at = (row * masked + i) * width;
        assertEquals(targets.slice(at, at + width), seen.slice(from, from + width));
      }
    }
  },
);

test("several masks: options, and what they need of memory", () => {
  const words = ["--preset", "tiny", "--crop-frames", "64", "--batch", "2"];
  const of = (...more: string[]) => resolveConfig([...words, ...more]);
  assertEquals(of().masksPerClip, 1);
  assertEquals(of().choices.teacherView, undefined);
  assertEquals(of("--masks-per-clip", "4").choices.teacherView, "clip");
  assertEquals(
    of("--masks-per-clip", "4", "--teacher-view", "masked").choices.teacherView,
    undefined,
  );
  assertEquals(of("--teacher-view", "clip").choices.teacherView, "clip");
  for (const more of [["--masks-per-clip", "2"], ["--teacher-view", "clip"]]) {
    assertThrows(() => of("--objective", "msm-mae", ...more), Error, "msm-mae has no teacher");
  }
  const bytes = (...more: string[]) => measureRun(device, of(...more));
  const [one, four] = [bytes(), bytes("--masks-per-clip", "4")];
  assert(four.activations > 2 * one.activations && totalBytes(four) < 4 * totalBytes(one));
});

fullOnly(
  "several masks: a run trains with them, in passes as well",
  () =>
    inTempDir(async (dir) => {
      for (const [name, ...more] of [["whole"], ["parts", "--micro-batch", "1"]]) {
        const words = [
          ...["--batch", "2", "--crop-frames", "48", "--steps", "2", "--masks-per-clip", "3"],
          ...["--quiet", "--out", `${dir}/${name}`, ...more],
        ];
        assertEquals(await pretrainCommand(words, new AbortController().signal), 0);
      }
      const losses = ["whole", "parts"].map((name) =>
        Deno.readTextFileSync(`${dir}/${name}/metrics.jsonl`).trim().split("\n")
          .map((line) => JSON.parse(line).loss as number)
      );
      // The same masks and crops; rounding alone may differ (see accumulation_test.ts).
      losses[0].forEach((loss, i) =>
        assert(Math.abs(loss - losses[1][i]) < 1e-4 * loss, `${losses}`)
      );
    }),
);
