/**
 * The pre-training loop: batches in, updates, metrics, checkpoints.
 *
 * @module
 */
import type { Device, Tensor } from "../../engine/mod.ts";
import { LogMel, MATPAC_STATISTICS } from "../../model/frontend/log_mel.ts";
import { initialise } from "../../model/objectives/initialise.ts";
import { drawMask, type Mask } from "../../model/objectives/masking.ts";
import type { MaskedModel } from "../../model/objectives/masked_model.ts";
import { OBJECTIVES } from "../../model/objectives/objectives.ts";
import { patchGrid } from "../../model/vit/geometry.ts";
import { yieldToEventLoop } from "../io/event_loop.ts";
import { refuseInterrupted } from "../io/interruption.ts";
import { unfinishedWork } from "../io/unfinished_work.ts";
import { buildModel, precisionOn, stepSettings } from "./model_from_config.ts";
import {
  type CheckpointSnapshot,
  CheckpointWriter,
  loadCheckpoint,
  newestCheckpoint,
  writeTensors,
} from "./checkpoint.ts";
import { lastingOptions, type ResolvedConfig } from "../config/config.ts";
import { stagesOf } from "../config/stages.ts";
import { batchLogMel } from "../data/batch_logmel.ts";
import type { ClipSource, SkippedClip } from "../data/clip_source.ts";
import { Loader, type LoaderState } from "../data/loader.ts";
import { Prng, type PrngState } from "../../engine/prng.ts";
import {
  DivergedError,
  InterruptedError,
  isSystemError,
  RemovedError,
  UsageError,
} from "../errors.ts";
import { damageText, JsonLines } from "../io/json_lines.ts";
import type { MetricsRow } from "../metrics/metrics_row.ts";
import { LEAST_LOSS_SCALE } from "./loss_scale.ts";
import { measureRun, memoryText, refuseUnfit } from "./memory.ts";
import { MetricsLog, refuseDivergence } from "./metrics_log.ts";
import { compareState } from "../cluster/agreement.ts";
import { type Group, groupOfOne } from "../cluster/group.ts";
import { compileAhead } from "./compile_ahead.ts";
import { prepareKernels } from "./kernel_choice.ts";
import { RunProfile } from "./profiling.ts";
import type { Progress } from "../cli/progress.ts";
import type { RunPaths } from "./run_directory.ts";
import { initialTensors } from "./initial_weights.ts";
import { after, cropSamples, type Schedules, schedulesOf } from "./schedule.ts";
import { type EvaluatorOptions, RunEvaluation } from "./evaluate.ts";
import { EventFile, markdownTable } from "../metrics/tensorboard.ts";
import {
  encoderPart,
  encoderTensors,
  loadWeights,
  restoreState,
  snapshotState,
} from "./state_dict.ts";
import { Trainer } from "./update.ts";
import { UpdateWatch } from "./update_watch.ts";
import { withAdvice } from "./failure_advice.ts";

/** Independent sequences of random numbers of one run; the loader has its own. */
export const STREAMS = { parameters: 1, masks: 2 } as const;

/**
 * Updates, and passes of one update, that may be queued on the device before the loop waits for it.
 */
const MOST_QUEUED = 8;

/** What the loop needs besides the configuration. */
export interface RunContext {
  /** Runs everything. */
  readonly device: Device;
  /** What to do. */
  readonly config: ResolvedConfig;
  /** Where files go. */
  readonly paths: RunPaths;
  /** Audio. */
  readonly source: ClipSource;
  /** Who is told. */
  readonly progress: Progress;
  /** Aborts the run after the update under way. */
  readonly signal: AbortSignal;
  /** Updates before the stage that is trained; default 0. See {@link pretrain}. */
  readonly first?: number;
  /** What the encoder is tried on under `--eval`. */
  readonly evaluation?: Pick<EvaluatorOptions, "folder" | "onSkip">;
  /** The processes that share each update; default this one alone. */
  readonly group?: Group;
  /** Called with clips that other processes could not use. */
  readonly onSkip?: (clip: SkippedClip) => void;
  /** Called under `--resume` when the run has been found to fit what it goes on from. */
  readonly onResumed?: () => Promise<void>;
}

/** Generators and loader position, as checkpoints keep them. */
interface GeneratorState {
  readonly masks: PrngState;
  readonly loader: LoaderState;
}

