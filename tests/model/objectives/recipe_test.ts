/**
 * Where paper and released code differ (model/README.md): what recipes choose, and what each choice
 * does.
 */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { openDevice } from "../../../engine/mod.ts";
import { initialise } from "../../../model/objectives/initialise.ts";
import { randomMask } from "../../../model/objectives/masking.ts";
import { Matpac } from "../../../model/objectives/matpac.ts";
import { PRESETS } from "../../../model/objectives/presets.ts";
import { type Geometry, patchGrid } from "../../../model/vit/geometry.ts";
import {
  DEVIATIONS,
  deviations,
  lossWeights,
  mixedRecipe,
  type Recipe,
  RECIPES,
} from "../../../model/objectives/recipe.ts";
import { Prng } from "../../../engine/prng.ts";
import { STEP_DEFAULTS, Trainer } from "../../../train/run/update.ts";
import { constantSchedules } from "../../support/constant_schedules.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const SMALL: Geometry = {
  ...PRESETS.tiny.geometry,
  width: 32,
  depth: 2,
  heads: 2,
  predictorWidth: 16,
  predictorDepth: 1,
  predictorHeads: 2,
  headHidden: 24,
  prototypes: 20,
  bottleneck: 16,
  cropFrames: 48,
};
const MASKED = 11; // of 15 patches at a mask ratio of 0.7

/** Everything a test looks at after `count` updates from one seed. */
async function after(recipe: Recipe, count: number) {
  using model = new Matpac(device, SMALL, recipe);
  initialise(model, new Prng(1));
  using trainer = new Trainer(device, model, constantSchedules({ lr: () => 1e-2 }), {
    ...STEP_DEFAULTS,
    weights: lossWeights(recipe, 0.25, MASKED),
  });
  const random = new Prng(2);
  const { patches } = patchGrid(SMALL);
  let seen: { prediction: number[]; target: number[]; losses: number[] } | undefined;
  for (let i = 0; i < count; i++) {
    const noise = Float32Array.from({ length: 2 * 80 * 48 }, () => random.normal());
    using input = device.tensor(noise, [2, 80, 48]);
    const mask = randomMask(() => random.uniform(), 2, patches, SMALL.maskRatio);
    assertEquals(patches - mask.visible, MASKED);
    const wanted: Promise<Float32Array>[] = [];
    trainer.step(input, mask, (forward) => {
      wanted.push(
        ...[forward.prediction, forward.target, forward.predictionLoss]
          .map((t) => t.data() as Promise<Float32Array>),
      );
    });
    const [prediction, target, losses] = (await Promise.all(wanted)).map((it) => [...it]);
    seen = { prediction, target, losses };
  }
  return {
    ...seen!,
    metrics: await trainer.metrics(),
    student: await model.student.read(),
    teacherHead: await model.teacherHead.read(),
    gradients: await model.student.read(model.student.grads!),
  };
}

const GAINS = "cls_student_head.last_layer.weight_g";

Deno.test("recipes: each row from 1 to 10 can be chosen by itself", () => {
  assertEquals(deviations().map(([, { row }]) => row), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  for (const base of ["paper", "released"] as const) {
    for (const [name, row] of deviations()) {
      for (const side of ["paper", "released"] as const) {
        const mixed = mixedRecipe(base, { [name]: side });
        assertEquals(mixed, { ...RECIPES[base], ...row[side].choices });
      }
    }
  }
});

Deno.test("recipes: the paper's takes the sides that model/README.md says", () => {
  assertEquals(RECIPES.paper, {
    name: "paper",
    centerOn: "logits",
    teacherInit: "copy",
    positions: "learned",
    lrScaling: "batch",
    targets: "raw",
    reduction: "mean",
    alpha: "weights",
    headGains: "trained",
    weightDecayOn: "matrices",
    adam: { eps: 1e-8, epsPlacement: "torch" },
  });
  assertEquals(RECIPES.released, {
    name: "released",
    centerOn: "probabilities",
    teacherInit: "independent",
    positions: "fixed",
    lrScaling: "absolute",
    targets: "raw",
    reduction: "mean",
    alpha: "gate",
    headGains: "trained",
    weightDecayOn: "all",
    adam: { eps: 1e-6, epsPlacement: "fairseq" },
  });
  assertEquals(DEVIATIONS.head.row, 8);
});

Deno.test("row 5: standardised targets are M2D's, with unbiased variance + 1e-6", async () => {
  for (const side of ["paper", "released"] as const) {
    const { prediction, target, losses } = await after(mixedRecipe("paper", { target: side }), 1);
    const { width } = SMALL;
    losses.forEach((loss, token) => {
      const at = (values: number[]) => values.slice(token * width, (token + 1) * width);
      const [p, raw] = [at(prediction), at(target)];
      const mean = raw.reduce((a, b) => a + b, 0) / width;
      const variance = raw.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (width - 1);
      const z = side === "paper" ? raw.map((x) => (x - mean) / Math.sqrt(variance + 1e-6)) : raw;
      const dot = (a: number[], b: number[]) => a.reduce((sum, x, i) => sum + x * b[i], 0);
      const expected = 2 - 2 * dot(p, z) / Math.sqrt(dot(p, p) * dot(z, z));
      // float32 sums of 32 products.
      assertAlmostEquals(loss, expected, 2e-6);
    });
  }
});

Deno.test("row 6: a sum over masked tokens is their mean times their number", async () => {
  const mean = await after(RECIPES.paper, 1);
  const sum = await after(mixedRecipe("paper", { reduction: "paper" }), 1);
  assertAlmostEquals(sum.metrics.loss, MASKED * mean.metrics.loss, 1e-4);
  assertAlmostEquals(sum.metrics.grad_norm / mean.metrics.grad_norm, MASKED, 1e-3);
  assertEquals(sum.metrics.loss_pred, mean.metrics.loss_pred);
  assertEquals(lossWeights(mixedRecipe("released", { reduction: "paper" }), 1, 7), {
    pred: 3.5,
    cls: 0,
  });
  assertThrows(() => lossWeights(mixedRecipe("paper", { reduction: "paper" }), 0.5), RangeError);
});

Deno.test("row 8: DINO's gains stay 1 in student and teacher, decayed or not", async () => {
  for (const decay of ["paper", "released"] as const) {
    const fixed = mixedRecipe("paper", { head: "paper", "weight-decay": decay });
    const { student, teacherHead, gradients } = await after(fixed, 3);
    const all = (data: Float32Array, value: number) => data.every((x) => x === value);
    assert(all(student.get(GAINS)!.data, 1), "student's gains");
    assert(all(teacherHead.get("last_layer.weight_g")!.data, 1), "teacher's gains");
    assert(all(gradients.get(GAINS)!.data, 0), "gradients of gains");
    // Everything else moves as it should.
    const trained = await after(mixedRecipe("paper", { "weight-decay": decay }), 1);
    assert(!all(trained.student.get(GAINS)!.data, 1), "trained gains move");
    const frozen = await after(fixed, 1);
    const name = "student_encoder.blocks.1.mlp.fc2.bias";
    const [a, b] = [frozen, trained].map((it) => it.gradients.get(name)!.data);
    a.forEach((x, i) => assertAlmostEquals(x, b[i], 1e-8));
  }
});
