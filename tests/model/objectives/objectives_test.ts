/**
 * The objectives beside each other: against float64, on every patch size, on inputs shorter than a
 * crop.
 */
import { assert, assertAlmostEquals, assertEquals, assertNotEquals } from "@std/assert";
import { type Device, type HostArray, openDevice, type Tensor } from "../../../engine/mod.ts";
import type { ParameterArena } from "../../../model/vit/parameter_arena.ts";
import { initialise } from "../../../model/objectives/initialise.ts";
import { type Mask, randomMask } from "../../../model/objectives/masking.ts";
import type { MaskedModel } from "../../../model/objectives/masked_model.ts";
import {
  geometryFor,
  type ObjectiveName,
  OBJECTIVES,
  recipeFor,
} from "../../../model/objectives/objectives.ts";
import {
  type Geometry,
  patchGrid,
  patchSides,
  type PatchSize,
} from "../../../model/vit/geometry.ts";
import type { Recipe } from "../../../model/objectives/recipe.ts";
import { Prng } from "../../../engine/prng.ts";
import { STEP_DEFAULTS, Trainer } from "../../../train/run/update.ts";
import { constantSchedules } from "../../support/constant_schedules.ts";
import { OBJECTIVE_NAMES, smallFor } from "../../support/small_geometry.ts";
import { referenceForward, type ReferenceSetup } from "../../support/objective_reference.ts";
import { full, fullOnly, test } from "../../support/tier.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const PATCHES: PatchSize[] = [[16, 16], [16, 8], [16, 4], [8, 16], [80, 4]];
const BATCH = 2;

/** Moves every value, so that no bias is 0 and no gain 1. */
async function perturb(arena: ParameterArena, random: Prng): Promise<void> {
  for (const [name, { data }] of await arena.read()) {
    arena.load([[name, data.map((x) => x + 0.1 * random.normal())]]);
  }
}

async function build(
  device: Device,
  objective: ObjectiveName,
  geometry: Geometry,
  recipe: Recipe,
): Promise<MaskedModel> {
  const model = OBJECTIVES[objective].create(device, geometry, recipe);
  const random = new Prng(3);
  initialise(model, random);
  for (const arena of [model.student, ...model.teachers.map((it) => it.arena)]) {
    await perturb(arena, random);
  }
  return model;
}

interface Pass {
  readonly clips: Float32Array;
  readonly mask: Mask;
  readonly tensors: Record<string, Float32Array>;
  readonly shapes: Record<string, readonly number[]>;
  readonly grads: Map<string, { readonly data: Float32Array }>;
  readonly loss: number;
}

/** One update on `frames` frames, seen from inside. */
async function update(model: MaskedModel, frames: number): Promise<Pass> {
  const { device, geometry } = model;
  const random = new Prng(8);
  const clips = Float32Array.from(
    { length: BATCH * geometry.melBands * frames },
    () => random.normal(),
  );
  const { patches } = patchGrid({ ...geometry, cropFrames: frames });
  const mask = randomMask(() => random.uniform(), BATCH, patches, geometry.maskRatio);
  using trainer = new Trainer(device, model, constantSchedules(), {
    ...STEP_DEFAULTS,
    weights: { pred: 1, cls: 1 },
  });
  using input = device.tensor(clips, [BATCH, geometry.melBands, frames]);
  const kept: [string, readonly number[], Promise<HostArray>][] = [];
  let grads: Pass["grads"] | Promise<Pass["grads"]> = new Map();
  trainer.step(input, mask, (forward) => {
    const tensors = Object.entries(forward).filter(([, it]) => it !== undefined);
    for (const [name, tensor] of tensors as [string, Tensor][]) {
      kept.push([name, tensor.shape, tensor.data()]);
    }
    grads = model.student.read(model.student.grads!);
  });
  const { loss } = await trainer.metrics();
  const values = await Promise.all(kept.map(([, , it]) => it));
  return {
    clips,
    mask,
    tensors: Object.fromEntries(kept.map(([name], i) => [name, values[i] as Float32Array])),
    shapes: Object.fromEntries(kept.map(([name, shape]) => [name, shape])),
    grads: await grads,
    loss,
  };
}

const largest = (values: ArrayLike<number>): number =>
  Array.from(values).reduce((most, x) => Math.max(most, Math.abs(x)), 0);

function assertNear(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
  what: string,
): void {
  assertEquals(actual.length, expected.length, what);
  const error = largest(Array.from(actual, (x, i) => x - expected[i]));
  assert(error <= tolerance * largest(expected), `${what}: ${error / largest(expected)}`);
}