/** State of the host that checkpoints hold as JSON under a name of their metadata. */
interface SavedPart<State> {
  /** As it is after the last update, ready for JSON. */
  state(): unknown;
  /** Puts it back; throws where it does not fit. */
  restore(state: State): void;
}

/** Everything that changes during a run. */
class Run implements Disposable {
  readonly schedules: Schedules;
  readonly model: MaskedModel;
  readonly trainer: Trainer;
  readonly loader: Loader;
  readonly frontend: LogMel;
  masks: Prng;
  /** By name; what lives on the device is listed in state.ts. */
  readonly parts: Readonly<Record<string, SavedPart<never>>> = {
    generators: {
      state: (): GeneratorState => this.#generators,
      restore: (state: GeneratorState) => {
        this.#generators = state;
        this.masks = Prng.fromState(state.masks);
        this.#masks = [];
        this.loader.restore(state.loader);
      },
    } satisfies SavedPart<GeneratorState>,
    pending_center: {
      state: () => this.model.hasPendingCentre,
      restore: (pending: boolean) => {
        this.model.hasPendingCentre = pending;
      },
    } satisfies SavedPart<boolean>,
  };
  /** The checkpoint that the run goes on from. */
  from: { readonly step: number; readonly path: string } | undefined;
  /** Updates done at the last checkpoint. */
  #saved = 0;
  /** As after the last update, also while another is under way. */
  #generators: GeneratorState;
  /** What becomes of an update when a signal comes. */
  readonly watch: UpdateWatch;
  readonly group: Group;
  /** Masks of micro-batches of the update under way that are still to come. */
  #masks: Mask[] = [];
  readonly #context: RunContext;

  constructor(context: RunContext) {
    const { config, device, source, group = groupOfOne(), onSkip = () => {} } = context;
    this.#context = context;
    this.group = group;
    this.schedules = after(context.first ?? 0, schedulesOf(config, source.size));
    this.model = buildModel(device, config);
    initialise(this.model, new Prng(config.seed, STREAMS.parameters));
    this.trainer = new Trainer(device, this.model, this.schedules, {
      ...stepSettings(config),
      group,
      // Anomalies are looked for op by op as they run, which a recorded update does not do.
      get capture() {
        return device.anomalies === undefined;
      },
    });
    this.loader = new Loader({
      source,
      batch: config.microBatch,
      cropSamples: cropSamples(config.geometry),
      seed: config.seed,
      ...config.crops,
      ...(group.size > 1 && { share: { group, passes: this.#passes, onSkip } }),
    });
    this.frontend = new LogMel(device, {
      statistics: source.statistics ?? MATPAC_STATISTICS,
    });
    this.masks = new Prng(config.seed, STREAMS.masks);
    this.#generators = this.#drawn();
    this.watch = new UpdateWatch(context.signal);
  }

  /** Micro-batches of this process in an update. */
  get #passes(): number {
    const { batch, microBatch } = this.#context.config;
    return batch / microBatch / this.group.size;
  }

  #drawn(): GeneratorState {
    return { masks: this.masks.state(), loader: this.loader.state() };
  }

  /** Whether there is a checkpoint of the last update, or it is written. */
  get isSaved(): boolean {
    return this.#saved === this.trainer.updates;
  }

  /**
   * Continues from the newest checkpoint; a run that has none yet stays at its start.
   *
   * @throws {UsageError} if it does not fit, or if none can be read.
   */
  async resume(): Promise<void> {
    const { paths, progress, first = 0 } = this.#context;
    const checkpoint = await loadCheckpoint(paths.dir);
    if (!checkpoint) return;
    const { tensors, metadata, passedOver, step, path } = checkpoint;
    for (const { path, reason } of passedOver) progress.note(`passed over ${path}: ${reason}`);
    try {
      // The last checkpoint of the stage before: this one begins with its encoder.
      if (first > 0 && step === first) loadWeights(this.model, encoderPart(tensors));
      else await restoreState(this, tensors);
      for (const [name, part] of first > 0 && step === first ? [] : Object.entries(this.parts)) {
        if (!Object.hasOwn(metadata, name)) throw new Error(`it does not hold ${name}`);
        part.restore(JSON.parse(metadata[name]) as never);
      }
    } catch (error) {
      throw new UsageError(
        `--resume: ${path} does not fit this run: ${(error as Error).message}`,
      );
    }
    this.trainer.updates = this.#saved = step;
    this.from = { step, path };
  }

  /**
   * Goes to the newest checkpoint, or without one to the start.
   *
   * @param resume whether there may be a checkpoint
   * @throws {UsageError} as {@link resume} and {@link initFrom}.
   */
  async begin(resume: boolean): Promise<void> {
    const { config, progress } = this.#context;
    if (resume) await this.resume();
    if (!this.from && config.init !== undefined) this.initFrom(config.init);
    if (!resume) return;
    progress.note(
      this.from
        ? `resumed after step ${this.from.step} from ${this.from.path}`
        : "there is no checkpoint yet: from the start",
    );
  }

  /**
   * Starts from the weights in a file. @throws {UsageError} if it cannot be read or does not fit.
   */
  initFrom(path: string): void {
    try {
      const used = loadWeights(this.model, initialTensors(path));
      if (used === 0) throw new Error("it holds no tensor of this model");
      this.#context.progress.note(`${used} tensors from ${path}`);
    } catch (error) {
      throw new UsageError(`--init ${path}: ${(error as Error).message}`);
    }
  }

  /** Standardised log-mel of the next pass, [micro-batch, bands, frames]. */
  async nextInput(): Promise<{ input: Tensor; epoch: number; loaderWait: number }> {
    const { device } = this.#context;
    const before = performance.now();
    // What others are waiting for cannot be given up alone.
    const next = this.loader.next();
    const batch = await (this.group.size > 1 ? next : this.watch.patience(next));
    const loaderWait = (performance.now() - before) / 1000;
    return { input: batchLogMel(device, this.frontend, batch), epoch: batch.epoch, loaderWait };
  }

  /**
   * The mask of the next pass. Those of all processes are drawn, in the order of their clips: a
   * clip's mask does not depend on who has it.
   */
  #nextMask(): Mask {
    const { config: { batch, microBatch, masksPerClip, geometry, masking } } = this.#context;
    if (this.#masks.length === 0) {
      const grid = patchGrid(geometry);
      const uniform = () => this.masks.uniform();
      const all = Array.from(
        { length: batch / microBatch },
        () => drawMask(masking, uniform, microBatch * masksPerClip, grid, geometry.maskRatio),
      );
      const first = this.group.rank * this.#passes;
      this.#masks = all.slice(first, first + this.#passes);
    }
    return this.#masks.shift()!;
  }

