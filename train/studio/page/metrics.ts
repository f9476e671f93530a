/**
 * What the metrics of a run are and mean.
 *
 * @module
 */
import { groupOf, GROUPS } from "../../metrics/groups.ts";

/** A metric in words. */
export interface Meaning {
  readonly title: string;
  readonly about: string;
}

const MEANINGS: Readonly<Record<string, Meaning>> = {
  loss: { title: "Loss", about: "What is minimised." },
  loss_pred: { title: "Prediction loss", about: "Distance of predictions from their targets." },
  loss_contrast: {
    title: "Contrast loss",
    about: "What it costs to find the other crop of a clip among those of a pass.",
  },
  loss_cls: { title: "Classification loss", about: "Cross-entropy with the teacher's classes." },
  eval_accuracy: {
    title: "Accuracy of the probe",
    about: "Linear probe on the labelled folder of --eval.",
  },
  eval_map: { title: "mAP of the probe", about: "Linear probe on the labelled folder of --eval." },
  target_std: {
    title: "Spread of targets",
    about: "0 is a collapse: the teacher asks for the same everywhere.",
  },
  prediction_std: {
    title: "Spread of predictions",
    about: "0 is a collapse: the student answers the same everywhere.",
  },
  target_perplexity: {
    title: "Target perplexity",
    about: "Prototypes in use, as an entropy. 1 is a collapse; more is better.",
  },
  distinct_targets: {
    title: "Distinct targets",
    about: "Prototypes that are the target of some patch. 1 is a collapse.",
  },
  head_perplexity: {
    title: "Head perplexity",
    about: "Predictor heads that win, as an entropy. 1: one head does it all.",
  },
  lr: { title: "Learning rate", about: "Of the update." },
  grad_norm: { title: "Gradient norm", about: "L2, before clipping." },
  loss_scale: { title: "Loss scale", about: "Mixed precision; it falls when gradients overflow." },
  skipped_updates: { title: "Skipped updates", about: "Left out because gradients overflowed." },
  teacher_temp: { title: "Teacher temperature", about: "Of its softmax." },
  ema_encoder: { title: "Decay, encoder", about: "Of the teacher encoder's average." },
  ema_head: { title: "Decay, head", about: "Of the teacher head's average." },
  choice_temp: { title: "Choice temperature", about: "At which predictor heads compete." },
  samples_per_s: { title: "Samples per second", about: "Clips." },
  loader_wait: { title: "Wait for data", about: "Seconds since the row before." },
  exchange_wait: { title: "Wait for other ranks", about: "Seconds since the row before." },
  exchange_share: {
    title: "Wait for other ranks, share",
    about: "Of the time since the row before.",
  },
  ranks: { title: "Ranks", about: "Processes that train together." },
  slowest_rank: { title: "Slowest rank", about: "The one that waits least: others wait for it." },
  gpu_live_bytes: { title: "GPU memory", about: "Bytes in use." },
  gpu_peak_bytes: { title: "GPU memory, peak", about: "The most bytes in use so far." },
  process_bytes: { title: "Memory of the process", about: "Resident bytes." },
  epoch: { title: "Epoch", about: "Passes over the data begun before." },
  samples: { title: "Samples", about: "Clips seen." },
};

/** A metric in words; its own name where it is not known. */
export function meaningOf(metric: string): Meaning {
  return Object.hasOwn(MEANINGS, metric) ? MEANINGS[metric] : { title: metric, about: "" };
}

/** Headings with the metrics that runs have under them. */
export function grouped(metrics: ReadonlySet<string>): [group: string, metrics: string[]][] {
  const names = [...Object.keys(GROUPS), "other"];
  return names.map((group): [string, string[]] => {
    const known = GROUPS[group] ?? [];
    const here = [...metrics].filter((it) => groupOf(it) === group);
    return [group, here.sort((a, b) => known.indexOf(a) - known.indexOf(b))];
  }).filter(([, here]) => here.length > 0);
}

/** Groups that are open at first. */
export const OPEN: ReadonlySet<string> = new Set(["loss", "collapse", "evaluation"]);

/** Whether newest values look like a collapse; why, in words. */
export function collapse(values: Readonly<Record<string, number | undefined>>): string[] {
  const { target_std: target, prediction_std: made, distinct_targets: distinct } = values;
  return [
    ...(target !== undefined && target < 0.01
      ? [`targets spread by ${target.toPrecision(2)}`]
      : []),
    ...(made !== undefined && made < 0.01 ? [`predictions spread by ${made.toPrecision(2)}`] : []),
    ...(distinct !== undefined && distinct <= 2 ? [`${distinct} distinct targets`] : []),
  ];
}
