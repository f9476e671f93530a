/**
 * `deno task probe --finetune`: what encoder and head learn together.
 *
 * @module
 */
import { openWatchedDevice } from "../cli/kernel_line.ts";
import { gridOf } from "../../model/encoder/embed.ts";
import { refuse } from "../cli/command.ts";
import type { RawArguments } from "../cli/parser.ts";
import { labelledFolder } from "../data/labelled_folder.ts";
import { UsageError } from "../errors.ts";
import { WorkerPool } from "../data/worker_pool.ts";
import { encoderPath } from "../downstream/encoder_file.ts";
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
import { probeData } from "../downstream/probe/splits.ts";
import { RateLine } from "../cli/rate_line.ts";
import {
  type SpectrogramClip,
  spectrogramClips,
} from "../downstream/finetune/spectrogram_clips.ts";
import { FINETUNE_DEFAULTS } from "../downstream/finetune/options.ts";
import {
  featuresOf,
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
  const patchOut = values["patch-out"];
  const chosen: Omit<FineTuneSettings, "frames"> = {
    epochs,
    rate: rates[0],
    batch: values.batch ?? FINETUNE_DEFAULTS.batch,
    warmup: values.warmup ?? Math.min(FINETUNE_DEFAULTS.warmup, Math.floor(epochs / 2)),
    mixup: values.mixup,
    patchOut,
    tested: values.tested,
    // Left-out rows leave nothing of a band.
    bands: words.bands === undefined && patchOut > 0 ? "mean" : values.bands ?? "concat",
    frozenPatchEmbed: values["freeze-patch-embed"],
    optimizer: values.optimizer,
    weightDecay: values["weight-decay"] ?? FINETUNE_DEFAULTS.weightDecay,
    layerDecay: values["layer-decay"],
    criterion: values.best ?? FINETUNE_DEFAULTS.criterion,
    patience: values.patience ?? epochs,
    repeats: values.repeats ?? FINETUNE_DEFAULTS.repeats,
    seed: values.seed ?? FINETUNE_DEFAULTS.seed,
    heldOut: values.validation ?? FINETUNE_DEFAULTS.heldOut,
  };
  if (chosen.batch < 2) throw new UsageError("--batch: --finetune needs two clips or more");
  const folder = labelledFolder(values.dataset);
  const path = encoderPath(values.checkpoint);

  using device = await openWatchedDevice({ adapter }, quiet);
  const encoder = await readInitialEncoder(device, path, heads);
  const { patch: [, wide] } = encoder.geometry;
  const most = wide * gridOf(encoder.geometry).columns;
  if (crop !== undefined && crop > most) {
    throw new UsageError(`--crop ${crop}: the encoder takes ${most} frames`);
  }
  const weights = await fileDigest(path);
  const skipped = new Map<string, string>();
  const clips = await soundsOf();
  const usable = usableClips(folder, ({ path }) => clips.has(path), skipped);
  const sounds = usable.map(({ path }) => clips.get(path)!);
  const data = probeData(folder, usable);
  const metric = metricFor(data, metricName);
  requireConfusion(svg, data);
  const settings = { ...chosen, frames: cropFrames(sounds) };

  const output = standardOutput();
  const line = quiet ? undefined : new LiveLine(output, output.now());
  const { result, history, kept } = await runFineTune({
    device,
    encoder,
    data,
    sounds,
    metric,
    settings,
    signal,
    onProgress: (progress) => line?.update(progressText(progress, epochs)),
  }, save !== undefined);
  line?.finish();
  const features = featuresOf({ settings, encoder });
  const about = { dataset: folder.dir, protocol: "finetune", metric, mean: result.mean };
  if (save !== undefined) {
    await writeInto(save, () =>
      saveFineTuned(
        save,
        kept!,
        { ...encoder.metadata, finetuned: JSON.stringify({ ...about, checkpoint: weights }) },
        {
          classes: data.classes,
          multiLabel: data.multiLabel,
          features,
          about: { ...about, ci95: result.ci95 },
        },
      ));
  }
  console.log(
    `${testedText(folder, usable.length, data.classes, result)}; fine-tuned, ` +
      `${epochs} epochs, ${settings.repeats} ${settings.repeats === 1 ? "repeat" : "repeats"}`,
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
      ...sourcesOf(device, { path, sha256: weights }, usable.length, skipped),
    });
  }
  if (svg !== undefined) {
    const how = `fine-tuned, ${epochs} epochs; ${usable.length} clips`;
    await writePicture(svg, folder, data.classes, metric, result, how);
  }
  return 0;

  async function soundsOf(): Promise<Map<string, SpectrogramClip>> {
    using pool = new WorkerPool(workers ?? navigator.hardwareConcurrency);
    using line = new RateLine({ quiet });
    const clips = await spectrogramClips(folder.clips.map(({ path }) => path), {
      device,
      frontend: encoder.frontend,
      pool,
      signal,
      onSkip: ({ path, reason }) => skipped.set(path, reason),
      onProgress: (done, total, audio) => line.update(done, total, audio),
    });
    line.finish();
    return clips;
  }

  /** Frames of a crop: whole patches. */
  function cropFrames(sounds: readonly SpectrogramClip[]): number {
    const wished = crop ?? sounds.reduce((most, { frames }) => Math.max(most, frames), 0);
    return Math.max(wide, Math.min(most, wide * Math.round(wished / wide)));
  }
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
