/**
 * What is computed of one clip: its log-mel spectrogram, attention, embeddings over time,
 * reconstruction and sounds.
 *
 * @module
 */
import {
  type AttentionMaps,
  attentionMaps,
  type AttentionQuery,
} from "../../model/encoder/attention_maps.ts";
import { gridOf } from "../../model/encoder/embed.ts";
import type { Audio, LogMelAudio } from "../../model/encoder/chunks.ts";
import { Encoder } from "../../model/encoder/encoder.ts";
import { LogMel, MATPAC_STATISTICS } from "../../model/frontend/log_mel.ts";
import { CENTRE_PAD, FRAME_SAMPLES, MEL_80 } from "../../model/frontend/tables.ts";
import { drawMask, type Masking } from "../../model/objectives/masking.ts";
import type { PatchGrid } from "../../model/vit/geometry.ts";
import { classTokens } from "../../model/vit/tokens.ts";
import type { MsmMae } from "../../model/objectives/msm_mae.ts";
import { reconstruct, type Reconstruction } from "../../model/objectives/reconstruct.ts";
import { Prng } from "../../engine/prng.ts";
import type { ClipEncoder } from "../downstream/clip_encoder.ts";
import { UsageError } from "../errors.ts";
import { chunkAt, loudestChunk } from "./chunk_choice.ts";
import { principalComponents } from "./components.ts";
import { cutFrames, decibels, FRAME_SECONDS, type Spectrogram } from "./spectrogram.ts";
import { bandShare } from "./svg.ts";
import type { Trajectory } from "./trajectory.ts";

/** Which patch attends: by place, by number, the class token, or the one with most power. */
export type PatchChoice =
  | { readonly kind: "loudest" }
  | { readonly kind: "class" }
  | { readonly kind: "index"; readonly index: number }
  | { readonly kind: "place"; readonly seconds: number; readonly hz: number };

/** Reads `--patch`; undefined if it is none of the forms. */
export function patchChoice(words: string): PatchChoice | undefined {
  if (words === "loudest" || words === "class") return { kind: words };
  if (/^\d+$/.test(words)) return { kind: "index", index: Number(words) };
  const place = /^(\d+(?:\.\d+)?|\.\d+),(\d+(?:\.\d+)?)$/.exec(words);
  return place ? { kind: "place", seconds: Number(place[1]), hz: Number(place[2]) } : undefined;
}

/** A clip as the encoder takes it. */
export interface ClipInput {
  /** [bands, frames], standardised. */
  readonly logmel: Float32Array;
  /** Frames. */
  readonly frames: number;
  /** In decibels, for pictures. */
  readonly spectrogram: Spectrogram;
  /** Patches of the chunk that pictures of patches are of. */
  readonly grid: PatchGrid;
  /** [bands, frames of the whole patches of that chunk], standardised. */
  readonly chunk: Float32Array;
  /** Frames of {@link chunk}. */
  readonly chunkFrames: number;
  /** Frame of the clip where {@link chunk} begins. */
  readonly chunkStart: number;
}

/** What log-mel values of an encoder are standardised with. */
export function statisticsOf({ frontend: { statistics } }: Encoder): {
  readonly mean: number;
  readonly std: number;
} {
  return statistics ?? MATPAC_STATISTICS;
}

/**
 * Log-mel spectrogram of a waveform with the encoder's front end, and one of the chunks in which
 * the encoder takes it. A waveform shorter than one patch is filled up with silence.
 *
 * @param start seconds in the file where the waveform begins
 * @param at second of the file that the chunk has to hold; default the chunk with most power
 */
export async function clipInput(
  encoder: Encoder,
  waveform: Float32Array,
  start: number,
  at?: number,
): Promise<ClipInput> {
  const { device, geometry, frontend } = encoder;
  const { melBands, patch } = geometry;
  const centre = frontend.framing === "centred";
  const statistics = statisticsOf(encoder);
  // As many samples as a patch has frames of.
  const fewest = (patch[1] - 1) * FRAME_SECONDS * encoder.sampleRate +
    (centre ? CENTRE_PAD + 1 : FRAME_SAMPLES);
  const filled = new Float32Array(Math.max(waveform.length, fewest));
  filled.set(waveform);
  using tables = new LogMel(device, {
    centre,
    statistics,
    order: centre ? "nnaudio" : "torchaudio",
  });
  using input = device.tensor(filled, [1, filled.length]);
  using output = tables.apply(input);
  const logmel = await output.data() as Float32Array;
  const frames = output.shape[2];
  const { rows, columns } = gridOf(geometry);
  const grid = { rows, columns: Math.min(columns, Math.floor(frames / patch[1])) };
  const chunkFrames = grid.columns * patch[1];
  const values = decibels(logmel, statistics);
  const spectrogram = { values, frames, bands: melBands, start };
  const chunkStart = at === undefined
    ? loudestChunk(spectrogram, chunkFrames)
    : chunkAt(Math.floor((at - start) / FRAME_SECONDS), frames, chunkFrames);
  const chunk = cutFrames({ ...spectrogram, values: logmel }, chunkStart, chunkFrames).values;
  return { logmel, frames, spectrogram, grid, chunk, chunkFrames, chunkStart };
}

/** The clip as an encoder takes it, without computing its log-mel again. */
export const logMelOf = ({ logmel }: ClipInput): LogMelAudio => ({
  logMel: logmel,
  standardised: true,
});

