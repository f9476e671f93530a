/**
 * Rows of metrics.jsonl. The device keeps the metrics of every update; the loop fetches those of
 * logged ones an update later, so that the device has work while the host waits.
 *
 * @module
 */
import { OBJECTIVES } from "../../model/objectives/objectives.ts";
import type { ResolvedConfig } from "../config/config.ts";
import { DivergedError } from "../errors.ts";
import type { JsonLines } from "../io/json_lines.ts";
import type { EvaluationScore, MetricsRow } from "../metrics/metrics_row.ts";
import { LEAST_LOSS_SCALE } from "./loss_scale.ts";
import type { Progress } from "../cli/progress.ts";
import type { Schedules } from "./schedule.ts";
import type { Trainer } from "./update.ts";
import type { StepValues } from "../metrics/update_metrics.ts";
import type { EventFile } from "../metrics/tensorboard.ts";

/** What rows are made of and who is told. */
export interface MetricsLogOptions {
  /** Batch size and rhythm. */
  readonly config: Pick<ResolvedConfig, "objective" | "batch" | "logEvery" | "ranks">;
  /** Values that change from update to update. */
  readonly schedules: Schedules;
  /** Makes the metrics. */
  readonly trainer: Trainer;
  /** Receives the rows. */
  readonly file: Pick<JsonLines<MetricsRow>, "write">;
  /** Receives them for TensorBoard. */
  readonly events: Pick<EventFile, "write">;
  /** Shows them. */
  readonly progress: Progress;
}

/** Metrics on their way from the device. */
interface Pending {
  /** The logged update, counted from 0. */
  readonly update: number;
  readonly epoch: number;
  readonly loaderWait: number;
  readonly exchangeWait: number;
  /** That, as a share of the host's time since the row before. */
  readonly exchangeShare: number;
  /** Which rank waited least, where there are several. */
  readonly slowest: number | undefined;
  /** Of the evaluation after that update, if there was one. */
  score?: EvaluationScore;
  /**
   * Metrics of all updates since the row before, as far as they are kept; the last is the row's.
   */
  values(): Promise<StepValues[]>;
}

/**
 * Looks for a loss that is not finite, in updates that were not skipped for it, and for a loss
 * scale that has collapsed.
 *
 * @param recent metrics of updates that follow each other
 * @param step updates done after the last of them
 * @throws {DivergedError} naming the first such update.
 */
export function refuseDivergence(recent: readonly StepValues[], step: number): void {
  const bad = recent.findIndex(({ loss, skipped, loss_scale = 1 }) =>
    !skipped && !Number.isFinite(loss) || loss_scale < LEAST_LOSS_SCALE
  );
  if (bad === -1) return;
  const first = step + 1 - recent.length + bad;
  const { loss_scale, skipped } = recent[bad];
  if (skipped) {
    throw new DivergedError(
      "gradients overflow 16-bit floats again and again: " +
        `at step ${first} the loss scale is down to ${loss_scale}; ` +
        "a lower --lr or a longer --warmup may help, --precision f32 has the range",
      first,
    );
  }
  throw new DivergedError(
    `the loss of step ${first} is ${recent[bad].loss}; a lower --lr or a longer --warmup may help`,
    first,
  );
}

/** What the loop knows of an update. */
export interface UpdateNotes {
  /** Epoch of its first clip. */
  readonly epoch: number;
  /** Seconds that it waited for its batch. */
  readonly loaderWait: number;
  /** Whether it has a row whatever `--log-every` says. */
  readonly logged: boolean;
}