  /**
   * Works one update, pass by pass.
   *
   * @returns the epoch of its first clip and the seconds that it waited for clips
   * @throws {AnomalyError} in anomaly mode, unless the update was skipped for it.
   * @throws {InterruptedError} if a signal came and it would take long: it is given up, and what a
   * checkpoint holds is as before.
   */
  async update(): Promise<{ epoch: number; loaderWait: number }> {
    return await this.watch.update(() => this.#update());
  }

  async #update(): Promise<{ epoch: number; loaderWait: number }> {
    const { device } = this.#context;
    const notes: { epoch?: number; loaderWait: number } = { loaderWait: 0 };
    let anomaly: unknown;
    for (let pass = 1;; pass++) {
      const { input, epoch, loaderWait } = await this.nextInput();
      notes.loaderWait += loaderWait;
      const first = notes.epoch ??= epoch;
      const complete = await this.trainer.stepTogether(input, this.#nextMask());
      input.dispose();
      // Each pass that waits holds its clips.
      if (device.anomalies) anomaly ??= await this.#anomaly();
      else if (!complete && pass % MOST_QUEUED === 0) await device.sync();
      if (!complete) continue;
      if (anomaly && !await this.#skipped()) throw anomaly;
      this.#generators = this.#drawn();
      return { epoch: first, loaderWait: notes.loaderWait };
    }
  }

  /** What anomaly mode has found since it was last asked. */
  async #anomaly(): Promise<unknown> {
    try {
      await this.#context.device.sync();
      return undefined;
    } catch (error) {
      if ((error as Error).name === "AnomalyError") return error;
      throw error;
    }
  }

  /**
   * Whether the newest update was left out because it overflowed, with a loss scale that can still
   * fall.
   */
  async #skipped(): Promise<boolean> {
    const [{ skipped = false, loss_scale = 0 }] = await this.trainer.recent(1).values();
    return skipped && loss_scale >= LEAST_LOSS_SCALE;
  }

