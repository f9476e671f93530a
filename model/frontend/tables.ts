/**
 * Host-side tables of the audio front end (model/README.md, Front end): window, mel filterbank, and
 * the layouts that `kernels/log_mel.wgsl` reads. Audio is 16 kHz mono in [-1, 1]; the window has
 * 400 samples (25 ms), frames start every 160 samples (10 ms).
 *
 * @module
 */

/** Samples per second of all audio. */
export const SAMPLE_RATE = 16_000;
/** Samples per frame; also the length of the DFT. */
export const FRAME_SAMPLES = 400;
/** Samples from one frame to the next. */
export const HOP_SAMPLES = 160;
/** Bins of a frame's power spectrum, 40 Hz apart. */
export const SPECTRUM_BINS: number = FRAME_SAMPLES / 2 + 1;
/** Added to the mel power before the logarithm: the machine epsilon of float32. */
export const LOG_OFFSET: number = 2 ** -23;
/** Samples that centred framing mirrors at either end. */
export const CENTRE_PAD: number = FRAME_SAMPLES / 2;

/**
 * Whose rounding to reproduce: `torchaudio` (MATPAC) works in float32 throughout, `nnaudio` (M2D,
 * MSM-MAE) in float64 up to the stored table.
 */
export type TableOrder = "torchaudio" | "nnaudio";

const f32 = Math.fround;

/**
 * Number of frames of a signal.
 *
 * @param samples length of the signal
 * @param centre true: frame t covers samples 160 t - 200 … 160 t + 199 of the signal mirrored at
 * its ends (M2D, MSM-MAE); false: 160 t … 160 t + 399 (MATPAC)
 * @returns 0 where the signal is too short: below 400 samples, or below 201 when centred, as
 * mirroring needs more samples than it adds
 */
export function frameCount(samples: number, centre: boolean): number {
  if (centre) return samples > CENTRE_PAD ? 1 + Math.floor(samples / HOP_SAMPLES) : 0;
  return samples >= FRAME_SAMPLES ? 1 + Math.floor((samples - FRAME_SAMPLES) / HOP_SAMPLES) : 0;
}

/**
 * The periodic Hann window 0.5 - 0.5 cos(2 pi n / length).
 *
 * In torchaudio's order the angle is rounded to float32 before the cosine, which moves values by up
 * to 2.4e-7; of 400 values 389 then equal torch's bit for bit, the others are one unit in the last
 * place off.
 *
 * @returns [length]
 */
export function hannPeriodic(
  length: number,
  order: TableOrder = "torchaudio",
): Float32Array<ArrayBuffer> {
  const step = f32(2 * Math.PI / length);
  return Float32Array.from(
    { length },
    (_, n) =>
      order === "torchaudio"
        ? 0.5 - 0.5 * f32(Math.cos(f32(n * step)))
        : 0.5 - 0.5 * Math.cos(2 * Math.PI * n / length),
  );
}

/** What a mel filterbank covers. */
export interface MelOptions {
  /** Bins of the power spectrum, from 0 Hz to half the sample rate. */
  readonly bins: number;
  /** Number of filters. */
  readonly bands: number;
  /** Lower edge of the first filter in Hz. */
  readonly fmin: number;
  /** Upper edge of the last filter in Hz. */
  readonly fmax: number;
  /** Samples per second. */
  readonly sampleRate: number;
  /** Whose rounding to reproduce. */
  readonly order: TableOrder;
}

/** The filterbank of MATPAC, M2D and MSM-MAE, but for the rounding. */
export const MEL_80: Omit<MelOptions, "order"> = {
  bins: SPECTRUM_BINS,
  bands: 80,
  fmin: 50,
  fmax: 8000,
  sampleRate: 16000,
};

// Slaney's mel scale: linear up to 1 kHz (mel 15), then 27 steps per factor of 6.4.
const HZ_PER_MEL = 200 / 3;
const LOG_START_HZ = 1000;
const LOG_START_MEL = LOG_START_HZ / HZ_PER_MEL;
const LOG_STEP = Math.log(6.4) / 27;

/** Hertz to Slaney mel, float64. */
export function hzToMel(hz: number): number {
  return hz < LOG_START_HZ
    ? hz / HZ_PER_MEL
    : LOG_START_MEL + Math.log(hz / LOG_START_HZ) / LOG_STEP;
}

/** Slaney mel to hertz, float64. */
export function melToHz(mel: number): number {
  return mel < LOG_START_MEL
    ? mel * HZ_PER_MEL
    : LOG_START_HZ * Math.exp(LOG_STEP * (mel - LOG_START_MEL));
}

/**
 * `count` equal steps from `start` to `end` as torch's AVX2 kernel rounds them: blocks of 8 from a
 * fused base.
 */