const doubles = (
  values: Map<string, { readonly data: Float32Array }>,
): Map<string, Float64Array<ArrayBuffer>> =>
  new Map([...values].map(([name, { data }]) => [name, Float64Array.from(data)]));

/**
 * Derivatives by central differences of the float64 loss with the target held, at the element with
 * the largest gradient and at one more of each parameter. f32 gradients are off by some 1e-6 of the
 * largest (tests/README.md, Golden files), differences by 1e-8.
 */
function checkGradients(setup: ReferenceSetup, pass: Pass, what: string): void {
  const { target } = referenceForward(setup);
  const random = new Prng(5);
  for (const [name, { data }] of pass.grads) {
    const values = setup.student.get(name)!;
    const top = data.findIndex((g) => Math.abs(g) === largest(data));
    for (const at of [top, Math.floor(random.uniform() * data.length)]) {
      const value = values[at];
      const loss = (change: number) => {
        values[at] = value + change;
        return referenceForward(setup, target).loss;
      };
      const slope = (loss(1e-4) - loss(-1e-4)) / 2e-4;
      values[at] = value;
      const error = Math.abs(slope - data[at]);
      assert(
        error <= 1e-4 * Math.max(largest(data), Math.abs(slope)) + 1e-7,
        `${what}: ${name}[${at}] has ${data[at]}, not ${slope}`,
      );
    }
  }
}

for (const objective of ["msm-mae", "m2d"] as const) {
  Deno.test(`${objective}: patch sizes, with and without class token, are float64's`, async () => {
    let index = 0;
    for (const patchSize of full ? PATCHES : PATCHES.slice(0, 2)) {
      for (const classToken of [true, false]) {
        const n = index++;
        if (!full && n !== (objective === "m2d" ? 0 : 3)) continue;
        // Turns that meet each patch size and either token: short inputs, trained positions and the
        // rest.
        const short = (n + (n >> 1)) % 2 === 1;
        const learned = n % 5 === 2;
        const standardised = objective === "m2d" || n % 3 === 0;
        const [high, wide] = patchSides({ patchSize });
        // Not more than 40 patches, which are slow in float64.
        const cropFrames = wide === 4 && high === 16 ? 32 : 64;
        const geometry = smallFor(objective, {
          patchSize,
          classToken,
          cropFrames,
          ...(objective === "msm-mae" && { predictorPositions: n % 4 < 2 ? "1d" : "2d" }),
        });
        const recipe: Recipe = {
          ...recipeFor(objective, "released"),
          positions: learned ? "learned" : "fixed",
          targets: standardised ? "standardised" : "raw",
        };
        using model = await build(device, objective, geometry, recipe);
        const student = doubles(await model.student.read());
        const teacher = model.teachers[0] && doubles(await model.teachers[0].arena.read());
        const frames = short ? cropFrames - 8 : cropFrames;
        const pass = await update(model, frames);
        const what = `patch ${patchSize}, ${classToken ? "class token" : "none"}`;
        const patches = 80 / high * Math.floor(frames / wide);
        const { visible } = pass.mask;
        assertEquals(visible, Math.trunc(patches * (1 - geometry.maskRatio)));
        const masked = patches - visible;
        assertEquals(pass.shapes.studentTokens, [BATCH, Number(classToken) + visible, 24], what);
        assertEquals(pass.shapes.predictionLoss, [BATCH, masked], what);
        const setup: ReferenceSetup = {
          geometry,
          patch: [high, wide],
          learned,
          standardised,
          mask: pass.mask,
          batch: BATCH,
          clips: pass.clips,
          frames,
          student,
          ...(teacher && { teacher }),
        };
        const expected = referenceForward(setup);
        for (const part of ["studentTokens", "target", "prediction"] as const) {
          const rows = expected[part].flatMap((row) => [...row]);
          // f32 through three blocks: some 1e-6 of the largest (tests/README.md, Golden files).
          assertNear(pass.tensors[part], rows, 1e-5, `${what}: ${part}`);
        }
        assertNear(pass.tensors.predictionLoss, expected.losses, 1e-5, `${what}: losses`);
        assertAlmostEquals(pass.loss, expected.loss, 2e-6 * expected.loss, what);
        // Each patch size once, as differences take their time.
        if (n % 2 === (n >> 2) % 2) checkGradients(setup, pass, what);
      }
    }
  });
}

