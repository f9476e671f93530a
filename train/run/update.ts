/**
 * One training update: the gradient of the loss over a batch, clipped, moves the student, and the
 * teachers follow it (model/README.md, Losses and statistics, Teachers, Optimizer).
 *
 * The batch comes in one micro-batch or in several, each with a forward and a backward pass of its
 * own. The algorithm is `#begin`, `#accumulate` for each micro-batch, and `#finish`.
 *
 * @module
 */
import {
  adamStep,
  addScaled,
  assign,
  backward,
  type Device,
  emaStep,
  fill,
  gradientNorm,
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
} from "../../model/objectives/masked_model.ts";
import { LOSS_SCALE } from "./loss_scale.ts";
import { RecordedUpdate, type UpdatePart } from "./recorded_update.ts";
import type { Schedules } from "./schedule.ts";
import { MetricsRing, type RecentMetrics } from "../metrics/metrics_ring.ts";
import {
  type BatchStatistics,
  batchStatistics,
  metricNames,
  type StepValues,
} from "../metrics/update_metrics.ts";
import { type OptimizerSettings, UpdateValues } from "./update_values.ts";

/** Settings that stay the same over a run. */
export interface StepSettings extends OptimizerSettings {
  /** Weights of the two losses. */
  readonly weights: LossWeights;
  /** Largest global gradient norm; 0 leaves gradients as they are. */
  readonly clipNorm: number;
  /** Equal parts in which an update's batch comes; default 1. */
  readonly microBatches?: number;
  /** Record the update once and replay it; default true. The bits are the same either way. */
  readonly capture?: boolean;
}

/** The paper's and the released settings (model/README.md, Optimizer). */
export const STEP_DEFAULTS: Omit<StepSettings, "weights"> = {
  clipNorm: 3,
  betas: [0.9, 0.95],
  weightDecay: 0.05,
};

/** Called with the forward pass and the raw gradients before the parameters change. */
export type Inspect<Model extends MaskedModel> = (forward: ReturnType<Model["forward"]>) => void;

