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
import { refBroadcast, refFrom, refUnbroadcast, refZeros } from "../reference.ts";
import { composite } from "../scope.ts";
import { sameShape, type Shape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import {
  heads4,
  headsOf,
  keyGradients,
  type Operand,
  perPair,
  perRow,
  perToken,
  type Problem,
  runBackward,
  runForward,
  sharedHeads,
} from "../launch/attention.ts";
import { converted, fill, materialize } from "../launch/copy.ts";
import { elementwise } from "../launch/elementwise.ts";
import { notEqual } from "./compare.ts";
import { sumTo } from "./reduce.ts";
import { reshape } from "./view.ts";

const LARGEST_HEAD = 128;

interface AttentionAttributes {
  readonly scale: number;
  /** Whether query i sees keys 0 to i only; "end": to i + Tk - Tq. */
  readonly causal: boolean | "end";
  /** Whether the last input is a bias; one before it, beside q, k and v, is a mask. */
  readonly bias?: boolean;
}

/** Kernels read along the last axis, so it must not be strided. */
function readable(tensor: Tensor): Tensor {
  const last = tensor.shape.length - 1;
  return tensor.shape[last] === 1 || tensor.strides[last] === 1 ? tensor : materialize(tensor);
}

function problemOf(
  op: string,
  q: Shape,
  k: Shape,
  v: Shape,
  { scale, causal, bias = false }: AttentionAttributes,
  mask?: Tensor,
): Problem {
  const [batch, heads, tq, d] = q;
  const [, own, tk] = k;
  if (
    q.length !== 4 || !sameShape(k, [batch, own, tk, d]) || !sameShape(k, v) ||
    own !== heads && !(own >= 1 && heads % own === 0)
  ) {
    throw new ShapeError(
      `${op}: q ${show(q)}, k ${show(k)} and v ${
        show(v)
      }: q [B, H, Tq, d] and k, v [B, H, Tk, d], or H divided by a whole number, are needed`,
    );
  }
  if (d < 1 || d > LARGEST_HEAD) {
    throw new ShapeError(`${op}: head size ${d}: 1 to ${LARGEST_HEAD} are supported`);
  }
  needNumber(op, "the scale", scale);
  return {
    ...{ batch, heads, tq, tk, d, scale },
    causal: causal !== false,
    shift: causal === "end" ? tk - tq : 0,
    shared: own === heads ? 1 : heads / own,
    scored: bias || mask?.shape.length === 4,
  };
}

const list = (tensors: readonly Tensor[]) =>
  tensors.map((x) => `${show(x.shape)} of ${x.dtype}`).join(", ");

/** @throws {ShapeError} if operands differ in dtype or the key mask does not fit them. */
function checkOperands(
  op: string,
  operands: readonly Tensor[],
  { batch, tk }: Problem,
  mask: Tensor | undefined,
): void {
  const [{ shape, dtype }] = operands;
  if (!isFloat(dtype) || operands.some((x) => x.dtype !== dtype)) {
    throw new ShapeError(`${op}: operands ${list(operands)}: f32 or f16 is needed throughout`);
  }
  if (!mask || mask.shape.length === 4) return;
  if (!sameShape(mask.shape, [batch, tk]) || mask.dtype !== "u32" && mask.dtype !== "f32") {
    throw new ShapeError(
      `${op}: the key mask is ${list([mask])} beside ${show(shape)}: ${
        show([batch, tk])
      } of u32 or f32 is needed`,
    );
  }
}

/** Mask and bias among the operands that follow q, k and v. */
function besides<T>(rest: readonly T[], { bias }: Pick<AttentionAttributes, "bias">) {
  return { mask: bias ? rest[rest.length - 2] : rest[0], bias: bias ? rest.at(-1) : undefined };
}

/** Operands of mask and bias where they are given. */
const besideOperands = (mask: Tensor | undefined, bias: Tensor | undefined) => ({
  ...mask && { mask: mask.shape.length === 4 ? perPair(mask) : perToken(mask) },
  ...bias && { bias: perPair(bias) },
});

/** What the gradient of a bias is added up in, and the gradient itself once it has been. */
function biasSums(
  bias: Tensor,
  { batch, heads, tq, tk }: Problem,
): { operand?: Operand; result(): Tensor } {
  const { device, shape, dtype } = bias;
  const [, , queries, keys] = shape;
  const typed = (x: Tensor) => dtype === "f16" ? converted(x, "f16") : x;
  // The same for all keys, it changes no probability.
  if (keys === 1) return { result: () => device.zeros(shape, dtype) };
  if (queries === 1 && tq > 1) {
    const sums = device.zeros([batch, heads, tk]);
    return {
      operand: perRow(sums),
      result: () => typed(sumTo(sums.view([batch, heads, 1, tk]), shape)),
    };
  }
  const sums = device.zeros(shape);
  return { operand: perPair(sums), result: () => typed(sums) };
}

/** Gradients of k and v [B, H, Tk, d] of those of every query head. */
function sharedSum({ batch, heads, tk, d, shared }: Problem, operand: Operand): Tensor {
  const { tensor, start, batch: perBatch, head, token } = operand;
  const from = tensor.offset + start;
  if (shared === 1) return tensor.view([batch, heads, tk, d], [perBatch, head, token, 1], from);
  const own = heads / shared;
  const strides = [perBatch, shared * head, head, token, 1];
  const all = tensor.view([batch, own, shared, tk, d], strides, from);
  return sumTo(all, [batch, own, 1, tk, d]).view([batch, own, tk, d]);
}

/** Probabilities of every head, [B, H, Tq, Tk]; zeros where a query sees no key. */
function refProbabilities(
  [q, k, , ...rest]: readonly RefArray[],
  attrs: AttentionAttributes,
): Float64Array {
  const [batch, heads, tq, d] = q.shape;
  const [, own, tk] = k.shape;
  const all = [batch, heads, tq, tk];
  const { mask, bias } = besides(rest, attrs);
  const seen = mask && refBroadcast(
    mask.shape.length === 4 ? mask : { shape: [batch, 1, 1, tk], data: mask.data },
    all,
  );
  const added = bias && refBroadcast(bias, all);
  const p = new Float64Array(batch * heads * tq * tk);
  for (let row = 0; row < batch * heads * tq; row++) {
    const head = Math.floor(Math.floor(row / tq) * own / heads);
    const reach = row % tq + 1 + (attrs.causal === "end" ? tk - tq : 0);
    const logits = p.subarray(row * tk, (row + 1) * tk);
    const hidden = new Set<number>();
    for (let j = 0; j < tk; j++) {
      for (let c = 0; c < d; c++) {
        logits[j] += attrs.scale * q.data[row * d + c] * k.data[(head * tk + j) * d + c];
      }
      if (added) logits[j] += added[row * tk + j];
      if (seen?.[row * tk + j] === 0 || attrs.causal && j >= reach) {
        hidden.add(j);
        logits[j] = -Infinity;
      }
    }
    const top = logits.reduce((a, b) => Math.max(a, b), -Infinity);
    if (top === -Infinity) {
      logits.fill(0);
      continue;
    }
    const sum = logits.reduce((a, b) => a + Math.exp(b - top), 0);
    // What a query does not see has probability 0, beside NaN too.
    for (let j = 0; j < tk; j++) logits[j] = hidden.has(j) ? 0 : Math.exp(logits[j] - top) / sum;
  }
  return p;
}

function refForward(inputs: readonly RefArray[], attrs: AttentionAttributes): RefArray {
  const [q, k, v] = inputs;
  const [batch, heads, tq, d] = q.shape;
  const [, own, tk] = k.shape;
  const p = refProbabilities(inputs, attrs);
  const o = refZeros(q.shape);
  for (let row = 0; row < batch * heads * tq; row++) {
    const head = Math.floor(Math.floor(row / tq) * own / heads);
    for (let j = 0; j < tk; j++) {
      for (let c = 0; c < d; c++) {
        o.data[row * d + c] += p[row * tk + j] * v.data[(head * tk + j) * d + c];
      }
    }
  }
  return o;
}

/** Gradients of q, k, v and, with a bias, of the inputs behind them. */
function refBackward(
  inputs: readonly RefArray[],
  attrs: AttentionAttributes,
  dout: RefArray,
): (RefArray | undefined)[] {
  const [q, k, v, ...rest] = inputs;
  const [batch, heads, tq, d] = q.shape;
  const [, own, tk] = k.shape;
  const p = refProbabilities(inputs, attrs);
  const [dq, dk, dv] = [refZeros(q.shape), refZeros(k.shape), refZeros(v.shape)];
  const dscores = new Float64Array(p.length);
  for (let row = 0; row < batch * heads * tq; row++) {
    const head = Math.floor(Math.floor(row / tq) * own / heads);
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
      // What a query does not see gets 0, beside NaN too.
      if (p[row * tk + j] !== 0) dscores[row * tk + j] = p[row * tk + j] * (dp[j] - delta);
      const ds = attrs.scale * dscores[row * tk + j];
      for (let c = 0; c < d; c++) {
        dq.data[row * d + c] += ds * k.data[at + c];
        dk.data[at + c] += ds * q.data[row * d + c];
      }
    }
  }
  const { bias } = besides(rest, attrs);
  if (!bias) return [dq, dk, dv];
  // The same for all keys, it changes no probability: the sum is 0, but for rounding.
  const dbias = bias.shape[3] === 1
    ? refZeros(bias.shape)
    : refUnbroadcast(dscores, [batch, heads, tq, tk], bias.shape);
  return [dq, dk, dv, ...rest.slice(1).map(() => undefined), dbias];
}

