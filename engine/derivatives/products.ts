/**
 * Gradients of products, which are products again: of a form `<op(a, b), c>` by one of the three
 * they are what the op or its backward function makes of the two others.
 *
 * @module
 */
import { materialize } from "../launch/copy.ts";
import type { Derivative, DerivativeContext, Op } from "../op.ts";
import { linear } from "../ops/matmul.ts";
import { layersOf, type MlpAttributes } from "../ops/mlp.ts";
import { sum } from "../ops/reduce.ts";
import { gelu } from "../ops/unary.ts";
import { scope } from "../scope.ts";
import { edgeOf, isRecording, Node, noGrad, retain } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { attached } from "./attach.ts";
import type { Rules } from "./rules.ts";

/** a, b and c. */
type Three = readonly [Tensor, Tensor, Tensor];

const OTHERS = [[1, 2], [0, 2], [0, 1]] as const;

/** A form's gradient by its `by`th argument, which lends its shape alone. Records nothing. */
function valueOf(op: Op<unknown>, attrs: unknown, by: 0 | 1 | 2, [a, b, c]: Three): Tensor {
  if (by === 2) return op.apply([a, b], attrs)[0];
  const dense = (x: Tensor) => op.strided ? x : materialize(x);
  return op.backward!({
    grads: [dense(c)],
    saved: [a, b].map(dense),
    shapes: [a.shape, b.shape],
    dtypes: [a.dtype, b.dtype],
    needs: [by === 0, by === 1],
    into: () => undefined,
    arrived: () => undefined,
  }, attrs)[by]!;
}

/** The same on the tape. */
function partial(op: Op<unknown>, attrs: unknown, by: 0 | 1 | 2, three: Three): Tensor {
  const value = noGrad(() => scope(() => valueOf(op, attrs, by, three)));
  const operands = OTHERS[by].map((i) => three[i]);
  const edges = operands.map(edgeOf);
  if (!isRecording() || !edges.some((edge) => edge)) return value;
  const back = (u: Tensor, operands: readonly Tensor[], needs: readonly boolean[]) =>
    OTHERS[by].map((other, n) => {
      if (!needs[n]) return undefined;
      const all: Tensor[] = [];
      OTHERS[by].forEach((i, k) => all[i] = operands[k]);
      all[by] = u;
      return partial(op, attrs, other, all as unknown as Three);
    });
  value.node = new Node({
    name: op.name,
    run: ({ grads: [u], saved, needs }) => back(u!, saved, needs),
    strided: true,
    device: value.device,
    shapes: operands.map(({ shape }) => shape),
    dtypes: operands.map(({ dtype }) => dtype),
    edges,
    saved: operands.map(retain),
    outputs: 1,
    derivative: {
      graph: ({ saved, dtypes }, [u], needs) =>
        back(u!, saved.map((it, i) => attached(it, edges[i], dtypes[i])), needs),
    },
  });
  return value;
}

/** The rule for an op of two factors, which saves them, and a sum of its result for a bias. */
function product(
  context: DerivativeContext,
  attrs: unknown,
  rest: readonly ((() => Tensor) | undefined)[],
): readonly ((() => Tensor) | undefined)[] {
  const { inputs: [a, b], grads: [c] } = context;
  const op = context.op as Op<unknown>;
  const by = (i: 0 | 1) => () => partial(op, attrs, i, [a, b, c!]);
  return [by(0), by(1), ...rest];
}

/** A convolution, whose bias is one value per channel. */
const convolution: Derivative = (context, attrs) => {
  const [dy] = context.grads;
  const axes = [...dy!.shape.keys()].filter((axis) => axis !== 1);
  return product(context, attrs, [() => sum(dy!, { axes })]);
};

interface LinearAttrs {
  readonly gelu: boolean;
  readonly bias: boolean;
  readonly residual: boolean;
}

/** Of the product alone: bias and residual get sums of the gradient. */
const linearRule: Derivative<LinearAttrs> = (context, attrs) => {
  const plain = { gelu: false, bias: false, residual: false };
  const added = [attrs.bias, attrs.residual].flatMap((it) => it ? [() => context.grads[0]!] : []);
  return product(context, plain, added);
};

const withGelu: Derivative<LinearAttrs> = {
  forward: ([x, weight, bias]) => [gelu(linear(x, weight, bias))],
};

const mlp: Derivative<MlpAttributes> = {
  forward(operands, attrs) {
    const [x] = operands;
    const layers = layersOf(operands, attrs);
    return [layers.reduce((y, { weight, bias, residual }, i) => {
      const z = linear(y, weight, bias, { residual });
      return i < layers.length - 1 ? gelu(z) : z;
    }, x)];
  },
};

/** The rules for ops that are products. */
export const PRODUCTS: Rules = {
  matmul: (context, attrs) => product(context, attrs, []),
  linear: { choose: (attrs: LinearAttrs) => attrs.gelu ? withGelu : linearRule },
  mlp,
  conv2d: convolution,
  conv3d: convolution,
  convTranspose2d: convolution,
};
