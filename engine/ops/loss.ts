/**
 * Losses, with torch's names for how terms become one number ({@link Reduction}). Each carries its
 * reference in float64.
 *
 * @module
 */
import {
  kindOf,
  needFitting,
  needNumber,
  needOptions,
  needTensors,
  needTogether,
} from "../arguments.ts";
import source from "../../kernels/loss.wgsl" with { type: "text" };
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { elementwise } from "../launch/elementwise.ts";
import {
  hasLongRows,
  repeats,
  rowRounds,
  rowsAndWidth,
  runRows,
  writable,
} from "../launch/rows.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refDot, refFrom, refNorm, refRows, refZeros } from "../reference.ts";
import { composite } from "../scope.ts";
import { sameShape, show, sizeOf } from "../shape.ts";
import { noGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { cast } from "./cast.ts";
import { notEqual, where } from "./compare.ts";
import { add, applyBinary, defineBinary, div, mul, sub } from "./elementwise.ts";
import { indexSelect, oneHot, pickRows } from "./indexing.ts";
import { normalizeKernel } from "./l2_normalize.ts";
import { longCosine, longCosineGradients, longSoftmax } from "./long_rows.ts";
import { mean, reduceRows, sum } from "./reduce.ts";
import { logSoftmax, refSoftmaxRow } from "./softmax.ts";
import { abs, square } from "./unary.ts";
import { reshape } from "./view.ts";

const lossKernel = /* @__PURE__ */ defineKernel("loss", source, {
  rounds: (launch) => rowRounds(launch, launch.constants.BACKWARD ? 1 : 3),
});

function sameShapes(name: string, a: Tensor, b: Tensor): void {
  needTogether(name, { "operand 0": a, "operand 1": b });
  if (!sameShape(a.shape, b.shape) || a.dtype !== b.dtype || !isFloat(a.dtype)) {
    throw new ShapeError(
      `${name}: the operands are ${show(a.shape)} of ${a.dtype} and ${show(b.shape)} of ` +
        `${b.dtype}; they must agree and be floats`,
    );
  }
}

/** @throws {ShapeError} if rows have no elements, and so no loss. */
function needRows(name: string, { shape }: Tensor): void {
  if (shape.length === 0 || shape[shape.length - 1] > 0) return;
  throw new ShapeError(`${name}: ${show(shape)} has no elements along its last axis`);
}

/** What becomes of a loss's terms: their mean, their sum, or themselves. */
export type Reduction = "mean" | "sum" | "none";

/** Options that all losses have. */
export interface LossOptions {
  /** What becomes of the terms; each loss says its default. */
  readonly reduction?: Reduction;
}

/** Checks options of a loss and makes what is asked for of its terms, inside of one scope. */
function reduced<Options extends LossOptions>(
  name: string,
  options: Options,
  fallback: Reduction,
  terms: () => Tensor,
  names: readonly string[] = [],
): Tensor {
  needOptions(name, options, ["reduction", ...names]);
  const { reduction = fallback } = options;
  if (reduction !== "mean" && reduction !== "sum" && reduction !== "none") {
    throw new ShapeError(
      `${name}: the reduction is ${kindOf(reduction)}; mean, sum, none are known`,
    );
  }
  if (reduction === "none") return composite(terms);
  return composite(() => (reduction === "mean" ? mean : sum)(terms()));
}

/**
 * Squared error per element; by default the mean over all.
 *
 * @throws {ShapeError} if the shapes differ or, for a mean, hold no elements.
 */
export function mse(prediction: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  sameShapes("mse", prediction, target);
  return reduced("mse", options, "mean", () => square(sub(prediction, target)));
}

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

/**
 * Binary cross-entropy of logits, `-t log sigmoid(x) - (1 - t) log(1 - sigmoid(x))` per element,
 * with broadcasting and without overflow; by default of every element.
 *
 * @param logits x, any real numbers
 * @param targets t, in 0..1
 * @throws {ShapeError} if the shapes do not broadcast.
 */
export function bceWithLogits(
  logits: Tensor,
  targets: Tensor | number,
  options: LossOptions = {},
): Tensor {
  needTensors("bceWithLogits", { logits });
  const terms = () => applyBinary(bceWithLogitsOp, logits, targets);
  return reduced("bceWithLogits", options, "none", terms);
}

/** Softmax of each row of logits and its logarithm. */
const refSoftmax = (x: RefArray) => refRows(x).map((row) => refSoftmaxRow(row, 1));

/** `[..., 1]` seen from `[...]`. */
const column = (t: Tensor): Tensor => t.view([...t.shape, 1]);

const crossEntropyOp = /* @__PURE__ */ defineOp<null>({
  name: "crossEntropy",
  dtypes: "any",
  forward([logits, target], _, save) {
    const log = noGrad(() => logSoftmax(logits));
    const loss = pickRows(log, column(target)).view(target.shape);
    elementwise(loss, [], { expression: "-o", readOut: true });
    save(log);
    save(target);
    return [loss];
  },
  backward({ grads: [dloss], saved: [log, target] }) {
    const { width } = rowsAndWidth(log.shape);
    const dx = log.device.empty(log.shape);
    elementwise(dx, [log, oneHot(target, width), column(dloss!)], {
      expression: "(exp_$V(a) - b) * c",
    });
    return [dx, undefined];
  },
  reference: {
    forward([logits, target]) {
      const rows = refSoftmax(logits);
      return [refFrom(target.shape, (r) => -rows[r].log[target.data[r]])];
    },
    backward([logits, target], _, [dloss]) {
      const { width } = rowsAndWidth(logits.shape);
      const rows = refSoftmax(logits);
      return [
        refFrom(logits.shape, (i) => {
          const r = Math.floor(i / width);
          return dloss.data[r] * (rows[r].probability[i % width] - +(target.data[r] === i % width));
        }),
        undefined,
      ];
    },
  },
});

const crossEntropyOfDistributionsOp = /* @__PURE__ */ defineOp<null>({
  name: "crossEntropyOfDistributions",
  dtypes: "any",
  forward([logits, target], _, save) {
    const log = noGrad(() => logSoftmax(logits));
    const terms = log.device.empty(log.shape);
    elementwise(terms, [log, target], { expression: "-a * b" });
    const loss = reduceRows(terms).view(logits.shape.slice(0, -1));
    save(log);
    save(target);
    return [loss];
  },
  backward({ grads: [dloss], saved: [log, target], needs }) {
    const { device, shape } = log;
    const slope = column(dloss!);
    let dlogits: Tensor | undefined;
    if (needs[0]) {
      dlogits = device.empty(shape);
      elementwise(dlogits, [log, reduceRows(target), target], { expression: "exp_$V(a) * b - c" });
      elementwise(dlogits, [slope], { expression: "o * a", readOut: true });
    }
    let dtarget: Tensor | undefined;
    if (needs[1]) {
      dtarget = device.empty(shape);
      elementwise(dtarget, [log, slope], { expression: "-a * b" });
    }
    return [dlogits, dtarget];
  },
  reference: {
    forward([logits, target]) {
      const rows = refSoftmax(logits);
      const { width } = rowsAndWidth(logits.shape);
      return [
        refFrom(
          logits.shape.slice(0, -1),
          (r) => -rows[r].log.reduce((sum, v, k) => sum + v * target.data[r * width + k], 0),
        ),
      ];
    },
    backward([logits, target], _, [dloss]) {
      const { width } = rowsAndWidth(logits.shape);
      const [dlogits, dtarget] = [refZeros(logits.shape), refZeros(logits.shape)];
      refSoftmax(logits).forEach(({ probability, log }, r) => {
        const p = target.data.subarray(r * width, (r + 1) * width);
        const total = p.reduce((a, b) => a + b, 0);
        for (let k = 0; k < width; k++) {
          dlogits.data[r * width + k] = dloss.data[r] * (probability[k] * total - p[k]);
          dtarget.data[r * width + k] = -dloss.data[r] * log[k];
        }
      });
      return [dlogits, dtarget];
    },
  },
});

interface NllAttrs {
  /** What all classes share of every target. */
  readonly smoothing: number;
  /** Whether a row's factor follows the target: 0 where it is left out. */
  readonly partial: boolean;
  /** Whether weights of classes are the last input. */
  readonly weighted: boolean;
}

/** What a class's logarithm counts in a row's loss; a is 1 at the target, b the class's weight. */
const nllShare = ({ weighted }: NllAttrs): string =>
  `(a * (1.0 - params.alpha) + T(params.beta))${weighted ? " * b" : ""}`;

const nllOp = /* @__PURE__ */ defineOp<NllAttrs>({
  name: "nllLoss",
  dtypes: "any",
  forward(inputs, attrs, save) {
    const [log, target] = inputs;
    const { device } = log;
    const { width } = rowsAndWidth(log.shape);
    const { smoothing, partial, weighted } = attrs;
    const counts = partial ? inputs[2] : undefined;
    const weights = weighted ? inputs[inputs.length - 1] : undefined;
    [target, ...inputs.slice(2)].forEach(save);
    let rows: Tensor;
    if (smoothing === 0 && !weights) rows = pickRows(log, column(target));
    else {
      const terms = device.empty(log.shape);
      const share = nllShare(attrs);
      // What does not count may be infinite.
      const last = weights ? "c" : "b";
      elementwise(terms, [oneHot(target, width), ...weights ? [weights] : [], log], {
        expression: `select(${share} * ${last}, T(0.0), ${share} == T(0.0))`,
        alpha: smoothing,
        beta: smoothing / width,
      });
      rows = reduceRows(terms);
    }
    const loss = device.empty(target.shape);
    elementwise(loss, [rows.view(target.shape), ...counts ? [counts] : []], {
      expression: counts ? "select(-a * b, T(0.0), b == T(0.0))" : "-a",
    });
    return [loss];
  },
  backward({ grads: [dloss], saved: [target, ...rest], shapes: [shape] }, attrs) {
    const { smoothing, partial, weighted } = attrs;
    const { width } = rowsAndWidth(shape);
    const { device } = dloss!;
    let slope = dloss!;
    if (partial) {
      slope = device.empty(target.shape);
      elementwise(slope, [dloss!, rest[0]], { expression: "a * b" });
    }
    const dlog = device.empty(shape);
    const weights = weighted ? [rest[rest.length - 1]] : [];
    elementwise(dlog, [oneHot(target, width), ...weights, column(slope)], {
      // A row that does not count has no slope, whatever its class's weight.
      expression: weighted
        ? `select(-${nllShare(attrs)} * c, T(0.0), c == T(0.0))`
        : `-${nllShare(attrs)} * b`,
      alpha: smoothing,
      beta: smoothing / width,
    });
    return [dlog, undefined, ...rest.map(() => undefined)];
  },
  reference: {
    forward([log, target, ...rest], attrs) {
      const share = refNllShare(log, target, rest, attrs);
      const rows = refRows(log);
      return [
        refFrom(
          target.shape,
          (r) => -rows[r].reduce((sum, x, k) => share(r, k) === 0 ? sum : sum + share(r, k) * x, 0),
        ),
      ];
    },
    backward([log, target, ...rest], attrs, [dloss]) {
      const share = refNllShare(log, target, rest, attrs);
      const { width } = rowsAndWidth(log.shape);
      return [
        refFrom(log.shape, (i) => {
          const r = Math.floor(i / width);
          return dloss.data[r] === 0 ? 0 : -share(r, i % width) * dloss.data[r];
        }),
        ...[target, ...rest].map(() => undefined),
      ];
    },
  },
});

function refNllShare(
  log: RefArray,
  target: RefArray,
  rest: readonly RefArray[],
  { smoothing, partial, weighted }: NllAttrs,
): (row: number, k: number) => number {
  const { width } = rowsAndWidth(log.shape);
  const weights = weighted ? rest[rest.length - 1] : undefined;
  return (row, k) =>
    // A row that does not count is 0 beside NaN too.
    partial && rest[0].data[row] === 0 ? 0 : (partial ? rest[0].data[row] : 1) *
      (weights?.data[k] ?? 1) *
      ((1 - smoothing) * +(target.data[row] === k) + smoothing / width);
}

/** Options of {@link nllLoss}. */
export interface NllLossOptions extends LossOptions {
  /** f32 [K]: what a row of each class counts; a mean is weighted with it. No gradient. */
  readonly weights?: Tensor;
  /** Rows with this target have no loss and do not count in a mean; default none. */
  readonly ignoreIndex?: number;
}

/** Options of {@link crossEntropy}. */
export interface CrossEntropyOptions extends NllLossOptions {
  /** Share of each target that is spread evenly over all classes, 0 to 1; default 0. */
  readonly labelSmoothing?: number;
}

/** The loss of class indices from logarithms of probabilities. */
function indexLoss(
  name: string,
  log: Tensor,
  given: Tensor,
  { weights, ignoreIndex, labelSmoothing: smoothing = 0, reduction = "none" }: CrossEntropyOptions,
): Tensor {
  const classes = log.shape[log.shape.length - 1];
  needTensors(name, {}, { weights });
  if (weights && !(sameShape(weights.shape, [classes]) && weights.dtype === "f32")) {
    throw new ShapeError(
      `${name}: the weights are ${show(weights.shape)} of ${weights.dtype}; f32 ${
        show([classes])
      } is needed`,
    );
  }
  if (!(smoothing >= 0 && smoothing <= 1)) {
    throw new ShapeError(`${name}: labelSmoothing ${smoothing} is not from 0 to 1`);
  }
  return reduced(name, { reduction }, "none", () => {
    if (ignoreIndex !== undefined) needFitting(name, ignoreIndex, given.dtype);
    const counts = ignoreIndex === undefined
      ? undefined
      : cast(notEqual(given, ignoreIndex), "f32");
    // Class 0 in place of what is left out, which may be no class.
    const kept = counts ? where(counts, given, 0) : given;
    const target = kept.dtype === "u32" ? kept : cast(kept, "u32");
    const rest = [counts, weights].filter((it) => it !== undefined);
    const attrs = { smoothing, partial: counts !== undefined, weighted: weights !== undefined };
    const [loss] = nllOp.apply([log, target, ...rest], attrs);
    if (reduction !== "mean" || rest.length === 0) return loss;
    // A weighted mean: each row's share of the whole weight, for mean() to add up.
    const flat = reshape(target, [-1]);
    const weight = weights ? reshape(indexSelect(weights, flat), loss.shape) : counts!;
    const total = sum(weights && counts ? mul(weight, counts) : weight);
    return mul(div(loss, total), loss.size);
  });
}

/**
 * Negative log-likelihood per row, `-x[target]`, of logarithms of probabilities (torch's
 * `nll_loss`, classes along the last axis); by default of every row.
 *
 * @param logProbabilities [..., K], as of `logSoftmax`
 * @param target u32 or i32 [...], each below K or `ignoreIndex`
 * @returns [...], or one number
 * @throws {ShapeError} if target or weights do not fit.
 */
export function nllLoss(
  logProbabilities: Tensor,
  target: Tensor,
  options: NllLossOptions = {},
): Tensor {
  needTensors("nllLoss", { logProbabilities, target });
  needOptions("nllLoss", options, ["reduction", "weights", "ignoreIndex"]);
  needRows("nllLoss", logProbabilities);
  const { shape, dtype } = logProbabilities;
  if (
    shape.length === 0 || !isFloat(dtype) || isFloat(target.dtype) ||
    !sameShape(target.shape, shape.slice(0, -1))
  ) {
    throw new ShapeError(
      `nllLoss: log-probabilities ${show(shape)} of ${dtype} must be floats and take u32 or i32 ` +
        `indices ${show(shape.slice(0, -1))}, not ${show(target.shape)} of ${target.dtype}`,
    );
  }
  return indexLoss("nllLoss", logProbabilities, target, options);
}

/**
 * Cross-entropy per row: `-log softmax(logits)[target]` for class indices, `-sum(target log
 * softmax(logits))` for distributions, to which a gradient flows as well; by default of every row.
 * A mean is weighted as torch's: with indices it divides by the weights of the rows that count,
 * with distributions by the number of rows.
 *
 * @param logits [..., K]
 * @param target u32 or i32 [...], each below K or `ignoreIndex`; or f32 [..., K]
 * @returns [...], or one number
 * @throws {ShapeError} if the target fits neither, weights do not fit, or `ignoreIndex` stands
 * beside distributions.
 */
export function crossEntropy(
  logits: Tensor,
  target: Tensor,
  options: CrossEntropyOptions = {},
): Tensor {
  needTensors("crossEntropy", { logits, target });
  const names = ["weights", "ignoreIndex", "labelSmoothing"];
  needOptions("crossEntropy", options, ["reduction", ...names]);
  needRows("crossEntropy", logits);
  const { weights, ignoreIndex, labelSmoothing = 0, reduction } = options;
  const plain = !weights && ignoreIndex === undefined && labelSmoothing === 0;
  const rank = logits.shape.length;
  if (rank > 0 && isFloat(logits.dtype)) {
    if (!isFloat(target.dtype) && sameShape(target.shape, logits.shape.slice(0, -1))) {
      if (!plain || target.dtype !== "u32") {
        return composite(() => indexLoss("crossEntropy", logSoftmax(logits), target, options));
      }
      return reduced(
        "crossEntropy",
        { reduction },
        "none",
        () => crossEntropyOp.apply([logits, target], null)[0],
      );
    }
    if (target.dtype === "f32" && sameShape(target.shape, logits.shape)) {
      if (ignoreIndex !== undefined) {
        throw new ShapeError(
          "crossEntropy: ignoreIndex is given beside probabilities, not indices",
        );
      }
      return reduced("crossEntropy", { reduction }, "none", () => {
        const share = labelSmoothing / logits.shape[rank - 1];
        const spread = labelSmoothing === 0 ? target : add(mul(target, 1 - labelSmoothing), share);
        const weighted = weights ? mul(spread, weights) : spread;
        return crossEntropyOfDistributionsOp.apply([logits, weighted], null)[0];
      });
    }
  }
  throw new ShapeError(
    `crossEntropy: logits ${
      show(logits.shape)
    } of ${logits.dtype} must be floats and take u32 indices ${
      show(logits.shape.slice(0, -1))
    } or f32 probabilities ${show(logits.shape)}, not ${show(target.shape)} of ${target.dtype}`,
  );
}

const cosineLossOp = /* @__PURE__ */ defineOp<{ readonly eps: number }>({
  name: "cosineLoss",
  forward([prediction, target], { eps }, save) {
    const { rows, width } = rowsAndWidth(prediction.shape);
    const loss = prediction.device.empty(prediction.shape.slice(0, -1));
    const stats = prediction.device.empty([rows, 4]);
    save(prediction);
    save(target);
    save(stats);
    if (hasLongRows(prediction)) {
      longCosine(loss, stats, prediction, target, eps);
      return [loss];
    }
    const operands = [
      { tensor: prediction, perRow: width },
      { tensor: target, perRow: width },
      { tensor: loss, perRow: 1 },
      { tensor: stats, perRow: 4 },
    ];
    runRows(normalizeKernel, rows, width, operands, { MODE: 2 }, { eps });
    return [loss];
  },
  backward({ grads: [dloss], saved: [prediction, target, stats], needs, into }, { eps }) {
    const { rows, width } = rowsAndWidth(prediction.shape);
    const results = [prediction, target].map((input, i) =>
      needs[i] ? writable(into(i), input) : undefined
    );
    if (hasLongRows(prediction)) {
      longCosineGradients(results, [prediction, target], stats, dloss!, eps);
      return results;
    }
    const operands = [
      { tensor: prediction, perRow: width },
      { tensor: target, perRow: width },
      { tensor: stats, perRow: 4 },
      { tensor: dloss!, perRow: 1 },
      ...results.filter((t) => t !== undefined).map((tensor) => ({ tensor, perRow: width })),
    ];
    runRows(normalizeKernel, rows, width, operands, { MODE: 3, DA: needs[0], DB: needs[1] }, {
      eps,
    });
    return results;
  },
  reference: {
    forward([prediction, target], { eps }) {
      const [a, b] = [prediction, target].map(refRows);
      return [refFrom(
        prediction.shape.slice(0, -1),
        (r) =>
          2 - 2 * refDot(a[r], b[r]) / Math.max(refNorm(a[r]), eps) / Math.max(refNorm(b[r]), eps),
      )];
    },
    backward([prediction, target], { eps }, [dloss]) {
      return [[prediction, target], [target, prediction]].map(([self, other]) => {
        const result = refZeros(self.shape);
        const [a, b, into] = [self, other, result].map(refRows);
        a.forEach((row, r) => {
          const norm = refNorm(row);
          const [na, nb] = [Math.max(norm, eps), Math.max(refNorm(b[r]), eps)];
          const pull = norm < eps ? 0 : refDot(row, b[r]) / na / nb / na / na;
          row.forEach((value, k) =>
            into[r][k] = -2 * dloss.data[r] * (b[r][k] / na / nb - value * pull)
          );
        });
        return result;
      });
    },
  },
});

/**
 * `2 - 2 cos(prediction, target)` over the last axis, each side normalised with eps 1e-12:
 * the squared distance of two unit vectors, as BYOL has it (Grill et al., 2020; model/README.md,
 * Losses and statistics); by default of every row.
 *
 * @returns the shape of the operands without the last axis, or one number
 * @throws {ShapeError} if the shapes differ.
 */
export function cosineLoss(prediction: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  sameShapes("cosineLoss", prediction, target);
  needRows("cosineLoss", prediction);
  const terms = () => cosineLossOp.apply([prediction, target], { eps: 1e-12 })[0];
  return reduced("cosineLoss", options, "none", terms);
}

interface CentredCrossEntropyAttrs {
  readonly studentTemperature: number;
}

const centredCrossEntropyOp = /* @__PURE__ */ defineOp<CentredCrossEntropyAttrs>({
  name: "centredCrossEntropy",
  auxiliary: [1],
  forward([student, teacher, centre, teacherTemperature], { studentTemperature }, save) {
    const { rows, width } = rowsAndWidth(student.shape);
    const loss = student.device.empty(student.shape.slice(0, -1));
    const probabilities = student.device.empty(student.shape);
    const stats = student.device.empty([rows, 2]);
    save(student);
    save(probabilities);
    save(stats);
    if (hasLongRows(student)) {
      using centred = student.device.empty(student.shape);
      elementwise(centred, [teacher, centre.view([width])], { expression: "a - b" });
      longSoftmax(probabilities, centred, teacherTemperature, false);
      // In place of the teacher: its logarithms of the student.
      longSoftmax(centred, student, studentTemperature, true);
      elementwise(centred, [probabilities], { expression: "-a * o", readOut: true });
      elementwise(loss, [reduceRows(centred).view(loss.shape)], { expression: "a" });
      return [loss, probabilities];
    }
    const operands = [
      { tensor: student, perRow: width },
      { tensor: teacher, perRow: width },
      { tensor: centre, perRow: 0 },
      { tensor: teacherTemperature, perRow: 0 },
      { tensor: loss, perRow: 1 },
      { tensor: probabilities, perRow: width },
      { tensor: stats, perRow: 2 },
    ];
    const params = { student_temperature: studentTemperature };
    const repeat = repeats(student.device, rows);
    runRows(lossKernel, rows, width, operands, { BACKWARD: false }, params, repeat);
    return [loss, probabilities];
  },
  backward(
    { grads: [dloss], saved: [student, probabilities, stats], needs, into },
    { studentTemperature },
  ) {
    if (!needs[0]) return [];
    const { rows, width } = rowsAndWidth(student.shape);
    const dstudent = writable(into(0), student);
    if (hasLongRows(student)) {
      longSoftmax(dstudent, student, studentTemperature, false);
      elementwise(dstudent, [probabilities, column(dloss!)], {
        expression: "(o - a) * b * params.alpha",
        alpha: 1 / studentTemperature,
        readOut: true,
      });
      return [dstudent];
    }
    const operands = [
      { tensor: student, perRow: width },
      { tensor: probabilities, perRow: width },
      { tensor: stats, perRow: 2 },
      { tensor: dloss!, perRow: 1 },
      { tensor: dstudent, perRow: width },
    ];
    const params = { student_temperature: studentTemperature };
    runRows(lossKernel, rows, width, operands, { BACKWARD: true }, params);
    return [dstudent];
  },
  reference: {
    forward([student, teacher, centre, temperature], { studentTemperature }) {
      const probabilities = refZeros(student.shape);
      const [s, t, p] = [student, teacher, probabilities].map(refRows);
      const loss = refFrom(student.shape.slice(0, -1), (r) => {
        p[r].set(
          refSoftmaxRow(t[r].map((v, k) => v - centre.data[k]), temperature.data[0]).probability,
        );
        return -refDot(p[r], refSoftmaxRow(s[r], studentTemperature).log);
      });
      return [loss, probabilities];
    },
    backward([student, teacher, centre, temperature], { studentTemperature }, [dloss]) {
      const result = refZeros(student.shape);
      const [s, t, into] = [student, teacher, result].map(refRows);
      s.forEach((row, r) => {
        const q = refSoftmaxRow(row, studentTemperature).probability;
        const p = refSoftmaxRow(
          t[r].map((v, k) => v - centre.data[k]),
          temperature.data[0],
        ).probability;
        q.forEach((value, k) => into[r][k] = dloss.data[r] * (value - p[k]) / studentTemperature);
      });
      return [result];
    },
  },
});

/** Temperatures of {@link centredCrossEntropy}. */
export interface CentredCrossEntropyOptions {
  /** What student logits are divided by. */
  readonly studentTemperature: number;
  /**
   * What centred teacher logits are divided by: a tensor `[1]`, so that it can change from step to
   * step.
   */
  readonly teacherTemperature: Tensor;
}

/**
 * Cross-entropy of a student against a centred, sharpened teacher, as DINO has it (Caron et al.,
 * 2021; model/README.md, Losses and statistics): `p = softmax((teacher - centre) / Tt)`,
 * `loss = -sum p log softmax(student / Ts)`. Only the student gets a gradient.
 *
 * @param studentLogits `[..., K]`
 * @param teacherLogits `[..., K]`
 * @param centre `K` values of any shape
 * @returns the loss per row `[...]` and the teacher's probabilities `[..., K]`, which carry no
 * gradient
 * @throws {ShapeError} if the shapes do not fit.
 */
export function centredCrossEntropy(
  studentLogits: Tensor,
  teacherLogits: Tensor,
  centre: Tensor,
  options: CentredCrossEntropyOptions,
): { loss: Tensor; probabilities: Tensor } {
  const name = "centredCrossEntropy";
  needOptions(name, options, ["studentTemperature", "teacherTemperature"]);
  const { studentTemperature, teacherTemperature } = options;
  needTensors(name, { studentLogits, teacherLogits, centre, teacherTemperature });
  needNumber(name, "studentTemperature", studentTemperature);
  sameShapes("centredCrossEntropy", studentLogits, teacherLogits);
  needRows("centredCrossEntropy", studentLogits);
  const { width } = rowsAndWidth(studentLogits.shape);
  if (sizeOf(centre.shape) !== width || teacherTemperature.size !== 1) {
    throw new ShapeError(
      `centredCrossEntropy: logits ${
        show(studentLogits.shape)
      } need a centre of ${width} values and a temperature of ` +
        `one, not ${show(centre.shape)} and ${show(teacherTemperature.shape)}`,
    );
  }
  const inputs = [studentLogits, teacherLogits, centre, teacherTemperature];
  const [loss, probabilities] = centredCrossEntropyOp.apply(inputs, { studentTemperature });
  return { loss, probabilities };
}
