/** `deno task visualize`: what a model sees, as one page of pictures. */

import { basename } from "../deps/path.ts";
import { openWatchedDevice } from "../cli/kernel_line.ts";
import { command, refuse } from "../cli/command.ts";
import { LiveLine, standardOutput } from "../cli/live_line.ts";
import { waiting } from "../cli/wait_line.ts";
import { listSkipped } from "../cli/listing.ts";
import { flag, group, option } from "../cli/option.ts";
import { adapter, heads, workers } from "../cli/shared_options.ts";
import { file, number, parsed, path, repeated, type ValueType, whole } from "../cli/value_types.ts";
import { AudioError } from "../audio/decoded_audio.ts";
import { SAMPLE_RATE } from "../audio/decode.ts";
import { partOf as partOfFile } from "../data/clip_reading.ts";
import { NoDataError, UsageError } from "../errors.ts";
import { isFolder } from "../io/folders.ts";
import { WorkerPool } from "../data/worker_pool.ts";
import { Encoder } from "../../model/encoder/encoder.ts";
import type { ClipEncoder } from "../downstream/clip_encoder.ts";
import { encoderFrom } from "../downstream/encoder_file.ts";
import type { SkippedClip } from "../data/clip_source.ts";
import { RateLine } from "../cli/rate_line.ts";
import { writeResult } from "../io/result_file.ts";
import { openModel } from "../visualize/autoencoder.ts";
import {
  chunkReconstruction,
  chunkSpectrogram,
  clipInput,
  logMelOf,
  patchChoice,
  trajectoryOf,
} from "../visualize/clip.ts";
import { clipsOf, mapOf, sampled } from "../visualize/folder.ts";
import { otherSections } from "../visualize/other_encoder.ts";
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

/** A layer or a head, or all of them. */
const numberOrAll: ValueType<number | "all"> = parsed(
  "N|all",
  "a number from 1, or all",
  (word) => {
    if (word === "all") return word;
    return /^[1-9]\d{0,3}$/.test(word) ? Number(word) : undefined;
  },
);

/** The command as help and parsing see it. */
export const COMMAND = command({
  name: "visualize",
  options: {
    audio: option(
      repeated(path("AUDIO")),
      "An audio file, a folder for the map (with meta.csv, or labelled by the folders in it), or " +
        "both. Without a file, the folder's first clip is taken.",
      { positional: true, required: true },
    ),
    checkpoint: option(
      file("F"),
      "The model: a run's folder, its encoder.safetensors, a checkpoint, or official weights " +
        "(.pt). Reconstructions need the decoder, which encoder.safetensors has not.",
      { required: true },
    ),
    out: option(file("R"), "The page (.html).", { required: true }),
    start: option(
      number({ from: 0, metavar: "S", unit: "seconds" }),
      "Second of the file where the pictures begin.",
      { default: 0 },
    ),
    seconds: option(
      number({ above: 0, to: 600, metavar: "S", unit: "seconds" }),
      "Most seconds of the file that are drawn; attention and reconstruction are of the chunk " +
        "with most power, or the one that --patch S,HZ is in.",
      { default: 30 },
    ),
    wav: option(
      file("W"),
      "Also writes the reconstruction (of other models: the input's log-mel) as sound, and puts " +
        "players on the page.",
    ),
    quiet: flag("No progress line and no summary."),
    ...group("Pictures", {
      patch: option(
        parsed(
          "S,HZ|N|loudest|class",
          "S,HZ (such as 1.2,800), a patch's number, loudest or class",
          patchChoice,
        ),
        "Whose attention: the patch at a second of the file and a frequency, patch number N " +
          "(from 0, row by row, low frequencies first), the loudest, or the class token alone.",
        { defaultText: "loudest, and the class token" },
      ),
      layer: option(numberOrAll, "Which layer's attention, from 1.", { default: "all" }),
      head: option(numberOrAll, "Which head's attention, from 1.", { default: "all" }),
      "mask-ratio": option(
        number({ above: 0, below: 1 }),
        "Share of patches that MSM-MAE has to reconstruct.",
        { defaultText: "as in training, else 0.75" },
      ),
      clips: option(
        whole(2, 1e5),
        "Most clips of the map; of a larger folder as many are drawn at random.",
        { default: 1000 },
      ),
      seed: option(whole(0, 2 ** 32 - 1), "Of the mask, the map and the phases of sounds.", {
        default: 0,
      }),
    }),
    ...group("Encoder and machine", { heads, workers, adapter }),
  },
  footer: "The page holds all pictures and loads nothing. Sounds are made of log-mel values by " +
    "Griffin-Lim with the model's own mel filters; their phases are guessed.",
});

/** What MSM-MAE masks in training. */
const USUAL_RATIO = 0.75;

/** Text of `--help`. */
export const help = COMMAND.help;

