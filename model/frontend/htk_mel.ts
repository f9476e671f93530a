/**
 * Mel spectrograms in decibels, as torchaudio's `MelSpectrogram` and `AmplitudeToDB` make them,
 * which ATST takes: HTK's mel scale, a floor 80 dB below the loudest value of the clip
 * (model/README.md, Encoders of others).
 *
 * @module
 */
import {
  add,
  type Device,
  linear,
  log,
  max,
  maximum,
  mul,
  noGrad,
  pad,
  scope,
  ShapeError,
  square,
  stft,
  sub,
  sum,
  type Tensor,
} from "../../engine/functions.ts";
import { hannPeriodic } from "./tables.ts";

/** Sizes of ATST's front end: frames of 64 ms every 10 ms at 16 kHz. */
export const ATST_MEL = {
  ...{ size: 1024, hop: 160, bands: 64, fmin: 60, fmax: 7800, sampleRate: 16_000 },
} as const;

/** Lowest and highest decibels over its training data, which become -1 and 1. */
const [LOWEST, HIGHEST] = [-79.6482, 50.6842];
/** Least power. */
const FLOOR = 1e-10;
/** Decibels below the loudest value of a clip at which others are cut off. */
const RANGE = 80;

/**
 * Triangles on HTK's mel scale, 2595 log10(1 + f / 700), linear in Hz, of height 1.
 *
 * @returns [bands, size / 2 + 1]
 */
export function htkMelFilterbank(
  { size, bands, fmin, fmax, sampleRate }: {
    readonly size: number;
    readonly bands: number;
    readonly fmin: number;
    readonly fmax: number;
    readonly sampleRate: number;
  },
): Float32Array<ArrayBuffer> {
  const mel = (hz: number) => 2595 * Math.log10(1 + hz / 700);
  const [low, high] = [mel(fmin), mel(fmax)];
  const edges = Array.from(
    { length: bands + 2 },
    (_, i) => 700 * (10 ** ((low + i * (high - low) / (bands + 1)) / 2595) - 1),
  );
  const bins = size / 2 + 1;
  return Float32Array.from({ length: bands * bins }, (_, i) => {
    const [left, centre, right] = edges.slice(Math.floor(i / bins), Math.floor(i / bins) + 3);
    const hz = i % bins * sampleRate / size;
    return Math.max(0, Math.min((hz - left) / (centre - left), (right - hz) / (right - centre)));
  });
}

/** Frames of a signal, whose ends are mirrored; 0 where it is too short for that. */
export function atstFrames(samples: number): number {
  return samples > ATST_MEL.size / 2 ? 1 + Math.floor(samples / ATST_MEL.hop) : 0;
}

/** Mel decibels of 16 kHz mono audio: {@link ATST_MEL}. */
export class AtstMel implements Disposable {
  readonly #window: Tensor;
  readonly #filters: Tensor;

  /** Uploads window and filters. */
  constructor(readonly device: Device) {
    const { size, bands } = ATST_MEL;
    this.#window = device.tensor(hannPeriodic(size));
    this.#filters = device.tensor(htkMelFilterbank(ATST_MEL), [bands, size / 2 + 1]);
  }

  /**
   * Decibels, from -1 to 1 over what ATST was trained on.
   *
   * @param waves [clips, samples], in [-1, 1]
   * @returns [clips, frames, 64]
   * @throws {ShapeError} if the audio is shorter than 513 samples.
   */
  apply(waves: Tensor): Tensor {
    const { size, hop } = ATST_MEL;
    if (waves.shape.length !== 2 || atstFrames(waves.shape[1]) === 0) {
      throw new ShapeError(
        `mel decibels: audio [${waves.shape}] is not [clips, samples] of at least ` +
          `${size / 2 + 1} samples`,
      );
    }
    return noGrad(() =>
      scope(() => {
        const centred = pad(waves, [[0, 0], [size / 2, size / 2]], "reflect");
        const spectrum = stft(centred, { size, hop, window: this.#window });
        const mel = linear(sum(square(spectrum), { axes: [3] }), this.#filters);
        const decibels = mul(log(maximum(mel, FLOOR)), 10 / Math.LN10);
        const floor = sub(max(decibels, { axes: [1, 2], keepDims: true }), RANGE);
        const factor = 2 / (HIGHEST - LOWEST);
        return sub(mul(add(maximum(decibels, floor), -LOWEST), factor), 1);
      })
    );
  }

  /** Frees window and filters. */
  [Symbol.dispose](): void {
    this.#window.dispose();
    this.#filters.dispose();
  }
}
