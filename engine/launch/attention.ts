/**
 * Attention forward and backward: the passes of the variant that is chosen, in blocks where there
 * are too many tokens for a launch.
 *
 * @module
 */
import type { Tensor } from "../tensor.ts";
import type { Device } from "../device.ts";
import type { DType } from "../dtype.ts";
import { reduceRows } from "../ops/reduce.ts";
import {
  extent,
  heads4,
  inVectors,
  launch,
  MOST_BUFFERS,
  type Operand,
  type Pass,
  perRow,
  type Range,
  sharedHeads,
} from "./attention_pass.ts";
import {
  type Beside,
  besideWithin,
  blockSize,
  blocksOf,
  pairsOf,
  tokensOf,
  viewOf,
  widened,
} from "./attention_blocks.ts";
import {
  ATTENTION_VARIANTS,
  type AttentionVariant,
  attentionVariants,
  type Problem,
  singleFits,
} from "./attention_variants.ts";
import { accumulate, fill } from "./copy.ts";
import { elementwise } from "./elementwise.ts";

export type { Problem } from "./attention_variants.ts";

/** What forward reads and writes. */
export interface ForwardOperands extends Beside {
  /** Queries. */
  readonly q: Operand;
  /** Keys. */
  readonly k: Operand;
  /** Values. */
  readonly v: Operand;
  /** Receives the result. */
  readonly o: Operand;
  /** f32; receives the log-sum-exp of each row's visible scores, near -3e38 where there is none. */
  readonly lse: Operand;
}

/** What backward reads and writes. */
export interface BackwardOperands extends ForwardOperands {
  /** Gradient of the result. */
  readonly dout: Operand;
  /** Receives the gradient of q. */
  readonly dq: Operand;
  /** Receives the gradient of k, a head for every query head; absent where only dq is computed. */
  readonly dk?: Operand;
  /** Receives the gradient of v; there where `dk` is. */
  readonly dv?: Operand;
  /**
   * f32; what the gradient of the bias is added to, per query and key, or per key of every head for
   * a bias that is the same for all queries. Absent where there is none to compute.
   */
  readonly dbias?: Operand;
  /** f32; what the gradient of the gate is added to, per query. Absent where there is none. */
  readonly dgate?: Operand;
}

/** Masks and biases as statistics; backward has the gate beside the log-sum-exp. */
const besideOf = ({ mask, bias }: Beside): Pass["statistics"] => ({
  ...mask && { mask: { operand: mask, written: false } },
  ...bias && { bias: { operand: bias, written: false } },
});

/**
 * Forward in blocks: each is attention of its own, and results are joined with the weights that
 * their log-sum-exps give them. Everything is f32 until the end.
 */
function forwardInBlocks(
  variant: AttentionVariant,
  problem: Problem,
  operands: ForwardOperands,
  size: number,
): void {
  const { batch, heads, tq, d } = problem;
  const { device, dtype } = operands.o.tensor;
  const [q, k, v] = [operands.q, operands.k, operands.v].map((it) => widened(problem, it));
  const o = dtype === "f32" ? operands.o : heads4(device.empty([batch, heads, tq, d]));
  for (const { queries, keys, causal, shift, firstKeys } of blocksOf(problem, size)) {
    const [, count] = queries;
    const part = { ...problem, tq: count, tk: keys[1], causal, shift };
    const [sum, total] = [tokensOf(o, queries), tokensOf(operands.lse, queries)];
    const result = firstKeys ? sum : heads4(device.empty([batch, heads, count, d]));
    const lse = firstKeys ? total : perRow(device.empty([batch, heads, count]));
    forwardWith(variant, part, {
      q: tokensOf(q, queries),
      k: tokensOf(k, keys),
      v: tokensOf(v, keys),
      ...besideWithin(operands, queries, keys),
      o: result,
      lse,
    });
    if (firstKeys) continue;
    const [before, after] = [total, lse].map((it) => viewOf(part, it));
    const weight = device.empty([batch, heads, count, 1]);
    // The share of the new block; beyond 80 it is nothing.
    elementwise(weight, [before, after], {
      expression: "T(1.0) / (1.0 + exp_$V(min(a - b, T(80.0))))",
    });
    elementwise(viewOf(part, sum), [result.tensor, weight], {
      expression: "o + (a - o) * b",
      readOut: true,
    });
    elementwise(before, [after], {
      expression: "max(o, a) + log_$V(1.0 + exp_$V(-abs(o - a)))",
      readOut: true,
    });
    [result.tensor, lse.tensor, weight].forEach((tensor) => tensor.dispose());
  }
  if (o !== operands.o) accumulate(viewOf(problem, operands.o), o.tensor, false);
}

