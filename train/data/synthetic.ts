/**
 * The built-in corpus: procedural sounds of eight classes.
 *
 * @module
 */
import { Prng } from "../../engine/prng.ts";

/** Sampling rate of the corpus, Hz. */
const RATE = 16000;

/** A labelled clip of the built-in corpus. */
export interface SyntheticClip {
  /** [samples], mono, 16 kHz, within [-1, 1]. */
  readonly waveform: Float32Array;
  /** Class name, one of `SYNTHETIC_CLASSES`. */
  readonly label: string;
  /** Class number, the index of `label` in `SYNTHETIC_CLASSES`. */
  readonly target: number;
}

/**
 * Adds one sound event to `out` from its first to its last sample. The events are about unit level.
 */
type Voice = (out: Float32Array, prng: Prng) => void;

/** Shortest and longest event of a class in seconds, and the voice itself. */
interface SoundClass {
  readonly seconds: readonly [number, number];
  readonly voice: Voice;
}

const CLASSES: Readonly<Record<string, SoundClass>> = {
  tone: { seconds: [0.3, 2], voice: tone },
  chirp: { seconds: [0.2, 1.5], voice: chirp },
  noise: { seconds: [0.3, 2], voice: noiseBand },
  pluck: { seconds: [0.4, 1.5], voice: pluck },
  drum: { seconds: [0.15, 0.5], voice: drum },
  fm: { seconds: [0.3, 1.5], voice: frequencyModulation },
  formant: { seconds: [0.4, 1.5], voice: formant },
  clicks: { seconds: [0.5, 2], voice: clicks },
};

/** Class names in the order of their target numbers. */
export const SYNTHETIC_CLASSES: readonly string[] = Object.keys(CLASSES);

/**
 * A clip of the procedural corpus: a chain of events of one class with random pitch, duration,
 * level and onset, over background noise at a random distance. Seed, index and length determine
 * every sample; classes take turns by index.
 *
 * @param seed corpus seed, an integer.
 * @param index clip number, an integer from 0.
 * @param samples length of the clip at 16 kHz, at least 1.
 */
export function syntheticClip(
  seed: number,
  index: number,
  samples: number,
): SyntheticClip {
  const prng = new Prng(seed, index);
  const target = index % SYNTHETIC_CLASSES.length;
  const label = SYNTHETIC_CLASSES[target];
  const waveform = new Float32Array(samples);
  const { seconds, voice } = CLASSES[label];
  let onset = Math.floor(prng.uniform(0, 0.3) * RATE);
  while (onset < samples) {
    const length = Math.ceil(prng.uniform(...seconds) * RATE);
    const event = new Float32Array(Math.min(length, samples - onset));
    voice(event, prng);
    const level = decibels(prng.uniform(-12, 0));
    for (let i = 0; i < event.length; i++) {
      waveform[onset + i] += level * event[i];
    }
    onset += event.length + Math.floor(prng.uniform(0.02, 0.5) * RATE);
  }
  addBackground(waveform, prng);
  const peak = waveform.reduce((max, x) => Math.max(max, Math.abs(x)), 0);
  const gain = decibels(prng.uniform(-20, -0.5)) / Math.max(peak, 1e-9);
  for (let i = 0; i < samples; i++) waveform[i] *= gain;
  return { waveform, label, target };
}

function decibels(db: number): number {
  return 10 ** (db / 20);
}

/** Uniform on a logarithmic scale: pitches, decay times. */
function logUniform(prng: Prng, low: number, high: number): number {
  return low * (high / low) ** prng.uniform();
}

/**
 * Background noise 15 to 50 dB below full scale, its colour between white and low-passed at about
 * 300 Hz.
 */
function addBackground(out: Float32Array, prng: Prng): void {
  const level = decibels(prng.uniform(-50, -15));
  const smoothing = prng.uniform(0, 0.9);
  // Keeps the power of a one-pole low-pass at that of its input.
  const scale = level * Math.sqrt(3 * (1 - smoothing * smoothing));
  let state = 0;
  for (let i = 0; i < out.length; i++) {
    state = smoothing * state + whiteNoise(prng);
    out[i] += scale * state;
  }
}

