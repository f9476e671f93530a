/**
 * Ops whose kernels do the work of several: their gradients are those of the same made of ops.
 *
 * @module
 */
import { zerosLike } from "../creation.ts";
import type { Derivative } from "../op.ts";
import { split } from "../ops/assemble.ts";
import { type AttentionAttributes, besides } from "../ops/attention_reference.ts";
import { greater, notEqual, where } from "../ops/compare.ts";
import { tril } from "../ops/diagonal.ts";
import { add, div, maximum, mul, sub } from "../ops/elementwise.ts";
import { rfft } from "../ops/fft.ts";
import { gather } from "../ops/indexing.ts";
import { matmul } from "../ops/matmul.ts";
import { mean, sum } from "../ops/reduce.ts";
import { logSoftmax, softmax } from "../ops/softmax.ts";
import { frames } from "../ops/stft.ts";
import { neg, rsqrt, sigmoid, square, tanh } from "../ops/unary.ts";
import { expand, permute, reshape, transpose } from "../ops/view.ts";
import type { Shape } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import type { Rules } from "./rules.ts";

interface EpsAttrs {
  readonly eps: number;
}

const overLast = { axes: [-1], keepDims: true };
const column = (x: Tensor): Tensor => reshape(x, [...x.shape, 1]);

/** Rows over their root mean square. */
const scaled = (x: Tensor, eps: number): Tensor =>
  mul(x, rsqrt(add(mean(square(x), overLast), eps)));
const centred = (x: Tensor): Tensor => sub(x, mean(x, overLast));
/** Rows of length 1. */
const unit = (x: Tensor, eps: number): Tensor =>
  mul(x, rsqrt(maximum(sum(square(x), overLast), eps * eps)));

const layerNorm: Derivative<EpsAttrs> = {
  forward: ([x, gamma, beta], { eps }) => [add(mul(scaled(centred(x), eps), gamma), beta)],
};

const residualLayerNorm: Derivative<EpsAttrs> = {
  operands: ([total, gamma]) => [total, zerosLike(total), gamma, zerosLike(gamma)],
  forward([x, residual, gamma, beta], { eps }) {
    const total = add(x, residual);
    return [add(mul(scaled(centred(total), eps), gamma), beta), total];
  },
};

const rmsNorm: Derivative<EpsAttrs> = {
  forward: ([x, gamma], { eps }) => [mul(scaled(x, eps), gamma)],
};

const lstmCell: Derivative = {
  forward([gates, c]) {
    const [i, f, g, o] = split(gates, -1, 4);
    const cell = add(mul(sigmoid(f), c), mul(sigmoid(i), tanh(g)));
    return [mul(sigmoid(o), tanh(cell)), cell];
  },
};

const gruCell: Derivative = {
  forward([gates, inner, h]) {
    const [[r, z, n], [ofR, ofZ, ofN]] = [gates, inner].map((it) => split(it, -1, 3));
    const next = tanh(add(n, mul(sigmoid(add(r, ofR)), ofN)));
    return [add(next, mul(sigmoid(add(z, ofZ)), sub(h, next)))];
  },
};

/** What has fewer batches than the scores, repeated for them. */
function forBatches(x: Tensor, batch: number): Tensor {
  const [own, ...rest] = x.shape;
  if (own === batch || own === 1) return x;
  const many = expand(reshape(x, [1, own, ...rest]), [batch / own, own, ...rest]);
  return reshape(many, [batch, ...rest]);
}

/** Heads [B, H, T, d] of keys or values for each head of queries. */
function forQueries(x: Tensor, heads: number): Tensor {
  const [batch, own, tokens, d] = x.shape;
  if (own === heads) return x;
  const many = expand(reshape(x, [batch, own, 1, tokens, d]), [
    batch,
    own,
    heads / own,
    tokens,
    d,
  ]);
  return reshape(many, [batch, heads, tokens, d]);
}

