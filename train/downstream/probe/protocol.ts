/**
 * Protocols of linear probing: repeats, what is trained and how it is judged (SPEC sections 7.1 and
 * 7.2).
 *
 * @module
 */
import type { Device } from "../../../engine/mod.ts";
import { Prng } from "../../data/random.ts";
import { UsageError } from "../../errors.ts";
import { type InitialLayer, ProbeTable } from "./linear_probes.ts";
import { heldOut, type ProbeData, STREAMS, type Trial, trialsOf } from "./splits.ts";
import { scorer, summaryOf } from "./summary.ts";
import { type Problem, type Trained, trainProblems } from "./train_probes.ts";

/** How a probe is trained and repeated. */
export interface Protocol {
  /**
   * Adam's learning rate; of several each layer takes the one that is best on its validation clips.
   */
  readonly rates: readonly number[];
  /** Clips of an update. */
  readonly batch: number;
  /** Most epochs. */
  readonly epochs: number;
  /** Epochs without a better one after which training stops. */
  readonly patience: number;
  /** How often everything is done, each time with other draws. */
  readonly repeats: number;
  /** Draws of repeat `r` come from `seed + r`. */
  readonly seed: number;
  /** What picks the epoch; see `TrainSettings`. */
  readonly criterion: "loss" | "metric";
  /** Whether of equally good epochs the last is taken. */
  readonly later: boolean;
  /** Whether features are standardised with mean and deviation of the training clips. */
  readonly standardise: boolean;
  /** L2 penalty. */
  readonly weightDecay: number;
  /** Share of the training clips that is validation where the folder names none. */
  readonly heldOut: number;
  /** Whether that has a clip of every class that can spare one. */
  readonly covering: boolean;
  /** Whether cross-entropy is divided by the number of classes. */
  readonly perClass: boolean;
}

/**
 * Named protocols: the paper's (SPEC section 7.1), and EVAR's (section 7.2) but for its random
 * crops.
 */
export const PROTOCOLS = {
  matpac: {
    rates: [1e-4],
    batch: 128,
    epochs: 200,
    patience: 20,
    repeats: 5,
    seed: 42,
    criterion: "loss",
    later: false,
    standardise: false,
    weightDecay: 0,
    heldOut: 0.1,
    covering: false,
    perClass: false,
  },
  evar: {
    rates: [3e-5],
    batch: 200,
    epochs: 200,
    patience: 20,
    repeats: 3,
    seed: 42,
    criterion: "metric",
    later: true,
    standardise: true,
    weightDecay: 1e-8,
    heldOut: 0.1,
    covering: true,
    perClass: true,
  },
} as const satisfies Record<string, Protocol>;

/** What a probe is judged by. */
export type Metric = "accuracy" | "balanced" | "mAP" | "AUC";

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
  /** Hears how much of the work is done. */
  readonly onProgress?: (share: number) => void;
  /** Aborts. */
  readonly signal?: AbortSignal;
}

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
  const { data, protocol } = context;
  const [first] = trialsOf(data, { ...protocol, repeats: 1 });
  const all = data.clips.map((_, i) => i);
  const random = new Prng(protocol.seed, STREAMS.split, -1);
  const [validation, train] = data.protocol === "split"
    ? [first.validation, first.train]
    : heldOut(all, data.truth, protocol, random);
  const trial = { ...first, train, validation, test: validation };
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
  const targets = new Float32Array(clips.length * classes.length);
  truth.forEach((own, clip) => own.forEach((k) => targets[clip * classes.length + k] = 1));
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
        ...initialLayer(dim, classes.length, prngOf(protocol, trial, STREAMS.initial)),
        statistics: statistics[i],
      },
      random: prngOf(protocol, trial, STREAMS.order),
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

function prngOf({ seed }: Protocol, { repeat, fold }: Trial, stream: number): Prng {
  return new Prng(seed + repeat, stream, ...[...fold].map((it) => it.codePointAt(0)!));
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
function statisticsOf(
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

/**
 * The metric that fits the labels, if none is asked for.
 *
 * @throws {UsageError} for an accuracy where clips have several labels.
 */
export function metricFor({ multiLabel }: ProbeData, wanted: Metric | undefined): Metric {
  if (multiLabel && (wanted === "accuracy" || wanted === "balanced")) {
    throw new UsageError(`--metric ${wanted}: clips with several labels are judged by mAP or AUC`);
  }
  return wanted ?? (multiLabel ? "mAP" : "accuracy");
}
