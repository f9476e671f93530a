/**
 * The pre-training loop: batches in, updates, metrics, checkpoints.
 *
 * @module
 */
import type { Device, Tensor } from "../engine/mod.ts";
import { LogMel } from "../model/frontend.ts";
import { initialiseMatpac } from "../model/init.ts";
import { randomMask } from "../model/masking.ts";
import { Matpac, patchGrid } from "../model/matpac.ts";
import { lossWeights, RECIPES } from "../model/recipe.ts";
import { readSafetensors } from "../model/formats/safetensors.ts";
import { loadCheckpoint, saveCheckpoint, writeTensors } from "./checkpoint.ts";
import type { ResolvedConfig } from "./config.ts";
import { type ClipSource, Loader, type LoaderState } from "./data/loader.ts";
import { Prng, type PrngState } from "./data/prng.ts";
import { InterruptedError, UsageError } from "./errors.ts";
import { JsonLines, type MetricsRow } from "./log.ts";
import { measureRun, MEMORY_HINT, memoryText, refuseUnfit } from "./memory.ts";
import { MetricsLog } from "./metrics.ts";
import { prepareKernels } from "./tuning.ts";
import { RunProfile } from "./profiling.ts";
import type { Progress } from "./progress.ts";
import type { RunPaths } from "./rundir.ts";
import { cropSamples, type Schedules, schedulesOf } from "./schedule.ts";
import { encoderTensors, loadWeights, restoreState, stateTensors } from "./state.ts";
import { STEP_DEFAULTS, Trainer } from "./step.ts";

/** Independent sequences of random numbers of one run; the loader has its own. */
const STREAMS = { parameters: 1, masks: 2 } as const;

/** Updates that may be queued on the device before the loop waits for it. */
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
}

/** Generators and loader position, as checkpoints keep them. */
interface GeneratorState {
  readonly masks: PrngState;
  readonly loader: LoaderState;
}

/** Everything that changes during a run. */
class Run implements Disposable {
  readonly schedules: Schedules;
  readonly model: Matpac;
  readonly trainer: Trainer;
  readonly loader: Loader;
  readonly frontend: LogMel;
  masks: Prng;
  readonly #context: RunContext;

  constructor(context: RunContext) {
    const { config, device, source } = context;
    this.#context = context;
    const recipe = RECIPES[config.recipe];
    this.schedules = schedulesOf(config, source.size);
    this.model = new Matpac(device, config.geometry, recipe);
    this.model.recompute = config.recompute;
    initialiseMatpac(this.model, new Prng(config.seed, STREAMS.parameters));
    this.trainer = new Trainer(device, this.model, this.schedules, {
      ...STEP_DEFAULTS,
      weights: lossWeights(recipe, config.alpha),
      // Anomalies are looked for op by op as they run, which a recorded update does not do.
      get capture() {
        return device.anomalies === undefined;
      },
    });
    this.loader = new Loader({
      source,
      batch: config.batch,
      cropSamples: cropSamples(config.geometry),
      seed: config.seed,
    });
    this.frontend = new LogMel(device);
    this.masks = new Prng(config.seed, STREAMS.masks);
  }

  /** Continues from the newest checkpoint. @throws {UsageError} if there is none or it does not fit. */
  async resume(): Promise<void> {
    const { paths, progress } = this.#context;
    const checkpoint = await loadCheckpoint(paths.dir);
    if (!checkpoint) throw new UsageError(`--resume: ${paths.dir} holds no checkpoint`);
    for (const { path, reason } of checkpoint.passedOver) {
      progress.note(`passed over ${path}: ${reason}`);
    }
    try {
      const { pending_center, generators } = checkpoint.metadata;
      await restoreState(this.model, this.trainer, checkpoint.tensors, pending_center === "true");
      const state: GeneratorState = JSON.parse(generators);
      this.masks = Prng.fromState(state.masks);
      this.loader.restore(state.loader);
    } catch (error) {
      throw new UsageError(
        `--resume: ${checkpoint.path} does not fit this run: ${(error as Error).message}`,
      );
    }
    this.trainer.updates = checkpoint.step;
    progress.note(`resumed after step ${checkpoint.step} from ${checkpoint.path}`);
  }

  /** Starts from the weights in a file. @throws {UsageError} if it cannot be read or does not fit. */
  initFrom(path: string): void {
    try {
      const used = loadWeights(this.model, readSafetensors(Deno.readFileSync(path)).tensors);
      if (used === 0) throw new Error("it holds no tensor of this model");
      this.#context.progress.note(`${used} tensors from ${path}`);
    } catch (error) {
      throw new UsageError(`--init ${path}: ${(error as Error).message}`);
    }
  }

  /** Standardised log-mel of the next batch, [batch, bands, frames]. */
  async nextInput(): Promise<{ input: Tensor; epoch: number }> {
    const { device, config } = this.#context;
    const { samples, epoch } = await this.loader.next();
    using waves = device.tensor(samples, [config.batch, samples.length / config.batch]);
    return { input: this.frontend.apply(waves), epoch };
  }

