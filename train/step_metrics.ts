/**
 * The metrics of an update on the device: losses, gradient norm and collapse statistics (SPEC section 3) in one row.
 *
 * @module
 */
import {
  add,
  addScaled,
  concat,
  type Device,
  fill,
  l2Normalize,
  log,
  mean,
  mul,
  noGrad,
  reshape,
  scope,
  slice,
  sqrt,
  square,
  sub,
  sum,
  type Tensor,
} from "../engine/mod.ts";
import type { MatpacForward } from "../model/matpac.ts";
import type { Geometry } from "../model/presets.ts";
import { distinctTargets, targetCounts } from "./statistics.ts";

/** Metrics of one update on the host. */
export interface StepValues {
  /** Weighted loss. */
  readonly loss: number;
  /** Mean prediction loss. */
  readonly loss_pred: number;
  /** Mean classification loss. */
  readonly loss_cls: number;
  /** L2 norm of the whole gradient before clipping. */
  readonly grad_norm: number;
  /** Factor that clipping put on the gradients; 0 where the update was skipped. */
  readonly clip_coefficient: number;
  /** exp of the entropy of the mean target distribution: how many prototypes are in use. */
  readonly target_perplexity: number;
  /** Spread of the L2-normalised targets over tokens, mean over dimensions. */
  readonly target_std: number;
  /** The same for predictions. */
  readonly prediction_std: number;
  /** Prototypes that are the most probable one of any token; 1 when targets have collapsed. */
  readonly distinct_targets: number;
  /** Mixed precision: what the loss was last multiplied by, as the update left it. */
  readonly loss_scale?: number;
  /** Mixed precision: updates left out so far because gradients overflowed. */
  readonly skipped_updates?: number;
  /** Mixed precision: whether this update was one of them. */
  readonly skipped?: boolean;
}

/**
 * What an update leaves in its row, in this order: weighted loss, mean prediction and classification loss, gradient norm
 * before clipping, clip coefficient, negative entropy of the mean target distribution, spread of targets and of
 * predictions, distinct targets; under mixed precision also loss scale, skipped updates, and whether this one was applied.
 */
export const ROW = { f32: 9, mixed: 12 } as const;

/** The metrics in a row. */
export function stepValues(row: ArrayLike<number>): StepValues {
  return {
    loss: row[0],
    loss_pred: row[1],
    loss_cls: row[2],
    grad_norm: row[3],
    clip_coefficient: row[4],
    target_perplexity: Math.exp(-row[5]),
    target_std: row[6],
    prediction_std: row[7],
    distinct_targets: row[8],
    ...(row.length === ROW.mixed &&
      { loss_scale: row[9], skipped_updates: row[10], skipped: row[11] === 0 }),
  };
}

/** Reads the metrics that an update returned. */
export async function readMetrics(device: Device, row: Tensor): Promise<StepValues> {
  return stepValues((await device.read([row]))[0]);
}

/** Vectors [..., D] as rows of length 1. */
function unitRows(x: Tensor): Tensor {
  const width = x.shape[x.shape.length - 1];
  return l2Normalize(reshape(x, [x.size / width, width]));
}

/** Mean over dimensions of the root of variance + 1e-6. */
function meanDeviation(variance: Tensor): Tensor {
  return reshape(mean(sqrt(add(variance, 1e-6))), [1]);
}

/**
 * Spread of L2-normalised vectors: root of the unbiased variance over tokens + 1e-6, mean over dimensions (what the
 * released code logs, SPEC section 3).
 *
 * @param x [..., D]
 * @returns [1]
 */
export function normalisedStd(x: Tensor): Tensor {
  const unit = unitRows(x);
  const centred = sub(unit, mean(unit, { axes: [0], keepDims: true }));
  return meanDeviation(
    mul(sum(square(centred), { axes: [0] }), 1 / Math.max(1, unit.shape[0] - 1)),
  );
}

