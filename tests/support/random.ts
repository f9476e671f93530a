/**
 * Reproducible random values for tests.
 *
 * @module
 */
import type { RefArray } from "../../engine/op.ts";
import { refFrom } from "../../engine/reference.ts";
import type { Shape } from "../../engine/shape.ts";

/**
 * Reproducible values for samples, rounded to f32 so that GPU and reference start from the same
 * numbers.
 *
 * @param seed different seeds give different arrays
 * @param scale standard deviation
 */
export function refRandom(shape: Shape, seed: number, scale = 1): RefArray {
  let state = (seed * 0x9e3779b9 + 0x7f4a7c15) >>> 0;
  const uniform = () => {
    // mulberry32: short and good enough for test inputs.
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return refFrom(
    shape,
    () =>
      Math.fround(
        scale * Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
      ),
  );
}
