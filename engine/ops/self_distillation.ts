/**
 * Losses between a student and its teacher: cosines, and cross-entropy with a centred softmax.
 *
 * @module
 */
import { needNumber, needOptions, needTensors } from "../arguments.ts";
import source from "../../kernels/loss.wgsl" with { type: "text" };
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
import { defineOp } from "../op.ts";
import { refDot, refFrom, refNorm, refRows, refZeros } from "../reference.ts";
import { show, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { normalizeKernel } from "./l2_normalize.ts";
import { longCosine, longCosineGradients } from "./long_lengths.ts";
import { longSoftmax } from "./long_rows.ts";
import { column, type LossOptions, needRows, reduced, sameShapes } from "./loss.ts";
import { reduceRows } from "./reduce.ts";
import { refSoftmaxRow } from "./softmax.ts";

const lossKernel = /* @__PURE__ */ defineKernel("loss", source, {
  rounds: (launch) => rowRounds(launch, launch.constants.BACKWARD ? 1 : 3),
});

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
