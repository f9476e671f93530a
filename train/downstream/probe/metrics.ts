/**
 * What probes are judged by: average precision, accuracy, confusion, intervals.
 *
 * @module
 */

import { UNKNOWN } from "../known_labels.ts";

/** Scores of some clips: [clips, classes], row-major. */
export interface Scores {
  /** Values, the larger the likelier. */
  readonly values: Float32Array;
  /** Classes. */
  readonly classes: number;
}

/** Classes of each clip; for one of which it is not known whether it has it, `~class`. */
export type ClipClasses = readonly (readonly number[])[];

/**
 * Cross-entropy of one class per clip, or binary cross-entropy of each class, mean over classes.
 */
export type ClassLoss = "cross-entropy" | "binary";

/** [clips, classes], row-major: 1 where a clip is of a class, {@link UNKNOWN} or else 0. */
export function classTargets(truth: ClipClasses, classes: number): Float32Array<ArrayBuffer> {
  const targets = new Float32Array(truth.length * classes);
  truth.forEach((own, clip) =>
    own.forEach((k) => {
      if (k >= 0) targets[clip * classes + k] = 1;
      else targets[clip * classes + ~k] = UNKNOWN;
    })
  );
  return targets;
}

/** Softmax of each row of logits [clips, classes], or the sigmoid of each value. */
export function probabilitiesOf(
  logits: ArrayLike<number>,
  classes: number,
  loss: ClassLoss,
): Float64Array {
  const result = Float64Array.from(logits);
  if (loss === "binary") return result.map((x) => 1 / (1 + Math.exp(-x)));
  for (let at = 0; at < result.length; at += classes) {
    const row = result.subarray(at, at + classes);
    const most = row.reduce((a, b) => Math.max(a, b));
    const total = row.reduce((sum, x) => sum + Math.exp(x - most), 0);
    row.forEach((x, k) => row[k] = Math.exp(x - most) / total);
  }
  return result;
}

/** a - b, where NaN is below all numbers and every NaN is alike. */
const compareScores = (a: number, b: number): number =>
  +Number.isNaN(b) - +Number.isNaN(a) || +(a > b) - +(a < b);

/**
 * Area under the steps of precision over recall: the sum over distinct scores, from the highest
 * down, of what recall gains times the precision there. Equal scores are one threshold; nothing is
 * interpolated (scikit-learn's definition).
 *
 * @param scores one per clip; NaN is the lowest of all
 * @param positive whether a clip is of the class
 * @returns 0 where no clip is
 */
export function averagePrecision(
  scores: ArrayLike<number>,
  positive: (clip: number) => boolean,
): number {
  const order = Array.from({ length: scores.length }, (_, i) => i)
    .sort((a, b) => compareScores(scores[b], scores[a]));
  const hits = order.map((clip) => +positive(clip));
  const all = hits.reduce((sum, hit) => sum + hit, 0);
  let [found, before, area] = [0, 0, 0];
  order.forEach((clip, i) => {
    found += hits[i];
    const next = order[i + 1];
    if (next !== undefined && compareScores(scores[next], scores[clip]) === 0) return;
    area += (found - before) * found / (i + 1);
    before = found;
  });
  return all === 0 ? 0 : area / all;
}

/** Scores for a class, and whether a clip is of it, of the clips of which that is known. */
function column(
  { values, classes }: Scores,
  truth: ClipClasses,
  k: number,
): { readonly scores: Float32Array; readonly positive: readonly boolean[] } {
  const known = truth.flatMap((own, clip) => own.includes(~k) ? [] : [clip]);
  return {
    scores: Float32Array.from(known, (clip) => values[clip * classes + k]),
    positive: known.map((clip) => truth[clip].includes(k)),
  };
}

/**
 * Average precision of each class among the clips of which it is known; undefined where none is of
 * it.
 */
export function classPrecisions(scores: Scores, truth: ClipClasses): (number | undefined)[] {
  return Array.from({ length: scores.classes }, (_, k) => {
    const { scores: own, positive } = column(scores, truth, k);
    return positive.includes(true) ? averagePrecision(own, (i) => positive[i]) : undefined;
  });
}

/**
 * Macro mean of average precision.
 *
 * @param empty classes without a positive are left out (`skip`) or count as 0 (`zero`)
 * @returns NaN where nothing counts
 */
export function meanAveragePrecision(
  scores: Scores,
  truth: ClipClasses,
  empty: "skip" | "zero" = "skip",
): number {
  const each = classPrecisions(scores, truth);
  return meanOf(
    empty === "zero" ? each.map((it) => it ?? 0) : each.filter((it) => it !== undefined),
  );
}