/** Uniform in [-1, 1), 32 bits: half the cost of `uniform`. */
function whiteNoise(prng: Prng): number {
  return prng.next() / 2 ** 31 - 1;
}

/**
 * Fades both ends linearly over `seconds`, so that an event neither starts nor stops with a click.
 */
function fade(out: Float32Array, seconds: number): void {
  const length = Math.min(Math.floor(seconds * RATE), out.length >> 1);
  for (let i = 0; i < length; i++) {
    out[i] *= i / length;
    out[out.length - 1 - i] *= i / length;
  }
}

/** Adds a decaying sinusoid by rotating a complex number; `decay` is the factor per sample. */
function addPartial(
  out: Float32Array,
  hertz: number,
  level: number,
  decay: number,
  phase: number,
): void {
  const step = 2 * Math.PI * hertz / RATE;
  const cos = decay * Math.cos(step);
  const sin = decay * Math.sin(step);
  let re = level * Math.cos(phase);
  let im = level * Math.sin(phase);
  for (let i = 0; i < out.length; i++) {
    out[i] += im;
    [re, im] = [re * cos - im * sin, re * sin + im * cos];
  }
}

/** Steady harmonic tone with a random spectral slope. */
function tone(out: Float32Array, prng: Prng): void {
  const pitch = logUniform(prng, 80, 1500);
  const slope = prng.uniform(0.8, 2.5);
  const partials = Math.min(8, Math.floor(7500 / pitch));
  for (let k = 1; k <= partials; k++) {
    const phase = prng.uniform(0, 2 * Math.PI);
    addPartial(out, k * pitch, 0.5 / k ** slope, 1, phase);
  }
  fade(out, 0.02);
}

/** Sweep, exponential in frequency, up or down. */
function chirp(out: Float32Array, prng: Prng): void {
  const from = logUniform(prng, 100, 7000);
  const to = logUniform(prng, 100, 7000);
  const ratio = (to / from) ** (1 / out.length);
  let step = 2 * Math.PI * from / RATE;
  let phase = 0;
  for (let i = 0; i < out.length; i++) {
    out[i] = 0.7 * Math.sin(phase);
    phase += step;
    step *= ratio;
  }
  fade(out, 0.01);
}

/** White noise through a two-pole resonator. */
function noiseBand(out: Float32Array, prng: Prng): void {
  const centre = logUniform(prng, 200, 6500);
  const width = centre * prng.uniform(0.05, 0.6);
  const resonator = resonatorFor(centre, width);
  for (let i = 0; i < out.length; i++) out[i] = resonator(whiteNoise(prng));
  fade(out, 0.03);
}

/** Two-pole resonator, gain near 1 at its centre for noise input. */
function resonatorFor(
  centre: number,
  bandwidth: number,
): (input: number) => number {
  const radius = Math.exp(-Math.PI * bandwidth / RATE);
  const a1 = 2 * radius * Math.cos(2 * Math.PI * centre / RATE);
  const a2 = -radius * radius;
  const gain = Math.sqrt(1 - radius * radius);
  let y1 = 0, y2 = 0;
  return (input) => {
    const y = gain * input + a1 * y1 + a2 * y2;
    y2 = y1;
    y1 = y;
    return y;
  };
}

/** Karplus-Strong string: a noise burst in a delay line with an averaging filter. */
function pluck(out: Float32Array, prng: Prng): void {
  const period = Math.round(RATE / logUniform(prng, 70, 900));
  const damping = prng.uniform(0.985, 0.999);
  for (let i = 0; i < out.length; i++) {
    out[i] = i < period
      ? whiteNoise(prng)
      : damping * 0.5 * (out[i - period] + (i > period ? out[i - period - 1] : 0));
  }
  fade(out, 0.002);
}

