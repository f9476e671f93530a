/**
 * What the sets of training steps have in common: sizes, schedules, the state dict of the start,
 * and holding what is seen inside an update against the set.
 *
 * @module
 */
import { exponentialDecay, type HostArray, linearRamp, type Tensor } from "../../engine/mod.ts";
import { type Mask, maskFromNoise } from "../../model/objectives/masking.ts";
import { type MaskedModel, TEACHER_PREFIX } from "../../model/objectives/masked_model.ts";
import type { Matpac, MatpacForward } from "../../model/objectives/matpac.ts";
import type { Geometry } from "../../model/vit/geometry.ts";
import { lossWeights } from "../../model/objectives/recipe.ts";
import type { Schedules } from "../run/schedule.ts";
import { Trainer } from "../run/update.ts";
import type { StepValues } from "../metrics/update_metrics.ts";
import { type Report, type Tolerance, TOLERANCES } from "./report.ts";
import type { GoldenSet } from "./golden.ts";

/** Scalars of one reference step of MATPAC or MATPAC++. */
export interface StepScalars {
  /** Completed updates. */
  readonly num_updates: number;
  /** Weighted loss. */
  readonly total_mean: number;
  /** Mean classification loss. */
  readonly loss_cls_mean: number;
  /** Mean prediction loss. */
  readonly loss_pred_mean: number;
  /** Temperature of the teacher's softmax. */
  readonly teacher_temp: number;
  /** L2 norm of the gradient. */
  readonly grad_norm_before_clip: number;
  /** What clipping multiplies it by. */
  readonly clip_coef: number;
  /** Decay of the teacher encoder. */
  readonly ema_decay_encoder: number;
  /** What the official code logs; spreads in thousandths. */
  readonly logged: Readonly<Record<string, number>>;
}

/** Sizes of encoder and predictor by a set's hyperparameters. */
// deno-lint-ignore no-explicit-any -- as GoldenSet.json
export function networkSizes(h: any) {
  return {
    width: h.embed_dim,
    depth: h.depth,
    heads: h.num_heads,
    predictorWidth: h.decoder_embed_dim,
    predictorDepth: h.decoder_depth,
    predictorHeads: h.decoder_num_heads,
    patchSize: h.patch_size,
    maskRatio: h.mask_ratio,
  };
}

/** Sizes of a set of MATPAC or MATPAC++. */
export function matpacGeometry(golden: GoldenSet): Geometry {
  const { hyperparameters: h, fixed } = golden.json;
  return {
    ...networkSizes(h),
    headHidden: h.head_hidden_dim,
    prototypes: h.head_dim_out,
    bottleneck: fixed.head_bottleneck,
    melBands: h.n_freq,
    cropFrames: h.n_t,
    ...(h.use_mcl && { mclHeads: h.mcl_n_head }),
  };
}

/** Loads the state dict of a set of MATPAC or MATPAC++. */
export function loadStateDict(model: Matpac, golden: GoldenSet): void {
  const entries = (prefix: string, keep: (name: string) => boolean): [string, HostArray][] =>
    golden.below(prefix).filter(keep).map((name) => [name, golden.get(`${prefix}${name}`).data]);
  model.student.load(entries("init.", (name) => model.student.has(name)));
  model.teacherEncoder.load(entries(`init.${TEACHER_PREFIX.encoder}`, () => true));
  model.teacherHead.load(entries(`init.${TEACHER_PREFIX.head}`, () => true));
  model.device.write(model.centre, golden.get("init.cls_head_loss.center").data);
}

/** First and last decays of both teachers. */
export interface Decays {
  /** Of the encoder. */
  readonly emaEncoder: readonly [number, number];
  /** Of the head. */
  readonly emaHead: readonly [number, number];
}

/** The decays that a set has for its steps. */
export function publishedDecays({ json: { fixed } }: GoldenSet): Decays {
  return { emaEncoder: fixed.ema_decay_encoder, emaHead: fixed.ema_decay_head };
}

/**
 * Schedules of a set's steps. They run at a constant rate; learning-rate schedules are checked on
 * their own.
 */
export function ratesOf(golden: GoldenSet, { emaEncoder, emaHead }: Decays): Schedules {
  const { hyperparameters: h, fixed } = golden.json;
  return {
    total: h.max_update,
    lr: () => h.lr,
    teacherTemp: linearRamp(
      fixed.warmup_teacher_temp,
      fixed.teacher_temp_end,
      h.teacher_temp_warmup_steps,
    ),
    emaEncoder: linearRamp(...emaEncoder, h.max_update),
    emaHead: linearRamp(...emaHead, h.max_update),
    // Only MATPAC++ has one.
    choiceTemperature: h.mcl_temperature
      ? exponentialDecay(h.mcl_temperature[0], h.mcl_temperature[2])
      : () => 1,
  };
}

/** The trainer of a set of MATPAC or MATPAC++. */
export function matpacTrainer<Model extends Matpac>(
  model: Model,
  golden: GoldenSet,
  rates: Schedules,
): Trainer<Model> {
  const { hyperparameters: h, fixed } = golden.json;
  return new Trainer(model.device, model, rates, {
    weights: lossWeights(model.recipe, fixed.alpha),
    clipNorm: h.clip_norm,
    betas: fixed.adam_betas,
    weightDecay: fixed.weight_decay,
  });
}

/** A tensor that is seen inside an update, and what it is to be. */
export interface Comparison {
  /** Of the check. */
  readonly name: string;
  /** What was computed. */
  readonly tensor: Tensor;
  /** The reference. */
  readonly expected: ArrayLike<number>;
  /** Default: that of forward tensors. */
  readonly tolerance?: Tolerance;
}

