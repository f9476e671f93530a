/** The front end in float64, with the tables that are held against the official ones. */
import {
  CENTRE_PAD,
  FRAME_SAMPLES,
  frameCount,
  hannPeriodic,
  HOP_SAMPLES,
  LOG_OFFSET,
  MEL_80,
  slaneyMelFilterbank,
  SPECTRUM_BINS,
  type TableOrder,
} from "../../model/frontend/tables.ts";

/** Framing and tables, and what is subtracted and multiplied with. */
export interface RefLogMelOptions {
  readonly centre?: boolean;
  readonly order?: TableOrder;
  readonly mean?: number;
  readonly invStd?: number;
}

/** Standardised log-mel [bands, frames] of one clip in float64, by definition. */
export function refLogMel(wave: Float32Array, options: RefLogMelOptions = {}): Float64Array {
  const { centre = false, order = "torchaudio", mean = 0, invStd = 1 } = options;
  const filters = slaneyMelFilterbank({ ...MEL_80, order });
  const window = hannPeriodic(FRAME_SAMPLES, order);
  const frames = frameCount(wave.length, centre);
  const out = new Float64Array(MEL_80.bands * frames);
  for (let frame = 0; frame < frames; frame++) {
    const x = Float64Array.from({ length: FRAME_SAMPLES }, (_, n) => {
      const at = Math.abs(frame * HOP_SAMPLES + n - (centre ? CENTRE_PAD : 0));
      return window[n] * wave[at < wave.length ? at : 2 * (wave.length - 1) - at];
    });
    const mel = new Float64Array(MEL_80.bands);
    for (let k = 0; k < SPECTRUM_BINS; k++) {
      let re = 0, im = 0;
      for (let n = 0; n < FRAME_SAMPLES; n++) {
        const angle = 2 * Math.PI * (n * k % FRAME_SAMPLES) / FRAME_SAMPLES;
        re += x[n] * Math.cos(angle);
        im += x[n] * Math.sin(angle);
      }
      for (let b = 0; b < MEL_80.bands; b++) {
        mel[b] += filters[k * MEL_80.bands + b] * (re * re + im * im);
      }
    }
    mel.forEach((m, b) => {
      out[b * frames + frame] = (Math.log(m + LOG_OFFSET) - mean) * invStd;
    });
  }
  return out;
}