function negativeEntropy(distribution: Tensor): Tensor {
  // The released code adds 1e-7 inside the logarithm; golden's logged values show it.
  return reshape(sum(mul(distribution, log(add(distribution, 1e-7)))), [1]);
}

function lossesOf(forward: MatpacForward): Tensor[] {
  return [
    reshape(forward.loss, [1]),
    reshape(mean(forward.predictionLoss), [1]),
    reshape(mean(forward.classificationLoss), [1]),
  ];
}

/** Parts of a row of metrics before and behind the gradient norm, each [1]. */
export interface Statistics {
  /** Weighted loss, prediction loss, classification loss. */
  readonly losses: readonly Tensor[];
  /** What comes behind the norm. */
  readonly statistics: readonly Tensor[];
}

/** Statistics of a forward pass over a whole batch. */
export function statisticsOf(forward: MatpacForward): Statistics {
  return noGrad(() => {
    const used = mean(forward.probabilities, { axes: [0, 1] });
    return {
      losses: lossesOf(forward),
      statistics: [
        negativeEntropy(used),
        normalisedStd(forward.target),
        normalisedStd(forward.prediction),
        distinctTargets(targetCounts(forward.probabilities)),
      ],
    };
  });
}

/**
 * The same over a batch that comes in several passes. Variances follow from sums of values and squares: entries are at
 * most 1 and the variance has 1e-6 added, against which the rounding of sums in f32 is small.
 */
export class BatchStatistics implements Disposable {
  /** [3]. */
  readonly #losses: Tensor;
  /** [K] mean target distribution. */
  readonly #used: Tensor;
  /** [K] tokens by most probable prototype. */
  readonly #counts: Tensor;
  /** [2, D] means of values and of squares, of targets and of predictions. */
  readonly #moments: readonly [Tensor, Tensor];
  /** Vectors in the whole batch, known after a pass. */
  #rows = 0;

  /** Makes the memory. */
  constructor(device: Device, { prototypes, width }: Geometry) {
    this.#losses = device.empty([3]);
    this.#used = device.empty([prototypes]);
    this.#counts = device.empty([prototypes]);
    this.#moments = [device.empty([2, width]), device.empty([2, width])];
  }

  get #all(): Tensor[] {
    return [this.#losses, this.#used, this.#counts, ...this.#moments];
  }

  /** Starts a batch. */
  clear(): void {
    for (const tensor of this.#all) fill(tensor, 0);
  }

  /** Adds a pass. @param share its part of the batch */
  add(forward: MatpacForward, share: number): void {
    const { target, prediction, probabilities } = forward;
    this.#rows = Math.round(target.size / target.shape[2] / share);
    noGrad(() =>
      scope(() => {
        addScaled(this.#losses, concat(lossesOf(forward), 0), share);
        addScaled(this.#used, mean(probabilities, { axes: [0, 1] }), share);
        addScaled(this.#counts, targetCounts(probabilities), 1);
        [target, prediction].forEach((x, i) => {
          const unit = unitRows(x);
          const moments = [unit, square(unit)].map((it) => mean(it, { axes: [0], keepDims: true }));
          addScaled(this.#moments[i], concat(moments, 0), share);
        });
      })
    );
  }

  /** What has been added up. */
  values(): Statistics {
    return noGrad(() => ({
      losses: [0, 1, 2].map((i) => slice(this.#losses, 0, i, 1)),
      statistics: [
        negativeEntropy(this.#used),
        ...this.#moments.map((moments) => {
          const [first, second] = [0, 1].map((i) => slice(moments, 0, i, 1));
          const unbiased = this.#rows / Math.max(1, this.#rows - 1);
          return meanDeviation(mul(sub(second, square(first)), unbiased));
        }),
        distinctTargets(this.#counts),
      ],
    }));
  }

  /** Frees the memory. */
  [Symbol.dispose](): void {
    for (const tensor of this.#all) tensor.dispose();
  }
}