/** Backward in blocks, whose gradients are added in f32. */
function backwardInBlocks(
  variant: AttentionVariant,
  problem: Problem,
  operands: BackwardOperands,
  size: number,
): void {
  const { batch, heads, tq, tk, d } = problem;
  const { dbias, dgate } = operands;
  const { device, dtype } = operands.dq.tensor;
  const wide = (it: Operand) => widened(problem, it);
  const [q, k, v] = [operands.q, operands.k, operands.v].map(wide);
  const [o, dout] = [operands.o, operands.dout].map(wide);
  const total = (target: Operand | undefined, tokens: number) =>
    target && (dtype === "f32" ? target : heads4(device.empty([batch, heads, tokens, d])));
  const [dq, dk, dv] = [total(operands.dq, tq)!, total(operands.dk, tk), total(operands.dv, tk)];
  const blocks = blocksOf(problem, size);
  for (const { queries, keys, causal, shift, firstKeys, firstQueries } of blocks) {
    const part = { ...problem, tq: queries[1], tk: keys[1], causal, shift };
    const [partK, partV] = dk && dv ? keyGradients(device, part, "f32") : [];
    const gradients = {
      dq: heads4(device.empty([batch, heads, queries[1], d])),
      dk: partK,
      dv: partV,
    };
    const lse = tokensOf(operands.lse, queries);
    backwardWith(variant, part, {
      q: tokensOf(q, queries),
      k: tokensOf(k, keys),
      v: tokensOf(v, keys),
      o: tokensOf(o, queries),
      dout: tokensOf(dout, queries),
      ...besideWithin(operands, queries, keys),
      lse,
      ...gradients,
      ...dbias &&
        { dbias: dbias.key === undefined ? tokensOf(dbias, keys) : pairsOf(dbias, queries, keys) },
      ...dgate && { dgate: tokensOf(dgate, queries) },
    });
    const add = (
      target: Operand | undefined,
      range: Range,
      part: Operand | undefined,
      to: boolean,
    ) => {
      if (!target || !part) return;
      accumulate(viewOf(problem, tokensOf(target, range)), viewOf(problem, part), to);
    };
    add(dq, queries, gradients.dq, !firstKeys);
    add(dk, keys, gradients.dk, !firstQueries);
    add(dv, keys, gradients.dv, !firstQueries);
    new Set(Object.values(gradients).map((it) => it?.tensor)).forEach((it) => it?.dispose());
  }
  // Keys of whole blocks that no query sees.
  const seen = Math.max(...blocks.map(({ keys: [first, count] }) => first + count));
  for (const target of [dk, dv]) {
    if (target && seen < tk) fill(viewOf(problem, tokensOf(target, [seen, tk - seen])), 0);
  }
  for (const [to, sum] of [[operands.dq, dq], [operands.dk, dk], [operands.dv, dv]]) {
    if (to && sum && sum !== to) accumulate(viewOf(problem, to), sum.tensor, false);
  }
}

function forwardWith(variant: AttentionVariant, problem: Problem, operands: ForwardOperands): void {
  const { q, k, v, gate, o, lse } = operands;
  const size = blockSize([q, k, v, o], operands);
  if (Math.max(problem.tq, problem.tk) > size) {
    forwardInBlocks(variant, problem, operands, size);
    return;
  }
  launch(variant, problem, {
    kind: "forward",
    reads: { q, k, v },
    writes: { o },
    statistics: {
      lse: { operand: lse, written: true },
      ...besideOf(operands),
      ...gate && { gate: { operand: gate, written: false } },
    },
  });
}

function backwardAtOnce(
  variant: AttentionVariant,
  problem: Problem,
  operands: BackwardOperands & Required<Pick<BackwardOperands, "dk" | "dv">>,
): void {
  const { q, k, v, o, lse, dout, dq, dk, dv } = operands;
  const { device } = lse.tensor;
  const rows = [problem.batch, problem.heads, problem.tq];
  const pair = heads4(device.empty([...rows, 2]));
  // Sums over many keys need more than the bits of f16.
  const sum: Pass["statistics"] = dq.tensor.dtype === "f16"
    ? { sum: { operand: heads4(device.empty([...rows, problem.d])), written: true } }
    : {};
  launch(variant, problem, {
    kind: "backward",
    reads: { q, k, v, o, do: dout },
    writes: { dq, dk, dv },
    statistics: {
      lse: { operand: lse, written: false },
      pair: { operand: pair, written: true },
      ...sum,
      ...besideOf(operands),
    },
  });
}

