/**
 * One training update: forward, averages, backward, clipping, Adam (SPEC sections 3 and 4), in one
 * pass over the batch or in several.
 *
 * @module
 */
import {
  adamStep,
  addScaled,
  assign,
  backward,
  capture,
  type Device,
  emaStep,
  fill,
  gradientNorm,
  type KernelCount,
  LossScale,
  type Plan,
  scope,
  type Tensor,
} from "../../engine/mod.ts";
import type { Mask } from "../../model/objectives/masking.ts";
import type {
  DeviceMask,
  LossWeights,
  MaskedModel,
  SharedCentre,
  StepInputs,
} from "../../model/objectives/masked_model.ts";
import { LOSS_SCALE } from "./loss_scale.ts";
import type { Schedules } from "./schedule.ts";
import { MetricRows, type RecentMetrics } from "../metrics/device_ring.ts";
import {
  BatchStatistics,
  type MetricNames,
  metricNames,
  statisticsOf,
  type StepValues,
  stepValues,
} from "../metrics/update_metrics.ts";
import { type OptimizerSettings, UpdateValues } from "./update_values.ts";

export { normalisedStd, type StepValues } from "../metrics/update_metrics.ts";

/** Settings that stay the same over a run. */
export interface StepSettings extends OptimizerSettings {
  /** Weights of the two losses. */
  readonly weights: LossWeights;
  /** Largest global gradient norm; 0 leaves gradients as they are. */
  readonly clipNorm: number;
  /**
   * Forward and backward passes that make an update, each with an equal part of its batch; default
   * 1.
   */
  readonly passes?: number;
  /** Record the update once and replay it; default true. The bits are the same either way. */
  readonly capture?: boolean;
}

/** The paper's and the released settings (SPEC section 4). */
export const STEP_DEFAULTS: Omit<StepSettings, "weights"> = {
  clipNorm: 3,
  betas: [0.9, 0.95],
  weightDecay: 0.05,
};

/** A recorded update: in one plan, or its passes apart from what comes before and after them. */
interface Plans {
  /** Shapes that it was recorded for. */
  readonly key: string;
  /** Whether the pass has run. */
  used: boolean;
  readonly plans: {
    readonly begin?: Plan<void>;
    readonly pass: Plan<Tensor | undefined>;
    readonly finish?: Plan<Tensor>;
  };
}

