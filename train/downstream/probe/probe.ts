/**
 * Linear probing of a labelled folder, `deno task probe` (model/README.md, Probes).
 *
 * Read on in this order: folder_features.ts computes or finds a clip's features (features.ts says
 * which, feature_cache.ts keeps them), splits.ts makes trials of the folder's folds,
 * train_probes.ts trains them to their best epoch, all side by side in linear_probes.ts,
 * metrics.ts scores them and summary.ts sums up; report.ts and confusion_matrix.ts show it,
 * probe_layer.ts, probe_file.ts and predict.ts put a probe to use and keep it.
 *
 * @module
 */
import type { Device } from "../../../engine/mod.ts";
import type { Prng } from "../../../engine/prng.ts";
import { type InitialLayer, ProbeTable } from "./linear_probes.ts";
import { classTargets } from "./metrics.ts";
import type { Metric, Protocol } from "./protocol.ts";
import {
  finalTrial,
  type ProbeData,
  STREAMS,
  type Trial,
  trialRandom,
  trialsOf,
} from "./splits.ts";
import { type ProbeResult, scorer, summaryOf } from "./summary.ts";
import { type Problem, type Trained, trainProblems } from "./train_probes.ts";

/** What {@link runProbe} works with. */
export interface ProbeContext {
  /** Trains. */
  readonly device: Device;
  /** Clips and classes. */
  readonly data: ProbeData;
  /** [clips, dim]. */
  readonly features: Float32Array;
  /** How. */
  readonly protocol: Protocol;
  /** What tells how good it is. */
  readonly metric: Metric;
  /** Called with the share of the work that is done. */
  readonly onProgress?: (share: number) => void;
  /** Aborts. */
  readonly signal?: AbortSignal;
}

/**
 * Trains and tests a probe in all folds and repeats.
 *
 * @throws {NoDataError} as {@link trialsOf}
 * @throws {InterruptedError} when the signal aborted.
 */
export async function runProbe(context: ProbeContext): Promise<ProbeResult> {
  const trials = trialsOf(context.data, context.protocol);
  const trained = await trainTrials(context, trials);
  const { data, features, metric } = context;
  return summaryOf({ data, metric, dim: features.length / data.clips.length }, trials, trained);
}

/**
 * Trains a probe on everything that it may learn from: all folds, or the training part.
 *
 * @throws as {@link runProbe}.
 */
export async function finalProbe(
  context: ProbeContext,
): Promise<Pick<Trained, "weight" | "bias"> & Pick<InitialLayer, "statistics">> {
  const trial = finalTrial(context.data, context.protocol);
  const [{ weight, bias, statistics }] = await trainTrials(context, [trial]);
  return { weight, bias, statistics };
}

type TrainedTrial = Trained & { readonly rate: number } & Pick<InitialLayer, "statistics">;

/** Trains each trial with each learning rate; the best on its validation clips stays. */
async function trainTrials(
  { device, data, features, protocol, metric, onProgress, signal }: ProbeContext,
  trials: readonly Trial[],
): Promise<TrainedTrial[]> {
  const { clips, classes, truth, multiLabel } = data;
  const dim = features.length / clips.length;
  const targets = classTargets(truth, classes.length);
  using table = new ProbeTable(device, clips.length, features, targets);
  const { criterion, rates } = protocol;
  const best = new Array<TrainedTrial>(trials.length);
  const statistics = trials.map(({ train }) =>
    protocol.standardise ? statisticsOf(features, dim, train) : undefined
  );
  for (const [done, rate] of rates.entries()) {
    const problems = trials.map((trial, i): Problem => ({
      ...trial,
      initial: {
        ...initialLayer(dim, classes.length, trialRandom(protocol, trial, STREAMS.initial)),
        statistics: statistics[i],
      },
      random: trialRandom(protocol, trial, STREAMS.order),
    }));
    const trained = await trainProblems(
      {
        table,
        truth,
        signal,
        onProgress: (share) => onProgress?.((done + share) / rates.length),
      },
      problems,
      {
        ...protocol,
        rate,
        loss: multiLabel ? "binary" : "cross-entropy",
        lossScale: protocol.perClass && !multiLabel ? classes.length : 1,
        metric: scorer(metric),
      },
    );
    trained.forEach((it, i) => {
      const before = best[i];
      const gain = before && (it.validation - before.validation) * (criterion === "loss" ? -1 : 1);
      if (!before || gain > 0) best[i] = { ...it, rate, statistics: statistics[i] };
    });
  }
  return best;
}

/** torch's default for a linear layer: uniform within 1 / sqrt(dim), weights first. */
function initialLayer(dim: number, classes: number, random: Prng): InitialLayer {
  const bound = 1 / Math.sqrt(dim);
  const draw = () => random.uniform(-bound, bound);
  return {
    weight: Float32Array.from({ length: classes * dim }, draw),
    bias: Float32Array.from({ length: classes }, draw),
  };
}

/**
 * Mean and deviation (of all values) of some rows; a deviation of 0 counts as 1, as scikit-learn
 * has it.
 */
export function statisticsOf(
  features: Float32Array,
  dim: number,
  rows: readonly number[],
): NonNullable<InitialLayer["statistics"]> {
  const [sums, squares] = [new Float64Array(dim), new Float64Array(dim)];
  const each = (visit: (i: number, x: number) => void) => {
    for (const row of rows) {
      for (let i = 0; i < dim; i++) visit(i, features[row * dim + i]);
    }
  };
  each((i, x) => sums[i] += x);
  const mean = sums.map((sum) => sum / rows.length);
  each((i, x) => squares[i] += (x - mean[i]) ** 2);
  const deviation = squares.map((sum) => Math.sqrt(sum / rows.length));
  return {
    mean: Float32Array.from(mean),
    // What only rounding makes differ is constant.
    std: Float32Array.from(deviation, (it, i) => it > 1e-7 * Math.abs(mean[i]) ? it : 1),
  };
}
