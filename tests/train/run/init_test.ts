/**
 * `--init`: what weights of another run, of this objective or another, or of the official programs,
 * a run starts from.
 */
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { openDevice } from "../../../engine/mod.ts";
import type { SafetensorsTensor } from "../../../engine/formats/safetensors.ts";
import { initialise } from "../../../model/objectives/initialise.ts";
import type { MaskedModel } from "../../../model/objectives/masked_model.ts";
import { type ObjectiveName, OBJECTIVES, recipeFor } from "../../../model/objectives/objectives.ts";
import { Prng } from "../../../engine/prng.ts";
import { encoderTensors, loadWeights } from "../../../train/run/state_dict.ts";
import type { CheckpointTensor } from "../../../train/run/checkpoint.ts";
import { PRESETS } from "../../../model/objectives/presets.ts";
import { run as exportCommand } from "../../../train/commands/export.ts";
import { run as pretrainCommand } from "../../../train/commands/pretrain.ts";
import { plannedHours, resolveConfig, resolvePlanned } from "../../../train/config/config.ts";
import { initialModel, initialTensors } from "../../../train/run/initial_weights.ts";
import { planContinued, planLengths } from "../../../train/run/plan.ts";
import { inTempDir } from "../../support/audio_files.ts";
import { smallFor } from "../../support/small_geometry.ts";
import { fullOnly, test } from "../../support/tier.ts";

const asFile = (tensors: Iterable<readonly [string, CheckpointTensor]>) =>
  new Map([...tensors].map(([name, { shape, data }]): [string, SafetensorsTensor] => [
    name,
    { dtype: "F32", shape, data: (data as Float32Array).slice() },
  ]));

const teachers = async (model: MaskedModel) =>
  new Map(
    await Promise.all(
      model.teachers.map(async ({ name, arena }) => [name, asFile(await arena.read())] as const),
    ),
  );

for (const objective of ["m2d", "matpac", "matpac-plus"] as const) {
  Deno.test(`${objective}: MSM-MAE's encoder alone starts the student and its teacher`, async () => {
    using device = await openDevice();
    const make = (name: ObjectiveName, seed: number, choices = {}) => {
      const recipe = { ...recipeFor(name, "paper"), ...choices };
      const model = OBJECTIVES[name].create(device, smallFor(name), recipe);
      initialise(model, new Prng(seed));
      return model;
    };
    using painter = make("msm-mae", 1);
    // A bias of queries that is not 0, as after training, tells apart what a key's bias of 0 lies
    // between.
    const file = asFile(await encoderTensors(painter));
    for (const [name, tensor] of file) {
      if (/[qv]_bias$/.test(name)) (tensor.data as Float32Array).fill(name.includes("q_") ? 2 : 3);
    }
    // Whether or not teachers have draws of their own where nothing is loaded.
    for (const teacherInit of ["copy", "independent"] as const) {
      using model = make(objective, 2, { teacherInit });
      const before = await teachers(model);
      const used = loadWeights(model, file);
      const student = asFile(await model.student.read());
      const after = await teachers(model);
      const encoder = after.get("encoder")!;
      for (const [own, { data }] of encoder) {
        const name = `student_encoder.${own}`;
        assertEquals(data, student.get(name)!.data, name);
        if (name.endsWith("attn.qkv.bias")) {
          const third = Array(data.length / 3).fill(0);
          const expected = [2, 0, 3].flatMap((value) => third.map(() => value));
          assertEquals([...data as Float32Array], expected, name);
        } else assertEquals(data, file.get(name)!.data, name);
      }
      assertEquals(student.get("patch_embed.proj.weight"), file.get("patch_embed.proj.weight"));
      assertNotEquals(encoder, before.get("encoder"));
      assertEquals(after.get("head"), before.get("head"));
      // Two biases of the file make one; a fixed table is computed.
      const biases = [...file.keys()].filter((name) => name.endsWith("q_bias")).length;
      const tables = model.recipe.positions === "fixed" ? 1 : 0;
      assert(biases > 0);
      assertEquals(used, file.size - biases - tables);
    }
  });
}

const signal = new AbortController().signal;

