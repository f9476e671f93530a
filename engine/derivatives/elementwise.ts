/**
 * Gradients of elementwise ops, made of ops.
 *
 * @module
 */
import { zerosLike } from "../creation.ts";
import type { Derivative } from "../op.ts";
import {
  clamp,
  equal,
  greater,
  greaterEqual,
  less,
  lessEqual,
  logicalAnd,
  pow,
  where,
} from "../ops/compare.ts";
import { add, div, hypot, idiv, maximum, minimum, mul, sub } from "../ops/elementwise.ts";
import {
  abs,
  cos,
  cosh,
  erfc,
  exp,
  isfinite,
  isinf,
  isnan,
  log,
  neg,
  reciprocal,
  round,
  rsqrt,
  sigmoid,
  sign,
  sin,
  sinc,
  sinh,
  softplus,
  square,
  tanh,
} from "../ops/unary.ts";
import { detach } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/** NaN where `x` is, else a mask or other values. */
const besideNaN = (x: Tensor, values: Tensor | number): Tensor => where(isnan(x), x, values);

const normalDensity = (x: Tensor): Tensor =>
  mul(exp(mul(square(x), -0.5)), 1 / Math.sqrt(2 * Math.PI));

/** What is left of x where a slope is not 0 or 1, so that its powers are finite. */
const near = (x: Tensor): Tensor => clamp(x, -20, 20);

/**
 * Slopes of the functions of `ops/unary_table.ts`, of the input or, where that is what they save,
 * of the output `y`.
 */
const SLOPES: Readonly<Record<string, (x: Tensor, y: Tensor) => Tensor | number>> = {
  neg: () => -1,
  exp: (_, y) => y,
  log: (x) => reciprocal(x),
  sqrt: (_, y) => div(0.5, y),
  square: (x) => mul(x, 2),
  relu: (x) => besideNaN(x, greater(x, 0)),
  tanh: (_, y) => sub(1, square(y)),
  gelu: (x) => add(mul(erfc(mul(x, -Math.SQRT1_2)), 0.5), mul(near(x), normalDensity(near(x)))),
  geluTanh: (x) => {
    const c = Math.sqrt(8 / Math.PI);
    const s = sigmoid(mul(mul(x, add(mul(square(x), 0.044715), 1)), c));
    const slope = mul(add(mul(square(near(x)), 3 * 0.044715), 1), c);
    return add(s, mul(mul(near(x), slope), mul(s, sub(1, s))));
  },
  sigmoid: (x) => mul(sigmoid(x), sigmoid(neg(x))),
  silu: (x) => mul(sigmoid(x), add(mul(x, sigmoid(neg(x))), 1)),
  softplus: (x) => sigmoid(x),
  mish: (x) => {
    const t = tanh(softplus(x));
    return add(t, mul(mul(near(x), sub(1, square(t))), sigmoid(x)));
  },
  hardswish: (x) => where(less(x, -3), 0, where(greater(x, 3), 1, add(div(x, 3), 0.5))),
  relu6: (x) => besideNaN(x, logicalAnd(greater(x, 0), less(x, 6))),
  hardsigmoid: (x) => besideNaN(x, div(less(abs(x), 3), 6)),
  selu: (x) => where(greater(x, 0), 1.0507009873554805, mul(exp(minimum(x, 0)), 1.758099340847376)),
  logSigmoid: (x) => sigmoid(neg(x)),
  softsign: (x) => reciprocal(square(add(abs(x), 1))),
  abs: (x) => sign(x),
  sign: (x) => besideNaN(x, 0),
  rsqrt: (_, y) => mul(mul(square(y), y), -0.5),
  reciprocal: (_, y) => neg(square(y)),
  sin: (x) => cos(x),
  cos: (x) => neg(sin(x)),
  tan: (_, y) => add(square(y), 1),
  asin: (x) => rsqrt(mul(sub(1, x), add(x, 1))),
  acos: (x) => neg(rsqrt(mul(sub(1, x), add(x, 1)))),
  atan: (x) => reciprocal(add(square(x), 1)),
  sinh: (x) => cosh(x),
  cosh: (x) => sinh(x),
  asinh: (x) => rsqrt(add(square(x), 1)),
  acosh: (x) => mul(rsqrt(sub(x, 1)), rsqrt(add(x, 1))),
  atanh: (x) => reciprocal(mul(sub(1, x), add(x, 1))),
  sinc: (x) => {
    const small = less(abs(x), 0.25);
    const turned = cos(mul(sub(x, mul(round(mul(x, 0.5)), 2)), Math.PI));
    const z = square(mul(x, Math.PI));
    const tail = sub(1 / 840, div(z, 45360));
    const series = mul(mul(x, -(Math.PI ** 2)), sub(1 / 3, mul(z, sub(1 / 30, mul(z, tail)))));
    return where(small, series, div(sub(turned, sinc(x)), where(small, 1, x)));
  },
  log10: (x) => div(Math.LOG10E, x),
  exp2: (_, y) => mul(y, Math.LN2),
  log2: (x) => div(Math.LOG2E, x),
  log1p: (x) => reciprocal(add(x, 1)),
  expm1: (x) => exp(x),
  erf: (x) => mul(exp(neg(square(x))), 2 / Math.sqrt(Math.PI)),
  erfc: (x) => mul(exp(neg(square(x))), -2 / Math.sqrt(Math.PI)),
  floor: () => 0,
  ceil: () => 0,
  round: () => 0,
  trunc: () => 0,
};