test("targets of several blocks or without their clip's mean are float64's", async () => {
  const cases: Pick<Recipe, "targetLayers" | "clipCentredTargets">[] = [
    { targetLayers: [2] },
    { targetLayers: [1, 2] },
    { clipCentredTargets: true },
    { targetLayers: [1, 2], clipCentredTargets: true },
  ];
  for (const objective of ["m2d", "matpac"] as const) {
    for (const [i, chosen] of cases.entries()) {
      const geometry = smallFor(objective, { classToken: i !== 1 });
      const recipe: Recipe = { ...recipeFor(objective, "released"), ...chosen };
      using model = await build(device, objective, geometry, recipe);
      const student = doubles(await model.student.read());
      const teacher = doubles(await model.teachers[0].arena.read());
      const pass = await update(model, geometry.cropFrames);
      const expected = referenceForward({
        geometry,
        patch: [16, 16],
        learned: false,
        standardised: recipe.targets === "standardised",
        mask: pass.mask,
        batch: BATCH,
        clips: pass.clips,
        frames: geometry.cropFrames,
        student,
        teacher,
        targetLayers: chosen.targetLayers,
        clipCentred: chosen.clipCentredTargets,
      });
      const what = `${objective}, ${JSON.stringify(chosen)}`;
      // As above.
      assertNear(pass.tensors.target, expected.target.flatMap((row) => [...row]), 1e-5, what);
      assertNear(pass.tensors.predictionLoss, expected.losses, 1e-5, `${what}: losses`);
    }
  }
});

fullOnly("MATPAC and MATPAC++ train on all patch sizes with and without class token", async () => {
  for (const objective of ["matpac", "matpac-plus"] as const) {
    for (const patchSize of PATCHES) {
      for (const classToken of [true, false]) {
        const geometry = smallFor(objective, { patchSize, classToken });
        using model = await build(device, objective, geometry, recipeFor(objective, "paper"));
        const before = await model.student.values.data();
        const { shapes, mask, loss } = await update(model, 64);
        const { patches } = patchGrid(geometry);
        const lead = Number(classToken);
        assertEquals(shapes.studentTokens[1], lead + mask.visible);
        assertEquals(shapes.teacherTokens[1], lead + patches - mask.visible);
        assertEquals(shapes.probabilities[1], patches - mask.visible);
        assert(Number.isFinite(loss) && loss > 0);
        const after = await model.student.values.data();
        assert(after.every(Number.isFinite));
        assertNotEquals(after, before);
      }
    }
  }
});

test("inputs shorter than a crop are those of a smaller geometry", async () => {
  const short = 48;
  for (const objective of OBJECTIVE_NAMES) {
    for (const positions of ["fixed", "learned"] as const) {
      for (const classToken of [true, false]) {
        const what = `${objective}, ${positions} positions, ${classToken ? "" : "no "}class token`;
        const recipe: Recipe = { ...recipeFor(objective, "paper"), positions };
        // A 1-D table goes on from row to row, so that no smaller grid has its first columns.
        const geometry = smallFor(objective, { classToken, predictorPositions: "2d" });
        using whole = await build(device, objective, geometry, recipe);
        using small = await build(
          device,
          objective,
          { ...geometry, cropFrames: short },
          recipe,
        );
        const [wide, narrow] = [patchGrid(geometry).columns, short / 16];
        const lead = Number(classToken);
        /** Elements of a table that the smaller one has, in its order. */
        const kept = (data: Float32Array) => {
          const width = data.length / (lead + 5 * wide);
          const rows = Array.from(
            { length: 5 * narrow },
            (_, i) => lead + Math.floor(i / narrow) * wide + i % narrow,
          );
          return [...(lead ? [0] : []), ...rows].flatMap((row) =>
            Array.from({ length: width }, (_, i) => row * width + i)
          );
        };
        const cut = (name: string, data: Float32Array) =>
          name.endsWith("pos_embed") ? Float32Array.from(kept(data), (i) => data[i]) : data;
        for (const [name, { data }] of await whole.student.read()) {
          small.student.load([[name, cut(name, data)]]);
        }
        whole.teachers.forEach(({ arena }, i) =>
          device.copy(arena.values, small.teachers[i].arena.values)
        );
        const [a, b] = [await update(whole, short), await update(small, short)];
        assertEquals(a.tensors, b.tensors, what);
        assertEquals(a.loss, b.loss, what);
        for (const [name, { data }] of a.grads) {
          assertEquals(cut(name, data), b.grads.get(name)!.data, `${what}: ${name}`);
          if (!name.endsWith("pos_embed")) continue;
          const used = new Set(kept(data));
          assert(largest(data) > 0, `${what}: ${name} is trained`);
          assert(data.every((g, i) => used.has(i) || g === 0), `${what}: ${name} beyond the input`);
        }
      }
    }
  }
});

