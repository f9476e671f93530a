/**
 * Whole training steps.
 *
 * @module
 */
import { initialise } from "../model/objectives/initialise.ts";
import { randomMask, visibleCount } from "../model/objectives/masking.ts";
import { Matpac } from "../model/objectives/matpac.ts";
import { PRESETS } from "../model/objectives/presets.ts";
import { type Geometry, patchGrid, patchSides } from "../model/vit/geometry.ts";
import { lossWeights, RECIPES } from "../model/objectives/recipe.ts";
import { Prng } from "../engine/prng.ts";
import { STEP_DEFAULTS, Trainer } from "../train/run/update.ts";
import { prepared, random } from "./case.ts";
import type { Benchmark } from "./harness.ts";
import { stopwatch } from "./stopwatch.ts";

/**
 * Operations of one clip's update: the student three times (forward, two backward), the teacher
 * once.
 *
 * @param masks of the clip; the teacher sees the whole clip where there are several
 */
export function stepFlops(geometry: Geometry, masks = 1): number {
  const {
    width: d,
    depth,
    predictorWidth: w,
    predictorDepth,
    headHidden: h,
    bottleneck,
    prototypes,
    maskRatio,
  } = geometry;
  const [high, wide] = patchSides(geometry);
  const { patches } = patchGrid(geometry);
  const visible = visibleCount(patches, maskRatio);
  const masked = patches - visible;
  const layer = (tokens: number, size: number) =>
    12 * size * size * tokens + 2 * tokens * tokens * size;
  const head = d * h + h * h + h * bottleneck + bottleneck * prototypes;
  const seen = depth * layer(1 + visible, d) + (1 + visible) * d * w +
    predictorDepth * layer(1 + patches, w) + masked * (w * d + head);
  const student = high * wide * d * patches + masks * seen;
  const targets = masks > 1 ? patches : masked;
  const teacher = depth * layer(1 + targets, d) + targets * head;
  return 2 * (3 * student + teacher);
}

const SCHEDULES = {
  total: 100,
  lr: () => 1e-4,
  teacherTemp: () => 0.05,
  emaEncoder: () => 0.99,
  emaHead: () => 0.99,
  choiceTemperature: () => 0.1,
};

function benchmark(
  name: string,
  geometry: Geometry,
  batch: number,
  tier: Benchmark["tier"],
  masks = 1,
): Benchmark {
  return {
    name,
    tier,
    bound: "fma",
    flops: batch * stepFlops(geometry, masks),
    count: 3,
    prepare(device) {
      const recipe = { ...RECIPES.paper, ...masks > 1 && { teacherView: "clip" } as const };
      const model = new Matpac(device, geometry, recipe);
      const prng = new Prng(1);
      initialise(model, prng);
      const weights = lossWeights(recipe, 0.5);
      const trainer = new Trainer(device, model, SCHEDULES, { ...STEP_DEFAULTS, weights });
      const input = random(device, [batch, geometry.melBands, geometry.cropFrames]);
      const { patches } = patchGrid(geometry);
      const rows = batch * masks;
      const mask = randomMask(() => prng.uniform(), rows, patches, geometry.maskRatio);
      const submits = stopwatch(device.gpu.queue, "submit");
      let script = Infinity;
      let dispatches = 0;
      return Promise.resolve(prepared(name, {
        operands: [input],
        // A plan lives from one step to the next.
        owner: true,
        outputs() {
          const before = device.counters.dispatches;
          const start = performance.now() - submits.ms;
          trainer.step(input, mask);
          // A software adapter computes inside submit; that is not the script's time.
          script = Math.min(script, performance.now() - submits.ms - start);
          dispatches = device.counters.dispatches - before;
          return [];
        },
        extra: (ms) => ({
          samples_per_s: rows * 1000 / ms,
          peak_bytes: device.memory.liveBytes,
          us_per_dispatch: script * 1000 / dispatches,
        }),
        close() {
          submits[Symbol.dispose]();
          trainer[Symbol.dispose]();
          model[Symbol.dispose]();
        },
      }));
    },
  };
}

const { tiny, base } = PRESETS;

/**
 * The presets' steps; crops of 608 frames are the paper's. Of `masks-M` as many crops with a mask
 * make an update as of `tiny`, and those count as samples: M masks for each of fewer clips, which
 * the teacher encodes once.
 */
export const STEP_BENCHMARKS: readonly Benchmark[] = [
  benchmark("step/tiny", tiny.geometry, tiny.training.batch, "quick"),
  ...[2, 4, 8].map((masks) => {
    const { batch } = tiny.training;
    return benchmark(`step/tiny/masks-${masks}`, tiny.geometry, batch / masks, "full", masks);
  }),
  benchmark("step/tiny/608x16", { ...tiny.geometry, cropFrames: 608 }, 16, "full"),
  benchmark("step/base", base.geometry, 4, "full"),
];
