/**
 * Scaled dot-product attention that never holds a score matrix: the forward kernel keeps one log-sum-exp per query,
 * the backward kernels compute the probabilities again (Dao et al., FlashAttention, arXiv:2205.14135). Memory grows
 * with the number of tokens, not its square, and every sum has a fixed order.
 *
 * @module
 */
import backwardKvSource from "../../kernels/attention_backward_kv.wgsl" with { type: "text" };
import backwardQSource from "../../kernels/attention_backward_q.wgsl" with { type: "text" };
import forwardSource from "../../kernels/attention_forward.wgsl" with { type: "text" };
import type { Device } from "../device.ts";
import { BYTES_PER_ELEMENT } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { defineKernel, type Kernel, type KernelInsight } from "../kernel.ts";
import { defineOp, type RefArray, type Sample } from "../op.ts";
import { refFrom, refRandom, refZeros } from "../reference.ts";
import { sameShape, show } from "../shape.ts";
import type { Constants } from "../template.ts";
import type { Tensor } from "../tensor.ts";
import { materialize } from "./copy.ts";

/** `products`: how many products of queries by keys by head size the kernel makes, each 2 tq tk d operations. */
const insight = (products: number): KernelInsight => ({
  flops: ({ constants: { D, CAUSAL }, params: { tq, tk }, grid: [, heads, batch] }) =>
    products * 2 * tq * tk * Number(D) * heads * batch * (CAUSAL ? 0.5 : 1),
  variant: ({ constants: { D, CAUSAL }, params: { tq, tk }, grid: [, heads, batch] }) =>
    `${batch}x${heads} heads ${tq}x${tk}x${D}${CAUSAL ? " causal" : ""}`,
});
const forwardKernel = defineKernel("attention_forward", forwardSource, insight(2));
const backwardQKernel = defineKernel("attention_backward_q", backwardQSource, insight(3));
const backwardKvKernel = defineKernel("attention_backward_kv", backwardKvSource, insight(4));

const LARGEST_HEAD = 128;

/** A tensor walked by batch, head and token; strides in elements. */
interface Operand {
  readonly tensor: Tensor;
  /** First element, relative to the tensor. */
  readonly start: number;
  readonly batch: number;
  readonly head: number;
  readonly token: number;
  readonly tokens: number;
  /** Elements per token: the head size, or 1 for statistics per row. */
  readonly width: number;
}

/** Sizes of one attention. */
interface Problem {
  readonly batch: number;
  readonly heads: number;
  readonly tq: number;
  readonly tk: number;
  /** Head size. */
  readonly d: number;
  readonly scale: number;
  readonly causal: boolean;
}

/** Walks a [B, H, T, d] tensor whose last axis has stride 1. */
function heads4(tensor: Tensor): Operand {
  const [batch, head, token] = tensor.strides;
  const [, , tokens, width] = tensor.shape;
  return { tensor, start: 0, batch, head, token, tokens, width };
}

/** Walks part `part` of `parts` of a dense [B, T, parts * H * d] tensor. */
function headsOf(tensor: Tensor, heads: number, part = 0, parts = 1): Operand {
  const [, tokens, all] = tensor.shape;
  const width = all / parts / heads;
  return {
    tensor,
    start: part * heads * width,
    batch: tokens * all,
    head: width,
    token: all,
    tokens,
    width,
  };
}

/** Walks a dense [B, H, T] tensor. */
function perRow(tensor: Tensor): Operand {
  const [, heads, tokens] = tensor.shape;
  return { tensor, start: 0, batch: heads * tokens, head: tokens, token: 1, tokens, width: 1 };
}

/**
 * Lanes per workgroup and rows per lane. More rows share each load, but every row is unrolled in the kernel's text.
 *
 * @param rows query rows, or keys where lanes own keys
 * @param live vectors of the head size that a row keeps in registers
 */