fullOnly(
  "--init takes official files: student, teachers, heads and centre, in a planned run as well",
  () =>
    inTempDir(async (dir) => {
      const { log } = console;
      console.log = () => {};
      try {
        // A model of preset tiny after two updates, in the layout of fairseq's checkpoints.
        const run = join(dir, "run");
        const short = ["--batch", "2", "--crop-frames", "48", "--quiet", "--steps", "2"];
        assertEquals(await pretrainCommand([...short, "--seed", "9", "--out", run], signal), 0);
        const checkpoint = join(run, "checkpoints", "step-00000002.safetensors");
        const official = join(dir, "official.pt");
        await exportCommand([checkpoint, "--out", official, "--format", "fairseq"], signal);

        const tensors = initialTensors(official);
        using device = await openDevice();
        const config = resolveConfig(["--crop-frames", "48"]);
        using model = OBJECTIVES.matpac.create(device, config.geometry, config.choices);
        initialise(model, new Prng(1));
        loadWeights(model, tensors);
        const loaded = [
          ...(await model.student.read()),
          ...(await Promise.all(model.teachers.map(async ({ name, arena }) => {
            const prefix = { encoder: "_ema.", head: "_cls_head_ema." }[name];
            return [...await arena.read()].map(([own, it]) => [prefix + own, it] as const);
          }))).flat(),
        ];
        assert(loaded.length > 300, `${loaded.length}`);
        for (const [name, { data }] of loaded) assertEquals(tensors.get(name)?.data, data, name);
        const centre = await model.centre!.data() as Float32Array;
        assertEquals(tensors.get("cls_head_loss.center")!.data, centre);
        assert(centre.some((x) => x !== 0));
        const own = initialTensors(checkpoint);
        for (const [name, { data }] of own) assertEquals(tensors.get(name)?.data, data, name);

        const started = join(dir, "started");
        assertEquals(
          await pretrainCommand([...short, "--init", official, "--out", started], signal),
          0,
        );

        const known = initialModel(official);
        assertEquals(known, {
          ...{ preset: "tiny", objective: "matpac", frames: 48, patch: [16, 16], classToken: true },
          ...{ choices: 0, teacher: true },
        });
        const words = ["--init", official, "--data", dir];
        assertEquals(plannedHours(words), 1);
        const sizes = planContinued({ clips: 9, hours: 0.1, median: 3 }, known, 1);
        const of = (values: Record<string, unknown>) =>
          resolvePlanned(words, new Date(0), { values, reasons: [] });
        const { values, reason } = planLengths(
          sizes,
          [1000],
          1,
          of({ ...sizes.values, steps: 1 }),
        );
        const planned = of({ ...sizes.values, ...values });
        // A hundred passes over 6 minutes in crops of 0.48 s, not an hour.
        assertEquals(planned.length, { steps: Math.ceil(100 * 360 / 0.48 / 32) });
        assert(reason.text.includes("100 passes"), reason.text);
        assertEquals([planned.objective, planned.lr, planned.init], ["matpac", 1e-4, official]);
        assertEquals(planned.teacherTemp, [0.07, 0.07]);
      } finally {
        console.log = log;
      }
    }),
);

test("--init turns half precision into floats, and says which sizes are of no preset", () => {
  const golden = (name: string) => fromFileUrl(new URL(`../../golden/${name}`, import.meta.url));
  const [whole, half] = ["matpac_enconly.pt", "matpac_enconly_fp16.pt"]
    .map((it) => initialTensors(golden(it)));
  assertEquals([...half.keys()], [...whole.keys()]);
  for (const [name, { dtype, data }] of half) {
    assertEquals(dtype, "F32", name);
    const exact = whole.get(name)!.data as Float32Array;
    // Half a unit in the last place of f16, or what is below its normal numbers.
    (data as Float32Array).forEach((x, i) =>
      assert(Math.abs(x - exact[i]) <= Math.max(2 ** -11 * Math.abs(exact[i]), 2 ** -25), name)
    );
  }
  const error = assertThrows(() => initialModel(golden("matpac_full.pt")), Error, "of no preset");
  assert(Object.keys(PRESETS).every((name) => String(error).includes(name)));
});
