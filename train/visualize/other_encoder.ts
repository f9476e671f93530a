/**
 * What encoders of other systems make of a clip: what their own front end gives, and its embedding
 * over time.
 *
 * @module
 */
import { type Device, scope } from "../../engine/functions.ts";
import { LogMel, MATPAC_STATISTICS } from "../../model/frontend/log_mel.ts";
import { FRAME_SAMPLES } from "../../model/frontend/tables.ts";
import type { PretrainedEncoder } from "../../model/pretrained/encoder.ts";
import type { ClipEncoder } from "../downstream/clip_encoder.ts";
import { trajectoryOf } from "./clip.ts";
import type { Section } from "./page.ts";
import { decibels, drawInput, type Spectrogram } from "./spectrogram.ts";
import { drawTrajectory } from "./trajectory.ts";

/** A clip at the rate of the pictures, 16 kHz, and at the encoder's. */
export interface TwoRates {
  readonly waveform: Float32Array;
  readonly own: Float32Array;
}

/** What a front end gives of a clip. */
export interface FrontendOutput {
  /** [bands, frames], in the front end's own units. */
  readonly values: Float32Array;
  /** Mel bands. */
  readonly bands: number;
  /** Frames. */
  readonly frames: number;
  /** Frequencies that are marked, and where they are: 0 below the first band, 1 above the last. */
  readonly hertz: readonly (readonly [hz: number, share: number])[];
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
 * @param any with `encoder` in it
 * @param start second of the file where the clip begins
 */
export async function otherSections(
  any: ClipEncoder,
  encoder: PretrainedEncoder,
  { waveform, own }: TwoRates,
  start: number,
): Promise<Section[]> {
  const { title, frontend } = encoder.info;
  const spectrogram = await spectrogramOf(encoder.device, waveform, start);
  const trajectory = await trajectoryOf(any, own);
  const input: Section = {
    title: "Input",
    words: [
      `The clip's log-mel spectrogram as MATPAC's front end has it; ${title} gets ${frontend}.`,
    ],
    drawings: [drawInput(spectrogram, { chunkFrames: spectrogram.frames, chunkStart: 0 })],
  };
  if (!trajectory) {
    const words = ["The clip has fewer than three time steps; there is no path to draw."];
    return [input, { title: "Embedding over time", words }];
  }
  const { points, step, size } = trajectory;
  return [input, {
    title: "Embedding over time",
    words: [
      `${points.length} time steps of ${Number(step.toFixed(3))} s (${size} values), along the ` +
      "principal components of this clip.",
    ],
    drawings: [drawTrajectory(trajectory, spectrogram)],
  }];
}
