/**
 * One training update of MATPAC: forward, averages, backward, clipping, Adam (SPEC sections 3 and 4).
 *
 * @module
 */
import {
  adamHyperValues,
  adamStep,
  add,
  backward,
  capture,
  type Device,
  emaStep,
  gradientNorm,
  l2Normalize,
  mean,
  mul,
  noGrad,
  type Plan,
  reshape,
  scope,
  sqrt,
  square,
  sub,
  sum,
  type Tensor,
} from "../engine/mod.ts";
import type { Mask } from "../model/masking.ts";
import type { DeviceMask, Matpac, MatpacForward } from "../model/matpac.ts";
import type { Schedules } from "./schedule.ts";

/** Settings that stay the same over a run. */
export interface StepSettings {
  /** Weights of the two losses. */
  readonly weights: { readonly pred: number; readonly cls: number };
  /** Largest global gradient norm; 0 leaves gradients as they are. */
  readonly clipNorm: number;
  /** Decay rates of Adam's moments. */
  readonly betas: readonly [number, number];
  /** Decoupled weight decay of the parameters that have any. */
  readonly weightDecay: number;
  /** Record the update once and replay it; default true. The bits are the same either way. */
  readonly capture?: boolean;
}

/** The paper's and the released settings (SPEC section 4). */
export const STEP_DEFAULTS: Omit<StepSettings, "weights"> = {
  clipNorm: 3,
  betas: [0.9, 0.95],
  weightDecay: 0.05,
};

/** GPU scalars and small vectors of one update, to be read together. */
export interface StepMetrics {
  /** [1] weighted loss. */
  readonly loss: Tensor;
  /** [1] mean prediction loss. */
  readonly lossPred: Tensor;
  /** [1] mean classification loss. */
  readonly lossCls: Tensor;
  /** [2] gradient norm before clipping, clip coefficient. */
  readonly gradNorm: Tensor;
  /** [K] mean target probabilities. */
  readonly meanProbabilities: Tensor;
  /** [1] spread of the L2-normalised targets over tokens, mean over dimensions. */
  readonly targetStd: Tensor;
  /** [1] the same for predictions. */
  readonly predictionStd: Tensor;
}

/** Metrics of one update on the host. */
export interface StepValues {
  readonly loss: number;
  readonly loss_pred: number;
  readonly loss_cls: number;
  readonly grad_norm: number;
  /** Factor that clipping put on the gradients. */
  readonly clip_coefficient: number;
  /** exp of the entropy of the mean target distribution: how many prototypes are in use. */
  readonly target_perplexity: number;
  readonly target_std: number;
  readonly prediction_std: number;
}

/** Slots of the step-value buffer, 64 elements apart so that each can be bound on every adapter. */
const SLOTS = {
  adamDecayed: 0,
  adamPlain: 1,
  teacherTemp: 2,
  emaEncoder: 3,
  emaHead: 4,
  centre: 5,
} as const;
const SLOT = 64;

/**
 * Spread of L2-normalised vectors: root of the unbiased variance over tokens + 1e-6, mean over dimensions (what the
 * released code logs, SPEC section 3).
 *
 * @param x [..., D]
 * @returns [1]
 */
export function normalisedStd(x: Tensor): Tensor {
  const width = x.shape[x.shape.length - 1];
  const rows = x.size / width;
  const unit = l2Normalize(reshape(x, [rows, width]));
  const centred = sub(unit, mean(unit, { axes: [0], keepDims: true }));
  const variance = mul(sum(square(centred), { axes: [0] }), 1 / Math.max(1, rows - 1));
  return reshape(mean(sqrt(add(variance, 1e-6))), [1]);
}

