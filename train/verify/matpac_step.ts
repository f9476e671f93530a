/**
 * Holds three whole training steps against the set `matpac_step`: forward tensors, losses, every
 * gradient, parameters, teachers, centres, schedules; and the variants with a raw-logit centre and
 * with fast averages.
 *
 * @module
 */
import { type Device, exponentialDecay, linearRamp, warmupCosine } from "../../engine/mod.ts";
import { Matpac } from "../../model/objectives/matpac.ts";
import { type Recipe, RECIPES } from "../../model/objectives/recipe.ts";
import type { Trainer } from "../run/update.ts";
import { type CheckRow, Report, TOLERANCES } from "./report.ts";
import type { GoldenSet } from "./golden.ts";
import {
  compareAfter,
  compareNextCentre,
  compareScalars,
  compareStep,
  comparisonsBelow,
  type Decays,
  gradientComparisons,
  loadStateDict,
  matpacGeometry,
  matpacOutputs,
  matpacTrainer,
  noiseMask,
  publishedDecays,
  ratesOf,
  scalarRows,
  type StepScalars,
} from "./training_step.ts";

interface Variant extends Decays {
  /** "" for the main run, else the prefix of its tensors. */
  readonly prefix: string;
  readonly recipe: Recipe;
  readonly scalars: readonly StepScalars[];
}

/** Runs all checks of the set. */
export async function verifyMatpacStep(device: Device, golden: GoldenSet): Promise<CheckRow[]> {
  const report = new Report("matpac_step");
  const { scalars, variant_fast_ema: fast } = golden.json;
  const main: Variant = {
    prefix: "",
    recipe: RECIPES.released,
    ...publishedDecays(golden),
    scalars: scalars.steps_float64,
  };
  await runVariant(device, golden, main, report);
  await runVariant(device, golden, {
    ...main,
    prefix: "rawcenter.",
    recipe: { ...RECIPES.released, centerOn: "logits" },
    scalars: scalars.variant_center_from_raw_teacher_logits_float64,
  }, report);
  await runVariant(device, golden, {
    ...main,
    prefix: "fastema.",
    emaEncoder: fast.ema_decay_encoder,
    emaHead: fast.ema_decay_head,
    scalars: scalars.variant_fast_ema_float64,
  }, report);
  schedules(golden, report);
  return report.rows;
}

async function runVariant(
  device: Device,
  golden: GoldenSet,
  variant: Variant,
  report: Report,
): Promise<void> {
  const main = variant.prefix === "";
  using model = new Matpac(device, matpacGeometry(golden), variant.recipe);
  loadStateDict(model, golden);
  using trainer = matpacTrainer(model, golden, ratesOf(golden, variant));
  let before = main ? await model.student.read() : undefined;
  for (let step = 0; step < variant.scalars.length; step++) {
    const label = `${variant.prefix}step${step}`;
    const visible: number = golden.json.hyperparameters.len_keep;
    // Other variants have the inputs of the main run, which were checked there.
    const checked = main ? report : new Report("");
    const mask = noiseMask(golden, `step${step}.in.`, visible, checked);
    const source = golden.get(`step${step}.in.source`);
    const values = await compareStep(trainer, source, mask, report, (forward) => [
      ...comparisonsBelow(golden, `${label}.out.`, matpacOutputs(forward)),
      ...gradientComparisons(golden, `${label}.grad.`, model),
    ]);
    await compareNextCentre(report, golden, `${label}.out.center_next`, model);
    const scalars = variant.scalars[step];
    compareScalars(report, label, [
      ...scalarRows(values, scalars),
      [
        "prediction_std",
        1000 * values.prediction_std,
        scalars.logged.var_z_hat_m,
        TOLERANCES.forward,
      ],
    ]);
    await compareAfter(report, golden, `${label}.after.`, model);
    if (before) {
      const after = await model.student.read();
      compareChanges(report, golden, step, before, after);
      before = after;
    }
  }
  await compareAfter(report, golden, `${variant.prefix}after.`, model);
  if (main) await compareMoments(report, golden, model, trainer);
}

type Parameters = ReadonlyMap<string, { readonly data: Float32Array }>;

