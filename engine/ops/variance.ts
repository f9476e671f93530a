/**
 * Variance over axes.
 *
 * @module
 */
import { ShapeError } from "../errors.ts";
import { defineOp, type RefArray, type Sample } from "../op.ts";
import { refBroadcast, refFrom, refRandom, refUnbroadcast } from "../reference.ts";
import { type Shape, show, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { elementwise } from "./launch.ts";
import {
  attrsOf,
  expand,
  keptShape,
  type ReduceAttrs,
  reduceAxes,
  reducedCount,
  type ReduceOptions,
  squeeze,
} from "./reduce.ts";

interface VarianceAttrs extends ReduceAttrs {
  readonly correction: number;
}

function refCentre(x: RefArray, reduced: readonly boolean[]): Float64Array {
  const sums = refUnbroadcast(x.data, x.shape, keptShape(x.shape, reduced));
  const spread = refBroadcast(sums, x.shape);
  const count = reducedCount(x.shape, reduced);
  return x.data.map((value, i) => value - spread[i] / count);
}

const varianceOp = defineOp<VarianceAttrs>({
  name: "variance",
  forward([x], attrs, save) {
    const { reduced, correction } = attrs;
    const count = reducedCount(x.shape, reduced);
    const mean = reduceAxes(x, reduced, "sum", 1 / count);
    const centred = x.device.empty(x.shape);
    elementwise(centred, [x, mean], { expression: "a - b" });
    const y = x.device.empty(squeeze(x.shape, attrs));
    reduceAxes(centred, reduced, "sumOfSquares", 1 / (count - correction), y);
    save(centred);
    return [y];
  },
  backward({ grads: [dy], saved: [centred], shapes: [shape] }, { reduced, correction }) {
    const dx = centred.device.empty(shape);
    elementwise(dx, [centred, expand(dy!, shape, reduced)], {
      expression: "params.alpha * a * b",
      alpha: 2 / (reducedCount(shape, reduced) - correction),
    });
    return [dx];
  },
  reference: {
    forward([x], attrs) {
      const { reduced, correction } = attrs;
      const squares = refCentre(x, reduced).map((d) => d * d);
      const { data } = refUnbroadcast(squares, x.shape, keptShape(x.shape, reduced));
      const scale = 1 / (reducedCount(x.shape, reduced) - correction);
      return [{ shape: squeeze(x.shape, attrs), data: data.map((v) => v * scale) }];
    },
    backward([x], { reduced, correction }, [dy]) {
      const centred = refCentre(x, reduced);
      const spread = refBroadcast({ shape: keptShape(x.shape, reduced), data: dy.data }, x.shape);
      const scale = 2 / (reducedCount(x.shape, reduced) - correction);
      return [refFrom(x.shape, (i) => scale * centred[i] * spread[i])];
    },
  },
  samples(): Sample<VarianceAttrs>[] {
    const cases: [Shape, number[], boolean, number][] = [
      [[1], [0], false, 0],
      [[3, 7], [1], false, 1],
      [[4, 8], [0], true, 0],
      [[2, 3, 5], [0, 2], true, 1],
      [[2, 3, 4], [0, 1, 2], false, 1],
      [[5, 131, 4], [1], false, 0],
      [[3, 1037], [1], false, 1],
    ];
    const attrsOf = (shape: Shape, axes: number[], keepDims: boolean, correction: number) => ({
      reduced: shape.map((_, axis) => axes.includes(axis)),
      keepDims,
      correction,
    });
    return [
      ...cases.map(([shape, axes, keepDims, correction], seed) => ({
        label: `${show(shape)} over ${axes}, correction ${correction}`,
        inputs: [refRandom(shape, seed)],
        attrs: attrsOf(shape, axes, keepDims, correction),
        tolerance: 4e-6,
        skipDifferences: sizeOf(shape) > 1000,
      })),
      {
        label: "at an offset of 1000",
        inputs: [
          refFrom([3, 64], ((r) => (i) => Math.fround(r[i] + 1000))(refRandom([3, 64], 60).data)),
        ],
        attrs: attrsOf([3, 64], [1], false, 1),
        // The mean is rounded to 6e-5, that is as much as a deviation may be wrong by.
        tolerance: 4e-5,
        skipDifferences: true,
      },
    ];
  },
});

/** Options of {@link variance}. */
export interface VarianceOptions extends ReduceOptions {
  /** Sums are divided by the count less this: 1 (the default) for a sample, 0 for the biased variance. */
  readonly correction?: number;
}

/**
 * Variance over axes, from the deviations and not from the squares, so that a large mean loses no digits.
 *
 * @throws {ShapeError} if an axis does not exist, or no more elements than `correction` go into one result.
 */
export function variance(x: Tensor, options: VarianceOptions = {}): Tensor {
  const { correction = 1 } = options;
  const attrs = attrsOf("variance", x, options);
  const count = reducedCount(x.shape, attrs.reduced);
  if (count <= correction) {
    throw new ShapeError(
      `variance: ${count} elements of ${show(x.shape)} go into one result, which needs more than ` +
        `the correction of ${correction}`,
    );
  }
  return varianceOp.apply([x], { ...attrs, correction })[0];
}