function tiling(
  device: Device,
  rows: number,
  d: number,
  live: number,
): { WX: number; ROWS: number } {
  // On a GPU a lane has 255 registers. A CPU adapter spills to its cache for next to nothing; there the bound is
  // the time to compile, some 0.3 s per row of 64 channels and kernel (kernels/attention_forward.wgsl).
  const most = device.info.software ? (live === 2 ? 192 : 128) / d : 192 / (live * d);
  const lanes = device.info.software ? 8 : 32;
  return { WX: lanes, ROWS: Math.max(1, Math.min(4, Math.floor(most), Math.ceil(rows / lanes))) };
}

/** Elements from the first to behind the last that the operand's heads touch. */
function extent(operand: Operand, batches: number, heads: number): number {
  return (batches - 1) * operand.batch + (heads - 1) * operand.head +
    (operand.tokens - 1) * operand.token + operand.width;
}

type Range = readonly [first: number, count: number];

function halves([first, count]: Range): [Range, Range] {
  const half = Math.ceil(count / 2);
  return [[first, half], [first + half, count - half]];
}

/**
 * Runs a kernel over all batches and heads, split where a window would exceed the binding limit.
 *
 * @param operands by the names in the kernel's parameters, in the order of its bindings
 */
function launch(
  kernel: Kernel,
  problem: Problem,
  operands: Readonly<Record<string, Operand>>,
  rows: number,
  live: number,
  batches: Range = [0, problem.batch],
  heads: Range = [0, problem.heads],
): void {
  const { d } = problem;
  const all = Object.entries(operands);
  const { device } = all[0][1].tensor;
  const alignment = device.offsetAlignment / BYTES_PER_ELEMENT;
  const limit = device.bindingLimit / BYTES_PER_ELEMENT;
  const windows: { tensor: Tensor; first: number; end: number }[] = [];
  const windowOf: Record<string, (typeof windows)[number]> = {};
  let vector = d % 4 === 0;
  for (const [name, operand] of all) {
    const { tensor } = operand;
    const at = tensor.offset + operand.start + batches[0] * operand.batch + heads[0] * operand.head;
    const end = at + extent(operand, batches[1], heads[1]);
    const first = at - at % alignment;
    if (operand.width === d) {
      vector &&= [at, operand.batch, operand.head, operand.token].every((x) => x % 4 === 0);
    }
    // dk and dv of a fused tensor: WebGPU lets a buffer be bound for writing only once.
    const shared = name === "dv" && windowOf.dk.tensor === tensor ? windowOf.dk : undefined;
    if (shared) {
      shared.first = Math.min(shared.first, first);
      shared.end = Math.max(shared.end, end);
    } else {
      windows.push({ tensor, first, end });
    }
    windowOf[name] = shared ?? windows[windows.length - 1];
  }
  if (windows.some((w) => w.end - w.first > limit)) {
    if (batches[1] > 1) {
      for (const half of halves(batches)) {
        launch(kernel, problem, operands, rows, live, half, heads);
      }
    } else if (heads[1] > 1) {
      for (const half of halves(heads)) {
        launch(kernel, problem, operands, rows, live, batches, half);
      }
    } else {
      throw new RangeError(
        `${kernel.name}: one head of ${problem.tk} tokens exceeds the adapter's binding limit`,
      );
    }
    return;
  }

  const unit = vector ? 4 : 1;
  const params: Record<string, number> = { tq: problem.tq, tk: problem.tk, scale: problem.scale };
  for (const [name, operand] of all) {
    const step = operand.width === d ? unit : 1;
    const at = operand.tensor.offset + operand.start + batches[0] * operand.batch +
      heads[0] * operand.head;
    params[`offset_${name}`] = (at - windowOf[name].first) / step;
    params[`batch_${name}`] = operand.batch / step;
    params[`head_${name}`] = operand.head / step;
    params[`token_${name}`] = operand.token / step;
  }
  const { WX, ROWS } = tiling(device, rows, d, live);
  const vectors = Math.ceil(d / 4);
  const constants: Constants = {
    D: d,
    D4: vectors,
    VEC: vector,
    WX,
    ROWS,
    // Measured on a CPU adapter only; two keys at once halve the rescaling of earlier results.
    KEYS: vector && d <= 64 ? 2 : 1,
    CAUSAL: problem.causal,
    SUBGROUPS: vector && device.info.software && device.info.subgroupSize >= 8,
    WORDS: Math.ceil(vectors / 8),
    FUSED: windowOf.dk !== undefined && windowOf.dk === windowOf.dv,
    DV: windowOf.dk === windowOf.dv ? "dk_data" : "dv_data",
  };
  device.run(
    kernel,
    constants,
    windows.map(({ tensor, first, end }) => ({
      tensor,
      start: first - tensor.offset,
      count: end - first,
    })),
    params,
    [Math.ceil(rows / (WX * ROWS)), heads[1], batches[1]],
  );
}