/** Runs updates on a model and keeps the optimizer's state. */
export class Trainer<Model extends MaskedModel = MaskedModel> implements Disposable {
  /** First moments, laid out like the student arena. */
  readonly m: Tensor;
  /** Second moments. */
  readonly v: Tensor;
  /** Updates done. */
  updates = 0;
  /** Under mixed precision. */
  readonly lossScale: LossScale | undefined;
  readonly #microBatches: number;
  /** Micro-batches done of the update under way. */
  #done = 0;
  readonly #values: UpdateValues;
  readonly #statistics: BatchStatistics;
  readonly #rows: MetricsRing;
  /** Parameters that one Adam step moves, with the values that it reads. */
  readonly #groups: readonly {
    readonly hyper: Tensor;
    readonly state: Readonly<Record<"values" | "grads" | "m" | "v", Tensor>>;
  }[];
  /** The centre, which only changes when the update is done; undefined where there is none. */
  readonly #centre: SharedCentre | undefined;
  #recorded: RecordedUpdate | undefined;

  /** Makes the optimizer's state, filled with 0. */
  constructor(
    readonly device: Device,
    readonly model: Model,
    schedules: Schedules,
    private readonly settings: StepSettings,
  ) {
    const { values, grads, decayedSize, trainedSize } = model.student;
    const { microBatches = 1 } = settings;
    this.#microBatches = microBatches;
    this.m = device.zeros(values.shape);
    this.v = device.zeros(values.shape);
    this.#values = new UpdateValues(device, model, schedules, settings);
    const { adamDecayed, adamPlain } = this.#values.slots;
    const group = (hyper: Tensor, start: number, size: number) => {
      const part = (t: Tensor) => t.view([size], undefined, t.offset + start);
      const state = { values: part(values), grads: part(grads!), m: part(this.m), v: part(this.v) };
      return { hyper, state };
    };
    this.#groups = model.recipe.weightDecayOn === "all" ? [group(adamDecayed, 0, trainedSize)] : [
      group(adamDecayed, 0, decayedSize),
      group(adamPlain, decayedSize, trainedSize - decayedSize),
    ];
    if (model.precision === "mixed") {
      this.lossScale = new LossScale(device, UpdateValues.width, LOSS_SCALE);
    }
    if (microBatches > 1) model.separateGradients();
    if (model.centre) {
      this.#centre = {
        used: device.empty(model.centre.shape),
        batchMean: device.empty(model.centre.shape),
        share: 1 / microBatches,
      };
    }
    const { mclHeads = 0, prototypes } = model.geometry;
    const classification = model.centre !== undefined;
    const outputs = model.student.get("decoder.decoder_pred.bias").size;
    const sizes = { classification, prototypes, mclHeads, outputs };
    this.#statistics = batchStatistics(device, sizes, microBatches);
    const mixed = this.lossScale !== undefined;
    const names = metricNames({ classification, competingHeads: mclHeads > 0, mixed });
    this.#rows = new MetricsRing(device, names);
  }

  /** Step values, the centre that all micro-batches use, and empty sums. */
  #begin(): void {
    const { model, lossScale } = this;
    const { slots } = this.#values;
    lossScale?.take(slots.all);
    model.refreshCopies();
    if (this.#centre) {
      const { used, batchMean } = this.#centre;
      assign(used, model.centre!);
      emaStep(used, model.pendingCentre!, slots.centre);
      fill(batchMean, 0);
    }
    this.#statistics.clear();
    if (model.trained !== model.student) fill(model.student.grads!, 0);
  }

  /** Forward and backward pass of a micro-batch, and its share of statistics and gradients. */
  #accumulate(input: Tensor, mask: DeviceMask): ReturnType<Model["forward"]> {
    const { model, lossScale } = this;
    const { student, trained } = model;
    const { teacherTemp, choiceTemperature, softChoice, hardChoice, centre } = this.#values.slots;
    const forward = model.forward(input, mask, {
      teacherTemperature: teacherTemp,
      centre: this.#centre ?? centre,
      assignment: { temperature: choiceTemperature, soft: softChoice, hard: hardChoice },
    }, this.settings.weights);
    this.#statistics.add(forward);
    const { loss, predictionLoss: { size: tokens } } = forward;
    trained.zeroGrad();
    backward(loss, lossScale?.seed(tokens, loss.shape));
    trained.finishGrads();
    // Else the backward pass has filled the student's own gradients.
    if (trained !== student) {
      const share = 1 / this.#microBatches / (lossScale ? tokens : 1);
      addScaled(student.grads!, trained.grads!, share, lossScale?.inverse);
    }
    return forward as ReturnType<Model["forward"]>;
  }

  /**
   * Clips, moves parameters and averages, and writes the metrics; under mixed precision nothing
   * moves where gradients overflowed. All that a checkpoint holds changes here, and as a whole.
   */
  #finish(inspect?: () => void): void {
    this.device.uninterrupted(() => this.#move(inspect));
  }

  #move(inspect?: () => void): void {
    const { model, lossScale } = this;
    const { emaEncoder, emaHead, place } = this.#values.slots;
    const gradNorm = gradientNorm([model.student.grads!], this.settings.clipNorm);
    inspect?.();
    lossScale?.settle(gradNorm);
    const decays = {
      encoder: lossScale?.gated(emaEncoder) ?? emaEncoder,
      head: lossScale?.gated(emaHead) ?? emaHead,
    };
    const averageTeachers = () => {
      for (const { name, runs } of model.teachers) {
        for (const { own, other } of runs) emaStep(other, own, decays[name]);
      }
    };
    if (model.averaging === "before") averageTeachers();
    if (this.#centre) {
      assign(model.centre!, this.#centre.used, lossScale?.gate);
      assign(model.pendingCentre!, this.#centre.batchMean, lossScale?.gate);
    }
    for (const { hyper, state } of this.#groups) {
      adamStep(state, hyper, gradNorm, lossScale !== undefined);
    }
    if (model.averaging === "after") averageTeachers();
    const { losses, statistics } = this.#statistics.values();
    this.#rows.store([...losses, gradNorm, ...statistics, ...lossScale?.row ?? []], place);
  }

  /**
   * The parts of an update that are recorded each on its own, in order: a single micro-batch is
   * all of it.
   */
  parts(inspect?: Inspect<Model>): readonly UpdatePart[] {
    if (this.#microBatches > 1) {
      return [
        { due: "first", run: () => this.#begin() },
        { due: "each", run: (input, mask) => void this.#accumulate(input, mask) },
        { due: "last", run: () => this.#finish() },
      ];
    }
    const run = (input: Tensor, mask: DeviceMask) => {
      this.#begin();
      const forward = this.#accumulate(input, mask);
      this.#finish(() => inspect?.(forward));
    };
    return [{ due: "each", run }];
  }

  /**
   * Takes a micro-batch; the last one of an update completes it. Work is submitted, not awaited,
   * unless somebody watches it (`watchWork`): who ends it leaves all that a checkpoint holds as it
   * was before the update, or has let it be completed.
   *
   * @param input [micro-batch, bands, frames] standardised log-mel
   * @param inspect makes the update run op by op; for updates of one micro-batch
   * @returns whether this completed an update
   * @throws {RangeError} if `inspect` is given and an update has several micro-batches.
   */
  step(input: Tensor, mask: Mask, inspect?: Inspect<Model>): boolean {
    const { device, settings: { capture = true } } = this;
    if (inspect && this.#microBatches > 1) {
      throw new RangeError(`inspect sees whole batches, not ${this.#microBatches} micro-batches`);
    }
    const first = this.#done === 0;
    const last = ++this.#done === this.#microBatches;
    const isDue = (due: UpdatePart["due"]) => due === "each" || (due === "first" ? first : last);
    if (first) this.#values.write(this.updates, MetricsRing.place(this.updates), this.lossScale);
    if (capture && !inspect) {
      if (!this.#recorded?.fits(input, mask)) {
        this.#recorded?.[Symbol.dispose]();
        this.#recorded = undefined;
        this.#recorded = new RecordedUpdate(device, this.parts(), input, mask);
      }
      this.#recorded.replay(input, mask, isDue);
    } else {
      scope(() => {
        const onDevice = maskOnDevice(device, mask, input.shape[0]);
        for (const { due, run } of this.parts(inspect)) {
          if (isDue(due)) scope(() => run(input, onDevice));
        }
      });
      device.flush();
    }
    if (!last) return false;
    this.#done = 0;
    this.updates++;
    // A replay runs no script, so what forward notes is noted here.
    this.model.hasPendingCentre = this.model.centre !== undefined;
    return true;
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

  /** Reads the metrics of the newest update. */
  async metrics(): Promise<StepValues> {
    return (await this.recent(1).values())[0];
  }

  /**
   * What is replayed with each micro-batch, once it is recorded: its memory is what training needs
   * beside parameters and moments.
   */
  get plan(): Plan<void> | undefined {
    return this.#recorded?.plan;
  }

  /** Dispatches of a recorded update. */
  get dispatches(): number | undefined {
    return this.#recorded?.dispatches(this.#microBatches);
  }

  /** Frees optimizer state and step values; the model is its owner's. */
  [Symbol.dispose](): void {
    const views = this.#groups.flatMap(({ state }) => Object.values(state));
    const { used, batchMean } = this.#centre ?? {};
    for (
      const part of [
        ...[this.#recorded, this.lossScale, this.#statistics, used, batchMean, ...views],
        ...[this.#values, this.#rows, this.m, this.v],
      ]
    ) part?.[Symbol.dispose]();
  }
}

/** The mask's ids as [batch, patches]. */
function maskOnDevice(
  device: Device,
  { shuffle, restore, visible }: Mask,
  batch: number,
): DeviceMask {
  const ids = (it: Mask["shuffle"]) => device.tensor(it, [batch, it.length / batch]);
  return { shuffle: ids(shuffle), restore: ids(restore), visible };
}
