/**
 * Launches of Fourier transforms along rows. Lengths whose prime factors are at most 31 go in
 * passes of these factors (fft.wgsl), others by a convolution of such a length (chirp.wgsl;
 * Bluestein, "A linear filtering approach to the computation of discrete Fourier transform", 1970).
 *
 * @module
 */
import chirpSource from "../../kernels/chirp.wgsl" with { type: "text" };
import source from "../../kernels/fft.wgsl" with { type: "text" };
import type { TensorWindow } from "../device.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import type { Params } from "../recorder.ts";
import { type Shape, sizeOf } from "../shape.ts";
import type { Constants } from "../template.ts";
import type { Tensor } from "../tensor.ts";
import { rowChunks, rowsOf } from "./elementwise.ts";

const kernel = /* @__PURE__ */ defineKernel("fft", source, {
  rounds: ({ params: { radix } }) => radix + 1,
});
const chirpKernel = /* @__PURE__ */ defineKernel("chirp", chirpSource);
const WORKGROUP = 64;

/** Largest prime factor with passes of its own: sums of more terms cost more than convolutions. */
const MOST_RADIX = 31;

/** Largest length whose squares chirp.wgsl reduces. */
const MOST_LENGTH = 2 ** 24;

/** Factors up to `most`, 4 before 2; undefined where others are left. */
function factors(n: number, most: number): number[] | undefined {
  const list: number[] = [];
  for (const radix of [4, 2, 3]) {
    for (; n % radix === 0; n /= radix) list.push(radix);
  }
  for (let radix = 5; radix <= most; radix += 2) {
    for (; n % radix === 0; n /= radix) list.push(radix);
  }
  return n !== 1 ? undefined : list.length > 0 ? list : [1];
}

/** Radices of passes: 4 where possible, then 2, 3 and 5; undefined where others are left. */
export function radices(n: number): number[] | undefined {
  return factors(n, 5);
}

/** The length from `least` on whose passes load least. */
function convenient(least: number): number {
  const cost = (n: number) => n * radices(n)!.reduce((a, b) => a + b);
  return [1, 3, 5, 9, 15].map((odd) => odd * 2 ** Math.max(0, Math.ceil(Math.log2(least / odd))))
    .reduce((a, b) => cost(b) < cost(a) ? b : a);
}

/** Bins of a half spectrum. */
export const bins = (n: number): number => Math.floor(n / 2) + 1;

/** What a row holds: n complex or real numbers, or the first half of a spectrum. */
export type RowKind = "complex" | "real" | "half";

/** How rows are transformed. */
export interface TransformRows {
  /** Half a spectrum is 0 beyond its bins. */
  readonly from: RowKind;
  /** Of the result, all, the real parts or the first half. */
  readonly to: RowKind;
  /** Whether exponents are positive. */
  readonly inverse: boolean;
  /** Whether those bins of half a spectrum count twice that stand for two. */
  readonly doubled?: boolean;
  /** Factor of the result; default 1. */
  readonly scale?: number;
}

/** Elements of a row, and floats. */
function rowSize(kind: RowKind, n: number): { count: number; floats: number } {
  const count = kind === "half" ? bins(n) : n;
  return { count, floats: kind === "real" ? count : 2 * count };
}

const reading = ({ from, doubled = false }: TransformRows): Constants => ({
  REAL_IN: from === "real",
  HALF_IN: from === "half",
  DOUBLE_IN: from === "half" && doubled,
});
const writing = ({ to, doubled = false }: TransformRows): Constants => ({
  REAL_OUT: to === "real",
  HALF_OUT: to === "half",
  DOUBLE_OUT: to === "half" && doubled,
});
const PLAIN: TransformRows = { from: "complex", to: "complex", inverse: false };

/** Rows of the result of a transform. */
const rowsFor = (x: Tensor, batch: Shape, kind: RowKind, n: number): Tensor =>
  x.device.empty([...batch, rowSize(kind, n).count, ...kind === "real" ? [] : [2]]);

