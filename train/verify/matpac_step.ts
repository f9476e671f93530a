/**
 * Holds three whole training steps against the set `matpac_step`: forward tensors, losses, every gradient, parameters,
 * teachers, centres, schedules; and the variants with a raw-logit centre and with fast averages.
 *
 * @module
 */
import type { Device, HostArray, Tensor } from "../../engine/mod.ts";
import { maskFromNoise } from "../../model/masking.ts";
import { Matpac, type MatpacForward } from "../../model/matpac.ts";
import type { Geometry } from "../../model/presets.ts";
import { lossWeights, type Recipe, RECIPES } from "../../model/recipe.ts";
import {
  emaDecay,
  learningRate,
  multipleChoiceTemperature,
  type Schedules,
  teacherTemperature,
} from "../schedule.ts";
import { TEACHER_PREFIX } from "../state.ts";
import { readMetrics, type StepValues, Trainer } from "../step.ts";
import { type CheckRow, Report, type Tolerance, TOLERANCES } from "./compare.ts";
import type { GoldenSet } from "./golden.ts";

/** Scalars of one reference step. */
interface StepScalars {
  readonly total_mean: number;
  readonly loss_cls_mean: number;
  readonly loss_pred_mean: number;
  readonly teacher_temp: number;
  readonly grad_norm_before_clip: number;
  readonly clip_coef: number;
  readonly logged: {
    readonly var_z_hat_m: number;
    readonly var_z_m: number;
    readonly cls_perplexity: number;
    readonly n_diff_target: number;
  };
}

interface Variant {
  /** "" for the main run, else the prefix of its tensors. */
  readonly prefix: string;
  readonly recipe: Recipe;
  readonly emaEncoder: readonly [number, number];
  readonly emaHead: readonly [number, number];
  readonly scalars: readonly StepScalars[];
}

