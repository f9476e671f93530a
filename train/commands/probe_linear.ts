/**
 * `deno task probe`: what a linear layer makes of an encoder's embeddings.
 *
 * @module
 */
import { withReadout } from "../../model/encoder/pooling.ts";
import { openWatchedDevice } from "../cli/kernel_line.ts";
import { choicesOf } from "../cli/shared_options.ts";
import { labelledFolder } from "../data/labelled_folder.ts";
import { WorkerPool } from "../data/worker_pool.ts";
import { encoderFrom, encoderPath, readoutText } from "../downstream/encoder_file.ts";
import { fileDigest } from "../downstream/probe/feature_cache.ts";
import { encoderSource, firstValues, MEL_MEANS, melSource } from "../downstream/probe/features.ts";
import {
  type FeatureTable,
  FolderFeatures,
  withProgress,
} from "../downstream/probe/folder_features.ts";
import { runKnn } from "../downstream/probe/knn.ts";
import { finalProbe, type ProbeContext, runProbe } from "../downstream/probe/probe.ts";
import { metricFor, type Protocol, PROTOCOLS } from "../downstream/probe/protocol.ts";
import {
  numbersOf,
  printClasses,
  type ReportRow,
  requireConfusion,
  scoreTable,
  sourcesOf,
  testedText,
  writePicture,
} from "../downstream/probe/report.ts";
import { writeInto, writeJson } from "../io/result_file.ts";
import { changesOf, type ProbeValues } from "../downstream/probe/options.ts";
import { saveProbe } from "../downstream/probe/probe_file.ts";
import { probeData } from "../downstream/probe/splits.ts";

/** What the baseline's best chance is. */
const TUNED = { standardise: true, rates: [1e-3, 1e-2, 1e-1] } as const;

/**
 * Runs the command.
 *
 * @throws {UsageError} for options that do not fit the data
 */
export async function runLinearCommand(
  values: ProbeValues & { readonly protocol: keyof typeof PROTOCOLS },
  signal: AbortSignal,
): Promise<number> {
  const { protocol: named, standardise, metric: metricName, json, svg, save } = values;
  const { seconds, cache, heads, workers, adapter, quiet, shard } = values;
  const changes = changesOf({
    rates: values.lr,
    batch: values.batch,
    epochs: values.epochs,
    patience: values.patience,
    repeats: values.repeats,
    seed: values.seed,
    standardise: standardise && standardise === "yes",
    criterion: values.best,
    weightDecay: values["weight-decay"],
    heldOut: values.validation,
  });
  const protocol: Protocol = { ...PROTOCOLS[named], ...changes };
  const folder = labelledFolder(values.dataset);
  const path = encoderPath(values.checkpoint);
  const duration = seconds === undefined ? {} : { seconds };

  using device = await openWatchedDevice({ adapter }, quiet);
  using encoder = await encoderFrom(device, path, heads);
  const choices = withReadout({ ...choicesOf(values), pool: values.pool }, encoder.readout);
  using pool = new WorkerPool(workers ?? navigator.hardwareConcurrency);
  const weights = await fileDigest(path);
  const gathered = new FolderFeatures({ folder, pool, cache, quiet, signal, shard, ...duration });
  if (shard) {
    const mel = values["no-baseline"] ? undefined : melSource(device);
    await gathered.share(encoder, path, choices, { untrained: values.untrained, mel });
    return 0;
  }
  const own = await gathered.of("encoder", encoderSource(encoder, weights, choices));
  const usable = gathered.usable(own);
  const data = probeData(folder, usable);
  const metric = metricFor(data, metricName);
  requireConfusion(svg, data);

  const probe = <Result>(
    name: string,
    features: FeatureTable,
    run: (context: ProbeContext) => Promise<Result>,
    changed: Partial<Protocol> = {},
  ): Promise<Result> =>
    withProgress(name, quiet, (onProgress) =>
      run({
        ...{ device, data, metric, signal, onProgress },
        features: gathered.rows(usable, features),
        protocol: { ...protocol, ...changed },
      }));
  const rows: (ReportRow & { readonly key: string })[] = [];
  const judge = async (
    name: string,
    key: string,
    features: FeatureTable,
    tuned: boolean,
  ): Promise<void> => {
    rows.push({ name, key, result: await probe(name, features, runProbe) });
    if (!tuned) return;
    const result = await probe(`${name}, tuned`, features, runProbe, TUNED);
    rows.push({ name: `${name}, tuned`, key: `${key}_tuned`, result });
  };
  const { tuned } = values;
  await judge("encoder", "encoder", own, tuned);
  if (values.knn) {
    const result = await probe("nearest neighbours", own, runKnn);
    rows.push({ name: "nearest neighbours", key: "knn", result });
  }
  if (values.untrained) {
    const fresh = await gathered.ofUntrained(encoder, path, choices);
    await judge("encoder, untrained", "untrained", fresh, tuned);
  }
  if (!values["no-baseline"]) {
    const mel = await gathered.of("log-mel", melSource(device));
    await judge("mean log-mel", "baseline_mel", firstValues(mel, MEL_MEANS), true);
    await judge("mean and sd of log-mel", "baseline_mel_sd", mel, true);
  }
  const [{ result }] = rows;
  if (save !== undefined) {
    const layer = await probe("all folds", own, finalProbe);
    await writeInto(save, () =>
      saveProbe(save, {
        ...layer,
        classes: data.classes,
        multiLabel: data.multiLabel,
        features: { ...encoder.resolved(choices), ...duration },
        checkpoint: weights,
        about: {
          dataset: folder.dir,
          protocol: named,
          metric,
          mean: result.mean,
          ci95: result.ci95,
        },
      }));
  }
  console.log(
    `${testedText(folder, usable.length, data.classes, result)}; ` +
      `protocol ${named}${Object.keys(changes).length > 0 ? " with changes" : ""}, ` +
      `${protocol.repeats} repeats`,
  );
  if (values.pool === undefined && choices.pool !== "mean") console.log(readoutText(choices));
  console.log(scoreTable(metric, rows).join("\n"));
  if (!quiet) printClasses(data.classes, result);
  if (json !== undefined) {
    const record = {
      dataset: folder.dir,
      protocol: named,
      ...numbersOf(result),
      metric,
      per_class: result.per_class,
      confusion: result.confusion && { classes: data.classes, counts: result.confusion },
      ...Object.fromEntries(rows.slice(1).map(({ key, result }) => [key, numbersOf(result)])),
      settings: { ...protocol, ...encoder.resolved(choices), seconds: seconds ?? null },
      ...sourcesOf(device, { path, sha256: weights }, usable.length, gathered.skipped),
    };
    await writeJson(json, record);
  }
  if (svg !== undefined) {
    const how = `linear probe, protocol ${named}; ${usable.length} clips`;
    await writePicture(svg, folder, data.classes, metric, result, how);
  }
  return 0;
}
