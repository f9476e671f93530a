/** Contrast of clips: its loss and gradient, and updates that have it. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { backward, openDevice, scope } from "../../../engine/mod.ts";
import { Prng } from "../../../engine/prng.ts";
import { contrastLoss } from "../../../model/objectives/contrast.ts";
import { initialise } from "../../../model/objectives/initialise.ts";
import type { Precision } from "../../../model/objectives/masked_model.ts";
import { randomMask } from "../../../model/objectives/masking.ts";
import { type ObjectiveName, OBJECTIVES, recipeFor } from "../../../model/objectives/objectives.ts";
import { lossWeights } from "../../../model/objectives/recipe.ts";
import { patchGrid } from "../../../model/vit/geometry.ts";
import { STEP_DEFAULTS, Trainer } from "../../../train/run/update.ts";
import { constantSchedules } from "../../support/constant_schedules.ts";
import { smallFor } from "../../support/small_geometry.ts";
import { test } from "../../support/tier.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

/** The loss in float64, by its definition: crops 2i and 2i + 1 are of one clip. */
function reference(z: ArrayLike<number>, rows: number): number {
  const width = z.length / rows;
  const row = (i: number) => Array.from({ length: width }, (_, k) => z[i * width + k]);
  const unit = Array.from({ length: rows }, (_, i) => {
    const norm = Math.hypot(...row(i));
    return row(i).map((it) => it / norm);
  });
  const cosine = (i: number, j: number) => unit[i].reduce((sum, it, k) => sum + it * unit[j][k], 0);
  let loss = 0;
  for (let i = 0; i < rows; i++) {
    // The other crops that one may be taken for: those on the other side.
    const others = Array.from({ length: rows / 2 }, (_, k) => 2 * k + 1 - i % 2);
    const all = others.reduce((sum, j) => sum + Math.exp(cosine(i, j) / 0.1), 0);
    loss += Math.log(all) - cosine(i, i ^ 1) / 0.1;
  }
  return loss / rows;
}

for (const [rows, width] of [[2, 3], [6, 5], [10, 128], [34, 7]]) {
  test(`contrast: loss and gradient of ${rows} crops are those of float64`, async () => {
    const random = new Prng(rows);
    const values = Float32Array.from({ length: rows * width }, () => random.normal());
    const z = device.tensor(values, [rows, width]).trainable();
    const loss = scope(() => {
      const loss = contrastLoss(z);
      backward(loss);
      return loss;
    });
    const expected = reference(values, rows);
    // Cosines of f32 rounding, 10 times as large as logits, and sums over at most 17.
    const [value] = await loss.data() as Float32Array;
    assert(Math.abs(value - expected) < 1e-5 * (1 + expected), `${value} for ${expected}`);
    const gradient = await z.grad!.data() as Float32Array;
    for (let i = 0; i < values.length; i += 1 + Math.floor(values.length / 40)) {
      const at = (step: number) => {
        const moved = Float64Array.from(values);
        moved[i] += step;
        return reference(moved, rows);
      };
      // Central differences in float64 are good to 1e-8 here.
      const slope = (at(1e-5) - at(-1e-5)) / 2e-5;
      assert(Math.abs(gradient[i] - slope) < 1e-5, `${i}: ${gradient[i]} for ${slope}`);
    }
    z.dispose();
    loss.dispose();
  });
}

test("contrast: an odd number of crops is refused", () => {
  const geometry = { ...smallFor("msm-mae"), projection: true };
  using model = OBJECTIVES["msm-mae"].create(device, geometry, recipeFor("msm-mae", "paper"));
  using tokens = device.zeros([3, 4, geometry.width]);
  assertThrows(() => model.contrast(tokens), RangeError, "not 3 in all");
});

test("contrast: it is of the patches' mean under two layers, whatever the class token is", async () => {
  const [rows, count] = [6, 5];
  const geometry = { ...smallFor("msm-mae"), projection: true };
  using model = OBJECTIVES["msm-mae"].create(device, geometry, recipeFor("msm-mae", "paper"));
  const random = new Prng(8);
  initialise(model, random);
  const { width } = geometry;
  const values = Float32Array.from({ length: rows * count * width }, () => random.normal());
  using tokens = device.tensor(values, [rows, count, width]);
  using loss = scope(() => model.contrast(tokens));
  const [hiddenWeight, outWeight] = await Promise.all(
    ["hidden", "out"].map((it) => model.student.get(`projection.${it}.weight`).data()),
  );
  // Biases begin at 0.
  const layer = (x: readonly number[], weight: ArrayLike<number>) =>
    Array.from(
      { length: weight.length / x.length },
      (_, o) => x.reduce((sum, it, i) => sum + it * weight[o * x.length + i], 0),
    );
  const z = Array.from({ length: rows }, (_, row) => {
    const pooled = Array.from({ length: width }, (_, k) => {
      let sum = 0;
      for (let n = 1; n < count; n++) sum += values[(row * count + n) * width + k];
      return sum / (count - 1);
    });
    return layer(layer(pooled, hiddenWeight).map((it) => Math.max(0, it)), outWeight);
  }).flat();
  const expected = reference(z, rows);
  const [value] = await loss.data() as Float32Array;
  // As above, and sums over 256 products before.
  assert(Math.abs(value - expected) < 1e-4 * (1 + expected), `${value} for ${expected}`);
});

