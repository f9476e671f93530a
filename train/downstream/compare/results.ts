/**
 * From runs and probes to the rows of a comparison.
 *
 * @module
 */
import { OBJECTIVES } from "../../../model/objectives/objectives.ts";
import { meanOf } from "../probe/metrics.ts";
import type { Metric } from "../probe/protocol.ts";
import { METRIC_TITLES } from "../probe/report.ts";
import { type BySeed, type Estimate, estimateOf, medianOf, pairedDifference } from "./intervals.ts";
import type { Plan, PlannedDataset } from "./plan.ts";
import type { ProbeRecord, Score } from "./probes.ts";
import { type Failure, isFailure, parametersOf, type RunOutcome, type RunSummary } from "./runs.ts";

/** A probe of a run and what came of it. */
export interface ProbeOutcome {
  readonly dataset: PlannedDataset;
  readonly run: Pick<RunOutcome, "objective" | "seed" | "name">;
  readonly result: ProbeRecord | Failure;
}

/** What a column of scores is of. */
export interface Column {
  readonly dataset: string;
  readonly metric: string;
  readonly tuned: boolean;
}

/** What some features score in a column. */
export interface Cell extends Estimate {
  /** By seed; `log-mel` has none. */
  readonly values: Readonly<Record<string, number>>;
  /** What the interval is over; of a single one there is none. */
  readonly over: "seeds" | "repeats" | "folds" | null;
}

/**
 * The features of a row: an objective's, the encoder's before training, or a baseline of log-mel.
 */
export interface Row {
  /** `matpac`, `untrained`, `log-mel`, `log-mel-sd`. */
  readonly key: string;
  readonly title: string;
  /** Seeds whose run came to its end. */
  readonly seeds?: readonly number[];
  /** What training was: means over seeds, of rates the median. */
  readonly training?: Omit<RunSummary, "adapter" | "steps"> & {
    readonly trained_parameters: number;
  };
  /** By column; null where nothing was probed. */
  readonly scores: readonly (Cell | null)[];
}

/** Differences of rows to one of them, by seed. */
export interface Differences {
  /** Key of the row that is taken away. */
  readonly reference: string;
  readonly rows: readonly {
    readonly key: string;
    readonly title: string;
    /** By column; null where no seed has both. */
    readonly scores: readonly (Estimate | null)[];
  }[];
}

/** All that a comparison found. */
export interface Comparison {
  readonly columns: readonly Column[];
  readonly rows: readonly Row[];
  readonly differences: readonly Differences[];
  /** Every run by itself. */
  readonly runs: readonly RunOutcome[];
  readonly failures: readonly Failure[];
}

const UNTRAINED = { key: "untrained", title: "untrained" } as const;
/** The baselines' rows by what records call them. */
const BASELINES = {
  baseline_mel: { key: "log-mel", title: "mean log-mel" },
  baseline_mel_sd: { key: "log-mel-sd", title: "mean and sd of log-mel" },
} as const;

