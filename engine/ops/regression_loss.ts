/**
 * Losses per element beside `mse` of loss.ts, and of distributions.
 *
 * @module
 */
import { needNumber, needOptions } from "../arguments.ts";
import { elementwise } from "../launch/elementwise.ts";
import { defineOp } from "../op.ts";
import { refFrom } from "../reference.ts";
import { composite } from "../scope.ts";
import type { Tensor } from "../tensor.ts";
import { defineBinary, div, sub } from "./elementwise.ts";
import { sum } from "./reduce.ts";
import { abs } from "./unary.ts";

import { type LossOptions, reduced, type Reduction, sameShapes } from "./loss.ts";

/**
 * Absolute error per element (torch's `l1_loss`); by default the mean over all. Its gradient is 0
 * where both are equal.
 *
 * @throws {ShapeError} if the shapes differ or, for a mean, hold no elements.
 */
export function l1Loss(prediction: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  sameShapes("l1Loss", prediction, target);
  return reduced("l1Loss", options, "mean", () => abs(sub(prediction, target)));
}

interface HuberAttrs {
  readonly delta: number;
  readonly scale: number;
}

const huberOp = /* @__PURE__ */ defineOp<HuberAttrs>({
  name: "huberLoss",
  half: true,
  strided: true,
  forward([a, b], { delta, scale }, save) {
    const y = a.device.empty(a.shape, a.dtype);
    elementwise(y, [a, b], {
      expression: "select(0.5 * (a - b) * (a - b), params.alpha * (abs(a - b) - 0.5 * " +
        "params.alpha), abs(a - b) > T(params.alpha)) * params.beta",
      alpha: delta,
      beta: scale,
    });
    save(a);
    save(b);
    return [y];
  },
  backward({ grads: [dy], saved: [a, b], needs }, { delta, scale }) {
    return [scale, -scale].map((beta, i) => {
      if (!needs[i]) return undefined;
      const gradient = a.device.empty(a.shape, a.dtype);
      elementwise(gradient, [a, b, dy!], {
        expression: "select(a - b, params.alpha * sign(a - b), abs(a - b) > T(params.alpha)) * " +
          "c * params.beta",
        alpha: delta,
        beta,
      });
      return gradient;
    });
  },
  reference: {
    forward: ([a, b], { delta, scale }) => [
      refFrom(a.shape, (i) => {
        const d = Math.abs(a.data[i] - b.data[i]);
        return scale * (d > delta ? delta * (d - 0.5 * delta) : 0.5 * d * d);
      }),
    ],
    backward: ([a, b], { delta, scale }, [dy]) =>
      [scale, -scale].map((factor) =>
        refFrom(
          a.shape,
          (i) => factor * dy.data[i] * Math.max(-delta, Math.min(delta, a.data[i] - b.data[i])),
        )
      ),
  },
});

/** Options of {@link huberLoss}. */
export interface HuberLossOptions extends LossOptions {
  /** From which error on the loss is linear; default 1. */
  readonly delta?: number;
}

/**
 * Huber's loss per element, with the error e: `e^2 / 2` up to `delta`, `delta (|e| - delta / 2)`
 * above; by default the mean over all.
 *
 * @throws {ShapeError} if the shapes differ or, for a mean, hold no elements, or delta is not
 * positive.
 */
export function huberLoss(
  prediction: Tensor,
  target: Tensor,
  options: HuberLossOptions = {},
): Tensor {
  sameShapes("huberLoss", prediction, target);
  const terms = () => {
    const { delta = 1 } = options;
    needNumber("huberLoss", "delta", delta, Number.MIN_VALUE);
    return huberOp.apply([prediction, target], { delta, scale: 1 })[0];
  };
  return reduced("huberLoss", options, "mean", terms, ["delta"]);
}

/** Options of {@link smoothL1Loss}. */
export interface SmoothL1LossOptions extends LossOptions {
  /** From which error on the loss is linear; 0 gives {@link l1Loss}. Default 1. */
  readonly beta?: number;
}

/**
 * Smooth L1 loss per element, Huber's with its slope scaled to 1: with the error e, `e^2 / (2
 * beta)` up to `beta`, `|e| - beta / 2` above; by default the mean over all.
 *
 * @throws {ShapeError} if the shapes differ or, for a mean, hold no elements, or beta is negative.
 */
export function smoothL1Loss(
  prediction: Tensor,
  target: Tensor,
  options: SmoothL1LossOptions = {},
): Tensor {
  sameShapes("smoothL1Loss", prediction, target);
  const terms = () => {
    const { beta = 1 } = options;
    needNumber("smoothL1Loss", "beta", beta, 0);
    return beta === 0
      ? abs(sub(prediction, target))
      : huberOp.apply([prediction, target], { delta: beta, scale: 1 / beta })[0];
  };
  return reduced("smoothL1Loss", options, "mean", terms, ["beta"]);
}

const klDivOp = /* @__PURE__ */ defineBinary("klDiv", {
  wgsl: "select(b * (log_$V(b) - a), T(0.0), b == T(0.0))",
  gradients: ["-b * c", "(log_$V(b) + 1.0 - a) * c"],
  f: (a, b) => b === 0 ? 0 : b * (Math.log(b) - a),
  df: (a, b) => [-b, Math.log(b) + 1 - a],
});

const klDivOfLogOp = /* @__PURE__ */ defineBinary("klDivOfLog", {
  wgsl: "select(exp_$V(b) * (b - a), T(0.0), exp_$V(b) == T(0.0))",
  gradients: [
    "-exp_$V(b) * c",
    "select(exp_$V(b) * (b - a + 1.0) * c, T(0.0), exp_$V(b) == T(0.0))",
  ],
  f: (a, b) => Math.exp(b) === 0 ? 0 : Math.exp(b) * (b - a),
  df: (a, b) => [-Math.exp(b), Math.exp(b) === 0 ? 0 : Math.exp(b) * (b - a + 1)],
});

/** Options of {@link klDiv}. */
export interface KlDivOptions {
  /** Whether targets are logarithms of probabilities; default false. */
  readonly logTarget?: boolean;
  /** As for other losses, or "batchmean": the sum divided by the first axis. Default "mean". */
  readonly reduction?: Reduction | "batchmean";
}

/**
 * Kullback-Leibler divergence per element, `t (log t - x)` with 0 for t = 0 (torch's `kl_div`: the
 * sum over classes and the mean over rows, `reduction: "batchmean"`, is the divergence itself); by
 * default the mean over all elements, as torch has it.
 *
 * @param logProbabilities x, as of `logSoftmax`
 * @param target probabilities t of the same shape, or with `logTarget` their logarithms
 * @throws {ShapeError} if the shapes differ or, for a mean, hold no elements.
 */
export function klDiv(
  logProbabilities: Tensor,
  target: Tensor,
  options: KlDivOptions = {},
): Tensor {
  sameShapes("klDiv", logProbabilities, target);
  needOptions("klDiv", options, ["reduction", "logTarget"]);
  const { reduction = "mean", ...rest } = options;
  const terms = () =>
    (options.logTarget ? klDivOfLogOp : klDivOp).apply([logProbabilities, target], null)[0];
  if (reduction !== "batchmean") {
    return reduced("klDiv", { ...rest, reduction }, "mean", terms, ["logTarget"]);
  }
  const [rows = 1] = target.shape;
  return composite(() => div(sum(terms()), rows));
}
