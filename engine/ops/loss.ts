/**
 * Normalisation of rows and losses.
 *
 * @module
 */
import lossSource from "../../kernels/loss.wgsl" with { type: "text" };
import normalizeSource from "../../kernels/normalize.wgsl" with { type: "text" };
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refFrom, refZeros } from "../reference.ts";
import { sameShape, show, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { square, sub } from "./elementwise.ts";
import { mean } from "./reduce.ts";
import { repeats, rowsAndWidth, runRows, writable } from "../launch/rows.ts";
import { refSoftmaxRow } from "./softmax.ts";

const normalizeKernel = defineKernel("normalize", normalizeSource);
const lossKernel = defineKernel("loss", lossSource);

interface EpsAttrs {
  readonly eps: number;
}

/** Rows of a reference array. */
function refRowsOf(x: RefArray): Float64Array[] {
  const { rows, width } = rowsAndWidth(x.shape);
  return Array.from({ length: rows }, (_, r) => x.data.subarray(r * width, (r + 1) * width));
}

const refDot = (a: Float64Array, b: Float64Array): number =>
  a.reduce((sum, value, k) => sum + value * b[k], 0);
const refNorm = (a: Float64Array): number => Math.sqrt(refDot(a, a));

const l2NormalizeOp = defineOp<EpsAttrs>({
  name: "l2Normalize",
  forward([x], { eps }, save) {
    const { rows, width } = rowsAndWidth(x.shape);
    const y = x.device.empty(x.shape);
    const norms = x.device.empty([rows]);
    const operands = [
      { tensor: x, perRow: width },
      { tensor: y, perRow: width },
      { tensor: norms, perRow: 1 },
    ];
    runRows(normalizeKernel, rows, width, operands, { MODE: 0 }, { eps });
    save(y);
    save(norms);
    return [y];
  },
  backward({ grads: [dy], saved: [y, norms], into }, { eps }) {
    const { rows, width } = rowsAndWidth(y.shape);
    const dx = writable(into(0), y);
    const operands = [
      { tensor: y, perRow: width },
      { tensor: dy!, perRow: width },
      { tensor: norms, perRow: 1 },
      { tensor: dx, perRow: width },
    ];
    runRows(normalizeKernel, rows, width, operands, { MODE: 1 }, { eps });
    return [dx];
  },
  reference: {
    forward([x], { eps }) {
      const { width } = rowsAndWidth(x.shape);
      const norms = refRowsOf(x).map((row) => Math.max(refNorm(row), eps));
      return [refFrom(x.shape, (i) => x.data[i] / norms[Math.floor(i / width)])];
    },
    backward([x], { eps }, [dy]) {
      const dx = refZeros(x.shape);
      const [rows, grads, into] = [x, dy, dx].map(refRowsOf);
      rows.forEach((row, r) => {
        const norm = refNorm(row);
        const radial = norm < eps ? 0 : refDot(row, grads[r]) / norm ** 2;
        row.forEach((value, k) =>
          into[r][k] = (grads[r][k] - value * radial) / Math.max(norm, eps)
        );
      });
      return [dx];
    },
  },
});

const cosineLossOp = defineOp<EpsAttrs>({
  name: "cosineLoss",
  forward([prediction, target], { eps }, save) {
    const { rows, width } = rowsAndWidth(prediction.shape);
    const loss = prediction.device.empty(prediction.shape.slice(0, -1));
    const stats = prediction.device.empty([rows, 4]);
    const operands = [
      { tensor: prediction, perRow: width },
      { tensor: target, perRow: width },
      { tensor: loss, perRow: 1 },
      { tensor: stats, perRow: 4 },
    ];
    runRows(normalizeKernel, rows, width, operands, { MODE: 2 }, { eps });
    save(prediction);
    save(target);
    save(stats);
    return [loss];
  },
  backward({ grads: [dloss], saved: [prediction, target, stats], needs, into }, { eps }) {
    const { rows, width } = rowsAndWidth(prediction.shape);
    const results = [prediction, target].map((input, i) =>
      needs[i] ? writable(into(i), input) : undefined
    );
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
      const [a, b] = [prediction, target].map(refRowsOf);
      return [refFrom(
        prediction.shape.slice(0, -1),
        (r) =>
          2 - 2 * refDot(a[r], b[r]) / Math.max(refNorm(a[r]), eps) / Math.max(refNorm(b[r]), eps),
      )];
    },
    backward([prediction, target], { eps }, [dloss]) {
      return [[prediction, target], [target, prediction]].map(([self, other]) => {
        const result = refZeros(self.shape);
        const [a, b, into] = [self, other, result].map(refRowsOf);
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

interface CrossEntropyAttrs {
  readonly studentTemperature: number;
}

const crossEntropyOp = defineOp<CrossEntropyAttrs>({
  name: "centredCrossEntropy",
  auxiliary: [1],
  forward([student, teacher, centre, teacherTemperature], { studentTemperature }, save) {
    const { rows, width } = rowsAndWidth(student.shape);
    const loss = student.device.empty(student.shape.slice(0, -1));
    const probabilities = student.device.empty(student.shape);
    const stats = student.device.empty([rows, 2]);
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
    save(student);
    save(probabilities);
    save(stats);
    return [loss, probabilities];
  },
  backward(
    { grads: [dloss], saved: [student, probabilities, stats], needs, into },
    { studentTemperature },
  ) {
    if (!needs[0]) return [];
    const { rows, width } = rowsAndWidth(student.shape);
    const dstudent = writable(into(0), student);
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
      const [s, t, p] = [student, teacher, probabilities].map(refRowsOf);
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
      const [s, t, into] = [student, teacher, result].map(refRowsOf);
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

/**
 * Rows of length 1: `x / max(|x|, eps)` over the last axis. Rows shorter than eps are divided by
 * it, with that gradient.
 */
export function l2Normalize(x: Tensor, eps = 1e-12): Tensor {
  return l2NormalizeOp.apply([x], { eps })[0];
}

function sameShapes(name: string, a: Tensor, b: Tensor): void {
  if (!sameShape(a.shape, b.shape)) {
    throw new ShapeError(
      `${name}: the operands are ${show(a.shape)} and ${show(b.shape)}; they must agree`,
    );
  }
}

/**
 * `2 - 2 cos(prediction, target)` over the last axis, each side normalised with eps 1e-12 (SPEC
 * section 3).
 *
 * @returns the shape of the operands without the last axis
 * @throws {ShapeError} if the shapes differ.
 */
export function cosineLoss(prediction: Tensor, target: Tensor): Tensor {
  sameShapes("cosineLoss", prediction, target);
  return cosineLossOp.apply([prediction, target], { eps: 1e-12 })[0];
}

/** Temperatures of {@link centredCrossEntropy}. */
export interface CrossEntropyOptions {
  /** What student logits are divided by. */
  readonly studentTemperature: number;
  /**
   * What centred teacher logits are divided by: a tensor `[1]`, so that it can change from step to
   * step.
   */
  readonly teacherTemperature: Tensor;
}

/**
 * Cross entropy of a student against a centred, sharpened teacher (SPEC section 3): `p =
 * softmax((teacher - centre) / Tt)`, `loss = -sum p log softmax(student / Ts)`. Only the student
 * gets a gradient.
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
  { studentTemperature, teacherTemperature }: CrossEntropyOptions,
): { loss: Tensor; probabilities: Tensor } {
  sameShapes("centredCrossEntropy", studentLogits, teacherLogits);
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
  const [loss, probabilities] = crossEntropyOp.apply(inputs, { studentTemperature });
  return { loss, probabilities };
}

/**
 * Mean squared error over all elements.
 *
 * @throws {ShapeError} if the shapes differ.
 */
export function mse(prediction: Tensor, target: Tensor): Tensor {
  sameShapes("mse", prediction, target);
  return mean(square(sub(prediction, target)));
}
