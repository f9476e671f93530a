/**
 * What a few labelled clips of each class are good for: logistic regression and nearest neighbours,
 * with as many other draws of the clips as are asked for (model/README.md, Probes).
 *
 * @module
 */
import type { Device } from "../../../engine/mod.ts";
import { Prng } from "../../../engine/prng.ts";
import { InterruptedError, NoDataError, UsageError } from "../../errors.ts";
import { yieldToEventLoop } from "../../io/event_loop.ts";
import { fitLogistic, logitsFrom } from "./logistic_regression.ts";
import { halfInterval, meanOf, type Scores } from "./metrics.ts";
import { neighbourScores } from "./nearest_neighbours.ts";
import type { Metric } from "./protocol.ts";
import { similaritiesOf } from "./similarity.ts";
import { type ProbeData, shuffled, STREAMS, trialsOf } from "./splits.ts";
import { scorer } from "./summary.ts";

/** Labelled clips of each class, or all of them. */
export type Shots = number | "all";

/** Neighbours that vote, or as many as there are of a class if those are fewer. */
export const NEIGHBOURS = 5;
/** Draws of clips, unless told otherwise. */
export const DRAWS = 20;
/** Clips that are learned from: there are as many products as pairs. */
const MOST_CLIPS = 16_384;
/** Resamplings of test clips that tell how far a single draw may be off. */
const RESAMPLES = 200;

/** What {@link fewShots} works with. */
export interface FewShotContext {
  /** Multiplies. */
  readonly device: Device;
  /** Clips and classes; each clip has one. */
  readonly data: ProbeData;
  /** [clips, dim]. */
  readonly features: Float32Array;
  /** What tells how good it is. */
  readonly metric: Metric;
  /** Clips of each class. */
  readonly shots: Shots;
  /** Draws; of all clips there is one. */
  readonly draws: number;
  /** Of the draws. */
  readonly seed: number;
  /** Penalty of squared weights, scikit-learn's 1 / C. */
  readonly penalty: number;
  /** Called with the share of the work that is done. */
  readonly onProgress?: (share: number) => void;
  /** Aborts. */
  readonly signal?: AbortSignal;
}

/** What one way to classify scores. */
export interface FewShotScore {
  /** Mean over draws of the mean over folds. */
  readonly mean: number;
  /**
   * Half the 95 % interval: of the mean over draws, 1.96 sd / sqrt(draws); with all clips, where
   * there is one draw, 1.96 sd over resampled test clips.
   */
  readonly ci95: number;
  /** Of each draw. */
  readonly repeats: readonly number[];
  /**
   * What the interval is of: the draws, or with all clips the resampled test clips. One by one they
   * are of the same clips for all features of the same folder and seed.
   */
  readonly samples: readonly number[];
}

/**
 * How far a score is ahead of another one on the same clips, with half the 95 % interval of the
 * difference: what is hard for both makes both intervals wide, and not this one.
 *
 * @param score of the same folder, shots, draws and seed as the other one
 */
export function aheadOf(
  score: FewShotScore,
  other: FewShotScore,
): Pick<FewShotScore, "mean" | "ci95"> {
  const differences = score.samples.map((it, i) => it - other.samples[i]);
  return { mean: score.mean - other.mean, ci95: intervalOf(differences, score.repeats.length) };
}

/** Half the 95 % interval: of a mean over draws, or over resampled clips of the only draw. */
function intervalOf(samples: readonly number[], draws: number): number {
  return halfInterval(samples) * (draws > 1 ? 1 : Math.sqrt(samples.length));
}

/** What a few clips are good for. */
export interface FewShotResult {
  /** Logistic regression on standardised features. */
  readonly linear: FewShotScore;
  /** Nearest neighbours by the cosine of standardised features. */
  readonly knn: FewShotScore;
  /** Values of a clip. */
  readonly dim: number;
  /** Clips that were learned from, on average. */
  readonly clips: number;
}

/** Clips of each class, drawn in a random order; a class that has fewer gives all. */
export function drawShots(
  known: readonly number[],
  { truth, classes }: Pick<ProbeData, "truth" | "classes">,
  shots: Shots,
  random: Prng,
): number[] {
  if (shots === "all") return [...known];
  const order = shuffled(known, random);
  return classes.flatMap((_, k) => order.filter((clip) => truth[clip][0] === k).slice(0, shots))
    .sort((a, b) => a - b);
}