/** The chunk of {@link ClipInput} as a spectrogram in decibels. */
export function chunkSpectrogram({ spectrogram, chunkStart, chunkFrames }: ClipInput): Spectrogram {
  return cutFrames(spectrogram, chunkStart, chunkFrames);
}

/** The tokens of a chunk, and where they are. */
export interface ChunkTokens {
  /** Patches. */
  readonly grid: PatchGrid;
  /** Whether there is a class token. */
  readonly hasClass: boolean;
  /** The patch with most in it. */
  readonly loudest: number;
  /** Second of the file where the chunk begins, and how many it has. */
  readonly start: number;
  readonly length: number;
  /** Highest frequency. */
  readonly most: number;
  /** Where a frequency is on the axis of bands, from 0 to 1. */
  readonly shareOf: (hz: number) => number;
}

/** The token of a choice in a chunk of one of this project's encoders; as {@link tokenAmong}. */
export function tokenOf(choice: PatchChoice, encoder: Encoder, input: ClipInput): AttentionQuery {
  return tokenAmong(choice, {
    ...{ grid: input.grid, loudest: loudest(input), start: chunkSpectrogram(input).start },
    hasClass: classTokens(encoder.geometry) === 1,
    length: input.chunkFrames * FRAME_SECONDS,
    ...{ most: MEL_80.fmax, shareOf: bandShare },
  });
}

/**
 * The token of a choice.
 *
 * @throws {UsageError} if there is no such token in the chunk
 */
export function tokenAmong(
  choice: PatchChoice,
  { grid: { rows, columns }, hasClass, loudest, start, length, most, shareOf }: ChunkTokens,
): AttentionQuery {
  const patches = rows * columns;
  switch (choice.kind) {
    case "class":
      if (hasClass) return "class";
      throw new UsageError("--patch class: the model has no class token");
    case "loudest":
      return loudest;
    case "index":
      if (choice.index < patches) return choice.index;
      throw new UsageError(
        `--patch ${choice.index}: the chunk has patches 0 to ${
          patches - 1
        } (${rows} rows of ${columns})`,
      );
    case "place": {
      const { seconds, hz } = choice;
      if (seconds < start || seconds >= start + length || hz > most) {
        const [from, to] = [start, start + length].map((it) => it.toFixed(2));
        throw new UsageError(
          `--patch ${seconds},${hz}: the chunk is ${from} to ${to} s and 0 to ${most} Hz; ` +
            "--start and --seconds choose the part of the file",
        );
      }
      const column = Math.floor((seconds - start) / length * columns);
      const row = Math.min(rows - 1, Math.floor(shareOf(hz) * rows));
      return row * columns + column;
    }
  }
}

function loudest({ grid: { rows, columns }, chunk, chunkFrames }: ClipInput): number {
  const [high, wide] = [chunk.length / chunkFrames / rows, chunkFrames / columns];
  const sums = new Float64Array(rows * columns);
  chunk.forEach((value, i) => {
    const [band, t] = [Math.floor(i / chunkFrames), i % chunkFrames];
    sums[Math.floor(band / high) * columns + Math.floor(t / wide)] += value;
  });
  return sums.reduce((best, it, i) => it > sums[best] ? i : best, 0);
}

/** Attention of some tokens of the chunk. */
export async function chunkAttention(
  encoder: Encoder,
  { chunk, chunkFrames }: ClipInput,
  queries: readonly AttentionQuery[],
): Promise<AttentionMaps> {
  const { device, network, geometry: { melBands } } = encoder;
  using logmel = device.tensor(chunk, [1, melBands, chunkFrames]);
  return await attentionMaps(network, logmel, queries);
}

/** How a chunk is masked. */
export interface MaskChoice {
  /** What is masked together. */
  readonly masking: Masking;
  /** Share that is masked. */
  readonly ratio: number;
  /** Of the draw. */
  readonly seed: number;
}

/**
 * The chunk reconstructed under a random mask. @throws {UsageError} if the mask leaves all or
 * nothing visible
 */
export async function chunkReconstruction(
  model: MsmMae,
  { chunk, grid }: ClipInput,
  { masking, ratio, seed }: MaskChoice,
): Promise<Reconstruction> {
  const random = new Prng(seed);
  const mask = drawMask(masking, () => random.uniform(), 1, grid, ratio);
  if (mask.visible < 1 || mask.visible === grid.rows * grid.columns) {
    throw new UsageError(
      `--mask-ratio ${ratio}: leaves ${mask.visible} of ${
        grid.rows * grid.columns
      } patches visible`,
    );
  }
  return await reconstruct(model, chunk, mask);
}

/**
 * Embeddings of a clip's time steps along three principal components, and how many values each has;
 * undefined below three steps.
 */
export async function trajectoryOf(
  any: ClipEncoder,
  audio: Audio,
): Promise<Trajectory & { readonly size: number } | undefined> {
  const { values, steps, times } = await any.embed(audio, { pool: "none" });
  if (steps < 3) return undefined;
  const size = values.length / steps;
  const rows = Array.from({ length: steps }, (_, i) => values.subarray(i * size, (i + 1) * size));
  const seconds = Array.from(times!, (ms) => ms / 1000);
  const step = seconds[1] - seconds[0];
  const { encoder } = any;
  return {
    ...principalComponents(rows, 3),
    ...{ times: seconds, step, size },
    // Of other systems nothing marks where chunks meet.
    chunk: encoder instanceof Encoder
      ? encoder.geometry.cropFrames * FRAME_SECONDS
      : seconds[steps - 1] + step,
  };
}
