/**
 * Scaled dot-product attention that never holds a score matrix: the forward kernel keeps one
 * log-sum-exp per query, the backward kernels recompute the probabilities (Dao et al.,
 * FlashAttention, arXiv:2205.14135). Memory grows with the number of tokens, not its square, and
 * every sum has a fixed order.
 *
 * @module
 */
import { needNumber, needOptions, needTensors, needWhole } from "../arguments.ts";
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineOp, type RefArray } from "../op.ts";
import { refFrom, refZeros } from "../reference.ts";
import { sameShape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import {
  heads4,
  headsOf,
  type Operand,
  perRow,
  perToken,
  type Problem,
  runBackward,
  runForward,
} from "../launch/attention.ts";
import { fill, materialize } from "../launch/copy.ts";

const LARGEST_HEAD = 128;

/** Kernels read along the last axis, so it must not be strided. */
function readable(tensor: Tensor): Tensor {
  const last = tensor.shape.length - 1;
  return tensor.shape[last] === 1 || tensor.strides[last] === 1 ? tensor : materialize(tensor);
}

function problemOf(
  op: string,
  q: readonly number[],
  k: readonly number[],
  v: readonly number[],
  scale: number,
  causal: boolean,
): Problem {
  const [batch, heads, tq, d] = q;
  const tk = k[2];
  if (q.length !== 4 || !sameShape(k, [batch, heads, tk, d]) || !sameShape(k, v)) {
    throw new ShapeError(
      `${op}: q ${show(q)}, k ${show(k)} and v ${
        show(v)
      }: q [B, H, Tq, d] and k, v [B, H, Tk, d] are needed`,
    );
  }
  if (d < 1 || d > LARGEST_HEAD) {
    throw new ShapeError(`${op}: head size ${d}: 1 to ${LARGEST_HEAD} are supported`);
  }
  needNumber(op, "the scale", scale);
  return { batch, heads, tq, tk, d, scale, causal };
}

/** @throws {ShapeError} if operands differ in dtype or the key mask does not fit them. */
function checkOperands(
  op: string,
  operands: readonly Tensor[],
  { batch, tk }: Problem,
  mask: Tensor | undefined,
): void {
  const [{ shape, dtype }] = operands;
  const list = (tensors: readonly Tensor[]) =>
    tensors.map((x) => `${show(x.shape)} of ${x.dtype}`).join(", ");
  if (!isFloat(dtype) || operands.some((x) => x.dtype !== dtype)) {
    throw new ShapeError(`${op}: operands ${list(operands)}: f32 or f16 is needed throughout`);
  }
  if (!mask) return;
  if (!sameShape(mask.shape, [batch, tk]) || mask.dtype !== "u32" && mask.dtype !== "f32") {
    throw new ShapeError(
      `${op}: the key mask is ${list([mask])} beside ${show(shape)}: ${
        show([batch, tk])
      } of u32 or f32 is needed`,
    );
  }
}

const maskOperand = (mask: Tensor | undefined): { mask?: Operand } =>
  mask ? { mask: perToken(mask) } : {};

interface AttentionAttributes {
  readonly scale: number;
  readonly causal: boolean;
}

/** Probabilities of every head, [B, H, Tq, Tk]; zeros where a query sees no key. */
function refProbabilities(
  [q, k, , mask]: readonly RefArray[],
  { scale, causal }: AttentionAttributes,
): Float64Array {
  const [batch, heads, tq, d] = q.shape;
  const tk = k.shape[2];
  const p = new Float64Array(batch * heads * tq * tk);
  for (let row = 0; row < batch * heads * tq; row++) {
    const head = Math.floor(row / tq);
    const keys = causal ? Math.min(tk, row % tq + 1) : tk;
    const logits = p.subarray(row * tk, row * tk + keys);
    for (let j = 0; j < keys; j++) {
      for (let c = 0; c < d; c++) {
        logits[j] += scale * q.data[row * d + c] * k.data[(head * tk + j) * d + c];
      }
      if (mask && mask.data[Math.floor(head / heads) * tk + j] === 0) logits[j] = -Infinity;
    }
    const top = logits.reduce((a, b) => Math.max(a, b), -Infinity);
    if (top === -Infinity) {
      logits.fill(0);
      continue;
    }
    const sum = logits.reduce((a, b) => a + Math.exp(b - top), 0);
    for (let j = 0; j < keys; j++) logits[j] = Math.exp(logits[j] - top) / sum;
  }
  return p;
}

function refForward(inputs: readonly RefArray[], attrs: AttentionAttributes): RefArray {
  const [q, k, v] = inputs;
  const [batch, heads, tq, d] = q.shape;
  const tk = k.shape[2];
  const p = refProbabilities(inputs, attrs);
  const o = refZeros(q.shape);
  for (let row = 0; row < batch * heads * tq; row++) {
    const head = Math.floor(row / tq);
    for (let j = 0; j < tk; j++) {
      for (let c = 0; c < d; c++) {
        o.data[row * d + c] += p[row * tk + j] * v.data[(head * tk + j) * d + c];
      }
    }
  }
  return o;
}

function refBackward(
  inputs: readonly RefArray[],
  attrs: AttentionAttributes,
  dout: RefArray,
): [RefArray, RefArray, RefArray] {
  const [q, k, v] = inputs;
  const [batch, heads, tq, d] = q.shape;
  const tk = k.shape[2];
  const p = refProbabilities(inputs, attrs);
  const [dq, dk, dv] = [refZeros(q.shape), refZeros(k.shape), refZeros(v.shape)];
  for (let row = 0; row < batch * heads * tq; row++) {
    const head = Math.floor(row / tq);
    const dp = new Float64Array(tk);
    let delta = 0;
    for (let j = 0; j < tk; j++) {
      const at = (head * tk + j) * d;
      for (let c = 0; c < d; c++) {
        dp[j] += dout.data[row * d + c] * v.data[at + c];
        dv.data[at + c] += p[row * tk + j] * dout.data[row * d + c];
      }
      delta += p[row * tk + j] * dp[j];
    }
    for (let j = 0; j < tk; j++) {
      const at = (head * tk + j) * d;
      const ds = attrs.scale * p[row * tk + j] * (dp[j] - delta);
      for (let c = 0; c < d; c++) {
        dq.data[row * d + c] += ds * k.data[at + c];
        dk.data[at + c] += ds * q.data[row * d + c];
      }
    }
  }
  return [dq, dk, dv];
}

const attentionOp = defineOp<AttentionAttributes>({
  name: "attention",
  strided: true,
  dtypes: "any",
  half: true,
  forward(inputs, { scale, causal }, save) {
    const [q, k, v] = inputs.slice(0, 3).map(readable);
    const problem = problemOf("attention", q.shape, k.shape, v.shape, scale, causal);
    checkOperands("attention", [q, k, v], problem, inputs[3]);
    const mask = inputs[3] && materialize(inputs[3]);
    const o = q.device.empty(q.shape, q.dtype);
    const lse = q.device.empty(q.shape.slice(0, 3));
    if (k.size === 0) fill(o, 0);
    else if (q.size > 0) {
      const [walkQ, walkK, walkV, walkO] = [q, k, v, o].map(heads4);
      runForward(problem, {
        q: walkQ,
        k: walkK,
        v: walkV,
        ...maskOperand(mask),
        o: walkO,
        lse: perRow(lse),
      });
    }
    [q, k, v, o, lse, ...mask ? [mask] : []].forEach(save);
    return [o];
  },
  backward({ grads: [dy], saved: [q, k, v, o, lse, mask], needs }, { scale, causal }) {
    const problem = problemOf("attention", q.shape, k.shape, v.shape, scale, causal);
    const [dq, dk, dv] = [q, k, v].map((input) => input.device.empty(input.shape, input.dtype));
    const keys = needs[1] || needs[2] ? { dk: heads4(dk), dv: heads4(dv) } : {};
    if (q.size === 0 || k.size === 0) [dq, dk, dv].forEach((gradient) => fill(gradient, 0));
    else {
      runBackward(problem, {
        q: heads4(q),
        k: heads4(k),
        v: heads4(v),
        ...maskOperand(mask),
        o: heads4(o),
        lse: perRow(lse),
        dout: heads4(readable(dy!)),
        dq: heads4(dq),
        ...keys,
      });
    }
    const gradients = [dq, dk, dv].map((gradient, i) => needs[i] ? gradient : undefined);
    return mask ? [...gradients, undefined] : gradients;
  },
  reference: {
    forward: (inputs, attrs) => [refForward(inputs, attrs)],
    backward: (inputs, attrs, [dy]) => refBackward(inputs, attrs, dy),
  },
});

/** Options of {@link attention}. */
export interface AttentionOptions {
  /** Factor of the scores; default d^-0.5. */
  readonly scale?: number;
  /**
   * [B, keys] of u32 or f32, the same for all heads of a batch: 1 where a key takes part, 0 where
   * it is ignored (the opposite of torch's `key_padding_mask`). An ignored key has probability 0
   * and gets zero gradients; its k and v must be finite. A query that sees no key gets a zero
   * result and a zero gradient. The mask itself gets no gradient.
   */
  readonly keyMask?: Tensor;
  /** Query i sees keys 0 to i only; default false. */
  readonly causal?: boolean;
}

/**
 * `softmax(scale q k^T) v` per batch and head (Vaswani et al., "Attention is all you need", section
 * 3.2.1). Strided views are read in place as long as the last axis is dense.
 *
 * @param q [B, H, Tq, d], d from 1 to 128
 * @param k [B, H, Tk, d]; without keys the result is zero
 * @param v [B, H, Tk, d]
 * @param options see {@link AttentionOptions}; a key counts if both the key mask and `causal` let
 * it
 * @returns [B, H, Tq, d], dense
 * @throws {ShapeError} if shapes or dtypes do not fit each other, d is above 128, or the key mask
 * is not [B, Tk] of u32 or
 *   f32.
 * @throws {LifetimeError} if operands live on different devices or were disposed.
 * @throws {RangeError} if eight tokens span more than the adapter's binding limit.
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  needOptions("attention", options, ["scale", "keyMask", "causal"]);
  needTensors("attention", { q, k, v }, { keyMask: options.keyMask });
  const { scale = q.shape[q.shape.length - 1] ** -0.5, causal = false, keyMask } = options;
  return attentionOp.apply([q, k, v, ...keyMask ? [keyMask] : []], { scale, causal })[0];
}

interface SelfAttentionAttributes {
  readonly heads: number;
  readonly scale: number;
}

/** [B, T, parts * H * d] to `parts` arrays [B, H, T, d]. */
function refSplit(
  { shape: [batch, tokens, all], data }: RefArray,
  heads: number,
  parts: number,
): RefArray[] {
  const d = all / parts / heads;
  return Array.from({ length: parts }, (_, part) =>
    refFrom([batch, heads, tokens, d], (i) => {
      const [c, t, h, b] = [
        i % d,
        Math.floor(i / d) % tokens,
        Math.floor(i / d / tokens) % heads,
        Math.floor(i / d / tokens / heads),
      ];
      return data[(b * tokens + t) * all + (part * heads + h) * d + c];
    }));
}

/** The inverse of {@link refSplit}. */
function refJoin(parts: readonly RefArray[]): RefArray {
  const [batch, heads, tokens, d] = parts[0].shape;
  const width = heads * d;
  return refFrom([batch, tokens, parts.length * width], (i) => {
    const [x, t, b] = [
      i % (parts.length * width),
      Math.floor(i / parts.length / width) % tokens,
      Math.floor(i / parts.length / width / tokens),
    ];
    const [part, h, c] = [Math.floor(x / width), Math.floor(x % width / d), x % d];
    return parts[part].data[((b * heads + h) * tokens + t) * d + c];
  });
}

const selfAttentionOp = defineOp<SelfAttentionAttributes>({
  name: "selfAttention",
  dtypes: "any",
  half: true,
  forward([qkv, mask], { heads, scale }, save) {
    const problem = fusedProblem(qkv.shape, heads, scale);
    checkOperands("selfAttention", [qkv], problem, mask);
    const { batch, tq, d } = problem;
    const o = qkv.device.empty([batch, tq, heads * d], qkv.dtype);
    const lse = qkv.device.empty([batch, heads, tq]);
    const [q, k, v] = [0, 1, 2].map((part) => headsOf(qkv, heads, part, 3));
    if (o.size > 0) {
      const masked = maskOperand(mask);
      runForward(problem, { q, k, v, ...masked, o: headsOf(o, heads), lse: perRow(lse) });
    }
    [qkv, o, lse, ...mask ? [mask] : []].forEach(save);
    return [o];
  },
  backward({ grads: [dy], saved: [qkv, o, lse, mask], into }, { heads, scale }) {
    const dqkv = into(0) ?? qkv.device.empty(qkv.shape, qkv.dtype);
    const [q, k, v] = [0, 1, 2].map((part) => headsOf(qkv, heads, part, 3));
    const [dq, dk, dv] = [0, 1, 2].map((part) => headsOf(dqkv, heads, part, 3));
    const [out, dout] = [headsOf(o, heads), headsOf(dy!, heads)];
    const problem = fusedProblem(qkv.shape, heads, scale);
    const rows = { ...maskOperand(mask), o: out, lse: perRow(lse), dout };
    if (o.size > 0) runBackward(problem, { q, k, v, ...rows, dq, dk, dv });
    return mask ? [dqkv, undefined] : [dqkv];
  },
  reference: {
    forward: ([qkv, ...mask], { heads, scale }) => [
      refJoin([refForward([...refSplit(qkv, heads, 3), ...mask], { scale, causal: false })]),
    ],
    backward: ([qkv, ...mask], { heads, scale }, [dy]) => {
      const parts = [...refSplit(qkv, heads, 3), ...mask];
      const [dout] = refSplit(dy, heads, 1);
      return [refJoin(refBackward(parts, { scale, causal: false }, dout))];
    },
  },
});

function fusedProblem(shape: readonly number[], heads: number, scale: number): Problem {
  const [batch, tokens, all] = shape;
  const d = all / 3 / heads;
  if (shape.length !== 3 || !Number.isInteger(d) || !(heads >= 1)) {
    throw new ShapeError(
      `selfAttention: ${show(shape)} with ${heads} heads: [B, T, 3 * heads * d] is needed`,
    );
  }
  const head = [batch, heads, tokens, d];
  return problemOf("selfAttention", head, head, head, scale, false);
}

/**
 * Attention of a sequence to itself, from one fused projection (timm's layout):
 * along the last axis q, k and v, each head by head. Nothing is rearranged in memory, and backward
 * writes one gradient of qkv.
 *
 * @param qkv [B, T, 3 * heads * d], d from 1 to 128
 * @param heads number of heads
 * @param options see {@link AttentionOptions}
 * @returns [B, T, heads * d], heads side by side
 * @throws {ShapeError} if the last axis does not divide into 3 * heads parts of at most 128, or the
 * key mask is not [B, T]
 *   of u32 or f32.
 * @throws {LifetimeError} if operands live on different devices or were disposed.
 * @throws {RangeError} if eight tokens span more than the adapter's binding limit.
 */
export function selfAttention(
  qkv: Tensor,
  heads: number,
  options: Omit<AttentionOptions, "causal"> = {},
): Tensor {
  needOptions("selfAttention", options, ["scale", "keyMask"]);
  needTensors("selfAttention", { qkv }, { keyMask: options.keyMask });
  needWhole("selfAttention", "the number of heads", heads, 1);
  const d = qkv.shape[qkv.shape.length - 1] / 3 / heads;
  const { scale = d ** -0.5, keyMask } = options;
  return selfAttentionOp.apply([qkv, ...keyMask ? [keyMask] : []], { heads, scale })[0];
}