const attentionOp = /* @__PURE__ */ defineOp<AttentionAttributes>({
  name: "attention",
  strided: true,
  dtypes: "any",
  half: true,
  forward(inputs, attrs, save) {
    const [q, k, v] = inputs.slice(0, 3).map(readable);
    const given = besides(inputs.slice(3), attrs);
    const problem = problemOf("attention", q.shape, k.shape, v.shape, attrs, given.mask);
    checkOperands("attention", [q, k, v], problem, given.mask);
    const mask = given.mask &&
      (given.mask.shape.length === 4 ? readable(given.mask) : materialize(given.mask));
    const bias = given.bias && readable(given.bias);
    const o = q.device.empty(q.shape, q.dtype);
    const lse = q.device.empty(q.shape.slice(0, 3));
    if (k.size === 0) fill(o, 0);
    else if (q.size > 0) {
      const [walkQ, walkK, walkV, walkO] = [q, k, v, o].map(heads4);
      runForward(problem, {
        q: walkQ,
        k: sharedHeads(walkK, problem.shared),
        v: sharedHeads(walkV, problem.shared),
        ...besideOperands(mask, bias),
        o: walkO,
        lse: perRow(lse),
      });
    }
    [q, k, v, o, lse, ...mask ? [mask] : [], ...bias ? [bias] : []].forEach(save);
    return [o];
  },
  backward({ grads: [dy], saved: [q, k, v, o, lse, ...rest], needs }, attrs) {
    const { mask, bias } = besides(rest, attrs);
    const problem = problemOf("attention", q.shape, k.shape, v.shape, attrs, mask);
    const dq = q.device.empty(q.shape, q.dtype);
    const keys = needs[1] || needs[2] ? keyGradients(q.device, problem, q.dtype) : undefined;
    const sums = bias && needs[needs.length - 1] ? biasSums(bias, problem) : undefined;
    if (q.size === 0 || k.size === 0) {
      [dq, ...keys?.map(({ tensor }) => tensor) ?? []].forEach((it) => fill(it, 0));
    } else {
      runBackward(problem, {
        q: heads4(q),
        k: sharedHeads(heads4(k), problem.shared),
        v: sharedHeads(heads4(v), problem.shared),
        ...besideOperands(mask, bias),
        o: heads4(o),
        lse: perRow(lse),
        dout: heads4(readable(dy!)),
        dq: heads4(dq),
        ...keys && { dk: keys[0], dv: keys[1] },
        ...sums?.operand && { dbias: sums.operand },
      });
    }
    const [dk, dv] = [0, 1].map((i) =>
      keys && needs[i + 1] ? sharedSum(problem, keys[i]) : undefined
    );
    const dmask = mask ? [undefined] : [];
    return [needs[0] ? dq : undefined, dk, dv, ...dmask, ...bias ? [sums?.result()] : []];
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
  /**
   * u32 or f32 of a shape that broadcasts to [B, H, Tq, Tk], such as [Tq, Tk]: 1 where the query
   * sees the key, 0 where it does not, as torch's boolean `attn_mask`. With {@link keyMask} both
   * must hold.
   */
  readonly mask?: Tensor;
  /**
   * f32 or f16 of a shape that broadcasts to [B, H, Tq, Tk], added to the scaled scores, as torch's
   * float `attn_mask`; -infinity hides. Gets a gradient, computed without a score matrix of its
   * own.
   */
  readonly bias?: Tensor;
  /**
   * Query i sees keys 0 to i only (torch's `is_causal`); with "end" the last query sees all keys:
   * query i sees keys 0 to i + Tk - Tq, as where earlier keys come from a cache. Default false.
   */
  readonly causal?: boolean | "end";
}

const OPTIONS = ["scale", "keyMask", "mask", "bias", "causal"] as const;

/** A tensor that broadcasts to [B, H, Tq, Tk], with four axes. */
function overPairs(
  op: string,
  name: string,
  x: Tensor,
  dtypes: readonly string[],
  full: Shape,
): Tensor {
  const shape = [...new Array(Math.max(0, 4 - x.shape.length)).fill(1), ...x.shape];
  if (
    shape.length !== 4 || shape.some((size, i) => size !== 1 && size !== full[i]) ||
    !dtypes.includes(x.dtype)
  ) {
    throw new ShapeError(
      `${op}: the ${name} is ${list([x])}: a shape that broadcasts to ${show(full)} of ${
        dtypes.join(" or ")
      } is needed`,
    );
  }
  return x.shape.length === 4 ? x : reshape(x, shape);
}

/** Inputs behind q, k and v, checked, and attributes. */
function beside(
  op: string,
  { keyMask, mask, bias, causal = false }: AttentionOptions,
  [batch, heads, tq, tk]: Shape,
): { rest: Tensor[]; causal: boolean | "end"; bias: boolean } {
  if (typeof causal !== "boolean" && causal !== "end") {
    throw new ShapeError(
      `${op}: causal is ${JSON.stringify(causal)}; true, false or "end" is needed`,
    );
  }
  const full = [batch, heads, tq, tk];
  const pairs = mask && overPairs(op, "mask", mask, ["u32", "f32"], full);
  const added = bias && overPairs(op, "bias", bias, ["f32", "f16"], full);
  let seen = pairs ?? keyMask;
  if (pairs && keyMask) {
    if (!sameShape(keyMask.shape, [batch, tk])) {
      throw new ShapeError(
        `${op}: the key mask is ${list([keyMask])}: ${show([batch, tk])} of u32 or f32 is needed`,
      );
    }
    const [some, others] = [notEqual(pairs, 0), notEqual(reshape(keyMask, [batch, 1, 1, tk]), 0)];
    seen = some.device.empty([batch, some.shape[1], some.shape[2], tk], "u32");
    elementwise(seen, [some, others], { expression: "a * b" });
  }
  const rest = [seen, added].filter((it) => it !== undefined);
  return { rest, causal, bias: added !== undefined };
}

/**
 * `softmax(scale q k^T + bias) v` per batch and head (Vaswani et al., "Attention is all you need",
 * section 3.2.1). Strided views are read in place as long as the last axis is dense. With fewer
 * heads of k and v than of q, neighbouring query heads share one (grouped queries, Ainslie et al.,
 * arXiv:2305.13245).
 *
 * @param q [B, H, Tq, d], d from 1 to 128
 * @param k [B, H, Tk, d], or as many heads as divide H; without keys the result is zero
 * @param v as `k`
 * @param options see {@link AttentionOptions}; a key counts if masks, bias and `causal` let it
 * @returns [B, H, Tq, d], dense
 * @throws {ShapeError} if shapes or dtypes do not fit each other, d is above 128, or a mask or the
 * bias does not fit.
 * @throws {LifetimeError} if operands live on different devices or were disposed.
 * @throws {RangeError} if eight tokens span more than the adapter's binding limit.
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  needOptions("attention", options, OPTIONS);
  const { keyMask, mask, bias: given } = options;
  needTensors("attention", { q, k, v }, { keyMask, mask, bias: given });
  const { scale = q.shape[q.shape.length - 1] ** -0.5 } = options;
  return composite(() => {
    const full = [...q.shape.slice(0, 3), k.shape[2]];
    const { rest, ...attrs } = beside("attention", options, full);
    return attentionOp.apply([q, k, v, ...rest], { scale, ...attrs })[0];
  });
}

interface SelfAttentionAttributes extends Partial<AttentionAttributes> {
  readonly heads: number;
  /** Heads of k and v; default as many. */
  readonly keyHeads?: number;
  readonly scale: number;
}

/** Attributes of the attention that is made of it. */
const innerAttrs = ({ scale, causal = false, bias }: SelfAttentionAttributes) => ({
  scale,
  causal,
  bias,
});

/** Heads of q, k and v, each from which head on, of one row of a fused tensor. */
function layoutOf({ heads, keyHeads = heads }: SelfAttentionAttributes) {
  return [[0, heads], [heads, keyHeads], [heads + keyHeads, keyHeads]] as const;
}

/** Heads [B, H, T, d] of a [B, T, N d] array, `first` heads from its start. */
function refHeads(
  { shape: [batch, tokens, all], data }: RefArray,
  d: number,
  [first, heads]: readonly [number, number],
): RefArray {
  return refFrom([batch, heads, tokens, d], (i) => {
    const [c, t, h, b] = [
      i % d,
      Math.floor(i / d) % tokens,
      Math.floor(i / d / tokens) % heads,
      Math.floor(i / d / tokens / heads),
    ];
    return data[(b * tokens + t) * all + (first + h) * d + c];
  });
}

/** The inverse: all heads of all parts side by side. */
function refJoin(parts: readonly RefArray[]): RefArray {
  const [batch, , tokens, d] = parts[0].shape;
  const rows = parts.flatMap((part) =>
    Array.from({ length: part.shape[1] }, (_, head) => ({ part, head }))
  );
  const width = rows.length * d;
  return refFrom([batch, tokens, width], (i) => {
    const { part, head } = rows[Math.floor(i % width / d)];
    const [t, b] = [Math.floor(i / width) % tokens, Math.floor(i / width / tokens)];
    return part.data[((b * part.shape[1] + head) * tokens + t) * d + i % d];
  });
}

const refParts = (qkv: RefArray, attrs: SelfAttentionAttributes): RefArray[] => {
  const { keyHeads = attrs.heads } = attrs;
  const d = qkv.shape[2] / (attrs.heads + 2 * keyHeads);
  return layoutOf(attrs).map((part) => refHeads(qkv, d, part));
};

const selfAttentionOp = /* @__PURE__ */ defineOp<SelfAttentionAttributes>({
  name: "selfAttention",
  dtypes: "any",
  half: true,
  forward([qkv, ...rest], attrs, save) {
    const { mask, bias } = besides(rest, attrs);
    const problem = fusedProblem(qkv.shape, attrs, mask);
    checkOperands("selfAttention", [qkv], problem, mask);
    const { batch, tq, heads, d, shared } = problem;
    const o = qkv.device.empty([batch, tq, heads * d], qkv.dtype);
    const lse = qkv.device.empty([batch, heads, tq]);
    const [q, k, v] = layoutOf(attrs).map(([first], i) =>
      sharedHeads(headsOf(qkv, d, first), i > 0 ? shared : 1)
    );
    if (o.size > 0) {
      const operands = { q, k, v, ...besideOperands(mask, bias) };
      runForward(problem, { ...operands, o: headsOf(o, d), lse: perRow(lse) });
    }
    [qkv, o, lse, ...rest].forEach(save);
    return [o];
  },
  backward({ grads: [dy], saved: [qkv, o, lse, ...rest], into, needs }, attrs) {
    const { mask, bias } = besides(rest, attrs);
    const problem = fusedProblem(qkv.shape, attrs, mask);
    const { d, shared, batch, heads, tk } = problem;
    const dqkv = into(0) ?? qkv.device.empty(qkv.shape, qkv.dtype);
    const [q, k, v] = layoutOf(attrs).map(([first], i) =>
      sharedHeads(headsOf(qkv, d, first), i > 0 ? shared : 1)
    );
    const [dq, ownK, ownV] = layoutOf(attrs).map(([first]) => headsOf(dqkv, d, first));
    const [dk, dv] = shared === 1 ? [ownK, ownV] : keyGradients(qkv.device, problem, qkv.dtype);
    const sums = bias && needs[needs.length - 1] ? biasSums(bias, problem) : undefined;
    const rows = {
      ...besideOperands(mask, bias),
      ...sums?.operand && { dbias: sums.operand },
      o: headsOf(o, d),
      lse: perRow(lse),
      dout: headsOf(dy!, d),
    };
    if (o.size > 0) runBackward(problem, { q, k, v, ...rows, dq, dk, dv });
    if (shared > 1 && o.size > 0) {
      for (const [own, all] of [[ownK, dk], [ownV, dv]]) {
        const shape = [batch, heads / shared, tk, d];
        const strides = [own.batch, own.head, own.token, 1];
        const part = dqkv.view(shape, strides, dqkv.offset + own.start);
        elementwise(part, [sharedSum(problem, all)], { expression: "a" });
      }
    }
    return [dqkv, ...mask ? [undefined] : [], ...bias ? [sums?.result()] : []];
  },
  reference: {
    forward: ([qkv, ...rest], attrs) => [
      refJoin([refForward([...refParts(qkv, attrs), ...rest], innerAttrs(attrs))]),
    ],
    backward: ([qkv, ...rest], attrs, [dy]) => {
      const parts = refParts(qkv, attrs);
      const dout = refHeads(dy, parts[0].shape[3], [0, attrs.heads]);
      const grads = refBackward([...parts, ...rest], innerAttrs(attrs), dout);
      return [refJoin(grads.slice(0, 3) as RefArray[]), ...grads.slice(3)];
    },
  },
});

function fusedProblem(shape: Shape, attrs: SelfAttentionAttributes, mask?: Tensor): Problem {
  const { heads, keyHeads = heads } = attrs;
  const [batch, tokens, all] = shape;
  const d = all / (heads + 2 * keyHeads);
  if (shape.length !== 3 || !Number.isInteger(d) || !(heads >= 1)) {
    const grouped = keyHeads === heads ? "3 * heads" : "(heads + 2 * keyHeads)";
    throw new ShapeError(
      `selfAttention: ${show(shape)} with ${heads} heads${
        keyHeads === heads ? "" : ` and ${keyHeads} of keys`
      }: [B, T, ${grouped} * d] is needed`,
    );
  }
  const key = [batch, keyHeads, tokens, d];
  const query = [batch, heads, tokens, d];
  return problemOf("selfAttention", query, key, key, innerAttrs(attrs), mask);
}

/** Options of {@link selfAttention}. */
export interface SelfAttentionOptions extends AttentionOptions {
  /** Heads of keys and values, which divide those of queries; default as many. */
  readonly keyHeads?: number;
}

/**
 * Attention of a sequence to itself, from one fused projection (timm's layout):
 * along the last axis q, k and v, each head by head. Nothing is rearranged in memory, and backward
 * writes one gradient of qkv.
 *
 * @param qkv [B, T, 3 * heads * d], or [B, T, (heads + 2 * keyHeads) * d]; d from 1 to 128
 * @param heads number of heads
 * @param options see {@link SelfAttentionOptions}
 * @returns [B, T, heads * d], heads side by side
 * @throws {ShapeError} if the last axis does not divide into so many heads of at most 128, or a
 * mask or the bias does not fit.
 * @throws {LifetimeError} if operands live on different devices or were disposed.
 * @throws {RangeError} if eight tokens span more than the adapter's binding limit.
 */
export function selfAttention(
  qkv: Tensor,
  heads: number,
  options: SelfAttentionOptions = {},
): Tensor {
  needOptions("selfAttention", options, [...OPTIONS, "keyHeads"]);
  const { keyMask, mask, bias: given, keyHeads = heads } = options;
  needTensors("selfAttention", { qkv }, { keyMask, mask, bias: given });
  needWhole("selfAttention", "the number of heads", heads, 1);
  needWhole("selfAttention", "the number of heads of keys", keyHeads, 1);
  const [batch, tokens, all] = qkv.shape;
  const { scale = (all / (heads + 2 * keyHeads)) ** -0.5 } = options;
  return composite(() => {
    const { rest, ...attrs } = beside("selfAttention", options, [batch, heads, tokens, tokens]);
    return selfAttentionOp.apply([qkv, ...rest], { heads, keyHeads, scale, ...attrs })[0];
  });
}
