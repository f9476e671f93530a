/**
 * Log-mel spectrograms back to sound: the power spectrum that the mel filters may have seen, then
 * phases that fit it.
 *
 * Both steps are underdetermined: filters merge up to 14 bins, and phases are gone. What comes out
 * has the log-mel of what went in (see tests/model/griffin_lim_test.ts for how closely), not its
 * waveform.
 *
 * @module
 */
import {
  add,
  type Device,
  div,
  hostUniform,
  irfft,
  mul,
  noGrad,
  overlapAdd,
  scope,
  ShapeError,
  sqrt,
  square,
  stft,
  sub,
  sum,
  type Tensor,
} from "../../engine/functions.ts";
import type { FrontendSettings } from "./log_mel.ts";
import { MATPAC_STATISTICS } from "./log_mel.ts";
import {
  CENTRE_PAD,
  FRAME_SAMPLES,
  hannPeriodic,
  HOP_SAMPLES,
  LOG_OFFSET,
  MEL_80,
  packMel,
  slaneyMelFilterbank,
  SPECTRUM_BINS,
} from "./tables.ts";

const { bands: BANDS } = MEL_80;

/** How sound is made of a log-mel spectrogram. */
export interface InversionOptions extends Omit<FrontendSettings, "statistics"> {
  /** What the log-mel was standardised with; default the paper's, `null` for a raw one. */
  readonly statistics?: FrontendSettings["statistics"] | null;
  /** Rounds of Griffin-Lim; default 64. */
  readonly rounds?: number;
  /** Of the phases to begin with; default 0. */
  readonly seed?: number;
}

/**
 * Rounds of {@link melToPower}: log-mel values are then 1e-4 off on average for recorded sound, and
 * gain little more.
 */
const FILTER_ROUNDS = 200;

/**
 * A power spectrum whose mel bands are those given: Richardson-Lucy, multiplicative steps that
 * lower the Kullback-Leibler divergence and keep every bin non-negative. That divergence weighs
 * quiet bands as the logarithm does, which least squares would leave to the loud ones; a
 * pseudo-inverse has negative bins. The filters are those of the front end, from 50 to 8000 Hz;
 * librosa's default of 0 Hz, which MSM-MAE's runtime takes, shifts every band. Bins that no filter
 * sees (0, 40 and 8000 Hz) are 0.
 *
 * @param mel [80, frames], power of mel bands, not negative
 * @returns [frames, 201]
 * @throws {ShapeError} if the values are not those of whole frames.
 */
export function melToPower(mel: Float32Array): Float32Array {
  const frames = framesOf(mel);
  const filterbank = slaneyMelFilterbank({ ...MEL_80, order: "nnaudio" });
  const { bands, weights } = packMel(filterbank, SPECTRUM_BINS, BANDS);
  const entries = Array.from({ length: BANDS }, (_, band) => {
    const [first, count, offset] = bands.subarray(band * 4, band * 4 + 3);
    return { first, weights: weights.subarray(offset, offset + count) };
  });
  const seen = new Float64Array(SPECTRUM_BINS);
  for (const { first, weights } of entries) weights.forEach((w, i) => seen[first + i] += w);
  const inverse = seen.map((it) => it > 0 ? 1 / it : 0);
  const power = new Float32Array(frames * SPECTRUM_BINS);
  const ratios = new Float64Array(BANDS);
  for (let frame = 0; frame < frames; frame++) {
    const bins = new Float64Array(SPECTRUM_BINS).fill(1);
    for (let round = 0; round < FILTER_ROUNDS; round++) {
      entries.forEach(({ first, weights }, band) => {
        let predicted = 0;
        for (let i = 0; i < weights.length; i++) predicted += weights[i] * bins[first + i];
        ratios[band] = predicted > 0 ? mel[band * frames + frame] / predicted : 0;
      });
      const factors = new Float64Array(SPECTRUM_BINS);
      entries.forEach(({ first, weights }, band) => {
        for (let i = 0; i < weights.length; i++) factors[first + i] += weights[i] * ratios[band];
      });
      for (let bin = 0; bin < SPECTRUM_BINS; bin++) bins[bin] *= factors[bin] * inverse[bin];
    }
    power.set(bins, frame * SPECTRUM_BINS);
  }
  return power;
}

/** Smallest share of the squared windows' usual sum that is divided by. */
const LEAST_OVERLAP = 0.05;
/** Added to magnitudes before they divide. */
const TINY = 1e-16;
/** Of the fast variant (Perraudin, Balazs, Søndergaard 2013), as in librosa. */
const MOMENTUM = 0.99;