type Sides = readonly [() => Tensor, () => Tensor];

/** Share of the larger or smaller side `x`: half where both are equal, NaN where one is. */
const share = (x: Tensor, y: Tensor, beats: typeof greater): Tensor =>
  besideNaN(add(x, y), add(beats(x, y), mul(equal(x, y), 0.5)));

/** The gradients of an angle: `x / (a^2 + b^2)` for a side, without overflow; 0 at the origin. */
function angle(dy: Tensor, x: Tensor, a: Tensor, b: Tensor): Tensor {
  const size = detach(maximum(abs(a), abs(b)));
  const origin = equal(size, 0);
  const scale = where(origin, 1, minimum(size, 3e38));
  const squares = add(square(div(a, scale)), square(div(b, scale)));
  return div(div(mul(dy, div(x, scale)), where(origin, 1, squares)), scale);
}

/** log p from -100 on, where it has no slope. */
const leastLog = (p: Tensor): Tensor => {
  const none = equal(p, 0);
  return where(none, -100, maximum(log(where(none, 1, p)), -100));
};

/** Gradients of ops of two tensors a and b. */
const SIDES: Readonly<Record<string, (dy: Tensor, a: Tensor, b: Tensor) => Sides>> = {
  add: (dy) => [() => dy, () => dy],
  sub: (dy) => [() => dy, () => neg(dy)],
  mul: (dy, a, b) => [() => mul(dy, b), () => mul(dy, a)],
  div: (dy, a, b) => [() => div(dy, b), () => neg(div(mul(dy, div(a, b)), b))],
  maximum: (dy, a, b) => [() => mul(dy, share(a, b, greater)), () => mul(dy, share(b, a, greater))],
  minimum: (dy, a, b) => [() => mul(dy, share(a, b, less)), () => mul(dy, share(b, a, less))],
  pow: (dy, a, b) => [
    () => where(equal(b, 0), 0, mul(dy, mul(b, pow(a, sub(b, 1))))),
    () => {
      const none = logicalAnd(equal(a, 0), greaterEqual(b, 0));
      return mul(dy, mul(pow(a, b), log(where(none, 1, a))));
    },
  ],
  idiv: (dy) => [() => zerosLike(dy), () => zerosLike(dy)],
  mod: (dy, a, b) => [() => dy, () => neg(mul(dy, idiv(a, b)))],
  atan2: (dy, a, b) => [() => angle(dy, b, a, b), () => neg(angle(dy, a, a, b))],
  logaddexp: (dy, a, b) => {
    const between = where(logicalAnd(equal(a, b), isinf(a)), 0, sub(a, b));
    return [() => mul(dy, sigmoid(between)), () => mul(dy, sigmoid(neg(between)))];
  },
  klDiv: (dy, a, b) => [() => neg(mul(dy, b)), () => mul(dy, sub(add(log(b), 1), a))],
  klDivOfLog: (dy, a, b) => [
    () => neg(mul(dy, exp(b))),
    () => {
      const none = equal(exp(b), 0);
      return mul(dy, mul(exp(b), add(sub(where(none, 0, b), a), 1)));
    },
  ],
  hypot: (dy, a, b) => {
    const length = hypot(a, b);
    const size = where(equal(length, 0), 1, length);
    return [() => mul(dy, div(a, size)), () => mul(dy, div(b, size))];
  },
  bce: (dy, a, b) => [
    () => mul(dy, div(sub(a, b), maximum(mul(a, sub(1, a)), 1e-12))),
    () => mul(dy, sub(leastLog(sub(1, a)), leastLog(a))),
  ],
  bceWithLogits: (dy, a, b) => [() => mul(dy, sub(sigmoid(a), b)), () => neg(mul(dy, a))],
};

