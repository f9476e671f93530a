/**
 * Resampling by a windowed sinc, as torchaudio does with MATPAC's settings (model/README.md, Front
 * end).
 *
 * @module
 */

/** Zero crossings of the sinc on each side. */
const ZERO_CROSSINGS = 64;
/** Cut-off as a fraction of the lower Nyquist frequency. */
const ROLLOFF = 0.9475937167399596;
/** Kaiser window shape. */
const BETA = 14.769656459379492;
/**
 * Above this many weights (64 MiB) a rate pair is refused; only rates without a usable ratio get
 * there.
 */
const MAX_WEIGHTS = 1 << 24;
/** Rate pairs kept; a data set rarely has more than a handful. */
const MAX_KERNELS = 8;
/** Weights kept beside those of the last pair. */
const MAX_KEPT = 1 << 22;

/** One interpolation phase: `weights[0]` belongs to input sample `offset` of the group. */
export interface Phase {
  /** Input sample of the first weight. */
  readonly offset: number;
  /** Taps, in order of the input samples. */
  readonly weights: Float32Array;
}

/** The polyphase filter of one rate pair. */
export interface ResampleKernel {
  /** Input samples per group, o = from / gcd. */
  readonly orig: number;
  /** Output samples per group, n = to / gcd: the number of phases. */
  readonly next: number;
  /** Zero padding on the left, W. */
  readonly width: number;
  /** Length of one phase with its zero taps, 2 W + o. */
  readonly taps: number;
  /** Per phase, the taps inside the window. */
  readonly phases: readonly Phase[];
}

const kernels = new Map<string, ResampleKernel>();

/**
 * Resamples by a windowed sinc with a Kaiser window, as torchaudio's `sinc_interp_kaiser` does with
 * MATPAC's settings. Zero padded at both ends.
 *
 * Sums run in float64 over float32 weights.
 *
 * @param input Float32Array [samples] at rate `from`.
 * @param from input rate, Hz, a positive integer.
 * @param to output rate, Hz, a positive integer.
 * @returns Float32Array [ceil(to / from * samples)]; `input` itself when the rates are equal.
 * @throws RangeError when a rate is not a positive integer, or the two have no ratio small enough
 * for a table.
 */
export function resample(
  input: Float32Array,
  from: number,
  to: number,
): Float32Array {
  if (from === to) return input;
  const kernel = resampleKernel(from, to);
  return outputs(input, 0, kernel, 0, Math.ceil(input.length * kernel.next / kernel.orig));
}

/**
 * {@link resample} for a signal that comes in blocks: the results behind one another are the same
 * bits. Holds no more than a block and the filter's reach.
 */
export class Resampler {
  readonly #kernel: ResampleKernel | undefined;
  /** Input from sample `#start` on, as far as results still need it. */
  #kept = new Float32Array(0);
  #start = 0;
  /** Results so far, a multiple of the kernel's `next`. */
  #done = 0;

  /**
   * Makes the filter.
   *
   * @throws RangeError as {@link resample}.
   */
  constructor(from: number, to: number) {
    if (from !== to) this.#kernel = resampleKernel(from, to);
  }