/**
 * A waveform whose short-time spectra have given magnitudes: Griffin-Lim with momentum, from random
 * phases.
 *
 * The window is the periodic Hann window of 400 samples, the hop 160. Where fewer windows overlap
 * at both ends than inside, the sound fades over some 3 ms instead of being divided by nearly
 * nothing.
 *
 * @param magnitudes [frames, 201]
 * @returns [160 (frames - 1) + 400]
 * @throws {ShapeError} if the values are not those of whole frames.
 */
export async function griffinLim(
  device: Device,
  magnitudes: Float32Array,
  { rounds = 64, seed = 0 }: Pick<InversionOptions, "rounds" | "seed"> = {},
): Promise<Float32Array> {
  const frames = magnitudes.length / SPECTRUM_BINS;
  if (frames < 1 || !Number.isInteger(frames)) {
    throw new ShapeError(
      `griffinLim: ${magnitudes.length} values are no frames of ${SPECTRUM_BINS} bins`,
    );
  }
  const angles = hostUniform(frames * SPECTRUM_BINS, seed);
  const phases = new Float32Array(2 * angles.length);
  angles.forEach((it, i) => {
    phases[2 * i] = Math.cos(2 * Math.PI * it);
    phases[2 * i + 1] = Math.sin(2 * Math.PI * it);
  });
  using wave = noGrad(() =>
    scope(() => {
      const window = device.tensor(hannPeriodic(FRAME_SAMPLES, "nnaudio"));
      const scale = device.tensor(overlapScale(frames));
      const target = device.tensor(magnitudes, [frames, SPECTRUM_BINS, 1]);
      const sound = (phase: Tensor) => {
        const pieces = mul(irfft(mul(target, phase), FRAME_SAMPLES), window);
        return mul(overlapAdd(pieces, HOP_SAMPLES), scale);
      };
      const spectra = (phase: Tensor) =>
        stft(sound(phase), { size: FRAME_SAMPLES, hop: HOP_SAMPLES, window });
      let phase = device.tensor(phases, [frames, SPECTRUM_BINS, 2]);
      let before: Tensor | undefined;
      for (let round = 0; round < rounds; round++) {
        // What a round leaves behind must not wait for the last one.
        const [next, rebuilt] = scope(() => {
          const rebuilt = spectra(phase);
          const moved = before ? sub(rebuilt, mul(before, MOMENTUM / (1 + MOMENTUM))) : rebuilt;
          const size = sqrt(sum(square(moved), { axes: [2], keepDims: true }));
          return [div(moved, add(size, TINY)), rebuilt];
        });
        phase.dispose();
        before?.dispose();
        [phase, before] = [next, rebuilt];
      }
      return sound(phase);
    })
  );
  return await wave.data() as Float32Array;
}

/** One over the sum of the squared windows at each sample, bounded where it is nearly 0. */
function overlapScale(frames: number): Float32Array {
  const window = hannPeriodic(FRAME_SAMPLES, "nnaudio");
  const sums = new Float64Array((frames - 1) * HOP_SAMPLES + FRAME_SAMPLES);
  for (let frame = 0; frame < frames; frame++) {
    window.forEach((w, i) => sums[frame * HOP_SAMPLES + i] += w * w);
  }
  const usual = 3 / 8 * FRAME_SAMPLES / HOP_SAMPLES;
  return Float32Array.from(sums, (it) => 1 / Math.max(it, LEAST_OVERLAP * usual));
}

/**
 * Sound whose log-mel spectrogram is the one given, but for what no sound has.
 *
 * @param logmel [80, frames], standardised unless `statistics` is null
 * @returns mono 16 kHz: [160 (frames - 1) + 400] samples, of centred frames [160 (frames - 1)]
 * without the mirrored ends
 * @throws {ShapeError} if the values are not those of whole frames, at least two when centred.
 */
export async function logMelToWave(
  device: Device,
  logmel: Float32Array,
  options: InversionOptions = {},
): Promise<Float32Array> {
  const { framing = "inside", statistics = MATPAC_STATISTICS } = options;
  const centred = framing === "centred";
  if (framesOf(logmel) < 2 && centred) {
    throw new ShapeError("logMelToWave: one centred frame covers no sound of its own");
  }
  const { mean, std } = statistics ?? { mean: 0, std: 1 };
  const mel = logmel.map((it) => Math.max(0, Math.exp(it * std + mean) - LOG_OFFSET));
  const wave = await griffinLim(device, melToPower(mel).map(Math.sqrt), options);
  return centred ? wave.slice(CENTRE_PAD, -CENTRE_PAD) : wave;
}

function framesOf(mel: Float32Array): number {
  const frames = mel.length / BANDS;
  if (frames < 1 || !Number.isInteger(frames)) {
    throw new ShapeError(`${mel.length} values are no frames of ${BANDS} mel bands`);
  }
  return frames;
}
