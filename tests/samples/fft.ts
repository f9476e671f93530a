/** Inputs that the ops of `engine/ops/fft.ts` are tried on. */
import { bins } from "../../engine/launch/fft.ts";
import { complexMul, type FftOptions, ifft, refTransform } from "../../engine/ops/fft.ts";
import { refFrom } from "../../engine/reference.ts";
import type { RefArray } from "../../engine/op.ts";
import type { Shape } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import { type ComposedFunctions, type Sample, type Samples, trial } from "../support/samples.ts";

/** Every radix first and last, prime factors with a loop of their own, and above them. */
const LENGTHS = [1, 2, 3, 5, 8, 15, 30, 77, 37, 400, 1111];

const samplesOf = (row: (n: number) => Shape, attrs: object = {}): Sample[] => [
  {
    label: "many rows",
    inputs: [refRandom([200, ...row(10)], 90)],
    attrs: { n: 10, scale: 1, ...attrs },
  },
  ...LENGTHS.map((n, seed): Sample => ({
    label: `n = ${n}`,
    inputs: [refRandom([...seed % 2 ? [3] : [2, 1], ...row(n)], seed)],
    attrs: { n, scale: seed % 3 === 0 ? 1 : 1 / n, ...attrs },
    skipDifferences: n > 100,
    quick: n === 30 || n === 37,
    // Every term of a sum of that many is rounded, of the largest of them relative to one of the
    // largest results.
    tolerance: n > 30 ? 4e-6 : 2e-6,
  })),
];

export const samples: Samples = {
  fft: () =>
    // Inverses differ in the sign of angles alone.
    [false, true].flatMap((inverse) =>
      samplesOf((n) => [n, 2], { inverse }).filter(({ quick }) => !inverse || quick).map((it) => ({
        ...it,
        label: `${it.label}${inverse ? ", inverse" : ""}`,
        quick: it.quick && inverse,
      }))
    ),
  rfft: () => samplesOf((n) => [n]),
  irfft: () => samplesOf((n) => [bins(n), 2]),
};

/** [a, b, 2] with its first two axes exchanged. */
const swapped = ({ shape: [a, b], data }: RefArray): RefArray =>
  refFrom([b, a, 2], (i) => {
    const [row, column] = [Math.floor(i / 2 / a), Math.floor(i / 2) % a];
    return data[2 * (column * b + row) + i % 2];
  });

/** [rows, size, 2] with `n` columns. */
const resized = ({ shape: [rows, size], data }: RefArray, n: number): RefArray =>
  refFrom([rows, n, 2], (i) => {
    const [row, column] = [Math.floor(i / 2 / n), Math.floor(i / 2) % n];
    return column < size ? data[2 * (row * size + column) + i % 2] : 0;
  });

export const composed: ComposedFunctions = {
  complexMul: {
    of: ["at", "mul", "add", "stack"],
    floats: true,
    trial: trial<null>(
      ([a, b]) => complexMul(a, b),
      ([a, b]) =>
        refFrom([3, 5, 2], (i) => {
          const [k, j] = [i - i % 2, i % 10 - i % 2];
          const [re, im, re2, im2] = [a.data[k], a.data[k + 1], b.data[j], b.data[j + 1]];
          return i % 2 === 0 ? re * re2 - im * im2 : re * im2 + im * re2;
        }),
      () => [
        {
          label: "rows beside one",
          inputs: [refRandom([3, 5, 2], 1), refRandom([5, 2], 2)],
          attrs: null,
          // Products are rounded to f16 before they are added.
          halfTolerance: 2 ** -9,
        },
      ],
    ),
  },
  fftshift: { of: ["reshape", "split", "concat"] },
  ifftshift: { of: ["reshape", "split", "concat"] },
  ifft: {
    of: ["fft", "permute", "slice", "pad"],
    trial: trial<FftOptions>(
      ([x], options) => ifft(x, options),
      ([x], { n, axis = -1, norm }) => {
        const first = axis === 0 || axis === -2;
        const rows = first ? swapped(x) : x;
        const length = n ?? rows.shape[1];
        const y = refTransform(resized(rows, length), length, {
          from: "complex",
          to: "complex",
          inverse: true,
          scale: norm === "ortho" ? length ** -0.5 : norm === "forward" ? 1 : 1 / length,
        });
        return first ? swapped(y) : y;
      },
      () =>
        ([
          {},
          { axis: 0, norm: "ortho" },
          { n: 7, norm: "forward" },
          { n: 4, axis: -2 },
          { n: 3 },
        ] as FftOptions[]).map((attrs, i) => ({
          label: JSON.stringify(attrs),
          inputs: [refRandom([6, 5, 2], i)],
          attrs,
          quick: i === 3,
        })),
    ),
  },
};