/** A pass for each radix. */
function passes(x: Tensor, batch: Shape, n: number, list: readonly number[], how: TransformRows) {
  const { device } = x;
  let current = x;
  let done = 1;
  list.forEach((radix, pass) => {
    const [head, tail] = [pass === 0, pass === list.length - 1];
    const [from, to] = [head ? how.from : "complex", tail ? how.to : "complex"];
    const [ins, outs] = [rowSize(from, n), rowSize(to, n)];
    const target = rowsFor(x, batch, to, n);
    const loop = radix > 5;
    const each = loop ? outs.count : n / radix;
    for (const [first, count] of rowChunks(device, sizeOf(batch), [ins.floats, outs.floats])) {
      device.run(
        kernel,
        {
          ...{ WG: WORKGROUP, SIGN: how.inverse, R: loop ? 0 : radix },
          ...reading(head ? how : PLAIN),
          ...writing(tail ? how : PLAIN),
        },
        [rowsOf(current, first, count, ins.floats), rowsOf(target, first, count, outs.floats)],
        {
          ...{ count: count * each, n, done, left: n / done / radix, radix },
          ...{ ins: ins.count, outs: outs.count, scale: tail ? how.scale ?? 1 : 1 },
        },
        Math.ceil(count * each / WORKGROUP),
      );
    }
    if (current !== x) current.dispose();
    current = target;
    done *= radix;
  });
  return current;
}

/** By a convolution with a chirp, through spectra of a convenient length. */
function bluestein(x: Tensor, batch: Shape, n: number, how: TransformRows): Tensor {
  const { device } = x;
  const rows = sizeOf(batch);
  const span = convenient(2 * n - 1);
  const [ins, outs] = [rowSize(how.from, n), rowSize(how.to, n)];
  const step = (
    number: number,
    operands: (Tensor | TensorWindow)[],
    count: number,
    sizes: Partial<Params>,
    constants: Constants = {},
  ) =>
    device.run(
      chirpKernel,
      {
        ...{ WG: WORKGROUP, STEP: number, SIGN: how.inverse },
        ...reading(PLAIN),
        ...writing(PLAIN),
        ...constants,
      },
      operands,
      { count, n, done: 1, left: span, radix: 1, ins: span, outs: span, scale: 1, ...sizes },
      Math.ceil(count / WORKGROUP),
    );
  const convolved = (x: Tensor, batch: Shape, inverse: boolean) => {
    const y = passes(x, batch, span, radices(span)!, { ...PLAIN, inverse });
    x.dispose();
    return y;
  };
  const wide = 2 * span;
  const chunks = rowChunks(device, rows, [ins.floats, wide, outs.floats]);
  let signal = rowsFor(x, batch, "complex", span);
  for (const [first, count] of chunks) {
    const operands = [rowsOf(x, first, count, ins.floats), rowsOf(signal, first, count, wide)];
    step(0, operands, count * span, { ins: ins.count }, reading(how));
  }
  signal = convolved(signal, batch, false);
  const chirp = rowsFor(x, [], "complex", span);
  // It reads nothing, but has something bound.
  step(1, [rowsOf(x, 0, Math.min(1, rows), ins.floats), chirp], span, {});
  const filter = convolved(chirp, [], false);
  for (const [first, count] of chunks) {
    step(2, [filter, rowsOf(signal, first, count, wide)], count * span, {});
  }
  filter.dispose();
  signal = convolved(signal, batch, true);
  const y = rowsFor(x, batch, how.to, n);
  const sizes = { outs: outs.count, scale: (how.scale ?? 1) / span };
  for (const [first, count] of chunks) {
    const operands = [rowsOf(signal, first, count, wide), rowsOf(y, first, count, outs.floats)];
    step(3, operands, count * outs.count, sizes, writing(how));
  }
  signal.dispose();
  return y;
}

/**
 * Transforms dense rows. Records nothing.
 *
 * @throws {ShapeError} if a length with prime factors above 31 is above 2^24.
 */
export function transform(x: Tensor, n: number, how: TransformRows): Tensor {
  const batch = x.shape.slice(0, how.from === "real" ? -1 : -2);
  if (sizeOf(batch) === 0) return rowsFor(x, batch, how.to, n);
  const list = factors(n, MOST_RADIX);
  if (list) return passes(x, batch, n, list, how);
  if (n > MOST_LENGTH) {
    throw new ShapeError(
      `fft: ${n} points: above 2^24, lengths must have no prime factor above ${MOST_RADIX}`,
    );
  }
  return bluestein(x, batch, n, how);
}
