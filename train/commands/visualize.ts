/** `deno task visualize`: what a model sees, as one page of pictures. */

import { basename } from "@std/path";
import * as v from "valibot";
import { openDevice } from "../../engine/mod.ts";
import { type CommandSpec, helpText, parseArguments } from "../cli/parser.ts";
import { listSkipped } from "../cli/listing.ts";
import {
  COMMON_OPTIONS,
  COMMON_WORDS,
  HEADS_OPTION,
  valueReader,
  wholeNumber,
} from "../cli/values.ts";
import { AudioError, loadWaveform, SAMPLE_RATE } from "../audio/decode.ts";
import { NoDataError } from "../data/errors.ts";
import { isFolder } from "../io/folders.ts";
import { WorkerPool } from "../data/worker_pool.ts";
import { encoderFrom } from "../downstream/encoder_file.ts";
import { UsageError } from "../errors.ts";
import type { SkippedRow } from "../metrics/metrics_log.ts";
import { RateLine } from "../cli/rate_line.ts";
import { writeResult } from "../io/result_file.ts";
import { openModel } from "../visualize/autoencoder.ts";
import {
  chunkReconstruction,
  clipInput,
  type PatchChoice,
  patchChoice,
  trajectoryOf,
} from "../visualize/clip.ts";
import { clipsOf, mapOf, sampled } from "../visualize/folder.ts";
import { page, type Section } from "../visualize/page.ts";
import {
  attentionSection,
  factsOf,
  inputSection,
  mapSection,
  reconstructionSection,
  soundSection,
  trajectorySection,
} from "../visualize/sections.ts";
import { chunkSounds } from "../visualize/sounds.ts";

const SPEC: CommandSpec = {
  program: "deno task visualize",
  summary:
    "Draws what a model sees in a sound, on one page: input, attention, embeddings over time, a map of a folder's embeddings, and what MSM-MAE makes of masked patches.",
  options: [
    {
      name: "audio",
      kind: "positionals",
      metavar: "AUDIO",
      description:
        "An audio file, a folder for the map (with meta.csv, or labelled by the folders in it), or both. Without a file, the folder's first clip is taken.",
    },
    {
      name: "checkpoint",
      kind: "value",
      metavar: "F",
      description:
        "The model: a run's folder, its encoder.safetensors, a checkpoint, or official weights (.pt). Reconstructions need the decoder, which encoder.safetensors has not.",
    },
    { name: "out", kind: "value", metavar: "R", description: "The page (.html)." },
    {
      name: "start",
      kind: "value",
      metavar: "S",
      description: "Second of the file where the pictures begin.",
      defaultText: "0",
    },
    {
      name: "seconds",
      kind: "value",
      metavar: "S",
      description:
        "Most seconds of the file that are drawn; attention and reconstruction are of the first chunk.",
      defaultText: "30",
    },
    {
      name: "patch",
      kind: "value",
      metavar: "S,HZ|N|loudest|class",
      description:
        "Whose attention: the patch at a second of the file and a frequency, patch number N (from 0, row by row, low frequencies first), the loudest, or the class token alone.",
      defaultText: "loudest, and the class token",
    },
    {
      name: "layer",
      kind: "value",
      metavar: "N|all",
      description: "Which layer's attention, from 1.",
      defaultText: "all",
    },
    {
      name: "head",
      kind: "value",
      metavar: "N|all",
      description: "Which head's attention, from 1.",
      defaultText: "all",
    },
    {
      name: "mask-ratio",
      kind: "value",
      metavar: "X",
      description: "Share of patches that MSM-MAE has to reconstruct.",
      defaultText: "as in training, else 0.75",
    },
    {
      name: "clips",
      kind: "value",
      metavar: "N",
      description: "Most clips of the map; of a larger folder as many are drawn at random.",
      defaultText: "1000",
    },
    {
      name: "seed",
      kind: "value",
      metavar: "N",
      description: "Of the mask, the map and the phases of sounds.",
      defaultText: "0",
    },
    {
      name: "wav",
      kind: "value",
      metavar: "W",
      description:
        "Also writes the reconstruction (of other models: the input's log-mel) as sound, and puts players on the page.",
    },
    HEADS_OPTION,
    ...COMMON_OPTIONS,
    { name: "quiet", kind: "flag", description: "No progress line and no summary." },
  ],
  footer:
    "The page holds all pictures and loads nothing. Sounds are made of log-mel values by Griffin-Lim with the model's own mel filters; their phases are guessed.",
};

