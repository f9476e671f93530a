/**
 * What encoders of other systems make of a clip: what their own front end gives, whom its patches
 * attend to, and its embedding over time.
 *
 * @module
 */
import { scope } from "../../engine/functions.ts";
import type { AttentionMaps, AttentionQuery } from "../../model/encoder/attention_maps.ts";
import type { PretrainedEncoder } from "../../model/pretrained/encoder.ts";
import type { PatchGrid } from "../../model/vit/geometry.ts";
import type { ClipEncoder } from "../downstream/clip_encoder.ts";
import { type AttentionChoice, attentionPictures } from "./attention.ts";
import { tokenAmong, trajectoryOf } from "./clip.ts";
import type { Section } from "./page.ts";
import { cutFrames, drawInput, FRAME_SECONDS, type Spectrogram } from "./spectrogram.ts";
import type { FrequencyMarks } from "./svg.ts";
import { drawTrajectory } from "./trajectory.ts";

/** What a front end gives of a clip. */
export interface FrontendOutput {
  /** [bands, frames], in the front end's own units. */
  readonly values: Float32Array;
  /** Mel bands. */
  readonly bands: number;
  /** Frames. */
  readonly frames: number;
  /** Frequencies that are marked, and where they are: 0 below the first band, 1 above the last. */
  readonly hertz: FrequencyMarks;
}

/** Frequencies that are marked. */
export const MARKED_HZ: readonly number[] = [100, 500, 1000, 2000, 4000, 8000];

/**
 * The front end's output of a waveform at the encoder's rate. Where a frequency is on its axis is
 * found by what it makes of tones.
 */
export async function frontendOutput(
  encoder: PretrainedEncoder,
  waveform: Float32Array,
): Promise<FrontendOutput> {
  const { device, info: { sampleRate, minSamples } } = encoder;
  const output = async (waves: readonly Float32Array[]) => {
    const size = Math.max(minSamples, waves[0].length);
    const all = new Float32Array(waves.length * size);
    waves.forEach((it, i) => all.set(it, i * size));
    using features = scope(() => encoder.features(device.tensor(all, [waves.length, size])));
    const [, frames, bands] = features.shape;
    return { values: await features.data() as Float32Array, frames, bands };
  };
  const { values, frames, bands } = await output([waveform]);
  const marked = MARKED_HZ.filter((hz) => hz < 0.45 * sampleRate);
  const tones = await output(marked.map((hz) =>
    Float32Array.from(
      { length: Math.round(0.3 * sampleRate) },
      (_, i) => 0.5 * Math.sin(2 * Math.PI * hz * i / sampleRate),
    )
  ));
  return {
    values: values.map((_, i) => values[i % frames * bands + Math.floor(i / frames)]),
    ...{ bands, frames },
    hertz: marked.map((hz, tone) => {
      const first = (tone * tones.frames + Math.floor(tones.frames / 2)) * bands;
      const frame = tones.values.subarray(first, first + bands);
      return [hz, (frame.indexOf(Math.max(...frame)) + 0.5) / bands];
    }),
  };
}

/** A part of a sound whose attention is drawn. */
export interface AttendedPart {
  /** The part at the encoder's rate; silence behind a sound that is shorter than it takes. */
  readonly wave: Float32Array;
  /** Sample of the sound where it begins. */
  readonly first: number;
  /** Its patches. */
  readonly grid: PatchGrid;
  /** First frame of the front end's output, and how many its patches cover. */
  readonly frames: readonly [first: number, count: number];
  /** The patch with most in it. */
  readonly loudest: number;
}

/** Seconds of a sound whose attention is drawn. */
const MOST_PART = 10;

/**
 * The part of a sound whose attention is drawn, of at most 10 s; undefined where the encoder gives
 * none.
 *
 * @param waveform at the encoder's rate
 * @param at sample that it has to hold; default the part with most power
 */
export function attendedPart(
  encoder: PretrainedEncoder,
  waveform: Float32Array,
  output: FrontendOutput,
  at?: number,
): AttendedPart | undefined {
  const { attention, sampleRate, minSamples, rows } = encoder.info;
  if (!attention) return undefined;
  const { columnSamples, columns: most } = attention;
  const size = Math.min(MOST_PART * sampleRate, most * columnSamples);
  const last = Math.max(0, waveform.length - size);
  const first = at === undefined
    ? loudestPart(waveform, size)
    : Math.max(0, Math.min(last, Math.floor(at / size) * size));
  const wave = new Float32Array(Math.max(minSamples, Math.min(size, waveform.length)));
  wave.set(waveform.subarray(first, first + size));
  const grid = { rows, columns: Math.min(most, encoder.columnsOf(wave.length)) };
  const length = Math.max(minSamples, waveform.length);
  const [from, wide] = [first, grid.columns * columnSamples].map((it) =>
    Math.min(output.frames, Math.round(it / length * output.frames))
  );
  const frames = [from, Math.min(wide, output.frames - from)] as const;
  return { wave, first, grid, frames, loudest: loudestPatch(output, frames, grid) };
}