/** Writes the result to `o` and the log-sum-exp of each row to `lse`. */
function runForward(
  problem: Problem,
  q: Operand,
  k: Operand,
  v: Operand,
  o: Operand,
  lse: Operand,
) {
  launch(forwardKernel, problem, { q, k, v, o, lse }, problem.tq, 2);
}

/** What backward reads and writes; `dk` and `dv` are absent where only dq is wanted. */
interface Gradients {
  readonly q: Operand;
  readonly k: Operand;
  readonly v: Operand;
  readonly o: Operand;
  readonly lse: Operand;
  readonly dout: Operand;
  readonly dq: Operand;
  readonly dk?: Operand;
  readonly dv?: Operand;
}

function runBackward(problem: Problem, { q, k, v, o, lse, dout, dq, dk, dv }: Gradients): void {
  const delta = perRow(lse.tensor.device.empty(lse.tensor.shape));
  launch(backwardQKernel, problem, { q, k, v, o, do: dout, lse, dq, delta }, problem.tq, 3);
  if (!dk || !dv) return;
  launch(backwardKvKernel, problem, { q, k, v, do: dout, lse, delta, dk, dv }, problem.tk, 4);
}

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
  if (d < 1 || d > LARGEST_HEAD || tk < 1) {
    throw new ShapeError(
      `${op}: head size ${d} with ${tk} keys: 1 to ${LARGEST_HEAD} and at least one key are supported`,
    );
  }
  return { batch, heads, tq, tk, d, scale, causal };
}

interface AttentionAttributes {
  readonly scale: number;
  readonly causal: boolean;
}

/** Probabilities of every head, [B, H, Tq, Tk]. */
function refProbabilities(
  q: RefArray,
  k: RefArray,
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
    }
    const top = logits.reduce((a, b) => Math.max(a, b));
    const sum = logits.reduce((a, b) => a + Math.exp(b - top), 0);
    for (let j = 0; j < keys; j++) logits[j] = Math.exp(logits[j] - top) / sum;
  }
  return p;
}