/** Runs the command. */
export async function run(argv: string[], signal: AbortSignal): Promise<number> {
  const { values, words } = COMMAND.read(argv);
  const { audio, checkpoint, out, wav, start, seconds, seed, clips: most } = values;
  const { layer, head, patch, "mask-ratio": ratio, heads, workers, adapter, quiet } = values;
  for (const [name, path] of [["out", out], ["wav", wav]] as const) {
    if (path !== undefined && await isFolder(path)) {
      throw new UsageError(`--${name} ${path}: is a folder; give a file`);
    }
  }
  const { file, folder } = await audioIn(audio);
  const onSkip = (path: string, reason: string) => listSkipped("left out:", [{ path, reason }]);
  const clips = folder === undefined
    ? []
    : await waiting(() => `looking through ${folder}`, clipsOf(folder, onSkip), { quiet });
  const path = file ?? clips[0]?.path;
  if (path === undefined) throw new NoDataError(`no audio in ${folder}`);
  const waveform = await partOf(path, start, seconds, SAMPLE_RATE);

  using device = await openWatchedDevice({ adapter }, quiet);
  using any = await encoderFrom(device, checkpoint, heads);
  if (!(any.encoder instanceof Encoder)) {
    const { info } = any.encoder;
    const absent = `is not for ${info.title}: masks and sounds are of MATPAC and its kin`;
    refuse(words, ["mask-ratio", "wav"], absent);
    if (!info.attention) {
      refuse(words, ["patch", "layer", "head"], `no attention is shown of ${info.title}`);
    }
    const own = await partOf(path, start, seconds, info.sampleRate);
    const choice = { layer, head, patch };
    const sections = await otherSections(any, any.encoder, own, start, choice);
    await addMap(any, sections);
    await write(`${info.title}: ${basename(path)}`, [
      ["sound", path],
      ["checkpoint", checkpoint],
      ["model", `${info.title}: width ${info.width}, ${info.depth} blocks, ${info.heads} heads`],
      ["source", `${info.source}; weights: ${info.licence}`],
    ], sections);
    return 0;
  }
  const encoder = any.encoder;
  using model = await openModel(device, checkpoint, heads);
  const { autoencoder } = model;
  const at = patch?.kind === "place" ? patch.seconds : undefined;
  const input = await clipInput(encoder, waveform, start, at);
  const sections: Section[] = [inputSection(input)];
  let painted: Float32Array | undefined;
  if (!("missing" in autoencoder)) {
    const { masking = { kind: "random" }, ratio: trained = USUAL_RATIO } = model.trained;
    const choice = { masking, ratio: ratio ?? trained, seed };
    const made = await chunkReconstruction(autoencoder, input, choice);
    painted = made.reconstruction;
    sections.push(reconstructionSection(encoder, autoencoder, made, chunkSpectrogram(input).start));
  } else if (ratio !== undefined) throw new UsageError(`--mask-ratio: ${autoencoder.missing}`);
  signal.throwIfAborted();
  sections.push(await attentionSection(encoder, input, { layer, head, patch }));
  signal.throwIfAborted();
  sections.push(trajectorySection(encoder, input, await trajectoryOf(any, logMelOf(input))));
  signal.throwIfAborted();
  await addMap(any, sections);
  signal.throwIfAborted();
  if (wav !== undefined) {
    const sounds = await chunkSounds(encoder, waveform, input, painted, seed);
    sections.push(soundSection(sounds));
    await writeResult(wav, sounds[sounds.length - 1].wav);
  }
  const title = `${model.title}: ${basename(path)}`;
  const facts = factsOf({ encoder, model, input, path, folder, checkpoint });
  await write(title, facts, sections);
  return 0;

  /** The map of the folder, where there is one. */
  async function addMap(encoder: ClipEncoder, sections: Section[]): Promise<void> {
    if (folder !== undefined) {
      using pool = new WorkerPool(workers ?? navigator.hardwareConcurrency);
      using line = new RateLine({ quiet });
      const output = standardOutput();
      const layout = quiet ? undefined : new LiveLine(output, output.now());
      const skipped: SkippedClip[] = [];
      const chosen = sampled(clips, most, seed);
      const map = await mapOf(chosen, {
        encoder,
        pool,
        seed,
        signal,
        quiet,
        onProgress: (done, total, seconds) => line.update(done, total, seconds),
        onEpoch: (done, total) => {
          line.finish();
          layout?.update(`UMAP: ${done} of ${total} epochs`, done === total);
        },
        onSkip: (row) => skipped.push(row),
      });
      line.finish();
      layout?.finish();
      listSkipped(`${skipped.length} of ${chosen.length} files skipped:`, skipped);
      const size = { timestampEmbeddingSize: encoder.embeddingSize({}) };
      sections.push(mapSection(size, basename(folder), map, clips.length, chosen.length));
    }
  }

  /** Writes the page. */
  async function write(
    title: string,
    facts: Parameters<typeof page>[1],
    sections: readonly Section[],
  ): Promise<void> {
    const html = new TextEncoder().encode(page(title, facts, sections));
    await writeResult(out, html);
    if (!quiet) {
      const names = sections.map(({ title }) => title.toLowerCase()).join(", ");
      console.log(`${names}: ${out} (${(html.length / 2 ** 20).toFixed(1)} MB)`);
    }
  }
}

/** The file and the folder that were given. @throws {UsageError} for two of a kind */
async function audioIn(
  paths: readonly string[],
): Promise<{ file?: string; folder?: string }> {
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
async function partOf(
  path: string,
  start: number,
  seconds: number,
  sampleRate: number,
): Promise<Float32Array> {
  const first = Math.round(start * sampleRate);
  const samples = Math.round(seconds * sampleRate);
  const part = await partOfFile(path, first, samples, { sampleRate }).catch((error) => {
    throw error instanceof AudioError ? new NoDataError(`${path}: ${error.message}`) : error;
  });
  if (part.samples.length > 0) return part.samples;
  const length = (part.of / sampleRate).toFixed(2);
  throw new UsageError(`--start ${start}: ${path} has ${length} s`);
}
