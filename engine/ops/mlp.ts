/**
 * Linear layers with GELU between them as one op: the derivative of GELU is a factor of the product
 * before it, and no gradient of what GELU made is ever stored.
 *
 * @module
 */
import { kindOf, needOptions, needTensors } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refFrom } from "../reference.ts";
import type { Tensor } from "../tensor.ts";
import {
  linearBackward,
  linearForward,
  type LinearOptions,
  refGelu,
  refLinear,
  refLinearBackward,
} from "./matmul.ts";

/** Inputs: what goes in, weight (and bias) of each layer, the residual. */
export interface MlpAttributes {
  /** How many layers there are. */
  readonly layers: number;
  /** Whether each has a bias. */
  readonly bias: boolean;
  /** Whether a residual is the last input. */
  readonly residual: boolean;
}

/** Weight, bias and residual of each layer among the inputs of the op. */
export function layersOf<T>(
  inputs: readonly T[],
  { layers, bias, residual }: MlpAttributes,
): { weight: T; bias?: T; residual?: T }[] {
  return Array.from({ length: layers }, (_, i) => {
    const at = 1 + i * (bias ? 2 : 1);
    return {
      weight: inputs[at],
      ...(bias && { bias: inputs[at + 1] }),
      ...(residual && i === layers - 1 && { residual: inputs[inputs.length - 1] }),
    };
  });
}

/** Results of the layers before GELU, and inputs of the layers. */
function refLayers(
  inputs: readonly RefArray[],
  attrs: MlpAttributes,
): { before: RefArray[]; into: RefArray[] } {
  const into = [inputs[0]];
  const before = layersOf(inputs, attrs).map(({ weight, bias, residual }, i) => {
    const rest = [bias, residual].filter((it) => it !== undefined);
    const added = { bias: attrs.bias, residual: residual !== undefined };
    const z = refLinear([into[i], weight, ...rest], added);
    into.push(refFrom(z.shape, (k) => refGelu.value(z.data[k])));
    return z;
  });
  return { before, into };
}

const mlpOp = /* @__PURE__ */ defineOp<MlpAttributes>({
  name: "mlp",
  half: true,
  forward(inputs, attrs, save) {
    const layers = layersOf(inputs, attrs);
    let y = inputs[0];
    const made: Tensor[] = [];
    layers.forEach((layer, i) => {
      const done = linearForward({ name: "mlp", x: y, ...layer, gelu: i < layers.length - 1 });
      if (done.slope) made.push(done.slope, done.y);
      y = done.y;
    });
    // Biases are for gradients of gradients alone.
    inputs.slice(0, attrs.residual ? -1 : undefined).forEach(save);
    made.forEach(save);
    return [y];
  },
  backward({ grads: [dy], saved, needs, into, arrived }, attrs) {
    const { layers, bias, residual } = attrs;
    const each = bias ? 2 : 1;
    const made = saved.slice(1 + layers * each);
    const result: (Tensor | undefined)[] = Array.from({ length: needs.length });
    let dz = dy!;
    for (let i = layers - 1; i >= 0; i--) {
      const at = 1 + i * each;
      const isFirst = i === 0;
      const weight = saved[at];
      const [dx, dweight, dbias] = linearBackward({
        ...{ x: isFirst ? saved[0] : made[2 * i - 1], weight, dz },
        needs: [needs.slice(0, at).some((it) => it), needs[at], bias && needs[at + 1]],
        into: [into(at), bias ? into(at + 1) : undefined],
        arrived: isFirst && weight.shape[0] > 0 ? arrived(0) : undefined,
        factor: isFirst ? undefined : made[2 * i - 2],
      });
      result[at] = dweight;
      if (bias) result[at + 1] = dbias;
      if (isFirst) result[0] = dx;
      if (dz !== dy) dz.dispose();
      if (!dx) break;
      dz = dx;
    }
    if (residual) result[needs.length - 1] = dy;
    return result;
  },
  reference: {
    forward: (inputs, attrs) => [refLayers(inputs, attrs).before[attrs.layers - 1]],
    backward(inputs, attrs, [dy]) {
      const { before, into } = refLayers(inputs, attrs);
      const layers = layersOf(inputs, attrs);
      const result: RefArray[] = attrs.residual ? [dy] : [];
      let dz = dy;
      for (let i = layers.length - 1; i >= 0; i--) {
        const [dx, dweight, dbias] = refLinearBackward(into[i], layers[i].weight, dz);
        result.unshift(dweight, ...(attrs.bias ? [dbias] : []));
        if (i === 0) result.unshift(dx);
        else {
          const z = before[i - 1];
          dz = refFrom(z.shape, (k) => dx.data[k] * refGelu.slope(z.data[k]));
        }
      }
      return result;
    },
  },
});

/** A layer of {@link mlp}. */
export interface MlpLayer {
  /** [out, in], torch's layout. */
  readonly weight: Tensor;
  /** [out] */
  readonly bias?: Tensor;
}

/**
 * Linear layers with the exact GELU between them: what `linear` makes of `linear(…, { gelu: true
 * })` and so on, with fewer passes over memory on the way back.
 *
 * @param x [..., in]
 * @param layers one or more, all with a bias or all without, each as wide as the next one takes
 * @param options a residual of the result's shape, added in the last kernel
 * @returns [..., out of the last layer]
 * @throws {ShapeError} if there is no layer, some have a bias and some have none, or sizes do not
 * fit.
 */
export function mlp(
  x: Tensor,
  layers: readonly MlpLayer[],
  options: Pick<LinearOptions, "residual"> = {},
): Tensor {
  needOptions("mlp", options, ["residual"]);
  const { residual } = options;
  if (!Array.isArray(layers) || layers.length === 0) {
    throw new ShapeError(`mlp: layers are ${kindOf(layers)}; a list of one or more is needed`);
  }
  layers.forEach((layer, i) =>
    needTensors("mlp", { x, [`weight ${i}`]: layer?.weight }, { [`bias ${i}`]: layer?.bias })
  );
  needTensors("mlp", {}, { residual });
  const biases = layers.filter(({ bias }) => bias).length;
  if (biases % layers.length !== 0) {
    throw new ShapeError(
      `mlp: ${biases} of ${layers.length} layers have a bias; all or none must have one`,
    );
  }
  const parameters = layers.flatMap(({ weight, bias }) => bias ? [weight, bias] : [weight]);
  return mlpOp.apply([x, ...parameters, ...(residual ? [residual] : [])], {
    layers: layers.length,
    bias: biases > 0,
    residual: residual !== undefined,
  })[0];
}
