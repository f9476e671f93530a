/**
 * Rows of metrics.jsonl.
 *
 * @module
 */

/** What an evaluation found; one of them. */
export interface EvaluationScore {
  /** Accuracy of the linear probe, mean over folds; clips of one label. */
  readonly eval_accuracy?: number;
  /** Its mean average precision; clips of several labels. */
  readonly eval_map?: number;
}

/** One logged step; the rows of evaluations have their score. */
export interface MetricsRow extends EvaluationScore {
  /** Updates done. */
  readonly step: number;
  /** Passes over the data that were begun before, from 0. */
  readonly epoch: number;
  /** Clips seen. */
  readonly samples: number;
  /** Weighted loss. */
  readonly loss: number;
  /** Mean prediction loss. */
  readonly loss_pred: number;
  /** Mean classification loss, in objectives that classify. */
  readonly loss_cls?: number;
  /** Loss of the contrast of clips, where it has a weight. */
  readonly loss_contrast?: number;
  /** Learning rate of the update. */
  readonly lr: number;
  /** Temperature of the teacher's softmax, in objectives that classify. */
  readonly teacher_temp?: number;
  /** Decay of the teacher encoder's average, in objectives that have one. */
  readonly ema_encoder?: number;
  /** Decay of the teacher head's average, in objectives that classify. */
  readonly ema_head?: number;
  /** Temperature at which predictor heads compete, in MATPAC++. */
  readonly choice_temp?: number;
  /** L2 norm of the whole gradient before clipping. */
  readonly grad_norm: number;
  /** exp of the entropy of the mean target distribution. */
  readonly target_perplexity?: number;
  /** Spread of the targets; near 0 they have collapsed. */
  readonly target_std: number;
  /** Spread of the predictions. */
  readonly prediction_std: number;
  /** Prototypes that are the target of some token; 1 when targets have collapsed. */
  readonly distinct_targets?: number;
  /** exp of the entropy of the winning predictor heads, in MATPAC++. */
  readonly head_perplexity?: number;
  /** Mixed precision: what the loss is multiplied by after this update. */
  readonly loss_scale?: number;
  /**
   * Mixed precision: updates left out so far because gradients overflowed; their own values are
   * null where not finite.
   */
  readonly skipped_updates?: number;
  /** Clips per second, as last measured. */
  readonly samples_per_s: number;
  /** Seconds that the updates since the row before waited for their batches. */
  readonly loader_wait: number;
  /**
   * Of several ranks, on the first: seconds that the updates since the row before waited for sums
   * over the others.
   */
  readonly exchange_wait?: number;
  /** That, as a share of the time since the row before. */
  readonly exchange_share?: number;
  /** Of several ranks: the one that waited least for sums, for which the others wait. */
  readonly slowest_rank?: number;
  /** How many ranks there are, of several. */
  readonly ranks?: number;
  /** Bytes of GPU memory in use. */
  readonly gpu_live_bytes: number;
  /** The most that were in use so far. */
  readonly gpu_peak_bytes: number;
  /**
   * Resident bytes of the process, in which a software adapter's memory and what drivers keep
   * counts as well.
   */
  readonly process_bytes: number;
  /** Since the start of the process. */
  readonly seconds: number;
}

/** Fields that are measured: runs that are otherwise the same may differ in them. */
export const MEASURED_FIELDS: readonly (keyof MetricsRow)[] = [
  "samples_per_s",
  "loader_wait",
  "exchange_wait",
  "exchange_share",
  "slowest_rank",
  "ranks",
  "gpu_live_bytes",
  "gpu_peak_bytes",
  "process_bytes",
  "seconds",
];
