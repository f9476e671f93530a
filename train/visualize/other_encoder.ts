/**
 * What encoders of other systems make of a clip: its embedding over time. Attention and
 * reconstructions are of this project's models.
 *
 * @module
 */
import type { Device } from "../../engine/mod.ts";
import { LogMel, MATPAC_STATISTICS } from "../../model/frontend/log_mel.ts";
import { FRAME_SAMPLES } from "../../model/frontend/tables.ts";
import type { PretrainedEncoder } from "../../model/pretrained/encoder.ts";
import type { Section } from "./page.ts";
import { principalComponents } from "./projection.ts";
import { decibels, drawInput, type Spectrogram } from "./spectrogram.ts";
import { drawTrajectory } from "./trajectory.ts";

/** A clip at the rate of the pictures, 16 kHz, and at the encoder's. */
export interface TwoRates {
  readonly waveform: Float32Array;
  readonly own: Float32Array;
}

/** The log-mel spectrogram that this project's encoders get, of any sound. */
async function spectrogramOf(
  device: Device,
  waveform: Float32Array,
  start: number,
): Promise<Spectrogram> {
  using tables = new LogMel(device, { statistics: MATPAC_STATISTICS, order: "torchaudio" });
  const filled = new Float32Array(Math.max(waveform.length, FRAME_SAMPLES));
  filled.set(waveform);
  using input = device.tensor(filled, [1, filled.length]);
  using output = tables.apply(input);
  const [, bands, frames] = output.shape;
  const values = decibels(await output.data() as Float32Array, MATPAC_STATISTICS);
  return { values, frames, bands, start };
}

/**
 * Input and path of a clip.
 *
 * @param start second of the file where the clip begins
 */
export async function otherSections(
  encoder: PretrainedEncoder,
  { waveform, own }: TwoRates,
  start: number,
): Promise<Section[]> {
  const { title, frontend } = encoder.info;
  const spectrogram = await spectrogramOf(encoder.device, waveform, start);
  const { values, steps, times } = await encoder.embed(own, { pool: "none" });
  const size = values.length / steps;
  const input: Section = {
    title: "Input",
    words: [
      `The clip's log-mel spectrogram as MATPAC's front end has it; ${title} gets ${frontend}.`,
    ],
    drawings: [drawInput(spectrogram, { chunkFrames: spectrogram.frames, chunkStart: 0 })],
  };
  if (steps < 3) {
    const words = ["The clip has fewer than three time steps; there is no path to draw."];
    return [input, { title: "Embedding over time", words }];
  }
  const rows = Array.from({ length: steps }, (_, i) => values.subarray(i * size, (i + 1) * size));
  const seconds = Array.from(times!, (ms) => ms / 1000);
  const step = seconds[1] - seconds[0];
  const trajectory = {
    ...principalComponents(rows, 3),
    ...{ times: seconds, step },
    // Nothing marks where chunks meet.
    chunk: seconds[steps - 1] + step,
  };
  return [input, {
    title: "Embedding over time",
    words: [
      `${steps} time steps of ${Number(step.toFixed(3))} s (${size} values), along the principal ` +
      "components of this clip.",
    ],
    drawings: [drawTrajectory(trajectory, spectrogram)],
  }];
}
