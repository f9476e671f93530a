/**
 * Gradients of reductions along axes that are not linear, and of softmax.
 *
 * @module
 */
import type { Derivative } from "../op.ts";
import { eye } from "../identity.ts";
import { unsqueeze } from "../ops/axes.ts";
import { flip } from "../ops/rearrange.ts";
import { equal, logicalOr, notEqual, pow, where } from "../ops/compare.ts";
import { triu } from "../ops/diagonal.ts";
import { div, mul, sub } from "../ops/elementwise.ts";
import { keptShape, mean, type ReduceAttrs, reducedCount, sum } from "../ops/reduce.ts";
import { cumprod } from "../ops/scan.ts";
import { abs, exp, isfinite, sign } from "../ops/unary.ts";
import { concat, reshape, slice, swapaxes } from "../ops/view.ts";
import type { Tensor } from "../tensor.ts";
import type { Rules } from "./rules.ts";

/** A reduced tensor with size 1 in place of the axes. */
const kept = (x: Tensor, like: Tensor, { reduced }: ReduceAttrs): Tensor =>
  reshape(x, keptShape(like.shape, reduced));

const over = ({ reduced }: ReduceAttrs) => ({
  axes: [...reduced.keys()].filter((axis) => reduced[axis]),
  keepDims: true,
});

/** 1 in place of 0, so that quotients have no NaN that a choice would not keep out of gradients. */
const divisor = (x: Tensor): Tensor => where(equal(x, 0), 1, x);

const extremum: Derivative<ReduceAttrs> = (
  { grads: [dy], inputs: [x], outputs: [y] },
  attrs,
) => [() => {
  const mask = equal(x, kept(y, x, attrs));
  return mul(mask, div(kept(dy!, x, attrs), sum(mask, over(attrs))));
}];

const logsumexp: Derivative<ReduceAttrs> = (
  { grads: [dy], inputs: [x], saved: [, most] },
  attrs,
) => [() => {
  const terms = exp(sub(x, where(isfinite(most), most, 0)));
  return mul(kept(dy!, x, attrs), div(terms, divisor(sum(terms, over(attrs)))));
}];

const norm: Derivative<ReduceAttrs & { readonly p: number }> = (
  { grads: [dy], inputs: [x], outputs: [y] },
  attrs,
) => [() => {
  const { p } = attrs;
  const all = kept(y, x, attrs);
  const [slope, length] = [kept(dy!, x, attrs), divisor(all)];
  if (p === 2) return mul(slope, div(x, length));
  const none = logicalOr(equal(x, 0), equal(all, 0));
  const share = pow(div(abs(where(none, 1, x)), length), p - 1);
  return mul(slope, mul(where(none, 0, sign(x)), share));
}];

interface VarianceAttrs extends ReduceAttrs {
  readonly correction: number;
}

/** Distances from the mean over the count less the correction, whose double is the slope. */
const spread = (x: Tensor, attrs: VarianceAttrs): Tensor =>
  div(sub(x, mean(x, over(attrs))), reducedCount(x.shape, attrs.reduced) - attrs.correction);

const variance: Derivative<VarianceAttrs> = ({ grads: [dy], inputs: [x] }, attrs) => [
  () => mul(kept(dy!, x, attrs), mul(spread(x, attrs), 2)),
];

const std: Derivative<VarianceAttrs> = (
  { grads: [dy], inputs: [x], outputs: [y] },
  attrs,
) => [() => {
  const all = kept(y, x, attrs);
  const slope = mul(div(kept(dy!, x, attrs), divisor(all)), notEqual(all, 0));
  return mul(slope, spread(x, attrs));
}];

interface AxisAttrs {
  readonly axis: number;
}

/** Products of what stands before each element along an axis. */
function productsBefore(x: Tensor, axis: number): Tensor {
  const shape = x.shape.map((size, i) => i === axis ? Math.min(size, 1) : size);
  const rest = slice(x, axis, 0, Math.max(x.shape[axis] - 1, 0));
  return cumprod(concat([x.device.full(shape, 1), rest], axis), axis);
}

const prod: Derivative<AxisAttrs> = ({ grads: [dy], inputs: [x] }, { axis }) => [() => {
  const before = productsBefore(x, axis);
  const after = flip(productsBefore(flip(x, axis), axis), axis);
  const shape = x.shape.map((size, i) => i === axis ? 1 : size);
  return mul(mul(before, after), reshape(dy!, shape));
}];

/** By products without one element each, a matrix of n^2 values for n elements: zeros may be. */
const cumprodRule: Derivative<AxisAttrs> = ({ grads: [dy], inputs: [x] }, { axis }) => [() => {
  const n = x.shape[axis];
  const last = (it: Tensor) => swapaxes(it, axis, x.shape.length - 1);
  const rows = unsqueeze(last(x), -2);
  const others = where(eye(x.device, n), 1, rows);
  const products = triu(cumprod(others, -1));
  return last(sum(mul(products, unsqueeze(last(dy!), -2)), { axes: [-1] }));
}];

interface SoftmaxAttrs {
  readonly temperature: number;
}

const overLast = { axes: [-1], keepDims: true };

/** The rules. */
export const REDUCTIONS: Rules = {
  ...{ max: extremum, min: extremum, logsumexp, norm, variance, std },
  ...{ prod, cumprod: cumprodRule },
  softmax: ({ grads: [dy], outputs: [y], saved: [, tensor] }, { temperature }: SoftmaxAttrs) => [
    () => div(mul(y, sub(dy!, sum(mul(y, dy!), overLast))), tensor ?? temperature),
  ],
  logSoftmax: ({ grads: [dy], outputs: [y], saved: [, tensor] }, { temperature }: SoftmaxAttrs) => [
    () => div(sub(dy!, mul(exp(y), sum(dy!, overLast))), tensor ?? temperature),
  ],
};
