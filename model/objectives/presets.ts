/**
 * The named sizes of the model and the training numbers that belong to each.
 *
 * `base` holds the paper's and the released configuration's exact values, made for 300
 * epochs of two million clips. `tiny` and `small` hold schedules for runs of minutes to
 * hours: published EMA decays have a half-life of 13,863 updates, so a run of a few hundred
 * updates would keep its teacher at the starting point. Everything that has a length is
 * therefore a share of the run there.
 */

/** Bands and frames of a patch, or the side of a square one. */
export type PatchSize = number | readonly [bands: number, frames: number];

/** Sizes of patch embedding, encoder, predictor and heads. */
export interface Geometry {
  /** Encoder width D. */
  readonly width: number;
  /** Encoder blocks. */
  readonly depth: number;
  /** Encoder attention heads. */
  readonly heads: number;
  /** Predictor width. */
  readonly predictorWidth: number;
  /** Predictor blocks. */
  readonly predictorDepth: number;
  /** Predictor attention heads. */
  readonly predictorHeads: number;
  /** Hidden width of both classification heads. */
  readonly headHidden: number;
  /** Prototypes K of both classification heads. */
  readonly prototypes: number;
  /** Width of the L2-normalised layer before the prototypes. */
  readonly bottleneck: number;
  /** Mel bands of the input. */
  readonly melBands: number;
  /** Bands and frames of a patch. */
  readonly patchSize: PatchSize;
  /** Frames (10 ms) of a training crop. */
  readonly cropFrames: number;
  /** Share of the patches that the student does not see. */
  readonly maskRatio: number;
  /** Whether a class token goes before the patches; default true. */
  readonly classToken?: boolean;
  /** Whether keys have a bias; default true. MSM-MAE's blocks have none (SPEC section 2.1). */
  readonly keyBias?: boolean;
  /**
   * Layout of the predictor's position table; default 2-D. MSM-MAE counts patches in one line (SPEC
   * section 2.2).
   */
  readonly predictorPositions?: "1d" | "2d";
  /** Heads of the predictor that compete (MATPAC++, SPEC section 2.5); default none. */
  readonly mclHeads?: number;
}

/** Bands and frames of a patch. */
export function patchSides(
  { patchSize }: Pick<Geometry, "patchSize">,
): readonly [bands: number, frames: number] {
  return typeof patchSize === "number" ? [patchSize, patchSize] : patchSize;
}

/** Patch grid of a geometry; frames that fill no patch are dropped. */
export function patchGrid(
  geometry: Pick<Geometry, "melBands" | "cropFrames" | "patchSize">,
): { rows: number; columns: number; patches: number } {
  const [bands, frames] = patchSides(geometry);
  const rows = Math.floor(geometry.melBands / bands);
  const columns = Math.floor(geometry.cropFrames / frames);
  return { rows, columns, patches: rows * columns };
}

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
