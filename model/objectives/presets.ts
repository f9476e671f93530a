/**
 * The named sizes of a model and the training numbers that belong to each (model/README.md,
 * Schedules).
 *
 * `base` holds the exact values of the paper and of the released configuration, made for 300 epochs
 * of two million clips. `tiny` and `small` hold schedules for runs of minutes to hours: published
 * EMA decays have a half-life of 13,863 updates, so a run of a few hundred updates would keep its
 * teacher at the starting point. Everything that has a length is therefore a share of the run
 * there.
 *
 * @module
 */
import type { Geometry } from "../vit/geometry.ts";

/** A length in updates, in epochs, or as a share of the whole run. */
export type Span =
  | { readonly steps: number }
  | { readonly epochs: number }
  | { readonly fraction: number };

/** Peak learning rate: as it stands, or for 256 clips per update and growing with the batch. */
export interface PeakRate {
  /** Learning rate at the peak. */
  readonly rate: number;
  /** Whether it is for 256 clips per update and grows with the batch. */
  readonly perBatchOf256: boolean;
}

/** Which of the two sets of choices is followed where paper and released code differ. */
export type RecipeName = "paper" | "released";

/** Default training numbers of a preset. */
export interface TrainingDefaults {
  /** Clips per update. */
  readonly batch: number;
  /** Length of the run. */
  readonly length: { readonly steps: number } | { readonly epochs: number };
  /** Peak learning rate under either recipe. */
  readonly peakRate: Readonly<Record<RecipeName, PeakRate>>;
  /** Linear rise of the learning rate from zero; a half-cosine to zero follows. */
  readonly warmup: Span;
  /** First and last decay of the teacher encoder, linear over the run. */
  readonly emaEncoder: readonly [start: number, end: number];
  /** First and last decay of the teacher head, linear over the run. */
  readonly emaHead: readonly [start: number, end: number];
  /** First and last temperature of the teacher's softmax. */
  readonly teacherTemp: readonly [start: number, end: number];
  /** How long the teacher's temperature rises. */
  readonly teacherTempWarmup: Span;
  /** Updates between two rows of metrics. */
  readonly logEvery: number;
  /** Updates between two checkpoints. */
  readonly saveEvery: number;
}

/** A geometry with its training numbers. */
export interface Preset {
  /** Sizes of the model. */
  readonly geometry: Geometry;
  /** Numbers of its training. */
  readonly training: TrainingDefaults;
}

/** Names of {@link PRESETS}. */
export type PresetName = "tiny" | "small" | "base";

const SHARED = { bottleneck: 256, melBands: 80, patchSize: 16, maskRatio: 0.7 } as const;

const SHORT_RATE: PeakRate = { rate: 1e-3, perBatchOf256: false };

const SHORT_RUN = {
  peakRate: { paper: SHORT_RATE, released: SHORT_RATE },
  warmup: { fraction: 0.1 },
  emaEncoder: [0.99, 0.999],
  emaHead: [0.99, 1],
  teacherTemp: [0.04, 0.07],
  teacherTempWarmup: { fraction: 0.1 },
  logEvery: 1,
} as const;

/** The presets by name. */
export const PRESETS: Readonly<Record<PresetName, Preset>> = {
  tiny: {
    geometry: {
      ...SHARED,
      width: 192,
      depth: 12,
      heads: 3,
      predictorWidth: 128,
      predictorDepth: 4,
      predictorHeads: 4,
      headHidden: 512,
      prototypes: 512,
      cropFrames: 208,
    },
    training: { ...SHORT_RUN, batch: 16, length: { steps: 200 }, saveEvery: 100 },
  },
  small: {
    geometry: {
      ...SHARED,
      width: 384,
      depth: 12,
      heads: 6,
      predictorWidth: 256,
      predictorDepth: 6,
      predictorHeads: 8,
      headHidden: 1024,
      prototypes: 1024,
      cropFrames: 608,
    },
    training: { ...SHORT_RUN, batch: 64, length: { steps: 2000 }, saveEvery: 500 },
  },
  base: {
    geometry: {
      ...SHARED,
      width: 768,
      depth: 12,
      heads: 12,
      predictorWidth: 512,
      predictorDepth: 8,
      predictorHeads: 16,
      headHidden: 2048,
      prototypes: 2048,
      cropFrames: 608,
    },
    training: {
      batch: 2048,
      length: { epochs: 300 },
      peakRate: {
        paper: { rate: 3e-4, perBatchOf256: true },
        released: { rate: 3e-4, perBatchOf256: false },
      },
      warmup: { epochs: 20 },
      emaEncoder: [0.99995, 0.99999],
      emaHead: [0.998, 1],
      teacherTemp: [0.04, 0.07],
      teacherTempWarmup: { epochs: 10 },
      logEvery: 100,
      saveEvery: 25_000,
    },
  },
};

/** Peak learning rate for a batch of `batch` clips per update. */
export function peakLearningRate(peak: PeakRate, batch: number): number {
  return peak.perBatchOf256 ? peak.rate * batch / 256 : peak.rate;
}

/**
 * A span in updates, rounded down as the released schedules are:
 * `⌊clips · epochs / batch⌋` for epochs, `⌊totalSteps · fraction⌋` for a share.
 */
export function spanSteps(
  span: Span,
  run: { readonly totalSteps: number; readonly clips: number; readonly batch: number },
): number {
  if ("steps" in span) return span.steps;
  if ("epochs" in span) return Math.floor(run.clips * span.epochs / run.batch);
  return Math.floor(run.totalSteps * span.fraction);
}