test("M2D's target standardised or only centred is one to the cosine", () => {
  const random = new Prng(2);
  const cosine = (a: number[], b: number[]) => {
    const dot = (x: number[], y: number[]) => x.reduce((sum, v, i) => sum + v * y[i], 0);
    return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  };
  for (const scale of [1e-4, 1, 1e3]) {
    const target = Array.from({ length: 24 }, () => scale * (1 + random.normal()));
    const prediction = target.map(() => random.normal());
    const mean = target.reduce((a, b) => a + b, 0) / 24;
    const centred = target.map((x) => x - mean);
    const variance = centred.reduce((sum, x) => sum + x * x, 0) / 23;
    const standardised = centred.map((x) => x / Math.sqrt(variance + 1e-6));
    const expected = cosine(prediction, standardised);
    assertAlmostEquals(cosine(prediction, centred), expected, 1e-14);
    assert(Math.abs(cosine(prediction, target) - expected) > 1e-3);
  }
});

/** Values of all parameters of the student and of its teachers. */
function counts(objective: ObjectiveName, changes: Partial<Geometry> = {}): number {
  const geometry = { ...geometryFor(objective, "base"), ...changes };
  const recipe = recipeFor(objective, "released");
  return OBJECTIVES[objective].specs(geometry, recipe)
    .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
}

test("base has as many parameters as model/README.md, Initialisation, says", () => {
  // Fixed tables are no parameters, so that a crop's length does not count.
  assertEquals(counts("msm-mae"), 92_736_256);
  assertEquals(counts("msm-mae", { cropFrames: 512 }), 92_736_256);
  // With key biases, as under M2D's code: 768 in each of 12 blocks, 384 in each of 4.
  assertEquals(counts("msm-mae", { keyBias: true }), 92_736_256 + 12 * 768 + 4 * 384);
  assertEquals(counts("m2d"), 111_262_464);
  assertEquals(counts("matpac"), 118_084_608);
  assertEquals(counts("matpac-plus"), 120_054_528);
  // Of which decoder_pred is not trained.
  const { specs } = OBJECTIVES["matpac-plus"];
  const frozen = specs(geometryFor("matpac-plus", "base"), recipeFor("matpac-plus", "released"))
    .filter((it) => it.frozen);
  assertEquals(frozen.map(({ name }) => name), [
    "decoder.decoder_pred.weight",
    "decoder.decoder_pred.bias",
  ]);
});

test("initial values follow model/README.md, Initialisation, in every objective", async () => {
  for (const objective of OBJECTIVE_NAMES) {
    const geometry = smallFor(objective, { patchSize: [16, 8] });
    using model = OBJECTIVES[objective].create(device, geometry, recipeFor(objective, "released"));
    initialise(model, new Prng(2));
    const student = await model.student.read();
    for (const [name, { shape, data }] of student) {
      const most = largest(data);
      const what = `${objective} ${name}`;
      const bounded = (bound: number) => {
        // The largest of n uniform draws is below 0.8 of the bound in one of 1 / 0.8^n runs.
        assert(most <= bound && most > 0.8 * bound, `${what}: ${most} of ${bound}`);
      };
      if (/norm\d?\.weight$|weight_g$/.test(name)) assert(data.every((x) => x === 1), what);
      else if (name === "patch_embed.proj.bias") bounded(1 / Math.sqrt(16 * 8));
      else if (name.endsWith("weight_v")) bounded(1 / Math.sqrt(geometry.bottleneck));
      else if (/[._]bias$/.test(name)) assert(data.every((x) => x === 0), what);
      else if (/token$/.test(name)) {
        const std = Math.sqrt(data.reduce((sum, x) => sum + x * x, 0) / data.length);
        assert(std > 0.01 && std < 0.03, `${what}: ${std}`);
      } else {
        const inputs = shape.slice(1).reduce((a, b) => a * b, 1);
        bounded(Math.sqrt(6 / (shape[0] + inputs)));
      }
    }
    for (const { name, arena, averages } of model.teachers) {
      if (name === "head") continue;
      const qkv = "blocks.0.attn.qkv.weight";
      const [own, other] = [await arena.read(), student.get(`${averages}${qkv}`)!];
      assertNotEquals(own.get(qkv)!.data, other.data, `${objective}: a draw of its own`);
    }
  }
});
