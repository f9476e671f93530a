/** What the functions of `engine/ops/axes.ts` and `rearrange.ts` are tried on. */
import type { RefArray } from "../../engine/op.ts";
import { repeatInterleave, roll } from "../../engine/ops/rearrange.ts";
import { refFrom } from "../../engine/reference.ts";
import { denseStrides } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import { type ComposedFunctions, trial } from "../support/samples.ts";

/** `x` read at other coordinates along one axis, which has `size` places then. */
function along(x: RefArray, axis: number, size: number, from: (place: number) => number): RefArray {
  const shape = x.shape.map((n, i) => i === axis ? size : n);
  const [steps, strides] = [denseStrides(shape), denseStrides(x.shape)];
  return refFrom(shape, (i) => {
    const places = shape.map((n, k) => Math.floor(i / steps[k]) % n);
    return x.data[places.reduce((at, p, k) => at + (k === axis ? from(p) : p) * strides[k], 0)];
  });
}

export const composed: ComposedFunctions = {
  squeeze: { of: ["at"] },
  unsqueeze: { of: ["at"] },
  flatten: { of: ["reshape"] },
  swapaxes: { of: ["permute"] },
  moveaxis: { of: ["permute"] },
  flip: { of: ["at"] },
  roll: {
    of: ["reshape", "split", "concat"],
    trial: trial<{ shifts: number[]; axes: number[] }>(
      ([x], { shifts, axes }) => roll(x, shifts, axes),
      ([x], { shifts, axes }) =>
        axes.reduce((y, axis, i) => {
          const size = y.shape[axis];
          return along(y, axis, size, (place) => ((place - shifts[i]) % size + size) % size);
        }, x),
      () => [
        { label: "[1]", inputs: [refRandom([1], 1)], attrs: { shifts: [5], axes: [0] } },
        { label: "[3, 5]", inputs: [refRandom([3, 5], 2)], attrs: { shifts: [-7], axes: [1] } },
        {
          label: "two axes",
          inputs: [refRandom([4, 3, 8], 3)],
          attrs: { shifts: [1, 4], axes: [0, 2] },
        },
      ],
    ),
  },
  chunk: { of: ["split"] },
  meshgrid: { of: ["reshape", "expand"] },
  tile: { of: ["repeat"] },
  repeatInterleave: {
    of: ["reshape", "expand", "embedding"],
    trial: trial<{ counts: number | number[]; axis: number }>(
      ([x], { counts, axis }) => repeatInterleave(x, counts, axis),
      ([x], { counts, axis }) => {
        const each = typeof counts === "number" ? x.shape.map(() => counts) : counts;
        const from = Array.from({ length: x.shape[axis] }, (_, i) => i)
          .flatMap((i) => Array(typeof counts === "number" ? counts : each[i]).fill(i));
        return along(x, axis, from.length, (place) => from[place]);
      },
      () => [
        { label: "[1]", inputs: [refRandom([1], 1)], attrs: { counts: 3, axis: 0 } },
        {
          label: "3 of each column",
          inputs: [refRandom([2, 5], 2)],
          attrs: { counts: 3, axis: 1 },
          quick: true,
        },
        {
          label: "some rows",
          inputs: [refRandom([3, 4], 3)],
          attrs: { counts: [2, 0, 3], axis: 0 },
        },
        {
          label: "some of a middle axis",
          inputs: [refRandom([2, 3, 2], 4)],
          attrs: { counts: [0, 1, 2], axis: 1 },
        },
      ],
    ),
  },
};