/** Where the part of so many samples with most power begins; the last one ends with the sound. */
function loudestPart(waveform: Float32Array, size: number): number {
  let [best, most] = [0, -1];
  for (let at = 0; at < waveform.length; at += size) {
    const first = Math.max(0, Math.min(at, waveform.length - size));
    const power = waveform.subarray(first, first + size).reduce((sum, it) => sum + it * it, 0);
    if (power > most) [best, most] = [first, power];
  }
  return best;
}

/** The patch with the largest mean of a front end's values, of a grid over some of its frames. */
function loudestPatch(
  { values, frames, bands }: FrontendOutput,
  [from, wide]: readonly [first: number, count: number],
  { rows, columns }: PatchGrid,
): number {
  const [sums, counts] = [0, 1].map(() => new Float64Array(rows * columns));
  for (let t = from; t < from + wide; t++) {
    const column = Math.min(columns - 1, Math.floor((t - from) / wide * columns));
    for (let band = 0; band < bands; band++) {
      const patch = Math.floor(band / bands * rows) * columns + column;
      sums[patch] += values[band * frames + t];
      counts[patch]++;
    }
  }
  const means = sums.map((it, i) => counts[i] > 0 ? it / counts[i] : -Infinity);
  return means.reduce((best, it, i) => it > means[best] ? i : best, 0);
}

/** Where a frequency is between the marks of an axis, on a logarithmic scale. */
function shareOf(hz: number, marks: FrequencyMarks): number {
  const above = marks.findIndex(([mark]) => mark >= hz);
  if (above <= 0) return above === 0 ? marks[0][1] : marks[marks.length - 1]?.[1] ?? 0;
  const [[low, from], [high, to]] = [marks[above - 1], marks[above]];
  return from + (to - from) * Math.log(hz / low) / Math.log(high / low);
}

/** Attention of some tokens of a part. */
async function attentionOfPart(
  encoder: PretrainedEncoder,
  { wave, grid }: AttendedPart,
  queries: readonly AttentionQuery[],
): Promise<AttentionMaps> {
  const { attention, heads, depth } = encoder.info;
  const own = attention!.own;
  const tokens = own + grid.rows * grid.columns;
  const layers = Array.from(
    { length: depth },
    () => new Float32Array(heads * queries.length * tokens),
  );
  for (const [i, query] of queries.entries()) {
    const { columns } = grid;
    const place = query === "class"
      ? 0
      : { row: Math.floor(query / columns), column: query % columns };
    const { blocks } = await encoder.attention(wave, place);
    blocks.forEach((weights, layer) => {
      for (let head = 0; head < heads; head++) {
        const row = weights.subarray(head * tokens, (head + 1) * tokens);
        layers[layer].set(row, (head * queries.length + i) * tokens);
      }
    });
  }
  return { grid, heads, classTokens: own, queries, layers };
}

/**
 * Input, attention and path of a clip.
 *
 * @param any with `encoder` in it
 * @param waveform at the encoder's rate
 * @param start second of the file where the clip begins
 * @throws {UsageError} if there is no such layer, head or patch
 */
export async function otherSections(
  any: ClipEncoder,
  encoder: PretrainedEncoder,
  waveform: Float32Array,
  start: number,
  choice: AttentionChoice,
): Promise<Section[]> {
  const { title, frontend, attention, sampleRate } = encoder.info;
  const output = await frontendOutput(encoder, waveform);
  const { values, frames, bands, hertz: marks } = output;
  const spectrogram: Spectrogram = { values, frames, bands, start, marks };
  const { patch } = choice;
  const at = patch?.kind === "place" ? Math.round((patch.seconds - start) * sampleRate) : undefined;
  const part = attendedPart(encoder, waveform, output, at);
  const [chunkStart, chunkFrames] = part?.frames ?? [0, frames];
  const input: Section = {
    title: "Input",
    words: [`What ${title} gets: ${frontend}.`],
    drawings: [drawInput(spectrogram, { chunkFrames, chunkStart })],
  };
  const sections = [input];
  if (attention && part) {
    const chunk = cutFrames(spectrogram, chunkStart, chunkFrames);
    const hasClass = attention.own > 0;
    const token = tokenAmong(patch ?? { kind: "loudest" }, {
      ...{ grid: part.grid, hasClass, loudest: part.loudest, start: chunk.start },
      length: chunkFrames * FRAME_SECONDS,
      most: sampleRate / 2,
      shareOf: (hz) => shareOf(hz, marks),
    });
    const queries = patch === undefined && hasClass ? [token, "class" as const] : [token];
    const maps = await attentionOfPart(encoder, part, queries);
    sections.push(attentionPictures(maps, chunk, choice));
  }
  const trajectory = await trajectoryOf(any, waveform);
  if (!trajectory) {
    const words = ["The clip has fewer than three time steps; there is no path to draw."];
    return [...sections, { title: "Embedding over time", words }];
  }
  const { points, step, size } = trajectory;
  return [...sections, {
    title: "Embedding over time",
    words: [
      `${points.length} time steps of ${Number(step.toFixed(3))} s (${size} values), along the ` +
      "principal components of this clip.",
    ],
    drawings: [drawTrajectory(trajectory, spectrogram)],
  }];
}