/**
 * Learns from a few clips of each class in the training part of each fold and tests as the folder's
 * folds or split say. Validation clips of a split are left out: nothing is chosen by them.
 *
 * @throws {UsageError} where clips have several labels
 * @throws {NoDataError} if nothing is left to learn from or to test
 * @throws {InterruptedError} when the signal aborted.
 */
export async function fewShots(context: FewShotContext): Promise<FewShotResult> {
  const { device, data, features: values, metric, shots, seed, penalty, signal } = context;
  if (data.multiLabel) throw new UsageError("--shots: is for clips of one label each");
  const draws = shots === "all" ? 1 : context.draws;
  const dim = values.length / data.clips.length;
  const judge = scorer(metric);
  // Of folds, training and validation clips together are what is known.
  const folds = trialsOf(data, { repeats: 1, seed, heldOut: 0.1, covering: false });
  const found = { linear: [] as Tested[], knn: [] as Tested[] };
  let [learned, done] = [0, 0];
  for (let repeat = 0; repeat < draws; repeat++) {
    for (const [fold, { train, validation, test }] of folds.entries()) {
      if (signal?.aborted) throw new InterruptedError("interrupted");
      const random = new Prng(seed + repeat, STREAMS.shots, fold, shots === "all" ? 0 : shots);
      const isGiven = validation.every((it) => data.clips[it].part === "validation");
      const known = isGiven ? train : [...train, ...validation].sort((a, b) => a - b);
      const chosen = drawShots(known, data, shots, random);
      if (chosen.length === 0) throw new NoDataError("nothing is left to learn from");
      if (chosen.length > MOST_CLIPS) {
        throw new UsageError(
          `--shots ${shots}: ${chosen.length} clips to learn from; ${MOST_CLIPS} at most, beyond ` +
            "that probe without --shots trains",
        );
      }
      learned += chosen.length;
      const truth = chosen.map((it) => data.truth[it]);
      const products = await similaritiesOf(device, { values, dim }, chosen, test);
      const labels = truth.map(([it]) => it);
      const fit = fitLogistic(products.train, labels, data.classes.length, penalty);
      const neighbours = shots === "all" ? NEIGHBOURS : Math.min(shots, NEIGHBOURS);
      const logits = Float32Array.from(logitsFrom(products.test, fit));
      const votes = neighbourScores(products, truth, data.classes.length, neighbours);
      found.linear.push({ repeat, test, values: logits });
      found.knn.push({ repeat, test, values: votes });
      context.onProgress?.(++done / draws / folds.length);
      await yieldToEventLoop();
    }
  }
  const scoreOf = (tested: readonly Tested[]): FewShotScore => {
    const value = ({ test, values }: Tested, rows = test.map((_, i) => i)) => {
      const picked = { values: pick(values, rows, data.classes.length) };
      const scores: Scores = { ...picked, classes: data.classes.length };
      return judge(scores, rows.map((row) => data.truth[test[row]]));
    };
    const repeats = [...Map.groupBy(tested, ({ repeat }) => repeat).values()]
      .map((own) => meanOf(own.map((it) => value(it))));
    const random = new Prng(seed, STREAMS.shots, -1);
    const samples = draws > 1
      ? repeats
      : Array.from({ length: RESAMPLES }, () =>
        meanOf(tested.map((it) => {
          const rows = it.test.map(() => random.integer(it.test.length));
          return value(it, rows);
        })));
    return { mean: meanOf(repeats), ci95: intervalOf(samples, draws), repeats, samples };
  };
  return {
    linear: scoreOf(found.linear),
    knn: scoreOf(found.knn),
    dim,
    clips: learned / draws / folds.length,
  };
}

/** Scores of the test clips of one draw in one fold. */
interface Tested {
  readonly repeat: number;
  readonly test: readonly number[];
  /** [test, classes]. */
  readonly values: Float32Array;
}

function pick(values: Float32Array, rows: readonly number[], size: number): Float32Array {
  const picked = new Float32Array(rows.length * size);
  rows.forEach((row, i) => picked.set(values.subarray(row * size, (row + 1) * size), i * size));
  return picked;
}
