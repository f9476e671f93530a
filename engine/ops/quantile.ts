/**
 * Quantiles and medians, from elements in order.
 *
 * @module
 */
import { kindOf, needOptions, needTensors } from "../arguments.ts";
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { composite } from "../scope.ts";
import { normalizeAxis, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { lerp } from "./blend.ts";
import { where } from "./compare.ts";
import { sort } from "./sort.ts";
import { isnan } from "./unary.ts";
import { reshape, slice } from "./view.ts";

/** Options of {@link quantile} and {@link median}. */
export interface QuantileOptions {
  /** Axis to look along, negative from the end; default: the flattened tensor. */
  readonly axis?: number;
  /** Keep the axis with size 1; default false. */
  readonly keepDims?: boolean;
}

function along(name: string, x: Tensor, q: number, options: QuantileOptions): Tensor {
  needTensors(name, { x });
  needOptions(name, options, ["axis", "keepDims"]);
  if (!(typeof q === "number" && q >= 0 && q <= 1)) {
    throw new ShapeError(`${name}: q is ${kindOf(q)}, a number from 0 to 1 is needed`);
  }
  const { axis, keepDims = false } = options;
  const index = axis === undefined ? undefined : normalizeAxis(name, axis, x.shape.length);
  const count = index === undefined ? x.size : x.shape[index];
  if (!isFloat(x.dtype) || count === 0) {
    throw new ShapeError(
      `${name}: x is ${show(x.shape)} of ${x.dtype}; floats, at least one along the axis, are ` +
        "needed",
    );
  }
  const place = q * (count - 1);
  return composite(() => {
    const along = index ?? 0;
    const { values } = sort(index === undefined ? reshape(x, [-1]) : x, { axis: along });
    const at = (k: number) => slice(values, along, k, 1);
    const [below, above] = [at(Math.floor(place)), at(Math.ceil(place))];
    const between = place % 1 === 0 ? below : lerp(below, above, place % 1);
    // NaN is last in order.
    const last = at(count - 1);
    const y = where(isnan(last), last, between);
    const kept = x.shape.map((size, i) => index === undefined || i === index ? 1 : size);
    return reshape(y, keepDims ? kept : index === undefined ? [] : kept.toSpliced(index, 1));
  });
}

/**
 * The value that a share `q` of elements lies below, linear between two elements, as NumPy's
 * `quantile` and torch's; NaN where one element is. Costs a sort.
 *
 * @param q from 0, the smallest, to 1, the largest
 * @returns the shape of `x` without the axis, or with size 1 in its place (`keepDims`)
 * @throws {ShapeError} if the axis does not exist or is empty, or q is not from 0 to 1.
 */
export function quantile(x: Tensor, q: number, options: QuantileOptions = {}): Tensor {
  return along("quantile", x, q, options);
}

/**
 * The element in the middle, or the mean of the two there, as NumPy's `median` (torch's gives the
 * smaller one); see {@link quantile}.
 *
 * @throws {ShapeError} if the axis does not exist or is empty.
 */
export function median(x: Tensor, options: QuantileOptions = {}): Tensor {
  return along("median", x, 0.5, options);
}