/** A number from 0. */
const positive = v.pipe(v.string(), v.regex(/^(\d+\.?\d*|\.\d+)$/), v.transform(Number));
const numberOrAll = v.optional(v.union([v.literal("all"), wholeNumber(1, 4096)]), "all");

const WORDS = {
  checkpoint: { schema: COMMON_WORDS.path, allowed: "a file" },
  out: { schema: COMMON_WORDS.path, allowed: "a file" },
  start: { schema: v.optional(positive, "0"), allowed: "seconds from 0" },
  seconds: {
    schema: v.optional(v.pipe(positive, v.gtValue(0), v.maxValue(600)), "30"),
    allowed: "seconds above 0, at most 600",
  },
  patch: {
    schema: v.optional(
      v.pipe(
        v.string(),
        v.transform(patchChoice),
        v.check((it) => it !== undefined),
        v.transform((it) => it as PatchChoice),
      ),
    ),
    allowed: "S,HZ (such as 1.2,800), a patch's number, loudest or class",
  },
  layer: { schema: numberOrAll, allowed: "a number from 1, or all" },
  head: { schema: numberOrAll, allowed: "a number from 1, or all" },
  "mask-ratio": {
    schema: v.optional(v.pipe(positive, v.gtValue(0), v.ltValue(1))),
    allowed: "between 0 and 1",
  },
  clips: { schema: v.optional(wholeNumber(2, 1e5), "1000"), allowed: "a whole number from 2" },
  seed: { schema: v.optional(wholeNumber(0, 2 ** 32 - 1), "0"), allowed: "a whole number" },
  wav: { schema: v.optional(COMMON_WORDS.path), allowed: "a file" },
  heads: COMMON_WORDS.heads,
  workers: COMMON_WORDS.workers,
  adapter: COMMON_WORDS.adapter,
} as const;

/** What MSM-MAE masks in training. */
const USUAL_RATIO = 0.75;

/** Text of `--help`. */
export function help(): string {
  return helpText(SPEC);
}

