/**
 * HEAR 2021's scene tasks: one embedding per clip.
 *
 * @module
 */
import {
  accuracyOf,
  classTargets,
  confusionOf,
  macroAuc,
  meanAveragePrecision,
  meanOf,
  type Scores,
} from "../probe/metrics.ts";
import type { ProbeContext } from "../probe/probe.ts";
import { type ProbeResult, scorer, summaryOf } from "../probe/summary.ts";
import { type GridPoint, type HearProtocol, hearTrials, trainHear } from "./grid_search.ts";

/** What a grid found beside scores. */
export interface GridResult {
  /** The combination that was taken. */
  readonly choice: GridPoint;
  /** All that were tried, with the best validation score and its epoch. */
  readonly grid: readonly (GridPoint & { readonly validation: number; readonly epoch: number })[];
}

/** What a scene task scores. */
export interface SceneResult extends ProbeResult, GridResult {
  /** Mean over folds of all metrics that the labels allow. */
  readonly scores: Readonly<Record<string, number>>;
}

/** What {@link runScenes} works with. */
export interface SceneContext extends Omit<ProbeContext, "protocol"> {
  /** How perceptrons are trained. */
  readonly protocol: HearProtocol;
}

/**
 * Trains and tests perceptrons on clips.
 *
 * @throws {NoDataError} as `hearTrials`
 * @throws {InterruptedError} when the signal aborted.
 */
export async function runScenes(context: SceneContext): Promise<SceneResult> {
  const { data, features, metric, protocol } = context;
  const { clips, truth, multiLabel } = data;
  const classes = data.classes.length;
  const dim = features.length / clips.length;
  const trials = hearTrials(data, protocol);
  const judge = scorer(metric);
  const { choice, grid, splits } = await trainHear(
    {
      ...context,
      ...{ dim, classes, rows: { features, targets: classTargets(truth, classes) } },
      loss: multiLabel ? "binary" : "cross-entropy",
    },
    trials,
    (split, values) => {
      const score = judge({ values, classes }, trials[split].validation.map((i) => truth[i]));
      // Nothing can be judged: as good as the worst.
      return { score: Number.isNaN(score) ? 0 : score };
    },
  );
  const tested = splits.map(({ test, epoch }) => ({
    test: { values: test, classes },
    epoch,
    rate: choice.rate,
  }));
  const mean = (score: (scores: Scores, truth: typeof data.truth) => number) =>
    meanOf(trials.map(({ test }, i) => score(tested[i].test, test.map((clip) => truth[clip]))));
  return {
    ...summaryOf({ data, metric, dim }, trials, tested),
    choice,
    grid,
    scores: {
      ...(!multiLabel &&
        { accuracy: mean((scores, truth) => accuracyOf(confusionOf(scores, truth))) }),
      mAP: mean(meanAveragePrecision),
      AUC: mean(macroAuc),
    },
  };
}
