/**
 * Log-mel spectrograms as pictures.
 *
 * @module
 */
import { FRAME_SAMPLES, HOP_SAMPLES, SAMPLE_RATE } from "../../model/frontend/tables.ts";
import { VIRIDIS } from "./colours.ts";
import { text } from "./markup.ts";
import {
  type Box,
  colourBar,
  drawing,
  frequencyAxis,
  type FrequencyMarks,
  LEFT,
  marked,
  outline,
  raster,
  RIGHT,
  timeAxis,
  WIDTH,
} from "./svg.ts";

/** Seconds from one frame to the next. */
export const FRAME_SECONDS: number = HOP_SAMPLES / SAMPLE_RATE;

/** A spectrogram in decibels, or what another system's front end gives. */
export interface Spectrogram {
  /** [bands, frames], 10 log10 of the mel power; or a front end's own units. */
  readonly values: Float32Array;
  /** Frames. */
  readonly frames: number;
  /** Mel bands. */
  readonly bands: number;
  /** Where the first frame is in the file, in seconds. */
  readonly start: number;
  /** Of another system's front end: its axis. */
  readonly marks?: FrequencyMarks;
}

/** Decibels of a natural logarithm of power. */
const DECIBELS = 10 / Math.LN10;
/** What is shown below the loudest value. */
const DEEPEST = 80;

/** Standardised log-mel values in decibels of mel power. */
export function decibels(
  logmel: Float32Array,
  { mean, std }: { readonly mean: number; readonly std: number },
): Float32Array {
  return logmel.map((it) => (it * std + mean) * DECIBELS);
}

/** A part of a spectrogram. */
export function cutFrames(whole: Spectrogram, first: number, frames: number): Spectrogram {
  const { bands, values } = whole;
  const cut = new Float32Array(bands * frames);
  for (let band = 0; band < bands; band++) {
    const at = band * whole.frames + first;
    cut.set(values.subarray(at, at + frames), band * frames);
  }
  return { ...whole, values: cut, frames, start: whole.start + first * FRAME_SECONDS };
}

/**
 * From the quietest value, at most 80 dB below the loudest, to the loudest, in whole decibels; of
 * another front end without the least fiftieth.
 */
export function rangeOf({ values, marks }: Spectrogram): readonly [number, number] {
  if (marks) return quantileRange(values);
  const [least, most] = values.reduce(
    ([a, b], it) => [Math.min(a, it), Math.max(b, it)],
    [Infinity, -Infinity],
  );
  const high = Math.ceil(most);
  return [Math.min(high - 1, Math.max(Math.floor(least), high - DEEPEST)), high];
}

/** Values from the 2 % quantile to the largest. */
export function quantileRange(values: Float32Array): readonly [low: number, high: number] {
  const sorted = values.toSorted();
  const [low, high] = [sorted[Math.floor(0.02 * sorted.length)], sorted[sorted.length - 1]];
  return high > low ? [low, high] : [low, low + 1];
}

/** The seconds that a spectrogram covers. */
export function secondsOf({ start, frames }: Spectrogram): [number, number] {
  return [start, start + frames * FRAME_SECONDS];
}

/** Part of a box that patches cover. */
export function patchBox(
  box: Box,
  { rows, columns }: { readonly rows: number; readonly columns: number },
  row: number,
  column: number,
  count = 1,
): Box {
  const [width, height] = [box.width / columns, box.height / rows];
  return {
    x: box.x + column * width,
    y: box.y + (rows - 1 - row) * height,
    width: width * count,
    height,
  };
}

/** A panel with a spectrogram, frequencies and a bar of its values. */
export function panel(
  box: Box,
  { values, bands, frames, marks }: Spectrogram,
  range: readonly [number, number],
): string {
  return [
    raster(box, { values, rows: bands, columns: frames, range, map: VIRIDIS }),
    outline(box),
    frequencyAxis(box, marks),
    colourBar(box, { map: VIRIDIS, range, title: marks ? "its own units" : "mel power, dB" }),
  ].join("");
}

/** The box of panels at a height. */
export function panelBox(y: number, height: number): Box {
  return { x: LEFT, y, width: WIDTH - LEFT - RIGHT, height };
}

/** What is marked in {@link drawInput}. */
export interface Marks {
  /** Frames of the chunk that the pictures below are of. */
  readonly chunkFrames: number;
  /** Where it begins. */
  readonly chunkStart: number;
}

/** The whole clip, the chunk outlined. */
export function drawInput(clip: Spectrogram, { chunkFrames, chunkStart }: Marks): string {
  const box = panelBox(24, 200);
  const scale = box.width / clip.frames;
  const chunk = { ...box, x: box.x + scale * chunkStart, width: scale * chunkFrames };
  const [first, last] = secondsOf(cutFrames(clip, chunkStart, chunkFrames));
  return drawing(box.y + box.height + 44, "Log-mel spectrogram of the clip", [
    panel(box, clip, rangeOf(clip)),
    ...(chunkFrames < clip.frames
      ? [
        marked(chunk),
        text(chunk.x, 16, `chunk: ${first.toFixed(2)} to ${last.toFixed(2)} s`, {
          fill: "var(--faint)",
        }),
      ]
      : []),
    timeAxis(box, secondsOf(clip), "seconds"),
  ]);
}

/** Samples that frames cover. */
export function samplesOfFrames(frames: number): number {
  return (frames - 1) * HOP_SAMPLES + FRAME_SAMPLES;
}