function linspace32(start: number, end: number, count: number): Float64Array {
  const first = f32(start), last = f32(end);
  const step = f32(f32(last - first) / f32(count - 1));
  const at = (i: number): number =>
    i < count >> 1 ? f32(step * i + first) : f32(last - step * (count - 1 - i));
  const whole = count - count % 8;
  return Float64Array.from(
    { length: count },
    (_, i) => i < whole ? f32(f32(step * (i % 8)) + at(i - i % 8)) : at(i),
  );
}

/**
 * Triangular filters on Slaney's mel scale, each of area 1 in Hz (weight 2 / bandwidth at the
 * peak).
 *
 * In nnaudio's order the table equals the official one bit for bit. In torchaudio's order the
 * support is the same and 8 of the 82 edges are one unit in the last place off (torch's vectorised
 * exp): 137 of 388 weights differ, by at most 3.9e-8 (weights reach 2.7e-2).
 *
 * @returns [bins, bands]
 */
export function slaneyMelFilterbank(options: MelOptions): Float32Array<ArrayBuffer> {
  const { bins, bands, fmin, fmax, sampleRate, order } = options;
  const low = hzToMel(fmin), high = hzToMel(fmax);
  const table = new Float32Array(bins * bands);
  const narrow = order === "torchaudio";
  // In float64 rounding is the identity.
  const round = narrow ? f32 : (x: number): number => x;
  const edge = narrow
    ? linspace32(low, high, bands + 2).map((mel) =>
      mel < LOG_START_MEL
        ? f32(f32(HZ_PER_MEL) * mel)
        : f32(LOG_START_HZ * f32(Math.exp(f32(f32(LOG_STEP) * f32(mel - LOG_START_MEL)))))
    )
    : Float64Array.from(
      { length: bands + 2 },
      (_, i) => melToHz(low + i * ((high - low) / (bands + 1))),
    );
  for (let bin = 0; bin < bins; bin++) {
    const hz = round(bin * (sampleRate / 2) / (bins - 1));
    for (let band = 0; band < bands; band++) {
      const [left, centre, right] = edge.subarray(band, band + 3);
      const rising = round(round(hz - left) / round(centre - left));
      const falling = round(round(right - hz) / round(right - centre));
      // Both keep the triangle in float32 before it is scaled.
      const triangle = f32(Math.max(0, Math.min(rising, falling)));
      table[bin * bands + band] = triangle * round(2 / round(right - left));
    }
  }
  return table;
}

/** A filterbank without its zeros, as `kernels/log_mel.wgsl` reads it. */
export interface PackedMel {
  /** Per band: first bin, number of bins, offset into `weights`, 0. [bands, 4] */
  readonly bands: Uint32Array<ArrayBuffer>;
  /** The weights of all bands, one band after the other. */
  readonly weights: Float32Array<ArrayBuffer>;
}

/**
 * Keeps of each band only the run of bins from its first to its last non-zero weight.
 *
 * @param filterbank [bins, bands]
 */
export function packMel(filterbank: Float32Array, bins: number, bands: number): PackedMel {
  const index = new Uint32Array(bands * 4);
  const weights: number[] = [];
  for (let band = 0; band < bands; band++) {
    let first = 0, end = bins;
    while (first < end && filterbank[first * bands + band] === 0) first++;
    while (end > first && filterbank[(end - 1) * bands + band] === 0) end--;
    index.set([first < end ? first : 0, end - first, weights.length, 0], band * 4);
    for (let bin = first; bin < end; bin++) weights.push(filterbank[bin * bands + band]);
  }
  // A storage buffer cannot be empty.
  if (weights.length === 0) weights.push(0);
  return { bands: index, weights: new Float32Array(weights) };
}

/** Columns of the 20 x 20 decomposition of the DFT of 400. */
const COLUMNS = 20;

/**
 * Window and twiddle factors by column c = n mod 20 of the DFT of 400: 20 window values w[c + 20
 * j], then 20 pairs cos, sin of -2 pi c k / 400, computed in float64.
 *
 * @param window [400]
 * @returns [20, 60]
 * @throws {RangeError} if the window has another length.
 */
export function logmelTable(window: Float32Array): Float32Array<ArrayBuffer> {
  if (window.length !== FRAME_SAMPLES) {
    throw new RangeError(`the window has ${window.length} samples; the DFT needs ${FRAME_SAMPLES}`);
  }
  const table = new Float32Array(COLUMNS * 3 * COLUMNS);
  for (let column = 0; column < COLUMNS; column++) {
    const row = table.subarray(column * 3 * COLUMNS);
    for (let j = 0; j < COLUMNS; j++) {
      const angle = -2 * Math.PI * column * j / FRAME_SAMPLES;
      row[j] = window[column + COLUMNS * j];
      row[COLUMNS + 2 * j] = Math.cos(angle);
      row[COLUMNS + 2 * j + 1] = Math.sin(angle);
    }
  }
  return table;
}
