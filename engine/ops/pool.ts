/**
 * Pooling: maxima and averages of windows, axis by axis, as both are made of those of each axis.
 *
 * @module
 */
import { kindOf, needOptions, needTensors, perAxis } from "../arguments.ts";
import source from "../../kernels/max_pool.wgsl" with { type: "text" };
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { rowChunks, rowsOf } from "../launch/elementwise.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refZeros } from "../reference.ts";
import { composite } from "../scope.ts";
import { type Shape, show, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { type Band, bandedAlong } from "./banded.ts";

/** Windows along an axis. */
interface Windows {
  /** How many. */
  readonly windows: number;
  /** Elements of each, `dilation` apart; 0 where windows share the axis out instead. */
  readonly window: number;
  readonly stride: number;
  /** Places before the first element of the axis that the first window begins at. */
  readonly before: number;
  readonly dilation: number;
}

interface MaxPoolAttrs extends Windows {
  readonly axis: number;
}

const WORKGROUP = 64;
const kernel = /* @__PURE__ */ defineKernel("max_pool", source, {
  rounds: ({ constants, params: { size, windows, window, stride, dilation } }) => {
    if (constants.ADAPTIVE) {
      return Math.ceil(constants.BACKWARD ? windows / size : size / windows) + 3;
    }
    return constants.BACKWARD ? Math.ceil(dilation * (window - 1) / stride) + 3 : window + 1;
  },
});

/** Elements `[first, end)` of a window, `step` apart, within the axis. */
function extentOf(j: number, size: number, it: Windows): { first: number; end: number } {
  const { windows, window, stride, before, dilation } = it;
  if (window === 0) {
    return { first: Math.floor(j * size / windows), end: Math.ceil((j + 1) * size / windows) };
  }
  const start = j * stride - before;
  const hidden = Math.max(0, Math.ceil(-start / dilation));
  return {
    first: start + hidden * dilation,
    end: Math.min(size, start + (window - 1) * dilation + 1),
  };
}

function run(
  from: Tensor,
  to: Tensor,
  places: Tensor,
  { axis, windows, window, stride, before, dilation }: MaxPoolAttrs,
  back: boolean,
): void {
  if (to.size === 0) return;
  const { device, dtype, shape } = from;
  const inner = sizeOf(shape.slice(axis + 1));
  const each = [from, to, places].map((it) => it.shape[axis] * inner);
  const outer = sizeOf(shape.slice(0, axis));
  for (const [first, count] of rowChunks(device, outer, each, from.itemSize)) {
    device.run(
      kernel,
      { WG: WORKGROUP, E: dtype, BACKWARD: back, ADAPTIVE: window === 0 },
      [from, to, places].map((it, i) => rowsOf(it, first, count, each[i])),
      {
        ...{ count: count * each[1], size: (back ? to : from).shape[axis], windows, window },
        ...{ stride, before, dilation, inner },
      },
      Math.ceil(count * each[1] / WORKGROUP),
    );
  }
}

/** Visits every window: (index of the first of its maxima, index in the result). */
function refVisit(x: RefArray, attrs: MaxPoolAttrs, visit: (from: number, to: number) => void) {
  const { axis, windows, dilation, window } = attrs;
  const size = x.shape[axis];
  const inner = sizeOf(x.shape.slice(axis + 1));
  for (let to = 0; to < x.data.length / size * windows; to++) {
    const [i, j] = [to % inner, Math.floor(to / inner) % windows];
    const base = Math.floor(to / inner / windows) * size * inner + i;
    const { first, end } = extentOf(j, size, attrs);
    let from = base + first * inner;
    for (let k = first; k < end; k += window === 0 ? 1 : dilation) {
      const [value, top] = [x.data[base + k * inner], x.data[from]];
      if (!Number.isNaN(top) && !(value <= top)) from = base + k * inner;
    }
    visit(from, to);
  }
}

const maxPoolOp = /* @__PURE__ */ defineOp<MaxPoolAttrs>({
  name: "maxPool",
  half: true,
  forward([x], attrs, save) {
    const shape = x.shape.map((size, axis) => axis === attrs.axis ? attrs.windows : size);
    const [y, places] = [x.device.empty(shape, x.dtype), x.device.empty(shape, "u32")];
    run(x, y, places, attrs, false);
    save(places);
    return [y];
  },
  backward({ grads: [dy], saved: [places], shapes: [shape] }, attrs) {
    const dx = dy!.device.empty(shape, dy!.dtype);
    run(dy!, dx, places, attrs, true);
    return [dx];
  },
  reference: {
    forward([x], attrs) {
      const y = refZeros(x.shape.map((size, axis) => axis === attrs.axis ? attrs.windows : size));
      refVisit(x, attrs, (from, to) => y.data[to] = x.data[from]);
      return [y];
    },
    backward([x], attrs, [dy]) {
      const dx = refZeros(x.shape);
      refVisit(x, attrs, (from, to) => dx.data[from] += dy.data[to]);
      return [dx];
    },
  },
});

/** A number for all axes, or one for each. */
export type PerAxis = number | readonly number[];

/** Options of {@link maxPool1d} and {@link maxPool2d}. */
export interface MaxPoolOptions {
  /** Steps between neighbouring windows; default the size of a window. */
  readonly stride?: PerAxis;
  /** Places around the axes that windows may reach into, at most half of one; default 0. */
  readonly padding?: PerAxis;
  /** Steps between neighbouring elements of a window; default 1. */
  readonly dilation?: PerAxis;
  /** Whether windows that reach beyond the end count as well; default false. */
  readonly ceilMode?: boolean;
}

/** Options of {@link avgPool1d} and {@link avgPool2d}. */
export interface AvgPoolOptions extends Omit<MaxPoolOptions, "dilation"> {
  /** Whether zeros of the padding count in the divisor; default true. */
  readonly countIncludePad?: boolean;
}

/** The last `n` axes of a float, and a list of whole numbers for them. */
function spatial(name: string, x: Tensor, n: number): { axes: number[]; sizes: Shape } {
  needTensors(name, { x });
  const rank = x.shape.length;
  if (rank < n || !isFloat(x.dtype)) {
    throw new ShapeError(`${name}: x is ${kindOf(x)}; floats of at least ${n} axes are needed`);
  }
  return {
    axes: Array.from({ length: n }, (_, i) => rank - n + i),
    sizes: x.shape.slice(rank - n),
  };
}

/** Windows of every axis. */
function windowsOf(
  name: string,
  sizes: Shape,
  window: PerAxis,
  { stride = window, padding = 0, dilation = 1, ceilMode = false }: MaxPoolOptions,
): Windows[] {
  const n = sizes.length;
  const [k, s, p, d] = [
    perAxis(name, "window", window, n, 1),
    perAxis(name, "stride", stride, n, 1),
    perAxis(name, "padding", padding, n, 0),
    perAxis(name, "dilation", dilation, n, 1),
  ];
  return sizes.map((size, i) => {
    const reach = d[i] * (k[i] - 1) + 1;
    const steps = (size + 2 * p[i] - reach) / s[i];
    let windows = (ceilMode ? Math.ceil(steps) : Math.floor(steps)) + 1;
    // A window must begin within the axis or before it.
    if (ceilMode && (windows - 1) * s[i] >= size + p[i]) windows--;
    const it = { windows, window: k[i], stride: s[i], before: p[i], dilation: d[i] };
    const empty = (j: number) => {
      const { first, end } = extentOf(j, size, it);
      return first >= end;
    };
    if (2 * p[i] > reach || windows < 1 || empty(0) || empty(windows - 1)) {
      throw new ShapeError(
        `${name}: windows of ${k[i]}, ${d[i]} apart, with padding ${p[i]} do not fit an axis of ` +
          `${size}: each must meet it, and the padding is at most half of one`,
      );
    }
    return it;
  });
}

/** Windows that share every axis out. */
function shares(name: string, sizes: Shape, counts: PerAxis): Windows[] {
  return perAxis(name, "size of the result", counts, sizes.length, 1).map((windows, i) => {
    if (sizes[i] === 0) throw new ShapeError(`${name}: ${show(sizes)} has no places`);
    return { windows, window: 0, stride: 1, before: 0, dilation: 1 };
  });
}

/** Maxima along one axis after the other, the last one first. */
function maxima(x: Tensor, axes: readonly number[], windows: readonly Windows[]): Tensor {
  return composite(() =>
    axes.reduceRight((y, axis, i) => maxPoolOp.apply([y], { axis, ...windows[i] })[0], x)
  );
}

/** Averages along one axis after the other, the last one first. */
function averages(
  x: Tensor,
  axes: readonly number[],
  windows: readonly Windows[],
  countPadding: boolean,
): Tensor {
  const bandsOf = (it: Windows, size: number): Band[] =>
    Array.from({ length: it.windows }, (_, j) => {
      const { first, end } = extentOf(j, size, it);
      const start = j * it.stride - it.before;
      const padded = Math.min(start + it.window, size + it.before) - start;
      const share = 1 / (it.window > 0 && countPadding ? padded : end - first);
      return { first, weights: new Array(end - first).fill(share) };
    });
  return bandedAlong(x, axes, axes.map((axis, i) => bandsOf(windows[i], x.shape[axis])));
}

function maxPool(name: string, n: number, x: Tensor, window: PerAxis, options: MaxPoolOptions) {
  needOptions(name, options, ["stride", "padding", "dilation", "ceilMode"]);
  const { axes, sizes } = spatial(name, x, n);
  return maxima(x, axes, windowsOf(name, sizes, window, options));
}

function avgPool(name: string, n: number, x: Tensor, window: PerAxis, options: AvgPoolOptions) {
  needOptions(name, options, ["stride", "padding", "ceilMode", "countIncludePad"]);
  const { axes, sizes } = spatial(name, x, n);
  return averages(
    x,
    axes,
    windowsOf(name, sizes, window, options),
    options.countIncludePad ?? true,
  );
}

/**
 * Maxima of windows along the last axis, as torch's `max_pool1d`; a maximum's gradient goes to the
 * first place that has it. NaN is a maximum.
 *
 * @param x [..., length]
 * @param window elements of a window
 * @returns [..., windows], with `windows = floor((length + 2 padding - dilation (window - 1) - 1) /
 * stride) + 1`
 * @throws {ShapeError} if windows do not fit the axis.
 */
export function maxPool1d(x: Tensor, window: PerAxis, options: MaxPoolOptions = {}): Tensor {
  return maxPool("maxPool1d", 1, x, window, options);
}

/** Maxima of windows over the last two axes, as torch's `max_pool2d`; see {@link maxPool1d}. */
export function maxPool2d(x: Tensor, window: PerAxis, options: MaxPoolOptions = {}): Tensor {
  return maxPool("maxPool2d", 2, x, window, options);
}

/** Maxima of windows over the last three axes, as torch's `max_pool3d`; see {@link maxPool1d}. */
export function maxPool3d(x: Tensor, window: PerAxis, options: MaxPoolOptions = {}): Tensor {
  return maxPool("maxPool3d", 3, x, window, options);
}

/**
 * Averages of windows along the last axis, as torch's `avg_pool1d`.
 *
 * @param x [..., length]
 * @param window elements of a window
 * @returns [..., windows], as many as of {@link maxPool1d}
 * @throws {ShapeError} if windows do not fit the axis.
 */
export function avgPool1d(x: Tensor, window: PerAxis, options: AvgPoolOptions = {}): Tensor {
  return avgPool("avgPool1d", 1, x, window, options);
}

/** Averages of windows over the last two axes, as torch's `avg_pool2d`; see {@link avgPool1d}. */
export function avgPool2d(x: Tensor, window: PerAxis, options: AvgPoolOptions = {}): Tensor {
  return avgPool("avgPool2d", 2, x, window, options);
}

/** Averages of windows over the last three axes, as torch's `avg_pool3d`; see {@link avgPool1d}. */
export function avgPool3d(x: Tensor, window: PerAxis, options: AvgPoolOptions = {}): Tensor {
  return avgPool("avgPool3d", 3, x, window, options);
}

/**
 * Averages of as many windows as the result has places, which share the last axis out: window j of
 * n reaches from `floor(j length / n)` to `ceil((j + 1) length / n)`, as torch's
 * `adaptive_avg_pool1d`.
 *
 * @param x [..., length]
 * @param size places of the result
 * @returns [..., size]
 * @throws {ShapeError} if the axis is empty or the size no whole number from 1.
 */
export function adaptiveAvgPool1d(x: Tensor, size: PerAxis): Tensor {
  const { axes, sizes } = spatial("adaptiveAvgPool1d", x, 1);
  return averages(x, axes, shares("adaptiveAvgPool1d", sizes, size), false);
}

/** Averages over the last two axes; see {@link adaptiveAvgPool1d}. */
export function adaptiveAvgPool2d(x: Tensor, size: PerAxis): Tensor {
  const { axes, sizes } = spatial("adaptiveAvgPool2d", x, 2);
  return averages(x, axes, shares("adaptiveAvgPool2d", sizes, size), false);
}

/** Maxima of the windows of {@link adaptiveAvgPool1d}. */
export function adaptiveMaxPool1d(x: Tensor, size: PerAxis): Tensor {
  const { axes, sizes } = spatial("adaptiveMaxPool1d", x, 1);
  return maxima(x, axes, shares("adaptiveMaxPool1d", sizes, size));
}

/** Maxima of the windows of {@link adaptiveAvgPool2d}. */
export function adaptiveMaxPool2d(x: Tensor, size: PerAxis): Tensor {
  const { axes, sizes } = spatial("adaptiveMaxPool2d", x, 2);
  return maxima(x, axes, shares("adaptiveMaxPool2d", sizes, size));
}
