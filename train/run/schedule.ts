/**
 * Values that change from update to update (model/README.md, Schedules). Updates count from 0:
 * update u uses value(u).
 *
 * @module
 */
import { exponentialDecay, linearRamp, warmupCosine } from "../../engine/nn/schedules.ts";
import { spanSteps } from "../../model/objectives/presets.ts";
import type { Geometry } from "../../model/vit/geometry.ts";
import type { ResolvedConfig } from "../config/config.ts";

/** MATPAC++'s multiple-choice loss: temperature at the first update, and its decay per update. */
export const CHOICE_TEMPERATURE = { start: 0.1, decay: 0.99997 } as const;

/** Choice temperature from which on the best head takes all. */
export const HARD_CHOICE = 1e-4;

/** All schedules of a run. */
export interface Schedules {
  /** Updates of the run, those of earlier stages included. */
  readonly total: number;
  /** Update that this stage of the run begins with; default 0. */
  readonly first?: number;
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
export type ScheduleConfig =
  & Pick<
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
  >
  & Partial<Pick<ResolvedConfig, "crops">>;

/**
 * The schedules of a configuration once the number of clips is known. A recipe that names the
 * number of clips of an epoch has precedence over the data's.
 */
export function schedulesOf(config: ScheduleConfig, dataClips: number): Schedules {
  const { choices: { epochClips: clips = dataClips }, crops } = config;
  // Of clips: each comes with all its crops.
  const batch = config.batch / (crops?.cropsPerClip ?? 1);
  const total = "steps" in config.length
    ? config.length.steps
    : Math.max(1, Math.floor(clips * config.length.epochs / batch));
  const run = { totalSteps: total, clips, batch };
  // M2D's last update has the last decay (model/README.md, Teachers).
  const averaged = config.objective === "m2d" ? Math.max(1, total - 1) : total;
  const warmup = spanSteps(config.warmup, run);
  const temperatureWarmup = spanSteps(config.teacherTempWarmup, run);
  return {
    total,
    lr: warmupCosine(config.lr, warmup, total),
    teacherTemp: linearRamp(...config.teacherTemp, temperatureWarmup),
    emaEncoder: linearRamp(...config.emaEncoder, averaged),
    // The released code has the encoder's end value here after the run.
    emaHead: linearRamp(...config.emaHead, total),
    choiceTemperature: exponentialDecay(CHOICE_TEMPERATURE.start, CHOICE_TEMPERATURE.decay),
  };
}

/** The schedules of a stage that begins after so many updates of the run. */
export function after(first: number, schedules: Schedules): Schedules {
  if (first === 0) return schedules;
  const later = (value: (update: number) => number) => (update: number) => value(update - first);
  return {
    total: first + schedules.total,
    first,
    lr: later(schedules.lr),
    teacherTemp: later(schedules.teacherTemp),
    emaEncoder: later(schedules.emaEncoder),
    emaHead: later(schedules.emaHead),
    choiceTemperature: later(schedules.choiceTemperature),
  };
}

/**
 * Samples of a crop: the windows of its frames, 10 ms apart, 25 ms long (model/README.md, Front
 * end).
 */
export function cropSamples({ cropFrames }: Geometry): number {
  return (cropFrames - 1) * 160 + 400;
}
