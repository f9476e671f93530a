/** `deno task embed`: audio to embeddings. */

import * as v from "valibot";
import { openDevice } from "../../engine/mod.ts";
import { type CommandSpec, helpText, parseArguments, type RawArguments } from "../cli/parser.ts";
import { listSkipped } from "../cli/listing.ts";
import {
  COMMON_OPTIONS,
  COMMON_WORDS,
  HEADS_OPTION,
  valueReader,
  wholeNumber,
} from "../cli/values.ts";
import { AUDIO_EXTENSIONS, isFolder } from "../io/folders.ts";
import { NoDataError } from "../data/errors.ts";
import { WorkerPool } from "../data/worker_pool.ts";
import { audioFiles, embedFiles, skippedPath } from "../downstream/embed_files.ts";
import { formOf } from "../downstream/embedding_file.ts";
import { encoderFrom } from "../downstream/encoder_file.ts";
import { UsageError } from "../errors.ts";
import type { SkippedRow } from "../metrics/metrics_log.ts";
import { predictFiles, probeFor } from "../downstream/probe/predict.ts";
import { RateLine } from "../cli/rate_line.ts";

const SPEC: CommandSpec = {
  program: "deno task embed",
  summary: "Turns audio into embeddings: one for each clip, or one for each time step of 160 ms.",
  options: [
    {
      name: "audio",
      kind: "positionals",
      metavar: "AUDIO",
      description: "Audio files, and folders with all audio below them.",
    },
    {
      name: "checkpoint",
      kind: "value",
      metavar: "F",
      description:
        "The encoder: encoder.safetensors of a run or the run's folder, a checkpoint, or official weights (.pt).",
    },
    {
      name: "out",
      kind: "value",
      metavar: "E",
      description: "File of embeddings; .npz, .safetensors or .csv by its ending.",
    },
    {
      name: "probe",
      kind: "value",
      metavar: "P",
      description:
        "Instead of --out: prints each file's likeliest classes by a probe of this encoder that probe --save wrote.",
    },
    {
      name: "top",
      kind: "value",
      metavar: "N",
      description: "With --probe: how many classes.",
      defaultText: "5",
    },
    {
      name: "frames",
      kind: "flag",
      description: "Every time step with the clip it is from and its start in ms.",
    },
    { name: "layers", kind: "flag", description: "All layers beside the last one." },
    {
      name: "pool",
      kind: "value",
      metavar: "mean|max",
      description: "What is made of a clip's time steps.",
      defaultText: "mean",
    },
    {
      name: "bands",
      kind: "value",
      metavar: "concat|mean",
      description: "Frequency bands of a step side by side, the low one first, or averaged.",
      defaultText: "concat",
    },
    {
      name: "mode",
      kind: "value",
      metavar: "precise|fast|msm-mae",
      description:
        "precise: the last chunk is as short as the clip. fast: as in the official code, chunks are filled up with dataset mean, which enters the result. " +
        "msm-mae: filled up likewise, and what was filled is dropped from the result, as MSM-MAE does.",
      defaultText: "precise",
    },
    {
      name: "compat",
      kind: "flag",
      description:
        "With --mode fast and --frames: time steps in the order of the official code, which takes turns between chunks.",
    },
    {
      name: "batch",
      kind: "value",
      metavar: "N",
      description:
        "Chunks of full length that are encoded together, or as much audio in shorter ones; less needs less memory.",
      defaultText: "32",
    },
    HEADS_OPTION,
    ...COMMON_OPTIONS,
    { name: "quiet", kind: "flag", description: "No progress line and no summary." },
  ],
  footer: "Files that cannot be used are skipped and listed in E.skipped.jsonl.",
};

const WORDS = {
  checkpoint: { schema: COMMON_WORDS.path, allowed: "a file" },
  out: { schema: COMMON_WORDS.path, allowed: "a file" },
  probe: { schema: COMMON_WORDS.path, allowed: "a file" },
  top: { schema: v.optional(wholeNumber(1, 1e6)), allowed: "a whole number from 1" },
  pool: { schema: v.optional(v.picklist(["mean", "max"])), allowed: "mean or max" },
  bands: { schema: v.optional(v.picklist(["concat", "mean"])), allowed: "concat or mean" },
  mode: {
    schema: v.optional(v.picklist(["precise", "fast", "msm-mae"])),
    allowed: "precise, fast or msm-mae",
  },
  batch: { schema: v.optional(wholeNumber(1, 4096)), allowed: "a whole number from 1 to 4096" },
  heads: COMMON_WORDS.heads,
  workers: COMMON_WORDS.workers,
  adapter: COMMON_WORDS.adapter,
} as const;

