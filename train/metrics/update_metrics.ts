/**
 * The metrics of an update on the device: losses, gradient norm and collapse statistics
 * (model/README.md, Losses and statistics) in one row.
 *
 * @module
 */
import {
  add,
  addScaled,
  concat,
  type Device,
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
} from "../../engine/mod.ts";
import type { Forward } from "../../model/objectives/masked_model.ts";
import { distinctTargets, targetCounts } from "./distinct_targets.ts";

/** Metrics of one update on the host. */
export interface StepValues {
  /** Weighted loss. */
  readonly loss: number;
  /** Mean prediction loss. */
  readonly loss_pred: number;
  /** Mean classification loss, in objectives that classify. */
  readonly loss_cls?: number;
  /** Loss of the contrast of clips, where it has a weight. */
  readonly loss_contrast?: number;
  /** L2 norm of the whole gradient before clipping. */
  readonly grad_norm: number;
  /** Factor that clipping put on the gradients; 0 where the update was skipped. */
  readonly clip_coefficient: number;
  /** exp of the entropy of the mean target distribution: how many prototypes are in use. */
  readonly target_perplexity?: number;
  /** Spread of the L2-normalised targets over tokens, mean over dimensions. */
  readonly target_std: number;
  /** The same for predictions. */
  readonly prediction_std: number;
  /** Prototypes that are the most probable one of any token; 1 when targets have collapsed. */
  readonly distinct_targets?: number;
  /**
   * exp of the entropy of the winners: how many predictor heads are in use, in objectives with
   * several.
   */
  readonly head_perplexity?: number;
  /** Mixed precision: what the loss was last multiplied by, as the update left it. */
  readonly loss_scale?: number;
  /** Mixed precision: updates left out so far because gradients overflowed. */
  readonly skipped_updates?: number;
  /** Mixed precision: whether this update was one of them. */
  readonly skipped?: boolean;
}

/** Names of the values in a row of metrics, in order. */
export type MetricNames = readonly (keyof StepValues)[];

/** What a row of metrics is made of. */
export interface RowMetrics {
  /** Whether there is a classification. */
  readonly classification: boolean;
  /** Whether clips are contrasted. */
  readonly contrast: boolean;
  /** Whether predictor heads compete. */
  readonly competingHeads: boolean;
  /** Whether the loss is scaled. */
  readonly mixed: boolean;
}

/** What an update leaves in its row. */
export function metricNames(
  { classification, contrast, competingHeads, mixed }: RowMetrics,
): MetricNames {
  return [
    "loss",
    "loss_pred",
    ...classification ? ["loss_cls"] as const : [],
    ...contrast ? ["loss_contrast"] as const : [],
    "grad_norm",
    "clip_coefficient",
    "target_std",
    "prediction_std",
    ...classification ? ["target_perplexity", "distinct_targets"] as const : [],
    ...competingHeads ? ["head_perplexity"] as const : [],
    ...mixed ? ["loss_scale", "skipped_updates", "skipped"] as const : [],
  ];
}

/**
 * The metrics in a row. Of distributions it holds the negative entropy, of `skipped` its opposite.
 */
export function stepValues(names: MetricNames, row: ArrayLike<number>): StepValues {
  return Object.fromEntries(names.map((name, i) => {
    if (name.endsWith("_perplexity")) return [name, Math.exp(-row[i])];
    return [name, name === "skipped" ? row[i] === 0 : row[i]];
  })) as unknown as StepValues;
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
 * Spread of L2-normalised vectors: root of the unbiased variance over tokens + 1e-6, mean over
 * dimensions (what the released code logs).
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

function lossesOf(
  { loss, predictionLoss, classificationLoss, contrastLoss }: Forward,
): Tensor[] {
  return [
    reshape(loss, [1]),
    reshape(mean(predictionLoss), [1]),
    ...classificationLoss ? [reshape(mean(classificationLoss), [1])] : [],
    ...contrastLoss ? [contrastLoss] : [],
  ];
}

/** Parts of a row of metrics before and behind the gradient norm, each [1]. */
export interface Statistics {
  /** Weighted loss, prediction loss, classification loss, that of contrast. */
  readonly losses: readonly Tensor[];
  /** What comes behind the norm. */
  readonly statistics: readonly Tensor[];
}

/** Losses and statistics of an update's batch, which comes in one micro-batch or in several. */
export interface BatchStatistics extends Disposable {
  /** What each micro-batch adds to, from 0 on; nothing where there is only one. */
  readonly sums: readonly Tensor[];
  /** Adds a micro-batch. */
  add(forward: Forward): void;
  /** Those of the whole batch. */
  values(): Statistics;
}

/** Sizes of what statistics add up. */
export interface StatisticsSizes extends Pick<RowMetrics, "classification" | "contrast"> {
  /** Values that are predicted for a patch. */
  readonly outputs: number;
  /** Prototypes K. */
  readonly prototypes: number;
  /** Competing heads; 0 without. */
  readonly mclHeads: number;
}

/** Statistics of batches that come in `microBatches` equal parts. */
export function batchStatistics(
  device: Device,
  sizes: StatisticsSizes,
  microBatches: number,
): BatchStatistics {
  return microBatches === 1
    ? new WholeStatistics()
    : new SummedStatistics(device, sizes, 1 / microBatches);
}

/** A single forward pass sees the whole batch: nothing needs to be added up. */
class WholeStatistics implements BatchStatistics {
  readonly sums = [];
  #values: Statistics | undefined;

  add(forward: Forward): void {
    const { target, prediction, probabilities, winners } = forward;
    const entropy = (x: Tensor) => negativeEntropy(mean(x, { axes: [0, 1] }));
    this.#values = noGrad(() => ({
      losses: lossesOf(forward),
      statistics: [
        normalisedStd(target),
        normalisedStd(prediction),
        ...probabilities
          ? [entropy(probabilities), distinctTargets(targetCounts(probabilities))]
          : [],
        ...winners ? [entropy(winners)] : [],
      ],
    }));
  }

  values(): Statistics {
    return this.#values!;
  }

  [Symbol.dispose](): void {}
}

