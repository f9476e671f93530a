/** Inputs that `interpolate` of `engine/ops/interpolate.ts` is tried on. */
import type { RefArray } from "../../engine/op.ts";
import { interpolate, type InterpolateOptions } from "../../engine/ops/interpolate.ts";
import { refFrom } from "../../engine/reference.ts";
import { denseStrides, sizeOf } from "../../engine/shape.ts";
import { refRandom } from "../support/random.ts";
import { type ComposedFunctions, trial } from "../support/samples.ts";

/** How a value at a distance of `t` places counts. */
const KERNELS: Readonly<Record<string, (t: number) => number>> = {
  linear: (t) => Math.max(0, 1 - Math.abs(t)),
  bicubic(t) {
    const x = Math.abs(t);
    if (x <= 1) return 1.25 * x ** 3 - 2.25 * x ** 2 + 1;
    return x < 2 ? -0.75 * x ** 3 + 3.75 * x ** 2 - 6 * x + 3 : 0;
  },
};

interface Attrs extends InterpolateOptions {
  /** Sizes that come out. */
  readonly to: readonly number[];
}

/** One value of the result: all places around it, weighted by their distances along each axis. */
function reference(x: RefArray, { to, scale, mode = "nearest", alignCorners }: Attrs): RefArray {
  const places = x.shape.slice(2);
  const scales = [scale].flat();
  const area = sizeOf(places);
  const steps = denseStrides(to);
  const kernel = KERNELS[mode === "bicubic" ? mode : "linear"];
  return refFrom([...x.shape.slice(0, 2), ...to], (i) => {
    const base = Math.floor(i / sizeOf(to)) * area;
    const centre = to.map((size, a) => {
      const j = Math.floor(i / steps[a]) % size;
      const factor = scales[a % scales.length];
      const step = factor === undefined ? places[a] / size : 1 / factor;
      if (mode === "nearest") return Math.floor(j * step);
      if (alignCorners) return size > 1 ? j * (places[a] - 1) / (size - 1) : 0;
      const at = (j + 0.5) * step - 0.5;
      return mode === "bicubic" ? at : Math.max(0, at);
    });
    let sum = 0;
    // Places beyond the ends have the values at the ends.
    const margin = 3;
    const wide = places.map((size) => size + 2 * margin);
    const wideSteps = denseStrides(wide);
    for (let k = 0; k < sizeOf(wide); k++) {
      const at = wide.map((size, a) => Math.floor(k / wideSteps[a]) % size - margin);
      const weight = at.reduce((product, p, a) => product * kernel(p - centre[a]), 1);
      const from = at.reduce(
        (sum, p, a) => sum * places[a] + Math.max(0, Math.min(places[a] - 1, p)),
        0,
      );
      sum += weight * x.data[base + from];
    }
    return sum;
  });
}

const cases: [number[], Attrs][] = [
  [[1, 2, 5], { size: 8, mode: "nearest", to: [8] }],
  [[2, 1, 3, 4], { scale: [2, 1.5], mode: "bilinear", to: [6, 6] }],
  [[1, 2, 7, 5], { size: [4, 9], mode: "bicubic", to: [4, 9] }],
  [[1, 2, 4, 3], { size: [7, 1], mode: "bicubic", alignCorners: true, to: [7, 1] }],
  [[1, 2, 7], { scale: 0.6, mode: "linear", to: [4] }],
  [[2, 2, 4], { size: 9, mode: "linear", alignCorners: true, to: [9] }],
  [[1, 1, 2, 3, 4], { size: [3, 5, 2], mode: "trilinear", to: [3, 5, 2] }],
  [[1, 2, 3, 4], { scale: 2, mode: "nearest", to: [6, 8] }],
];

export const composed: ComposedFunctions = {
  interpolate: {
    of: ["banded"],
    trial: trial<Attrs>(
      ([x], { to: _, ...options }) => interpolate(x, options),
      ([x], attrs) => reference(x, attrs),
      () =>
        cases.map(([shape, attrs], seed) => ({
          label: `[${shape}], ${JSON.stringify(attrs)}`,
          inputs: [refRandom(shape, seed)],
          attrs,
          quick: seed < 4,
        })),
    ),
  },
};
