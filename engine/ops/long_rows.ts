/**
 * What the row kernels compute (softmax, layer norm, L2 norm, losses), composed of reductions and
 * elementwise maps: for rows too long for one workgroup (`hasLongRows` in launch/rows.ts); lengths
 * and cosines are in long_lengths.ts. Records nothing. All is computed in f32, and results are
 * rounded once.
 *
 * @module
 */
import { denseStrides } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { fill } from "../launch/copy.ts";
import { elementwise } from "../launch/elementwise.ts";
import type { NormGradients, NormOperands } from "./layernorm.ts";
import { reduceInto, reduceRows } from "./reduce.ts";

/** A new f32 tensor of the shape of `like` that holds `expression` of the operands. */
export function mapped(
  like: Tensor,
  inputs: readonly Tensor[],
  expression: string,
  alpha = 0,
): Tensor {
  const result = like.device.empty(like.shape);
  elementwise(result, inputs, { expression, alpha });
  return result;
}

/** Overwrites `target` by `expression` of its old value `o` and the operands. */
export function update(
  target: Tensor,
  inputs: readonly Tensor[],
  expression: string,
  alpha = 0,
): void {
  elementwise(target, inputs, { expression, alpha, readOut: true });
}

/** Column `i` of statistics [rows, 4], seen as one value for each row of `x`. */
export function column(stats: Tensor, i: number, x: Tensor): Tensor {
  const shape = [...x.shape.slice(0, -1), 1];
  return stats.view(shape, denseStrides(shape).map((stride) => 4 * stride), stats.offset + i);
}

/** Sums of `a * b` over rows. */
export function dots(a: Tensor, b: Tensor): Tensor {
  using products = mapped(a, [a, b], "a * b");
  return reduceRows(products);
}

/** A temperature as a tensor that elementwise maps take. */
function divisor(temperature: Tensor | number, { device }: Tensor): Tensor {
  if (typeof temperature !== "number") return temperature.view([1]);
  const result = device.empty([1]);
  fill(result, temperature);
  return result;
}

/**
 * Softmax, or with `log` its logarithm, of the rows of x / temperature into y.
 *
 * @param temperature a number, or a tensor of one value
 */
export function longSoftmax(
  y: Tensor,
  x: Tensor,
  temperature: Tensor | number,
  log: boolean,
): void {
  using by = divisor(temperature, x);
  using top = reduceRows(x, "max");
  const scaled = "(a - b) / c";
  const work = y.dtype === "f32" ? y : y.device.empty(y.shape);
  const expression = log ? scaled : `exp_$V(${scaled})`;
  elementwise(work, [x, top, by], { expression });
  const exponentials = log ? mapped(work, [work], "exp_$V(a)") : work;
  using total = reduceRows(exponentials);
  if (log) exponentials.dispose();
  update(work, [total], log ? "o - log_$V(a)" : "o / a");
  if (work === y) return;
  elementwise(y, [work], { expression: "a" });
  work.dispose();
}

/** Gradient of {@link longSoftmax}; softmax.wgsl says why dy is shifted. */
export function longSoftmaxGradient(
  dx: Tensor,
  y: Tensor,
  dy: Tensor,
  temperature: Tensor | number,
  log: boolean,
): void {
  using by = divisor(temperature, y);
  if (log) {
    using total = reduceRows(dy);
    using d = mapped(y, [dy, y, total], "a - exp_$V(b) * c");
    elementwise(dx, [d, by], { expression: "a / b" });
    return;
  }
  using top = reduceRows(y, "max");
  using d = mapped(y, [dy, y, top], "select(T(-3.0e38), a, b == c)");
  using leader = reduceRows(d, "max");
  elementwise(d, [dy, leader], { expression: "a - b" });
  using total = dots(d, y);
  if (y.dtype === "f16") {
    // Thousands of small probabilities, rounded, do not sum to 1, as the shift assumes.
    using mass = reduceRows(y);
    update(total, [mass], "o / a");
  }
  update(d, [total, by], "(o - a) / b");
  elementwise(dx, [d, y], { expression: "a * b" });
}

/** The sum that layernorm.ts normalises into y, with the statistics of layernorm.wgsl. */
export function longNorm(
  { x, residual, gamma, beta, eps }: NormOperands,
  { y, total, stats }: { y: Tensor; total?: Tensor; stats: Tensor },
): void {
  const share = 1 / x.shape[x.shape.length - 1];
  using d = residual ? mapped(x, [x, residual], "a + b") : mapped(x, [x], "a");
  if (total) elementwise(total, [d], { expression: "a" });
  fill(stats, 0);
  // The mean, and then what rounding left of it.
  for (const i of beta ? [0, 1] : []) {
    using mean = reduceRows(d, "sum", share);
    update(d, [mean], "o - a");
    elementwise(column(stats, i, x), [mean], { expression: "a" });
  }
  using rstd = reduceRows(d, "sumOfSquares", share);
  update(rstd, [], "1.0 / sqrt(o + T(params.alpha))", eps);
  elementwise(column(stats, 2, x), [rstd], { expression: "a" });
  update(d, [rstd], "o * a");
  if (beta) elementwise(y, [d, gamma, beta], { expression: "a * b + c" });
  else elementwise(y, [d, gamma], { expression: "a * b" });
}

/** Gradients of {@link longNorm}. */
export function longNormGradients(
  { x, gamma, stats, dy, dtotal, dx, parameters, centre }: NormGradients,
): void {
  const width = x.shape[x.shape.length - 1];
  const [m0, m1, rstd] = [0, 1, 2].map((i) => column(stats, i, x));
  using normal = mapped(x, [x, m0, m1], "(a - b) - c");
  update(normal, [rstd], "o * a");
  parameters.forEach((sum, i) => {
    using terms = i === 0 ? mapped(x, [dy, normal], "a * b") : dy.view(dy.shape);
    reduceInto(sum, terms, { outer: 1, reduce: x.size / width, inner: width });
  });
  if (!dx) return;
  using d = mapped(x, [dy, gamma], "a * b");
  using along = dots(d, normal);
  if (centre) {
    using mean = reduceRows(d, "sum", 1 / width);
    update(d, [mean], "o - a");
  }
  update(d, [normal, along], "o - a * b * params.alpha", 1 / width);
  if (dtotal) elementwise(dx, [d, rstd, dtotal], { expression: "a * b + c" });
  else elementwise(dx, [d, rstd], { expression: "a * b" });
}