/** L2 norms of the changes of all parameters by one update, as one vector. */
function compareChanges(
  report: Report,
  golden: GoldenSet,
  step: number,
  before: Parameters,
  after: Parameters,
): void {
  const expected: Record<string, number> =
    golden.json.scalars[`step${step}_l2_of_change_per_parameter`] ?? {};
  const names = Object.keys(expected).filter((name) => after.has(name));
  const norm = (name: string) => {
    const [a, b] = [before.get(name)!.data, after.get(name)!.data];
    return Math.sqrt(a.reduce((sum, x, i) => sum + (b[i] - x) ** 2, 0));
  };
  report.compare(
    `step${step}.l2_of_change`,
    names.map(norm),
    names.map((name) => expected[name]),
    {
      max: 5e-5,
      l2: 5e-5,
      reason:
        "a change of 3e-4 per element is the difference of float32 parameters near 1 (rounding " +
        "6e-8: 2e-4 of it each)",
    },
  );
}

async function compareMoments(
  report: Report,
  golden: GoldenSet,
  model: Matpac,
  trainer: Trainer,
): Promise<void> {
  const expected: Record<string, [number, number]> | undefined =
    golden.json.scalars.adam_moment_l2_after_step2;
  if (!expected) return;
  const moments = [await model.student.read(trainer.m), await model.student.read(trainer.v)];
  const names = Object.keys(expected).filter((name) => moments[0].has(name));
  const l2 = (data: Float32Array) => Math.sqrt(data.reduce((sum, x) => sum + x * x, 0));
  moments.forEach((moment, i) =>
    report.compare(
      `step2.adam_moment_${i + 1}_l2`,
      names.map((name) => l2(moment.get(name)!.data)),
      names.map((name) => expected[name][i]),
      TOLERANCES.gradient,
    )
  );
}

interface ScheduleRow {
  readonly u: number;
  readonly teacher_temp: number;
  readonly encoder_decay_set_in_forward: number | null;
  readonly head_decay_set_in_forward: number | null;
}

/** Temperatures, decays and learning rates at the set's chosen updates. */
function schedules(golden: GoldenSet, report: Report): void {
  const { scalars: { schedules: s }, fixed } = golden.json;
  const check = (label: string, rows: readonly ScheduleRow[], total: number, warmup: number) => {
    const compare = (
      what: string,
      f: (u: number) => number,
      expected: (row: ScheduleRow) => number | null,
      last = Infinity,
    ) => {
      const used = rows.filter((row) => expected(row) !== null && row.u < last);
      report.compare(
        `${label}.${what}`,
        used.map((row) => f(row.u)),
        used.map((row) => expected(row)!),
        TOLERANCES.schedule,
      );
    };
    compare(
      "teacher_temp",
      linearRamp(fixed.warmup_teacher_temp, fixed.teacher_temp_end, warmup),
      (row) => row.teacher_temp,
    );
    compare(
      "ema_encoder",
      linearRamp(...fixed.ema_decay_encoder as [number, number], total),
      (row) => row.encoder_decay_set_in_forward,
    );
    // Past the last update the released code gives the head the encoder's decay; we end at 1
    // (model/README.md, Where paper and released code differ).
    compare(
      "ema_head",
      linearRamp(...fixed.ema_decay_head as [number, number], total),
      (row) => row.head_decay_set_in_forward,
      total,
    );
  };
  check("schedules", s.rows, s.max_update, s.teacher_temp_warmup_steps);
  check(
    "schedules.full_size",
    s.full_size.rows,
    s.full_size.max_update,
    s.full_size.warmup_teacher_temp_steps,
  );
  const { start, decay_rate, rows: temperatures } = s.mcl_temperature;
  report.compare(
    "schedules.mcl_temperature",
    temperatures.map(({ u }: { u: number }) => exponentialDecay(start, decay_rate)(u)),
    temperatures.map((row: { temperature: number }) => row.temperature),
    TOLERANCES.schedule,
  );
  const { lr, warmup_updates, max_update, rows } = s.cosine_lr;
  report.compare(
    "schedules.cosine_lr",
    rows.map(({ u }: { u: number }) => warmupCosine(lr, warmup_updates, max_update)(u)),
    rows.map((row: { lr: number }) => row.lr),
    TOLERANCES.schedule,
  );
}
