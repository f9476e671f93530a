/** `deno task embed`: audio to embeddings. */

import type { EmbedOptions } from "../../model/encoder/embed_queue.ts";
import type { PretrainedEmbedOptions } from "../../model/pretrained/encoder.ts";
import { openWatchedDevice } from "../cli/kernel_line.ts";
import { printable } from "../../engine/formats/printable.ts";
import { command, refuse } from "../cli/command.ts";
import { waiting } from "../cli/wait_line.ts";
import { listSkipped } from "../cli/listing.ts";
import { flag, group, option, type Values } from "../cli/option.ts";
import type { RawArguments } from "../cli/parser.ts";
import {
  adapter,
  bands,
  blocks,
  checkpoint,
  heads,
  maxHours,
  pool,
  workers,
} from "../cli/shared_options.ts";
import { choice, file, path, repeated, whole } from "../cli/value_types.ts";
import { SAMPLE_RATE } from "../audio/decode.ts";
import { AUDIO_EXTENSIONS, isFolder } from "../io/folders.ts";
import { NoDataError, UsageError } from "../errors.ts";
import { WorkerPool } from "../data/worker_pool.ts";
import { audioFiles, embedFiles, type EmbedState, skippedPath } from "../downstream/embed_files.ts";
import { formOf } from "../downstream/embedding_file.ts";
import {
  encoderFrom,
  pooledText,
  pretrainedFrom,
  refuseAbsentBlocks,
} from "../downstream/encoder_file.ts";
import type { SkippedClip } from "../data/clip_source.ts";
import { predictFiles, probeFor } from "../downstream/probe/predict.ts";
import { RateLine } from "../cli/rate_line.ts";

const OPTIONS = {
  audio: option(
    repeated(path("AUDIO")),
    "Audio files, and folders with all audio below them.",
    { positional: true, required: true },
  ),
  checkpoint,
  out: option(file("E"), "File of embeddings; .npz, .safetensors or .csv by its ending."),
  probe: option(
    file("P"),
    "Instead of --out: prints each file's likeliest classes by a probe of this encoder that " +
      "probe --save wrote.",
  ),
  top: option(whole(1), "With --probe: how many classes.", { default: 5 }),
  quiet: flag("No progress line and no summary."),
  ...group("What is written", {
    frames: flag("Every time step with the clip it is from and its start in ms."),
    layers: flag("All layers beside the last one."),
    pool,
    bands,
    blocks,
    mode: option(
      choice(["precise", "fast", "msm-mae"]),
      "precise: the last chunk is as short as the clip. fast: as in the official code, chunks " +
        "are filled up with dataset mean, which enters the result. msm-mae: filled up likewise, " +
        "and what was filled is dropped from the result, as MSM-MAE does.",
      { default: "precise" },
    ),
    compat: flag(
      "With --mode fast and --frames: time steps in the order of the official code, which takes " +
        "turns between chunks.",
    ),
  }),
  ...group("Encoder and machine", {
    batch: option(
      whole(1, 4096),
      "Chunks of full length that are encoded together, or as much audio in shorter ones; less " +
        "needs less memory.",
      { default: 32 },
    ),
    heads,
    "max-hours": maxHours,
    workers,
    adapter,
  }),
};
/** The command as help and parsing see it. */
export const COMMAND = command({
  name: "embed",
  options: OPTIONS,
  footer: "Files that cannot be used are skipped and listed in E.skipped.jsonl.",
});

/** Text of `--help`. */
export const help = COMMAND.help;

