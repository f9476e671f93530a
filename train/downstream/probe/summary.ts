/**
 * What trials amount to: scores with intervals, by fold and by class.
 *
 * @module
 */
import { DivergedError } from "../../errors.ts";
import {
  accuracyOf,
  balancedAccuracyOf,
  classPrecisions,
  type ClipClasses,
  confusionOf,
  halfInterval,
  macroAuc,
  meanAveragePrecision,
  meanOf,
  type Scores,
} from "./metrics.ts";
import type { Metric } from "./protocol.ts";
import type { ProbeData, Trial } from "./splits.ts";

/** How well one class is found. */
export interface ClassResult {
  /** Clips of it that were tested in one repeat. */
  readonly clips: number;
  /** Share of its clips that were taken for it; single-label only. */
  readonly recall?: number;
  /** Share of the clips taken for it that are of it, 0 where there are none; single-label only. */
  readonly precision?: number;
  /** Average precision, mean over folds and repeats that have clips of it. */
  readonly average_precision: number | null;
}

/** What a probe scores. */
export interface ProbeResult {
  /** Values of a clip. */
  readonly dim: number;
  /** Mean over repeats. */
  readonly mean: number;
  /** Half the 95 % interval of the mean; see `halfInterval`. */
  readonly ci95: number;
  /** Mean over folds, of each repeat. */
  readonly repeats: readonly number[];
  /** Mean over repeats, of each fold. */
  readonly folds: readonly {
    readonly fold: string;
    readonly clips: number;
    readonly mean: number;
  }[];
  /** By class name. */
  readonly per_class: Readonly<Record<string, ClassResult>>;
  /**
   * Clips of a class (row) taken for another (column), summed over folds and repeats; none for
   * several labels.
   */
  readonly confusion: readonly (readonly number[])[] | null;
  /** Best epochs, smallest, median and largest. */
  readonly epochs: readonly [number, number, number];
  /** Learning rates that were taken, and how often. */
  readonly rates: Readonly<Record<string, number>>;
}

type Score = (scores: Scores, truth: ClipClasses) => number;

const SCORES: Readonly<Record<Metric, Score>> = {
  accuracy: (scores, truth) => accuracyOf(confusionOf(scores, truth)),
  balanced: (scores, truth) => balancedAccuracyOf(confusionOf(scores, truth)),
  mAP: meanAveragePrecision,
  AUC: macroAuc,
};

/** The metric of some clips. */
export function scorer(metric: Metric): Score {
  return SCORES[metric];
}

/** What was found in a trial. */
export interface TestedTrial {
  /** Scores of the test clips. */
  readonly test: Scores;
  /** The best epoch. */
  readonly epoch: number;
  /** The learning rate. */
  readonly rate: number;
}

/**
 * The result of all trials.
 *
 * @param dim values of a clip that the classes were predicted from
 * @param tested in the order of the trials
 * @throws {DivergedError} if scores of test clips are NaN: no metric tells how good they are.
 */
export function summaryOf(
  { data, metric, dim }: {
    readonly data: ProbeData;
    readonly metric: Metric;
    readonly dim: number;
  },
  trials: readonly Trial[],
  found: readonly TestedTrial[],
): ProbeResult {
  const { truth, classes, multiLabel } = data;
  const judge = scorer(metric);
  const tested = trials.map((trial, i) => {
    const known = trial.test.map((clip) => truth[clip]);
    const { test, epoch, rate } = found[i];
    if (test.values.some(Number.isNaN)) {
      throw new DivergedError(
        `scores of test clips are NaN at the learning rate ${rate}: lower it, or look for clips ` +
          "whose features are not finite",
        Math.max(1, epoch),
      );
    }
    return { ...trial, known, scores: test, value: judge(test, known), epoch, rate };
  });
  const repeats = [...Map.groupBy(tested, ({ repeat }) => repeat).values()]
    .map((own) => meanOf(own.map(({ value }) => value)));
  const folds = [...Map.groupBy(tested, ({ fold }) => fold)].map(([fold, own]) => ({
    fold,
    clips: own[0].test.length,
    mean: meanOf(own.map(({ value }) => value)),
  }));
  const confusion = multiLabel ? null : tested
    .map(({ scores, known }) => confusionOf(scores, known))
    .reduce((a, b) => a.map((row, i) => row.map((n, j) => n + b[i][j])));
  const precisions = tested.map(({ scores, known }) => classPrecisions(scores, known));
  const first = tested.filter(({ repeat }) => repeat === 0).flatMap(({ known }) => known);
  const per_class = Object.fromEntries(classes.map((name, k): [string, ClassResult] => {
    const own = precisions.map((it) => it[k]).filter((it) => it !== undefined);
    const total = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);
    const share = (part: number, all: number) => all === 0 ? 0 : part / all;
    return [name, {
      clips: first.filter((it) => it.includes(k)).length,
      ...confusion && {
        recall: share(confusion[k][k], total(confusion[k])),
        precision: share(confusion[k][k], total(confusion.map((row) => row[k]))),
      },
      average_precision: own.length > 0 ? meanOf(own) : null,
    }];
  }));
  const epochs = tested.map(({ epoch }) => epoch).sort((a, b) => a - b);
  return {
    dim,
    mean: meanOf(repeats),
    ci95: halfInterval(repeats),
    repeats,
    folds,
    per_class,
    confusion,
    epochs: [epochs[0], epochs[epochs.length >> 1], epochs[epochs.length - 1]],
    rates: Object.fromEntries(
      [...Map.groupBy(tested, ({ rate }) => rate)].map(([rate, own]) => [rate, own.length]),
    ),
  };
}
