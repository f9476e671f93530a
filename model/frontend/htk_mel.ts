/**
 * Mel spectrograms in decibels, as torchaudio's `MelSpectrogram` and `AmplitudeToDB` make them,
 * which ATST, CED and Dasheng take: HTK's mel scale, a floor so many dB below the loudest value of
 * the clip (model/README.md, Encoders of others).
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
  ...{ size: 1024, hop: 160, bands: 64, fmin: 60, fmax: 7800, sampleRate: 16_000, range: 80 },
} as const;
/** Sizes of the front end of CED and Dasheng: frames of 32 ms every 10 ms at 16 kHz. */
export const CED_MEL = {
  ...{ size: 512, hop: 160, bands: 64, fmin: 0, fmax: 8000, sampleRate: 16_000, range: 120 },
} as const;

/** Lowest and highest decibels over its training data, which become -1 and 1. */
const [LOWEST, HIGHEST] = [-79.6482, 50.6842];
/** Least power. */
const FLOOR = 1e-10;

/** What such a front end has. */
export interface MelDecibelsOptions {
  /** Samples of a frame, a power of two. */
  readonly size: number;
  /** Samples from one frame to the next. */
  readonly hop: number;
  /** Filters. */
  readonly bands: number;
  /** Lower edge of the first filter, Hz. */
  readonly fmin: number;
  /** Upper edge of the last filter, Hz. */
  readonly fmax: number;
  /** Samples per second. */
  readonly sampleRate: number;
  /** Decibels below the loudest value of a clip at which others are cut off. */
  readonly range: number;
}

/**
 * Triangles on HTK's mel scale, 2595 log10(1 + f / 700), linear in Hz, of height 1.
 *
 * @returns [bands, size / 2 + 1]
 */
export function htkMelFilterbank(
  { size, bands, fmin, fmax, sampleRate }: MelDecibelsOptions,
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
export function centredFrames(samples: number, { size, hop }: MelDecibelsOptions): number {
  return samples > size / 2 ? 1 + Math.floor(samples / hop) : 0;
}

/** {@link centredFrames} of ATST. */
export function atstFrames(samples: number): number {
  return centredFrames(samples, ATST_MEL);
}

/** Mel decibels of mono audio. */
export class MelDecibels implements Disposable {
  readonly #window: Tensor;
  readonly #filters: Tensor;

  /** Uploads window and filters. */
  constructor(readonly device: Device, readonly options: MelDecibelsOptions) {
    const { size, bands } = options;
    this.#window = device.tensor(hannPeriodic(size));
    this.#filters = device.tensor(htkMelFilterbank(options), [bands, size / 2 + 1]);
  }

  /**
   * Decibels.
   *
   * @param waves [clips, samples], in [-1, 1]
   * @returns [clips, frames, bands]
   * @throws {ShapeError} if the audio is not longer than half a frame.
   */
  apply(waves: Tensor): Tensor {
    const { size, hop, range } = this.options;
    if (waves.shape.length !== 2 || centredFrames(waves.shape[1], this.options) === 0) {
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
        const floor = sub(max(decibels, { axes: [1, 2], keepDims: true }), range);
        return maximum(decibels, floor);
      })
    );
  }

  /** Frees window and filters. */
  [Symbol.dispose](): void {
    this.#window.dispose();
    this.#filters.dispose();
  }
}

/** Mel decibels of 16 kHz mono audio: {@link ATST_MEL}. */
export class AtstMel extends MelDecibels {
  /** Uploads window and filters. */
  constructor(device: Device) {
    super(device, ATST_MEL);
  }

  /** @inheritdoc From -1 to 1 over what ATST was trained on. */
  override apply(waves: Tensor): Tensor {
    const factor = 2 / (HIGHEST - LOWEST);
    return noGrad(() => scope(() => sub(mul(add(super.apply(waves), -LOWEST), factor), 1)));
  }
}
