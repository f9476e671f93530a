/**
 * Counter-based random numbers (Philox4x32-10): tensors of them, and the same numbers on the host.
 *
 * A number depends only on its seed, stream, step and place in the tensor. There is no state to
 * keep or restore.
 *
 * @module
 */
import { needDevice, needNumber, needOptions, needTensors, needWhole } from "./arguments.ts";
import source from "../kernels/random.wgsl" with { type: "text" };
import type { Device } from "./device.ts";
import { ShapeError } from "./errors.ts";
import { defineKernel } from "./kernel.ts";
import { rowChunks, rowsOf } from "./launch/elementwise.ts";
import { needShape, type Shape, show } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

const kernel = /* @__PURE__ */ defineKernel("random", source);
const WORKGROUP = 64;
const MODES = { uniform: 0, normal: 1, dropout: 2, integer: 3 } as const;

/** Which of a seed's numbers are meant. */
export interface RandomOptions {
  /**
   * Whole number below 2^32 that tells users of one seed apart, such as the layers of a model;
   * default 0.
   */
  readonly stream?: number;
  /**
   * Whole number below 2^32, such as the training step; default 0. A u32 tensor `[1]` may change
   * between replays of a captured step; it must not change between an op and its backward pass.
   */
  readonly step?: number | Tensor;
}

/** Options of {@link randomUniform}. */
export interface UniformOptions extends RandomOptions {
  /** Lower bound, inclusive; default 0. */
  readonly low?: number;
  /** Upper bound; default 1. Rounding may reach it unless it is 1 and `low` is 0. */
  readonly high?: number;
}

/** Options of {@link randomNormal}. */
export interface NormalOptions extends RandomOptions {
  /** Default 0. */
  readonly mean?: number;
  /** Standard deviation; default 1. */
  readonly deviation?: number;
}

/** High word of a 32 x 32 bit product. */
function highProduct(a: number, b: number): number {
  const [al, ah, bl, bh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const [lh, hl] = [al * bh, ah * bl];
  const middle = Math.floor(al * bl / 65536) + lh % 65536 + hl % 65536;
  return (ah * bh + Math.floor(lh / 65536) + Math.floor(hl / 65536) +
    Math.floor(middle / 65536)) >>>
    0;
}

/**
 * The four words of a counter under a key: Philox4x32 with ten rounds, as Random123 has it.
 *
 * @param counter four words
 * @param key two words
 */
export function philox(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const [h0, h1] = [highProduct(0xd2511f53, c0), highProduct(0xcd9e8d57, c2)];
    const [l0, l1] = [Math.imul(0xd2511f53, c0), Math.imul(0xcd9e8d57, c2)];
    [c0, c1, c2, c3] = [(h1 ^ c1 ^ k0) >>> 0, l1 >>> 0, (h0 ^ c3 ^ k1) >>> 0, l0 >>> 0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/**
 * The uniform numbers in [0, 1) behind a tensor of `size` elements, as kernels make them, bit for
 * bit; {@link randomUniform} gives the same.
 *
 * @param seed whole number below 2^32, as are `stream` and `step`
 */
export function hostUniform(size: number, seed: number, stream = 0, step = 0): Float64Array {
  needWhole("hostUniform", "the size", size);
  needRandom("hostUniform", seed, { stream, step });
  const result = new Float64Array(size);
  for (let i = 0; i < size; i += 4) {
    philox([i / 4, 0, step, 0], [seed, stream]).forEach((word, k) => {
      if (i + k < size) result[i + k] = (word >>> 8) / 2 ** 24;
    });
  }
  return result;
}

/** Checks and completes what a random kernel is given. */
export function needRandom(op: string, seed: number, { stream = 0, step = 0 }: RandomOptions) {
  if (typeof step !== "number") needTensors(op, { step });
  const words = typeof step === "number" ? [seed, stream, step] : [seed, stream];
  if (words.some((word) => !Number.isInteger(word) || word < 0 || word >= 2 ** 32)) {
    throw new ShapeError(`${op}: seed, stream and step must be whole numbers below 2^32`);
  }
  if (typeof step !== "number" && (step.dtype !== "u32" || step.size !== 1)) {
    throw new ShapeError(`${op}: step is ${show(step.shape)} of ${step.dtype}, not u32 [1]`);
  }
  return { seed, stream, step };
}

/**
 * Fills a dense tensor, or writes `x` to it with elements dropped. Records nothing.
 *
 * @param alpha lower bound, mean, or rate
 * @param beta upper bound (of integers the first one above), deviation, or factor of what is kept
 */
export function runRandom(
  mode: keyof typeof MODES,
  result: Tensor,
  from: Required<RandomOptions> & { readonly seed: number },
  alpha: number,
  beta: number,
  x?: Tensor,
): void {
  const { device, size, dtype } = result;
  const { seed, stream, step } = from;
  const range = mode === "integer" ? { low: alpha, span: beta - alpha } : { low: 0, span: 0 };
  const tensor = typeof step === "number" ? undefined : step;
  for (const [first, count] of rowChunks(device, size, [1])) {
    const operands = [result, ...(x ? [x] : [])].map((t) => rowsOf(t, first, count, 1));
    device.run(
      kernel,
      { WG: WORKGROUP, MODE: MODES[mode], TENSOR: tensor !== undefined, E: dtype },
      tensor ? [...operands, tensor] : operands,
      {
        count,
        first: first / 4,
        seed,
        stream,
        step: typeof step === "number" ? step : 0,
        alpha,
        beta,
        ...range,
      },
      Math.ceil(count / 4 / WORKGROUP),
    );
  }
}

/**
 * A tensor of numbers spread evenly over `low..high`.
 *
 * @param seed whole number below 2^32; the same seed, stream and step give the same numbers on
 * every adapter
 * @throws {ShapeError} if seed, stream or step are no whole numbers below 2^32.
 */
export function randomUniform(
  device: Device,
  shape: Shape,
  seed: number,
  options: UniformOptions = {},
): Tensor {
  needDevice("randomUniform", device);
  needShape("randomUniform", shape);
  needOptions("randomUniform", options, ["low", "high", "stream", "step"]);
  const { low = 0, high = 1 } = options;
  needNumber("randomUniform", "low", low);
  needNumber("randomUniform", "high", high);
  const result = device.empty(shape);
  runRandom("uniform", result, needRandom("randomUniform", seed, options), low, high);
  return result;
}

/**
 * A tensor of normally distributed numbers.
 *
 * @param seed whole number below 2^32; the same seed, stream and step give the same numbers, to a
 * few ulp across adapters
 * @throws {ShapeError} if seed, stream or step are no whole numbers below 2^32.
 */
export function randomNormal(
  device: Device,
  shape: Shape,
  seed: number,
  options: NormalOptions = {},
): Tensor {
  needDevice("randomNormal", device);
  needShape("randomNormal", shape);
  needOptions("randomNormal", options, ["mean", "deviation", "stream", "step"]);
  const { mean = 0, deviation = 1 } = options;
  needNumber("randomNormal", "mean", mean);
  needNumber("randomNormal", "deviation", deviation, 0);
  const result = device.empty(shape);
  runRandom("normal", result, needRandom("randomNormal", seed, options), mean, deviation);
  return result;
}
