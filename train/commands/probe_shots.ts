/**
 * `deno task probe --shots N`: how far a few labelled clips of each class go.
 *
 * @module
 */
import { withReadout } from "../../model/encoder/pooling.ts";
import { openWatchedDevice } from "../cli/kernel_line.ts";
import { lined } from "../cli/table.ts";
import { choicesOf } from "../cli/shared_options.ts";
import { labelledFolder } from "../data/labelled_folder.ts";
import { WorkerPool } from "../data/worker_pool.ts";
import { encoderFrom, encoderPath, readoutText } from "../downstream/encoder_file.ts";
import { fileDigest } from "../downstream/probe/feature_cache.ts";
import { encoderSource, firstValues, MEL_MEANS, melSource } from "../downstream/probe/features.ts";
import {
  aheadOf,
  DRAWS,
  type FewShotResult,
  fewShots,
  type FewShotScore,
  NEIGHBOURS,
  type Shots,
} from "../downstream/probe/few_shots.ts";
import {
  type FeatureTable,
  FolderFeatures,
  withProgress,
} from "../downstream/probe/folder_features.ts";
import type { ProbeValues } from "../downstream/probe/options.ts";
import { metricFor } from "../downstream/probe/protocol.ts";
import { METRIC_TITLES, percent, sourcesOf } from "../downstream/probe/report.ts";
import { probeData } from "../downstream/probe/splits.ts";
import { writeJson } from "../io/result_file.ts";

/** A line of the table. */
interface Row {
  readonly features: string;
  readonly shots: Shots;
  readonly result: FewShotResult;
}

/**
 * Runs the command.
 *
 * @throws {UsageError} for options that do not fit the data
 */
export async function runShotsCommand(
  values: ProbeValues & { readonly shots: readonly Shots[] },
  signal: AbortSignal,
): Promise<number> {
  const { seconds, cache, heads, workers, adapter, quiet, json, shard } = values;
  const { repeats: draws = DRAWS, seed = 42, "weight-decay": penalty = 1 } = values;
  const folder = labelledFolder(values.dataset);
  const path = encoderPath(values.checkpoint);
  using device = await openWatchedDevice({ adapter }, quiet);
  using encoder = await encoderFrom(device, path, heads);
  const choices = withReadout({ ...choicesOf(values), pool: values.pool }, encoder.readout);
  using pool = new WorkerPool(workers ?? navigator.hardwareConcurrency);
  const gathered = new FolderFeatures({
    ...{ folder, pool, cache, quiet, signal, shard },
    ...seconds !== undefined && { seconds },
  });
  if (shard) {
    const mel = values["no-baseline"] ? undefined : melSource(device);
    await gathered.share(encoder, path, choices, { untrained: values.untrained, mel });
    return 0;
  }
  const weights = await fileDigest(path);
  const own = await gathered.of("encoder", encoderSource(encoder, weights, choices));
  const usable = gathered.usable(own);
  const data = probeData(folder, usable);
  const metric = metricFor(data, values.metric);
  const rows: Row[] = [];
  const judge = async (features: string, table: FeatureTable): Promise<void> => {
    const all = gathered.rows(usable, table);
    for (const shots of values.shots) {
      const result = await withProgress(
        `${features}, ${shots} clips a class`,
        quiet,
        (onProgress) =>
          fewShots({
            ...{ device, data, metric, shots, draws, seed, penalty, signal, onProgress },
            features: all,
          }),
      );
      rows.push({ features, shots, result });
    }
  };
  await judge("encoder", own);
  if (values.untrained) {
    await judge("encoder, untrained", await gathered.ofUntrained(encoder, path, choices));
  }
  if (!values["no-baseline"]) {
    const mel = await gathered.of("log-mel", melSource(device));
    await judge("mean log-mel", firstValues(mel, MEL_MEANS));
    await judge("mean and sd of log-mel", mel);
  }
  const several = values.shots.some((it) => it !== "all");
  console.log(
    `${folder.dir}: ${usable.length} clips, ${data.classes.length} classes` +
      `${
        several ? `; ${draws} draws of clips` : ""
      }; logistic regression with penalty ${penalty} ` +
      `and ${NEIGHBOURS} nearest neighbours (as many as there are shots if fewer) on ` +
      "standardised features",
  );
  if (values.pool === undefined && choices.pool !== "mean") console.log(readoutText(choices));
  console.log(shotTable(METRIC_TITLES[metric], rows).join("\n"));
  const ahead = differences(rows);
  if (ahead.length > 0) console.log(`\n${aheadTable(ahead).join("\n")}`);
  if (json !== undefined) {
    const short = ({ mean, ci95, repeats }: FewShotScore) => ({ mean, ci95, repeats });
    const [{ result: { linear } }] = rows;
    await writeJson(json, {
      dataset: folder.dir,
      protocol: "shots",
      ...{ metric, ...short(linear) },
      rows: rows.map(({ features, shots, result }) => ({
        ...{ features, shots, ...result },
        ...{ linear: short(result.linear), knn: short(result.knn) },
      })),
      encoder_ahead_of: ahead,
      settings: { ...encoder.resolved(choices), draws, seed, penalty, seconds: seconds ?? null },
      ...sourcesOf(device, { path, sha256: weights }, usable.length, gathered.skipped),
    });
  }
  return 0;
}

/** How far the encoder is ahead of something else on the same clips, as shares. */
interface Difference {
  readonly features: string;
  readonly shots: Shots;
  readonly linear: { readonly mean: number; readonly ci95: number };
  readonly knn: { readonly mean: number; readonly ci95: number };
}

/** The encoder, of which the first rows are, and all others. */
function differences(rows: readonly Row[]): Difference[] {
  const [{ features: own }] = rows;
  return rows.filter(({ features }) => features !== own).map(({ features, shots, result }) => {
    const encoder = rows.find((it) => it.features === own && it.shots === shots)!.result;
    const ahead = (of: "linear" | "knn") => aheadOf(encoder[of], result[of]);
    return { features, shots, linear: ahead("linear"), knn: ahead("knn") };
  });
}

/** Differences in points. */
function aheadTable(differences: readonly Difference[]): string[] {
  return lined([
    ["encoder ahead of", "clips a class", "linear, points", "+- 95 %", "kNN", "+- 95 %"],
    ...differences.map(({ features, shots, linear, knn }) => [
      ...[features, String(shots)],
      ...[linear, knn].flatMap(({ mean, ci95 }) => [
        `${mean < 0 ? "" : "+"}${percent(mean)}`,
        percent(ci95),
      ]),
    ]),
  ]);
}

/** Scores in percent. */
function shotTable(metric: string, rows: readonly Row[]): string[] {
  return lined([
    ["features", "values", "clips a class", `${metric}, linear`, "+- 95 %", "kNN", "+- 95 %"],
    ...rows.map(({ features, shots, result: { dim, linear, knn } }) => [
      ...[features, String(dim), String(shots)],
      ...[linear, knn].flatMap(({ mean, ci95 }) => [percent(mean), percent(ci95)]),
    ]),
  ]);
}
