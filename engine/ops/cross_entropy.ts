/**
 * Cross-entropies of classes by index or distribution.
 *
 * @module
 */
import { needFitting, needOptions, needTensors } from "../arguments.ts";
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { materialize } from "../launch/copy.ts";
import { elementwise } from "../launch/elementwise.ts";
import { rowsAndWidth } from "../launch/rows.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refFrom, refRows, refZeros } from "../reference.ts";
import { composite } from "../scope.ts";
import { normalizeAxis, sameShape, show } from "../shape.ts";
import { noGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { cast } from "./cast.ts";
import { notEqual, where } from "./compare.ts";
import { add, div, mul } from "./elementwise.ts";
import { column, type LossOptions, needRows, reduced } from "./loss.ts";
import { oneHot, pickRows } from "./picks.ts";
import { reduceRows, sum } from "./reduce.ts";
import { logSoftmax, refSoftmaxRow } from "./softmax.ts";
import { moveaxis } from "./view.ts";

const refSoftmax = (x: RefArray) => refRows(x).map((row) => refSoftmaxRow(row, 1));

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
  /** Axis of the classes, torch's being 1; default the last, which needs no copy. */
  readonly axis?: number;
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
    const weight = weights
      ? pickRows(materialize(weights).view([1, classes]), materialize(target).view([1, loss.size]))
        .view(loss.shape)
      : counts!;
    const total = sum(weights && counts ? mul(weight, counts) : weight);
    return mul(div(loss, total), loss.size);
  });
}

/** Moves the axis of the classes to the end; undefined where it is there. */
function classesLast(
  name: string,
  { shape }: Tensor,
  axis = -1,
): ((x: Tensor) => Tensor) | undefined {
  if (axis === -1) return undefined;
  const index = normalizeAxis(name, axis, shape.length);
  if (index === shape.length - 1) return undefined;
  return (x) => moveaxis(x, index, -1);
}

/**
 * Negative log-likelihood per row, `-x[target]`, of logarithms of probabilities (torch's
 * `nll_loss`); by default of every row.
 *
 * @param logProbabilities [..., K], as of `logSoftmax`, or classes along `axis`
 * @param target u32 or i32 [...], the shape without the classes, each below K or `ignoreIndex`
 * @returns [...], or one number
 * @throws {ShapeError} if target or weights do not fit.
 */
export function nllLoss(
  logProbabilities: Tensor,
  target: Tensor,
  options: NllLossOptions = {},
): Tensor {
  needTensors("nllLoss", { logProbabilities, target });
  needOptions("nllLoss", options, ["reduction", "weights", "ignoreIndex", "axis"]);
  const { axis, ...rest } = options;
  const last = classesLast("nllLoss", logProbabilities, axis);
  if (last) return composite(() => nllLoss(last(logProbabilities), target, rest));
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
 * @param logits [..., K], or classes along `axis`
 * @param target u32 or i32 [...], the shape without the classes, each below K or `ignoreIndex`; or
 * f32 of the shape of `logits`
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
  const names = ["weights", "ignoreIndex", "labelSmoothing", "axis"];
  needOptions("crossEntropy", options, ["reduction", ...names]);
  const { axis, ...rest } = options;
  const last = classesLast("crossEntropy", logits, axis);
  if (last) {
    const whole = sameShape(target.shape, logits.shape);
    return composite(() => crossEntropy(last(logits), whole ? last(target) : target, rest));
  }
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
