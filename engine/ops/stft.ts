/**
 * Short-time Fourier transforms, from overlapping frames of a signal.
 *
 * @module
 */
import { needOptions, needTensors } from "../arguments.ts";
import source from "../../kernels/stft.wgsl" with { type: "text" };
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refZeros } from "../reference.ts";
import { composite } from "../scope.ts";
import { type Shape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { isBindable } from "../launch/copy.ts";
import { cast } from "./cast.ts";
import { div, maximum, mul } from "./elementwise.ts";
import { irfft, refTransform } from "./fft.ts";
import { elementwise, rowChunks, rowsOf } from "../launch/elementwise.ts";
import { bins, radices, transform, type TransformRows } from "../launch/fft.ts";
import { sumTo } from "./reduce.ts";
import { rowsAndWidth } from "../launch/rows.ts";
import { expand } from "./view.ts";
import { square } from "./unary.ts";

const kernel = /* @__PURE__ */ defineKernel("stft", source, {
  rounds: ({ constants: { M, WG, PASSES } }) =>
    (Number(PASSES) + 1) * (Math.ceil((Number(M) / 2 + 1) / Number(WG)) + 1),
});
const WORKGROUP = 64;
const FORWARD: TransformRows = { from: "real", to: "half", inverse: false };
const ADJOINT: TransformRows = { from: "half", to: "real", inverse: true };

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

/**
 * Adds frames `[..., frames, size]` up where they overlap, into `[..., length]`. Records nothing.
 */
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

const framesOp = /* @__PURE__ */ defineOp<FrameAttrs>({
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
});

const overlapOp = /* @__PURE__ */ defineOp<FrameAttrs>({
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
  needTensors("frames", { x });
  needFrame("frames", { size, hop }, x.shape[x.shape.length - 1] ?? 0);
  return framesOp.apply([x], { size, hop })[0];
}

/**
 * Adds frames up where they overlap, the adjoint of {@link frames}.
 *
 * @param x `[..., frames, size]`
 * @returns `[..., (frames - 1) hop + size]`
 * @throws {ShapeError} if there are fewer than two axes, or no frames.
 */
export function overlapAdd(x: Tensor, hop: number): Tensor {
  needTensors("overlapAdd", { x });
  if (x.shape.length < 2 || x.shape.slice(-2).includes(0)) {
    throw new ShapeError(`overlapAdd: ${show(x.shape)} is not [..., frames, size]`);
  }
  const size = x.shape[x.shape.length - 1];
  needFrame("overlapAdd", { size, hop });
  return overlapOp.apply([x], { size, hop })[0];
}

/** Options of {@link stft} and {@link istft}. */
export interface StftOptions {
  /** Samples per frame. */
  readonly size: number;
  /** Samples between frames. */
  readonly hop: number;
  /** Weights of a frame's samples, `[size]`; default 1. */
  readonly window?: Tensor;
}

function needWindow(op: string, x: Tensor, options: StftOptions): void {
  needOptions(op, options, ["size", "hop", "window"]);
  const { size, window } = options;
  needTensors(op, { [op === "stft" ? "x" : "the spectrum"]: x }, { window });
  if (window && (window.shape.length !== 1 || window.size !== size)) {
    throw new ShapeError(`${op}: the window is ${show(window.shape)}, not [${size}]`);
  }
}

/** Bytes of workgroup memory of the fused kernel: more on a workgroup leaves fewer side by side. */
const STFT_BYTES = 16384;
/** Most pairs of frames that one invocation carries. */
const MOST_PAIRS = 2;

/**
 * Transforms windowed frames in one kernel; false where a frame or a row is no case for it. Records
 * nothing.
 */
function fusedStft(x: Tensor, window: Tensor | undefined, y: Tensor, attrs: FrameAttrs): boolean {
  const { device } = x;
  const { size, hop } = attrs;
  const { rows, width } = rowsAndWidth(x.shape);
  const count = Math.floor((width - size) / hop) + 1;
  const outs = count * bins(size) * 2;
  const half = size / 2;
  const pairs = Math.min(MOST_PAIRS, Math.floor(STFT_BYTES / (2 * 16 * half)));
  const aligned = !window || isBindable(window);
  // Rows go to launches whole; where not all fit one, as many at a time as any alignment needs.
  const widest = Math.max(width, outs);
  const together = rows * widest * x.itemSize <= device.bindingLimit;
  const bindable = together || widest * device.offsetAlignment <= device.bindingLimit;
  const passes = size % 2 === 0 ? radices(half) : undefined;
  if (!passes || size < 4 || pairs < 1 || !aligned || !bindable) return false;
  const passesOf = (...of: number[]) => passes.filter((radix) => of.includes(radix)).length;
  for (const [first, rowCount] of rowChunks(device, rows, [width, outs])) {
    device.run(
      kernel,
      {
        ...{ WG: WORKGROUP, M: half, PAIRS: pairs, PASSES: passes.length },
        ...{ F4: passesOf(4), F42: passesOf(4, 2), F423: passesOf(4, 2, 3) },
        WINDOW: window !== undefined,
        EVEN: hop % 2 === 0 && width % 2 === 0,
      },
      [
        rowsOf(x, first, rowCount, width),
        rowsOf(y, first, rowCount, outs),
        ...(window ? [window] : []),
      ],
      { rows: rowCount, samples: width, frames: count, hop },
      rowCount * Math.ceil(count / (2 * pairs)),
    );
  }
  return true;
}

/** Frames of `x`, weighted. Records nothing. */
function weighted(frames: Tensor, window: Tensor | undefined): Tensor {
  const y = frames.device.empty(frames.shape);
  if (window) elementwise(y, [frames, window], { expression: "a * b" });
  else elementwise(y, [frames], { expression: "a" });
  return y;
}

function refWeighted(pieces: RefArray, window: RefArray | undefined): RefArray {
  const size = pieces.shape[pieces.shape.length - 1];
  return { ...pieces, data: pieces.data.map((v, i) => window ? v * window.data[i % size] : v) };
}

const stftOp = /* @__PURE__ */ defineOp<FrameAttrs>({
  name: "stft",
  forward([x, window], attrs, save) {
    const { size } = attrs;
    const view = frameView(x, attrs);
    const y = x.device.empty([...view.shape.slice(0, -1), bins(size), 2]);
    if (window) {
      save(x);
      save(window);
    }
    if (fusedStft(x, window, y, attrs)) return [y];
    return [transform(weighted(view, window), size, FORWARD)];
  },
  backward({ grads: [dy], saved: [x, window], shapes: [shape], needs }, attrs) {
    const pieces = transform(dy!, attrs.size, ADJOINT);
    const dx = needs[0]
      ? addFrames(window ? weighted(pieces, window) : pieces, shape[shape.length - 1], attrs)
      : undefined;
    if (!window || !needs[1]) return [dx];
    elementwise(pieces, [frameView(x, attrs)], { expression: "o * a", readOut: true });
    return [dx, sumTo(pieces, [attrs.size])];
  },
  reference: {
    forward: ([x, window], attrs) => [
      refTransform(refWeighted(refFrames(x, attrs), window), attrs.size, FORWARD),
    ],
    backward([x, window], attrs, [dy]) {
      const pieces = refTransform(dy, attrs.size, ADJOINT);
      const dx = refAddFrames(refWeighted(pieces, window), x.shape, attrs);
      if (!window) return [dx];
      const dwindow = refZeros([attrs.size]);
      refFrames(x, attrs).data.forEach((v, i) =>
        dwindow.data[i % attrs.size] += v * pieces.data[i]
      );
      return [dx, dwindow];
    },
  },
});

/**
 * Short-time Fourier transform: `rfft` of windowed frames. Frame f starts at sample `f hop`; for
 * centred frames pad the signal by half a frame on both sides.
 *
 * @param x `[..., samples]`
 * @returns `[..., frames, floor(size / 2) + 1, 2]`
 * @throws {ShapeError} if no frame fits or the window has another size.
 */
export function stft(x: Tensor, options: StftOptions): Tensor {
  needWindow("stft", x, options);
  const { size, hop, window } = options;
  needFrame("stft", { size, hop }, x.shape[x.shape.length - 1] ?? 0);
  return stftOp.apply(window ? [x, window] : [x], { size, hop })[0];
}

/**
 * Inverse of {@link stft} in the least-squares sense: windowed frames added up, divided by the sum
 * of the squared windows there. Samples that no window reaches are 0.
 *
 * @param spectrum `[..., frames, floor(size / 2) + 1, 2]`
 * @returns `[..., (frames - 1) hop + size]`
 * @throws {ShapeError} if spectrum or window do not fit the size.
 */
export function istft(spectrum: Tensor, options: StftOptions): Tensor {
  needWindow("istft", spectrum, options);
  const { size, hop, window } = options;
  needFrame("istft", { size, hop });
  const [count, half, two] = spectrum.shape.slice(-3);
  if (two !== 2 || half !== bins(size) || !isFloat(spectrum.dtype)) {
    throw new ShapeError(
      `istft: the spectrum is ${show(spectrum.shape)} of ${spectrum.dtype}, not ` +
        `[..., frames, ${bins(size)}, 2] of floats`,
    );
  }
  if (spectrum.dtype === "f16") {
    // Weights that f16 rounds to 0 divide nothing.
    const wide = (x: Tensor) => x.dtype === "f16" ? cast(x, "f32") : x;
    return composite(() =>
      cast(istft(wide(spectrum), { size, hop, ...(window && { window: wide(window) }) }), "f16")
    );
  }
  const pieces = irfft(spectrum, size);
  const squares = window ? square(window) : spectrum.device.full([size], 1);
  const weight = overlapAdd(expand(squares, [count, size]), hop);
  return div(overlapAdd(window ? mul(pieces, window) : pieces, hop), maximum(weight, 1e-8));
}
