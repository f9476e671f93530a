/**
 * An axis times a banded matrix: what average pooling and interpolation have in common.
 *
 * @module
 */
import source from "../../kernels/banded.wgsl" with { type: "text" };
import { defineKernel } from "../kernel.ts";
import { rowChunks, rowsOf } from "../launch/elementwise.ts";
import { defineOp } from "../op.ts";
import { refZeros } from "../reference.ts";
import { composite } from "../scope.ts";
import { sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { add } from "./elementwise.ts";
import { cast } from "./cast.ts";
import { concat } from "./view.ts";

const kernel = /* @__PURE__ */ defineKernel("banded", source, {
  rounds: ({ constants: { BACKWARD }, params: { taps, most } }) => (BACKWARD ? most : taps) + 1,
});
const WORKGROUP = 64;
/**
 * Weights of a band, or bands of a column, that one invocation adds up at most: loops end, and f32
 * sums of more lose digits.
 */
const LONGEST = 4096;

/** A row of the matrix: weights of neighbouring elements of the axis, from `first` on. */
export interface Band {
  readonly first: number;
  readonly weights: readonly number[];
}

/** A matrix of neighbouring bands, each beginning where the one before it does or behind that. */
export interface BandedAttrs {
  readonly axis: number;
  readonly bands: readonly Band[];
}

/** The matrix as the kernel reads it. */
interface Table {
  /** First columns of the rows; first row and number of rows of each column. */
  readonly bands: Uint32Array<ArrayBuffer>;
  readonly weights: Float32Array<ArrayBuffer>;
  readonly taps: number;
  /** The most rows of a column. */
  readonly most: number;
}

const longestOf = (bands: readonly Band[]): number =>
  bands.reduce((most, { weights }) => Math.max(most, weights.length), 1);

function tableOf(bands: readonly Band[], size: number): Table {
  const taps = longestOf(bands);
  const table = new Uint32Array(bands.length + 2 * size);
  const weights = new Float32Array(bands.length * taps);
  const ends = new Uint32Array(size);
  const lows = new Uint32Array(size).fill(bands.length);
  bands.forEach((band, j) => {
    // Within the axis, whatever its weights reach.
    const first = Math.max(0, Math.min(band.first, size - taps));
    table[j] = first;
    band.weights.forEach((weight, t) => weights[j * taps + band.first - first + t] = weight);
    for (let i = first; i < Math.min(size, first + taps); i++) {
      lows[i] = Math.min(lows[i], j);
      ends[i] = j + 1;
    }
  });
  let most = 0;
  for (let i = 0; i < size; i++) {
    const count = Math.max(0, ends[i] - lows[i]);
    table[bands.length + 2 * i] = Math.min(lows[i], bands.length);
    table[bands.length + 2 * i + 1] = count;
    most = Math.max(most, count);
  }
  return { bands: table, weights, taps, most };
}

/** The product, or the adjoint for the gradient of the product. */
function multiply(x: Tensor, { axis, bands }: BandedAttrs, size: number, back: boolean): Tensor {
  const { device, dtype, shape } = x;
  const table = tableOf(bands, size);
  const [from, to] = back ? [bands.length, size] : [size, bands.length];
  const y = device.empty(shape.map((s, i) => i === axis ? to : s), dtype);
  if (y.size === 0) return y;
  const inner = sizeOf(shape.slice(axis + 1));
  const [rows, weights] = [device.tensor(table.bands), device.tensor(table.weights)];
  const each = [from * inner, to * inner];
  for (const [first, count] of rowChunks(device, sizeOf(shape.slice(0, axis)), each, x.itemSize)) {
    device.run(
      kernel,
      { WG: WORKGROUP, E: dtype, BACKWARD: back },
      [rowsOf(x, first, count, each[0]), rowsOf(y, first, count, each[1]), rows, weights],
      {
        ...{ count: count * each[1], size_x: from, size_y: to, rows: bands.length, inner },
        ...{ taps: table.taps, most: table.most },
      },
      Math.ceil(count * each[1] / WORKGROUP),
    );
  }
  [rows, weights].forEach((it) => it.dispose());
  return y;
}

const bandedOp = /* @__PURE__ */ defineOp<BandedAttrs>({
  name: "banded",
  half: true,
  forward: ([x], attrs) => [multiply(x, attrs, x.shape[attrs.axis], false)],
  backward: ({ grads: [dy], shapes: [shape] }, attrs) => [
    multiply(dy!, attrs, shape[attrs.axis], true),
  ],
  reference: {
    forward([x], { axis, bands }) {
      const y = refZeros(x.shape.map((s, i) => i === axis ? bands.length : s));
      visit(x.shape, axis, bands, (from, to, weight) => y.data[to] += weight * x.data[from]);
      return [y];
    },
    backward([x], { axis, bands }, [dy]) {
      const dx = refZeros(x.shape);
      visit(x.shape, axis, bands, (from, to, weight) => dx.data[from] += weight * dy.data[to]);
      return [dx];
    },
  },
});

/** Visits every product: (index in x, index in the result, weight). */
function visit(
  shape: readonly number[],
  axis: number,
  bands: readonly Band[],
  each: (from: number, to: number, weight: number) => void,
): void {
  const inner = sizeOf(shape.slice(axis + 1));
  for (let outer = 0; outer < sizeOf(shape.slice(0, axis)); outer++) {
    bands.forEach(({ first, weights }, j) =>
      weights.forEach((weight, t) => {
        // What lies under a weight of 0 does not count, whatever it is.
        if (weight === 0) return;
        for (let i = 0; i < inner; i++) {
          const from = (outer * shape[axis] + first + t) * inner + i;
          each(from, (outer * bands.length + j) * inner + i, weight);
        }
      })
    );
  }
}

/** The product along an axis. Bands begin in ascending order, within the axis. */
export function banded(x: Tensor, axis: number, bands: readonly Band[]): Tensor {
  const longest = longestOf(bands);
  if (longest > LONGEST) {
    // Sums of parts of the bands.
    const starts = Array.from({ length: Math.ceil(longest / LONGEST) }, (_, i) => i * LONGEST);
    const last = x.shape[axis] - 1;
    const parts = starts.map((start) =>
      bands.map(({ first, weights }): Band => ({
        first: Math.min(first + start, last),
        weights: weights.slice(start, start + LONGEST),
      }))
    );
    return composite(() => parts.map((part) => banded(x, axis, part)).reduce((a, b) => add(a, b)));
  }
  if (bands.length > LONGEST && tableOf(bands, x.shape[axis]).most > LONGEST) {
    // Columns that many bands share: one part of the result after the other.
    const half = Math.ceil(bands.length / 2);
    const halves = [bands.slice(0, half), bands.slice(half)];
    return composite(() => concat(halves.map((part) => banded(x, axis, part)), axis));
  }
  return bandedOp.apply([x], { axis, bands })[0];
}

/**
 * The product along several axes, the last one first. Halves are widened in between, so that each
 * result is rounded once.
 */
export function bandedAlong(
  x: Tensor,
  axes: readonly number[],
  bands: readonly (readonly Band[])[],
): Tensor {
  return composite(() => {
    const wide = x.dtype === "f16" && axes.length > 1;
    const start = wide ? cast(x, "f32") : x;
    const y = axes.reduceRight((y, axis, i) => banded(y, axis, bands[i]), start);
    return wide ? cast(y, "f16") : y;
  });
}
