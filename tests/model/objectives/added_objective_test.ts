/** The objective of model/README.md, Adding an objective: it runs and its loss is right. */
import { assertAlmostEquals, assertEquals } from "@std/assert";
import { join, toFileUrl } from "@std/path";
import { type HostArray, openDevice } from "../../../engine/mod.ts";
import { initialise } from "../../../model/objectives/initialise.ts";
import type { M2d } from "../../../model/objectives/m2d.ts";
import { randomMask } from "../../../model/objectives/masking.ts";
import { recipeFor } from "../../../model/objectives/objectives.ts";
import { patchGrid } from "../../../model/vit/geometry.ts";
import { Prng } from "../../../engine/prng.ts";
import { constantSchedules } from "../../support/constant_schedules.ts";
import { smallFor } from "../../support/small_geometry.ts";
import { STEP_DEFAULTS, Trainer } from "../../../train/run/update.ts";

const MODEL = new URL("../../../model/", import.meta.url);
const BATCH = 2;

/** The class in the README's code block, from a file whose imports reach this repository. */
async function shownObjective(folder: string): Promise<typeof M2d> {
  const readme = await Deno.readTextFile(new URL("README.md", MODEL));
  const section = readme.slice(readme.indexOf("## Adding an objective"));
  const block = /```ts\n([^]*?)```/.exec(section)![1].replace(/^ {3}/gm, "");
  const code = block.replace(
    /from "(\.[^"]+)"/g,
    (_, path) => `from "${new URL(path, new URL("objectives/", MODEL))}"`,
  );
  const file = join(folder, "m2d_smooth_l1.ts");
  await Deno.writeTextFile(file, code);
  const { M2dSmoothL1 } = await import(toFileUrl(file).href);
  return M2dSmoothL1;
}

Deno.test("the objective that model/README.md adds trains, and its loss is float64's", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const Shown = await shownObjective(folder);
    using device = await openDevice();
    const geometry = smallFor("m2d");
    using model = new Shown(device, geometry, recipeFor("m2d", "released"));
    const random = new Prng(4);
    initialise(model, random);
    using trainer = new Trainer(device, model, constantSchedules(), {
      ...STEP_DEFAULTS,
      weights: { pred: 1, cls: 0 },
    });
    const { patches } = patchGrid(geometry);
    const shape = [BATCH, geometry.melBands, geometry.cropFrames];
    const size = shape.reduce((a, b) => a * b, 1);
    using input = device.tensor(Float32Array.from({ length: size }, () => random.normal()), shape);
    const mask = randomMask(() => random.uniform(), BATCH, patches, geometry.maskRatio);
    let read: Promise<HostArray[]> | undefined;
    trainer.step(input, mask, ({ prediction, target, predictionLoss }) => {
      read = Promise.all([prediction, target, predictionLoss].map((it) => it.data()));
    });
    const [prediction, target, losses] = await read!;
    assertEquals(losses.length, BATCH * (patches - mask.visible));
    losses.forEach((loss, token) => {
      let sum = 0;
      for (let i = token * geometry.width; i < (token + 1) * geometry.width; i++) {
        const error = Math.abs(prediction[i] - target[i]);
        sum += error < 1 ? error ** 2 / 2 : error - 0.5;
      }
      assertAlmostEquals(loss, sum / geometry.width, 1e-5);
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
