/**
 * Matrix products for tests: operands with gaps between rows and matrices, and a float64 product to
 * hold results against.
 *
 * Tolerance: an element is a float32 sum of k products and a few further terms in some order, so it
 * is off by at most (k + 6) 2^-24 times the sum of their absolute values (Higham, Accuracy and
 * Stability, section 3.1), a longer sum than 16,384 by what its blocks allow; stored as f16, by
 * half a unit in the last of its 11 bits more, or of the smallest number.
 *
 * @module
 */
import { assert } from "@std/assert";
import { type Device, type DeviceOptions, openDevice } from "../../engine/device.ts";
import type { HostArray } from "../../engine/dtype.ts";
import { gemm } from "../../engine/launch/gemm.ts";
import { refGelu } from "../../engine/ops/matmul.ts";
import { scope } from "../../engine/scope.ts";

/** Additions that a product passes on its way: of 128 in a block, 256 of these, and the rest. */
function additions(k: number): number {
  return k <= 16384 ? k : 128 + 256 + Math.ceil(k / 32768);
}

/** What a dispatch of a product ran. */
export interface Dispatch {
  /** Kernel file. */
  readonly kernel: string;
  /** Rows and vec4 columns per invocation, and whether operands are textures. */
  readonly tile: string;
  /** Elements per access to the left operand, to the right one and to the result. */
  readonly widths: string;
}

/** A device that notes the matrix products it runs. */
export async function watched(
  options: DeviceOptions,
): Promise<{ device: Device; dispatches: Dispatch[] }> {
  const device = await openDevice(options);
  const dispatches: Dispatch[] = [];
  const run = device.run.bind(device);
  device.run = (kernel, constants, ...rest) => {
    if (kernel.name.startsWith("gemm")) {
      dispatches.push({
        kernel: kernel.name,
        tile: `${constants.ROWS} x ${constants.VECS}${constants.IMAGES ? " image" : ""}`,
        widths: `${constants.VA} ${constants.VB} ${constants.VC}`,
      });
    }
    run(kernel, constants, ...rest);
  };
  return { device, dispatches };
}

/** One product; matrices of a batch and their rows have gaps, so that strays show. */
export interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly ta?: boolean;
  readonly tb?: boolean;
  readonly batch?: number;
  readonly alpha?: number;
  readonly bias?: boolean;
  readonly residual?: boolean;
  readonly gelu?: boolean;
  readonly accumulate?: boolean;
  /** The result is multiplied by further values. */
  readonly factor?: boolean;
  /** The rows of the left operand are summed as well, where kernels can. */
  readonly sums?: boolean;
  /** All operands and results are f16. */
  readonly half?: boolean;
  /**
   * Elements between rows and matrices of the left operand, of the right one and of the result;
   * default 4 each.
   */
  readonly gaps?: readonly [a: number, b: number, c: number];
}

/**
 * A stored matrix of a batch: `rows` x `columns`, `gap` more elements per row and matrix, from
 * element `start` on.
 */
function stored(
  rows: number,
  columns: number,
  batch: number,
  seed: number,
  { half = false, gap = 4 }: { half?: boolean; gap?: number } = {},
) {
  const start = 8;
  const ld = columns + gap;
  const step = rows * ld + gap;
  let state = seed * 2654435761 >>> 0;
  const data: HostArray = new (half ? Float16Array : Float32Array)(start + batch * step);
  for (let i = 0; i < data.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    data[i] = state / 2 ** 31 - 1;
  }
  return {
    data,
    start,
    ld,
    step,
    at: (z: number, r: number, c: number) => start + z * step + r * ld + c,
  };
}

/**
 * As {@link stored}, NaN wherever no element of a matrix lies: what is read there by mistake shows.
 */
function operand(...[rows, columns, batch, seed, form]: Parameters<typeof stored>) {
  const matrix = stored(rows, columns, batch, seed, form);
  const { data, start, ld, step } = matrix;
  data.forEach((_, i) => {
    const inside = (i - start) % step;
    if (i < start || inside % ld >= columns || inside >= rows * ld) data[i] = NaN;
  });
  return matrix;
}

/** Operands of a product and what its result overwrites or adds to. */
export function prepare({ m, n, k, ta, tb, batch = 1, half, gaps = [4, 4, 4] }: Product) {
  const [a, b] = [ta ? [k, m] : [m, k], tb ? [n, k] : [k, n]];
  const [formA, formB, formC] = gaps.map((gap) => ({ half, gap }));
  return {
    a: operand(a[0], a[1], batch, 1, formA),
    b: operand(b[0], b[1], batch, 2, formB),
    c: stored(m, n, batch, 3, formC),
    bias: stored(1, n, 1, 4, { half }),
    residual: stored(m, n, batch, 5, formC),
    factor: stored(m, n, batch, 6, formC),
  };
}

/** See {@link prepare}. */
export type Operands = ReturnType<typeof prepare>;