/**
 * Area under the receiver operating characteristic: the chance that a clip of the class has a
 * higher score than one that is not, equal scores counting one half.
 *
 * @param scores one per clip; NaN is the lowest of all
 * @param positive whether a clip is of the class
 * @returns NaN where all clips are, or none is
 */
export function rocAuc(scores: ArrayLike<number>, positive: (clip: number) => boolean): number {
  const order = Array.from({ length: scores.length }, (_, i) => i)
    .sort((a, b) => compareScores(scores[a], scores[b]));
  let [positives, below, area] = [0, 0, 0];
  for (let first = 0; first < order.length;) {
    let end = first;
    while (
      end < order.length && compareScores(scores[order[end]], scores[order[first]]) === 0
    ) end++;
    const own = order.slice(first, end).filter(positive).length;
    const others = end - first - own;
    area += own * (below + others / 2);
    positives += own;
    below += others;
    first = end;
  }
  return area / (positives * below);
}

/**
 * Macro mean of {@link rocAuc} over the classes that some clips are of and others not; NaN where
 * there is none.
 */
export function macroAuc(scores: Scores, truth: ClipClasses): number {
  const each = Array.from({ length: scores.classes }, (_, k) => {
    const { scores: own, positive } = column(scores, truth, k);
    return rocAuc(own, (i) => positive[i]);
  });
  return meanOf(each.filter((it) => !Number.isNaN(it)));
}

/** The class of the highest score of each clip, NaN being the lowest; of equal ones the first. */
export function predictions({ values, classes }: Scores): number[] {
  return Array.from({ length: values.length / classes }, (_, clip) => {
    let best = clip * classes;
    for (let i = best + 1; i < (clip + 1) * classes; i++) {
      if (compareScores(values[i], values[best]) > 0) best = i;
    }
    return best - clip * classes;
  });
}

/**
 * How often clips of one class (row) were taken for another (column), each clip by its first class.
 */
export function confusionOf(scores: Scores, truth: ClipClasses): number[][] {
  const { classes } = scores;
  const counts = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  predictions(scores).forEach((predicted, clip) => counts[truth[clip][0]][predicted]++);
  return counts;
}

/** Share on the diagonal; NaN for no clips. */
export function accuracyOf(confusion: readonly (readonly number[])[]): number {
  const right = confusion.reduce((sum, row, k) => sum + row[k], 0);
  return right / confusion.flat().reduce((a, b) => a + b, 0);
}

/** Mean recall over the classes that have clips; NaN for no clips. */
export function balancedAccuracyOf(confusion: readonly (readonly number[])[]): number {
  const recalls = confusion.map((row, k) => row[k] / row.reduce((a, b) => a + b, 0));
  return meanOf(recalls.filter((it) => !Number.isNaN(it)));
}

/** Mean; NaN of nothing. */
export function meanOf(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

/** Standard error of a mean, sd / sqrt(n), sd with n - 1; NaN of fewer than two values. */
export function standardError(values: readonly number[]): number {
  const mean = meanOf(values);
  const squares = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  return Math.sqrt(squares / (values.length - 1) / values.length);
}

/**
 * Half the width of the 95 % interval of a mean: 1.96 standard errors; 0 of a single value.
 */
export function halfInterval(values: readonly number[]): number {
  return values.length < 2 ? 0 : 1.96 * standardError(values);
}

/**
 * Mean over clips of the cross-entropy with a clip's first class, or of binary cross-entropy over
 * all classes, those of which it is not known whether the clip is of them adding 0.
 */
export function meanLoss(
  { values, classes }: Scores,
  truth: ClipClasses,
  loss: ClassLoss,
): number {
  let sum = 0;
  truth.forEach((own, clip) => {
    const row = values.subarray(clip * classes, (clip + 1) * classes);
    if (loss === "binary") {
      let each = 0;
      row.forEach((x, k) => {
        if (own.includes(~k)) return;
        each += Math.max(x, 0) - (own.includes(k) ? x : 0) + Math.log1p(Math.exp(-Math.abs(x)));
      });
      sum += each / classes;
      return;
    }
    const most = row.reduce((a, b) => Math.max(a, b), -Infinity);
    sum += most + Math.log(row.reduce((a, x) => a + Math.exp(x - most), 0)) - row[own[0]];
  });
  return sum / truth.length;
}