/** Whether q, k and v are parts of one fused tensor, which kernels bind once. */
const isFused = ({ q, k, v }: ForwardOperands): boolean =>
  [k, v].every(({ tensor, token, start, width }) =>
    tensor.storage === q.tensor.storage && token === q.token &&
    Math.abs(start + tensor.offset - q.start - q.tensor.offset) + width <= token
  );

/** Whether the single pass needs no more storage buffers than WebGPU grants. */
function singleBinds(operands: BackwardOperands): boolean {
  const { q, dq, dk, dv, mask } = operands;
  const inputs = (isFused(operands) ? 1 : 3) + 2; // and o, do
  const gradients = new Set([dq, dk, dv].map((it) => it?.tensor.storage)).size;
  const sums = q.tensor.dtype === "f16" ? 1 : 0;
  const statistics = 2 + sums + (mask ? 1 : 0); // lse, pair
  return inputs + gradients + statistics <= MOST_BUFFERS;
}

/**
 * Memory for the gradients of k and v, a head of each for every query head. Where scores have a
 * mask or a bias it is one tensor, so that a kernel binds 8 buffers at most.
 */
export function keyGradients(
  device: Device,
  { batch, heads, tk, d, scored }: Problem,
  dtype: DType,
): [dk: Operand, dv: Operand] {
  if (!scored) {
    const own = () => heads4(device.empty([batch, heads, tk, d], dtype));
    return [own(), own()];
  }
  const both = device.empty([batch, heads, tk, 2 * d], dtype);
  const dk = { ...heads4(both), width: d };
  return [dk, { ...dk, start: d }];
}

/** Per query, lse, delta = sum(do * o) and, where there is one, the gate of the bias. */
function pairOf(problem: Problem, { lse, o, dout, gate }: BackwardOperands): Operand {
  const { device } = lse.tensor;
  const { batch, heads, tq, d } = problem;
  const pair = heads4(device.empty([batch, heads, tq, gate ? 3 : 2]));
  const products = device.empty([batch, heads, tq, d]);
  elementwise(products, [viewOf(problem, dout), viewOf(problem, o)], { expression: "a * b" });
  const delta = reduceRows(products);
  products.dispose();
  [viewOf(problem, lse), delta, ...gate ? [viewOf(problem, gate)] : []].forEach((it, i) =>
    accumulate(statisticOf(problem, pair, i), it, false)
  );
  delta.dispose();
  return pair;
}

/** One of the statistics that lie side by side, [B, H, Tq, 1]. */
const statisticOf = (problem: Problem, pair: Operand, i: number): Tensor =>
  viewOf(problem, { ...pair, start: i, width: 1 });

/** Adds up the gradient of the bias: one launch for all that share no element of it. */
function biasGradient(
  variant: AttentionVariant,
  problem: Problem,
  operands: BackwardOperands,
  pair: Operand,
): void {
  const { q, k, v, dout, dbias } = operands;
  if (!dbias) return;
  const pass: Pass = {
    kind: dbias.key === undefined ? "biasKv" : "biasQ",
    reads: { q, k, v, do: dout },
    writes: {},
    statistics: {
      pair: { operand: pair, written: false },
      ...besideOf(operands),
      dbias: { operand: dbias, written: true },
    },
    gated: operands.gate !== undefined,
  };
  const apart = (stride: number, count: number, period = stride === 0 ? 1 : count): Range[] =>
    Array.from({ length: count / period }, (_, i) => [i * period, period]);
  for (const batches of apart(dbias.batch, problem.batch, dbias.period)) {
    for (const heads of apart(dbias.head, problem.heads)) {
      launch(variant, problem, pass, batches, heads);
    }
  }
}

