/** What the functions of `engine/ops/windows.ts` are tried on. */
import { windowPartition, windowReverse } from "../../engine/ops/windows.ts";
import { refFrom, refZeros } from "../../engine/reference.ts";
import { refRandom } from "../support/random.ts";
import { type ComposedFunctions, trial } from "../support/samples.ts";

const IMAGE = [2, 6, 8, 3] as const;

interface Case {
  readonly window: readonly [number, number];
  readonly shift: readonly [number, number];
}

const CASES: readonly Case[] = [
  { window: [3, 4], shift: [0, 0] },
  { window: [2, 4], shift: [1, 2] },
  { window: [6, 2], shift: [0, 7] },
];

/** Where each element of an image lies in its windows. */
function placesOf({ window: [rows, columns], shift: [down, right] }: Case): number[] {
  const [batch, height, width, channels] = IMAGE;
  const across = width / columns;
  const windows = height / rows * across;
  return Array.from({ length: batch * height * width * channels }, (_, i) => {
    const [c, at] = [i % channels, Math.floor(i / channels)];
    const column = (at % width - right + 2 * width) % width;
    const row = (Math.floor(at / width) % height - down + height) % height;
    const window = Math.floor(at / width / height) * windows + Math.floor(row / rows) * across +
      Math.floor(column / columns);
    const token = row % rows * columns + column % columns;
    return (window * rows * columns + token) * channels + c;
  });
}

const shapeOf = ({ window: [rows, columns] }: Case) => {
  const [batch, height, width, channels] = IMAGE;
  return [batch * height * width / (rows * columns), rows * columns, channels];
};

const OPS = ["concat", "permute", "reshape", "slice"];

export const composed: ComposedFunctions = {
  windowPartition: {
    of: OPS,
    trial: trial<Case>(
      ([x], { window, shift }) => windowPartition(x, window, { shift }),
      ([x], it) => {
        const y = refZeros(shapeOf(it));
        placesOf(it).forEach((to, from) => y.data[to] = x.data[from]);
        return y;
      },
      () =>
        CASES.map((attrs, i) => ({
          label: JSON.stringify(attrs),
          inputs: [refRandom(IMAGE, i)],
          attrs,
          quick: i === 1,
        })),
    ),
  },
  windowReverse: {
    of: OPS,
    trial: trial<Case>(
      ([x], { window, shift }) => windowReverse(x, [IMAGE[1], IMAGE[2]], window, { shift }),
      ([x], it) => {
        const places = placesOf(it);
        return refFrom(IMAGE, (i) => x.data[places[i]]);
      },
      () =>
        CASES.map((attrs, i) => ({
          label: JSON.stringify(attrs),
          inputs: [refRandom(shapeOf(attrs), i)],
          attrs,
          quick: i === 1,
        })),
    ),
  },
};
