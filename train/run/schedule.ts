/**
 * Values that change from update to update (SPEC section 4). Updates count from 0: update u uses
 * value(u).
 *
 * @module
 */
import { spanSteps } from "../../model/objectives/presets.ts";
import type { Geometry } from "../../model/vit/geometry.ts";
import type { ResolvedConfig } from "../config/config.ts";

/**
 * Linear warm-up from 0 to `peak`, then half a cosine down to 0. The first update has rate 0 when
 * there is a warm-up.
 *
 * @param warmup updates until the peak
 * @param total updates of the run
 */
export function learningRate(update: number, peak: number, warmup: number, total: number): number {
  if (update < warmup) return peak * update / warmup;
  const progress = Math.min(1, (update - warmup) / Math.max(1, total - warmup));
  return 0.5 * peak * (1 + Math.cos(Math.PI * progress));
}

/** Teacher temperature: linear from `start` to `end` over `warmup` updates, then constant. */
export function teacherTemperature(
  update: number,
  start: number,
  end: number,
  warmup: number,
): number {
  return warmup > 0 ? start + (end - start) * Math.min(1, update / warmup) : end;
}

/**
 * Decay of an average: linear from `start` to `end` over the run, `end` from then on (for the head
 * the released code falls back to the encoder's end value there: SPEC section 9 row 13).
 */
export function emaDecay(update: number, start: number, end: number, total: number): number {
  return end - (end - start) * (1 - Math.min(1, update / total));
}

/**
 * Temperature of MATPAC++'s multiple-choice loss: start times decay^u (SPEC section 3); the
 * assignment turns hard where it falls to 1e-4.
 */
export function multipleChoiceTemperature(update: number, start = 0.1, decay = 0.99997): number {
  return start * decay ** update;
}

/** Temperature from which on the best head takes all. */
export const HARD_CHOICE = 1e-4;

/** All schedules of a run. */
export interface Schedules {
  /** Updates of the run. */
  readonly total: number;
  /** Learning rate of update u. */
  lr(update: number): number;
  /** Teacher temperature of update u. */
  teacherTemp(update: number): number;
  /** Decay of the teacher encoder in update u. */
  emaEncoder(update: number): number;
  /** Decay of the teacher head in update u. */
  emaHead(update: number): number;
  /** Temperature at which predictor heads compete in update u (MATPAC++). */
  choiceTemperature(update: number): number;
}

/** What {@link schedulesOf} reads of a configuration. */
export type ScheduleConfig = Pick<
  ResolvedConfig,
  | "length"
  | "batch"
  | "lr"
  | "warmup"
  | "emaEncoder"
  | "emaHead"
  | "teacherTemp"
  | "teacherTempWarmup"
  | "choices"
  | "objective"
>;

/**
 * The schedules of a configuration once the number of clips is known. A recipe that names the
 * number of clips of an epoch has precedence over the data's.
 */
export function schedulesOf(config: ScheduleConfig, dataClips: number): Schedules {
  const { batch, choices: { epochClips: clips = dataClips } } = config;
  const total = "steps" in config.length
    ? config.length.steps
    : Math.max(1, Math.floor(clips * config.length.epochs / batch));
  const run = { totalSteps: total, clips, batch };
  // M2D's last update has the last decay (SPEC section 4).
  const averaged = config.objective === "m2d" ? Math.max(1, total - 1) : total;
  const warmup = spanSteps(config.warmup, run);
  const temperatureWarmup = spanSteps(config.teacherTempWarmup, run);
  return {
    total,
    lr: (u) => learningRate(u, config.lr, warmup, total),
    teacherTemp: (u) => teacherTemperature(u, ...config.teacherTemp, temperatureWarmup),
    emaEncoder: (u) => emaDecay(u, ...config.emaEncoder, averaged),
    emaHead: (u) => emaDecay(u, ...config.emaHead, total),
    choiceTemperature: multipleChoiceTemperature,
  };
}

/** Samples of a crop: the windows of its frames, 10 ms apart, 25 ms long (SPEC section 1.1). */
export function cropSamples({ cropFrames }: Geometry): number {
  return (cropFrames - 1) * 160 + 400;
}
