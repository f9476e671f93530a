/**
 * Checks of what callers hand to public functions. Each error names the function, the argument,
 * what was given and what is needed.
 *
 * @module
 */
import { type DType, DTYPES } from "./dtype.ts";
import { LifetimeError, ShapeError } from "./errors.ts";
import { normalizeAxis, show } from "./shape.ts";
import { Tensor } from "./tensor.ts";

/** A value in a few words. */
export function kindOf(value: unknown): string {
  if (value instanceof Tensor) return `a tensor ${show(value.shape)} of ${value.dtype}`;
  if (typeof value === "string") return JSON.stringify(value.slice(0, 40));
  if (typeof value === "function") return "a function";
  if (typeof value !== "object" || value === null) return String(value);
  if (Array.isArray(value)) return `the array [${value.slice(0, 8).map(kindOf).join(", ")}]`;
  return `an object of ${value.constructor?.name ?? "no class"}`;
}

/** Every op asks, so nothing is made for it. */
function areTensors(values: Readonly<Record<string, unknown>>, optional: boolean): boolean {
  for (const name in values) {
    const value = values[name];
    if (!(value instanceof Tensor || optional && value === undefined)) return false;
  }
  return true;
}

/**
 * Checks operands by name.
 *
 * @param optional those that may be undefined
 * @throws {ShapeError} if one is no tensor.
 */
export function needTensors(
  op: string,
  operands: Readonly<Record<string, unknown>>,
  optional: Readonly<Record<string, unknown>> = {},
): void {
  if (areTensors(operands, false) && areTensors(optional, true)) return;
  const all = { ...operands, ...optional };
  for (const [name, value] of Object.entries(all)) {
    if (value instanceof Tensor || value === undefined && name in optional) continue;
    const others = Object.entries(all).filter(([other, it]) => other !== name && it !== undefined)
      .map(([other, it]) => `${other} is ${kindOf(it)}`);
    throw new ShapeError(
      [`${op}: ${name} is ${kindOf(value)}, a tensor is needed`, ...others].join("; "),
    );
  }
}

/**
 * {@link needTensors} that can take part in one computation.
 *
 * @throws {ShapeError} if one is no tensor.
 * @throws {LifetimeError} if one was disposed or lives on another device.
 */
export function needTogether(
  op: string,
  operands: Readonly<Record<string, unknown>>,
  optional: Readonly<Record<string, unknown>> = {},
): void {
  needTensors(op, operands, optional);
  const given = Object.entries({ ...operands, ...optional }).filter(([, it]) => it !== undefined);
  const tensors = given as [string, Tensor][];
  for (const [name, { shape, disposed, device }] of tensors) {
    if (disposed) {
      throw new LifetimeError(`${op}: ${name} ${show(shape)} was used after it was disposed`);
    }
    if (device !== tensors[0][1].device) {
      throw new LifetimeError(`${op}: ${tensors[0][0]} and ${name} live on different devices`);
    }
  }
}

/** @throws {ShapeError} if `value` is no array of tensors with at least one element. */
export function needTensorList(op: string, value: unknown): void {
  if (!Array.isArray(value) || value.length === 0 || !value.every((it) => it instanceof Tensor)) {
    throw new ShapeError(`${op}: ${kindOf(value)} is given, an array of tensors is needed`);
  }
}

/**
 * Checks options.
 *
 * @param names those that there are
 * @throws {ShapeError} if they are no object, or one has another name.
 */
export function needOptions(op: string, options: unknown, names: readonly string[]): void {
  const plain = typeof options === "object" && options !== null && !Array.isArray(options) &&
    !(options instanceof Tensor);
  const unknown = plain ? Object.keys(options).find((name) => !names.includes(name)) : undefined;
  if (plain && unknown === undefined) return;
  throw new ShapeError(
    `${op}: ${
      unknown === undefined ? kindOf(options) : `the option ${unknown}`
    } is given; options ` +
      `are an object with ${names.join(", ")}`,
  );
}