function attend(
  [q, k, v, ...rest]: readonly Tensor[],
  attrs: AttentionAttributes,
): Tensor {
  const { scale, causal = false } = attrs;
  const [batch, heads, tq, tk] = [...q.shape.slice(0, 3), k.shape[2]];
  const { mask, bias: added, gate } = besides(rest, attrs);
  const bias = added && forBatches(added, batch);
  let scores = mul(matmul(q, transpose(forQueries(k, heads))), scale);
  if (bias) {
    const shown = gate ? where(greater(bias, -Infinity), bias, 0) : bias;
    scores = add(scores, gate ? mul(shown, reshape(gate, [...gate.shape, 1])) : shown);
  }
  // 1 where a query sees a key.
  const parts: Tensor[] = [];
  if (mask) {
    const pairs = mask.shape.length === 2
      ? reshape(mask, [batch, 1, 1, tk])
      : forBatches(mask, batch);
    parts.push(notEqual(pairs, 0));
  }
  if (causal) parts.push(tril(q.device.full([tq, tk], 1), causal === "end" ? tk - tq : 0));
  if (bias) parts.push(greater(bias, -Infinity));
  const values = forQueries(v, heads);
  if (parts.length === 0) return matmul(softmax(scores), values);
  const seen = parts.reduce((a, b) => mul(a, b));
  // Queries that see no key have no probabilities.
  return matmul(mul(softmax(where(seen, scores, -1e30)), seen), values);
}

interface SelfAttentionAttrs extends AttentionAttributes {
  readonly heads: number;
  readonly keyHeads?: number;
}

const selfAttention: Derivative<SelfAttentionAttrs> = {
  operands: ([qkv, , , ...rest]) => [qkv, ...rest],
  forward([qkv, ...rest], attrs) {
    const { heads, keyHeads = heads } = attrs;
    const [batch, tokens, all] = qkv.shape;
    const count = heads + 2 * keyHeads;
    const apart = permute(reshape(qkv, [batch, tokens, count, all / count]), [0, 2, 1, 3]);
    const o = attend([...split(apart, 1, [heads, keyHeads, keyHeads]), ...rest], attrs);
    return [reshape(permute(o, [0, 2, 1, 3]), [batch, tokens, -1])];
  },
};

/** Of distributions beside targets of indices, rows of logits at the target. */
const picked = (log: Tensor, target: Tensor): Tensor =>
  neg(reshape(gather(log, column(target)), target.shape));

const rowShape = (x: Tensor): Shape => [...x.shape.slice(0, -1), 1];

/** The rules. */
export const FUSED: Rules = {
  ...{ layerNorm, residualLayerNorm, rmsNorm, lstmCell, gruCell, selfAttention },
  l2Normalize: {
    operands: ([y, norms]) => [mul(y, reshape(norms, rowShape(y)))],
    forward: ([x], { eps }: EpsAttrs) => [unit(x, eps)],
  },
  attention: {
    operands: ([q, k, v, , , ...rest]) => [q, k, v, ...rest],
    forward: (operands, attrs: AttentionAttributes) => [attend(operands, attrs)],
  },
  cosineLoss: {
    forward: ([a, b], { eps }: EpsAttrs) => [
      sub(2, mul(sum(mul(unit(a, eps), unit(b, eps)), { axes: [-1] }), 2)),
    ],
  },
  stft: {
    forward([x, window], { size, hop }: { readonly size: number; readonly hop: number }) {
      const pieces = frames(x, size, hop);
      return [rfft(window ? mul(pieces, window) : pieces)];
    },
  },
  // Of its own result, a logarithm of softmax is that.
  crossEntropy: {
    operands: (saved) => saved,
    forward: ([logits, target]) => [picked(logSoftmax(logits), target)],
  },
  crossEntropyOfDistributions: {
    operands: (saved) => saved,
    forward: ([logits, target]) => [
      neg(sum(mul(logSoftmax(logits), target), { axes: [-1] })),
    ],
  },
  centredCrossEntropy: (
    { grads: [dy], inputs: [x], outputs: [, p] },
    { studentTemperature: t }: { readonly studentTemperature: number },
  ) => [() => mul(column(dy!), div(sub(softmax(x, { temperature: t }), p), t))],
};
