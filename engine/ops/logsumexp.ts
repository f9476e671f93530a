/**
 * Logarithms of sums of exponentials, over axes and so far along one.
 *
 * @module
 */
import { kindOf, needTensors } from "../arguments.ts";
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { elementwise } from "../launch/elementwise.ts";
import { defineOp } from "../op.ts";
import { refBroadcast, refFrom, refUnbroadcast } from "../reference.ts";
import { composite } from "../scope.ts";
import { normalizeAxis } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { logaddexp } from "./elementwise.ts";
import {
  attrsOf,
  expand,
  keptShape,
  type ReduceAttrs,
  reduceAxes,
  type ReduceOptions,
  squeeze,
} from "./reduce.ts";
import { concat, contiguous, slice } from "./view.ts";

/** WGSL of x, or 0 where it is infinite. */
const finite = (x: string): string =>
  `select(${x}, T(0.0), (bitcast<Bits>(${x}) & Bits(0x7fffffffu)) == Bits(0x7f800000u))`;

const logsumexpOp = /* @__PURE__ */ defineOp<ReduceAttrs>({
  name: "logsumexp",
  forward([x], attrs, save) {
    const { device, shape } = x;
    const { reduced } = attrs;
    const most = reduceAxes(x, reduced, "max", 1);
    const terms = device.empty(shape);
    elementwise(terms, [x, expand(most, shape, reduced)], {
      expression: `exp_$V(a - ${finite("b")})`,
    });
    const total = reduceAxes(terms, reduced, "sum", 1);
    const y = device.empty(squeeze(shape, attrs));
    elementwise(y, [most.view(y.shape), total.view(y.shape)], {
      expression: `${finite("a")} + log_$V(b)`,
    });
    [x, most, total].forEach(save);
    return [y];
  },
  backward({ grads: [dy], saved: [x, most, total] }, { reduced }) {
    const dx = x.device.empty(x.shape);
    const rows = [most, total, dy!].map((it) => expand(it, x.shape, reduced));
    // Of the terms themselves: the result has lost their digits where they are far from 0.
    elementwise(dx, [x, ...rows], {
      expression: `select(d * exp_$V(a - ${finite("b")}) / c, T(0.0), c == T(0.0))`,
    });
    return [dx];
  },
  reference: {
    forward([x], attrs) {
      const small = keptShape(x.shape, attrs.reduced);
      const { data } = refUnbroadcast(x.data.map(Math.exp), x.shape, small);
      return [{ shape: squeeze(x.shape, attrs), data: data.map(Math.log) }];
    },
    backward([x], { reduced }, [dy]) {
      const small = keptShape(x.shape, reduced);
      const totals = refBroadcast(refUnbroadcast(x.data.map(Math.exp), x.shape, small), x.shape);
      const spread = refBroadcast({ shape: small, data: dy.data }, x.shape);
      return [refFrom(x.shape, (i) => spread[i] * Math.exp(x.data[i]) / totals[i])];
    },
  },
});

/**
 * `log(sum(e^x))` over axes, without overflow; -Infinity of nothing.
 *
 * @returns the shape of `x` without the axes, or with size 1 in their place (`keepDims`)
 * @throws {ShapeError} if an axis does not exist or is named twice.
 */
export function logsumexp(x: Tensor, options: ReduceOptions = {}): Tensor {
  return logsumexpOp.apply([x], attrsOf("logsumexp", x, options))[0];
}

/**
 * `log(e^x_0 + … + e^x_k)` for each place k along an axis, without overflow: `cumsum` of
 * probabilities that are given by their logarithms. Costs a pass for each doubling of the length,
 * all of which a backward pass keeps.
 *
 * @param axis negative from the end; default the last
 * @returns the shape of `x`
 * @throws {ShapeError} if the axis does not exist, or `x` is of integers.
 */
export function logcumsumexp(x: Tensor, axis = -1): Tensor {
  needTensors("logcumsumexp", { x });
  const index = normalizeAxis("logcumsumexp", axis, x.shape.length);
  if (!isFloat(x.dtype)) throw new ShapeError(`logcumsumexp: x is ${kindOf(x)}, not of floats`);
  const size = x.shape[index];
  return composite(() => {
    // y_k covers the 2^i places up to k, and all from the first one where there are fewer.
    let y = contiguous(x);
    for (let covered = 1; covered < size; covered *= 2) {
      const part = (start: number, length: number) => slice(y, index, start, length);
      const rest = size - covered;
      y = concat([part(0, covered), logaddexp(part(covered, rest), part(0, rest))], index);
    }
    return y;
  });
}
