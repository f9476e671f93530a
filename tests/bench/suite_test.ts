/** The list of benchmarks: products of a step, operands that peers get too. */
import { sizeOf } from "../../engine/shape.ts";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { prepared } from "../../bench/case.ts";
import { nameOf, stepProducts } from "../../bench/gemm.ts";
import { BENCHMARKS, choose } from "../../bench/suite.ts";
import { operand, WORKLOADS } from "../../bench/peers/workloads.ts";
import { openDevice, scope } from "../../engine/mod.ts";
import { initialise } from "../../model/objectives/initialise.ts";
import { randomMask } from "../../model/objectives/masking.ts";
import { Matpac } from "../../model/objectives/matpac.ts";
import { PRESETS } from "../../model/objectives/presets.ts";
import { patchGrid } from "../../model/vit/geometry.ts";
import { lossWeights, RECIPES } from "../../model/objectives/recipe.ts";
import { Prng } from "../../engine/prng.ts";
import { STEP_DEFAULTS, Trainer } from "../../train/run/update.ts";
import { constantSchedules } from "../support/constant_schedules.ts";
import { fullOnly, test } from "../support/tier.ts";

const features = { subgroups: true, f16: true, timestamps: true, textures: true };

test("names are unique, and those the interface promises are there", () => {
  const names = BENCHMARKS.map(({ name }) => name);
  assertEquals(new Set(names).size, names.length);
  for (
    const name of [
      "gemm/nn/1024x768x768",
      "attention/forward+backward/b8h12t134d64",
      "layernorm/backward/1072x768",
      "logmel",
      "step/tiny",
      "step/base",
      ...WORKLOADS.map((it) => it.name),
    ]
  ) assert(names.includes(name), name);
  for (const start of ["cross-entropy/", "adamw/", "stft/", "ema/"]) {
    assert(names.some((name) => name.startsWith(start)), start);
  }
});

test("choices: the short list is part of the quick one, that of all", () => {
  const all = { pattern: /./, quick: false, check: false };
  const count = (choice: Partial<typeof all>) => choose({ ...all, ...choice }, features).length;
  assertEquals(count({}), BENCHMARKS.length);
  assertEquals(count({ check: true }), BENCHMARKS.length);
  const [quick, short] = [count({ quick: true }), count({ quick: true, check: true })];
  assert(0 < short && short < quick && quick < BENCHMARKS.length / 2, `${short} ${quick}`);
  assert(choose({ ...all, pattern: /^adamw/ }, features).every(({ name }) => /^adamw/.test(name)));
  assert(
    choose(all, { ...features, f16: false }).every(({ name }) => !name.startsWith("cast/")),
  );
});

test("the listed products are those that a step runs", async () => {
  using device = await openDevice();
  // Sizes apart, so that no product stands for another.
  const geometry = {
    ...PRESETS.tiny.geometry,
    width: 48,
    heads: 3,
    depth: 1,
    predictorWidth: 32,
    predictorHeads: 2,
    predictorDepth: 1,
    headHidden: 56,
    bottleneck: 40,
    prototypes: 24,
    cropFrames: 64,
  };
  const batch = 2;
  using model = new Matpac(device, geometry, RECIPES.paper);
  const prng = new Prng(1);
  initialise(model, prng);
  using trainer = new Trainer(device, model, constantSchedules(), {
    ...STEP_DEFAULTS,
    weights: lossWeights(RECIPES.paper, 0.5),
    capture: false,
  });
  const { patches } = patchGrid(geometry);
  const mask = randomMask(() => prng.uniform(), batch, patches, geometry.maskRatio);
  using input = device.zeros([batch, geometry.melBands, geometry.cropFrames]);
  const seen = new Set<string>();
  device.observe({
    beforeDispatch({ name }, _, { constants: { TA, TB }, params: { m, n, k } }) {
      if (name.startsWith("gemm")) {
        seen.add(`${TA ? "tn" : TB ? "nt" : "nn"}/${m}x${n}x${k}`);
      }
      return undefined;
    },
    afterDispatch() {},
    submitted() {},
  });
  trainer.step(input, mask);
  device.observe(undefined);
  await device.sync();
  const listed = stepProducts(geometry, batch).map((it) => nameOf({ ...it, epilogue: "" }));
  assertEquals(new Set(listed.map((name) => name.slice("gemm/".length))), seen);
});

test("a rival that computes something else is not timed", async () => {
  using device = await openDevice();
  const x = device.tensor([1, 2, 3, 4]);
  const other = device.tensor([1, 2, 3.1]);
  using wrong = prepared("double", {
    operands: [x, other],
    outputs: () => [x.view([4])],
    naive: { outputs: () => [other.view([3])] },
    composed: { outputs: () => [x.view([2])], share: 0.5 },
  });
  await wrong.composed!.agree();
  const { message } = await assertRejects(() => wrong.naive!.agree(), Error);
  assert(message.includes("double: the naive kernel") && message.includes("3.3e-2"), message);
  scope(() => wrong.run());
});

fullOnly("plain kernels agree with ours", async (t) => {
  using device = await openDevice();
  const live = device.memory.liveBytes;
  // One per family and direction; --check and --quick compare the others.
  const short = choose({ pattern: /1072x768|gather|scatter|stft/, quick: true, check: false }, {
    ...features,
    f16: false,
  });
  assert(short.length >= 5);
  for (const benchmark of short) {
    await t.step(benchmark.name, async () => {
      using ready = await benchmark.prepare(device);
      ready.run();
      await ready.naive!.agree();
      await ready.composed?.agree();
    });
  }
  assertEquals(device.memory.liveBytes, live);
});

test("operands for peers repeat and fill [-1, 1]", () => {
  for (const workload of WORKLOADS) {
    workload.shapes.forEach((shape, i) => {
      if (sizeOf(shape) > 2 ** 21) return; // seconds
      const values = operand(workload, i);
      assertEquals(values.length, sizeOf(shape));
      assert(values.every((it) => it >= -1 && it <= 1));
    });
  }
  const [a, b] = [operand(WORKLOADS[0], 0), operand(WORKLOADS[0], 1)];
  assertEquals(a.slice(0, 50), operand(WORKLOADS[0], 0).slice(0, 50));
  const mean = a.reduce((sum, it) => sum + it, 0) / a.length;
  const square = a.reduce((sum, it) => sum + it * it, 0) / a.length;
  const product = a.slice(0, b.length).reduce((sum, it, i) => sum + it * b[i], 0) / b.length;
  // Of 600,000 draws: five standard errors.
  assert(Math.abs(mean) < 0.004 && Math.abs(square - 1 / 3) < 0.002, `${mean} ${square}`);
  assert(Math.abs(product) < 0.0022, `${product}`);
});