/** Runs updates on a model and keeps the optimizer's state. */
export class Trainer implements Disposable {
  /** First moments, laid out like the student arena. */
  readonly m: Tensor;
  /** Second moments. */
  readonly v: Tensor;
  /** Updates done. */
  updates = 0;
  #plan: { readonly key: string; readonly plan: Plan<StepMetrics> } | undefined;
  #metrics: StepMetrics | undefined;
  readonly #values: Tensor;
  readonly #slots: Readonly<Record<keyof typeof SLOTS, Tensor>>;
  readonly #groups: readonly {
    hyper: Tensor;
    values: Tensor;
    grads: Tensor;
    m: Tensor;
    v: Tensor;
  }[];

  constructor(
    readonly device: Device,
    readonly model: Matpac,
    private readonly schedules: Schedules,
    private readonly settings: StepSettings,
  ) {
    const { values, grads, decayedSize } = model.student;
    this.m = device.zeros(values.shape);
    this.v = device.zeros(values.shape);
    this.#values = device.zeros([SLOT * Object.keys(SLOTS).length]);
    const slot = (name: keyof typeof SLOTS, size: number) =>
      this.#values.view([size], undefined, SLOTS[name] * SLOT);
    this.#slots = {
      adamDecayed: slot("adamDecayed", 8),
      adamPlain: slot("adamPlain", 8),
      teacherTemp: slot("teacherTemp", 1),
      emaEncoder: slot("emaEncoder", 2),
      emaHead: slot("emaHead", 2),
      centre: slot("centre", 2),
    };
    const group = (hyper: Tensor, start: number, size: number) => {
      const part = (t: Tensor) => t.view([size], undefined, t.offset + start);
      return { hyper, values: part(values), grads: part(grads!), m: part(this.m), v: part(this.v) };
    };
    this.#groups = model.recipe.weightDecayOn === "all"
      ? [group(this.#slots.adamDecayed, 0, values.size)]
      : [
        group(this.#slots.adamDecayed, 0, decayedSize),
        group(this.#slots.adamPlain, decayedSize, values.size - decayedSize),
      ];
  }

  #writeStepValues(): void {
    const { schedules, settings: { betas, weightDecay }, updates: u } = this;
    const host = new Float32Array(this.#values.size);
    const adam = { lr: schedules.lr(u), betas, step: u + 1, ...this.model.recipe.adam };
    // No averaging at the first update: a decay of 1 changes nothing.
    const [encoder, head] = u > 0 ? [schedules.emaEncoder(u), schedules.emaHead(u)] : [1, 1];
    host.set(adamHyperValues({ ...adam, weightDecay }), SLOTS.adamDecayed * SLOT);
    host.set(adamHyperValues({ ...adam, weightDecay: 0 }), SLOTS.adamPlain * SLOT);
    host[SLOTS.teacherTemp * SLOT] = schedules.teacherTemp(u);
    // 1 - decay in float64: the float32 difference would lose its last digits.
    host.set([encoder, 1 - encoder], SLOTS.emaEncoder * SLOT);
    host.set([head, 1 - head], SLOTS.emaHead * SLOT);
    host.set(this.model.centreDecay(), SLOTS.centre * SLOT);
    this.device.write(this.#values, host);
  }

  /**
   * One update. Work is submitted, not awaited.
   *
   * @param input [batch, bands, frames] standardised log-mel
   * @param inspect sees the forward pass and the raw gradients before the parameters change
   * @returns metrics on the GPU, overwritten or freed by the next step
   */
  step(input: Tensor, mask: Mask, inspect?: (forward: MatpacForward) => void): StepMetrics {
    const { model, settings: { capture = true } } = this;
    this.#writeStepValues();
    const metrics = capture && !inspect
      ? this.#planFor(input, mask).replay([input, mask.shuffle, mask.restore])
      : this.#eager(input, mask, inspect);
    this.updates++;
    // A replay runs no script, so what forward notes is noted here.
    model.hasPendingCentre = true;
    return metrics;
  }

  #eager(input: Tensor, mask: Mask, inspect?: (forward: MatpacForward) => void): StepMetrics {
    this.#discardMetrics();
    const { device } = this;
    const [batch] = input.shape;
    this.#metrics = scope(() => {
      const [shuffle, restore] = [mask.shuffle, mask.restore].map((ids) =>
        device.tensor(ids, [batch, ids.length / batch])
      );
      return this.#update(input, { shuffle, restore, visible: mask.visible }, inspect);
    });
    device.flush();
    return this.#metrics;
  }

  /** The recorded update for inputs of this shape. */
  #planFor(input: Tensor, mask: Mask): Plan<StepMetrics> {
    const key = `${input.shape},${mask.visible}`;
    if (this.#plan?.key !== key) {
      this.#discardMetrics();
      this.#plan?.plan[Symbol.dispose]();
      const { device } = this;
      const [batch] = input.shape;
      const ids = scope(() => device.tensor(mask.shuffle, [batch, mask.shuffle.length / batch]));
      const plan = capture(
        device,
        [input, ids, ids],
        (x, shuffle, restore) => this.#update(x, { shuffle, restore, visible: mask.visible }),
      );
      ids.dispose();
      // What eager steps left in the pool is not needed again.
      device.trim();
      this.#plan = { key, plan };
    }
    return this.#plan.plan;
  }

  /** The recorded update, once there is one: its memory is what training needs beside parameters and moments. */
  get plan(): Plan<StepMetrics> | undefined {
    return this.#plan?.plan;
  }

  #update(
    input: Tensor,
    mask: DeviceMask,
    inspect?: (forward: MatpacForward) => void,
  ): StepMetrics {
    const { model, settings } = this;
    const forward = model.forward(
      input,
      mask,
      { teacherTemperature: this.#slots.teacherTemp, centreDecay: this.#slots.centre },
      settings.weights,
    );
    // Inside the released forward pass: with the old student, head first.
    this.#average();
    const statistics = statisticsOf(forward);
    model.student.zeroGrad();
    backward(forward.loss);
    model.student.finishGrads();
    const gradNorm = gradientNorm([model.student.grads!], settings.clipNorm);
    inspect?.(forward);
    for (const { hyper, ...state } of this.#groups) adamStep(state, hyper, gradNorm);
    return { ...statistics, loss: forward.loss, gradNorm };
  }

  #discardMetrics(): void {
    for (const tensor of Object.values(this.#metrics ?? {})) tensor.dispose();
    this.#metrics = undefined;
  }

  #average(): void {
    const { encoder, head } = this.model.teacherRuns;
    for (const { own, other } of head) emaStep(other, own, this.#slots.emaHead);
    for (const { own, other } of encoder) emaStep(other, own, this.#slots.emaEncoder);
  }

  /** Frees optimizer state and step values; the model is its owner's. */
  [Symbol.dispose](): void {
    this.#discardMetrics();
    this.#plan?.plan[Symbol.dispose]();
    for (const { values, grads, m, v } of this.#groups) {
      [values, grads, m, v].forEach((t) => t.dispose());
    }
    for (const tensor of [...Object.values(this.#slots), this.#values, this.m, this.v]) {
      tensor.dispose();
    }
  }
}

type Statistics = Omit<StepMetrics, "loss" | "gradNorm">;

function statisticsOf(forward: MatpacForward): Statistics {
  return noGrad(() => ({
    lossPred: mean(forward.predictionLoss),
    lossCls: mean(forward.classificationLoss),
    meanProbabilities: mean(forward.probabilities, { axes: [0, 1] }),
    targetStd: normalisedStd(forward.target),
    predictionStd: normalisedStd(forward.prediction),
  }));
}

/** Reads the metrics of an update in one transfer. */
export async function readMetrics(device: Device, metrics: StepMetrics): Promise<StepValues> {
  const { loss, lossPred, lossCls, gradNorm, meanProbabilities, targetStd, predictionStd } =
    metrics;
  const tensors = [loss, lossPred, lossCls, gradNorm, meanProbabilities, targetStd, predictionStd];
  const values = await device.read(tensors);
  let entropy = 0;
  // The released code adds 1e-7 inside the logarithm; golden's logged values show it.
  for (const p of values[4]) entropy -= p * Math.log(p + 1e-7);
  return {
    loss: values[0][0],
    loss_pred: values[1][0],
    loss_cls: values[2][0],
    grad_norm: values[3][0],
    clip_coefficient: values[3][1],
    target_perplexity: Math.exp(entropy),
    target_std: values[5][0],
    prediction_std: values[6][0],
  };
}
