/**
 * Tensors made from sizes and ranges rather than from values or other tensors. `Device.tensor`,
 * `full` and `zeros` are the others; random.ts and sampling.ts draw numbers.
 *
 * @module
 */
import {
  needDevice,
  needDType,
  needFitting,
  needNumber,
  needOptions,
  needTensors,
  needWhole,
} from "./arguments.ts";
import type { Device } from "./device.ts";
import { type DType, type HostArray, hostView, isFloat, itemSizeOf } from "./dtype.ts";
import { ShapeError } from "./errors.ts";
import type { Tensor } from "./tensor.ts";

/** A tensor of `count` numbers by place, each of which `dtype` must hold. */
function fromPlaces(
  op: string,
  device: Device,
  count: number,
  dtype: DType,
  value: (place: number) => number,
): Tensor {
  const values: HostArray = hostView(dtype, new ArrayBuffer(count * itemSizeOf(dtype)));
  for (let i = 0; i < count; i++) {
    const it = value(i);
    if (!isFloat(dtype)) needFitting(op, it, dtype);
    values[i] = it;
  }
  return device.tensor(values);
}

/** Bounds and options of {@link arange}. */
export interface ArangeOptions {
  /** First number; default 0. */
  readonly start?: number;
  /** From one to the next; default 1, below 0 downwards. */
  readonly step?: number;
  /** Default f32. */
  readonly dtype?: DType;
}

/**
 * Numbers from `start` up to, but without, `stop`: each is `start + i * step`, computed in float64.
 *
 * @throws {ShapeError} if a number is not finite, the step is 0, or integers cannot hold one.
 */
export function arange(device: Device, stop: number, options: ArangeOptions = {}): Tensor {
  needDevice("arange", device);
  needOptions("arange", options, ["start", "step", "dtype"]);
  const { start = 0, step = 1, dtype = "f32" } = options;
  for (const [name, value] of Object.entries({ start, stop, step })) {
    needNumber("arange", name, value);
  }
  needDType("arange", dtype);
  if (step === 0) throw new ShapeError(`arange: from ${start} to ${stop} in steps of 0`);
  const count = Math.max(0, Math.ceil((stop - start) / step));
  return fromPlaces("arange", device, count, dtype, (i) => start + i * step);
}

/**
 * Frequencies of the bins of `fft` of `n` samples, `spacing` apart, in float64 rounded to f32:
 * `k / (n spacing)`, of the second half those below 0.
 *
 * @throws {ShapeError} if n is no whole number from 1 or the spacing not finite.
 */
export function fftfreq(device: Device, n: number, spacing = 1): Tensor {
  return frequencies("fftfreq", device, n, spacing, n, Math.ceil(n / 2));
}

/** Frequencies of the bins of `rfft`, from 0 to `1 / (2 spacing)`; see {@link fftfreq}. */
export function rfftfreq(device: Device, n: number, spacing = 1): Tensor {
  return frequencies("rfftfreq", device, n, spacing, Math.floor(n / 2) + 1, Infinity);
}

function frequencies(
  op: string,
  device: Device,
  n: number,
  spacing: number,
  count: number,
  negative: number,
): Tensor {
  needDevice(op, device);
  needWhole(op, "the length", n, 1);
  needNumber(op, "the spacing", spacing);
  if (spacing === 0) throw new ShapeError(`${op}: the spacing is 0`);
  return fromPlaces(op, device, count, "f32", (k) => (k < negative ? k : k - n) / (n * spacing));
}

/**
 * `count` numbers at equal distances, both ends included.
 *
 * @throws {ShapeError} if an end is not finite or the count no whole number from 0.
 */
export function linspace(
  device: Device,
  start: number,
  stop: number,
  count: number,
  dtype: DType = "f32",
): Tensor {
  needDevice("linspace", device);
  needNumber("linspace", "start", start);
  needNumber("linspace", "stop", stop);
  needWhole("linspace", "the count", count);
  needDType("linspace", dtype);
  const last = Math.max(count - 1, 1);
  return fromPlaces(
    "linspace",
    device,
    count,
    dtype,
    // Weighted from the nearer end, so that both are exact.
    (i) =>
      2 * i < last ? start + (stop - start) * i / last : stop - (stop - start) * (last - i) / last,
  );
}

/**
 * The periodic Hann window, `0.5 - 0.5 cos(2 pi i / size)`, as torch's `hann_window`: weights of
 * a frame's samples for `stft` and `istft`.
 *
 * @returns f32 [size]
 * @throws {ShapeError} if the size is no whole number from 1.
 */
export function hannWindow(device: Device, size: number): Tensor {
  needDevice("hannWindow", device);
  needWhole("hannWindow", "the size", size, 1);
  const weight = (i: number) => 0.5 - 0.5 * Math.cos(2 * Math.PI * i / size);
  return fromPlaces("hannWindow", device, size, "f32", weight);
}

/** Checks what the functions below have in common; the element type of the result. */
function likeOf(op: string, x: Tensor, dtype: DType = x?.dtype): DType {
  needTensors(op, { x });
  needDType(op, dtype);
  return dtype;
}

/**
 * A tensor of one value with the shape and element type of another.
 *
 * @param dtype default: that of `x`
 * @throws {ShapeError} if elements of integers cannot hold the value.
 */
export function fullLike(x: Tensor, value: number, dtype?: DType): Tensor {
  const type = likeOf("fullLike", x, dtype);
  needFitting("fullLike", value, type);
  return x.device.full(x.shape, value, type);
}

/** Zeros with the shape and, unless said otherwise, element type of another tensor. */
export function zerosLike(x: Tensor, dtype?: DType): Tensor {
  const type = likeOf("zerosLike", x, dtype);
  return x.device.zeros(x.shape, type);
}

/** Ones with the shape and, unless said otherwise, element type of another tensor. */
export function onesLike(x: Tensor, dtype?: DType): Tensor {
  const type = likeOf("onesLike", x, dtype);
  return x.device.full(x.shape, 1, type);
}

/** An uninitialised tensor with the shape and, unless said otherwise, element type of another. */
export function emptyLike(x: Tensor, dtype?: DType): Tensor {
  const type = likeOf("emptyLike", x, dtype);
  return x.device.empty(x.shape, type);
}
