/**
 * Rows of metrics.jsonl. The device keeps the metrics of every update; the loop fetches those of logged ones an update
 * later, so that the device has work while the host waits.
 *
 * @module
 */
import type { ResolvedConfig } from "./config.ts";
import type { JsonLines, MetricsRow } from "./log.ts";
import type { Progress } from "./progress.ts";
import type { Schedules } from "./schedule.ts";
import type { StepValues, Trainer } from "./step.ts";

/** What rows are made of and who is told. */
export interface MetricsLogOptions {
  /** Batch size and rhythm. */
  readonly config: Pick<ResolvedConfig, "batch" | "logEvery">;
  /** Values that change from update to update. */
  readonly schedules: Schedules;
  /** Makes the metrics. */
  readonly trainer: Trainer;
  /** Receives the rows. */
  readonly file: JsonLines<MetricsRow>;
  /** Shows them. */
  readonly progress: Progress;
}

/** Metrics on their way from the device. */
interface Pending {
  /** The logged update, counted from 0. */
  readonly update: number;
  readonly epoch: number;
  /** Metrics of all updates since the row before, as far as they are kept; the last is the row's. */
  values(): Promise<StepValues[]>;
}

/** Writes a row for every `--log-every`-th update and for the last one, each with its own update's values. */
export class MetricsLog {
  readonly #options: MetricsLogOptions;
  readonly #started: number = performance.now();
  #pending: Pending | undefined;
  /** Updates whose metrics have been asked for. */
  #asked: number;
  /** When the queue was last seen empty, and after how many updates. */
  #measured: { readonly time: number; readonly updates: number };
  /** Clips per second up to then. */
  #rate = 0;

  /** Starts at the trainer's present update. */
  constructor(options: MetricsLogOptions) {
    this.#options = options;
    this.#asked = options.trainer.updates;
    this.#measured = { time: this.#started, updates: options.trainer.updates };
  }

  /**
   * Call after each update: writes the row that an earlier one left, and asks for this one's if it is logged.
   *
   * @returns whether the host waited for the device
   * @throws {Error} as {@link drain}.
   */
  async afterUpdate(epoch: number): Promise<boolean> {
    const { trainer, config, schedules } = this.#options;
    const waited = await this.drain();
    const { updates } = trainer;
    if (updates % config.logEvery === 0 || updates === schedules.total) {
      const { values } = trainer.recent(updates - this.#asked);
      this.#pending = { update: updates - 1, epoch, values };
      this.#asked = updates;
    }
    return waited;
  }

  /**
   * Writes the row that was asked for, if there is one. Needed before a checkpoint and at the end.
   *
   * @returns whether there was one
   * @throws {Error} naming the first update whose loss is not finite.
   */
  async drain(): Promise<boolean> {
    const pending = this.#pending;
    if (!pending) return false;
    this.#pending = undefined;
    const recent = await pending.values();
    const bad = recent.findIndex(({ loss }) => !Number.isFinite(loss));
    if (bad !== -1) {
      throw new Error(
        `the loss of step ${pending.update + 2 - recent.length + bad} is ${recent[bad].loss}; ` +
          "a lower --lr or a longer --warmup may help, --anomaly finds where it comes from",
      );
    }
    this.#write(pending, recent[recent.length - 1]);
    return true;
  }

  #write({ update: u, epoch }: Pending, values: StepValues): void {
    const { config, schedules, trainer, file, progress } = this.#options;
    const { clip_coefficient: _, ...logged } = values;
    // Fetching waits for all updates, also for one that follows the logged one: that row's rate is then known as well.
    const now = performance.now();
    const { time, updates } = this.#measured;
    if (trainer.updates > updates) {
      this.#rate = config.batch * (trainer.updates - updates) * 1000 / (now - time);
      this.#measured = { time: now, updates: trainer.updates };
    }
    file.write({
      step: u + 1,
      epoch,
      samples: (u + 1) * config.batch,
      ...logged,
      lr: schedules.lr(u),
      teacher_temp: schedules.teacherTemp(u),
      ema_encoder: schedules.emaEncoder(u),
      ema_head: schedules.emaHead(u),
      samples_per_s: this.#rate,
      seconds: (now - this.#started) / 1000,
    });
    progress.update({
      step: u + 1,
      total: schedules.total,
      loss: values.loss,
      samplesPerSecond: this.#rate,
    });
  }
}