/** Runs the command. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const { values, words } = COMMAND.read(argv);
  if (values.probe !== undefined) return await predict(values.probe, values, words, signal);
  refuse(words, ["top"], "is for --probe");
  const { audio, checkpoint, out, frames, pool, quiet, heads, workers, adapter } = values;
  const { mode, bands, blocks, layers, compat, batch } = values;
  if (out === undefined) throw new UsageError("--out: is needed, or --probe");
  if (frames) refuse(words, ["pool"], "--frames keeps every time step, there is nothing to pool");
  if (compat && !(frames && mode === "fast")) {
    throw new UsageError("--compat: is about the order of --frames with --mode fast");
  }
  if (layers) refuse(words, ["blocks"], "--layers has all of them");
  formOf(out);
  if (await isFolder(out)) throw new UsageError(`--out ${out}: is a folder; give a file`);
  const files = await filesIn(audio, quiet);
  using device = await openWatchedDevice({ adapter }, quiet);
  using other = await pretrainedFrom(device, checkpoint, heads);
  if (other) {
    const { title } = other.info;
    refuse(
      words,
      ["mode", "compat", "batch", "blocks"],
      `is not for ${title}, which takes clips whole`,
    );
    if (other.info.sampleRate !== SAMPLE_RATE) {
      throw new UsageError(
        `--checkpoint ${checkpoint}: ${title} takes audio of ${other.info.sampleRate} Hz; this ` +
          `command decodes to ${SAMPLE_RATE} Hz`,
      );
    }
    if (pool !== undefined && pool !== "mean") {
      throw new UsageError(`--pool ${pool}: is not for ${title}`);
    }
  }
  using own = other ? undefined : await encoderFrom(device, checkpoint, heads);
  if (own) refuseAbsentBlocks(own, blocks);
  using threads = new WorkerPool(workers ?? navigator.hardwareConcurrency, values["max-hours"]);
  using line = new RateLine({ quiet });
  const common = {
    ...{ pool: threads, files, out, signal },
    onProgress: (it: EmbedState) => line.update(it.embedded + it.skipped, files.length, it.seconds),
  };
  const pooling = pool ?? own?.pool ?? "mean";
  const kind = frames ? "none" : pooling;
  const given: EmbedOptions = { mode, pool: kind, bands, blocks, layers, compat, batch };
  const pretrained: PretrainedEmbedOptions = {
    pool: frames ? "none" : "mean",
    // Means over bands, as their probes have them, unless something else is asked for.
    ...words.bands !== undefined && { bands },
    layers,
  };
  const { embedded, skipped, seconds, skippedFiles } =
    await (other
      ? embedFiles<PretrainedEmbedOptions>({ encoder: other, options: pretrained, ...common })
      : embedFiles<EmbedOptions>({ encoder: own!, options: given, ...common }));
  const size = other ? other.embeddingSize(pretrained) : own!.embeddingSize(given);
  line.finish();
  if (!quiet) {
    console.log(
      `${embedded} files embedded (${(seconds / 3600).toFixed(2)} h of audio), ` +
        `${size} values each: ${out}`,
    );
    if (!frames && pool === undefined && pooling !== "mean") console.log(pooledText(pooling));
  }
  const headline = `${skipped} of ${files.length} files skipped, see ${skippedPath(out)}:`;
  listSkipped(headline, skippedFiles);
  return 0;
}

/** The audio files that paths mean. @throws {NoDataError} if there are none */
async function filesIn(paths: readonly string[], quiet: boolean): Promise<string[]> {
  const found = audioFiles(paths, (path, reason) => {
    listSkipped("left out:", [{ path, reason }]);
  });
  const files = await waiting(() => `looking through ${paths.join(", ")}`, found, { quiet });
  if (files.length > 0) return files;
  throw new NoDataError(
    `no audio in ${paths.join(", ")}: no ${AUDIO_EXTENSIONS.join(" ")} files`,
  );
}

/** What a probe decides by itself. */
const NOT_WITH_PROBE = [
  ...["out", "frames", "layers", "pool", "bands", "blocks", "mode", "compat", "batch"],
];

/** `--probe`: prints classes. */
async function predict(
  probePath: string,
  values: Values<typeof OPTIONS>,
  words: RawArguments,
  signal: AbortSignal,
): Promise<number> {
  refuse(words, NOT_WITH_PROBE, "not with --probe, which prints classes and has its own way");
  const { audio, checkpoint, heads, top, workers, adapter, quiet } = values;
  const probe = await probeFor(probePath, checkpoint);
  const files = await filesIn(audio, quiet);
  using device = await openWatchedDevice({ adapter }, quiet);
  using encoder = await encoderFrom(device, checkpoint, heads);
  using threads = new WorkerPool(workers ?? navigator.hardwareConcurrency, values["max-hours"]);
  using line = new RateLine({ quiet });
  const skipped: SkippedClip[] = [];
  const found = await predictFiles(encoder, probe, top, {
    paths: files,
    pool: threads,
    signal,
    onSkip: (row) => skipped.push(row),
    onProgress: (done, total, seconds) => line.update(done, total, seconds),
  });
  line.finish();
  for (const { path, predictions } of found) {
    const texts = predictions.map(({ label, probability }) =>
      `${printable(label)} (${probability.toFixed(3)})`
    );
    console.log(`${printable(path, 1000)}: ${texts.join(", ")}`);
  }
  listSkipped(`${skipped.length} of ${files.length} files skipped:`, skipped);
  if (found.length === 0) throw new NoDataError("no usable audio: all files were skipped");
  return 0;
}
