/**
 * Logarithm of a sum of exponentials.
 *
 * @module
 */
import { elementwise } from "../launch/elementwise.ts";
import { defineOp } from "../op.ts";
import { refBroadcast, refFrom, refUnbroadcast } from "../reference.ts";
import type { Tensor } from "../tensor.ts";
import {
  attrsOf,
  expand,
  keptShape,
  type ReduceAttrs,
  reduceAxes,
  type ReduceOptions,
  squeeze,
} from "./reduce.ts";

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