  /** The results that the input up to and with this block determines. */
  push(block: Float32Array): Float32Array {
    const kernel = this.#kernel;
    if (!kernel) return block;
    const { orig, next, width } = kernel;
    const input = new Float32Array(this.#kept.length + block.length);
    input.set(this.#kept);
    input.set(block, this.#kept.length);
    // A group reaches `width` samples beyond its own `orig`.
    const groups = Math.floor((this.#start + input.length - width) / orig);
    const to = Math.max(this.#done, groups * next);
    const result = outputs(input, this.#start, kernel, this.#done, to);
    this.#done = to;
    const needed = Math.max(this.#start, to / next * orig - width);
    this.#kept = input.slice(needed - this.#start);
    this.#start = needed;
    return result;
  }

  /** The last results, zeros following the input. */
  finish(): Float32Array {
    const kernel = this.#kernel;
    if (!kernel) return new Float32Array(0);
    const length = Math.ceil((this.#start + this.#kept.length) * kernel.next / kernel.orig);
    return outputs(this.#kept, this.#start, kernel, this.#done, length);
  }
}

/**
 * Results `from` (a multiple of `next`) up to `to`, of which `input` holds the samples from `start`
 * on.
 */
function outputs(
  input: Float32Array,
  start: number,
  { orig, next, phases }: ResampleKernel,
  from: number,
  to: number,
): Float32Array {
  const output = new Float32Array(to - from);
  const first = from / next * orig - start;
  for (let p = 0; p < next; p++) {
    const { offset, weights } = phases[p];
    for (let i = p, at = first + offset; i < output.length; i += next, at += orig) {
      output[i] = dot(input, at, weights);
    }
  }
  return output;
}

/** Sum of input[start + j] * weights[j], samples outside the input counting as zero. */
function dot(
  input: Float32Array,
  start: number,
  weights: Float32Array,
): number {
  let j = Math.max(0, -start);
  const end = Math.min(weights.length, input.length - start);
  // Four independent sums: one alone would wait for each addition.
  let a = 0, b = 0, c = 0, d = 0;
  for (let k = start + j; j + 3 < end; j += 4, k += 4) {
    a += input[k] * weights[j];
    b += input[k + 1] * weights[j + 1];
    c += input[k + 2] * weights[j + 2];
    d += input[k + 3] * weights[j + 3];
  }
  for (; j < end; j++) a += input[start + j] * weights[j];
  return (a + b) + (c + d);
}

/**
 * The filter for a rate pair, cached. Weights are computed in float64 and stored
 * float32. torchaudio computes them in float32, which moves the result by up to 2e-5 at 22.05 kHz.
 *
 * @param from input rate, Hz.
 * @param to output rate, Hz.
 * @throws RangeError as `resample`.
 */
export function resampleKernel(from: number, to: number): ResampleKernel {
  const key = `${from}:${to}`;
  let kernel = kernels.get(key);
  if (!kernel) {
    kernel = makeKernel(from, to);
    const weights = ({ next, width }: ResampleKernel) => next * 2 * width;
    let kept = [...kernels.values()].reduce((sum, it) => sum + weights(it), 0);
    for (const [oldest, it] of kernels) {
      if (kernels.size < MAX_KERNELS && kept <= MAX_KEPT) break;
      kernels.delete(oldest);
      kept -= weights(it);
    }
    kernels.set(key, kernel);
  }
  return kernel;
}

function makeKernel(from: number, to: number): ResampleKernel {
  if (![from, to].every((rate) => Number.isSafeInteger(rate) && rate > 0)) {
    throw new RangeError(
      `cannot resample from ${from} to ${to} Hz: rates must be positive integers`,
    );
  }
  const divisor = gcd(from, to);
  const orig = from / divisor;
  const next = to / divisor;
  const base = Math.min(orig, next) * ROLLOFF;
  const width = Math.ceil(ZERO_CROSSINGS * orig / base);
  const taps = 2 * width + orig;
  // A phase covers |t| < 64, that is 2 * 64 * o / b input samples; the other taps of the 2 W + o
  // are zero.
  if (next * 2 * width > MAX_WEIGHTS) {
    throw new RangeError(
      `cannot resample from ${from} to ${to} Hz: ` +
        `the ratio ${orig}:${next} needs too large a filter`,
    );
  }
  const phases = Array.from({ length: next }, (_, i) => {
    // Tap j has t = (j - W - i * o / n) * b / o, kept where |t| < 64.
    const centre = i * orig / next;
    const reach = ZERO_CROSSINGS * orig / base;
    const first = Math.max(-width, Math.floor(centre - reach) + 1);
    const last = Math.min(width + orig - 1, Math.ceil(centre + reach) - 1);
    const weights = new Float32Array(last - first + 1);
    for (let j = 0; j < weights.length; j++) {
      const t = ((first + j) / orig - i / next) * base;
      weights[j] = base / orig * sinc(t) * kaiser(t / ZERO_CROSSINGS);
    }
    return { offset: first, weights };
  });
  return { orig, next, width, taps, phases };
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}

function sinc(t: number): number {
  return t === 0 ? 1 : Math.sin(Math.PI * t) / (Math.PI * t);
}

function kaiser(x: number): number {
  return besselI0(BETA * Math.sqrt(Math.max(0, 1 - x * x))) / BESSEL_BETA;
}

/** Modified Bessel function of the first kind, order 0, by its power series; all terms positive. */
function besselI0(x: number): number {
  const quarter = x * x / 4;
  let term = 1;
  let sum = 1;
  for (let k = 1; term > sum * 1e-17; k++) {
    term *= quarter / (k * k);
    sum += term;
  }
  return sum;
}

const BESSEL_BETA = besselI0(BETA);
