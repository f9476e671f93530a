/**
 * Holds MSM-MAE against the set `msm_mae_step`: forward tensors, losses of all patches, every
 * gradient, parameters after an update, what weight decay spares, learning rates; and embeddings as
 * its inference program makes them.
 *
 * @module
 */
import {
  type Device,
  mean,
  noGrad,
  scope,
  square,
  sub,
  type Tensor,
  warmupCosine,
} from "../../engine/mod.ts";
import { isDecayed } from "../../model/vit/parameter_arena.ts";
import { type Encoder, loadEncoder } from "../../model/encoder/encoder.ts";
import { matpacName } from "../../model/formats/checkpoint_names.ts";
import { writeSafetensors } from "../../engine/formats/safetensors.ts";
import { binaryMask, type Mask } from "../../model/objectives/masking.ts";
import { MsmMae } from "../../model/objectives/msm_mae.ts";
import { recipeFor } from "../../model/objectives/objectives.ts";
import type { Geometry } from "../../model/vit/geometry.ts";
import type { Recipe } from "../../model/objectives/recipe.ts";
import { type StepSettings, Trainer } from "../run/update.ts";
import { type CheckRow, Report, TOLERANCES } from "./report.ts";
import type { GoldenSet } from "./golden.ts";
import {
  compareAfter,
  compareScalars,
  compareStep,
  comparisonsBelow,
  gradientComparisons,
  networkSizes,
  noiseMask,
} from "./training_step.ts";

/** Runs all checks of the set. */
export async function verifyMsmMaeStep(device: Device, golden: GoldenSet): Promise<CheckRow[]> {
  const report = new Report("msm_mae_step");
  await training(device, golden, report);
  rates(golden, report);
  await runtime(device, golden, report);
  return report.rows;
}

function geometryOf({ json: { hyperparameters: h } }: GoldenSet): Geometry {
  const [melBands, cropFrames] = h.img_size;
  return {
    ...networkSizes(h),
    headHidden: 0,
    prototypes: 0,
    bottleneck: 0,
    melBands,
    cropFrames,
    keyBias: false,
    predictorPositions: h.decoder_pos_2d ? "2d" : "1d",
  };
}

function recipeOf({ json: { hyperparameters: h } }: GoldenSet): Recipe {
  return recipeFor("msm-mae", "released", { target: h.norm_pix_loss ? "paper" : "released" });
}

async function training(device: Device, golden: GoldenSet, report: Report): Promise<void> {
  const { hyperparameters: h, scalars } = golden.json;
  using model = new MsmMae(device, geometryOf(golden), recipeOf(golden));
  const names = golden.below("init.");
  const trained = names.filter((name) => model.student.has(matpacName(name)));
  model.student.load(trained.map((name) => [matpacName(name), golden.get(`init.${name}`).data]));
  for (const name of names.filter((it) => !trained.includes(it))) {
    report.compare(
      `init.${name}`,
      await model.fixedPositions[matpacName(name)].data(),
      golden.get(`init.${name}`).data,
      TOLERANCES.table,
    );
  }
  const { betas, weight_decay: weightDecay, lr } = golden.json.fixed.adamw;
  const settings: StepSettings = {
    betas,
    weightDecay,
    clipNorm: 0,
    weights: { pred: 1, cls: 0 },
  };
  using trainer = new Trainer(device, model, {
    total: 1,
    lr: () => lr,
    teacherTemp: () => 0,
    emaEncoder: () => 0,
    emaHead: () => 0,
    choiceTemperature: () => 0,
  }, settings);
  const mask = noiseMask(golden, "in.", h.len_keep, report);
  const { exact, loss } = TOLERANCES;
  report.compare("out.ids_restore", mask.restore, golden.get("out.ids_restore").data, exact);
  report.compare("out.mask", binaryMask(mask), golden.get("out.mask").data, exact);
  const { data, shape: [batch, , bands, frames] } = golden.get("in.x");
  const source = { data, shape: [batch, bands, frames] };
  const values = await compareStep(trainer, source, mask, report, ({ studentTokens }) => [
    ...comparisonsBelow(golden, "out.", {
      latent: studentTokens,
      ...allPatches(model, device.tensor(data, source.shape), mask),
    }),
    ...gradientComparisons(golden, "grad.", model, matpacName),
  ]);
  compareScalars(report, "scalars", [
    ["loss", values.loss, scalars.loss_float64, loss],
    ["loss_pred", values.loss_pred, scalars.loss_float64, loss],
    ["grad_norm", values.grad_norm, scalars.grad_norm_float64, loss],
  ]);
  await compareAfter(report, golden, "after.", model, matpacName);
  const spared: readonly string[] = scalars.parameters_without_weight_decay;
  const ours = spared.map(matpacName);
  report.compare(
    "parameters_without_weight_decay",
    model.student.specs.map((spec) => Number(!isDecayed(spec))),
    model.student.specs.map(({ name }) => Number(ours.includes(name))),
    exact,
  );
}

