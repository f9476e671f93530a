/**
 * Activations with parameters or axes; those without are rows of `unary_table.ts`.
 *
 * @module
 */
import { needNumber, needTensors, needTogether } from "../arguments.ts";
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { elementwise } from "../launch/elementwise.ts";
import { defineOp, type Op } from "../op.ts";
import { refFrom } from "../reference.ts";
import { composite } from "../scope.ts";
import { normalizeAxis, sameShape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { less, where } from "./compare.ts";
import { mul } from "./elementwise.ts";
import { sigmoid } from "./unary.ts";
import { reshape, slice } from "./view.ts";

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

/**
 * `x` above 0, `slope x` below, with slopes that are learnt (He et al., arXiv:1502.01852).
 *
 * @param slope one, [], [1], or one for each channel [channels] of `x` [batch, channels, ...]
 * @throws {ShapeError} if `x` is of integers, or slopes are not as many as channels.
 */
export function prelu(x: Tensor, slope: Tensor): Tensor {
  needTogether("prelu", { x, slope });
  const [, channels] = x.shape;
  if (!isFloat(x.dtype) || slope.size !== 1 && !sameShape(slope.shape, [channels])) {
    throw new ShapeError(
      `prelu: x ${show(x.shape)} of ${x.dtype} beside slopes ${show(slope.shape)}: floats ` +
        "[batch, channels, ...] and one slope, or [channels], are needed",
    );
  }
  const each = slope.size === 1 ? [] : [channels, ...x.shape.slice(2).map(() => 1)];
  return composite(() => where(less(x, 0), mul(x, reshape(slope, each)), x));
}

/**
 * Gated linear unit: the first half of an axis times the sigmoid of the second (Dauphin et al.,
 * arXiv:1612.08083).
 *
 * @param x [..., 2 n, ...]
 * @returns [..., n, ...]
 * @throws {ShapeError} if the axis does not exist or is odd, or `x` is of integers.
 */
export function glu(x: Tensor, axis = -1): Tensor {
  needTensors("glu", { x });
  const index = normalizeAxis("glu", axis, x.shape.length);
  const half = x.shape[index] / 2;
  if (!isFloat(x.dtype) || !Number.isInteger(half)) {
    throw new ShapeError(
      `glu: x ${show(x.shape)} of ${x.dtype}: floats with an even axis ${axis} are needed`,
    );
  }
  return composite(() => mul(slice(x, index, 0, half), sigmoid(slice(x, index, half, half))));
}