/**
 * Sums over micro-batches. Variances follow from sums of values and squares: entries are at most 1
 * and the variance has 1e-6 added, against which the rounding of sums in f32 is small.
 */
class SummedStatistics implements BatchStatistics {
  /** [2 to 4]. */
  readonly #losses: Tensor;
  /** [2, D] means of values and of squares, of targets and of predictions. */
  readonly #moments: readonly [Tensor, Tensor];
  /** [K] mean target distribution, and tokens by most probable prototype. */
  readonly #targets: { readonly used: Tensor; readonly counts: Tensor } | undefined;
  /** [H] share of the tokens that each head wins. */
  readonly #winners: Tensor | undefined;
  /** Vectors in the whole batch, known after a micro-batch. */
  #rows = 0;

  /** @param share a micro-batch's part of the batch */
  constructor(
    device: Device,
    { outputs, prototypes, mclHeads, classification, contrast }: StatisticsSizes,
    private readonly share: number,
  ) {
    this.#losses = device.empty([2 + Number(classification) + Number(contrast)]);
    this.#moments = [device.empty([2, outputs]), device.empty([2, outputs])];
    if (classification) {
      this.#targets = { used: device.empty([prototypes]), counts: device.empty([prototypes]) };
    }
    if (mclHeads > 0) this.#winners = device.empty([mclHeads]);
  }

  get sums(): readonly Tensor[] {
    const targets = Object.values(this.#targets ?? {});
    return [this.#losses, ...this.#moments, ...targets, ...this.#winners ? [this.#winners] : []];
  }

  add(forward: Forward): void {
    const { share } = this;
    const { target, prediction, probabilities, winners } = forward;
    this.#rows = Math.round(target.size / target.shape[2] / share);
    noGrad(() =>
      scope(() => {
        addScaled(this.#losses, concat(lossesOf(forward), 0), share);
        [target, prediction].forEach((x, i) => {
          const unit = unitRows(x);
          const moments = [unit, square(unit)].map((it) => mean(it, { axes: [0], keepDims: true }));
          addScaled(this.#moments[i], concat(moments, 0), share);
        });
        if (this.#targets && probabilities) {
          addScaled(this.#targets.used, mean(probabilities, { axes: [0, 1] }), share);
          addScaled(this.#targets.counts, targetCounts(probabilities), 1);
        }
        if (this.#winners && winners) {
          addScaled(this.#winners, mean(winners, { axes: [0, 1] }), share);
        }
      })
    );
  }

  values(): Statistics {
    return noGrad(() => ({
      losses: Array.from({ length: this.#losses.size }, (_, i) => slice(this.#losses, 0, i, 1)),
      statistics: [
        ...this.#moments.map((moments) => {
          const [first, second] = [0, 1].map((i) => slice(moments, 0, i, 1));
          const unbiased = this.#rows / Math.max(1, this.#rows - 1);
          return meanDeviation(mul(sub(second, square(first)), unbiased));
        }),
        ...this.#targets
          ? [negativeEntropy(this.#targets.used), distinctTargets(this.#targets.counts)]
          : [],
        ...this.#winners ? [negativeEntropy(this.#winners)] : [],
      ],
    }));
  }

  [Symbol.dispose](): void {
    for (const tensor of this.sums) tensor.dispose();
  }
}
