/** `deno task probe`: what a linear layer makes of an encoder's embeddings. */

import { openDevice } from "../../engine/mod.ts";
import { type CommandSpec, helpText, type OptionSpec, parseArguments } from "../cli/parser.ts";
import { valueReader } from "../cli/values.ts";
import { labelledFolder } from "../data/labelled.ts";
import { WorkerPool } from "../data/worker_pool.ts";
import { encoderFrom, encoderPath } from "../downstream/encoder_file.ts";
import { UsageError } from "../errors.ts";
import { runFineTuneCommand } from "./probe_finetune.ts";
import { FINETUNE_WORDS } from "../downstream/finetune/options.ts";
import { runHearCommand } from "./probe_hear.ts";
import { HEAR_WORDS } from "../downstream/hear/options.ts";
import { fileDigest } from "../downstream/probe/feature_cache.ts";
import { encoderSource, melSource } from "../downstream/probe/features.ts";
import {
  type FeatureTable,
  FolderFeatures,
  withProgress,
} from "../downstream/probe/folder_features.ts";
import { finalProbe, type ProbeContext, runProbe } from "../downstream/probe/probe.ts";
import { metricFor, type Protocol, PROTOCOLS } from "../downstream/probe/protocol.ts";
import {
  numbersOf,
  type ReportRow,
  scoreTable,
  tellClasses,
  testedText,
  writePicture,
} from "../downstream/probe/report.ts";
import { writeInto, writeJson } from "../io/result_file.ts";
import { type OptionWord, PROBE_WORDS } from "../downstream/probe/options.ts";
import { saveProbe } from "../downstream/probe/probe_file.ts";
import { probeData } from "../downstream/probe/splits.ts";

const SPEC: CommandSpec = {
  program: "deno task probe",
  summary:
    "Trains a linear layer on an encoder's embeddings of a labelled folder and says how good it is.",
  options: [
    ...valuesOf(PROBE_WORDS),
    {
      name: "finetune",
      kind: "flag",
      description: "Trains the encoder together with a head of batch norm and a linear layer.",
    },
    ...valuesOf(FINETUNE_WORDS),
    ...valuesOf(HEAR_WORDS),
    {
      name: "freeze-patch-embed",
      kind: "flag",
      description: "With --finetune: the patch embedding keeps its values.",
    },
    {
      name: "untrained",
      kind: "flag",
      description: "Also probes the same network as it is before training.",
    },
    {
      name: "tuned",
      kind: "flag",
      description: "Also probes every encoder as the tuned baseline is probed.",
    },
    { name: "no-baseline", kind: "flag", description: "Leaves the log-mel baselines out." },
    { name: "quiet", kind: "flag", description: "No progress and no table for each class." },
  ],
  footer:
    "Scores are percent: the mean over repeats of the mean over folds, with 1.96 sd / sqrt(repeats). The baselines see a " +
    "clip's mean log-mel spectrum (80 values): once under the same protocol, and once tuned, that is standardised and " +
    "with the best of the learning rates 1e-3, 1e-2 and 1e-1 on validation clips. evar is without its random crops. " +
    "hear trains HEAR 2021's grid of perceptrons; with events.csv (filename,onset_ms,offset_ms,label) in the folder it " +
    "looks for onsets of events. " +
    "--finetune trains encoder and head in every fold anew, without baselines.",
};

function valuesOf(words: Readonly<Record<string, OptionWord>>): OptionSpec[] {
  return Object.entries(words).map(([name, { schema: _, allowed: __, ...it }]) => ({
    name,
    kind: "value",
    ...it,
  }));
}

/** Text of `--help`. */
export function help(): string {
  return helpText(SPEC);
}

/** What the baseline's best chance is. */
const TUNED = { standardise: true, rates: [1e-3, 1e-2, 1e-1] } as const;

