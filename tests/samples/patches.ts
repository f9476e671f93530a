/** What the functions of `engine/ops/patches.ts` are tried on. */
import type { RefArray } from "../../engine/op.ts";
import {
  fold,
  type PatchOptions,
  pixelShuffle,
  pixelUnshuffle,
  unfold,
} from "../../engine/ops/patches.ts";
import { refFrom, refZeros } from "../../engine/reference.ts";
import { refRandom } from "../support/random.ts";
import { type ComposedFunctions, trial } from "../support/samples.ts";

type Pair = readonly [number, number];
interface Case {
  readonly size: Pair;
  readonly kernel: Pair;
  readonly stride: Pair;
  readonly padding: Pair;
  readonly dilation: Pair;
}

const [BATCH, CHANNELS] = [2, 3];

/** Visits every element of every patch that lies in the image: its place there and in columns. */
function visit(
  { size, kernel, stride, padding, dilation }: Case,
  each: (image: number, column: number) => void,
): number {
  const [rows, columns] = [0, 1].map((i) =>
    Math.floor((size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) / stride[i]) + 1
  );
  const places = rows * columns;
  for (let n = 0; n < BATCH * CHANNELS * kernel[0] * kernel[1] * places; n++) {
    const [place, element] = [n % places, Math.floor(n / places)];
    const [kc, kr] = [element % kernel[1], Math.floor(element / kernel[1]) % kernel[0]];
    const image = Math.floor(element / kernel[0] / kernel[1]);
    const r = Math.floor(place / columns) * stride[0] + kr * dilation[0] - padding[0];
    const c = place % columns * stride[1] + kc * dilation[1] - padding[1];
    if (r < 0 || c < 0 || r >= size[0] || c >= size[1]) continue;
    each((image * size[0] + r) * size[1] + c, n);
  }
  return places;
}

const placesOf = (it: Case) => visit(it, () => {});
const elements = ({ kernel }: Case) => CHANNELS * kernel[0] * kernel[1];

function refUnfold(x: RefArray, it: Case): RefArray {
  const y = refZeros([BATCH, elements(it), placesOf(it)]);
  visit(it, (image, column) => y.data[column] = x.data[image]);
  return y;
}

function refFold(x: RefArray, it: Case): RefArray {
  const y = refZeros([BATCH, CHANNELS, ...it.size]);
  visit(it, (image, column) => y.data[image] += x.data[column]);
  return y;
}

const CASES: Case[] = [
  { size: [5, 7], kernel: [2, 3], stride: [1, 1], padding: [0, 0], dilation: [1, 1] },
  { size: [6, 5], kernel: [3, 2], stride: [2, 1], padding: [1, 2], dilation: [1, 1] },
  { size: [7, 9], kernel: [3, 2], stride: [1, 3], padding: [1, 0], dilation: [2, 3] },
  { size: [1, 1], kernel: [1, 1], stride: [3, 3], padding: [0, 0], dilation: [1, 1] },
];
const optionsOf = ({ stride, padding, dilation }: Case): PatchOptions => ({
  stride,
  padding,
  dilation,
});

/** The element of a finer image [c, h r, w r] that channel, row and column [c r r, h, w] become. */
const shuffled = (x: RefArray, r: number): number[] => {
  const [height, width] = x.shape.slice(-2);
  return Array.from(x.data, (_, i) => {
    const [w, h] = [i % width, Math.floor(i / width) % height];
    const c = Math.floor(i / width / height);
    const [dc, dr, channel] = [c % r, Math.floor(c / r) % r, Math.floor(c / r / r)];
    return ((channel * height + h) * r + dr) * width * r + w * r + dc;
  });
};

export const composed: ComposedFunctions = {
  unfold: {
    of: ["pad", "frames", "permute", "reshape"],
    trial: trial<Case>(
      ([x], it) => unfold(x, it.kernel, optionsOf(it)),
      ([x], it) => refUnfold(x, it),
      () =>
        CASES.map((attrs, i) => ({
          label: JSON.stringify(attrs),
          inputs: [refRandom([BATCH, CHANNELS, ...attrs.size], i)],
          attrs,
          quick: i === 2,
        })),
    ),
  },
  fold: {
    of: ["pad", "overlapAdd", "permute", "reshape"],
    trial: trial<Case>(
      ([x], it) => fold(x, it.size, it.kernel, optionsOf(it)),
      ([x], it) => refFold(x, it),
      () =>
        CASES.map((attrs, i) => ({
          label: JSON.stringify(attrs),
          inputs: [refRandom([BATCH, elements(attrs), placesOf(attrs)], i)],
          attrs,
          // Sums of columns are rounded to f16 before they are summed.
          halfTolerance: 2 ** -9,
          quick: i === 2,
        })),
    ),
  },
  pixelShuffle: {
    of: ["permute", "reshape"],
    trial: trial<null>(
      ([x]) => pixelShuffle(x, 2),
      ([x]) => {
        const y = refZeros([2, 3, 6, 4]);
        shuffled(x, 2).forEach((to, from) => y.data[to] = x.data[from]);
        return y;
      },
      () => [{ label: "[2, 12, 3, 2]", inputs: [refRandom([2, 12, 3, 2], 1)], attrs: null }],
    ),
  },
  pixelUnshuffle: {
    of: ["permute", "reshape"],
    trial: trial<null>(
      ([x]) => pixelUnshuffle(x, 3),
      ([x]) => {
        const places = shuffled(refZeros([18, 1, 2]), 3);
        return refFrom([18, 1, 2], (i) => x.data[places[i]]);
      },
      () => [{ label: "[2, 3, 6]", inputs: [refRandom([2, 3, 6], 1)], attrs: null }],
    ),
  },
};
