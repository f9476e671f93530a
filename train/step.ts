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
  concat,
  type Device,
  emaStep,
  gradientNorm,
  type KernelCount,
  l2Normalize,
  log,
  mean,
  mul,
  noGrad,
  type Plan,
  reshape,
  scope,
  sqrt,
  square,
  storeRow,
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

/**
 * What an update leaves in its row of metrics, in this order: weighted loss, mean prediction and classification loss,
 * gradient norm before clipping, clip coefficient, negative entropy of the mean target distribution, spread of targets
 * and of predictions.
 */
const ROW = 8;
/** Updates whose rows are kept on the device. */
const KEPT_ROWS = 256;

/** Metrics of one update on the host. */
export interface StepValues {
  /** Weighted loss. */
  readonly loss: number;
  /** Mean prediction loss. */
  readonly loss_pred: number;
  /** Mean classification loss. */
  readonly loss_cls: number;
  /** L2 norm of the whole gradient before clipping. */
  readonly grad_norm: number;
  /** Factor that clipping put on the gradients. */
  readonly clip_coefficient: number;
  /** exp of the entropy of the mean target distribution: how many prototypes are in use. */
  readonly target_perplexity: number;
  /** Spread of the L2-normalised targets over tokens, mean over dimensions. */
  readonly target_std: number;
  /** The same for predictions. */
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
  place: 6,
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
  #plan: { readonly key: string; readonly plan: Plan<Tensor> } | undefined;
  #row: Tensor | undefined;
  /** [KEPT_ROWS, ROW], the row of update u at u mod KEPT_ROWS. */
  readonly #rows: Tensor;
  readonly #values: Tensor;
  readonly #slots: Readonly<Record<keyof typeof SLOTS, Tensor>>;
  readonly #groups: readonly {
    hyper: Tensor;
    values: Tensor;
    grads: Tensor;
    m: Tensor;
    v: Tensor;
  }[];

  /** Makes the optimizer's state, filled with 0. */
  constructor(
    readonly device: Device,
    readonly model: Matpac,
    private readonly schedules: Schedules,
    private readonly settings: StepSettings,
  ) {
    const { values, grads, decayedSize } = model.student;
    this.m = device.zeros(values.shape);
    this.v = device.zeros(values.shape);
    this.#rows = device.zeros([KEPT_ROWS, ROW]);
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
      place: slot("place", 1),
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
    host[SLOTS.place * SLOT] = u % KEPT_ROWS;
    this.device.write(this.#values, host);
  }

  /**
   * One update. Work is submitted, not awaited.
   *
   * @param input [batch, bands, frames] standardised log-mel
   * @param inspect sees the forward pass and the raw gradients before the parameters change
   * @param onKernel hears at the first update of a plan how many of its kernels are ready, which waits for each
   * @returns the update's metrics on the GPU for {@link readMetrics}, overwritten or freed by the next step
   */
  step(
    input: Tensor,
    mask: Mask,
    inspect?: (forward: MatpacForward) => void,
    onKernel?: KernelCount,
  ): Tensor {
    const { model, settings: { capture = true } } = this;
    this.#writeStepValues();
    const row = capture && !inspect
      ? this.#replay(input, mask, onKernel)
      : this.#eager(input, mask, inspect);
    this.updates++;
    // A replay runs no script, so what forward notes is noted here.
    model.hasPendingCentre = true;
    return row;
  }

  #replay(input: Tensor, mask: Mask, onKernel?: KernelCount): Tensor {
    const known = this.#plan;
    const plan = this.#planFor(input, mask);
    return plan.replay(
      [input, mask.shuffle, mask.restore],
      this.#plan === known ? undefined : onKernel,
    );
  }

  /**
   * Copies the metrics of the newest updates, which the host can fetch later: updates that follow do not change them.
   *
   * @param count updates, the newest last; the last 256 are kept
   */
  recent(count: number): { values(): Promise<StepValues[]> } {
    const kept = Math.min(count, KEPT_ROWS, this.updates);
    const first = (this.updates - kept) % KEPT_ROWS;
    const beforeWrap = Math.min(kept, KEPT_ROWS - first);
    const parts = [[first, beforeWrap], [0, kept - beforeWrap]].map(([row, rows]) =>
      this.#rows.view([rows, ROW], undefined, this.#rows.offset + row * ROW)
    );
    const copied = this.device.readLater(parts);
    parts.forEach((part) => part.dispose());
    return {
      values: async () =>
        (await copied.values()).flatMap((rows) =>
          Array.from(
            { length: rows.length / ROW },
            (_, i) => stepValues(rows.subarray(i * ROW, (i + 1) * ROW)),
          )
        ),
    };
  }

  #eager(input: Tensor, mask: Mask, inspect?: (forward: MatpacForward) => void): Tensor {
    this.#row?.dispose();
    const { device } = this;
    const [batch] = input.shape;
    this.#row = scope(() => {
      const [shuffle, restore] = [mask.shuffle, mask.restore].map((ids) =>
        device.tensor(ids, [batch, ids.length / batch])
      );
      return this.#update(input, { shuffle, restore, visible: mask.visible }, inspect);
    });
    device.flush();
    return this.#row;
  }

  /** The recorded update for inputs of this shape. */
  #planFor(input: Tensor, mask: Mask): Plan<Tensor> {
    const key = `${input.shape},${mask.visible}`;
    if (this.#plan?.key !== key) {
      this.#row?.dispose();
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
  get plan(): Plan<Tensor> | undefined {
    return this.#plan?.plan;
  }

  /**
   * The work of one update with the step values as they are; {@link step} runs or replays it.
   *
   * @param input [batch, bands, frames] standardised log-mel
   * @returns the update's row of metrics
   */
  record(input: Tensor, mask: DeviceMask): Tensor {
    return this.#update(input, mask);
  }

  #update(
    input: Tensor,
    mask: DeviceMask,
    inspect?: (forward: MatpacForward) => void,
  ): Tensor {
    const { model, settings } = this;
    const forward = model.forward(
      input,
      mask,
      { teacherTemperature: this.#slots.teacherTemp, centreDecay: this.#slots.centre },
      settings.weights,
    );
    // Inside the released forward pass: with the old student, head first.
    this.#average();
    const { losses, statistics } = statisticsOf(forward);
    model.student.zeroGrad();
    backward(forward.loss);
    model.student.finishGrads();
    const gradNorm = gradientNorm([model.student.grads!], settings.clipNorm);
    inspect?.(forward);
    for (const { hyper, ...state } of this.#groups) adamStep(state, hyper, gradNorm);
    const row = noGrad(() => concat([...losses, gradNorm, ...statistics], 0));
    storeRow(this.#rows, row, this.#slots.place);
    return row;
  }

  #average(): void {
    const { encoder, head } = this.model.teacherRuns;
    for (const { own, other } of head) emaStep(other, own, this.#slots.emaHead);
    for (const { own, other } of encoder) emaStep(other, own, this.#slots.emaEncoder);
  }

  /** Frees optimizer state and step values; the model is its owner's. */
  [Symbol.dispose](): void {
    this.#row?.dispose();
    this.#plan?.plan[Symbol.dispose]();
    for (const { values, grads, m, v } of this.#groups) {
      [values, grads, m, v].forEach((t) => t.dispose());
    }
    for (
      const tensor of [
        ...Object.values(this.#slots),
        this.#values,
        this.#rows,
        this.m,
        this.v,
      ]
    ) tensor.dispose();
  }
}

/** Parts of a row of metrics before and behind the gradient norm, each [1]. */
function statisticsOf(forward: MatpacForward): { losses: Tensor[]; statistics: Tensor[] } {
  return noGrad(() => {
    const used = mean(forward.probabilities, { axes: [0, 1] });
    // The released code adds 1e-7 inside the logarithm; golden's logged values show it.
    const negativeEntropy = reshape(sum(mul(used, log(add(used, 1e-7)))), [1]);
    return {
      losses: [
        reshape(forward.loss, [1]),
        reshape(mean(forward.predictionLoss), [1]),
        reshape(mean(forward.classificationLoss), [1]),
      ],
      statistics: [
        negativeEntropy,
        normalisedStd(forward.target),
        normalisedStd(forward.prediction),
      ],
    };
  });
}

function stepValues(row: ArrayLike<number>): StepValues {
  return {
    loss: row[0],
    loss_pred: row[1],
    loss_cls: row[2],
    grad_norm: row[3],
    clip_coefficient: row[4],
    target_perplexity: Math.exp(-row[5]),
    target_std: row[6],
    prediction_std: row[7],
  };
}

/** Reads the metrics that {@link Trainer.step} returned. */
export async function readMetrics(device: Device, row: Tensor): Promise<StepValues> {
  return stepValues((await device.read([row]))[0]);
}
