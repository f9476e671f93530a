/**
 * Root-mean-square normalisation (Zhang and Sennrich, 2019).
 *
 * @module
 */
import { needNumber, needTensors } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refFrom, refZeros } from "../reference.ts";
import { show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { normBackward, normForward } from "./layernorm.ts";
import { rowsAndWidth, writable } from "../launch/rows.ts";

interface RmsAttrs {
  readonly eps: number;
}

function refScales(x: RefArray, eps: number): Float64Array {
  const { rows, width } = rowsAndWidth(x.shape);
  return Float64Array.from({ length: rows }, (_, r) => {
    const row = x.data.subarray(r * width, (r + 1) * width);
    return 1 / Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / width + eps);
  });
}

const rmsNormOp = /* @__PURE__ */ defineOp<RmsAttrs>({
  name: "rmsNorm",
  half: true,
  forward([x, gamma], { eps }, save) {
    const { y, stats } = normForward({ x, gamma, eps });
    save(x);
    save(gamma);
    save(stats);
    return [y];
  },
  backward({ grads: [dy], saved: [x, gamma, stats], needs, into, arrived }) {
    const dx = needs[0] ? writable(into(0), x) : undefined;
    const parameters = needs[1] ? [into(1) ?? gamma.device.empty(gamma.shape, gamma.dtype)] : [];
    const dtotal = arrived(0);
    normBackward({ x, gamma, stats, dy: dy!, dtotal, dx, parameters, centre: false });
    return [dx, ...parameters];
  },
  reference: {
    forward([x, gamma], { eps }) {
      const { width } = rowsAndWidth(x.shape);
      const scales = refScales(x, eps);
      return [
        refFrom(x.shape, (i) => x.data[i] * scales[Math.floor(i / width)] * gamma.data[i % width]),
      ];
    },
    backward([x, gamma], { eps }, [dy]) {
      const { rows, width } = rowsAndWidth(x.shape);
      const scales = refScales(x, eps);
      const [dx, dgamma] = [refZeros(x.shape), refZeros(gamma.shape)];
      for (let r = 0; r < rows; r++) {
        let along = 0;
        for (let k = 0; k < width; k++) {
          const i = r * width + k;
          along += dy.data[i] * gamma.data[k] * x.data[i] * scales[r] / width;
          dgamma.data[k] += dy.data[i] * x.data[i] * scales[r];
        }
        for (let k = 0; k < width; k++) {
          const i = r * width + k;
          dx.data[i] = scales[r] * (dy.data[i] * gamma.data[k] - x.data[i] * scales[r] * along);
        }
      }
      return [dx, dgamma];
    },
  },
});

/**
 * `x / sqrt(mean(x^2) + eps) * gamma` over the last axis.
 *
 * @param x `[..., D]`
 * @param gamma `[D]`
 * @throws {ShapeError} if gamma is not of shape `[D]`.
 */
export function rmsNorm(x: Tensor, gamma: Tensor, eps = 1e-6): Tensor {
  needTensors("rmsNorm", { x, gamma });
  needNumber("rmsNorm", "eps", eps, 0);
  const width = x.shape[x.shape.length - 1];
  if (gamma.shape.length !== 1 || gamma.shape[0] !== width) {
    throw new ShapeError(
      `rmsNorm: gamma is ${show(gamma.shape)}, x is ${show(x.shape)}; gamma must be [${width}]`,
    );
  }
  return rmsNormOp.apply([x, gamma], { eps })[0];
}
