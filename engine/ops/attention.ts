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
import { composite } from "../scope.ts";
import { sameShape, type Shape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { keyGradients, type Problem, runBackward, runForward } from "../launch/attention.ts";
import type { Beside } from "../launch/attention_blocks.ts";
import {
  heads4,
  headsOf,
  type Operand,
  perPair,
  perRow,
  perToken,
  sharedHeads,
} from "../launch/attention_pass.ts";
import { converted, fill, materialize } from "../launch/copy.ts";
import { elementwise } from "../launch/elementwise.ts";
import {
  type AttentionAttributes,
  besides,
  refAttention,
  refAttentionGradients,
  refHeads,
  refJoin,
} from "./attention_reference.ts";
import { notEqual } from "./compare.ts";
import { sumTo } from "./reduce.ts";
import { reshape } from "./view.ts";

const LARGEST_HEAD = 128;

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

/** Operands of mask, bias and gate where they are given. */
const besideOperands = (
  { mask, bias, gate }: ReturnType<typeof besides<Tensor>>,
  { tq }: Problem,
): Beside => ({
  ...mask && { mask: mask.shape.length === 4 ? perPair(mask) : perToken(mask) },
  ...bias && { bias: perPair(bias) },
  ...gate && { gate: { ...perRow(gate), tokens: tq } },
});

/** What a gradient is added up in, and the gradient itself once it has been. */
interface Sums {
  readonly operand?: Operand;
  result(): Tensor;
}

/** A sum in the element type of what it is the gradient of. */
const typedAs = ({ dtype }: Tensor, sum: Tensor): Tensor =>
  dtype === "f32" ? sum : converted(sum, dtype);

/** Of the gradient of a bias. */
function biasSums(bias: Tensor, { batch, heads, tq, tk }: Problem): Sums {
  const { device, shape, dtype } = bias;
  const [batches, own, queries, keys] = shape;
  // The same for all keys, it changes no probability.
  if (keys === 1) return { result: () => device.zeros(shape, dtype) };
  if (queries === 1 && tq > 1) {
    const sums = device.zeros([batch, heads, tk]);
    const repeated = sums.view([batch / batches, batches, heads, 1, tk]);
    return {
      operand: perRow(sums),
      result: () => typedAs(bias, sumTo(repeated, [1, batches, own, 1, tk]).view(shape)),
    };
  }
  const sums = device.zeros(shape);
  return { operand: perPair(sums), result: () => typedAs(bias, sums) };
}

/** Of the gradient of a gate. */
function gateSums(gate: Tensor, { batch, heads, tq }: Problem): Sums {
  const sums = gate.device.zeros([batch, heads, tq]);
  return {
    operand: perRow(sums),
    result: () => typedAs(gate, sumTo(sums, gate.shape)),
  };
}

/** Gradients of mask, bias and gate, of which `needs` tells in which order they are asked for. */
function besideSums(
  { mask, bias, gate }: ReturnType<typeof besides<Tensor>>,
  problem: Problem,
  needs: readonly boolean[],
): { operands: { dbias?: Operand; dgate?: Operand }; results(): (Tensor | undefined)[] } {
  const [ofBias, ofGate] = mask ? needs.slice(1) : needs;
  const biases = bias && ofBias ? biasSums(bias, problem) : undefined;
  const gates = gate && ofGate ? gateSums(gate, problem) : undefined;
  return {
    operands: {
      ...biases?.operand && { dbias: biases.operand },
      ...gates?.operand && { dgate: gates.operand },
    },
    results: () => [
      ...mask ? [undefined] : [],
      ...bias ? [biases?.result()] : [],
      ...gate ? [gates?.result()] : [],
    ],
  };
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
    const { gate } = given;
    const o = q.device.empty(q.shape, q.dtype);
    const lse = q.device.empty(q.shape.slice(0, 3));
    if (k.size === 0) fill(o, 0);
    else if (q.size > 0) {
      const [walkQ, walkK, walkV, walkO] = [q, k, v, o].map(heads4);
      runForward(problem, {
        q: walkQ,
        k: sharedHeads(walkK, problem.shared),
        v: sharedHeads(walkV, problem.shared),
        ...besideOperands({ mask, bias, gate }, problem),
        o: walkO,
        lse: perRow(lse),
      });
    }
    [q, k, v, o, lse, mask, bias, gate].forEach((it) => it && save(it));
    return [o];
  },
  backward({ grads: [dy], saved: [q, k, v, o, lse, ...rest], needs }, attrs) {
    const given = besides(rest, attrs);
    const problem = problemOf("attention", q.shape, k.shape, v.shape, attrs, given.mask);
    const dq = q.device.empty(q.shape, q.dtype);
    const keys = needs[1] || needs[2] ? keyGradients(q.device, problem, q.dtype) : undefined;
    const sums = besideSums(given, problem, needs.slice(3));
    if (q.size === 0 || k.size === 0) {
      [dq, ...keys?.map(({ tensor }) => tensor) ?? []].forEach((it) => fill(it, 0));
    } else {
      runBackward(problem, {
        q: heads4(q),
        k: sharedHeads(heads4(k), problem.shared),
        v: sharedHeads(heads4(v), problem.shared),
        ...besideOperands(given, problem),
        o: heads4(o),
        lse: perRow(lse),
        dout: heads4(readable(dy!)),
        dq: heads4(dq),
        ...keys && { dk: keys[0], dv: keys[1] },
        ...sums.operands,
      });
    }
    const [dk, dv] = [0, 1].map((i) =>
      keys && needs[i + 1] ? sharedSum(problem, keys[i]) : undefined
    );
    return [needs[0] ? dq : undefined, dk, dv, ...sums.results()];
  },
  reference: {
    forward: (inputs, attrs) => [refAttention(inputs, attrs)],
    backward: (inputs, attrs, [dy]) => refAttentionGradients(inputs, attrs, dy),
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
   * sees the key, 0 where it does not, as torch's boolean `attn_mask`. Of four axes the first may
   * be any divisor n of B: batch b has the mask b mod n, such as that of its window (Swin). With
   * {@link keyMask} both must hold.
   */
  readonly mask?: Tensor;
  /**
   * f32 or f16 of a shape as {@link mask} may have, added to the scaled scores, as torch's float
   * `attn_mask`; -infinity hides. Gets a gradient, computed without a score matrix of its own.
   */
  readonly bias?: Tensor;
  /**
   * f32 or f16 of a shape that broadcasts to [B, H, Tq], a factor of the {@link bias} for each
   * query, as WavLM and BEATs compute it from q: scores are scale q k^T + gate bias, while no
   * tensor of their size is made. Gets a gradient. Where the bias is -infinity it must be positive.
   */
  readonly gate?: Tensor;
  /**
   * Query i sees keys 0 to i only (torch's `is_causal`); with "end" the last query sees all keys:
   * query i sees keys 0 to i + Tk - Tq, as where earlier keys come from a cache. Default false.
   */
  readonly causal?: boolean | "end";
}

const OPTIONS = ["scale", "keyMask", "mask", "bias", "gate", "causal"] as const;

/**
 * A tensor that broadcasts to `full`, with as many axes; of [B, H, Tq, Tk] the first may be a
 * divisor of B.
 */
function over(
  op: string,
  name: string,
  x: Tensor,
  dtypes: readonly string[],
  full: Shape,
): Tensor {
  const axes = full.length;
  const shape = [...new Array(Math.max(0, axes - x.shape.length)).fill(1), ...x.shape];
  const repeats = (size: number, i: number) =>
    axes === 4 && i === 0 && size > 0 && full[i] % size === 0;
  const fits = (size: number, i: number) => size === 1 || size === full[i] || repeats(size, i);
  if (shape.length !== axes || !shape.every(fits) || !dtypes.includes(x.dtype)) {
    throw new ShapeError(
      `${op}: the ${name} is ${list([x])}: a shape that broadcasts to ${show(full)} of ${
        dtypes.join(" or ")
      } is needed`,
    );
  }
  return x.shape.length === axes ? x : reshape(x, shape);
}

/** A mask of pairs and one of keys in one, [B, H or 1, Tq or 1, Tk]. */
function both(pairs: Tensor, keys: Tensor): Tensor {
  const [batch, tk] = keys.shape;
  const [own, ...rest] = pairs.shape;
  const seen = pairs.device.empty([batch / own, own, ...rest.slice(0, 2), tk], "u32");
  const [some, others] = [notEqual(pairs, 0), notEqual(keys, 0)];
  elementwise(seen, [some, reshape(others, [batch / own, own, 1, 1, tk])], { expression: "a * b" });
  return reshape(seen, [batch, ...rest.slice(0, 2), tk]);
}

/** Inputs behind q, k and v, checked, and attributes. */
function beside(
  op: string,
  { keyMask, mask, bias, gate, causal = false }: AttentionOptions,
  [batch, heads, tq, tk]: Shape,
): { rest: Tensor[]; causal: boolean | "end"; bias: boolean; gate?: boolean } {
  if (typeof causal !== "boolean" && causal !== "end") {
    throw new ShapeError(
      `${op}: causal is ${JSON.stringify(causal)}; true, false or "end" is needed`,
    );
  }
  const full = [batch, heads, tq, tk];
  const pairs = mask && over(op, "mask", mask, ["u32", "f32"], full);
  const added = bias && over(op, "bias", bias, ["f32", "f16"], full);
  const factor = gate && over(op, "gate", gate, ["f32", "f16"], [batch, heads, tq]);
  if (factor && !added) throw new ShapeError(`${op}: the gate is without a bias`);
  if (pairs && keyMask && !sameShape(keyMask.shape, [batch, tk])) {
    throw new ShapeError(
      `${op}: the key mask is ${list([keyMask])}: ${show([batch, tk])} of u32 or f32 is needed`,
    );
  }
  const seen = pairs && keyMask ? both(pairs, keyMask) : pairs ?? keyMask;
  const rest = [seen, added, factor].filter((it) => it !== undefined);
  return { rest, causal, bias: added !== undefined, ...factor && { gate: true } };
}

/**
 * `softmax(scale q k^T + gate bias) v` per batch and head (Vaswani et al., "Attention is all you
 * need", section 3.2.1). Strided views are read in place as long as the last axis is dense. With
 * fewer heads of k and v than of q, neighbouring query heads share one (grouped queries, Ainslie et
 * al., arXiv:2305.13245).
 *
 * @param q [B, H, Tq, d], d from 1 to 128
 * @param k [B, H, Tk, d], or as many heads as divide H; without keys the result is zero
 * @param v as `k`
 * @param options see {@link AttentionOptions}; a key counts if masks, bias and `causal` let it
 * @returns [B, H, Tq, d], dense
 * @throws {ShapeError} if shapes or dtypes do not fit each other, d is above 128, or a mask, the
 * bias or its gate does not fit.
 * @throws {LifetimeError} if operands live on different devices or were disposed.
 * @throws {RangeError} if eight tokens span more than the adapter's binding limit.
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  needOptions("attention", options, OPTIONS);
  const { keyMask, mask, bias: given, gate } = options;
  needTensors("attention", { q, k, v }, { keyMask, mask, bias: given, gate });
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
const innerAttrs = ({ scale, causal = false, bias, gate }: SelfAttentionAttributes) => ({
  scale,
  causal,
  bias,
  gate,
});

/** Heads of q, k and v, each from which head on, of one row of a fused tensor. */
function layoutOf({ heads, keyHeads = heads }: SelfAttentionAttributes) {
  return [[0, heads], [heads, keyHeads], [heads + keyHeads, keyHeads]] as const;
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
    const given = besides(rest, attrs);
    const problem = fusedProblem(qkv.shape, attrs, given.mask);
    checkOperands("selfAttention", [qkv], problem, given.mask);
    const { batch, tq, heads, d, shared } = problem;
    const o = qkv.device.empty([batch, tq, heads * d], qkv.dtype);
    const lse = qkv.device.empty([batch, heads, tq]);
    const [q, k, v] = layoutOf(attrs).map(([first], i) =>
      sharedHeads(headsOf(qkv, d, first), i > 0 ? shared : 1)
    );
    if (o.size > 0) {
      const operands = { q, k, v, ...besideOperands(given, problem) };
      runForward(problem, { ...operands, o: headsOf(o, d), lse: perRow(lse) });
    }
    [qkv, o, lse, ...rest].forEach(save);
    return [o];
  },
  backward({ grads: [dy], saved: [qkv, o, lse, ...rest], into, needs }, attrs) {
    const given = besides(rest, attrs);
    const problem = fusedProblem(qkv.shape, attrs, given.mask);
    const { d, shared, batch, heads, tk } = problem;
    const dqkv = into(0) ?? qkv.device.empty(qkv.shape, qkv.dtype);
    const [q, k, v] = layoutOf(attrs).map(([first], i) =>
      sharedHeads(headsOf(qkv, d, first), i > 0 ? shared : 1)
    );
    const [dq, ownK, ownV] = layoutOf(attrs).map(([first]) => headsOf(dqkv, d, first));
    const [dk, dv] = shared === 1 ? [ownK, ownV] : keyGradients(qkv.device, problem, qkv.dtype);
    const sums = besideSums(given, problem, needs.slice(1));
    const rows = {
      ...besideOperands(given, problem),
      ...sums.operands,
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
    return [dqkv, ...sums.results()];
  },
  reference: {
    forward: ([qkv, ...rest], attrs) => [
      refJoin([refAttention([...refParts(qkv, attrs), ...rest], innerAttrs(attrs))]),
    ],
    backward: ([qkv, ...rest], attrs, [dy]) => {
      const parts = refParts(qkv, attrs);
      const dout = refHeads(dy, parts[0].shape[3], [0, attrs.heads]);
      const grads = refAttentionGradients([...parts, ...rest], innerAttrs(attrs), dout);
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
 * mask, the bias or its gate does not fit.
 * @throws {LifetimeError} if operands live on different devices or were disposed.
 * @throws {RangeError} if eight tokens span more than the adapter's binding limit.
 */
export function selfAttention(
  qkv: Tensor,
  heads: number,
  options: SelfAttentionOptions = {},
): Tensor {
  needOptions("selfAttention", options, [...OPTIONS, "keyHeads"]);
  const { keyMask, mask, bias: given, gate, keyHeads = heads } = options;
  needTensors("selfAttention", { qkv }, { keyMask, mask, bias: given, gate });
  needWhole("selfAttention", "the number of heads", heads, 1);
  needWhole("selfAttention", "the number of heads of keys", keyHeads, 1);
  const [batch, tokens, all] = qkv.shape;
  const { scale = (all / (heads + 2 * keyHeads)) ** -0.5 } = options;
  return composite(() => {
    const { rest, ...attrs } = beside("selfAttention", options, [batch, heads, tokens, tokens]);
    return selfAttentionOp.apply([qkv, ...rest], { heads, keyHeads, scale, ...attrs })[0];
  });
}
