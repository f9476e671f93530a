/**
 * Norms of vectors over axes.
 *
 * @module
 */
import { kindOf } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { elementwise } from "../launch/elementwise.ts";
import { defineOp } from "../op.ts";
import { refBroadcast, refFrom, refUnbroadcast } from "../reference.ts";
import { composite } from "../scope.ts";
import type { Tensor } from "../tensor.ts";
import { notEqual } from "./compare.ts";
import {
  attrsOf,
  expand,
  keptShape,
  max,
  min,
  type ReduceAttrs,
  reduceAxes,
  type ReduceOptions,
  squeeze,
  sum,
} from "./reduce.ts";
import { abs } from "./unary.ts";

interface NormAttrs extends ReduceAttrs {
  readonly p: number;
}

const normOp = /* @__PURE__ */ defineOp<NormAttrs>({
  name: "norm",
  forward([x], attrs, save) {
    const { device, shape } = x;
    const { p, reduced } = attrs;
    const y = device.empty(squeeze(shape, attrs));
    let powers = x;
    if (p !== 2) {
      powers = device.empty(shape);
      elementwise(powers, [x], { expression: "pow_$V(abs(a), T(params.alpha))", alpha: p });
    }
    const total = reduceAxes(powers, reduced, p === 2 ? "sumOfSquares" : "sum", 1);
    elementwise(y, [total.view(y.shape)], {
      expression: p === 2 ? "sqrt(a)" : "pow_$V(a, T(params.alpha))",
      alpha: 1 / p,
    });
    save(x);
    save(y);
    return [y];
  },
  backward({ grads: [dy], saved: [x, y] }, { p, reduced }) {
    const dx = x.device.empty(x.shape);
    const rows = [y, dy!].map((it) => expand(it, x.shape, reduced));
    const slope = p === 2 ? "a / b" : "sign(a) * pow_$V(abs(a) / b, T(params.alpha))";
    elementwise(dx, [x, ...rows], {
      expression: `select(c * (${slope}), T(0.0), (a == T(0.0)) | (b == T(0.0)))`,
      alpha: p - 1,
    });
    return [dx];
  },
  reference: {
    forward([x], attrs) {
      const { p, reduced } = attrs;
      const powers = x.data.map((v) => Math.abs(v) ** p);
      const { data } = refUnbroadcast(powers, x.shape, keptShape(x.shape, reduced));
      return [{ shape: squeeze(x.shape, attrs), data: data.map((v) => v ** (1 / p)) }];
    },
    backward([x], { p, reduced }, [dy]) {
      const small = keptShape(x.shape, reduced);
      const powers = refUnbroadcast(x.data.map((v) => Math.abs(v) ** p), x.shape, small);
      const norms = refBroadcast(
        { ...powers, data: powers.data.map((v) => v ** (1 / p)) },
        x.shape,
      );
      const spread = refBroadcast({ shape: small, data: dy.data }, x.shape);
      return [refFrom(x.shape, (i) => {
        const value = x.data[i];
        if (value === 0 || norms[i] === 0) return 0;
        return spread[i] * Math.sign(value) * (Math.abs(value) / norms[i]) ** (p - 1);
      })];
    },
  },
});

/** Options of {@link norm}. */
export interface NormOptions extends ReduceOptions {
  /** Order of the norm; default 2. */
  readonly p?: number;
}

/**
 * The p-norm of vectors over axes, `(sum |x|^p)^(1 / p)`: the largest |x| for Infinity, the
 * smallest for -Infinity, how many are not 0 for 0, as in torch's `linalg.vector_norm`. Squares
 * overflow from 1.8e19 on. Its gradient is 0 where an element or the norm is 0; extrema share it.
 *
 * @returns the shape of `x` without the axes, or with size 1 in their place (`keepDims`)
 * @throws {ShapeError} if an axis does not exist or is named twice, `p` is no number, or there is
 * nothing to take an infinite norm of.
 */
export function norm(x: Tensor, options: NormOptions = {}): Tensor {
  const attrs = attrsOf("norm", x, options, ["axes", "keepDims", "p"]);
  const { p = 2, ...reduction } = options;
  if (typeof p !== "number" || Number.isNaN(p)) {
    throw new ShapeError(`norm: p is ${kindOf(p)}, a number is needed`);
  }
  if (p === 0) return composite(() => sum(notEqual(x, 0), reduction));
  if (p === 1) return composite(() => sum(abs(x), reduction));
  if (p === Infinity) return composite(() => max(abs(x), reduction));
  if (p === -Infinity) return composite(() => min(abs(x), reduction));
  return normOp.apply([x], { ...attrs, p })[0];
}
