/**
 * Activations with a parameter; those without are rows of `unary_table.ts`.
 *
 * @module
 */
import { needNumber, needTensors } from "../arguments.ts";
import { elementwise } from "../launch/elementwise.ts";
import { defineOp, type Op } from "../op.ts";
import { refFrom } from "../reference.ts";
import type { Tensor } from "../tensor.ts";

/** What an activation is below 0; above it is `x` itself. */
interface Below {
  /** WGSL of f(a), `params.alpha` being the parameter. */
  readonly wgsl: string;
  /** WGSL of its derivative. */
  readonly slope: string;
  readonly f: (a: number, alpha: number) => number;
  readonly df: (a: number, alpha: number) => number;
}

function defineActivation(name: string, below: Below): Op<{ readonly alpha: number }> {
  return defineOp<{ readonly alpha: number }>({
    name,
    half: true,
    strided: true,
    forward([x], { alpha }, save) {
      const y = x.device.empty(x.shape, x.dtype);
      elementwise(y, [x], { expression: `select(${below.wgsl}, a, a > T(0.0))`, alpha });
      save(x);
      return [y];
    },
    backward({ grads: [dy], saved: [x] }, { alpha }) {
      const dx = x.device.empty(x.shape, x.dtype);
      elementwise(dx, [x, dy!], { expression: `select(b * ${below.slope}, b, a > T(0.0))`, alpha });
      return [dx];
    },
    reference: {
      forward: ([{ shape, data: x }], { alpha }) => [
        refFrom(shape, (i) => x[i] > 0 ? x[i] : below.f(x[i], alpha)),
      ],
      backward: ([{ shape, data: x }], { alpha }, [dy]) => [
        refFrom(shape, (i) => dy.data[i] * (x[i] > 0 ? 1 : below.df(x[i], alpha))),
      ],
    },
  });
}

const leakyReluOp = /* @__PURE__ */ defineActivation("leakyRelu", {
  wgsl: "params.alpha * a",
  slope: "T(params.alpha)",
  f: (a, alpha) => alpha * a,
  df: (_, alpha) => alpha,
});

const eluOp = /* @__PURE__ */ defineActivation("elu", {
  wgsl: "params.alpha * expm1_$V(a)",
  slope: "(params.alpha * exp_$V(a))",
  f: (a, alpha) => alpha * Math.expm1(a),
  df: (a, alpha) => alpha * Math.exp(a),
});

/**
 * `x` above 0, `slope * x` below (Maas et al., 2013).
 *
 * @throws {ShapeError} if `x` is of integers or the slope no finite number.
 */
export function leakyRelu(x: Tensor, slope = 0.01): Tensor {
  needTensors("leakyRelu", { x });
  needNumber("leakyRelu", "the slope", slope);
  return leakyReluOp.apply([x], { alpha: slope })[0];
}

/**
 * `x` above 0, `alpha (e^x - 1)` below (Clevert et al., arXiv:1511.07289).
 *
 * @throws {ShapeError} if `x` is of integers or alpha no finite number.
 */
export function elu(x: Tensor, alpha = 1): Tensor {
  needTensors("elu", { x });
  needNumber("elu", "alpha", alpha);
  return eluOp.apply([x], { alpha })[0];
}
