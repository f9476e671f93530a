/** `deno task embed`: audio to embeddings. */

import { withReadout } from "../../model/encoder/pooling.ts";
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
  checkpoint,
  choicesOf,
  embeddingChoices,
  heads,
  maxHours,
  mode,
  pool,
  shard,
  shardFacts,
  workers,
} from "../cli/shared_options.ts";
import { file, path, repeated, whole } from "../cli/value_types.ts";
import { AUDIO_EXTENSIONS, isFolder } from "../io/folders.ts";
import { NoDataError, UsageError } from "../errors.ts";
import { WorkerPool } from "../data/worker_pool.ts";
import {
  audioFiles,
  embedFiles,
  type EmbedPart,
  type EmbedResult,
  type EmbedState,
  mergeEmbeddings,
  skippedPath,
} from "../downstream/embed_files.ts";
import type { Choices } from "../downstream/clip_encoder.ts";
import { formOf } from "../downstream/embedding_file.ts";
import { encoderFrom, encoderPath, readoutText } from "../downstream/encoder_file.ts";
import { fileDigest } from "../downstream/probe/feature_cache.ts";
import { digestOf } from "../io/digest.ts";
import { type Shard, ShardFolder, shardText } from "../io/shards.ts";
import type { SkippedClip } from "../data/clip_source.ts";
import { predictFiles, probeFor } from "../downstream/probe/predict.ts";
import { compileAhead } from "../run/compile_ahead.ts";
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
    layers: flag("All layers beside the last one, of which the embedding is."),
    pool,
    bands,
    ...embeddingChoices,
    mode,
    compat: flag(
      "With --mode fast and --frames: time steps in the order of the official code, which takes " +
        "turns between chunks.",
    ),
  }),
  ...group("Encoder and machine", {
    batch: option(
      whole(1, 4096),
      "Chunks of full length that are encoded together, or as much audio in shorter ones; of " +
        "encoders of other systems, clips of one length. Less needs less memory.",
      { defaultText: "32; of other systems what 80 s hold" },
    ),
    heads,
    "max-hours": maxHours,
    workers,
    adapter,
    shard,
  }),
};
/** The command as help and parsing see it. */
export const COMMAND = command({
  name: "embed",
  options: OPTIONS,
  footer: "Files that cannot be used are skipped and listed in E.skipped.jsonl. Parts of --shard " +
    "are kept in E.shards until the call without it, which needs no adapter, writes E, the same " +
    "as one process.",
});

/** Text of `--help`. */
export const help = COMMAND.help;

/** Runs the command. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const { values, words } = COMMAND.read(argv);
  if (values.probe !== undefined) return await predict(values.probe, values, words, signal);
  refuse(words, ["top"], "is for --probe");
  const { audio, checkpoint, out, frames, pool, quiet, heads, workers, adapter } = values;
  const { mode, layers, compat, batch, shard } = values;
  if (out === undefined) throw new UsageError("--out: is needed, or --probe");
  if (frames) refuse(words, ["pool"], "--frames keeps every time step, there is nothing to pool");
  if (layers) refuse(words, ["blocks", "join"], "--layers writes every block");
  if (compat && !(frames && mode === "fast")) {
    throw new UsageError("--compat: is about the order of --frames with --mode fast");
  }
  formOf(out);
  if (await isFolder(out)) throw new UsageError(`--out ${out}: is a folder; give a file`);
  const files = await filesIn(audio, quiet);
  const dir = `${out}.shards`;
  const isDivided = shard !== undefined || await isFolder(dir);
  const folder = new ShardFolder<EmbedPart>(dir, {
    ...shardFacts(words, ["audio", "checkpoint", "batch"]),
    // Not read without need.
    ...isDivided && { "--checkpoint": await fileDigest(encoderPath(checkpoint)) },
    ...{ files: files.length, "names of files": digestOf(files) },
  });
  const merges = isDivided && shard === undefined;
  const merged = merges ? await mergeEmbeddings(folder, files, out) : undefined;
  if (merged) {
    report(merged, { files: files.length, size: merged.size, out, quiet });
    return 0;
  }
  using device = await openWatchedDevice({ adapter }, quiet);
  using encoder = await encoderFrom(device, checkpoint, heads);
  const choices: Choices = withReadout({
    ...choicesOf(values),
    pool: frames ? "none" : pool,
    ...{ layers, compat },
    ...batch !== undefined && { batch },
  }, encoder.readout);
  encoder.needChoices(choices);
  await encoder.precompile(Math.ceil(files.length / (shard?.count ?? 1)), choices);
  using _ = compileAhead(device);
  using threads = new WorkerPool(workers ?? navigator.hardwareConcurrency, values["max-hours"]);
  using line = new RateLine({ quiet });
  const result = await embedFiles({
    ...{ encoder, pool: threads, files, out, signal, choices },
    ...shard && { part: { shard, folder } },
    onProgress: (it: EmbedState) => line.update(it.embedded + it.skipped, files.length, it.seconds),
  });
  line.finish();
  const size = encoder.embeddingSize(choices);
  report(result, { files: files.length, size, out, quiet, ...shard && { shard } });
  if (!quiet && !frames && pool === undefined && choices.pool !== "mean") {
    console.log(readoutText(choices));
  }
  return 0;
}

/** Says what came of it. */
function report(
  { embedded, skipped, seconds, skippedFiles }: EmbedResult,
  { files, size, out, quiet, shard }: {
    readonly files: number;
    readonly size: number;
    readonly out: string;
    readonly quiet: boolean;
    readonly shard?: Shard;
  },
): void {
  if (!quiet) {
    console.log(
      `${embedded} files embedded (${(seconds / 3600).toFixed(2)} h of audio), ` +
        `${size} values each: ${shard ? `shard ${shardText(shard)} is complete` : out}`,
    );
  }
  const list = shard ? "" : `, see ${skippedPath(out)}`;
  listSkipped(`${skipped} of ${files} files skipped${list}:`, skippedFiles);
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
  ...["out", "frames", "layers", "pool", "bands", "mode", "compat", "batch", "shard"],
  ...Object.keys(embeddingChoices),
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