/** Text of `--help`. */
export function help(): string {
  return helpText(SPEC);
}

/** Runs the command. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const given = parseArguments(SPEC, argv);
  const value = valueReader(SPEC.program, WORDS, given);
  if (given.probe !== undefined) return await predict(given, signal);
  if (given.top !== undefined) throw new UsageError("--top: is for --probe");
  const flag = (name: string) => given[name] === true;
  const [checkpoint, out, pool, mode] = [
    value("checkpoint"),
    value("out"),
    value("pool"),
    value("mode"),
  ];
  const [batch, heads, workers] = [value("batch"), value("heads"), value("workers")];
  const options = {
    mode,
    pool: flag("frames") ? "none" as const : pool,
    bands: value("bands"),
    layers: flag("layers"),
    compat: flag("compat"),
    ...(batch !== undefined && { batch }),
  };
  if (flag("frames") && pool) {
    throw new UsageError(
      `--pool ${pool}: --frames keeps every time step, there is nothing to pool`,
    );
  }
  if (flag("compat") && !(flag("frames") && mode === "fast")) {
    throw new UsageError("--compat: is about the order of --frames with --mode fast");
  }
  const paths = audioOf(given);
  formOf(out);
  if (await isFolder(out)) throw new UsageError(`--out ${out}: is a folder; give a file`);
  const files = await filesIn(paths);
  using device = await openDevice({ adapter: value("adapter") });
  using encoder = await encoderFrom(device, checkpoint, heads);
  using threads = new WorkerPool(workers ?? navigator.hardwareConcurrency);
  const quiet = flag("quiet");
  using line = new RateLine({ quiet });
  const { embedded, skipped, seconds, skippedFiles } = await embedFiles({
    encoder,
    pool: threads,
    files,
    out,
    options,
    signal,
    onProgress: (it) => line.update(it.embedded + it.skipped, files.length, it.seconds),
  });
  line.finish();
  if (!quiet) {
    console.log(
      `${embedded} files embedded (${(seconds / 3600).toFixed(2)} h of audio), ` +
        `${encoder.stepSize(options.bands)} values each: ${out}`,
    );
  }
  const headline = `${skipped} of ${files.length} files skipped, see ${skippedPath(out)}:`;
  listSkipped(headline, skippedFiles);
  return 0;
}

/** The paths that were given. @throws {UsageError} if there are none */
function audioOf({ audio }: RawArguments): readonly string[] {
  if (Array.isArray(audio)) return audio;
  throw new UsageError("no audio given", `See: ${SPEC.program} --help`);
}

/** The audio files that paths mean. @throws {NoDataError} if there are none */
async function filesIn(paths: readonly string[]): Promise<string[]> {
  const files = await audioFiles(paths);
  if (files.length > 0) return files;
  throw new NoDataError(
    `no audio in ${paths.join(", ")}: no ${AUDIO_EXTENSIONS.join(" ")} files`,
  );
}

/** What a probe decides by itself. */
const NOT_WITH_PROBE = ["out", "frames", "layers", "pool", "bands", "mode", "compat", "batch"];

/** `--probe`: prints classes. */
async function predict(given: RawArguments, signal: AbortSignal): Promise<number> {
  const value = valueReader(SPEC.program, WORDS, given);
  const other = NOT_WITH_PROBE.find((name) => given[name] !== undefined);
  if (other !== undefined) {
    throw new UsageError(`--${other}: not with --probe, which prints classes and has its own way`);
  }
  const [checkpoint, heads, top] = [value("checkpoint"), value("heads"), value("top") ?? 5];
  const workers = value("workers") ?? navigator.hardwareConcurrency;
  const paths = audioOf(given);
  const probe = await probeFor(value("probe"), checkpoint);
  const files = await filesIn(paths);
  using device = await openDevice({ adapter: value("adapter") });
  using encoder = await encoderFrom(device, checkpoint, heads);
  using threads = new WorkerPool(workers);
  using line = new RateLine({ quiet: given.quiet === true });
  const skipped: SkippedRow[] = [];
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
      `${label} (${probability.toFixed(3)})`
    );
    console.log(`${path}: ${texts.join(", ")}`);
  }
  listSkipped(`${skipped.length} of ${files.length} files skipped:`, skipped);
  if (found.length === 0) throw new NoDataError("no usable audio: all files were skipped");
  return 0;
}