/** What an activation of `ops/activation.ts` has below 0 for a slope. */
const BELOW: Readonly<Record<string, (x: Tensor, alpha: number) => Tensor | number>> = {
  leakyRelu: (_, alpha) => alpha,
  elu: (x, alpha) => mul(exp(minimum(x, 0)), alpha),
};

const slopes = (
  slope: (x: Tensor, y: Tensor) => Tensor | number,
): Derivative =>
({ grads: [dy], inputs: [x], outputs: [y] }) => [() => {
  const by = slope(x, y);
  return by === 0 ? zerosLike(dy!) : mul(dy!, by);
}];

/** Ops with attributes. */
const OTHERS = {
  cast: "linear",
  clamp: ({ grads: [dy], inputs: [x] }, { low, high }: { low: number; high: number }) => [
    () => mul(dy!, besideNaN(x, logicalAnd(greaterEqual(x, low), lessEqual(x, high)))),
  ],
  powScalar: ({ grads: [dy], inputs: [x] }, { exponent }: { exponent: number }) => [
    () => exponent === 0 ? zerosLike(dy!) : mul(dy!, mul(pow(x, exponent - 1), exponent)),
  ],
  nanToNum: ({ grads: [dy], inputs: [x] }) => [() => where(isfinite(x), dy!, 0)],
  where: ({ grads: [dy], saved: [mask] }) => [
    undefined,
    () => where(mask, dy!, 0),
    () => where(mask, 0, dy!),
  ],
  huberLoss: (
    { grads: [dy], inputs: [a, b] },
    { delta, scale }: { delta: number; scale: number },
  ) => {
    const slope = () => mul(dy!, mul(clamp(sub(a, b), -delta, delta), scale));
    return [slope, () => neg(slope())];
  },
} satisfies Readonly<Record<string, Derivative<never>>>;

/** The rule for an elementwise op, undefined for others. */
export function elementwiseRule(name: string): Derivative | undefined {
  if (Object.hasOwn(SLOPES, name)) return slopes(SLOPES[name]);
  if (Object.hasOwn(SIDES, name)) {
    return ({ grads: [dy], inputs: [a, b] }) => SIDES[name](dy!, a, b);
  }
  if (Object.hasOwn(BELOW, name)) {
    return ({ grads: [dy], inputs: [x] }, attrs) => [
      () => mul(dy!, where(greater(x, 0), 1, BELOW[name](x, (attrs as { alpha: number }).alpha))),
    ];
  }
  return Object.hasOwn(OTHERS, name)
    ? OTHERS[name as keyof typeof OTHERS] as Derivative
    : undefined;
}