/** The tensors that a set holds, by their names in the set below `prefix`. */
export function comparisonsBelow(
  golden: GoldenSet,
  prefix: string,
  tensors: Readonly<Record<string, Tensor>>,
): Comparison[] {
  return Object.entries(tensors).flatMap(([part, tensor]) => {
    const name = `${prefix}${part}`;
    const expected = golden.tensors.get(name);
    return expected ? [{ name, tensor, expected: expected.data }] : [];
  });
}

/**
 * The gradients that a set holds below `prefix`. @param rename the project's name of a parameter of
 * the set
 */
export function gradientComparisons(
  golden: GoldenSet,
  prefix: string,
  model: MaskedModel,
  rename: (name: string) => string = (name) => name,
): Comparison[] {
  return golden.below(prefix).map((part) => ({
    name: `${prefix}${part}`,
    tensor: model.student.get(rename(part)).grad!,
    expected: golden.get(`${prefix}${part}`).data,
    tolerance: TOLERANCES.gradient,
  }));
}

/** The mask of a set's noise, whose order is checked too. */
export function noiseMask(
  golden: GoldenSet,
  prefix: string,
  visible: number,
  report: Report,
): Mask {
  const noise = golden.get(`${prefix}noise`);
  const [batch, patches] = noise.shape;
  const mask = maskFromNoise(noise.data, batch, patches, visible);
  const name = `${prefix}ids_shuffle`;
  report.compare(name, mask.shuffle, golden.get(name).data, TOLERANCES.exact);
  return mask;
}

/** Runs an update and compares what is seen inside it. */
export async function compareStep<Model extends MaskedModel>(
  trainer: Trainer<Model>,
  source: { readonly data: HostArray; readonly shape: readonly number[] },
  mask: Mask,
  report: Report,
  comparisonsOf: (forward: ReturnType<Model["forward"]>) => readonly Comparison[],
): Promise<StepValues> {
  using input = trainer.device.tensor(source.data, source.shape);
  const seen: (Omit<Comparison, "tensor"> & { values: Promise<HostArray> })[] = [];
  trainer.step(input, mask, (forward) => {
    for (const { tensor, ...sight } of comparisonsOf(forward)) {
      seen.push({ ...sight, values: trainer.device.read([tensor]).then(([it]) => it) });
    }
  });
  for (const { name, values, expected, tolerance = TOLERANCES.forward } of seen) {
    report.compare(name, await values, expected, tolerance);
  }
  return await trainer.metrics();
}

/** The forward tensors of MATPAC by the sets' names. */
export function matpacOutputs(forward: MatpacForward): Record<string, Tensor> {
  return {
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
    center_used: forward.centreUsed,
  };
}

/** Compares the centre that the next forward pass will use, where the set has it. */
export async function compareNextCentre(
  report: Report,
  golden: GoldenSet,
  name: string,
  model: Matpac,
): Promise<void> {
  const expected = golden.tensors.get(name);
  if (!expected) return;
  using next = model.nextCentre();
  report.compare(name, await next.data(), expected.data, TOLERANCES.forward);
}

/** A scalar that was computed, the reference and how far apart they may be. */
export type ScalarRow = readonly [
  name: string,
  actual: number,
  reference: number,
  tolerance: Tolerance,
];

/** The scalars that MATPAC and MATPAC++ have in common. */
export function scalarRows(values: StepValues, expected: StepScalars): ScalarRow[] {
  const { logged } = expected;
  const { loss, forward, exact } = TOLERANCES;
  return [
    ["total_mean", values.loss, expected.total_mean, loss],
    ["loss_cls_mean", values.loss_cls!, expected.loss_cls_mean, loss],
    ["loss_pred_mean", values.loss_pred, expected.loss_pred_mean, loss],
    ["grad_norm", values.grad_norm, expected.grad_norm_before_clip, loss],
    ["clip_coef", values.clip_coefficient, expected.clip_coef, loss],
    // The reference logs these from float32 tensors, in thousandths.
    ["target_std", 1000 * values.target_std, logged.var_z_m, forward],
    ["target_perplexity", values.target_perplexity!, logged.cls_perplexity, forward],
    ["distinct_targets", values.distinct_targets!, logged.n_diff_target, exact],
  ];
}

/** Compares scalars. */
export function compareScalars(report: Report, label: string, rows: readonly ScalarRow[]): void {
  for (const [name, actual, reference, tolerance] of rows) {
    report.compare(`${label}.${name}`, [actual], [reference], tolerance);
  }
}

/** Compares parameters and teachers after an update, as far as the set holds them. */
export async function compareAfter(
  report: Report,
  golden: GoldenSet,
  prefix: string,
  model: MaskedModel,
  rename: (name: string) => string = (name) => name,
): Promise<void> {
  const names = golden.below(prefix);
  if (names.length === 0) return;
  const student = await model.student.read();
  const teachers = await Promise.all(
    model.teachers.map(async ({ name, arena }) =>
      [TEACHER_PREFIX[name], await arena.read()] as const
    ),
  );
  for (const part of names) {
    const teacher = teachers.find(([start]) => part.startsWith(start));
    const values = teacher
      ? teacher[1].get(part.slice(teacher[0].length))
      : student.get(rename(part));
    if (!values) continue;
    const name = `${prefix}${part}`;
    const tolerance = teacher ? TOLERANCES.teacher : TOLERANCES.updated;
    report.compare(name, values.data, golden.get(name).data, tolerance);
  }
}
