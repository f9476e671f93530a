/**
 * Whether any or all elements are not 0.
 *
 * @module
 */
import { needTensors } from "../arguments.ts";
import { composite } from "../scope.ts";
import type { Tensor } from "../tensor.ts";
import { notEqual } from "./compare.ts";
import { attrsOf, max, min, reducedCount, type ReduceOptions, squeeze } from "./reduce.ts";

function fold(name: "any" | "all", x: Tensor, options: ReduceOptions): Tensor {
  needTensors(name, { x });
  return composite(() => {
    const mask = notEqual(x, 0);
    const attrs = attrsOf(name, mask, options);
    if (reducedCount(x.shape, attrs.reduced) > 0) {
      return (name === "any" ? max : min)(mask, options);
    }
    return x.device.full(squeeze(x.shape, attrs), name === "any" ? 0 : 1, mask.dtype);
  });
}

/**
 * 1 where an element along the axes is not 0 (NaN is not), else 0: a mask as comparisons give it,
 * without a gradient; 0 of nothing.
 *
 * @param x a mask, or of any type
 * @returns the shape of `x` without the axes, or with size 1 in their place (`keepDims`)
 * @throws {ShapeError} if an axis does not exist or is named twice.
 */
export function any(x: Tensor, options: ReduceOptions = {}): Tensor {
  return fold("any", x, options);
}

/** 1 where all elements along the axes are not 0, else 0; 1 of nothing. See {@link any}. */
export function all(x: Tensor, options: ReduceOptions = {}): Tensor {
  return fold("all", x, options);
}