/** The memory of the result and of GELU's derivative, gaps included; or row sums behind it. */
export async function compute(device: Device, p: Product, x: Operands): Promise<HostArray[]> {
  const results = scope(() => {
    const upload = ({ data }: { data: HostArray }) => device.tensor(data);
    const operand = (o: Operands["a"], transposed?: boolean) => ({
      tensor: upload(o),
      ld: o.ld,
      start: o.start,
      transposed,
      batchStride: o.step,
    });
    const c = operand(x.c);
    // These are laid out like c, but from their own first element on.
    const like = (o: Operands["a"]) => upload({ data: o.data.subarray(o.start) });
    const slope = p.gelu ? like(x.c) : undefined;
    const rowSums = p.sums ? device.empty([p.m], p.half ? "f16" : "f32") : undefined;
    const summed = gemm({
      a: operand(x.a, p.ta),
      b: operand(x.b, p.tb),
      c,
      m: p.m,
      n: p.n,
      k: p.k,
      batch: p.batch,
      alpha: p.alpha,
      bias: p.bias ? device.tensor(x.bias.data.slice(x.bias.start, x.bias.start + p.n)) : undefined,
      residual: p.residual ? like(x.residual) : undefined,
      slope,
      factor: p.factor ? like(x.factor) : undefined,
      rowSums,
      accumulate: p.accumulate,
    });
    return [c.tensor, ...(slope ? [slope] : []), ...(summed ? [rowSums!] : [])];
  });
  const values = await device.read(results);
  results.forEach((t) => t.dispose());
  return values;
}

/** What messages call a product. */
export function label(p: Product): string {
  const { m, n, k, ta, tb, ...rest } = p;
  return `${ta ? "T" : "N"}${tb ? "T" : "N"} ${m} x ${n} x ${k} ${JSON.stringify(rest)}`;
}

/**
 * Row sums against float64. Each is four sums of a quarter of the terms, and their sum.
 */
function verifySums(p: Product, { a }: Operands, sums: HostArray): void {
  for (let i = 0; i < p.m; i++) {
    const terms = Array.from({ length: p.k }, (_, q) => a.data[a.at(0, q, i)]);
    const sum = terms.reduce((all, it) => all + it, 0);
    const size = terms.reduce((all, it) => all + Math.abs(it), 0);
    const bound = (p.k / 4 + 3) * 2 ** -24 * size + (p.half ? Math.abs(sum) * 2 ** -11 : 0);
    assert(
      Math.abs(sums[i] - sum) <= bound,
      `${label(p)}: row ${i} sums up to ${sums[i]}, not ${sum}`,
    );
  }
}

/** Holds the result against float64 and the gaps against what was there. */
export function verify(p: Product, x: Operands, [c, beside]: readonly HostArray[]): void {
  const { m, n, k, ta, tb, batch = 1, alpha = 1 } = p;
  const slopes = p.gelu ? beside : undefined;
  if (p.sums && beside) verifySums(p, x, beside);
  const stores = (value: number) => p.half ? Math.max(Math.abs(value) * 2 ** -11, 2 ** -25) : 0;
  const untouched = new Set(c.keys());
  for (let z = 0; z < batch; z++) {
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let [sum, size] = [0, 0];
        const add = (value: number) => {
          sum += value;
          size += Math.abs(value);
        };
        for (let q = 0; q < k; q++) {
          const left = x.a.data[ta ? x.a.at(z, q, i) : x.a.at(z, i, q)];
          const right = x.b.data[tb ? x.b.at(z, j, q) : x.b.at(z, q, j)];
          add(alpha * left * right);
        }
        const at = x.c.at(z, i, j);
        untouched.delete(at);
        if (p.bias) add(x.bias.data[x.bias.at(0, 0, j)]);
        if (p.residual) add(x.residual.data[x.residual.at(z, i, j)]);
        if (p.factor) {
          const factor = x.factor.data[x.factor.at(z, i, j)];
          size *= Math.abs(factor);
          sum *= factor;
        }
        if (p.accumulate) add(x.c.data[at]);
        const bound = (additions(k) + 6) * 2 ** -24 * size;
        const holds = (value: number, wanted: number, most: number) =>
          assert(
            Math.abs(value - wanted) <= most + stores(wanted),
            `${label(p)}: [${z}, ${i}, ${j}] is ${value}, not ${wanted}`,
          );
        if (!slopes) {
          holds(c[at], sum, bound);
          continue;
        }
        // No steeper than 1.13 and 0.8; the bounds of kernels/include/math.wgsl.
        const wanted = refGelu.value(sum);
        holds(c[at], wanted, 1.13 * bound + 7e-7 * Math.abs(wanted));
        holds(slopes[at - x.c.start], refGelu.slope(sum), 0.8 * bound + 3e-7);
      }
    }
  }
  for (const at of untouched) {
    const kept = c[at] === x.c.data[at] &&
      (!slopes || at < x.c.start || slopes[at - x.c.start] === x.c.data[at]);
    assert(kept, `${label(p)}: wrote outside of the matrix at ${at}`);
  }
}

/** Whether results agree bit for bit. */
export function sameBits(a: readonly HostArray[], b: readonly HostArray[]): boolean {
  return a.every((x, i) => {
    const [bits, others] = [x, b[i]].map((values) => new Uint8Array(values.buffer));
    return bits.every((value, k) => value === others[k]);
  });
}