/** Two updates. */
async function train(
  objective: ObjectiveName,
  { passes = 1, batch = 8, capture = true, weight = 0.3, lr = 1e-3, precision = "f32" }: {
    readonly passes?: number;
    readonly batch?: number;
    readonly capture?: boolean;
    readonly weight?: number;
    readonly lr?: number;
    readonly precision?: Precision;
  },
) {
  const recipe = recipeFor(objective, "paper");
  const geometry = { ...smallFor(objective), projection: true };
  const grid = patchGrid(geometry);
  using model = OBJECTIVES[objective].create(device, geometry, recipe, precision);
  initialise(model, new Prng(3));
  using trainer = new Trainer(device, model, constantSchedules({ lr: (u) => lr * (u + 1) }), {
    ...STEP_DEFAULTS,
    weights: { ...lossWeights(recipe, 0.3, 1), ...weight > 0 && { contrast: weight } },
    microBatches: passes,
    capture,
  });
  const random = new Prng(5);
  const rows = batch / passes;
  const size = geometry.melBands * geometry.cropFrames;
  const metrics = [];
  for (let update = 0; update < 2; update++) {
    for (let pass = 0; pass < passes; pass++) {
      const values = Float32Array.from({ length: rows * size }, () => random.normal());
      using input = device.tensor(values, [rows, geometry.melBands, geometry.cropFrames]);
      trainer.step(input, randomMask(() => random.uniform(), rows, grid.patches, 0.6));
    }
    metrics.push(await trainer.metrics());
  }
  const projection = await model.student.get("projection.hidden.weight").data();
  return { metrics, projection: [...projection] };
}

for (const objective of ["msm-mae", "matpac"] as const) {
  test(`contrast: updates of ${objective} add it by its weight, recorded or not`, async () => {
    const whole = await train(objective, {});
    for (const { loss, loss_pred, loss_cls, loss_contrast } of whole.metrics) {
      const weights = lossWeights(recipeFor(objective, "paper"), 0.3, 1);
      const own = loss_cls === undefined
        ? weights.pred * loss_pred
        : weights.pred * loss_pred + weights.cls * loss_cls;
      // f32 rounding of a sum of three.
      assert(Math.abs(loss - own - 0.3 * loss_contrast!) < 2e-6 * loss, `${loss}, ${own}`);
      // Chance among four is log 4.
      assert(loss_contrast! > 0.3 && loss_contrast! < 4, `${loss_contrast}`);
    }
    assertEquals(await train(objective, { capture: false }), whole);
    const without = await train(objective, { weight: 0 });
    assertEquals(without.metrics[0].loss_contrast, undefined);
    assertEquals(without.metrics[0].loss_pred, whole.metrics[0].loss_pred);
    assert(without.projection.some((it, i) => it !== whole.projection[i]));
  });
}

test("contrast: passes have their own, among fewer crops; mixed precision has it too", async () => {
  const [whole, parts] = [await train("msm-mae", {}), await train("msm-mae", { passes: 2 })];
  const [a, b] = [whole, parts].map(({ metrics }) => metrics[0].loss_contrast!);
  // Those of the passes for themselves, by weights that stay: sums of two, rounded once more.
  const alone = await train("msm-mae", { batch: 4, lr: 0 });
  const [c, d] = alone.metrics.map((it) => it.loss_contrast!);
  assert(Math.abs(b - (c + d) / 2) < 1e-6 * (c + d), `${b} for ${c} and ${d}`);
  assert(b !== a);
  if (!device.features.f16) return;
  const mixed = await train("msm-mae", { precision: "mixed" });
  // Tokens have 11 bits, and cosines count tenfold.
  assert(Math.abs(mixed.metrics[0].loss_contrast! - a) < 0.05, `${mixed.metrics[0].loss_contrast}`);
});