/** Runs the command. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const given = parseArguments(SPEC, argv);
  if (given.finetune === true) return await runFineTuneCommand(SPEC.program, given, signal);
  const foreign = [...Object.keys(FINETUNE_WORDS), "freeze-patch-embed"]
    .find((name) => given[name] !== undefined);
  if (foreign !== undefined) throw new UsageError(`--${foreign}: belongs to --finetune`);
  const value = valueReader(SPEC.program, PROBE_WORDS, given);
  const named = value("protocol");
  if (named === "hear") return await runHearCommand(SPEC.program, given, signal);
  const hear = Object.keys(HEAR_WORDS).find((name) => given[name] !== undefined);
  if (hear !== undefined) throw new UsageError(`--${hear}: belongs to --protocol hear`);
  const checkpoint = value("checkpoint");
  const changes = Object.entries({
    rates: value("lr"),
    batch: value("batch"),
    epochs: value("epochs"),
    patience: value("patience"),
    repeats: value("repeats"),
    seed: value("seed"),
    standardise: value("standardise"),
    criterion: value("best"),
    weightDecay: value("weight-decay"),
    heldOut: value("validation"),
  }).filter(([, it]) => it !== undefined);
  const protocol: Protocol = {
    ...PROTOCOLS[named],
    ...Object.fromEntries(changes),
  };
  const options = { mode: value("mode"), pool: value("pool"), bands: value("bands") };
  const files = { json: value("json"), svg: value("svg"), save: value("save") };
  const [seconds, heads, cache] = [value("seconds"), value("heads"), value("cache")];
  const [workers, adapter, wanted] = [value("workers"), value("adapter"), value("metric")];
  const quiet = given.quiet === true;
  const folder = labelledFolder(value("dataset"));
  const path = encoderPath(checkpoint);
  const duration = seconds === undefined ? {} : { seconds };

  using device = await openDevice({ adapter });
  using encoder = await encoderFrom(device, path, heads);
  using pool = new WorkerPool(workers ?? navigator.hardwareConcurrency);
  const weights = await fileDigest(path);
  const gathered = new FolderFeatures({ folder, pool, cache, quiet, signal, ...duration });
  const own = await gathered.of("encoder", encoderSource(encoder, weights, options));
  const usable = gathered.usable(own);
  const data = probeData(folder, usable);
  const metric = metricFor(data, wanted);
  if (files.svg !== undefined && data.multiLabel) {
    throw new UsageError("--svg: clips with several labels have no confusion matrix");
  }

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
  const tuned = given.tuned === true;
  await judge("encoder", "encoder", own, tuned);
  if (given.untrained === true) {
    const fresh = await gathered.ofUntrained(encoder, path, options);
    await judge("encoder, untrained", "untrained", fresh, tuned);
  }
  if (given["no-baseline"] !== true) {
    const mel = await gathered.of("log-mel", melSource(device));
    await judge("mean log-mel", "baseline_mel", mel, true);
  }
  const [{ result }] = rows;
  if (files.save !== undefined) {
    const layer = await probe("all folds", own, finalProbe);
    await writeInto(files.save, () =>
      saveProbe(files.save!, {
        ...layer,
        classes: data.classes,
        multiLabel: data.multiLabel,
        features: { ...options, ...duration },
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
      `protocol ${named}${changes.length > 0 ? " with changes" : ""}, ` +
      `${protocol.repeats} repeats`,
  );
  console.log(scoreTable(metric, rows).join("\n"));
  if (!quiet) tellClasses(data.classes, result);
  if (files.json !== undefined) {
    const record = {
      dataset: folder.dir,
      protocol: named,
      ...numbersOf(result),
      metric,
      per_class: result.per_class,
      confusion: result.confusion && { classes: data.classes, counts: result.confusion },
      ...Object.fromEntries(rows.slice(1).map(({ key, result }) => [key, numbersOf(result)])),
      settings: { ...protocol, ...options, seconds: seconds ?? null },
      checkpoint: { path, sha256: weights },
      clips: usable.length,
      skipped: [...gathered.skipped].map(([path, reason]) => ({ path, reason })),
      adapter: device.info.description,
    };
    await writeJson(files.json, record);
  }
  if (files.svg !== undefined) {
    const how = `linear probe, protocol ${named}; ${usable.length} clips`;
    await writePicture(files.svg, folder, data.classes, metric, result, how);
  }
  return 0;
}