/** @throws {ShapeError} if `value` is no whole number from `least` to `most`. */
export function needWhole(
  op: string,
  name: string,
  value: unknown,
  least = 0,
  most = Number.MAX_SAFE_INTEGER,
): void {
  if (Number.isInteger(value) && value as number >= least && value as number <= most) return;
  const end = most === Number.MAX_SAFE_INTEGER ? "" : ` to ${most}`;
  throw new ShapeError(
    `${op}: ${name} is ${kindOf(value)}, a whole number from ${least}${end} is needed`,
  );
}

/**
 * One number for each of `n` axes.
 *
 * @throws {ShapeError} if they are no whole numbers from `least`, or not so many.
 */
export function perAxis(
  name: string,
  what: string,
  value: unknown,
  n: number,
  least: number,
): number[] {
  const list = typeof value === "number" ? new Array<number>(n).fill(value) : value;
  if (
    !Array.isArray(list) || list.length !== n ||
    !list.every((it) => Number.isInteger(it) && it >= least)
  ) {
    throw new ShapeError(
      `${name}: the ${what} is ${kindOf(value)}, a whole number from ${least} or ${n} of them ` +
        "are needed",
    );
  }
  return list;
}

/** @throws {ShapeError} if `value` is no list of whole numbers. */
export function needWholes(op: string, name: string, value: unknown): void {
  if (Array.isArray(value) && value.every(Number.isInteger)) return;
  throw new ShapeError(`${op}: ${name} is ${kindOf(value)}, an array of whole numbers is needed`);
}

/** @throws {ShapeError} if `value` is no finite number from `least`. */
export function needNumber(op: string, name: string, value: unknown, least = -Infinity): void {
  if (Number.isFinite(value) && value as number >= least) return;
  const from = least === -Infinity ? "" : ` from ${least}`;
  throw new ShapeError(`${op}: ${name} is ${kindOf(value)}, a finite number${from} is needed`);
}

/** @throws {ShapeError} if `dtype` is none. */
export function needDType(op: string, dtype: unknown): void {
  if (DTYPES.includes(dtype as DType)) return;
  throw new ShapeError(`${op}: ${kindOf(dtype)} is no element type; ${DTYPES.join(", ")} are`);
}

/** Whole numbers that elements of integers hold. */
const RANGES = { u32: [0, 2 ** 32 - 1], i32: [-(2 ** 31), 2 ** 31 - 1] } as const;

/** @throws {ShapeError} if elements of `dtype` cannot hold a number exactly; floats round. */
export function needFitting(op: string, value: unknown, dtype: DType): void {
  if (typeof value !== "number") {
    throw new ShapeError(`${op}: ${kindOf(value)} is given, a tensor or a number is needed`);
  }
  if (dtype === "f32" || dtype === "f16") return;
  const [low, high] = RANGES[dtype];
  if (!Number.isInteger(value) || value < low || value > high) {
    throw new ShapeError(
      `${op}: ${value} beside ${dtype}; a whole number from ${low} to ${high} is needed`,
    );
  }
}

/** @throws {ShapeError} if `device` is none. */
export function needDevice(op: string, device: unknown): void {
  if (typeof (device as { tensor?: unknown } | undefined)?.tensor === "function") return;
  throw new ShapeError(`${op}: ${kindOf(device)} is given, a device is needed`);
}

/** @throws {ShapeError} if `value` is no function. */
export function needFunction(op: string, name: string, value: unknown): void {
  if (typeof value === "function") return;
  throw new ShapeError(`${op}: ${name} is ${kindOf(value)}, a function is needed`);
}

/** @throws {ShapeError} if `list` is nothing to walk through. */
export function needIterable<T extends Iterable<unknown>>(op: string, list: T): T {
  if (typeof list === "object" && list && Symbol.iterator in list) return list;
  throw new ShapeError(`${op}: ${kindOf(list)} is given, a list is needed`);
}

/** Some axes by their indices, none of them twice. Internal to ops. */
export function axesOf(op: string, axes: number | readonly number[], rank: number): number[] {
  const list = typeof axes === "number" ? [axes] : axes;
  needWholes(op, "the axes", list);
  const indices = list.map((axis) => normalizeAxis(op, axis, rank));
  if (new Set(indices).size === indices.length) return indices;
  throw new ShapeError(`${op}: the axes [${list}] name one axis twice`);
}