/**
 * Writes a row for every `--log-every`-th update and for the last one, each with its own update's
 * values.
 */
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
  /** Seconds waited for batches since the last row was asked for. */
  #loaderWait = 0;
  /** Seconds that sums had been waited for when the last row was asked for. */
  #exchangeWait = 0;
  /** The same of each rank, as far as known, and as it was then. */
  #waits: readonly number[] = [];
  #waitsBefore: readonly number[] = [];
  /** When the last row was asked for. */
  #askedAt: number;

  /** Starts at the trainer's present update. */
  constructor(options: MetricsLogOptions) {
    this.#options = options;
    this.#asked = options.trainer.updates;
    this.#askedAt = this.#started;
    this.#measured = { time: this.#started, updates: options.trainer.updates };
  }

  /**
   * Call after each update: writes the row that an earlier one left, and asks for this one's if it
   * is logged.
   *
   * @returns whether the host waited for the device
   * @throws {DivergedError} as {@link drain}.
   */
  async afterUpdate({ epoch, loaderWait, logged }: UpdateNotes): Promise<boolean> {
    const { trainer, config, schedules } = this.#options;
    const waited = await this.drain();
    const { updates } = trainer;
    this.#loaderWait += loaderWait;
    if (logged || updates % config.logEvery === 0 || updates === schedules.total) {
      const { values } = trainer.recent(updates - this.#asked);
      const now = performance.now();
      const exchangeWait = trainer.exchangeWait - this.#exchangeWait;
      this.#pending = {
        ...{ update: updates - 1, epoch, loaderWait: this.#loaderWait, values },
        exchangeWait,
        exchangeShare: Math.min(1, exchangeWait * 1000 / (now - this.#askedAt)),
        slowest: this.#slowest(),
      };
      this.#askedAt = now;
      this.#waitsBefore = this.#waits;
      this.#exchangeWait = trainer.exchangeWait;
      this.#asked = updates;
      this.#loaderWait = 0;
    }
    return waited;
  }

  /** Takes the seconds that each rank has waited for sums so far, by rank. */
  noteWaits(waits: readonly number[]): void {
    this.#waits = waits;
  }

  /** Others wait for the rank that waits least. */
  #slowest(): number | undefined {
    const waits = this.#waits.map((it, rank) => it - (this.#waitsBefore[rank] ?? 0));
    return waits.length > 0 ? waits.indexOf(Math.min(...waits)) : undefined;
  }

  /**
   * Adds the score of an evaluation to the row of the newest update, which was to be `logged`; one
   * that comes before the first update goes to TensorBoard alone, since no row has its step.
   *
   * @param seconds that it took, which are not the updates'
   */
  evaluated(score: EvaluationScore, seconds: number): void {
    this.#measured = { ...this.#measured, time: this.#measured.time + seconds * 1000 };
    if (this.#pending) this.#pending.score = score;
    else this.#options.events.write({ step: 0, ...score });
  }

  /**
   * Writes the row that was asked for, if there is one. Needed before a checkpoint and at the end.
   *
   * @returns whether there was one
   * @throws {DivergedError} naming the first update whose loss is not finite.
   */
  async drain(): Promise<boolean> {
    const pending = this.#pending;
    if (!pending) return false;
    this.#pending = undefined;
    const recent = await pending.values();
    refuseDivergence(recent, pending.update + 1);
    this.#write(pending, recent[recent.length - 1]);
    return true;
  }

  #write(pending: Pending, values: StepValues): void {
    const { update: u, epoch, loaderWait, exchangeWait, exchangeShare, slowest, score } = pending;
    const { config, schedules, trainer, file, events, progress } = this.#options;
    const { clip_coefficient: _, skipped = false, ...logged } = values;
    const { has } = OBJECTIVES[config.objective];
    // Schedules go by updates that were applied.
    const applied = u - (values.skipped_updates ?? 0) + Number(skipped);
    // Fetching waits for all updates, also for one that follows the logged one: that row's rate is
    // then known as well.
    const now = performance.now();
    const { time, updates } = this.#measured;
    if (trainer.updates > updates) {
      this.#rate = config.batch * (trainer.updates - updates) * 1000 / (now - time);
      this.#measured = { time: now, updates: trainer.updates };
    }
    const row: MetricsRow = {
      step: u + 1,
      epoch,
      samples: (u + 1) * config.batch,
      ...logged,
      lr: schedules.lr(applied),
      ...(has.classification && { teacher_temp: schedules.teacherTemp(applied) }),
      ...(has.teacher && { ema_encoder: schedules.emaEncoder(applied) }),
      ...(has.classification && { ema_head: schedules.emaHead(applied) }),
      ...(has.competingHeads && { choice_temp: schedules.choiceTemperature(applied) }),
      ...score,
      samples_per_s: this.#rate,
      loader_wait: loaderWait,
      ...(config.ranks > 1 && {
        exchange_wait: exchangeWait,
        exchange_share: exchangeShare,
        ...(slowest !== undefined && { slowest_rank: slowest }),
        ranks: config.ranks,
      }),
      gpu_live_bytes: trainer.device.memory.liveBytes,
      gpu_peak_bytes: trainer.device.memory.peakBytes,
      process_bytes: Deno.memoryUsage().rss,
      seconds: (now - this.#started) / 1000,
    };
    file.write(row);
    events.write(row);
    progress.update({
      step: u + 1,
      total: schedules.total,
      loss: values.loss,
      samplesPerSecond: this.#rate,
    });
  }
}
