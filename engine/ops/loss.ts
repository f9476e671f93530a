/**
 * Losses: per row or per element, for the caller to average, but for `mse`. Each carries its
 * reference in float64.
 *
 * @module
 */
import { needNumber, needOptions, needTensors } from "../arguments.ts";
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
import { sameShape, show, sizeOf } from "../shape.ts";
import { noGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { applyBinary, defineBinary, sub } from "./elementwise.ts";
import { oneHot, pickRows } from "./indexing.ts";
import { normalizeKernel } from "./l2_normalize.ts";
import { longCosine, longCosineGradients, longSoftmax } from "./long_rows.ts";
import { mean, reduceRows } from "./reduce.ts";
import { logSoftmax, refSoftmaxRow } from "./softmax.ts";
import { square } from "./unary.ts";

const lossKernel = defineKernel("loss", source, {
  rounds: (launch) => rowRounds(launch, launch.constants.BACKWARD ? 1 : 3),
});

function sameShapes(name: string, a: Tensor, b: Tensor): void {
  needTensors(name, { "operand 0": a, "operand 1": b });
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

/**
 * Mean squared error over all elements.
 *
 * @throws {ShapeError} if the shapes differ or hold no elements.
 */
export function mse(prediction: Tensor, target: Tensor): Tensor {
  sameShapes("mse", prediction, target);
  return mean(square(sub(prediction, target)));
}

const BCE_E = "exp_$V(-abs(a))";

const bceWithLogitsOp = defineBinary("bceWithLogits", {
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
 * with broadcasting and without overflow; take the mean of it for a loss.
 *
 * @param logits x, any real numbers
 * @param targets t, in 0..1
 */
export function bceWithLogits(logits: Tensor, targets: Tensor | number): Tensor {
  needTensors("bceWithLogits", { logits });
  return applyBinary(bceWithLogitsOp, logits, targets);
}

/** Softmax of each row of logits and its logarithm. */
const refSoftmax = (x: RefArray) => refRows(x).map((row) => refSoftmaxRow(row, 1));

/** `[..., 1]` seen from `[...]`. */
const column = (t: Tensor): Tensor => t.view([...t.shape, 1]);

const crossEntropyOp = defineOp<null>({
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

const crossEntropyOfDistributionsOp = defineOp<null>({
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

/**
 * Cross-entropy per row: `-log softmax(logits)[target]` for class indices, `-sum(target log
 * softmax(logits))` for distributions, to which a gradient flows as well. Take the mean of it for a
 * loss.
 *
 * @param logits [..., K]
 * @param target u32 [...], each below K; or f32 [..., K]
 * @returns [...]
 * @throws {ShapeError} if the target fits neither.
 */
export function crossEntropy(logits: Tensor, target: Tensor): Tensor {
  needTensors("crossEntropy", { logits, target });
  needRows("crossEntropy", logits);
  const rank = logits.shape.length;
  if (rank > 0 && isFloat(logits.dtype)) {
    if (target.dtype === "u32" && sameShape(target.shape, logits.shape.slice(0, -1))) {
      return crossEntropyOp.apply([logits, target], null)[0];
    }
    if (target.dtype === "f32" && sameShape(target.shape, logits.shape)) {
      return crossEntropyOfDistributionsOp.apply([logits, target], null)[0];
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

const cosineLossOp = defineOp<{ readonly eps: number }>({
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
 * Losses and statistics).
 *
 * @returns the shape of the operands without the last axis
 * @throws {ShapeError} if the shapes differ.
 */
export function cosineLoss(prediction: Tensor, target: Tensor): Tensor {
  sameShapes("cosineLoss", prediction, target);
  needRows("cosineLoss", prediction);
  return cosineLossOp.apply([prediction, target], { eps: 1e-12 })[0];
}

interface CentredCrossEntropyAttrs {
  readonly studentTemperature: number;
}

const centredCrossEntropyOp = defineOp<CentredCrossEntropyAttrs>({
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