/** Runs the command. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const given = parseArguments(SPEC, argv);
  const value = valueReader(SPEC.program, WORDS, given);
  const [checkpoint, out, wav] = [value("checkpoint"), value("out"), value("wav")];
  const [start, seconds, seed] = [value("start"), value("seconds"), value("seed")];
  const selection = { layer: value("layer"), head: value("head"), patch: value("patch") };
  const [ratio, most, heads] = [value("mask-ratio"), value("clips"), value("heads")];
  const [workers, adapter] = [value("workers"), value("adapter")];
  const quiet = given.quiet === true;
  for (const [name, path] of [["out", out], ["wav", wav]] as const) {
    if (path !== undefined && await isFolder(path)) {
      throw new UsageError(`--${name} ${path}: is a folder; give a file`);
    }
  }
  const { file, folder } = await audioIn(given.audio);
  const clips = folder === undefined ? [] : await clipsOf(folder);
  const path = file ?? clips[0]?.path;
  if (path === undefined) throw new NoDataError(`no audio in ${folder}`);
  const waveform = await partOf(path, start, seconds);

  using device = await openDevice({ adapter });
  using encoder = await encoderFrom(device, checkpoint, heads);
  using model = openModel(device, checkpoint, heads);
  const { autoencoder } = model;
  const input = await clipInput(encoder, waveform, start);
  const sections: Section[] = [inputSection(input)];
  let painted: Float32Array | undefined;
  if (!("missing" in autoencoder)) {
    const { masking = { kind: "random" }, ratio: trained = USUAL_RATIO } = model.trained;
    const choice = { masking, ratio: ratio ?? trained, seed };
    const made = await chunkReconstruction(autoencoder, input, choice);
    painted = made.reconstruction;
    sections.push(reconstructionSection(encoder, autoencoder, made, start));
  } else if (ratio !== undefined) throw new UsageError(`--mask-ratio: ${autoencoder.missing}`);
  signal.throwIfAborted();
  sections.push(await attentionSection(encoder, input, selection));
  signal.throwIfAborted();
  sections.push(trajectorySection(encoder, input, await trajectoryOf(encoder, input)));
  signal.throwIfAborted();
  if (folder !== undefined) {
    using pool = new WorkerPool(workers ?? navigator.hardwareConcurrency);
    using line = new RateLine({ quiet });
    const skipped: SkippedRow[] = [];
    const chosen = sampled(clips, most, seed);
    const map = await mapOf(chosen, {
      encoder,
      pool,
      seed,
      signal,
      onProgress: (done, total, seconds) => line.update(done, total, seconds),
      onSkip: (row) => skipped.push(row),
    });
    line.finish();
    listSkipped(`${skipped.length} of ${chosen.length} files skipped:`, skipped);
    sections.push(mapSection(encoder, basename(folder), map, clips.length, chosen.length));
  }
  signal.throwIfAborted();
  if (wav !== undefined) {
    const sounds = await chunkSounds(encoder, waveform, input, painted, seed);
    sections.push(soundSection(sounds));
    await writeResult(wav, sounds[sounds.length - 1].wav);
  }
  const title = `${model.title}: ${basename(path)}`;
  const facts = factsOf({ encoder, model, input, path, folder, checkpoint });
  const html = new TextEncoder().encode(page(title, facts, sections));
  await writeResult(out, html);
  if (!quiet) {
    const names = sections.map(({ title }) => title.toLowerCase()).join(", ");
    console.log(`${names}: ${out} (${(html.length / 2 ** 20).toFixed(1)} MB)`);
  }
  return 0;
}

/** The file and the folder that were given. @throws {UsageError} for none, or two of a kind */
async function audioIn(given: unknown): Promise<{ file?: string; folder?: string }> {
  const paths = Array.isArray(given) ? given as readonly string[] : [];
  if (paths.length === 0) throw new UsageError("no audio given", `See: ${SPEC.program} --help`);
  const areFolders = await Promise.all(paths.map(isFolder));
  const folders = paths.filter((_, i) => areFolders[i]);
  const files = paths.filter((_, i) => !areFolders[i]);
  if (files.length > 1 || folders.length > 1) {
    throw new UsageError("AUDIO: one file, one folder, or one of each");
  }
  return {
    ...(files.length > 0 && { file: files[0] }),
    ...(folders.length > 0 && { folder: folders[0] }),
  };
}

/**
 * @throws {NoDataError} if the file cannot be used @throws {UsageError} if it ends before `start`
 */
async function partOf(path: string, start: number, seconds: number): Promise<Float32Array> {
  let waveform: Float32Array;
  try {
    waveform = await loadWaveform(path);
  } catch (error) {
    if (error instanceof AudioError) throw new NoDataError(`${path}: ${error.message}`);
    throw error;
  }
  const first = Math.round(start * SAMPLE_RATE);
  if (first >= waveform.length) {
    const length = (waveform.length / SAMPLE_RATE).toFixed(2);
    throw new UsageError(`--start ${start}: ${path} has ${length} s`);
  }
  return waveform.slice(first, first + Math.round(seconds * SAMPLE_RATE));
}
