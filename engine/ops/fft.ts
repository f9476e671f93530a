/**
 * Fourier transforms of real signals: rfft, irfft, and short-time transforms from frames of a signal.
 *
 * @module
 */
import source from "../../kernels/fft.wgsl" with { type: "text" };
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp, type RefArray, type Sample } from "../op.ts";
import { refRandom, refZeros } from "../reference.ts";
import { type Shape, show, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { div, maximum, mul, square } from "./elementwise.ts";
import { elementwise, rowChunks, rowsOf } from "./launch.ts";
import { rowsAndWidth } from "./rows.ts";
import { expand } from "./view.ts";

const kernel = defineKernel("fft", source);
const WORKGROUP = 64;

/** Radices of the passes: 4 where possible, then 2, 3 and 5; undefined when other factors are left. */
function radices(n: number): number[] | undefined {
  const list: number[] = [];
  for (const radix of [4, 2, 3, 5]) {
    for (; n % radix === 0; n /= radix) list.push(radix);
  }
  return n !== 1 ? undefined : list.length > 0 ? list : [1];
}

const bins = (n: number): number => Math.floor(n / 2) + 1;

interface Transform {
  /** From rows of n real numbers to half spectra, or from half spectra to the real part of the inverse sum. */
  readonly inverse: boolean;
  /** Factor of bins 0 and n / 2; the others get twice that. Default: none. */
  readonly scale?: number;
}

/** Transforms dense rows. Records nothing. */
function transform(x: Tensor, n: number, { inverse, scale }: Transform): Tensor {
  const { device } = x;
  const lead = x.shape.slice(0, inverse ? -2 : -1);
  const rows = sizeOf(lead);
  const passes = radices(n)!;
  let current = x;
  let done = 1;
  passes.forEach((radix, pass) => {
    const [head, tail] = [pass === 0, pass === passes.length - 1];
    const left = n / done / radix;
    const ins = head && inverse ? bins(n) : n;
    const outs = tail && !inverse ? bins(n) : n;
    const [wide, wideOut] = [head && !inverse ? 1 : 2, tail && inverse ? 1 : 2];
    const target = device.empty([...lead, outs, ...(wideOut === 2 ? [2] : [])]);
    for (const [first, count] of rowChunks(device, rows, [ins * wide, outs * wideOut])) {
      device.run(
        kernel,
        {
          WG: WORKGROUP,
          R: radix,
          SIGN: inverse,
          REAL_IN: wide === 1,
          HALF_IN: head && inverse,
          REAL_OUT: wideOut === 1,
          WEIGHT_IN: head && inverse && scale !== undefined,
          WEIGHT_OUT: tail && !inverse && scale !== undefined,
        },
        [rowsOf(current, first, count, ins * wide), rowsOf(target, first, count, outs * wideOut)],
        { count: count * outs, n, done, left, ins, outs, scale: scale ?? 1 },
        Math.ceil(count * outs / WORKGROUP),
      );
    }
    if (current !== x) current.dispose();
    current = target;
    done *= radix;
  });
  return current;
}

/** Sums behind {@link transform}, term by term. */
function refTransform(x: RefArray, n: number, { inverse, scale }: Transform): RefArray {
  const half = bins(n);
  const lead = x.shape.slice(0, inverse ? -2 : -1);
  const result = refZeros(inverse ? [...lead, n] : [...lead, half, 2]);
  const weights = Array.from(
    { length: half },
    (_, k) => scale === undefined ? 1 : k === 0 || 2 * k === n ? scale : 2 * scale,
  );
  const cos = Float64Array.from({ length: n }, (_, t) => Math.cos(2 * Math.PI * t / n));
  const sin = Float64Array.from({ length: n }, (_, t) => Math.sin(2 * Math.PI * t / n));
  for (let row = 0; row < sizeOf(lead); row++) {
    for (let k = 0; k < half; k++) {
      const bin = (row * half + k) * 2;
      for (let t = 0; t < n; t++) {
        const [c, s, at] = [cos[k * t % n], sin[k * t % n], row * n + t];
        if (inverse) result.data[at] += weights[k] * (x.data[bin] * c - x.data[bin + 1] * s);
        else {
          result.data[bin] += weights[k] * x.data[at] * c;
          result.data[bin + 1] -= weights[k] * x.data[at] * s;
        }
      }
    }
  }
  return result;
}

interface FftAttrs {
  readonly n: number;
}

const LENGTHS = [1, 2, 3, 4, 5, 8, 9, 15, 30, 64, 100, 400, 1080];

const rfftOp = defineOp<FftAttrs>({
  name: "rfft",
  forward: ([x], { n }) => [transform(x, n, { inverse: false })],
  backward: ({ grads: [dy] }, { n }) => [transform(dy!, n, { inverse: true })],
  reference: {
    forward: ([x], { n }) => [refTransform(x, n, { inverse: false })],
    backward: (_, { n }, [dy]) => [refTransform(dy, n, { inverse: true })],
  },
  samples: () => [
    { label: "many rows", inputs: [refRandom([200, 10], 90)], attrs: { n: 10 } },
    ...LENGTHS.map((n, seed): Sample<FftAttrs> => ({
      label: `n = ${n}`,
      inputs: [refRandom(seed % 2 ? [3, n] : [2, 1, n], seed)],
      attrs: { n },
      skipDifferences: n > 400,
    })),
  ],
});

const irfftOp = defineOp<FftAttrs>({
  name: "irfft",
  forward: ([x], { n }) => [transform(x, n, { inverse: true, scale: 1 / n })],
  backward: ({ grads: [dy] }, { n }) => [transform(dy!, n, { inverse: false, scale: 1 / n })],
  reference: {
    forward: ([x], { n }) => [refTransform(x, n, { inverse: true, scale: 1 / n })],
    backward: (_, { n }, [dy]) => [refTransform(dy, n, { inverse: false, scale: 1 / n })],
  },
  samples: () => [
    { label: "many rows", inputs: [refRandom([200, 6, 2], 90)], attrs: { n: 10 } },
    ...LENGTHS.map((n, seed): Sample<FftAttrs> => ({
      label: `n = ${n}`,
      inputs: [refRandom(seed % 2 ? [3, bins(n), 2] : [2, 1, bins(n), 2], seed)],
      attrs: { n },
      skipDifferences: n > 400,
    })),
  ],
});

function needLength(op: string, n: number): void {
  if (!Number.isInteger(n) || n < 1 || !radices(n)) {
    throw new ShapeError(`${op}: a length of ${n} has factors other than 2, 3 and 5`);
  }
}

/**
 * Fourier transform of real signals, `X_k = sum over t of x_t exp(-2 pi i k t / n)` for k from 0 to n / 2.
 *
 * @param x `[..., n]`, n a product of 2, 3 and 5
 * @returns `[..., floor(n / 2) + 1, 2]`: real and imaginary parts
 * @throws {ShapeError} if n has other factors.
 */
export function rfft(x: Tensor): Tensor {
  const n = x.shape[x.shape.length - 1] ?? 0;
  needLength("rfft", n);
  return rfftOp.apply([x], { n })[0];
}

/**
 * Inverse of {@link rfft}. Imaginary parts of bin 0 and, for even n, bin n / 2 play no part.
 *
 * @param spectrum `[..., floor(n / 2) + 1, 2]`
 * @param n length of the signal, a product of 2, 3 and 5
 * @returns `[..., n]`
 * @throws {ShapeError} if n has other factors or does not fit the spectrum.
 */
export function irfft(spectrum: Tensor, n: number): Tensor {
  needLength("irfft", n);
  const [half, two] = spectrum.shape.slice(-2);
  if (two !== 2 || half !== bins(n)) {
    throw new ShapeError(
      `irfft: a length of ${n} needs [..., ${bins(n)}, 2], not ${show(spectrum.shape)}`,
    );
  }
  return irfftOp.apply([spectrum], { n })[0];
}

interface FrameAttrs {
  readonly size: number;
  readonly hop: number;
}

/** Overlapping frames of the last axis, without a copy. */
function frameView(x: Tensor, { size, hop }: FrameAttrs): Tensor {
  const length = x.shape[x.shape.length - 1];
  const step = x.strides[x.strides.length - 1];
  return x.view(
    [...x.shape.slice(0, -1), Math.floor((length - size) / hop) + 1, size],
    [...x.strides.slice(0, -1), hop * step, step],
  );
}

/** Adds frames `[..., frames, size]` up where they overlap, into `[..., length]`. Records nothing. */
function addFrames(frames: Tensor, length: number, { size, hop }: FrameAttrs): Tensor {
  const { device } = frames;
  const y = device.zeros([...frames.shape.slice(0, -2), length]);
  // Pieces of at most one hop: those of one offset never overlap.
  for (let start = 0; start < size; start += hop) {
    const shape = [...frames.shape.slice(0, -1), Math.min(hop, size - start)];
    const target = y.view(shape, [...y.strides.slice(0, -1), hop, 1], y.offset + start);
    const part = frames.view(
      shape,
      frames.strides,
      frames.offset + start * frames.strides[frames.strides.length - 1],
    );
    elementwise(target, [part], { expression: "o + a", readOut: true });
    target.dispose();
    part.dispose();
  }
  return y;
}

function refFrameVisit(
  shape: Shape,
  { size, hop }: FrameAttrs,
  visit: (signal: number, frame: number) => void,
): number[] {
  const { rows, width } = rowsAndWidth(shape);
  const count = Math.floor((width - size) / hop) + 1;
  for (let i = 0; i < rows * count * size; i++) {
    const row = Math.floor(i / size / count);
    visit(row * width + Math.floor(i / size) % count * hop + i % size, i);
  }
  return [...shape.slice(0, -1), count, size];
}

function refFrames(x: RefArray, attrs: FrameAttrs): RefArray {
  const shape = refFrameVisit(x.shape, attrs, () => {});
  const y = refZeros(shape);
  refFrameVisit(x.shape, attrs, (signal, frame) => y.data[frame] = x.data[signal]);
  return y;
}

function refAddFrames(frames: RefArray, shape: Shape, attrs: FrameAttrs): RefArray {
  const y = refZeros(shape);
  refFrameVisit(shape, attrs, (signal, frame) => y.data[signal] += frames.data[frame]);
  return y;
}

const framesOp = defineOp<FrameAttrs>({
  name: "frames",
  strided: true,
  forward: ([x], attrs) => [frameView(x, attrs)],
  backward: ({ grads: [dy], shapes: [shape] }, attrs) => [
    addFrames(dy!, shape[shape.length - 1], attrs),
  ],
  reference: {
    forward: ([x], attrs) => [refFrames(x, attrs)],
    backward: ([x], attrs, [dy]) => [refAddFrames(dy, x.shape, attrs)],
  },
  samples: () => [
    { label: "[1]", inputs: [refRandom([1], 1)], attrs: { size: 1, hop: 1 } },
    { label: "overlap", inputs: [refRandom([2, 37], 2)], attrs: { size: 8, hop: 3 } },
    { label: "vectors", inputs: [refRandom([3, 64], 3)], attrs: { size: 16, hop: 8 } },
    { label: "gaps", inputs: [refRandom([23], 4)], attrs: { size: 2, hop: 5 } },
  ],
});

const overlapOp = defineOp<FrameAttrs>({
  name: "overlapAdd",
  strided: true,
  forward([frames], attrs) {
    const count = frames.shape[frames.shape.length - 2];
    return [addFrames(frames, (count - 1) * attrs.hop + attrs.size, attrs)];
  },
  backward: ({ grads: [dy] }, attrs) => [frameView(dy!, attrs)],
  reference: {
    forward([frames], attrs) {
      const count = frames.shape[frames.shape.length - 2];
      const shape = [...frames.shape.slice(0, -2), (count - 1) * attrs.hop + attrs.size];
      return [refAddFrames(frames, shape, attrs)];
    },
    backward: (_, attrs, [dy]) => [refFrames(dy, attrs)],
  },
  samples: () =>
    ([[[1, 1], 1], [[2, 5, 8], 3], [[3, 4, 16], 8], [[5, 2], 5], [[7, 9], 9]] as [Shape, number][])
      .map(([shape, hop], seed) => ({
        label: `${show(shape)} every ${hop}`,
        inputs: [refRandom(shape, seed)],
        attrs: { size: shape[shape.length - 1], hop },
      })),
});

function needFrame(op: string, { size, hop }: FrameAttrs, length = size): void {
  if (!Number.isInteger(hop) || hop < 1 || !Number.isInteger(size) || size < 1 || size > length) {
    throw new ShapeError(`${op}: frames of ${size} every ${hop} do not fit a signal of ${length}`);
  }
}

/**
 * Overlapping pieces of the last axis, without a copy: `y[..., f, i] = x[..., f hop + i]`.
 *
 * @returns `[..., floor((length - size) / hop) + 1, size]`
 * @throws {ShapeError} if no frame fits.
 */
export function frames(x: Tensor, size: number, hop: number): Tensor {
  needFrame("frames", { size, hop }, x.shape[x.shape.length - 1] ?? 0);
  return framesOp.apply([x], { size, hop })[0];
}

/**
 * Adds frames up where they overlap, the adjoint of {@link frames}.
 *
 * @param x `[..., frames, size]`
 * @returns `[..., (frames - 1) hop + size]`
 * @throws {ShapeError} if there are fewer than two axes.
 */
export function overlapAdd(x: Tensor, hop: number): Tensor {
  if (x.shape.length < 2 || x.size === 0) {
    throw new ShapeError(`overlapAdd: ${show(x.shape)} is not [..., frames, size]`);
  }
  const size = x.shape[x.shape.length - 1];
  needFrame("overlapAdd", { size, hop });
  return overlapOp.apply([x], { size, hop })[0];
}

/** Options of {@link stft} and {@link istft}. */
export interface StftOptions {
  /** Samples per frame, a product of 2, 3 and 5. */
  readonly size: number;
  /** Samples between frames. */
  readonly hop: number;
  /** Weights of a frame's samples, `[size]`; default 1. */
  readonly window?: Tensor;
}

function needWindow(op: string, { size, window }: StftOptions): void {
  if (window && (window.shape.length !== 1 || window.size !== size)) {
    throw new ShapeError(`${op}: the window is ${show(window.shape)}, not [${size}]`);
  }
}

/**
 * Short-time Fourier transform: {@link rfft} of windowed frames. Frame f starts at sample `f hop`; for centred frames
 * pad the signal by half a frame on both sides.
 *
 * @param x `[..., samples]`
 * @returns `[..., frames, floor(size / 2) + 1, 2]`
 * @throws {ShapeError} if no frame fits, the size has factors other than 2, 3 and 5, or the window has another size.
 */
export function stft(x: Tensor, options: StftOptions): Tensor {
  needWindow("stft", options);
  const pieces = frames(x, options.size, options.hop);
  return rfft(options.window ? mul(pieces, options.window) : pieces);
}

/**
 * Inverse of {@link stft} in the least-squares sense: windowed frames added up, divided by the sum of the squared
 * windows there. Samples that no window reaches are 0.
 *
 * @param spectrum `[..., frames, floor(size / 2) + 1, 2]`
 * @returns `[..., (frames - 1) hop + size]`
 * @throws {ShapeError} if spectrum or window do not fit the size.
 */
export function istft(spectrum: Tensor, options: StftOptions): Tensor {
  const { size, hop, window } = options;
  needWindow("istft", options);
  const pieces = irfft(spectrum, size);
  const count = pieces.shape[pieces.shape.length - 2];
  if (count === undefined) {
    throw new ShapeError(`istft: ${show(spectrum.shape)} is not [..., frames, bins, 2]`);
  }
  const squares = window ? square(window) : spectrum.device.full([size], 1);
  const weight = overlapAdd(expand(squares, [count, size]), hop);
  return div(overlapAdd(window ? mul(pieces, window) : pieces, hop), maximum(weight, 1e-8));
}
