/** Small models of all kinds, trained by the processes of a group. */
import type { Device } from "../../../engine/mod.ts";
import { Prng } from "../../../engine/prng.ts";
import { initialise } from "../../../model/objectives/initialise.ts";
import { randomMask } from "../../../model/objectives/masking.ts";
import type { Precision } from "../../../model/objectives/masked_model.ts";
import { type ObjectiveName, OBJECTIVES } from "../../../model/objectives/objectives.ts";
import type { RecipeName } from "../../../model/objectives/presets.ts";
import { lossWeights, type Recipe, RECIPES } from "../../../model/objectives/recipe.ts";
import { patchGrid } from "../../../model/vit/geometry.ts";
import type { Group } from "../../../train/cluster/group.ts";
import { snapshotState } from "../../../train/run/state_dict.ts";
import { STEP_DEFAULTS, Trainer } from "../../../train/run/update.ts";
import { constantSchedules } from "../../support/constant_schedules.ts";
import { smallFor } from "../../support/small_geometry.ts";

/** What is trained. */
export interface TrainingSpec {
  readonly objective: ObjectiveName;
  readonly precision: Precision;
  readonly recipe: RecipeName;
  /** Of one clip each, or of four under contrast, over all processes. */
  readonly microBatches: number;
  /** Weight of the contrast of clips. */
  readonly contrast?: number;
  readonly tree?: boolean;
  /** Gradients that are exchanged at a time. */
  readonly bucket?: number;
  /** Infinity in a clip of this micro-batch of the second update: its gradients overflow. */
  readonly overflow?: number;
}

const UPDATES = 3;
const SCHEDULES = constantSchedules({ lr: (u) => 1e-3 * (u + 1) });

/**
 * Trains this process's part.
 *
 * @returns every tensor of a checkpoint, the gradients and the metrics, by name
 */
export async function trainTogether(
  device: Device,
  { rank, size, sum }: Pick<Group, "rank" | "size" | "sum">,
  { objective, precision, microBatches, contrast, tree, bucket, overflow, ...spec }: TrainingSpec,
): Promise<Map<string, Float32Array>> {
  const base = RECIPES[spec.recipe];
  // A step with eps 1e-8 is as large for a gradient that is rounding alone as for any other.
  const recipe: Recipe = { ...base, adam: { ...base.adam, eps: 1e-3 } };
  const geometry = smallFor(objective, { ...contrast && { projection: true } });
  const rows = contrast ? 4 : 1;
  using model = OBJECTIVES[objective].create(device, geometry, recipe, precision);
  initialise(model, new Prng(3));
  using trainer = new Trainer(device, model, SCHEDULES, {
    ...STEP_DEFAULTS,
    weights: { ...lossWeights(recipe, 0.3, 1), contrast },
    ...{ microBatches, tree, bucket },
    group: { size, sum },
  });
  const { patches } = patchGrid(geometry);
  const passes = microBatches / size;
  for (let update = 0; update < UPDATES; update++) {
    for (let pass = rank * passes; pass < (rank + 1) * passes; pass++) {
      const random = new Prng(4, update, pass);
      const shape = [rows, geometry.melBands, geometry.cropFrames];
      const clip = Float32Array.from({ length: rows * shape[1] * shape[2] }, () => random.normal());
      if (update === 1 && pass === overflow) clip.fill(1e30);
      const mask = randomMask(() => random.uniform(), rows, patches, geometry.maskRatio);
      using input = device.tensor(clip, shape);
      await trainer.stepTogether(input, mask);
    }
  }
  const named = new Map<string, Float32Array>();
  for (const [name, { data }] of await snapshotState({ model, trainer }).fetch()) {
    named.set(name, data as Float32Array);
  }
  named.set("gradients", await model.student.grads!.data() as Float32Array);
  for (const [u, row] of (await trainer.recent(UPDATES).values()).entries()) {
    for (const [name, value] of Object.entries(row)) {
      named.set(`${name} of update ${u}`, Float32Array.of(Number(value)));
    }
  }
  return named;
}