function refForward([q, k, v]: readonly RefArray[], attrs: AttentionAttributes): RefArray {
  const [batch, heads, tq, d] = q.shape;
  const tk = k.shape[2];
  const p = refProbabilities(q, k, attrs);
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
  [q, k, v]: readonly RefArray[],
  attrs: AttentionAttributes,
  dout: RefArray,
): [RefArray, RefArray, RefArray] {
  const [batch, heads, tq, d] = q.shape;
  const tk = k.shape[2];
  const p = refProbabilities(q, k, attrs);
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

// A logit of size L is off by some 1e-7 L in f32, and its probability by as much relative to itself.
const ORDINARY = 4e-6;

const attentionOp = defineOp<AttentionAttributes>({
  name: "attention",
  strided: true,
  forward(inputs, { scale, causal }, save) {
    const [q, k, v] = inputs.map(readable);
    const problem = problemOf("attention", q.shape, k.shape, v.shape, scale, causal);
    const o = q.device.empty(q.shape);
    const lse = q.device.empty(q.shape.slice(0, 3));
    if (q.size > 0) runForward(problem, heads4(q), heads4(k), heads4(v), heads4(o), perRow(lse));
    [q, k, v, o, lse].forEach(save);
    return [o];
  },
  backward({ grads: [dy], saved: [q, k, v, o, lse], needs }, { scale, causal }) {
    const problem = problemOf("attention", q.shape, k.shape, v.shape, scale, causal);
    const [dq, dk, dv] = [q, k, v].map((input) => input.device.empty(input.shape));
    const keys = needs[1] || needs[2] ? { dk: heads4(dk), dv: heads4(dv) } : {};
    runBackward(problem, {
      q: heads4(q),
      k: heads4(k),
      v: heads4(v),
      o: heads4(o),
      lse: perRow(lse),
      dout: heads4(readable(dy!)),
      dq: heads4(dq),
      ...keys,
    });
    return [dq, dk, dv].map((gradient, i) => needs[i] ? gradient : undefined);
  },
  reference: {
    forward: (inputs, attrs) => [refForward(inputs, attrs)],
    backward: (inputs, attrs, [dy]) => refBackward(inputs, attrs, dy),
  },
  samples() {
    const cases: [number, number, number, number, number, boolean][] = [
      [1, 1, 1, 1, 1, false],
      [2, 2, 7, 7, 4, false],
      [3, 1, 13, 13, 6, false],
      [1, 2, 58, 58, 16, false],
      [1, 1, 11, 29, 12, false],
      [2, 1, 37, 5, 32, false],
      [1, 1, 35, 35, 64, false],
      [1, 1, 3, 9, 128, false],
      [1, 1, 3, 5, 67, false],
      [2, 2, 13, 13, 8, true],
      [1, 1, 70, 67, 16, true],
    ];
    const list = cases.map(([b, h, tq, tk, d, causal], seed): Sample<AttentionAttributes> => ({
      label: `[${b}, ${h}, ${tq}, ${d}] over ${tk} keys${causal ? ", causal" : ""}`,
      inputs: [
        refRandom([b, h, tq, d], seed),
        refRandom([b, h, tk, d], seed + 100),
        refRandom([b, h, tk, d], seed + 200),
      ],
      attrs: { scale: d ** -0.5, causal },
      tolerance: ORDINARY,
    }));
    // Small integers and a power of two as scale: the logits are exact in f32. Keys come in pairs that differ in the
    // last channel only, where q is 0: equal logits, so that no row is one-hot with rounding as its gradient.
    const whole = (seed: number, size: number, keys: boolean) => {
      const random = refRandom([1, 2, 14, 16], seed, size);
      const last = (i: number) => keys ? Math.round(random.data[i] / size * 4) : 0;
      const pair = (i: number) => Math.round(random.data[keys ? i - i % 32 + i % 16 : i]);
      return refFrom(random.shape, (i) => i % 16 === 15 ? last(i) : pair(i));
    };
    const extremes: [string, number, number][] = [
      ["peaked", 4, 1e-5],
      // Near 4000 the spacing of f32, and so the error of the stored log-sum-exp, is 2.4e-4.
      ["logits in the thousands", 30, 1.5e-4],
    ];
    for (const [label, size, tolerance] of extremes) {
      list.push({
        label,
        inputs: [whole(1, size, false), whole(2, size, true), refRandom([1, 2, 14, 16], 3)],
        attrs: { scale: 0.25, causal: false },
        tolerance,
        skipDifferences: size > 10,
      });
    }
    return list;
  },
});

/** Options of {@link attention}. */
export interface AttentionOptions {
  /** Factor of the scores; default d^-0.5. */
  readonly scale?: number;
  /** Query i sees keys 0 to i only; default false. */
  readonly causal?: boolean;
}

/**
 * `softmax(scale q k^T) v` per batch and head (Vaswani et al., "Attention is all you need", section 3.2.1).
 * Strided views are read in place as long as the last axis is dense.
 *
 * @param q [B, H, Tq, d], d from 1 to 128
 * @param k [B, H, Tk, d], Tk at least 1
 * @param v [B, H, Tk, d]
 * @returns [B, H, Tq, d], dense
 * @throws {ShapeError} if the shapes do not fit each other or d is above 128.
 * @throws {RangeError} if a single head is larger than the adapter's binding limit.
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  const { scale = q.shape[q.shape.length - 1] ** -0.5, causal = false } = options;
  return attentionOp.apply([q, k, v], { scale, causal })[0];
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
  forward([qkv], { heads, scale }, save) {
    const problem = fusedProblem(qkv.shape, heads, scale);
    const { batch, tq, d } = problem;
    const o = qkv.device.empty([batch, tq, heads * d]);
    const lse = qkv.device.empty([batch, heads, tq]);
    const [q, k, v] = [0, 1, 2].map((part) => headsOf(qkv, heads, part, 3));
    if (batch > 0) runForward(problem, q, k, v, headsOf(o, heads), perRow(lse));
    [qkv, o, lse].forEach(save);
    return [o];
  },
  backward({ grads: [dy], saved: [qkv, o, lse], into }, { heads, scale }) {
    const dqkv = into(0) ?? qkv.device.empty(qkv.shape);
    const [q, k, v] = [0, 1, 2].map((part) => headsOf(qkv, heads, part, 3));
    const [dq, dk, dv] = [0, 1, 2].map((part) => headsOf(dqkv, heads, part, 3));
    const [out, dout] = [headsOf(o, heads), headsOf(dy!, heads)];
    const problem = fusedProblem(qkv.shape, heads, scale);
    runBackward(problem, { q, k, v, o: out, lse: perRow(lse), dout, dq, dk, dv });
    return [dqkv];
  },
  reference: {
    forward: ([qkv], { heads, scale }) => [
      refJoin([refForward(refSplit(qkv, heads, 3), { scale, causal: false })]),
    ],
    backward: ([qkv], { heads, scale }, [dy]) => [
      refJoin(
        refBackward(refSplit(qkv, heads, 3), { scale, causal: false }, refSplit(dy, heads, 1)[0]),
      ),
    ],
  },
  samples() {
    const cases: [number, number, number, number][] = [
      [2, 1, 2, 16],
      [3, 7, 3, 4],
      [2, 13, 2, 6],
      [1, 58, 2, 32],
      [2, 41, 1, 64],
      [1, 5, 4, 3],
    ];
    return cases.map(([b, t, heads, d], seed) => ({
      label: `[${b}, ${t}, 3 * ${heads} * ${d}]`,
      inputs: [refRandom([b, t, 3 * heads * d], seed + 300)],
      attrs: { heads, scale: d ** -0.5 },
      tolerance: ORDINARY,
    }));
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
 * Attention of a sequence to itself, from one fused projection (timm's layout, SPEC section 2.1): along the last axis
 * q, k and v, each head by head. Nothing is rearranged in memory, and backward writes one gradient of qkv.
 *
 * @param qkv [B, T, 3 * heads * d], d from 1 to 128
 * @param heads number of heads
 * @param options `scale` of the scores, default d^-0.5
 * @returns [B, T, heads * d], heads side by side
 * @throws {ShapeError} if the last axis does not divide into 3 * heads parts of at most 128.
 * @throws {RangeError} if a single head is larger than the adapter's binding limit.
 */
export function selfAttention(
  qkv: Tensor,
  heads: number,
  options: { readonly scale?: number } = {},
): Tensor {
  const d = qkv.shape[qkv.shape.length - 1] / 3 / heads;
  return selfAttentionOp.apply([qkv], { heads, scale: options.scale ?? d ** -0.5 })[0];
}
