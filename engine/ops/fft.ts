/**
 * Fourier transforms of real signals: rfft and irfft.
 *
 * @module
 */
import { needTensors } from "../arguments.ts";
import source from "../../kernels/fft.wgsl" with { type: "text" };
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refZeros } from "../reference.ts";
import { show, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { rowChunks, rowsOf } from "../launch/elementwise.ts";

const kernel = /* @__PURE__ */ defineKernel("fft", source);
const WORKGROUP = 64;

/**
 * Radices of the passes: 4 where possible, then 2, 3 and 5; undefined when other factors are left.
 */
export function radices(n: number): number[] | undefined {
  const list: number[] = [];
  for (const radix of [4, 2, 3, 5]) {
    for (; n % radix === 0; n /= radix) list.push(radix);
  }
  return n !== 1 ? undefined : list.length > 0 ? list : [1];
}

/** Bins of a half spectrum. */
export const bins = (n: number): number => Math.floor(n / 2) + 1;

/** Which way a transform goes. */
export interface Transform {
  /**
   * From rows of n real numbers to half spectra, or from half spectra to the real part of the
   * inverse sum.
   */
  readonly inverse: boolean;
  /** Factor of bins 0 and n / 2; the others get twice that. Default: none. */
  readonly scale?: number;
}

/** Transforms dense rows. Records nothing. */
export function transform(x: Tensor, n: number, { inverse, scale }: Transform): Tensor {
  const { device } = x;
  const batch = x.shape.slice(0, inverse ? -2 : -1);
  const rows = sizeOf(batch);
  const passes = radices(n)!;
  let current = x;
  let done = 1;
  passes.forEach((radix, pass) => {
    const [head, tail] = [pass === 0, pass === passes.length - 1];
    const left = n / done / radix;
    const ins = head && inverse ? bins(n) : n;
    const outs = tail && !inverse ? bins(n) : n;
    const [wide, wideOut] = [head && !inverse ? 1 : 2, tail && inverse ? 1 : 2];
    const target = device.empty([...batch, outs, ...(wideOut === 2 ? [2] : [])]);
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
export function refTransform(x: RefArray, n: number, { inverse, scale }: Transform): RefArray {
  const half = bins(n);
  const batch = x.shape.slice(0, inverse ? -2 : -1);
  const result = refZeros(inverse ? [...batch, n] : [...batch, half, 2]);
  const weights = Array.from(
    { length: half },
    (_, k) => scale === undefined ? 1 : k === 0 || 2 * k === n ? scale : 2 * scale,
  );
  const cos = Float64Array.from({ length: n }, (_, t) => Math.cos(2 * Math.PI * t / n));
  const sin = Float64Array.from({ length: n }, (_, t) => Math.sin(2 * Math.PI * t / n));
  for (let row = 0; row < sizeOf(batch); row++) {
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

const rfftOp = /* @__PURE__ */ defineOp<FftAttrs>({
  name: "rfft",
  forward: ([x], { n }) => [transform(x, n, { inverse: false })],
  backward: ({ grads: [dy] }, { n }) => [transform(dy!, n, { inverse: true })],
  reference: {
    forward: ([x], { n }) => [refTransform(x, n, { inverse: false })],
    backward: (_, { n }, [dy]) => [refTransform(dy, n, { inverse: true })],
  },
});

const irfftOp = /* @__PURE__ */ defineOp<FftAttrs>({
  name: "irfft",
  forward: ([x], { n }) => [transform(x, n, { inverse: true, scale: 1 / n })],
  backward: ({ grads: [dy] }, { n }) => [transform(dy!, n, { inverse: false, scale: 1 / n })],
  reference: {
    forward: ([x], { n }) => [refTransform(x, n, { inverse: true, scale: 1 / n })],
    backward: (_, { n }, [dy]) => [refTransform(dy, n, { inverse: false, scale: 1 / n })],
  },
});

/** @throws {ShapeError} if a length has factors other than 2, 3 and 5. */
export function needLength(op: string, n: number): void {
  if (!Number.isInteger(n) || n < 1 || !radices(n)) {
    throw new ShapeError(`${op}: a length of ${n} has factors other than 2, 3 and 5`);
  }
}

/**
 * Fourier transform of real signals, `X_k = sum over t of x_t exp(-2 pi i k t / n)` for k from 0 to
 * n / 2.
 *
 * @param x `[..., n]`, n a product of 2, 3 and 5
 * @returns `[..., floor(n / 2) + 1, 2]`: real and imaginary parts
 * @throws {ShapeError} if n has other factors.
 */
export function rfft(x: Tensor): Tensor {
  needTensors("rfft", { x });
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
  needTensors("irfft", { spectrum });
  needLength("irfft", n);
  const [half, two] = spectrum.shape.slice(-2);
  if (two !== 2 || half !== bins(n)) {
    throw new ShapeError(
      `irfft: a length of ${n} needs [..., ${bins(n)}, 2], not ${show(spectrum.shape)}`,
    );
  }
  return irfftOp.apply([spectrum], { n })[0];
}