/** Runs all checks of the set. */
export async function verifyMatpacStep(device: Device, golden: GoldenSet): Promise<CheckRow[]> {
  const report = new Report("matpac_step");
  const { fixed, scalars, variant_fast_ema: fast } = golden.json;
  const main: Variant = {
    prefix: "",
    recipe: RECIPES.released,
    emaEncoder: fixed.ema_decay_encoder,
    emaHead: fixed.ema_decay_head,
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

function geometryOf(golden: GoldenSet): Geometry {
  const { hyperparameters: h, fixed } = golden.json;
  return {
    width: h.embed_dim,
    depth: h.depth,
    heads: h.num_heads,
    predictorWidth: h.decoder_embed_dim,
    predictorDepth: h.decoder_depth,
    predictorHeads: h.decoder_num_heads,
    headHidden: h.head_hidden_dim,
    prototypes: h.head_dim_out,
    bottleneck: fixed.head_bottleneck,
    melBands: h.n_freq,
    patchSize: h.patch_size,
    cropFrames: h.n_t,
    maskRatio: h.mask_ratio,
  };
}

/** Loads a state dict in the reference's names. */
function loadInitial(model: Matpac, golden: GoldenSet): void {
  const entries = (prefix: string, keep: (name: string) => boolean): [string, HostArray][] =>
    golden.below(prefix).filter(keep).map((name) => [name, golden.get(`${prefix}${name}`).data]);
  model.student.load(entries("init.", (name) => model.student.has(name)));
  model.teacherEncoder.load(entries(`init.${TEACHER_PREFIX.encoder}`, () => true));
  model.teacherHead.load(entries(`init.${TEACHER_PREFIX.head}`, () => true));
  model.device.write(model.centre, golden.get("init.cls_head_loss.center").data);
}

async function runVariant(
  device: Device,
  golden: GoldenSet,
  variant: Variant,
  report: Report,
): Promise<void> {
  const { hyperparameters: h, fixed } = golden.json;
  using model = new Matpac(device, geometryOf(golden), variant.recipe);
  loadInitial(model, golden);
  const rates: Schedules = {
    total: h.max_update,
    // The reference steps run at a constant rate; its learning-rate schedule is checked on its own.
    lr: () => h.lr,
    teacherTemp: (u) =>
      teacherTemperature(
        u,
        fixed.warmup_teacher_temp,
        fixed.teacher_temp_end,
        h.teacher_temp_warmup_steps,
      ),
    emaEncoder: (u) => emaDecay(u, ...variant.emaEncoder, h.max_update),
    emaHead: (u) => emaDecay(u, ...variant.emaHead, h.max_update),
  };
  using trainer = new Trainer(device, model, rates, {
    weights: lossWeights(variant.recipe, fixed.alpha),
    clipNorm: h.clip_norm,
    betas: fixed.adam_betas,
    weightDecay: fixed.weight_decay,
  });
  let before = variant.prefix === "" ? await model.student.read() : undefined;
  for (let step = 0; step < variant.scalars.length; step++) {
    const name = `step${step}`;
    const noise = golden.get(`${name}.in.noise`);
    const [batch, patches] = noise.shape;
    const mask = maskFromNoise(noise.data, batch, patches, h.len_keep);
    const label = `${variant.prefix}${name}`;
    if (variant.prefix === "") {
      report.compare(
        `${label}.in.ids_shuffle`,
        mask.shuffle,
        golden.get(`${name}.in.ids_shuffle`).data,
        TOLERANCES.exact,
      );
    }
    const source = golden.get(`${name}.in.source`);
    const input = device.tensor(source.data, source.shape);
    const kept: [string, Promise<HostArray>][] = [];
    const metrics = trainer.step(input, mask, (forward) => {
      for (const [part, tensor] of outputsOf(golden, label, forward, model)) {
        kept.push([part, tensor.data()]);
      }
      for (const part of golden.below(`${label}.grad.`)) {
        kept.push([`grad.${part}`, model.student.get(part).grad!.data()]);
      }
    });
    input.dispose();
    for (const [part, values] of kept) {
      const tolerance = part.startsWith("grad.") ? TOLERANCES.gradient : forwardTolerance(part);
      report.compare(
        `${label}.${part}`,
        await values,
        golden.get(`${label}.${part}`).data,
        tolerance,
      );
    }
    using next = model.nextCentre();
    compareIfThere(
      report,
      golden,
      `${label}.out.center_next`,
      await next.data(),
      TOLERANCES.forward,
    );
    compareScalars(report, label, await readMetrics(device, metrics), variant.scalars[step]);
    await compareAfter(report, golden, `${label}.after.`, model);
    if (before) {
      const after = await model.student.read();
      compareChanges(report, golden, step, before, after);
      before = after;
    }
  }
  await compareAfter(report, golden, `${variant.prefix}after.`, model);
  if (variant.prefix === "") await compareMoments(report, golden, model, trainer);
}

const forwardTolerance = (part: string): Tolerance =>
  /mask|ids_/.test(part) ? TOLERANCES.exact : TOLERANCES.forward;

/** The forward tensors that the set holds for a step, by the set's names. */
function outputsOf(
  golden: GoldenSet,
  label: string,
  forward: MatpacForward,
  model: Matpac,
): [string, Tensor][] {
  const all: Record<string, Tensor> = {
    patch_tokens: forward.patchTokens,
    x_m: forward.maskedTokens,
    z_v: forward.studentTokens,
    z_m_with_cls: forward.teacherTokens,
    z_hat_m: forward.prediction,
    p_hat_m_logits: forward.studentLogits,
    p_m_logits: forward.teacherLogits,
    p_m: forward.probabilities,
    loss_pred_tokens: forward.predictionLoss,
    loss_cls_tokens: forward.classificationLoss,
    center_used: model.centre,
  };
  return Object.entries(all)
    .map(([name, tensor]): [string, Tensor] => [`out.${name}`, tensor])
    .filter(([part]) => golden.tensors.has(`${label}.${part}`));
}

function compareIfThere(
  report: Report,
  golden: GoldenSet,
  name: string,
  actual: HostArray,
  tolerance: Tolerance,
): void {
  const expected = golden.tensors.get(name);
  if (expected) report.compare(name, actual, expected.data, tolerance);
}

function compareScalars(
  report: Report,
  label: string,
  values: StepValues,
  expected: StepScalars,
): void {
  const rows: [string, number, number, Tolerance][] = [
    ["total_mean", values.loss, expected.total_mean, TOLERANCES.loss],
    ["loss_cls_mean", values.loss_cls, expected.loss_cls_mean, TOLERANCES.loss],
    ["loss_pred_mean", values.loss_pred, expected.loss_pred_mean, TOLERANCES.loss],
    ["grad_norm", values.grad_norm, expected.grad_norm_before_clip, TOLERANCES.loss],
    ["clip_coef", values.clip_coefficient, expected.clip_coef, TOLERANCES.loss],
    // The reference logs these from float32 tensors, in thousandths.
    ["target_std", 1000 * values.target_std, expected.logged.var_z_m, TOLERANCES.forward],
    [
      "prediction_std",
      1000 * values.prediction_std,
      expected.logged.var_z_hat_m,
      TOLERANCES.forward,
    ],
    [
      "target_perplexity",
      values.target_perplexity,
      expected.logged.cls_perplexity,
      TOLERANCES.forward,
    ],
    ["distinct_targets", values.distinct_targets, expected.logged.n_diff_target, TOLERANCES.exact],
  ];
  for (const [name, actual, reference, tolerance] of rows) {
    report.compare(`${label}.${name}`, [actual], [reference], tolerance);
  }
}

/** Parameters and teachers after an update, where the set holds them. */
async function compareAfter(
  report: Report,
  golden: GoldenSet,
  prefix: string,
  model: Matpac,
): Promise<void> {
  const names = golden.below(prefix);
  if (names.length === 0) return;
  const [student, encoder, head] = [
    await model.student.read(),
    await model.teacherEncoder.read(),
    await model.teacherHead.read(),
  ];
  for (const name of names) {
    const [values, tolerance] = name.startsWith(TEACHER_PREFIX.encoder)
      ? [encoder.get(name.slice(TEACHER_PREFIX.encoder.length)), TOLERANCES.teacher]
      : name.startsWith(TEACHER_PREFIX.head)
      ? [head.get(name.slice(TEACHER_PREFIX.head.length)), TOLERANCES.teacher]
      : [student.get(name), TOLERANCES.updated];
    if (values) {
      report.compare(
        `${prefix}${name}`,
        values.data,
        golden.get(`${prefix}${name}`).data,
        tolerance,
      );
    }
  }
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
        "a change of 3e-4 per element is the difference of float32 parameters near 1 (rounding 6e-8: 2e-4 of it each)",
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
      (u) => teacherTemperature(u, fixed.warmup_teacher_temp, fixed.teacher_temp_end, warmup),
      (row) => row.teacher_temp,
    );
    compare(
      "ema_encoder",
      (u) => emaDecay(u, ...fixed.ema_decay_encoder as [number, number], total),
      (row) => row.encoder_decay_set_in_forward,
    );
    // Past the last update the released code gives the head the encoder's decay; we end at 1 (SPEC section 9 row 13).
    compare(
      "ema_head",
      (u) => emaDecay(u, ...fixed.ema_decay_head as [number, number], total),
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
    temperatures.map((row: { u: number }) => multipleChoiceTemperature(row.u, start, decay_rate)),
    temperatures.map((row: { temperature: number }) => row.temperature),
    TOLERANCES.schedule,
  );
  const { lr, warmup_updates, max_update, rows } = s.cosine_lr;
  report.compare(
    "schedules.cosine_lr",
    rows.map((row: { u: number }) => learningRate(row.u, lr, warmup_updates, max_update)),
    rows.map((row: { lr: number }) => row.lr),
    TOLERANCES.schedule,
  );
}