/** Runs updates on a model and keeps the optimizer's state. */
export class Trainer<Model extends MaskedModel = MaskedModel> implements Disposable {
  /** First moments, laid out like the student arena. */
  readonly m: Tensor;
  /** Second moments. */
  readonly v: Tensor;
  /** Updates done. */
  updates = 0;
  /** Passes done of the update under way. */
  #done = 0;
  #plans: Plans | undefined;
  #row: Tensor | undefined;
  readonly #rows: MetricRows;
  readonly #names: MetricNames;
  readonly #values: UpdateValues;
  readonly #groups: readonly {
    hyper: Tensor;
    values: Tensor;
    grads: Tensor;
    m: Tensor;
    v: Tensor;
  }[];
  /** What passes of one update share; undefined where a plain f32 pass is the whole update. */
  readonly #shared:
    | { readonly centre: SharedCentre | undefined; readonly statistics: BatchStatistics }
    | undefined;
  /** Under mixed precision. */
  readonly lossScale: LossScale | undefined;

  /** Makes the optimizer's state, filled with 0. */
  constructor(
    readonly device: Device,
    readonly model: Model,
    schedules: Schedules,
    private readonly settings: StepSettings,
  ) {
    const { values, grads, decayedSize, trainedSize } = model.student;
    const { passes = 1 } = settings;
    this.m = device.zeros(values.shape);
    this.v = device.zeros(values.shape);
    const classification = model.centre !== undefined;
    const { mclHeads = 0, prototypes } = model.geometry;
    this.#names = metricNames({
      classification,
      competingHeads: mclHeads > 0,
      mixed: model.precision === "mixed",
    });
    this.#rows = new MetricRows(device, this.#names);
    this.#values = new UpdateValues(device, model, schedules, settings);
    const { adamDecayed, adamPlain } = this.#values.slots;
    const group = (hyper: Tensor, start: number, size: number) => {
      const part = (t: Tensor) => t.view([size], undefined, t.offset + start);
      return { hyper, values: part(values), grads: part(grads!), m: part(this.m), v: part(this.v) };
    };
    this.#groups = model.recipe.weightDecayOn === "all" ? [group(adamDecayed, 0, trainedSize)] : [
      group(adamDecayed, 0, decayedSize),
      group(adamPlain, decayedSize, trainedSize - decayedSize),
    ];
    if (model.precision === "mixed") {
      this.lossScale = new LossScale(device, UpdateValues.width, LOSS_SCALE);
    }
    if (passes > 1) model.separateGradients();
    if (passes > 1 || this.lossScale) {
      const outputs = model.student.get("decoder.decoder_pred.bias").size;
      const sizes = { classification, prototypes, mclHeads, outputs };
      this.#shared = {
        centre: model.centre && {
          used: device.empty(model.centre.shape),
          batchMean: device.empty(model.centre.shape),
          share: 1 / passes,
        },
        statistics: new BatchStatistics(device, sizes),
      };
    }
  }

  #writeValues(): void {
    this.#values.write(this.updates, MetricRows.place(this.updates), this.lossScale);
  }

  /**
   * One update from its whole batch. Work is submitted, not awaited.
   *
   * @param input [batch, bands, frames] standardised log-mel
   * @param inspect sees the forward pass and the raw gradients before the parameters change
   * @param onKernel hears at the first update of a plan how many of its kernels are ready, which
   * waits for each
   * @returns the update's metrics on the GPU for {@link metrics}, overwritten or freed by the next
   * step
   * @throws {RangeError} if an update has several passes; see {@link pass}.
   */
  step(
    input: Tensor,
    mask: Mask,
    inspect?: (forward: ReturnType<Model["forward"]>) => void,
    onKernel?: KernelCount,
  ): Tensor {
    const { settings: { capture = true, passes = 1 } } = this;
    if (passes !== 1) throw new RangeError(`an update has ${passes} passes, step makes one`);
    this.#writeValues();
    const row = capture && !inspect
      ? this.#replay(input, mask, onKernel)!
      : this.#eager(() => this.#whole(input, this.#onDevice(mask, input.shape[0]), inspect));
    this.#advance();
    return row;
  }

  /**
   * One pass with its part of an update's batch; the last one updates. Work is submitted, not
   * awaited.
   *
   * @param input [batch / passes, bands, frames] standardised log-mel
   * @param onKernel as in {@link step}
   * @returns whether this completed an update
   */
  pass(input: Tensor, mask: Mask, onKernel?: KernelCount): boolean {
    const { settings: { capture = true, passes = 1 } } = this;
    if (passes === 1) {
      this.step(input, mask, undefined, onKernel);
      return true;
    }
    const first = this.#done === 0;
    const last = ++this.#done === passes;
    if (first) this.#writeValues();
    if (capture) {
      const { begin, finish } = this.#plansFor(input, mask).plans;
      if (first) begin!.replay([]);
      this.#replay(input, mask, onKernel);
      if (last) finish!.replay([]);
    } else {
      if (first) scope(() => this.#begin());
      scope(() => void this.#pass(input, this.#onDevice(mask, input.shape[0])));
      if (last) this.#eager(() => this.#finish());
      this.device.flush();
    }
    if (last) this.#advance();
    return last;
  }

  #advance(): void {
    this.#done = 0;
    this.updates++;
    // A replay runs no script, so what forward notes is noted here.
    this.model.hasPendingCentre = this.model.centre !== undefined;
  }

  /** Replays the pass, or the whole update where it is one. */
  #replay(input: Tensor, mask: Mask, onKernel?: KernelCount): Tensor | undefined {
    const plans = this.#plansFor(input, mask);
    const fresh = !plans.used;
    plans.used = true;
    return plans.plans.pass.replay(
      [input, mask.shuffle, mask.restore],
      fresh ? onKernel : undefined,
    );
  }

  /**
   * Copies the metrics of the newest updates, which the host can fetch later: updates that follow
   * do not change them.
   *
   * @param count updates, the newest last; the last 256 are kept
   */
  recent(count: number): RecentMetrics {
    const recent = this.#rows.recent(count, this.updates);
    return {
      values: async () => {
        const values = await recent.values();
        this.lossScale?.noteSkipped(values[values.length - 1]?.skipped_updates ?? 0);
        return values;
      },
    };
  }

  #onDevice({ shuffle, restore, visible }: Mask, batch: number): DeviceMask {
    const [a, b] = [shuffle, restore].map((ids) =>
      this.device.tensor(ids, [batch, ids.length / batch])
    );
    return { shuffle: a, restore: b, visible };
  }

  /** Runs what makes an update's row op by op. */
  #eager(update: () => Tensor): Tensor {
    this.#row?.dispose();
    this.#row = scope(update);
    this.device.flush();
    return this.#row;
  }

  /** The recorded update for inputs of this shape. */
  #plansFor(input: Tensor, mask: Mask): Plans {
    const key = `${input.shape},${mask.visible}`;
    if (this.#plans?.key !== key) {
      this.#row?.dispose();
      this.#freePlans();
      const { device, settings: { passes = 1 } } = this;
      const [batch] = input.shape;
      const ids = scope(() => device.tensor(mask.shuffle, [batch, mask.shuffle.length / batch]));
      const { visible } = mask;
      const parts = passes > 1;
      const begin = parts ? capture(device, [], () => this.#begin()) : undefined;
      const pass = capture(
        device,
        [input, ids, ids],
        (x, shuffle, restore) => this.#recorded(x, { shuffle, restore, visible }),
      );
      const finish = parts ? capture(device, [], () => this.#finish()) : undefined;
      ids.dispose();
      // What eager steps left in the pool is not needed again.
      device.trim();
      this.#plans = { key, used: false, plans: { begin, pass, finish } };
    }
    return this.#plans;
  }

  #recorded(input: Tensor, mask: DeviceMask): Tensor | undefined {
    if ((this.settings.passes ?? 1) === 1) return this.#whole(input, mask);
    this.#pass(input, mask);
    return undefined;
  }

  #freePlans(): void {
    for (const plan of Object.values(this.#plans?.plans ?? {})) plan?.[Symbol.dispose]();
    this.#plans = undefined;
  }

  /** Reads the metrics that {@link step} returned. */
  async metrics(row: Tensor): Promise<StepValues> {
    return stepValues(this.#names, (await this.device.read([row]))[0]);
  }

  /**
   * The recorded pass, once there is one: its memory is what training needs beside parameters and
   * moments.
   */
  get plan(): Plan<Tensor | undefined> | undefined {
    return this.#plans?.plans.pass;
  }

  /** Dispatches of a recorded update. */
  get dispatches(): number | undefined {
    if (!this.#plans) return undefined;
    const { begin, pass, finish } = this.#plans.plans;
    const { passes = 1 } = this.settings;
    return (begin?.dispatches ?? 0) + passes * pass.dispatches + (finish?.dispatches ?? 0);
  }

  /**
   * The parts of an update that are recorded each on its own, in order, with the step values as
   * they are; {@link step} and {@link pass} run or replay them.
   *
   * @param input [batch / passes, bands, frames] standardised log-mel
   */
  parts(input: Tensor, mask: DeviceMask): (() => Tensor | undefined)[] {
    const pass = () => this.#recorded(input, mask);
    if ((this.settings.passes ?? 1) === 1) return [pass];
    return [() => (this.#begin(), undefined), pass, () => this.#finish()];
  }

  #whole(
    input: Tensor,
    mask: DeviceMask,
    inspect?: (forward: ReturnType<Model["forward"]>) => void,
  ): Tensor {
    const { model, settings } = this;
    if (this.#shared) {
      this.#begin();
      const forward = this.#pass(input, mask);
      return this.#finish(() => inspect?.(forward));
    }
    const forward = this.#forward(input, mask, this.#values.slots.centre);
    if (model.averaging === "before") this.#average(this.#values.slots);
    const { losses, statistics } = statisticsOf(forward);
    model.student.zeroGrad();
    backward(forward.loss);
    model.student.finishGrads();
    const gradNorm = gradientNorm([model.student.grads!], settings.clipNorm);
    inspect?.(forward);
    this.#optimise(gradNorm);
    if (model.averaging === "after") this.#average(this.#values.slots);
    return this.#rows.store([...losses, gradNorm, ...statistics], this.#values.slots.place);
  }

  /** Makes ready for the passes of an update: its centre, and room to add up in. */
  #begin(): void {
    const { model, lossScale } = this;
    const { centre, statistics } = this.#shared!;
    lossScale?.take(this.#values.slots.all);
    model.refreshCopies();
    if (centre) {
      assign(centre.used, model.centre!);
      emaStep(centre.used, model.pendingCentre!, this.#values.slots.centre);
      fill(centre.batchMean, 0);
    }
    statistics.clear();
    fill(model.student.grads!, 0);
  }

  /** Adds a pass's part of losses, statistics and gradients. */
  #pass(input: Tensor, mask: DeviceMask): ReturnType<Model["forward"]> {
    const { model, lossScale, settings: { passes = 1 } } = this;
    const { centre = this.#values.slots.centre, statistics } = this.#shared!;
    const share = 1 / passes;
    const forward = this.#forward(input, mask, centre);
    statistics.add(forward, share);
    const { loss, predictionLoss: { size: tokens } } = forward;
    const { student, trained } = model;
    trained.zeroGrad();
    backward(loss, lossScale?.seed(tokens, loss.shape));
    trained.finishGrads();
    addScaled(
      student.grads!,
      trained.grads!,
      lossScale ? share / tokens : share,
      lossScale?.inverse,
    );
    return forward;
  }

  /**
   * What follows the passes of an update; under mixed precision without effect where gradients
   * overflowed.
   */
  #finish(inspect?: () => void): Tensor {
    const { model, lossScale } = this;
    const { centre, statistics } = this.#shared!;
    const gradNorm = gradientNorm([model.student.grads!], this.settings.clipNorm);
    inspect?.();
    lossScale?.settle(gradNorm);
    const { emaEncoder, emaHead } = this.#values.slots;
    const decays = lossScale
      ? { emaEncoder: lossScale.gated(emaEncoder), emaHead: lossScale.gated(emaHead) }
      : this.#values.slots;
    if (model.averaging === "before") this.#average(decays);
    if (centre) {
      assign(model.centre!, centre.used, lossScale?.gate);
      assign(model.pendingCentre!, centre.batchMean, lossScale?.gate);
    }
    this.#optimise(gradNorm);
    if (model.averaging === "after") this.#average(decays);
    const { losses, statistics: behind } = statistics.values();
    const metrics = [...losses, gradNorm, ...behind, ...lossScale?.row ?? []];
    return this.#rows.store(metrics, this.#values.slots.place);
  }

  #average(decays: { readonly emaEncoder: Tensor; readonly emaHead: Tensor }): void {
    for (const { name, runs } of this.model.teachers) {
      const decay = name === "head" ? decays.emaHead : decays.emaEncoder;
      for (const { own, other } of runs) emaStep(other, own, decay);
    }
  }

  #forward(
    input: Tensor,
    mask: DeviceMask,
    centre: StepInputs["centre"],
  ): ReturnType<Model["forward"]> {
    const { teacherTemp, choiceTemperature, softChoice, hardChoice } = this.#values.slots;
    const values: StepInputs = {
      teacherTemperature: teacherTemp,
      centre,
      assignment: { temperature: choiceTemperature, soft: softChoice, hard: hardChoice },
    };
    const forward = this.model.forward(input, mask, values, this.settings.weights);
    return forward as ReturnType<Model["forward"]>;
  }

  #optimise(gradNorm: Tensor): void {
    for (const { hyper, ...state } of this.#groups) {
      adamStep(state, hyper, gradNorm, this.lossScale !== undefined);
    }
  }

  /** Frees optimizer state and step values; the model is its owner's. */
  [Symbol.dispose](): void {
    this.#row?.dispose();
    this.#freePlans();
    this.lossScale?.[Symbol.dispose]();
    this.#shared?.statistics[Symbol.dispose]();
    this.#shared?.centre?.used.dispose();
    this.#shared?.centre?.batchMean.dispose();
    for (const { values, grads, m, v } of this.#groups) {
      [values, grads, m, v].forEach((t) => t.dispose());
    }
    for (const part of [this.#values, this.#rows, this.m, this.v]) part[Symbol.dispose]();
  }
}