/** What is painted in the place of every patch, visible ones too, and how far off it is. */
function allPatches(model: MsmMae, input: Tensor, { visible, ...ids }: Mask): {
  readonly pred: Tensor;
  readonly loss_per_patch_unmasked_too: Tensor;
} {
  const { device } = model;
  const [batch] = input.shape;
  const [shuffle, restore] = [ids.shuffle, ids.restore].map((it) =>
    device.tensor(it, [batch, it.length / batch])
  );
  const pred = model.paint(input, { shuffle, restore, visible });
  const each = noGrad(() =>
    scope(() => mean(square(sub(pred, model.target(input))), { axes: [2] }))
  );
  return { pred, loss_per_patch_unmasked_too: each };
}

function rates(golden: GoldenSet, report: Report): void {
  const { lr, warmup_epochs, epochs, rows } = golden.json.scalars.lr_schedule;
  report.compare(
    "lr_schedule",
    rows.map((row: { epoch: number }) => warmupCosine(lr, warmup_epochs, epochs)(row.epoch)),
    rows.map((row: { lr: number }) => row.lr),
    TOLERANCES.schedule,
  );
}

/** Embeddings of the official file, as the official program makes them of it. */
async function runtime(device: Device, golden: GoldenSet, report: Report): Promise<void> {
  const file = writeSafetensors(
    golden.below("init.").map((name) => {
      const { data, shape } = golden.get(`init.${name}`);
      return [name, { dtype: "F32", shape, data: data as Float32Array }];
    }),
    {},
  );
  const heads: number = golden.json.hyperparameters.num_heads;
  using encoder = await loadEncoder(device, file, { heads });
  const names = new Set(golden.below("runtime.").map((name) => name.split(".")[0]));
  for (const name of names) {
    const parts = name === "audio"
      ? await audioParts(encoder, golden)
      : await spectrogramParts(encoder, golden, name);
    for (const [part, actual] of Object.entries(parts)) {
      const key = `runtime.${name}.${part}`;
      const expected = golden.tensors.get(key);
      if (expected) report.compare(key, actual, expected.data, TOLERANCES.embedding);
    }
  }
}

async function spectrogramParts(
  encoder: Encoder,
  golden: GoldenSet,
  name: string,
): Promise<Record<string, Float32Array>> {
  const logMel = golden.get(`runtime.${name}.in`).data as Float32Array;
  const { values, layers } = await encoder.embed(
    { logMel, standardised: true },
    { mode: "msm-mae", pool: "none", layers: true },
  );
  return { out: values, layers: layers! };
}

async function audioParts(
  encoder: Encoder,
  golden: GoldenSet,
): Promise<Record<string, Float32Array>> {
  const { data, shape: [clips] } = golden.get("runtime.audio.in");
  const samples = data.length / clips;
  const audio = Array.from(
    { length: clips },
    (_, i) => (data as Float32Array).subarray(i * samples, (i + 1) * samples),
  );
  const embed = async (pool: "none" | "mean") => {
    const embeddings = await encoder.embed(audio, {
      mode: "msm-mae",
      batchStatistics: true,
      pool,
    });
    return Float32Array.from(embeddings.flatMap(({ values }) => [...values]));
  };
  return { frame_embeddings: await embed("none"), scene_embeddings: await embed("mean") };
}
