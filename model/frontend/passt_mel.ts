/**
 * Log-mel of 32 kHz audio as PaSST takes it: pre-emphasis over the whole clip, a symmetric Hann
 * window shorter than the transform, Kaldi's filters (model/README.md, Encoders of others).
 *
 * @module
 */
import {
  add,
  type Device,
  diff,
  linear,
  log,
  mul,
  noGrad,
  pad,
  scope,
  ShapeError,
  slice,
  square,
  stft,
  sum,
  type Tensor,
} from "../../engine/functions.ts";
import { kaldiMelFilterbank } from "./kaldi_fbank.ts";

/** Sizes of PaSST's front end: windows of 25 ms every 10 ms at 32 kHz. */
export const PASST_MEL = {
  ...{ size: 1024, bands: 128, fmin: 0, fmax: 15_000, sampleRate: 32_000 },
  window: 800,
  hop: 320,
} as const;

/** Factor of the sample before in the pre-emphasis, which is a convolution in float32. */
const PREEMPHASIS = Math.fround(0.97);
/** Added to mel power before the logarithm. */
const OFFSET = 1e-5;
/** The logarithm is standardised so: (x + SHIFT) / RANGE. */
const [SHIFT, RANGE] = [4.5, 5];

/** The symmetric Hann window 0.5 - 0.5 cos(2 pi n / (length - 1)). */
export function hannSymmetric(length: number): Float32Array<ArrayBuffer> {
  return Float32Array.from(
    { length },
    (_, n) => 0.5 - 0.5 * Math.cos(2 * Math.PI * n / (length - 1)),
  );
}

/** Frames of a signal, whose ends are mirrored; 0 where it is too short for that. */
export function passtFrames(samples: number): number {
  const { size, hop } = PASST_MEL;
  return samples > size / 2 + 1 ? 1 + Math.floor((samples - 1) / hop) : 0;
}

/** Log-mel of 32 kHz mono audio: {@link PASST_MEL}. */
export class PasstMel implements Disposable {
  readonly #window: Tensor;
  readonly #filters: Tensor;

  /** Uploads window and filters. */
  constructor(readonly device: Device) {
    const { size, bands, window } = PASST_MEL;
    const padded = new Float32Array(size);
    padded.set(hannSymmetric(window), (size - window) / 2);
    this.#window = device.tensor(padded);
    this.#filters = device.tensor(kaldiMelFilterbank(PASST_MEL), [bands, size / 2 + 1]);
  }

  /**
   * Standardised log-mel.
   *
   * @param waves [clips, samples], in [-1, 1]
   * @returns [clips, frames, 128]
   * @throws {ShapeError} if the audio is shorter than 514 samples.
   */
  apply(waves: Tensor): Tensor {
    const { size, hop } = PASST_MEL;
    const [, samples] = waves.shape;
    if (waves.shape.length !== 2 || passtFrames(samples) === 0) {
      throw new ShapeError(
        `log-mel: audio [${waves.shape}] is not [clips, samples] of at least ${
          size / 2 + 2
        } samples`,
      );
    }
    return noGrad(() =>
      scope(() => {
        // x[i + 1] - 0.97 x[i]: differences of neighbours in 16-bit audio are exact.
        const before = slice(waves, 1, 0, samples - 1);
        const emphasised = add(diff(waves), mul(before, 1 - PREEMPHASIS));
        const centred = pad(emphasised, [[0, 0], [size / 2, size / 2]], "reflect");
        const spectrum = stft(centred, { size, hop, window: this.#window });
        const mel = linear(sum(square(spectrum), { axes: [3] }), this.#filters);
        return mul(add(log(add(mel, OFFSET)), SHIFT), 1 / RANGE);
      })
    );
  }

  /** Frees window and filters. */
  [Symbol.dispose](): void {
    this.#window.dispose();
    this.#filters.dispose();
  }
}