  /** Saves everything needed to go on. */
  async save(): Promise<string> {
    const { config, paths } = this.#context;
    const generators: GeneratorState = { masks: this.masks.state(), loader: this.loader.state() };
    return await saveCheckpoint(
      paths.dir,
      this.trainer.updates,
      await stateTensors(this.model, this.trainer),
      {
        config: JSON.stringify(config.options),
        generators: JSON.stringify(generators),
        pending_center: String(this.model.hasPendingCentre),
      },
      config.keep,
    );
  }

  [Symbol.dispose](): void {
    this.trainer[Symbol.dispose]();
    this.model[Symbol.dispose]();
    this.frontend[Symbol.dispose]();
  }
}

/**
 * Trains to the end of the run.
 *
 * @throws {InterruptedError} when the signal aborted; a checkpoint was written
 * @throws {UsageError} if a checkpoint or file to start from does not fit
 * @throws {NoDataError} if no clip can be used
 * @throws {DeviceLostError | OutOfMemoryError} from the engine; the last checkpoint is whole
 */
export async function pretrain(context: RunContext): Promise<void> {
  const { config, device, paths, progress } = context;
  const memory = await prepareKernels(context, () => measureRun(device, config));
  refuseUnfit(device, memory);
  if (!config.quiet) {
    progress.note(memoryText(memory));
    if (device.anomalies) {
      progress.note(
        "looking through every value for NaN and infinity: updates run op by op, slowly",
      );
    }
  }
  using run = new Run(context);
  if (config.init !== undefined) run.initFrom(config.init);
  if (config.resume) await run.resume();
  using file = JsonLines.resume<MetricsRow>(paths.metrics, run.trainer.updates);
  const { trainer, schedules } = run;
  const metrics = new MetricsLog({ config, schedules, trainer, file, progress });
  let saved = config.resume ? run.trainer.updates : -1;
  try {
    await updates(context, run, metrics, async () => {
      await metrics.drain();
      await run.save();
      file.flush();
      saved = run.trainer.updates;
    });
  } catch (error) {
    throw withResumeHint(error, config.out, saved);
  }
  await writeTensors(paths.encoder, await encoderTensors(run.model), {
    config: JSON.stringify(config.options),
    step: String(run.trainer.updates),
  });
}

async function updates(
  { device, config, paths, progress, signal }: RunContext,
  run: Run,
  metrics: MetricsLog,
  save: () => Promise<void>,
): Promise<void> {
  const { trainer, schedules, model } = run;
  const { patches } = patchGrid(config.geometry);
  const { quiet } = config;
  const profile = new RunProfile({ device, updates: config.profile, paths, progress, quiet });
  let queued = 0;
  while (trainer.updates < schedules.total) {
    await profile.before();
    const { input, epoch } = await run.nextInput();
    const mask = randomMask(
      () => run.masks.uniform(),
      config.batch,
      patches,
      config.geometry.maskRatio,
    );
    const known = trainer.plan;
    const before = performance.now();
    const onKernel = (done: number, total: number) =>
      progress.stage("compiling kernels", done, total);
    trainer.step(input, mask, undefined, quiet ? undefined : onKernel);
    input.dispose();
    if (trainer.plan !== known && !quiet) {
      const seconds = ((performance.now() - before) / 1000).toFixed(1);
      progress.note(
        `${device.pipelinesCreated} kernels, first update after ${seconds} s; ` +
          `${trainer.plan?.dispatches} dispatches per update`,
      );
    }
    if (await metrics.afterUpdate(epoch)) queued = 0;
    // An anomaly is reported after the update it happened in.
    else if (++queued === MOST_QUEUED || device.anomalies) {
      await device.sync();
      queued = 0;
    }
    const last = trainer.updates === schedules.total;
    if (last || signal.aborted || trainer.updates % config.saveEvery === 0) await save();
    if (signal.aborted && !last) {
      throw new InterruptedError(
        `interrupted after step ${trainer.updates}; the checkpoint is written`,
      );
    }
  }
  await profile.finish();
  model.device.check();
}

/** Adds to an error of the device where to go on from. */
function withResumeHint(error: unknown, out: string, saved: number): unknown {
  if (
    error instanceof Error &&
    /^(DeviceLostError|OutOfMemoryError|InterruptedError)$/.test(error.name)
  ) {
    const lines = [
      saved >= 0
        ? `the checkpoint of step ${saved} is safe; go on with: deno task pretrain --resume --out ${out}`
        : "no checkpoint had been written yet",
    ];
    if (error.name === "OutOfMemoryError") {
      lines.push(MEMORY_HINT);
    }
    return Object.assign(error, { details: lines.join("\n") });
  }
  return error;
}
