/**
 * `deno task probe --finetune`: what encoder and head learn together.
 *
 * @module
 */
import { openWatchedDevice } from "../cli/kernel_line.ts";
import { gridOf, stepSize } from "../../model/encoder/embed.ts";
import { wholeOf } from "../../model/encoder/chunks.ts";
import { importPretrained, pretrainedSystem } from "../../model/pretrained/load.ts";
import { refuse } from "../cli/command.ts";
import type { RawArguments } from "../cli/parser.ts";
import { labelledFolder } from "../data/labelled_folder.ts";
import { UsageError } from "../errors.ts";
import { WorkerPool } from "../data/worker_pool.ts";
import { encoderFrom, encoderPath } from "../downstream/encoder_file.ts";
import { openCheckpointFile } from "../io/checkpoint_file.ts";
import { LiveLine, standardOutput } from "../cli/live_line.ts";
import { fileDigest } from "../downstream/probe/feature_cache.ts";
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
import { writeInto, writeJson } from "../io/result_file.ts";
import { NOT_WITH_FINETUNE, type ProbeValues } from "../downstream/probe/options.ts";
import { metricFor } from "../downstream/probe/protocol.ts";
import { type ProbeData, probeData } from "../downstream/probe/splits.ts";
import { RateLine } from "../cli/rate_line.ts";
import type { ProbeFile } from "../downstream/probe/probe_layer.ts";
import { decodedClips } from "../downstream/probe/features.ts";
import { spectrogramClips } from "../downstream/finetune/spectrogram_clips.ts";
import { PretrainedTrainee } from "../downstream/finetune/pretrained_trainee.ts";
import { featuresOf, OwnTrainee } from "../downstream/finetune/own_trainee.ts";
import { FINETUNE_DEFAULTS } from "../downstream/finetune/options.ts";
import {
  type FineTuneContext,
  type FineTuneCourse,
  type FineTuneProgress,
  type FineTuneSettings,
  runFineTune,
} from "../downstream/finetune/finetune.ts";
import { headPath, saveFineTuned } from "../downstream/finetune/output_files.ts";
import { readInitialEncoder } from "../downstream/finetune/initial_encoder.ts";

/**
 * Runs the command.
 *
 * @param words what was given
 * @throws {UsageError} for options that do not fit
 */
