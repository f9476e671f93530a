/**
 * Cross-entropies of yes and no.
 *
 * @module
 */
import { needNumber, needOptions, needTogether } from "../arguments.ts";
import { broadcastShapes } from "../shape.ts";
import { add, applyBinary, defineBinary, mul, sub } from "./elementwise.ts";
import { type LossOptions, reduced } from "./loss.ts";
import { neg, softplus } from "./unary.ts";
import { Tensor } from "../tensor.ts";

const BCE_E = "exp_$V(-abs(a))";

const bceWithLogitsOp = /* @__PURE__ */ defineBinary("bceWithLogits", {
  // max(a, 0) - a b + log(1 + e), e = exp(-|a|); a series for small e, whose digits 1 + e would
  // drop.
  wgsl: `max(a, T(0.0)) - a * b + select(log_$V(1.0 + ${BCE_E}), ${BCE_E} * (1.0 - ${BCE_E} * ` +
    `(0.5 - ${BCE_E} * (0.333333333 - ${BCE_E} * (0.25 - ${BCE_E} * (0.2 - ${BCE_E} * ` +
    `(0.166666667 - ${BCE_E} * 0.142857143)))))), ${BCE_E} < T(0.1))`,
  gradients: ["c * (1.0 / (1.0 + exp_$V(-a)) - b)", "-a * c"],
  f: (a, b) => Math.max(a, 0) - a * b + Math.log1p(Math.exp(-Math.abs(a))),
  df: (a, b) => [1 / (1 + Math.exp(-a)) - b, -a],
});

const scaled = (a: Tensor | number, b: Tensor | number): Tensor | number =>
  typeof a === "number" && typeof b === "number" ? a * b : mul(a, b);

/** Options of {@link bceWithLogits}. */
export interface BceOptions extends LossOptions {
  /** What each term counts; broadcasts. */
  readonly weights?: Tensor;
  /** What a target of 1 counts beside one of 0, such as [classes]; broadcasts. Default 1. */
  readonly posWeight?: Tensor | number;
}

/**
 * Binary cross-entropy of logits, `-p t log sigmoid(x) - (1 - t) log(1 - sigmoid(x))` per element,
 * p being `posWeight`, with broadcasting and without overflow; by default of every element.
 *
 * @param logits x, any real numbers
 * @param targets t, in 0..1
 * @throws {ShapeError} if the shapes do not broadcast.
 */
export function bceWithLogits(
  logits: Tensor,
  targets: Tensor | number,
  options: BceOptions = {},
): Tensor {
  needOptions("bceWithLogits", options, ["reduction", "weights", "posWeight"]);
  const { weights, posWeight } = options;
  needTogether("bceWithLogits", { logits }, {
    weights,
    posWeight: posWeight instanceof Tensor ? posWeight : undefined,
  });
  if (posWeight !== undefined && !(posWeight instanceof Tensor)) {
    needNumber("bceWithLogits", "posWeight", posWeight, 0);
  }
  for (const it of [targets, weights, posWeight]) {
    if (it instanceof Tensor) broadcastShapes("bceWithLogits", logits.shape, it.shape);
  }
  const terms = () => {
    // Two terms of one sign, so that nothing cancels.
    const each = posWeight === undefined ? applyBinary(bceWithLogitsOp, logits, targets) : add(
      mul(softplus(neg(logits)), scaled(targets, posWeight)),
      mul(softplus(logits), typeof targets === "number" ? 1 - targets : sub(1, targets)),
    );
    return weights ? mul(each, weights) : each;
  };
  return reduced("bceWithLogits", options, "none", terms, ["weights", "posWeight"]);
}

const LOG_A = "max(log_$V(a), T(-100.0))";
const LOG_REST = "max(log1p_$V(-a), T(-100.0))";

const bceOp = /* @__PURE__ */ defineBinary("bce", {
  wgsl: `select(-(b * ${LOG_A} + (1.0 - b) * ${LOG_REST}), a + b, is_nan_$V(a))`,
  gradients: [
    "select(c * ((a - b) / max(a * (1.0 - a), T(1e-12))), a, is_nan_$V(a))",
    `select(c * (${LOG_REST} - ${LOG_A}), a, is_nan_$V(a))`,
  ],
  f: (a, b) => -(b * refLog(a) + (1 - b) * refLog(1 - a)),
  df: (a, b) => [(a - b) / Math.max(a * (1 - a), 1e-12), refLog(1 - a) - refLog(a)],
});

const refLog = (x: number): number => Math.max(Math.log(x), -100);

/**
 * Binary cross-entropy of probabilities, `-t log p - (1 - t) log(1 - p)` per element with
 * logarithms from -100 on, as torch's `binary_cross_entropy`; by default of every element. Where
 * there are logits, {@link bceWithLogits} is more exact.
 *
 * @param probabilities p, in 0..1
 * @param targets t, in 0..1
 * @throws {ShapeError} if the shapes do not broadcast.
 */
export function bce(
  probabilities: Tensor,
  targets: Tensor | number,
  options: Omit<BceOptions, "posWeight"> = {},
): Tensor {
  needOptions("bce", options, ["reduction", "weights"]);
  const { weights } = options;
  needTogether("bce", { probabilities }, { weights });
  for (const it of [targets, weights]) {
    if (it instanceof Tensor) broadcastShapes("bce", probabilities.shape, it.shape);
  }
  const terms = () => {
    const each = applyBinary(bceOp, probabilities, targets);
    return weights ? mul(each, weights) : each;
  };
  return reduced("bce", options, "none", terms, ["weights"]);
}

/** Softmax of each row of logits and its logarithm. */
