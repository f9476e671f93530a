/**
 * Crops played faster or slower, as speed perturbation does (Ko et al., Audio augmentation for
 * speech recognition, 2015): pitch and tempo change together.
 *
 * @module
 */
import { MEL_80 } from "../../model/frontend/tables.ts";
import type { Crop } from "./clip_source.ts";
import { samplesOf } from "./crop.ts";

/** Frames of 10 ms from which, played at a speed, so many come. */
export function framesAtSpeed(frames: number, speed: number): number {
  let taken = Math.ceil((frames - 1) * speed) + 1;
  // The last sample lies between two, and the cubic takes one more.
  while (samplesOf(taken) < (samplesOf(frames) - 1) * speed + 3) taken++;
  return taken;
}

/**
 * A crop of {@link framesAtSpeed} played at a speed: a waveform by cubic interpolation
 * (Catmull-Rom), a log-mel spectrogram linearly over its frames, where the pitch stays.
 *
 * @param frames of the result
 */
export function atSpeed({ kind, values }: Crop, speed: number, frames: number): Crop {
  return {
    kind,
    values: kind === "waveform"
      ? waveformAtSpeed(values, speed, samplesOf(frames))
      : logMelAtSpeed(values, speed, frames),
  };
}

function waveformAtSpeed(x: Float32Array, speed: number, length: number): Float32Array {
  const y = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    const at = i * speed;
    const k = Math.floor(at);
    const t = at - k;
    const [b, c, d] = [x[k], x[k + 1], x[k + 2]];
    // Before the first sample is what is at it.
    const a = k > 0 ? x[k - 1] : b;
    y[i] = b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)));
  }
  return y;
}

function logMelAtSpeed(x: Float32Array, speed: number, frames: number): Float32Array {
  const taken = x.length / MEL_80.bands;
  const y = new Float32Array(MEL_80.bands * frames);
  for (let i = 0; i < frames; i++) {
    const at = i * speed;
    const k = Math.min(Math.floor(at), Math.max(0, taken - 2));
    for (let band = 0; band < MEL_80.bands; band++) {
      const from = band * taken + k;
      y[band * frames + i] = x[from] + (at > k ? (at - k) * (x[from + 1] - x[from]) : 0);
    }
  }
  return y;
}
