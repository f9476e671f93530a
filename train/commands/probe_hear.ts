/**
 * `deno task probe --protocol hear`: HEAR 2021's scene and timestamp tasks.
 *
 * @module
 */
import type { Device } from "../../engine/mod.ts";
import { openWatchedDevice } from "../cli/kernel_line.ts";
import { refuse } from "../cli/command.ts";
import { choicesOf } from "../cli/shared_options.ts";
import type { RawArguments } from "../cli/parser.ts";
import { labelledFolder } from "../data/labelled_folder.ts";
import { UsageError } from "../errors.ts";
import { WorkerPool } from "../data/worker_pool.ts";
import { ClipEncoder } from "../downstream/clip_encoder.ts";
import { encoderFrom, encoderPath } from "../downstream/encoder_file.ts";
import { fileDigest } from "../downstream/probe/feature_cache.ts";
import { encoderSource, firstValues, MEL_MEANS, melSource } from "../downstream/probe/features.ts";
import {
  type FeatureTable,
  FolderFeatures,
  withProgress,
} from "../downstream/probe/folder_features.ts";
import {
  numbersOf,
  printClasses,
  requireConfusion,
  scoreTable,
  sourcesOf,
  testedText,
  usableClips,
  writePicture,
} from "../downstream/probe/report.ts";
import { writeJson } from "../io/result_file.ts";
import { changesOf, type ProbeValues } from "../downstream/probe/options.ts";
import { metricFor } from "../downstream/probe/protocol.ts";
import { probeData } from "../downstream/probe/splits.ts";
import { trainingSeed, untrainedEncoder } from "../downstream/probe/untrained_encoder.ts";
import { RateLine } from "../cli/rate_line.ts";
import { eventFolder, hasEvents } from "../downstream/hear/event_folder.ts";
import { type GridPoint, HEAR, type HearProtocol } from "../downstream/hear/grid_search.ts";
import { LINEAR_ONLY, SCENE_ONLY, TIMESTAMP_ONLY } from "../downstream/hear/options.ts";
import { eventTable, foldTable } from "../downstream/hear/report.ts";
import { runScenes, type SceneResult } from "../downstream/hear/scene_task.ts";
import {
  type FileFrames,
  framesOf,
  runTimestamps,
  type TimestampResult,
} from "../downstream/hear/timestamp_task.ts";

/** What both kinds of tasks work with. */
interface Task {
  readonly values: ProbeValues;
  readonly protocol: HearProtocol;
  readonly device: Device;
  readonly encoder: ClipEncoder;
  /** Of the encoder. */
  readonly path: string;
  readonly pool: WorkerPool;
  readonly signal: AbortSignal;
}

/**
 * Runs the command.
 *
 * @param words what was given
 * @throws {UsageError} for options that do not fit
 */
export async function runHearCommand(
  values: ProbeValues,
  words: RawArguments,
  signal: AbortSignal,
): Promise<number> {
  const { dataset: dir, heads, workers, adapter } = values;
  const timestamps = hasEvents(dir);
  refuse(words, LINEAR_ONLY, "means nothing with --protocol hear");
  if (timestamps) {
    refuse(words, [...SCENE_ONLY, "shard"], "means nothing with a folder with events.csv");
  } else refuse(words, TIMESTAMP_ONLY, "means nothing with a folder without events.csv");
  const changes = changesOf({
    rates: values.lr,
    batch: values.batch,
    epochs: values.epochs,
    patience: values.patience,
    seed: values.seed,
    heldOut: values.validation,
    gridPoints: values["grid-points"],
    hidden: values.hidden,
  });
  const protocol: HearProtocol = { ...HEAR, ...changes };
  if (protocol.batch < 2) throw new UsageError("--batch: --protocol hear needs two or more");
  const path = encoderPath(values.checkpoint);
  using device = await openWatchedDevice({ adapter }, values.quiet);
  using encoder = await encoderFrom(device, path, heads);
  using pool = new WorkerPool(workers ?? navigator.hardwareConcurrency);
  const task: Task = { values, protocol, device, encoder, path, pool, signal };
  await (timestamps ? probeEvents(task, dir) : probeScenes(task, dir));
  return 0;
}

