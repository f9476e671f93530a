/** `deno task probe`: what a linear layer makes of an encoder's embeddings. */

import { dirname, join } from "@std/path";
import { openDevice } from "../../engine/mod.ts";
import type { Encoder } from "../../model/encoder.ts";
import { cacheFolder } from "../cache.ts";
import { type CommandSpec, helpText, type OptionSpec, parseArguments } from "../cli/parser.ts";
import { valueReader } from "../cli/values.ts";
import { labelledFolder } from "../data/labelled.ts";
import { NoDataError } from "../data/errors.ts";
import { WorkerPool } from "../data/pool.ts";
import { encoderFrom, encoderPath } from "../encoder_file.ts";
import { UsageError } from "../errors.ts";
import { LiveLine, standardOutput } from "../live_line.ts";
import { digestOf, fileDigest } from "../probe/feature_cache.ts";
import {
  audioDigests,
  clipFeatures,
  type ClipFeaturesOptions,
  encoderSource,
  type FeatureSource,
  melSource,
} from "../probe/features.ts";
import {
  finalProbe,
  metricFor,
  type ProbeContext,
  type ProbeResult,
  type Protocol,
  PROTOCOLS,
  runProbe,
} from "../probe/protocol.ts";
import {
  classTable,
  confusionSvg,
  METRIC_TITLES,
  mistakes,
  type ReportRow,
  scoreTable,
} from "../probe/report.ts";
import { PROBE_WORDS } from "../probe/options.ts";
import { saveProbe } from "../probe/saved.ts";
import { probeData } from "../probe/splits.ts";
import { trainingSeed, untrainedEncoder } from "../probe/untrained.ts";
import { RateLine } from "../rate_line.ts";
import { writeAtomic } from "../rundir.ts";

