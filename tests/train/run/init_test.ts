/** `--init`: what weights of another run, of this objective or another, a run starts from. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { openDevice } from "../../../engine/mod.ts";
import type { SafetensorsTensor } from "../../../engine/formats/safetensors.ts";
import { initialise } from "../../../model/objectives/initialise.ts";
import type { MaskedModel } from "../../../model/objectives/masked_model.ts";
import { type ObjectiveName, OBJECTIVES, recipeFor } from "../../../model/objectives/objectives.ts";
import { Prng } from "../../../engine/prng.ts";
import { encoderTensors, loadWeights } from "../../../train/run/state_dict.ts";
import type { CheckpointTensor } from "../../../train/run/checkpoint.ts";
import { smallFor } from "../../support/small_geometry.ts";

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