/** Puts together what is known; nothing is read. */
export function comparisonOf(
  { objectives, runs: planned, datasets, tuned, seeds }: Plan,
  runs: readonly RunOutcome[],
  probes: readonly ProbeOutcome[],
): Comparison {
  const records = probes.flatMap(({ result, ...it }) =>
    isFailure(result) ? [] : [{ ...it, result }]
  );
  const judged = datasets.flatMap((dataset) => {
    const own = records.filter((it) => it.dataset === dataset);
    const { metric } = own[0]?.result ?? { metric: "not probed" };
    // Baselines are tuned also where encoders are not.
    const hasTuned = tuned || own.some(({ result }) => result.baseline_mel_tuned);
    return (hasTuned ? [false, true] : [false]).map((tuned) => ({
      column: { dataset: dataset.name, metric: METRIC_TITLES[metric as Metric] ?? metric, tuned },
      own,
    }));
  });
  /** One cell for each column, of what `pick` takes from a record. */
  const cells = (
    pick: (record: ProbeRecord, tuned: boolean) => Score | undefined,
    filter: (objective: string) => boolean = () => true,
  ): (Cell | null)[] =>
    judged.map(({ own, column }) =>
      cellOf(own.flatMap(({ run: { objective, seed }, result }): [number, Score][] => {
        const score = filter(objective) ? pick(result, column.tuned) : undefined;
        return score === undefined ? [] : [[seed, score]];
      }))
    );
  const rows: Row[] = objectives.map((objective) => {
    const { config } = planned.find((it) => it.objective === objective)!;
    const finished = runs.flatMap(({ result, ...it }) =>
      it.objective === objective && !isFailure(result) ? [{ ...it, result }] : []
    );
    return {
      key: objective,
      title: OBJECTIVES[objective].title,
      seeds: finished.map(({ seed }) => seed),
      ...finished.length > 0 && {
        training: {
          trained_parameters: parametersOf(config),
          ...trainingOf(finished.map(({ result }) => result)),
        },
      },
      scores: cells(
        (record, tuned) => tuned ? record.encoder_tuned : record,
        (it) => it === objective,
      ),
    };
  });
  const untrained: Row = {
    ...UNTRAINED,
    scores: cells((record, tuned) => tuned ? record.untrained_tuned : record.untrained),
  };
  const baselines = Object.entries(BASELINES).map(([name, about]): Row => {
    const key = name as keyof typeof BASELINES;
    const scores = cells((record, tuned) => record[tuned ? `${key}_tuned` as const : key]);
    return { ...about, scores: scores.map((it) => it && { ...it, values: {} }) };
  });
  const reference = rows.find(({ key }) => key === "matpac") ?? rows[0];
  const differences = [
    differencesTo(reference, [...rows, untrained], seeds),
    differencesTo(untrained, rows, seeds),
  ];
  return {
    ...{ columns: judged.map(({ column }) => column), runs, differences },
    rows: [...rows, untrained, ...baselines],
    failures: [...runs, ...probes].map(({ result }) => result).filter(isFailure),
  };
}

/** Mean over seeds, or what the probe itself says of a single one. */
function cellOf(scores: readonly (readonly [seed: number, score: Score])[]): Cell | null {
  if (scores.length === 0) return null;
  const values = Object.fromEntries(scores.map(([seed, { mean }]) => [seed, mean]));
  const estimate = estimateOf(scores.map(([, { mean }]) => mean));
  if (scores.length > 1) return { ...estimate, values, over: "seeds" };
  const [[, { mean, ci95, repeats, folds }]] = scores;
  const [over, count] = repeats
    ? ["repeats", repeats.length] as const
    : ["folds", folds.length] as const;
  return count > 1 ? { mean, ci95, n: count, values, over } : { ...estimate, values, over: null };
}

function trainingOf(runs: readonly RunSummary[]) {
  const mean = (of: (run: RunSummary) => number) => meanOf(runs.map(of));
  return {
    samples_per_s: medianOf(runs.map((run) => run.samples_per_s)),
    loss: mean(({ loss }) => loss),
    loss_pred: mean(({ loss_pred }) => loss_pred),
    ...runs[0].loss_cls !== undefined && { loss_cls: mean(({ loss_cls }) => loss_cls!) },
  };
}

function differencesTo(
  reference: Row,
  rows: readonly Row[],
  seeds: readonly number[],
): Differences {
  const bySeed = (cell: Cell | null): BySeed =>
    new Map(
      seeds.flatMap((seed) => cell?.values[seed] === undefined ? [] : [[seed, cell.values[seed]]]),
    );
  return {
    reference: reference.key,
    rows: rows.filter((row) => row !== reference).map(({ key, title, scores }) => ({
      ...{ key, title },
      scores: scores.map((cell, i) =>
        pairedDifference(bySeed(cell), bySeed(reference.scores[i])) ?? null
      ),
    })),
  };
}
