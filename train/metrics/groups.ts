/**
 * Headings under which the fields of a row of metrics.jsonl are shown.
 *
 * @module
 */

/** Fields by heading. */
export const GROUPS: Readonly<Record<string, readonly string[]>> = {
  loss: ["loss", "loss_pred", "loss_cls", "loss_contrast"],
  evaluation: ["eval_accuracy", "eval_map"],
  collapse: [
    "target_std",
    "prediction_std",
    "target_perplexity",
    "distinct_targets",
    "head_perplexity",
  ],
  optimizer: ["lr", "grad_norm", "loss_scale", "skipped_updates"],
  teacher: ["teacher_temp", "ema_encoder", "ema_head", "choice_temp"],
  speed: ["samples_per_s", "loader_wait", "exchange_wait", "exchange_share", "seconds"],
  memory: ["gpu_live_bytes", "gpu_peak_bytes", "process_bytes"],
  ranks: ["ranks", "slowest_rank"],
  progress: ["epoch", "samples"],
};

/** The heading of a field of a row; of one that is not known "other". */
export function groupOf(field: string): string {
  return Object.keys(GROUPS).find((it) => GROUPS[it].includes(field)) ?? "other";
}