export async function runFineTuneCommand(
  values: ProbeValues,
  words: RawArguments,
  signal: AbortSignal,
): Promise<number> {
  refuse(words, NOT_WITH_FINETUNE, "means nothing with --finetune");
  const { heads, crop, metric: metricName, workers, adapter, quiet, json, svg, save } = values;
  const { lr: rates = FINETUNE_DEFAULTS.rates, epochs = FINETUNE_DEFAULTS.epochs } = values;
  if (rates.length !== 1) throw new UsageError("--lr: --finetune takes a single learning rate");
  const course: FineTuneCourse = {
    epochs,
    rate: rates[0],
    batch: values.batch ?? FINETUNE_DEFAULTS.batch,
    warmup: values.warmup ?? Math.min(FINETUNE_DEFAULTS.warmup, Math.floor(epochs / 2)),
    criterion: values.best ?? FINETUNE_DEFAULTS.criterion,
    patience: values.patience ?? epochs,
    repeats: values.repeats ?? FINETUNE_DEFAULTS.repeats,
    seed: values.seed ?? FINETUNE_DEFAULTS.seed,
    heldOut: values.validation ?? FINETUNE_DEFAULTS.heldOut,
  };
  const training = {
    mixup: values.mixup,
    tested: values.tested,
    frozenPatchEmbed: values["freeze-patch-embed"],
    optimizer: values.optimizer,
    weightDecay: values["weight-decay"] ?? FINETUNE_DEFAULTS.weightDecay,
    layerDecay: values["layer-decay"],
  };
  if (course.batch < 2) throw new UsageError("--batch: --finetune needs two clips or more");
  const folder = labelledFolder(values.dataset);
  const path = encoderPath(values.checkpoint);

  using device = await openWatchedDevice({ adapter }, quiet);
  using opened = openCheckpointFile(path);
  const { file } = opened;
  const isOther = pretrainedSystem(file.tensors) !== undefined;
  if (isOther) refuse(words, ["patch-out", "bands"], "is for encoders of MATPAC and its kin");
  const weights = await fileDigest(path);
  const skipped = new Map<string, string>();
  const subject = await (isOther ? otherSubject() : ownSubject());
  const { data, dim, features, settings } = subject;
  const metric = metricFor(data, metricName);
  requireConfusion(svg, data);

  const output = standardOutput();
  const line = quiet ? undefined : new LiveLine(output, output.now());
  const { result, history, kept } = await runFineTune({
    begin: subject.begin,
    ...{ dim, data, metric, settings: course, signal },
    onProgress: (progress) => line?.update(progressText(progress, epochs)),
  }, save !== undefined);
  line?.finish();
  const about = { dataset: folder.dir, protocol: "finetune", metric, mean: result.mean };
  if (save !== undefined) {
    await writeInto(save, () =>
      saveFineTuned(
        save,
        kept!,
        { ...subject.metadata, finetuned: JSON.stringify({ ...about, checkpoint: weights }) },
        {
          classes: data.classes,
          multiLabel: data.multiLabel,
          features,
          about: { ...about, ci95: result.ci95 },
        },
      ));
  }
  console.log(
    `${testedText(folder, data.clips.length, data.classes, result)}; fine-tuned, ` +
      `${epochs} epochs, ${course.repeats} ${course.repeats === 1 ? "repeat" : "repeats"}`,
  );
  console.log(scoreTable(metric, [{ name: "fine-tuned encoder", result }]).join("\n"));
  if (!quiet) printClasses(data.classes, result);
  if (save !== undefined) {
    console.log(`\nsaved: ${save}, and its head as a probe: ${headPath(save)}`);
  }
  if (json !== undefined) {
    await writeJson(json, {
      dataset: folder.dir,
      protocol: "finetune",
      ...numbersOf(result),
      metric,
      per_class: result.per_class,
      confusion: result.confusion && { classes: data.classes, counts: result.confusion },
      settings: { ...settings, features },
      history,
      ...sourcesOf(device, { path, sha256: weights }, data.clips.length, skipped),
    });
  }
  if (svg !== undefined) {
    const how = `fine-tuned, ${epochs} epochs; ${data.clips.length} clips`;
    await writePicture(svg, folder, data.classes, metric, result, how);
  }
  return 0;

  /** An encoder of this project: clips are crops of log-mel spectrograms. */
  async function ownSubject(): Promise<Subject> {
    const encoder = await readInitialEncoder(device, path, heads);
    const { patch: [, wide] } = encoder.geometry;
    const most = wide * gridOf(encoder.geometry).columns;
    if (crop !== undefined && crop > most) {
      throw new UsageError(`--crop ${crop}: the encoder takes ${most} frames`);
    }
    const clips = await gathered((pool, line) =>
      spectrogramClips(folder.clips.map(({ path }) => path), {
        ...{ device, frontend: encoder.frontend, pool, signal },
        onSkip: ({ path, reason }) => skipped.set(path, reason),
        onProgress: (done, total, audio) => line.update(done, total, audio),
      })
    );
    const usable = usableClips(folder, ({ path }) => clips.has(path), skipped);
    const sounds = usable.map(({ path }) => clips.get(path)!);
    const wished = crop ?? sounds.reduce((most, { frames }) => Math.max(most, frames), 0);
    const patchOut = values["patch-out"];
    const settings: FineTuneSettings = {
      ...course,
      ...training,
      patchOut,
      // Left-out rows leave nothing of a band.
      bands: words.bands === undefined && patchOut > 0 ? "mean" : values.bands ?? "concat",
      // Whole patches.
      frames: Math.max(wide, Math.min(most, wide * Math.round(wished / wide))),
    };
    const data = probeData(folder, usable);
    return {
      begin: (random) => new OwnTrainee({ device, encoder, data, sounds, settings }, random),
      dim: stepSize(encoder.geometry, settings.bands),
      features: featuresOf({ settings, encoder }),
      ...{ data, settings, metadata: encoder.metadata },
    };
  }

  /** An encoder of another system: clips are crops of waveforms. */
  async function otherSubject(): Promise<Subject> {
    using encoder = await encoderFrom(device, path, heads);
    const { sampleRate } = encoder;
    const imported = importPretrained(file, heads === undefined ? {} : { heads })!;
    const clips = await gathered(async (pool, line) => {
      const found = new Map<string, Float32Array>();
      let seconds = 0;
      const files = [...new Set(folder.clips.map(({ path }) => path))]
        .map((path) => [path, path] as const);
      const decoded = decodedClips(files, {
        ...{ pool, sampleRate, signal },
        onSkip: ({ path, reason }) => skipped.set(path, reason),
        onAudio: (heard) => seconds += heard,
      });
      for await (const { key, audio, failed } of decoded) {
        try {
          found.set(key, await wholeOf(audio));
        } catch (error) {
          failed(error);
        }
        line.update(found.size, files.length, seconds);
      }
      return found;
    });
    const usable = usableClips(folder, ({ path }) => clips.has(path), skipped);
    const sounds = usable.map(({ path }) => clips.get(path)!);
    const most = OTHER_SECONDS * sampleRate;
    const longest = sounds.reduce((most, { length }) => Math.max(most, length), 0);
    const wished = crop === undefined ? longest : crop * sampleRate / 100;
    if (crop !== undefined && wished > most) {
      throw new UsageError(`--crop ${crop}: encoders of other systems take ${OTHER_SECONDS} s`);
    }
    const least = encoder.least;
    const samples = Math.round(Math.max(least, Math.min(most, wished)));
    const seconds = samples / sampleRate;
    const features = {
      pool: "mean" as const,
      ...training.tested === "start" ? { seconds } : { leastSeconds: seconds },
    };
    const data = probeData(folder, usable);
    const settings = { ...training, samples };
    const trained = { device, file, heads, data, sounds, settings, features };
    return {
      begin: (random) => PretrainedTrainee.begin(trained, random),
      dim: encoder.embeddingSize({}),
      ...{ features, data, settings: { ...course, ...settings }, metadata: imported.metadata },
    };
  }

  /** Runs `work` with threads that decode and a line of progress. */
  async function gathered<Clip>(
    work: (pool: WorkerPool, line: RateLine) => Promise<Map<string, Clip>>,
  ): Promise<Map<string, Clip>> {
    using pool = new WorkerPool(workers ?? navigator.hardwareConcurrency);
    using line = new RateLine({ quiet });
    const clips = await work(pool, line);
    line.finish();
    return clips;
  }
}

/** Most seconds of a crop for encoders of other systems: a chunk of those that cut clips. */
const OTHER_SECONDS = 6;

/** What is fine-tuned. */
interface Subject {
  readonly begin: FineTuneContext["begin"];
  readonly dim: number;
  readonly data: ProbeData;
  /** How `embed --probe` makes what the head sees. */
  readonly features: ProbeFile["features"];
  readonly settings: object;
  /** Of the encoder's file. */
  readonly metadata: Readonly<Record<string, string>>;
}

function progressText(
  { trial: [done, all], epoch, loss, validation }: FineTuneProgress,
  epochs: number,
): string {
  return [
    ...all > 1 ? [`${done + 1} of ${all}`] : [],
    `epoch ${epoch.toFixed(1)} of ${epochs}`,
    ...loss === undefined ? [] : [`loss ${loss.toPrecision(3)}`],
    ...validation === undefined ? [] : [`validation ${(100 * validation).toFixed(1)} %`],
  ].join("  ");
}