/** A falling, decaying sine with a noise burst on top: kick to snare. */
function drum(out: Float32Array, prng: Prng): void {
  const high = logUniform(prng, 120, 500);
  const low = high * prng.uniform(0.3, 0.7);
  const glide = Math.exp(-1 / (prng.uniform(0.01, 0.05) * RATE));
  const bodyDecay = Math.exp(-1 / (prng.uniform(0.03, 0.12) * RATE));
  const noiseDecay = Math.exp(-1 / (prng.uniform(0.005, 0.08) * RATE));
  const noisiness = prng.uniform(0.05, 0.9);
  let phase = 0, bend = 1, body = 1, burst = noisiness;
  for (let i = 0; i < out.length; i++) {
    out[i] = (1 - noisiness) * body * Math.sin(phase) +
      burst * whiteNoise(prng);
    phase += 2 * Math.PI * (low + (high - low) * bend) / RATE;
    bend *= glide;
    body *= bodyDecay;
    burst *= noiseDecay;
  }
}

/** Two-operator frequency modulation with a decaying index: bells, brass. */
function frequencyModulation(out: Float32Array, prng: Prng): void {
  const carrier = logUniform(prng, 120, 1200);
  const modulator = carrier * prng.uniform(0.5, 3.5);
  const fall = Math.exp(-1 / (prng.uniform(0.1, 0.8) * RATE));
  const carrierStep = 2 * Math.PI * carrier / RATE;
  const modulatorStep = 2 * Math.PI * modulator / RATE;
  let index = prng.uniform(1, 6);
  let level = 0.8;
  const levelFall = Math.sqrt(fall);
  for (let i = 0; i < out.length; i++) {
    const modulation = index * Math.sin(i * modulatorStep);
    out[i] = level * Math.sin(i * carrierStep + modulation);
    index *= fall;
    level *= levelFall;
  }
  fade(out, 0.005);
}

/** A pulse train through three resonators that glide between two random vowels. */
function formant(out: Float32Array, prng: Prng): void {
  const pitch = logUniform(prng, 80, 300);
  const vibrato = prng.uniform(0, 0.04);
  const vibratoStep = 2 * Math.PI * prng.uniform(3, 7) / RATE;
  const vowel = (): number[] => [
    prng.uniform(250, 850),
    prng.uniform(900, 2300),
    prng.uniform(2400, 3500),
  ];
  const [start, end] = [vowel(), vowel()];
  const block = 160; // coefficients change every 10 ms
  const y1 = [0, 0, 0], y2 = [0, 0, 0];
  const radius = Math.exp(-Math.PI * 90 / RATE);
  const a1 = [0, 0, 0];
  let phase = 0;
  for (let i = 0; i < out.length; i++) {
    if (i % block === 0) {
      for (let k = 0; k < 3; k++) {
        const hertz = start[k] + (end[k] - start[k]) * i / out.length;
        a1[k] = 2 * radius * Math.cos(2 * Math.PI * hertz / RATE);
      }
    }
    phase += pitch / RATE * (1 + vibrato * Math.sin(i * vibratoStep));
    let pulse = 0;
    if (phase >= 1) {
      phase -= 1;
      pulse = 1;
    }
    let sum = 0;
    for (let k = 0; k < 3; k++) {
      const y = pulse + a1[k] * y1[k] - radius * radius * y2[k];
      y2[k] = y1[k];
      y1[k] = y;
      sum += y / (k + 1);
    }
    out[i] = 0.2 * sum;
  }
  fade(out, 0.03);
}

/** A ticking train of short resonant clicks. */
function clicks(out: Float32Array, prng: Prng): void {
  const period = Math.round(RATE / logUniform(prng, 3, 25));
  const resonator = resonatorFor(
    logUniform(prng, 800, 5000),
    prng.uniform(100, 600),
  );
  const jitter = prng.uniform(0, 0.2);
  let next = 0;
  for (let i = 0; i < out.length; i++) {
    let pulse = 0;
    if (i === next) {
      pulse = 3;
      next += Math.max(1, Math.round(period * (1 + prng.uniform(-jitter, jitter))));
    }
    out[i] = resonator(pulse);
  }
}
