/**
 * L2 normalisation of rows.
 *
 * @module
 */
import { needNumber, needTensors } from "../arguments.ts";
import source from "../../kernels/normalize.wgsl" with { type: "text" };
import { defineKernel, type Kernel } from "../kernel.ts";
import { hasLongRows, rowRounds, rowsAndWidth, runRows, writable } from "../launch/rows.ts";
import { defineOp } from "../op.ts";
import { refDot, refFrom, refNorm, refRows, refZeros } from "../reference.ts";
import type { Tensor } from "../tensor.ts";
import { longNormalize, longNormalizeGradient } from "./long_lengths.ts";

/** Normalises rows, alone or within the cosine loss of loss.ts. */
export const normalizeKernel: Kernel = /* @__PURE__ */ defineKernel("normalize", source, {
  rounds: (launch) => rowRounds(launch, 2),
});

const l2NormalizeOp = /* @__PURE__ */ defineOp<{ readonly eps: number }>({
  name: "l2Normalize",
  forward([x], { eps }, save) {
    const { rows, width } = rowsAndWidth(x.shape);
    const y = x.device.empty(x.shape);
    const norms = x.device.empty([rows]);
    save(y);
    save(norms);
    if (hasLongRows(x)) {
      longNormalize(y, norms, x, eps);
      return [y];
    }
    const operands = [
      { tensor: x, perRow: width },
      { tensor: y, perRow: width },
      { tensor: norms, perRow: 1 },
    ];
    runRows(normalizeKernel, rows, width, operands, { MODE: 0 }, { eps });
    return [y];
  },
  backward({ grads: [dy], saved: [y, norms], into }, { eps }) {
    const { rows, width } = rowsAndWidth(y.shape);
    const dx = writable(into(0), y);
    if (hasLongRows(y)) {
      longNormalizeGradient(dx, y, norms, dy!, eps);
      return [dx];
    }
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
      const norms = refRows(x).map((row) => Math.max(refNorm(row), eps));
      return [refFrom(x.shape, (i) => x.data[i] / norms[Math.floor(i / width)])];
    },
    backward([x], { eps }, [dy]) {
      const dx = refZeros(x.shape);
      const [rows, grads, into] = [x, dy, dx].map(refRows);
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

/**
 * Rows of length 1: `x / max(|x|, eps)` over the last axis, as torch's `nn.functional.normalize`.
 * Rows shorter than eps are divided by it, with that gradient.
 *
 * @param x [..., n]
 * @returns [..., n]
 */
export function l2Normalize(x: Tensor, eps = 1e-12): Tensor {
  needTensors("l2Normalize", { x });
  needNumber("l2Normalize", "eps", eps, 0);
  return l2NormalizeOp.apply([x], { eps })[0];
}
