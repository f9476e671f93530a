/**
 * What a masked autoencoder saw, made of it, and missed, one below the other.
 *
 * @module
 */
import type { Reconstruction } from "../../model/objectives/reconstruct.ts";
import { MAGMA } from "./colours.ts";
import { decibels, panel, panelBox, rangeOf, secondsOf, type Spectrogram } from "./spectrogram.ts";
import { tag, text } from "./markup.ts";
import { colourBar, drawing, frequencyAxis, outline, raster, timeAxis } from "./svg.ts";

/** How far a reconstruction is from the input. */
export interface ReconstructionError {
  /**
   * Mean squared error of masked patches, standardised values: the loss, unless patches are
   * normalised.
   */
  readonly loss: number;
  /** The same of a guess: each masked value is the mean of the visible values of its band. */
  readonly guess: number;
  /** Mean absolute error of masked patches in dB. */
  readonly decibels: number;
  /** Share of masked patches. */
  readonly masked: number;
}

type Statistics = { readonly mean: number; readonly std: number };

/** Calls `visit` with band and index of every value of masked (or visible) patches. */
function eachValue(
  { grid: { rows, columns }, patch: [high, wide], mask }: Reconstruction,
  masked: boolean,
  visit: (band: number, at: number) => void,
): void {
  const frames = columns * wide;
  for (let band = 0; band < rows * high; band++) {
    for (let t = 0; t < frames; t++) {
      const token = Math.floor(band / high) * columns + Math.floor(t / wide);
      if ((mask[token] === 1) === masked) visit(band, band * frames + t);
    }
  }
}

/** Errors over masked patches. */
export function errorOf(it: Reconstruction, { std }: Statistics): ReconstructionError {
  const bands = it.grid.rows * it.patch[0];
  const [sums, counts] = [new Float64Array(bands), new Float64Array(bands)];
  let [all, total] = [0, 0];
  eachValue(it, false, (band, at) => {
    sums[band] += it.input[at];
    counts[band]++;
    total += it.input[at];
    all++;
  });
  let [squares, guessed, absolute, count] = [0, 0, 0, 0];
  eachValue(it, true, (band, at) => {
    const error = it.reconstruction[at] - it.input[at];
    // A band without visible patches is guessed from all of them.
    const guess = counts[band] > 0 ? sums[band] / counts[band] : total / Math.max(1, all);
    squares += error ** 2;
    guessed += (guess - it.input[at]) ** 2;
    absolute += Math.abs(error);
    count++;
  });
  return {
    loss: squares / count,
    guess: guessed / count,
    decibels: absolute / count * std * 10 / Math.LN10,
    masked: count / (count + all),
  };
}

const HEIGHT = 130;
const STEP = HEIGHT + 34;

/**
 * Four pictures on one time axis: input, input without what is masked, reconstruction with visible
 * patches of the input, and the error. The first three share their colours.
 *
 * @param start seconds in the file where the chunk begins
 */
export function drawReconstruction(
  it: Reconstruction,
  statistics: Statistics,
  start: number,
): string {
  const frames = it.grid.columns * it.patch[1];
  const bands = it.grid.rows * it.patch[0];
  const picture = (values: Float32Array): Spectrogram => ({ values, frames, bands, start });
  const input = picture(decibels(it.input, statistics));
  const made = picture(decibels(it.reconstruction, statistics));
  const visible = picture(input.values.slice());
  eachValue(it, true, (_, at) => visible.values[at] = NaN);
  const error = input.values.map((value, i) => Math.abs(made.values[i] - value));
  const largest = error.toSorted()[Math.floor(0.995 * (error.length - 1))];
  const errorRange = [0, Math.max(1, Math.ceil(largest))] as const;
  const range = rangeOf(input);
  const boxes = Array.from({ length: 4 }, (_, i) => panelBox(24 + i * STEP, HEIGHT));
  const title = (i: number, words: string) =>
    text(boxes[i].x, boxes[i].y - 8, words, { "font-weight": "bold" });
  const masked = it.mask.reduce((sum, it) => sum + it, 0);
  return drawing(boxes[3].y + HEIGHT + 44, "Reconstruction of masked patches", [
    tag(
      "pattern",
      { id: "hidden", width: 6, height: 6, patternUnits: "userSpaceOnUse" },
      tag("rect", { width: 6, height: 6, fill: "var(--panel)" }) +
        tag("path", { d: "M0 6L6 0", stroke: "var(--line)" }),
    ),
    title(0, "Input"),
    panel(boxes[0], input, range),
    title(1, `What the encoder sees: ${it.mask.length - masked} of ${it.mask.length} patches`),
    tag("rect", { ...boxes[1], fill: "url(#hidden)" }),
    panel(boxes[1], visible, range),
    title(2, "Reconstruction: predictions where it was masked, the input elsewhere"),
    panel(boxes[2], made, range),
    title(3, "Error: |reconstruction − input|"),
    raster(boxes[3], {
      values: error,
      rows: bands,
      columns: frames,
      range: errorRange,
      map: MAGMA,
    }),
    outline(boxes[3]),
    frequencyAxis(boxes[3]),
    colourBar(boxes[3], { map: MAGMA, range: errorRange, title: "error, dB" }),
    timeAxis(boxes[3], secondsOf(input), "seconds"),
  ]);
}
