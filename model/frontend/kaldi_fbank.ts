/**
 * Kaldi's filter bank as torchaudio computes it (`compliance.kaldi.fbank`), which BEATs, MAE-AST
 * and AST take: log-mel of frames with pre-emphasis under a Povey window (model/README.md, Encoders
 * of others).
 *
 * @module
 */
import {
  add,
  type Device,
  diff,
  frames,
  linear,
  log,
  maximum,
  mean,
  mul,
  noGrad,
  rfft,
  scope,
  ShapeError,
  slice,
  square,
  sub,
  sum,
  type Tensor,
} from "../../engine/functions.ts";

const f32 = Math.fround;

/** Factor of the sample before in Kaldi's pre-emphasis. */
const PREEMPHASIS = 0.97;
/** What mel power is raised to before the logarithm: float32's machine epsilon. */
const FLOOR = 2 ** -23;

/** What a bank of Kaldi's mel filters covers. */
export interface KaldiMelOptions {
  /** Samples of the Fourier transform, a power of two. */
  readonly size: number;
  /** Number of filters. */
  readonly bands: number;
  /** Lower edge of the first filter, Hz. */
  readonly fmin: number;
  /** Upper edge of the last filter, Hz. */
  readonly fmax: number;
  /** Samples per second. */
  readonly sampleRate: number;
}

/** Sizes of the front end of BEATs and MAE-AST: frames of 25 ms every 10 ms at 16 kHz. */
export const KALDI_128 = {
  ...{ size: 512, bands: 128, fmin: 20, fmax: 8000, sampleRate: 16_000 },
  frame: 400,
  hop: 160,
} as const;

/**
 * Kaldi's Povey window, (0.5 - 0.5 cos(2 pi n / (length - 1)))^0.85: 0 at either end.
 *
 * @returns [length]
 */
export function poveyWindow(length: number): Float32Array<ArrayBuffer> {
  return Float32Array.from(
    { length },
    (_, n) => (0.5 - 0.5 * Math.cos(2 * Math.PI * n / (length - 1))) ** 0.85,
  );
}

/**
 * Triangles of equal width on the mel scale 1127 ln(1 + f / 700), linear in mel, of height 1. The
 * bin at half the sample rate has weight 0. Rounded to float32 where torchaudio rounds, which moves
 * weights by up to 1.4e-5: of {@link KALDI_128} all but 6 are torchaudio's bit for bit. Narrow
 * filters may hold no bin at all, there the fourth.
 *
 * @returns [bands, size / 2 + 1]
 */
export function kaldiMelFilterbank(options: KaldiMelOptions): Float32Array<ArrayBuffer> {
  const { size, bands, fmin, fmax, sampleRate } = options;
  const mel = (hz: number) => 1127 * Math.log(1 + hz / 700);
  const low = mel(fmin);
  const step = f32((mel(fmax) - low) / (bands + 1));
  const edge = (n: number) => f32(f32(low) + f32(n * step));
  const bins = size / 2;
  const table = new Float32Array(bands * (bins + 1));
  for (let bin = 0; bin < bins; bin++) {
    const hz = f32(bin * sampleRate / size);
    const at = f32(1127 * f32(Math.log(f32(1 + f32(hz / 700)))));
    for (let band = 0; band < bands; band++) {
      const [left, centre, right] = [edge(band), edge(band + 1), edge(band + 2)];
      const rising = f32(f32(at - left) / f32(centre - left));
      const falling = f32(f32(right - at) / f32(right - centre));
      table[band * (bins + 1) + bin] = Math.max(0, Math.min(rising, falling));
    }
  }
  return table;
}

/** Frames of a signal; only whole ones count. */
export function kaldiFrames(samples: number): number {
  const { frame, hop } = KALDI_128;
  return samples < frame ? 0 : 1 + Math.floor((samples - frame) / hop);
}

/** Log-mel of 16 kHz mono audio: {@link KALDI_128}. */
export class KaldiFbank implements Disposable {
  readonly #window: Tensor;
  readonly #filters: Tensor;

  /**
   * Uploads window and filters.
   *
   * @param window default {@link poveyWindow}; its first value is 0
   */
  constructor(readonly device: Device, window: Float32Array = poveyWindow(KALDI_128.frame)) {
    // As that is 0, no frame needs its first sample but for the mean.
    this.#window = device.tensor(window.slice(1));
    const { bands, size } = KALDI_128;
    this.#filters = device.tensor(kaldiMelFilterbank(KALDI_128), [bands, size / 2 + 1]);
  }

  /**
   * ln(max(mel power, 2^-23)), not standardised.
   *
   * @param waves [clips, samples]
   * @param scale factor of the samples: Kaldi itself takes 16-bit integers, 32768 times [-1, 1]
   * @returns [clips, frames, 128]
   * @throws {ShapeError} if the audio is shorter than one frame (25 ms).
   */
  apply(waves: Tensor, scale = 1): Tensor {
    const [, samples] = waves.shape;
    const { frame, hop, size } = KALDI_128;
    if (waves.shape.length !== 2 || kaldiFrames(samples) === 0) {
      throw new ShapeError(
        `Kaldi filter bank: audio [${waves.shape}] is not [clips, samples] of at least one frame ` +
          `of ${frame} samples`,
      );
    }
    return noGrad(() =>
      scope(() => {
        const centre = mean(frames(waves, frame, hop), { axes: [2], keepDims: true });
        // x[i] - c - 0.97 (x[i - 1] - c): differences of neighbours in 16-bit audio are exact, and
        // what is left to round is small.
        const before = frames(slice(waves, 1, 0, samples - 1), frame - 1, hop);
        const steps = frames(diff(waves), frame - 1, hop);
        const emphasised = add(steps, mul(sub(before, centre), 1 - PREEMPHASIS));
        // A frame that lacks its first sample is shifted by one, which changes phases alone.
        const spectrum = rfft(mul(emphasised, this.#window), { n: size });
        const mel = linear(sum(square(spectrum), { axes: [3] }), this.#filters);
        return log(maximum(scale === 1 ? mel : mul(mel, scale * scale), FLOOR));
      })
    );
  }

  /** Frees window and filters. */
  [Symbol.dispose](): void {
    this.#window.dispose();
    this.#filters.dispose();
  }
}