  /** Takes notice that another process writes a checkpoint. */
  noteSaved(): void {
    this.#saved = this.trainer.updates;
  }

  /**
   * Copies everything needed to go on, on the device and on the host; call it once for each
   * checkpoint.
   */
  snapshot(): CheckpointSnapshot {
    const { updates } = this.trainer;
    const recent = this.trainer.recent(updates - this.#saved);
    this.#saved = updates;
    const tensors = snapshotState(this);
    const metadata = {
      ...modelMetadata(this.#context),
      ...Object.fromEntries(
        Object.entries(this.parts).map(([name, part]) => [name, JSON.stringify(part.state())]),
      ),
    };
    return {
      fetch: async () => {
        const values = await recent.values();
        refuseDivergence(values, updates);
        const applied = values.filter(({ skipped }) => !skipped);
        const loss = applied.reduce((sum, { loss }) => sum + loss, 0) / applied.length;
        return { tensors: await tensors.fetch(), metadata: { ...metadata, loss: String(loss) } };
      },
    };
  }

  [Symbol.dispose](): void {
    this.trainer[Symbol.dispose]();
    this.model[Symbol.dispose]();
    this.frontend[Symbol.dispose]();
  }
}

/**
 * Trains to the end of the run, stage by stage: each begins with the encoder in the last checkpoint
 * of the one before and is otherwise a run of its own, with draws from the same seed.
 *
 * @throws {InterruptedError} when the signal aborted; a checkpoint was written, unless that was
 * while the first update's kernels were compiled
 * @throws {UsageError} if a checkpoint or file to start from does not fit
 * @throws {NoDataError} if no clip can be used
 * @throws {DivergedError} when a loss is not finite, with a report on the op it comes from
 * @throws {DiskFullError} when a file cannot be written
 * @throws {DeviceLostError | OutOfMemoryError} from the engine
 *
 * Such an error's `details` name the last complete checkpoint and how to go on from it.
 */
export async function pretrain(context: RunContext): Promise<void> {
  const stages = stagesOf(context.config);
  if (stages.length === 1) return await trainStage(context, true);
  const { device, paths, progress, group = groupOfOne() } = context;
  // None is to be found unfit when the others are done.
  for (const { config } of stages) refuseUnfit(device, measureRun(device, config));
  const done = context.config.resume ? (await loadCheckpoint(paths.dir))?.step ?? 0 : 0;
  for (const [i, { config, first }] of stages.entries()) {
    const next = stages[i + 1];
    if (next && done >= next.first) continue;
    const resume = context.config.resume || first > 0;
    if (!config.quiet) {
      progress.note(`stage ${i + 1} of ${stages.length}: ${OBJECTIVES[config.objective].title}`);
    }
    await trainStage({ ...context, config: { ...config, resume }, first }, !next);
    // The checkpoint that all go on from is there.
    if (next) await group.gather("");
  }
}

/** @param isLast whether the run's encoder is written at its end */
async function trainStage(context: RunContext, isLast: boolean): Promise<void> {
  const { config, device, paths, progress, group = groupOfOne() } = context;
  const isFirst = group.rank === 0;
  progress.stage("measuring the run's memory");
  const memory = await prepareKernels(context, () => measureRun(device, config));
  refuseUnfit(device, memory);
  using _ = compileAhead(device);
  if (precisionOn(device, config.precision) !== config.precision) {
    progress.note(
      `warning: the adapter "${device.info.description}" has no 16-bit floats (shader-f16): ` +
        "training in f32",
    );
  }
  if (!config.quiet) {
    progress.note(memoryText(memory));
    if (device.anomalies) {
      progress.note(
        "looking through every value for NaN and infinity: updates run op by op, slowly",
      );
    }
  }
  const writer = new CheckpointWriter(paths.dir, config);
  try {
    using run = new Run(context);
    await run.begin(config.resume);
    await compareState(group, run, config.out);
    if (config.resume) await context.onResumed?.();
    if (run.from && isFirst) await writer.goOnFrom(run.from);
    await train(context, run, writer);
    if (!isFirst || !isLast) return;
    await writeTensors(paths.encoder, await encoderTensors(run.model), {
      ...modelMetadata(context),
      step: String(run.trainer.updates),
    });
  } catch (error) {
    if (isSystemError(error)) refuseRemoved(paths);
    // Several processes would have to work the updates again together.
    const report = error instanceof DivergedError && !device.anomalies && group.size === 1
      ? await anomalyReport(context, error.step)
      : undefined;
    const { out, ranks } = config;
    // Only the first rank writes.
    const saved = isFirst ? writer.saved : await savedIn(paths.dir);
    throw withAdvice(error, { out, ranks, saved, report });
  }
}

/** The newest complete checkpoint of a run that another process writes. */
async function savedIn(dir: string): Promise<CheckpointWriter["saved"]> {
  const path = await newestCheckpoint(dir).catch(() => undefined);
  const step = path === undefined ? NaN : Number(/(\d+)\.safetensors$/.exec(path)?.[1]);
  return Number.isNaN(step) ? undefined : { step, path: path! };
}

/**
 * What files of weights say beside them: how they were trained, and what log-mel values were
 * standardised with.
 */
function modelMetadata({ config, source }: RunContext): Record<string, string> {
  return {
    config: lastingOptions(config),
    // Tensors have MATPAC's names in all objectives, and frames lie as MATPAC's.
    system: config.objective,
    framing: "inside",
    standardisation: JSON.stringify(source.statistics ?? MATPAC_STATISTICS),
    // Where it is not as in the papers.
    ...config.pool !== "mean" && { pool: config.pool },
    ...config.blocks && { blocks: String(config.blocks) },
  };
}

/** Trains from where the run is to its end. */
async function train(context: RunContext, run: Run, writer: CheckpointWriter): Promise<void> {
  const { config, paths, progress } = context;
  const { trainer, schedules, group } = run;
  if (group.rank > 0) {
    const nowhere = { write: () => {} };
    const records = { file: nowhere, events: nowhere };
    const metrics = new MetricsLog({ config, schedules, trainer, ...records, progress });
    await updates(context, run, metrics, writer, async () => {
      await metrics.drain();
      run.noteSaved();
      // It may wait for a slow disk.
      group.waitForFirst();
    });
    return;
  }
  using file = JsonLines.resume<MetricsRow>(paths.metrics, trainer.updates);
  const damage = damageText(paths.metrics, file.damaged);
  if (damage !== "") progress.note(damage);
  using events = EventFile.open(paths.dir, trainer.updates);
  events.writeText(trainer.updates, "configuration", markdownTable(config.options));
  const metrics = new MetricsLog({ config, schedules, trainer, file, events, progress });
  try {
    await updates(context, run, metrics, writer, async () => {
      refuseRemoved(paths);
      // A checkpoint's rows are on the disk before it is.
      await metrics.drain();
      file.flush();
      events.flush();
      await writer.save(trainer.updates, () => run.snapshot());
    });
  } finally {
    // A checkpoint under way may still become complete; its error was thrown or comes second.
    await writer.finish().catch(() => {});
  }
}

/** What is lost of so many updates if the process ends now. */
function lossText(updates: number, saved: CheckpointWriter["saved"]): string {
  const lost = updates - (saved?.step ?? 0);
  return lost === 0
    ? "the checkpoint is written"
    : `the checkpoint of step ${updates} could not be written in time: --resume goes on from ${
      saved ? `that of step ${saved.step}` : "the start"
    }, ${lost} updates are lost`;
}

/** @throws {RemovedError} if the run directory is not there any more */
function refuseRemoved({ dir, config, metrics }: RunPaths): void {
  if ([config, metrics].some(isThere)) return;
  throw new RemovedError(`the run directory ${dir} was removed or renamed while the run wrote it`);
}

function isThere(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

async function updates(
  { device, config, paths, progress, signal, evaluation }: RunContext,
  run: Run,
  metrics: MetricsLog,
  writer: CheckpointWriter,
  save: () => Promise<void>,
): Promise<void> {
  const { trainer, schedules, watch, group } = run;
  const { quiet } = config;
  const isFirst = group.rank === 0;
  const start = trainer.updates;
  device.watchKernels((done, total) => {
    if (!quiet && total !== undefined) progress.stage("compiling kernels", done, total);
    // Later updates would be lost.
    if (trainer.updates === start) refuseInterrupted();
  });
  // What others are waiting for cannot be given up alone.
  if (group.size === 1) device.watchWork(watch.ask);
  const profiled = isFirst ? config.profile : undefined;
  const profile = new RunProfile({ device, updates: profiled, paths, progress, quiet });
  const evaluations = evaluation && isFirst && new RunEvaluation({
    ...{ ...evaluation, device, metrics, model: run.model, frontend: run.frontend, signal },
    readout: { pool: config.pool, ...config.blocks && { blocks: config.blocks } },
    ...(!quiet && { progress }),
  });
  /** Whether rank 0 evaluates now: ranks know that without being told. */
  const isEvaluated = () =>
    (evaluation !== undefined || config.eval !== undefined) &&
    (trainer.updates % config.evalEvery === 0 || trainer.updates === schedules.total);
  const evaluate = async () => {
    if (!isFirst) return group.waitForFirst();
    await watch.evaluation(async () => evaluations && await evaluations.run(trainer.updates));
  };
  if (trainer.updates === 0 && isEvaluated()) await evaluate();
  let queued = 0;
  using _ = unfinishedWork(() => lossText(trainer.updates, writer.saved));
  /** Whether any process was told to end: all do after the same update. */
  const isAnyTold = async () => {
    if (group.size === 1) return watch.told;
    const texts = await group.gather(JSON.stringify([watch.told, trainer.exchangeWait]));
    const all: [told: boolean, waited: number][] = texts.map((it) => JSON.parse(it));
    metrics.noteWaits(all.map(([, waited]) => waited));
    return all.some(([told]) => told);
  };
  /** Ends the run between two updates. */
  const interrupt = async (what: string) => {
    if (!run.isSaved) await save();
    await writer.finish();
    throw new InterruptedError(
      `interrupted after step ${trainer.updates}; ${what}the checkpoint is written`,
      true,
    );
  };
  while (trainer.updates < schedules.total) {
    await profile.before();
    const known = trainer.plan;
    const before = performance.now();
    const notes = await run.update().catch(async (error) => {
      // Before the first one there is nothing to write.
      if (!(error instanceof InterruptedError) || trainer.updates === start) throw error;
      return await interrupt("the update under way was given up, ");
    });
    if (trainer.plan !== known && !quiet) {
      const seconds = ((performance.now() - before) / 1000).toFixed(1);
      progress.note(
        `${device.pipelinesCreated} kernels, first update after ${seconds} s; ` +
          `${trainer.dispatches} dispatches per update`,
      );
    }
    const evaluates = isEvaluated();
    if (await metrics.afterUpdate({ ...notes, logged: evaluates })) {
      queued = 0;
      refuseRemoved(paths);
    } else if (++queued === MOST_QUEUED) {
      await device.sync();
      queued = 0;
    }
    if (evaluates) await evaluate();
    await yieldToEventLoop();
    writer.check();
    const last = trainer.updates === schedules.total;
    if (last || trainer.updates % config.saveEvery === 0) await save();
    if (!last && await isAnyTold()) await interrupt("");
  }
  await writer.finish();
  refuseRemoved(paths);
  await profile.finish();
  device.check();
}

/**
 * Repeats the updates from the last checkpoint to a bad one, which gives the same bits, the
 * last two of them in anomaly mode: what a loss shows may have happened in the update before.
 * Overflows that loss scaling skips are not it.
 *
 * @param step updates done after the bad one
 * @returns what anomaly mode found, or why it found nothing
 */
async function anomalyReport(context: RunContext, step: number): Promise<string> {
  const { device, progress, signal } = context;
  try {
    using run = new Run(context);
    progress.note(`step ${step} went astray: looking for the op it comes from`);
    await run.begin(true);
    while (run.trainer.updates < step) {
      if (signal.aborted) return "the search for the op it comes from was interrupted";
      if (run.trainer.updates >= step - 2) device.detectAnomalies(true);
      await run.update();
      await device.sync();
      progress.stage("updates worked again", run.trainer.updates, step);
    }
    return "worked again op by op, every value was finite";
  } catch (error) {
    const { name, message } = error as Error;
    return name === "AnomalyError"
      ? `first seen in ${message}`
      : `the op it comes from could not be found: ${message}; ` +
        "--anomaly looks for it from the start";
  } finally {
    device.detectAnomalies(false);
  }
}