function backwardWith(
  variant: AttentionVariant,
  problem: Problem,
  operands: BackwardOperands,
): void {
  const { q, k, v, o, lse, dout, dq, dk, dv, dgate } = operands;
  const { device } = lse.tensor;
  const { batch, heads, tq, tk, scored } = problem;
  const size = blockSize([q, k, v, o, dout, dq, ...dk ? [dk] : []], operands);
  if (Math.max(tq, tk) > size) {
    backwardInBlocks(variant, problem, operands, size);
    return;
  }
  const vectors = dk && dv && inVectors(problem, [q, k, v, o, dout, dq, dk, dv]);
  if (variant.single && vectors && singleFits(device, problem) && singleBinds(operands)) {
    backwardAtOnce(variant, problem, { ...operands, dk, dv });
    return;
  }
  // Else a mask would be the ninth buffer.
  const pair = scored || operands.mask && !isFused(operands)
    ? pairOf(problem, operands)
    : undefined;
  const delta = pair ?? perRow(device.empty([batch, heads, tq]));
  const statistics = (written: boolean): Pass["statistics"] =>
    pair ? { pair: { operand: pair, written }, ...besideOf(operands) } : {
      lse: { operand: lse, written: false },
      delta: { operand: delta, written },
      ...besideOf(operands),
    };
  const gated = operands.gate !== undefined;
  const queries = () =>
    launch(variant, problem, {
      kind: "backwardQ",
      reads: { q, k, v, ...!pair && { o }, do: dout },
      writes: { dq },
      statistics: statistics(dgate !== undefined || !pair),
      gated,
    });
  if (!pair) queries();
  else biasGradient(variant, problem, operands, pair);
  if (dk && dv) {
    launch(variant, problem, {
      kind: "backwardKv",
      reads: { q, k, v, do: dout },
      writes: { dk, dv },
      statistics: statistics(false),
      gated,
    });
  }
  if (!pair) return;
  // Last, for the gradient of the gate takes the gate's place.
  queries();
  if (dgate) accumulate(viewOf(problem, dgate), statisticOf(problem, pair, 2), true);
}

/** Memory for the tuner to try a variant on. */
interface Scratch extends Beside {
  /** One scalar per channel and query. */
  queries(): Operand;
  /** One scalar per channel and key, of the heads that queries share. */
  keys(): Operand;
  /** One f32 per query. */
  lse(): Operand;
  /** Gradients of k and v. */
  gradients(): [dk: Operand, dv: Operand];
}

/** Memory of its own in place of an operand's. */
function like(operand: Operand, { batch, heads }: Problem): Operand {
  const { device, dtype } = operand.tensor;
  return { ...operand, start: 0, tensor: device.empty([extent(operand, batch, heads)], dtype) };
}

/** The variant to run: the tuner's choice, else by the kind of adapter. */
function choose(
  direction: "forward" | "backward",
  problem: Problem,
  { q, mask, bias, gate }: ForwardOperands,
  launchOn: (variant: AttentionVariant, scratch: Scratch) => void,
): AttentionVariant {
  const { device, dtype } = q.tensor;
  const { batch, heads, tq, tk, d, causal, shift, shared } = problem;
  const names = attentionVariants(device, direction, problem);
  const up = (tokens: number) => Math.ceil(tokens / 32) * 32;
  const shape = `${2 ** Math.ceil(Math.log2(batch * heads))}x${up(tq)}x${up(tk)}x${d}`;
  const options = [
    causal ? (shift === 0 ? "/causal" : "/causal-end") : "",
    mask ? (mask.key === undefined ? "/mask" : "/pair-mask") : "",
    bias ? (gate ? "/gated-bias" : "/bias") : "",
    shared > 1 ? `/shared-${shared}` : "",
  ];
  const key = `attention/${direction}/${dtype}/${shape}${options.join("")}`;
  const name = device.tuning.pick(key, names, () => (name) =>
    launchOn(ATTENTION_VARIANTS[name], {
      queries: () => heads4(device.empty([batch, heads, tq, d], dtype)),
      keys: () => sharedHeads(heads4(device.empty([batch, heads / shared, tk, d], dtype)), shared),
      lse: () => perRow(device.empty([batch, heads, tq])),
      gradients: () => keyGradients(device, problem, dtype),
      mask: mask && like(mask, problem),
      bias: bias && like(bias, problem),
      gate: gate && like(gate, problem),
    }));
  return ATTENTION_VARIANTS[name];
}

/** Writes the result to `o` and the log-sum-exp of each row to `lse`. */
export function runForward(problem: Problem, operands: ForwardOperands): void {
  const variant = choose("forward", problem, operands, (variant, scratch) => {
    const { mask, bias, gate } = scratch;
    const [q, o, k, v] = [scratch.queries(), scratch.queries(), scratch.keys(), scratch.keys()];
    forwardWith(variant, problem, { q, k, v, mask, bias, gate, o, lse: scratch.lse() });
  });
  forwardWith(variant, problem, operands);
}

/** Writes the gradients. */
export function runBackward(problem: Problem, operands: BackwardOperands): void {
  const variant = choose("backward", problem, operands, (variant, scratch) => {
    const { mask, bias, gate } = scratch;
    const [q, o, dout, dq] = Array.from({ length: 4 }, scratch.queries);
    const [k, v] = [scratch.keys(), scratch.keys()];
    const [dk, dv] = scratch.gradients();
    const lse = scratch.lse();
    backwardWith(variant, problem, { q, k, v, mask, bias, gate, o, lse, dout, dq, dk, dv });
  });
  backwardWith(variant, problem, operands);
}
