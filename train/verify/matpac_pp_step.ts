/**
 * Holds a training step of MATPAC++ against the set `matpac_pp_step`: forward tensors, losses of
 * all heads and who wins, every gradient, parameters; and the losses and gradients of late
 * training, where the winner takes all.
 *
 * @module
 */
import { argmin, type Device, mul, noGrad, slice, type Tensor } from "../../engine/mod.ts";
import { MatpacPlus } from "../../model/objectives/matpac_plus.ts";
import { RECIPES } from "../../model/objectives/recipe.ts";
import { normalisedStd, type StepValues } from "../metrics/update_metrics.ts";
import { type CheckRow, Report, TOLERANCES } from "./report.ts";
import type { GoldenSet } from "./golden.ts";
import {
  compareAfter,
  compareNextCentre,
  compareScalars,
  compareStep,
  type Comparison,
  comparisonsBelow,
  gradientComparisons,
  loadStateDict,
  matpacGeometry,
  matpacOutputs,
  matpacTrainer,
  noiseMask,
  publishedDecays,
  ratesOf,
  type ScalarRow,
  scalarRows,
  type StepScalars,
} from "./training_step.ts";

/** The set's one input. */
const INPUT = "step0.in.";

/** Keeps what all heads made of the last batch. */
class ObservedMatpacPlus extends MatpacPlus {
  heads: { readonly latents: Tensor; readonly losses: Tensor } | undefined;

  protected override choose(hidden: Tensor, target: Tensor): { latents: Tensor; losses: Tensor } {
    return this.heads = super.choose(hidden, target);
  }
}

/** Runs all checks of the set. */
export async function verifyMatpacPlusStep(
  device: Device,
  golden: GoldenSet,
): Promise<CheckRow[]> {
  const report = new Report("matpac_pp_step");
  const { step_float64: soft, hard_float64: hard } = golden.json.scalars;
  await runStep(device, golden, "step0", soft, report);
  await runStep(device, golden, "hard", hard, report);
  return report.rows;
}

async function runStep(
  device: Device,
  golden: GoldenSet,
  label: string,
  scalars: StepScalars,
  report: Report,
): Promise<void> {
  const { hyperparameters: h } = golden.json;
  using model = new ObservedMatpacPlus(device, matpacGeometry(golden), RECIPES.released);
  loadStateDict(model, golden);
  const rates = ratesOf(golden, publishedDecays(golden));
  using trainer = matpacTrainer(model, golden, rates);
  const u = trainer.updates = scalars.num_updates;
  const mask = noiseMask(golden, INPUT, h.len_keep, report);
  const values = await compareStep(
    trainer,
    golden.get(`${INPUT}source`),
    mask,
    report,
    (forward) => {
      const { latents, losses } = model.heads!;
      return [
        ...comparisonsBelow(golden, `${label}.out.`, {
          ...matpacOutputs(forward),
          z_hat_m: latents,
          loss_pred_per_head: losses,
        }),
        winnerComparison(golden, label, forward.winners!),
        ...headSpreadComparisons(label, latents, scalars),
        ...gradientComparisons(golden, `${label}.grad.`, model),
      ];
    },
  );
  await compareNextCentre(report, golden, `${label}.out.center_next`, model);
  // The official code never logs a temperature below the one at which the winner takes all.
  const choice = Math.max(rates.choiceTemperature(u), h.mcl_temperature[1]);
  const { schedule } = TOLERANCES;
  compareScalars(report, label, [
    ...scalarRows(values, scalars),
    ...headRows(values, golden),
    ["teacher_temp", rates.teacherTemp(u), scalars.teacher_temp, schedule],
    ["ema_encoder", rates.emaEncoder(u), scalars.ema_decay_encoder, schedule],
    ["choice_temperature", 1000 * choice, scalars.logged.mcl_temp, schedule],
  ]);
  await compareAfter(report, golden, `${label}.after.`, model);
  await compareUnused(report, golden, label, model);
}

/** The heads that come closest; which they are does not depend on the update. */
function winnerComparison(golden: GoldenSet, label: string, winners: Tensor): Comparison {
  return {
    name: `${label}.out.best_head_idx`,
    tensor: noGrad(() => argmin(mul(winners, -1), { axis: -1 })),
    expected: golden.get("step0.out.best_head_idx").data,
    tolerance: TOLERANCES.exact,
  };
}

/** Spread of each head's predictions, logged in thousandths. */
function headSpreadComparisons(
  label: string,
  latents: Tensor,
  { logged }: StepScalars,
): Comparison[] {
  return Array.from({ length: latents.shape[2] }, (_, i) => ({
    name: `${label}.prediction_std_${i}`,
    tensor: noGrad(() => normalisedStd(slice(latents, 2, i, 1))),
    expected: [logged[`var_z_hat_m_${i}`] / 1000],
  }));
}

/** How many heads are in use, by the set's count of what each wins. */
function headRows(values: StepValues, golden: GoldenSet): ScalarRow[] {
  const counts: readonly number[] = golden.json.scalars.best_head_counts;
  const all = counts.reduce((a, b) => a + b, 0);
  const entropy = counts.reduce((sum, n) => sum - n / all * Math.log(n / all + 1e-7), 0);
  return [["head_perplexity", values.head_perplexity!, Math.exp(entropy), TOLERANCES.forward]];
}

/** Parameters without gradient are no others than the set's, and stay as they were. */
async function compareUnused(
  report: Report,
  golden: GoldenSet,
  label: string,
  model: MatpacPlus,
): Promise<void> {
  const expected: readonly string[] = golden.json.scalars.parameters_without_gradient;
  const { specs } = model.student;
  report.compare(
    `${label}.parameters_without_gradient`,
    specs.map(({ frozen = false }) => Number(frozen)),
    specs.map(({ name }) => Number(expected.includes(name))),
    TOLERANCES.exact,
  );
  const after = await model.student.read();
  for (const name of expected) {
    report.compare(
      `${label}.unchanged.${name}`,
      after.get(name)!.data,
      golden.get(`init.${name}`).data,
      TOLERANCES.exact,
    );
  }
}