async function probeScenes(task: Task, dir: string): Promise<void> {
  const { values, protocol, device, encoder, path, pool, signal } = task;
  const folder = labelledFolder(dir);
  const { pool: pooling = "mean", seconds, svg, json, quiet, shard } = values;
  const options = { ...choicesOf(values), pool: pooling };
  const gathered = new FolderFeatures({
    ...{ folder, pool, quiet, signal, cache: values.cache, shard },
    ...(seconds !== undefined && { seconds }),
  });
  if (shard) {
    const mel = values["no-baseline"] ? undefined : melSource(device);
    return await gathered.share(encoder, path, options, { untrained: values.untrained, mel });
  }
  const weights = await fileDigest(path);
  const own = await gathered.of("encoder", encoderSource(encoder, weights, options));
  const usable = gathered.usable(own);
  const data = probeData(folder, usable);
  const metric = metricFor(data, values.metric);
  requireConfusion(svg, data);
  const rows: { readonly name: string; readonly key: string; readonly result: SceneResult }[] = [];
  const judge = async (name: string, key: string, table: FeatureTable) => {
    const features = gathered.rows(usable, table);
    const result = await withProgress(
      name,
      quiet,
      (onProgress) => runScenes({ device, data, metric, protocol, features, signal, onProgress }),
    );
    rows.push({ name, key, result });
  };
  await judge("encoder", "encoder", own);
  if (values.untrained) {
    await judge(
      "encoder, untrained",
      "untrained",
      await gathered.ofUntrained(encoder, path, options),
    );
  }
  if (!values["no-baseline"]) {
    const mel = await gathered.of("log-mel", melSource(device));
    await judge("mean log-mel", "baseline_mel", firstValues(mel, MEL_MEANS));
    await judge("mean and sd of log-mel", "baseline_mel_sd", mel);
  }
  const [{ result }] = rows;
  console.log(`${testedText(folder, usable.length, data.classes, result)}; protocol hear`);
  console.log(scoreTable(metric, rows).join("\n"));
  for (const { name, result } of rows) console.log(`${name}: ${choiceText(result.choice)}`);
  if (!quiet) printClasses(data.classes, result);
  const numbers = ({ choice, grid, scores, ...result }: SceneResult) => ({
    ...numbersOf(result),
    ...{ scores, choice, grid },
  });
  if (json !== undefined) {
    await writeJson(json, {
      ...{ dataset: folder.dir, protocol: "hear", metric },
      ...numbers(result),
      per_class: result.per_class,
      confusion: result.confusion && { classes: data.classes, counts: result.confusion },
      ...Object.fromEntries(rows.slice(1).map(({ key, result }) => [key, numbers(result)])),
      settings: { ...protocol, ...encoder.resolved(options), seconds: seconds ?? null },
      ...sourcesOf(device, { path, sha256: weights }, usable.length, gathered.skipped),
    });
  }
  if (svg !== undefined) {
    const how = `HEAR's perceptron; ${usable.length} clips`;
    await writePicture(svg, folder, data.classes, metric, result, how);
  }
}

async function probeEvents(task: Task, dir: string): Promise<void> {
  const { values, protocol, device, encoder, path, pool, signal } = task;
  const folder = eventFolder(dir);
  const { median, tolerance, json, quiet } = values;
  const options = choicesOf(values);
  encoder.needChoices(options);
  const rules = values["min-duration"].toSorted((a, b) => a - b)
    .map((least) => ({ median, least }));
  const skipped = new Map<string, string>();
  const paths = folder.clips.map((clip) => clip.path);
  const framesBy = async (encoder: ClipEncoder) => {
    using line = new RateLine({ quiet });
    let heard = 0;
    const frames = await framesOf(encoder, paths, options, {
      ...{ pool, signal },
      onSkip: ({ path, reason }) => skipped.set(path, reason),
      sampleRate: encoder.sampleRate,
      onAudio: (seconds) => heard += seconds,
      onProgress: (done) => line.update(done, paths.length, heard),
    });
    line.finish();
    return frames;
  };
  const own = await framesBy(encoder);
  const usable = usableClips(folder, ({ path }) => own.has(path), skipped);
  const data = probeData(folder, usable);
  const rows: { readonly name: string; readonly key: string; readonly result: TimestampResult }[] =
    [];
  const judge = async (name: string, key: string, frames: ReadonlyMap<string, FileFrames>) => {
    const result = await withProgress(name, quiet, (onProgress) =>
      runTimestamps({
        ...{ device, folder, data, protocol, rules, tolerance },
        ...{ frames, signal, onProgress },
      }));
    rows.push({ name, key, result });
  };
  await judge("encoder", "encoder", own);
  if (values.untrained) {
    using fresh = new ClipEncoder(
      await untrainedEncoder(encoder.own("--untrained"), trainingSeed(path)),
    );
    await judge("encoder, untrained", "untrained", await framesBy(fresh));
  }
  const [{ result }] = rows;
  console.log(
    `${folder.dir}: ${usable.length} files, ${data.classes.length} classes, ` +
      `${
        result.folds.length === 1
          ? `${result.folds[0].files} tested`
          : `${result.folds.length} folds`
      }; ` +
      `protocol hear, onsets within ${tolerance} ms`,
  );
  console.log(foldTable(rows).join("\n"));
  for (const { name, result } of rows) console.log(`${name}: ${choiceText(result.choice)}`);
  if (!quiet) console.log(`\n${eventTable(result).join("\n")}`);
  if (json === undefined) return;
  await writeJson(json, {
    ...{ dataset: folder.dir, protocol: "hear", metric: "onset F-measure" },
    ...result,
    ...Object.fromEntries(rows.slice(1).map(({ key, result }) => [key, result])),
    settings: { ...protocol, ...encoder.resolved(options), rules, tolerance },
    ...sourcesOf(device, { path, sha256: await fileDigest(path) }, usable.length, skipped),
  });
}

function choiceText({ layers, rate, initialisation }: GridPoint): string {
  return `best of the grid: ${layers} hidden ${layers === 1 ? "layer" : "layers"}, ` +
    `learning rate ${rate}, ${initialisation} initial values`;
}