const SPEC: CommandSpec = {
  program: "deno task probe",
  summary:
    "Trains a linear layer on an encoder's embeddings of a labelled folder and says how good it is.",
  options: [
    ...Object.entries(PROBE_WORDS).map(([name, { schema: _, allowed: __, ...it }]): OptionSpec => ({
      name,
      kind: "value",
      ...it,
    })),
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
    "with the best of the learning rates 1e-3, 1e-2 and 1e-1 on validation clips. evar is without its random crops.",
};

/** Text of `--help`. */
export function help(): string {
  return helpText(SPEC);
}

/** What the baseline's best chance is. */
const TUNED = { standardise: true, rates: [1e-3, 1e-2, 1e-1] } as const;
/** Skipped files, and mistakes, that are listed. */
const MOST_SHOWN = 20;
const MOST_MISTAKES = 5;

/** Runs the command. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const given = parseArguments(SPEC, argv);
  const value = valueReader(SPEC.program, PROBE_WORDS, given);
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
    ...PROTOCOLS[value("protocol")],
    ...Object.fromEntries(changes),
  };
  const options = { mode: value("mode"), pool: value("pool"), bands: value("bands") };
  const files = { json: value("json"), svg: value("svg"), save: value("save") };
  const [seconds, heads, cache] = [value("seconds"), value("heads"), value("cache")];
  const [workers, adapter, wanted] = [value("workers"), value("adapter"), value("metric")];
  const quiet = given.quiet === true;
  const folder = labelledFolder(value("dataset"));
  const path = encoderPath(checkpoint);
  const kept = cache ?? cacheFolder();
  const duration = seconds === undefined ? {} : { seconds };

  using device = await openDevice({ adapter });
  using encoder = await encoderFrom(device, path, heads);
  using pool = new WorkerPool(workers ?? navigator.hardwareConcurrency);
  const skipped = new Map<string, string>();
  const onSkip: ClipFeaturesOptions["onSkip"] = ({ path, reason }) => skipped.set(path, reason);
  const paths = folder.clips.map((clip) => clip.path);
  const digests = await audioDigests(paths, onSkip);
  const weights = await fileDigest(path);
  const featuresOf = async (name: string, source: FeatureSource) => {
    using line = new RateLine({ quiet });
    const { features, computed } = await clipFeatures({
      source,
      paths,
      digests,
      pool,
      onSkip,
      signal,
      ...duration,
      ...(kept !== undefined && cache !== "none" &&
        { folder: cache === undefined ? join(kept, "probe") : kept }),
      onProgress: (done, total, audio) => line.update(done, total, audio),
    });
    line.finish();
    if (!quiet) console.log(`${name}: ${features.size} clips, ${computed} of them embedded now`);
    return features;
  };
  const own = await featuresOf("encoder", encoderSource(encoder, weights, options));
  const usable = folder.clips.filter(({ path }) => own.has(digests.get(path) ?? ""));
  tellSkipped(skipped, paths.length);
  if (usable.length === 0) throw new NoDataError(`${folder.dir}: no clip can be used`);
  const data = probeData(folder, usable);
  const metric = metricFor(data, wanted);
  if (files.svg !== undefined && data.multiLabel) {
    throw new UsageError("--svg: clips with several labels have no confusion matrix");
  }

  const context = (
    features: ReadonlyMap<string, Float32Array>,
    changed: Partial<Protocol>,
    line: LiveLine | undefined,
    name: string,
  ): ProbeContext => ({
    device,
    data,
    metric,
    signal,
    features: table(usable.map(({ path }) => features.get(digests.get(path)!)!)),
    protocol: { ...protocol, ...changed },
    onProgress: (share) => line?.update(`probing ${name}: ${(100 * share).toFixed(0)} %`),
  });
  const probe = async <Result>(
    name: string,
    features: ReadonlyMap<string, Float32Array>,
    run: (context: ProbeContext) => Promise<Result>,
    changed: Partial<Protocol> = {},
  ): Promise<Result> => {
    const output = standardOutput();
    const line = quiet ? undefined : new LiveLine(output, output.now());
    const result = await run(context(features, changed, line, name));
    line?.finish();
    return result;
  };
  const rows: (ReportRow & { readonly key: string })[] = [];
  const judge = async (
    name: string,
    key: string,
    features: ReadonlyMap<string, Float32Array>,
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
    const fresh = await untrainedFeatures(encoder, path, options, featuresOf);
    await judge("encoder, untrained", "untrained", fresh, tuned);
  }
  if (given["no-baseline"] !== true) {
    const mel = await featuresOf("log-mel", melSource(device));
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
          protocol: value("protocol"),
          metric,
          mean: result.mean,
          ci95: result.ci95,
        },
      }));
  }
  const parts = result.folds.length;
  console.log(
    `${folder.dir}: ${usable.length} clips, ${data.classes.length} classes, ` +
      `${parts === 1 ? `${result.folds[0].clips} tested` : `${parts} folds`}; ` +
      `protocol ${value("protocol")}${changes.length > 0 ? " with changes" : ""}, ` +
      `${protocol.repeats} repeats`,
  );
  console.log(scoreTable(metric, rows).join("\n"));
  if (!quiet) tellClasses(data.classes, result);
  if (files.json !== undefined) {
    const record = {
      dataset: folder.dir,
      protocol: value("protocol"),
      ...numbersOf(result),
      metric,
      per_class: result.per_class,
      confusion: result.confusion && { classes: data.classes, counts: result.confusion },
      ...Object.fromEntries(rows.slice(1).map(({ key, result }) => [key, numbersOf(result)])),
      settings: { ...protocol, ...options, seconds: seconds ?? null },
      checkpoint: { path, sha256: weights },
      clips: usable.length,
      skipped: [...skipped].map(([path, reason]) => ({ path, reason })),
      adapter: device.info.description,
    };
    const bytes = new TextEncoder().encode(`${JSON.stringify(record, null, 2)}\n`);
    await writeInto(files.json, () => writeAtomic(files.json!, [bytes]));
  }
  if (files.svg !== undefined && result.confusion) {
    const title = `${folder.dir}: ${METRIC_TITLES[metric]} ${(100 * result.mean).toFixed(1)} %\n` +
      `linear probe, protocol ${value("protocol")}; ${usable.length} clips`;
    const bytes = new TextEncoder().encode(confusionSvg(data.classes, result.confusion, title));
    await writeInto(files.svg, () => writeAtomic(files.svg!, [bytes]));
  }
  return 0;
}

/** The part of a result that every kind of features has. */
function numbersOf({ dim, mean, ci95, repeats, folds, epochs, rates }: ProbeResult) {
  return {
    mean,
    ci95,
    repeats,
    folds: folds.map((it) => it.mean),
    fold_names: folds.map((it) => it.fold),
    dim,
    best_epochs: { least: epochs[0], median: epochs[1], most: epochs[2] },
    learning_rates: rates,
  };
}

/** Rows one after the other. */
function table(rows: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(rows.length * rows[0].length);
  rows.forEach((row, i) => all.set(row, i * row.length));
  return all;
}

async function untrainedFeatures(
  encoder: Encoder,
  path: string,
  options: Parameters<typeof encoderSource>[2],
  featuresOf: (name: string, source: FeatureSource) => Promise<ReadonlyMap<string, Float32Array>>,
): Promise<ReadonlyMap<string, Float32Array>> {
  const seed = trainingSeed(path);
  using fresh = await untrainedEncoder(encoder, seed);
  const weights = digestOf({ untrained: encoder.geometry, frontend: encoder.frontend, seed });
  return await featuresOf("untrained encoder", encoderSource(fresh, weights, options));
}

function tellSkipped(skipped: ReadonlyMap<string, string>, all: number): void {
  if (skipped.size === 0) return;
  console.error(`${skipped.size} of ${all} clips skipped:`);
  const rows = [...skipped];
  for (const [path, reason] of rows.slice(0, MOST_SHOWN)) console.error(`  ${path}: ${reason}`);
  if (rows.length > MOST_SHOWN) console.error(`  and ${rows.length - MOST_SHOWN} more`);
}

function tellClasses(classes: readonly string[], result: ProbeResult): void {
  console.log(`\n${classTable(result).join("\n")}`);
  const worst = mistakes(classes, result, MOST_MISTAKES);
  if (worst.length === 0) return;
  const texts = worst.map(({ from, to, share }) =>
    `${from} as ${to} (${(100 * share).toFixed(0)} %)`
  );
  console.log(`\nmost often mistaken: ${texts.join(", ")}`);
}

/** Makes the folder of a result and writes it. */
async function writeInto(path: string, write: () => Promise<void>): Promise<void> {
  try {
    await Deno.mkdir(dirname(path), { recursive: true });
    await write();
  } catch (error) {
    if (!Object.values(Deno.errors).some((it) => error instanceof it)) throw error;
    throw new UsageError(`${path}: cannot be written`, (error as Error).message);
  }
}
