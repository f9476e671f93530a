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
  add,
  addScaled,
  assign,
  backward,
  type Device,
  emaStep,
  fill,
  gradientNorm,
  LossScale,
  mul,
  type Plan,
  reshape,
  scope,
  type Tensor,
} from "../../engine/mod.ts";
import type { Mask } from "../../model/objectives/masking.ts";
import type {
  DeviceMask,
  Forward,
  LossWeights,
  MaskedModel,
  SharedCentre,
} from "../../model/objectives/masked_model.ts";
import { type Group, groupOfOne } from "../cluster/group.ts";
import { UpdateSums } from "../cluster/update_sums.ts";
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
  /** Equal parts in which an update's batch comes, those of all processes; default 1. */
  readonly microBatches?: number;
  /**
   * Processes that share each update: each has `microBatches / group.size` of its micro-batches, in
   * the order of ranks; default this one alone.
   */
  readonly group?: Pick<Group, "size" | "sum">;
  /** Gradients that are exchanged at a time, a multiple of 128; default 2^22. */
  readonly bucket?: number;
  /**
   * Add micro-batches up as a binary tree where their number is a power of two, and not one after
   * the other: then the bits do not depend on how many processes share them.
   */
  readonly tree?: boolean;
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
  /** Of all processes. */
  readonly #microBatches: number;
  /** Of this one. */
  readonly #passes: number;
  /** Micro-batches done of the update under way. */
  #done = 0;
  /** What the micro-batches of an update add to; undefined where there is one. */
  readonly #sums: UpdateSums | undefined;
  /** Seconds so far that the host waited for sums over other processes. */
  exchangeWait = 0;
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
    const { microBatches = 1, group = groupOfOne(), tree = false, bucket } = settings;
    this.#microBatches = microBatches;
    this.#passes = microBatches / group.size;
    if (!Number.isInteger(this.#passes)) {
      throw new RangeError(`${group.size} processes cannot share ${microBatches} micro-batches`);
    }
    this.m = device.zeros(values.shape);
    this.v = device.zeros(values.shape);
    this.#values = new UpdateValues(device, model, schedules, settings);
    const { adamDecayed, adamPlain } = this.#values.slots;
    const moved = (hyper: Tensor, start: number, size: number) => {
      const part = (t: Tensor) => t.view([size], undefined, t.offset + start);
      const state = { values: part(values), grads: part(grads!), m: part(this.m), v: part(this.v) };
      return { hyper, state };
    };
    this.#groups = model.recipe.weightDecayOn === "all" ? [moved(adamDecayed, 0, trainedSize)] : [
      moved(adamDecayed, 0, decayedSize),
      moved(adamPlain, decayedSize, trainedSize - decayedSize),
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
    const contrast = (settings.weights.contrast ?? 0) > 0;
    const sizes = { classification, contrast, prototypes, mclHeads, outputs };
    this.#statistics = batchStatistics(device, sizes, microBatches);
    if (microBatches > 1) {
      const tensors = [
        model.student.grads!,
        ...this.#centre ? [this.#centre.batchMean] : [],
        ...this.#statistics.sums,
      ];
      this.#sums = new UpdateSums(device, {
        ...{ tensors, decayedSize, passes: this.#passes, group, bucket },
        tree: tree && Number.isInteger(Math.log2(microBatches)),
      });
    }
    const mixed = this.lossScale !== undefined;
    const names = metricNames({ classification, contrast, competingHeads: mclHeads > 0, mixed });
    this.#rows = new MetricsRing(device, names);
  }

  /** Step values and the centre that all micro-batches use. */
  #begin(): void {
    const { model, lossScale } = this;
    const { slots } = this.#values;
    lossScale?.take(slots.all);
    model.refreshCopies();
    if (this.#centre) {
      const { used } = this.#centre;
      assign(used, model.centre!);
      emaStep(used, model.pendingCentre!, slots.centre);
    }
    // Else #sums does.
    if (!this.#sums) this.#clear();
  }

  /** Empty sums. */
  #clear(): void {
    const { model } = this;
    if (this.#centre) fill(this.#centre.batchMean, 0);
    if (model.trained !== model.student) fill(model.student.grads!, 0);
  }

  /** Forward and backward pass of a micro-batch, and its share of statistics and gradients. */
  #accumulate(input: Tensor, mask: DeviceMask): ReturnType<Model["forward"]> {
    const { model, lossScale } = this;
    const { student, trained } = model;
    const { teacherTemp, choiceTemperature, softChoice, hardChoice, centre } = this.#values.slots;
    const { weights } = this.settings;
    const own = model.forward(input, mask, {
      teacherTemperature: teacherTemp,
      centre: this.#centre ?? centre,
      assignment: { temperature: choiceTemperature, soft: softChoice, hard: hardChoice },
    }, weights);
    const forward = weights.contrast ? this.#contrasted(own, weights.contrast) : own;
    this.#statistics.add(forward);
    const { loss, predictionLoss: { size: tokens } } = forward;
    trained.zeroGrad();
    backward(loss, lossScale?.seed(tokens, loss.shape));
    const finish = () => void trained.finishGrads();
    const share = 1 / this.#microBatches / (lossScale ? tokens : 1);
    const add = (part: (whole: Tensor) => Tensor) =>
      addScaled(part(student.grads!), part(trained.grads!), share, lossScale?.inverse);
    if (this.#sums) this.#sums.addGradients(finish, add);
    else {
      finish();
      // Else the backward pass has filled the student's own gradients.
      if (trained !== student) add((whole) => whole);
    }
    return forward as ReturnType<Model["forward"]>;
  }

  /** With the contrast of clips. */
  #contrasted(forward: Forward, weight: number): Forward {
    const contrastLoss = this.model.contrast(forward.studentTokens);
    const loss = add(reshape(forward.loss, [1]), mul(contrastLoss, weight));
    return { ...forward, contrastLoss, loss };
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
    const sums = this.#sums;
    if (!sums) {
      const run = (input: Tensor, mask: DeviceMask) => {
        this.#begin();
        const forward = this.#accumulate(input, mask);
        this.#finish(() => inspect?.(forward));
      };
      return [{ role: "pass", isDue: () => true, run }];
    }
    const last = this.#passes - 1;
    const isFirst = (pass: number) => pass === 0;
    // As a binary counter carries: a micro-batch joins those that wait at its trailing ones.
    const carry = (pass: number) => 31 - Math.clz32((pass + 1) & ~pass);
    const levels = Array.from({ length: sums.levels }, (_, level) => level);
    return [
      { role: "begin", isDue: isFirst, run: () => this.#begin() },
      {
        role: "sum",
        isDue: levels.length > 0 ? () => true : isFirst,
        run: () => sums.clear(),
      },
      { role: "pass", isDue: () => true, run: (input, mask) => void this.#accumulate(input, mask) },
      ...levels.map((level): UpdatePart => ({
        role: "sum",
        isDue: (pass) => carry(pass) > level,
        run: () => sums.join(level),
      })),
      ...levels.map((level): UpdatePart => ({
        role: "sum",
        isDue: (pass) => carry(pass) === level && pass < last,
        run: () => sums.leave(level),
      })),
      { role: "finish", isDue: (pass) => pass === last, run: () => this.#finish() },
    ];
  }

  /**
   * Takes a micro-batch; the last one of an update completes it. Work is submitted, not awaited,
   * unless somebody watches it (`watchWork`): who ends it leaves all that a checkpoint holds as it
   * was before the update, or has let it be completed.
   *
   * @param input [micro-batch, bands, frames] standardised log-mel
   * @param inspect makes the update run op by op; for updates of one micro-batch
   * @returns whether this completed an update
   * @throws {RangeError} if `inspect` is given and an update has several micro-batches, or if other
   * processes have a part in it: {@link stepTogether} waits for them.
   */
  step(input: Tensor, mask: Mask, inspect?: Inspect<Model>): boolean {
    if (this.#passes < this.#microBatches) {
      throw new RangeError("other processes have a part in the update: call stepTogether");
    }
    if (inspect && this.#sums) {
      throw new RangeError(`inspect sees whole batches, not ${this.#microBatches} micro-batches`);
    }
    this.#work(input, mask, () => true, inspect);
    return this.#isComplete();
  }

  /**
   * As {@link step}; the last micro-batch of an update waits for those of other processes, if there
   * are any.
   */
  async stepTogether(input: Tensor, mask: Mask): Promise<boolean> {
    if (this.#passes === this.#microBatches) return this.step(input, mask);
    const sums = this.#sums!;
    const isLast = this.#done + 1 === this.#passes;
    const isDue = (role: UpdatePart["role"]) => role !== "finish";
    if (isLast && sums.overlaps && this.#records) {
      const recorded = this.#recordedFor(input, mask);
      if (this.#done === 0) this.#writeValues();
      const due = (part: Omit<UpdatePart, "run">) => isDue(part.role) && part.isDue(this.#done);
      this.exchangeWait += await sums.exchange(recorded.replayInParts(input, mask, due));
    } else {
      this.#work(input, mask, isDue);
      if (isLast) this.exchangeWait += await sums.exchange();
    }
    if (isLast) this.#work(input, mask, (role) => role === "finish");
    return this.#isComplete();
  }

  /** Whether updates are recorded. */
  get #records(): boolean {
    return this.settings.capture ?? true;
  }

  #recordedFor(input: Tensor, mask: Mask): RecordedUpdate {
    if (!this.#recorded?.fits(input, mask)) {
      this.#recorded?.[Symbol.dispose]();
      this.#recorded = undefined;
      this.#recorded = new RecordedUpdate(this.device, this.parts(), input, mask);
    }
    return this.#recorded;
  }

  /** Hands over the values of the update that begins. */
  #writeValues(): void {
    this.#values.write(this.updates, MetricsRing.place(this.updates), this.lossScale);
  }

  /** Submits what is due with the micro-batch, of the roles that are chosen. */
  #work(
    input: Tensor,
    mask: Mask,
    chosen: (role: UpdatePart["role"]) => boolean,
    inspect?: Inspect<Model>,
  ): void {
    const { device } = this;
    const isDue = ({ role, isDue }: Omit<UpdatePart, "run">) => chosen(role) && isDue(this.#done);
    if (this.#done === 0 && chosen("pass")) {
      this.#writeValues();
    }
    if (this.#records && !inspect) {
      this.#recordedFor(input, mask).replay(input, mask, isDue);
    } else {
      scope(() => {
        const onDevice = maskOnDevice(device, mask, input.shape[0]);
        for (const part of this.parts(inspect)) {
          if (isDue(part)) scope(() => part.run(input, onDevice));
        }
      });
      device.flush();
    }
  }

  /** Counts a micro-batch that is done. */
  #isComplete(): boolean {
    if (++this.#done < this.#passes) return false;
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
    return this.#recorded?.dispatches(this.#passes);
  }

  /** Frees optimizer state and step values; the model is its owner's. */
  [Symbol.dispose](): void {
    const views = this.#groups.flatMap(({ state }) => Object.values(state));
    const { used, batchMean } = this.#centre ?? {};
    for (
      const part of [
        ...[this.#recorded, this.#sums, this.lossScale, this.#statistics, used, batchMean],
        ...views,
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
