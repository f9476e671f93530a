/**
 * Softmax and log-softmax with a temperature.
 *
 * @module
 */
import { needNumber, needOptions, needTensors } from "../arguments.ts";
import source from "../../kernels/softmax.wgsl" with { type: "text" };
import { ShapeError } from "../errors.ts";
import { defineKernel } from "../kernel.ts";
import { defineOp, type Op, type RefArray } from "../op.ts";
import { refZeros } from "../reference.ts";
import { show } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { hasLongRows, rowRounds, rowsAndWidth, runRows, writable } from "../launch/rows.ts";
import { longSoftmax, longSoftmaxGradient } from "./long_rows.ts";

const kernel = /* @__PURE__ */ defineKernel("softmax", source, {
  rounds: (launch) => rowRounds(launch, launch.constants.BACKWARD && !launch.constants.LOG ? 4 : 3),
});

interface SoftmaxAttrs {
  /** Used when there is no second input. */
  readonly temperature: number;
}

/** Softmax of one row of `x / temperature` in float64, with its logarithm. */
export function refSoftmaxRow(
  row: Float64Array,
  temperature: number,
): { probability: Float64Array; log: Float64Array } {
  const most = row.reduce((a, b) => Math.max(a, b), -Infinity);
  const shifted = row.map((value) => (value - most) / temperature);
  const total = shifted.reduce((sum, value) => sum + Math.exp(value), 0);
  const log = shifted.map((value) => value - Math.log(total));
  return { probability: log.map(Math.exp), log };
}

function defineSoftmax(name: "softmax" | "logSoftmax"): Op<SoftmaxAttrs> {
  const log = name === "logSoftmax";
  const temperatureOf = (inputs: readonly RefArray[], attrs: SoftmaxAttrs) =>
    inputs[1]?.data[0] ?? attrs.temperature;
  const refRows = (inputs: readonly RefArray[], attrs: SoftmaxAttrs) => {
    const { rows, width } = rowsAndWidth(inputs[0].shape);
    return Array.from({ length: rows }, (_, r) => ({
      at: r * width,
      ...refSoftmaxRow(
        inputs[0].data.subarray(r * width, (r + 1) * width),
        temperatureOf(inputs, attrs),
      ),
    }));
  };
  return defineOp<SoftmaxAttrs>({
    name,
    half: true,
    forward([x, tensor], { temperature }, save) {
      const { rows, width } = rowsAndWidth(x.shape);
      const y = x.device.empty(x.shape, x.dtype);
      save(y);
      if (tensor) save(tensor);
      if (hasLongRows(x)) {
        longSoftmax(y, x, tensor ?? temperature, log);
        return [y];
      }
      const operands = [{ tensor: x, perRow: width }, { tensor: y, perRow: width }];
      if (tensor) operands.push({ tensor, perRow: 0 });
      const constants = {
        BACKWARD: false,
        LOG: log,
        TENSOR: tensor !== undefined,
        ET: tensor?.dtype ?? "f32",
      };
      runRows(kernel, rows, width, operands, constants, { temperature });
      return [y];
    },
    backward({ grads: [dy], saved: [y, tensor], needs, into }, { temperature }) {
      if (!needs[0]) return [undefined];
      const { rows, width } = rowsAndWidth(y.shape);
      const dx = writable(into(0), y);
      if (hasLongRows(y)) {
        longSoftmaxGradient(dx, y, dy!, tensor ?? temperature, log);
        return [dx];
      }
      const operands = [y, dy!, dx].map((tensor) => ({ tensor, perRow: width }));
      if (tensor) operands.push({ tensor, perRow: 0 });
      const constants = {
        BACKWARD: true,
        LOG: log,
        TENSOR: tensor !== undefined,
        ET: tensor?.dtype ?? "f32",
      };
      runRows(kernel, rows, width, operands, constants, { temperature });
      return [dx];
    },
    reference: {
      forward(inputs, attrs) {
        const y = refZeros(inputs[0].shape);
        for (const row of refRows(inputs, attrs)) {
          y.data.set(log ? row.log : row.probability, row.at);
        }
        return [y];
      },
      backward(inputs, attrs, [dy]) {
        const dx = refZeros(inputs[0].shape);
        const temperature = temperatureOf(inputs, attrs);
        for (const { at, probability } of refRows(inputs, attrs)) {
          const g = dy.data.subarray(at, at + probability.length);
          const total = g.reduce(
            (sum, value, k) => sum + (log ? value : value * probability[k]),
            0,
          );
          probability.forEach((p, k) =>
            dx.data[at + k] = (log ? g[k] - p * total : p * (g[k] - total)) / temperature
          );
        }
        return [dx];
      },
    },
  });
}

const softmaxOp = /* @__PURE__ */ defineSoftmax("softmax");
const logSoftmaxOp = /* @__PURE__ */ defineSoftmax("logSoftmax");

/** What the logits are divided by. */
export interface SoftmaxOptions {
  /**
   * A number, or a tensor `[1]` that may change from step to step; no gradient flows to it. Default
   * 1.
   */
  readonly temperature?: number | Tensor;
}

function applySoftmax(op: Op<SoftmaxAttrs>, x: Tensor, options: SoftmaxOptions): Tensor {
  needTensors(op.name, { x });
  needOptions(op.name, options, ["temperature"]);
  const { temperature = 1 } = options;
  if (!(temperature instanceof Tensor)) {
    needNumber(op.name, "the temperature", temperature);
    return op.apply([x], { temperature })[0];
  }
  if (temperature.size !== 1) {
    throw new ShapeError(
      `${op.name}: the temperature is ${show(temperature.shape)}, it must hold one value`,
    );
  }
  return op.apply([x, temperature], { temperature: 1 })[0];
}

/**
 * `exp(x / temperature)` normalised to sum 1 over the last axis.
 *
 * @throws {ShapeError} if a temperature tensor does not hold exactly one value.
 */
export function softmax(x: Tensor, options: SoftmaxOptions = {}): Tensor {
  return applySoftmax(softmaxOp, x, options);
}

/**
 * Logarithm of {@link softmax}, without forming it.
 *
 * @throws {ShapeError} if a temperature tensor does not hold exactly one value.
 */
export function logSoftmax(x: Tensor, options: SoftmaxOptions = {}): Tensor {
  return applySoftmax(logSoftmaxOp, x, options);
}
