/**
 * Launching the attention kernels: how operands are addressed, and how launches are split where a
 * binding would exceed the adapter's limit or loops would be too long.
 *
 * @module
 */
import type { Tensor } from "../tensor.ts";
import { accumulate, converted, fill } from "./copy.ts";
import { elementwise } from "./elementwise.ts";
import {
  ATTENTION_VARIANTS,
  type AttentionVariant,
  attentionVariants,
  MOST_TOKENS,
  type PassKind,
  type Problem,
  singleFits,
} from "./attention_variants.ts";

export type { Problem } from "./attention_variants.ts";

/** A tensor addressed by batch, head and token; strides in elements. */
export interface Operand {
  /** Memory; f32 or f16. */
  readonly tensor: Tensor;
  /** First element, relative to the tensor. */
  readonly start: number;
  /** Elements between batches. */
  readonly batch: number;
  /** Elements between heads. */
  readonly head: number;
  /** Elements between tokens. */
  readonly token: number;
  /** Number of tokens. */
  readonly tokens: number;
  /** Elements per token: the head size, or less for statistics. */
  readonly width: number;
}

/** Walks a [B, H, T, d] tensor whose last axis has stride 1. */
export function heads4(tensor: Tensor): Operand {
  const [batch, head, token] = tensor.strides;
  const [, , tokens, width] = tensor.shape;
  return { tensor, start: 0, batch, head, token, tokens, width };
}

/** Walks part `part` of `parts` of a dense [B, T, parts * H * d] tensor. */
export function headsOf(tensor: Tensor, heads: number, part = 0, parts = 1): Operand {
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

/** Walks a dense [B, T] tensor that all heads share. */
export function perToken(tensor: Tensor): Operand {
  const [, tokens] = tensor.shape;
  return { tensor, start: 0, batch: tokens, head: 0, token: 1, tokens, width: 1 };
}

/** Walks a dense [B, H, T] tensor. */
export function perRow(tensor: Tensor): Operand {
  const [, heads, tokens] = tensor.shape;
  return { tensor, start: 0, batch: heads * tokens, head: tokens, token: 1, tokens, width: 1 };
}

type Operands = Readonly<Record<string, Operand>>;

/** One of the computations. */
interface Pass {
  readonly kind: PassKind;
  /** Only read, `d` elements per token. */
  readonly reads: Operands;
  /** Written, `d` elements per token. */
  readonly writes: Operands;
  /** Written and read back by other passes: scalars per token, or f32 where the rest may be f16. */
  readonly statistics: Readonly<Record<string, { readonly operand: Operand; written: boolean }>>;
}

/** Elements from the first to behind the last that the operand's heads touch. */
function extent(operand: Operand, batches: number, heads: number): number {
  return (batches - 1) * operand.batch + (heads - 1) * operand.head +
    (operand.tokens - 1) * operand.token + operand.width;
}

/** Whether every row of `d` elements can be read by vec4, however batches and heads are split. */
const inVectors = ({ d }: Problem, operands: readonly Operand[]): boolean =>
  d % 4 === 0 &&
  operands.every(({ tensor, start, batch, head, token, width }) =>
    width !== d || [tensor.offset + start, batch, head, token].every((x) => x % 4 === 0)
  );

type Range = readonly [first: number, count: number];

function halves([first, count]: Range): [Range, Range] {
  const half = Math.ceil(count / 2);
  return [[first, half], [first + half, count - half]];
}

/** Part of a buffer that is bound, in elements from the beginning of the buffer. */
interface Window {
  readonly tensor: Tensor;
  first: number;
  end: number;
}

/**
 * Runs one pass over all batches and heads, split where they are too many for a launch or a window
 * would exceed the binding limit.
 */
function launch(
  variant: AttentionVariant,
  problem: Problem,
  pass: Pass,
  batches: Range = [0, problem.batch],
  heads: Range = [0, problem.heads],
): void {
  const { reads, writes, statistics } = pass;
  const all = [
    ...Object.entries(reads),
    ...Object.entries(writes),
    ...Object.entries(statistics).map(([name, { operand }]) => [name, operand] as const),
  ];
  const { d } = problem;
  const { device, dtype } = all[0][1].tensor;
  const firstOf = ({ tensor, start, batch, head }: Operand) =>
    tensor.offset + start + batches[0] * batch + heads[0] * head;
  const windows: Window[] = [];
  const windowOf: Record<string, Window> = {};
  const bufferOf: Record<string, string> = {};
  for (const [name, operand] of all) {
    const { tensor } = operand;
    const at = firstOf(operand);
    const end = at + extent(operand, batches[1], heads[1]);
    const first = at - at % (device.offsetAlignment / tensor.itemSize);
    // Gradients of a fused tensor: WebGPU lets a buffer be bound for writing only once.
    const before = name in writes
      ? Object.keys(writes).find((n) => windowOf[n]?.tensor === tensor)
      : undefined;
    const shared = before === undefined ? undefined : windowOf[before];
    if (shared) {
      shared.first = Math.min(shared.first, first);
      shared.end = Math.max(shared.end, end);
    } else {
      windows.push({ tensor, first, end });
    }
    windowOf[name] = shared ?? windows[windows.length - 1];
    bufferOf[name] = `${before ?? name}_data`;
  }
  const most = device.gpu.limits.maxComputeWorkgroupsPerDimension;
  if (
    batches[1] > most || heads[1] > most ||
    windows.some((w) => (w.end - w.first) * w.tensor.itemSize > device.bindingLimit)
  ) {
    const launchPart = (b: Range, h: Range) => launch(variant, problem, pass, b, h);
    if (batches[1] > 1) halves(batches).forEach((half) => launchPart(half, heads));
    else if (heads[1] > 1) halves(heads).forEach((half) => launchPart(batches, half));
    else {
      throw new RangeError(
        `attention: ${problem.tk} tokens of a head exceed the adapter's binding limit`,
      );
    }
    return;
  }

  const vector = inVectors(problem, all.map(([, operand]) => operand));
  const params: Record<string, number> = { tq: problem.tq, tk: problem.tk, scale: problem.scale };
  const names: Record<string, string> = {};
  all.forEach(([name, operand], i) => {
    const step = vector && operand.width === d ? 4 : 1;
    params[`offset_${name}`] = (firstOf(operand) - windowOf[name].first) / step;
    params[`batch_${name}`] = operand.batch / step;
    params[`head_${name}`] = operand.head / step;
    params[`token_${name}`] = operand.token / step;
    names[`NAME${i}`] = name;
    names[`BUFFER${i}`] = bufferOf[name];
    if (name in statistics) {
      names[`ACCESS${i}`] = statistics[name].written ? "read_write" : "read";
      names[`TYPE${i}`] = step === 4 ? `vec4<${operand.tensor.dtype}>` : operand.tensor.dtype;
    }
  });
  const chosen = variant.kernelOf(device, pass.kind, problem, vector);
  const tokens = pass.kind === "backwardKv" ? problem.tk : problem.tq;
  const total = "sum" in statistics ? "sum" : "dq";
  device.run(
    chosen.kernel,
    {
      D: d,
      D4: Math.ceil(d / 4),
      VEC: vector,
      E: dtype,
      CAUSAL: problem.causal,
      MASK: "mask" in statistics,
      READS: Object.keys(reads).length,
      WIDE: Object.keys(reads).length + Object.keys(writes).length,
      OPERANDS: all.length,
      SHARED: all.length - windows.length,
      SUMS: total === "sum",
      TOTAL: total,
      TOTAL_DATA: bufferOf[total] ?? "",
      ...names,
      ...chosen.constants,
    },
    windows.map(({ tensor, first, end }) => ({
      tensor,
      start: first - tensor.offset,
      count: end - first,
    })),
    params,
    [Math.ceil(tokens / chosen.tokens), heads[1], batches[1]],
  );
}

/** What forward reads and writes. */
export interface ForwardOperands {
  /** Queries. */
  readonly q: Operand;
  /** Keys. */
  readonly k: Operand;
  /** Values. */
  readonly v: Operand;
  /** u32 or f32 per key: keys where it is 0 are hidden. */
  readonly mask?: Operand;
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
  /** Receives the gradient of k; absent where only dq is computed. */
  readonly dk?: Operand;
  /** Receives the gradient of v; there where `dk` is. */
  readonly dv?: Operand;
}

const maskOf = ({ mask }: ForwardOperands): Pass["statistics"] =>
  mask ? { mask: { operand: mask, written: false } } : {};

/** `count` tokens of an operand, from `first` on. */
function tokensOf(operand: Operand, [first, tokens]: Range): Operand {
  return { ...operand, start: operand.start + first * operand.token, tokens };
}

/** An operand as a view [B, H, T, width]. */
function viewOf({ batch: batches, heads }: Problem, operand: Operand): Tensor {
  const { tensor, start, batch, head, token, tokens, width } = operand;
  const shape = [batches, heads, tokens, width];
  return tensor.view(shape, [batch, head, token, 1], tensor.offset + start);
}

/** An f32 operand: itself, or a dense copy. */
function widened(problem: Problem, operand: Operand): Operand {
  return operand.tensor.dtype === "f32"
    ? operand
    : heads4(converted(viewOf(problem, operand), "f32"));
}

/** Queries by keys of one launch. */
interface Block {
  readonly queries: Range;
  readonly keys: Range;
  /** Whether query i sees keys 0 to i of the block only, or all of them. */
  readonly causal: boolean;
  /** Whether it is the first block with these queries. */
  readonly firstKeys: boolean;
  /** Whether it is the first block with these keys. */
  readonly firstQueries: boolean;
}

/** The most tokens of one launch: what loops and bindings allow. */
function blockSize(operands: readonly Operand[]): number {
  const { device } = operands[0].tensor;
  const widest = Math.max(...operands.map(({ token, tensor }) => token * tensor.itemSize));
  const bindable = Math.floor((device.bindingLimit - device.offsetAlignment) / widest / 8) * 8;
  return Math.max(8, Math.min(MOST_TOKENS, bindable));
}

/**
 * Cuts a problem into blocks of `size` tokens; those that `causal` hides altogether are left out.
 */
function blocksOf({ tq, tk, causal }: Problem, size: number): Block[] {
  const cut = (count: number) =>
    Array.from({ length: Math.ceil(count / size) }, (_, i): Range => {
      return [i * size, Math.min(size, count - i * size)];
    });
  return cut(tq).flatMap((queries) =>
    cut(tk).filter(([first]) => !causal || first <= queries[0]).map((keys) => ({
      queries,
      keys,
      causal: causal && keys[0] === queries[0],
      firstKeys: keys[0] === 0,
      firstQueries: queries[0] === (causal ? keys[0] : 0),
    }))
  );
}

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
  for (const { queries, keys, causal, firstKeys } of blocksOf(problem, size)) {
    const [, count] = queries;
    const part = { ...problem, tq: count, tk: keys[1], causal };
    const [sum, total] = [tokensOf(o, queries), tokensOf(operands.lse, queries)];
    const result = firstKeys ? sum : heads4(device.empty([batch, heads, count, d]));
    const lse = firstKeys ? total : perRow(device.empty([batch, heads, count]));
    forwardWith(variant, part, {
      q: tokensOf(q, queries),
      k: tokensOf(k, keys),
      v: tokensOf(v, keys),
      ...operands.mask && { mask: tokensOf(operands.mask, keys) },
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
  const { device, dtype } = operands.dq.tensor;
  const wide = (it: Operand) => widened(problem, it);
  const [q, k, v] = [operands.q, operands.k, operands.v].map(wide);
  const [o, dout] = [operands.o, operands.dout].map(wide);
  const total = (target: Operand | undefined, tokens: number) =>
    target && (dtype === "f32" ? target : heads4(device.empty([batch, heads, tokens, d])));
  const [dq, dk, dv] = [total(operands.dq, tq)!, total(operands.dk, tk), total(operands.dv, tk)];
  for (const { queries, keys, causal, firstKeys, firstQueries } of blocksOf(problem, size)) {
    const part = { ...problem, tq: queries[1], tk: keys[1], causal };
    const gradient = (target: Operand | undefined, [, tokens]: Range) =>
      target && heads4(device.empty([batch, heads, tokens, d]));
    const gradients = {
      dq: gradient(dq, queries)!,
      dk: gradient(dk, keys),
      dv: gradient(dv, keys),
    };
    const lse = tokensOf(operands.lse, queries);
    backwardWith(variant, part, {
      q: tokensOf(q, queries),
      k: tokensOf(k, keys),
      v: tokensOf(v, keys),
      o: tokensOf(o, queries),
      dout: tokensOf(dout, queries),
      ...operands.mask && { mask: tokensOf(operands.mask, keys) },
      lse,
      ...gradients,
    });
    const add = (
      target: Operand | undefined,
      range: Range,
      part: Operand | undefined,
      to: boolean,
    ) => {
      if (!target || !part) return;
      accumulate(viewOf(problem, tokensOf(target, range)), part.tensor, to);
      part.tensor.dispose();
    };
    add(dq, queries, gradients.dq, !firstKeys);
    add(dk, keys, gradients.dk, !firstQueries);
    add(dv, keys, gradients.dv, !firstQueries);
  }
  // Keys of whole blocks that no query sees.
  const seen = problem.causal ? Math.ceil(tq / size) * size : tk;
  for (const target of [dk, dv]) {
    if (target && seen < tk) fill(viewOf(problem, tokensOf(target, [seen, tk - seen])), 0);
  }
  for (const [to, sum] of [[operands.dq, dq], [operands.dk, dk], [operands.dv, dv]]) {
    if (to && sum && sum !== to) accumulate(viewOf(problem, to), sum.tensor, false);
  }
}

function forwardWith(variant: AttentionVariant, problem: Problem, operands: ForwardOperands): void {
  const { q, k, v, o, lse } = operands;
  const size = blockSize([q, k, v, o]);
  if (Math.max(problem.tq, problem.tk) > size) {
    forwardInBlocks(variant, problem, operands, size);
    return;
  }
  launch(variant, problem, {
    kind: "forward",
    reads: { q, k, v },
    writes: { o },
    statistics: { lse: { operand: lse, written: true }, ...maskOf(operands) },
  });
}

function backwardAtOnce(
  variant: AttentionVariant,
  problem: Problem,
  operands: Required<Omit<BackwardOperands, "mask">> & Pick<BackwardOperands, "mask">,
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
      ...maskOf(operands),
    },
  });
}

function backwardWith(
  variant: AttentionVariant,
  problem: Problem,
  operands: BackwardOperands,
): void {
  const { q, k, v, o, lse, dout, dq, dk, dv } = operands;
  const { device } = lse.tensor;
  const { batch, heads, tq, tk } = problem;
  const size = blockSize([q, k, v, o, dout, dq]);
  if (Math.max(tq, tk) > size) {
    backwardInBlocks(variant, problem, operands, size);
    return;
  }
  const vectors = dk && dv && inVectors(problem, [q, k, v, o, dout, dq, dk, dv]);
  if (variant.single && vectors && singleFits(problem)) {
    backwardAtOnce(variant, problem, { ...operands, dk, dv });
    return;
  }
  const delta = perRow(device.empty([batch, heads, tq]));
  launch(variant, problem, {
    kind: "backwardQ",
    reads: { q, k, v, o, do: dout },
    writes: { dq },
    statistics: {
      lse: { operand: lse, written: false },
      delta: { operand: delta, written: true },
      ...maskOf(operands),
    },
  });
  if (!dk || !dv) return;
  launch(variant, problem, {
    kind: "backwardKv",
    reads: { q, k, v, do: dout },
    writes: { dk, dv },
    statistics: {
      lse: { operand: lse, written: false },
      delta: { operand: delta, written: false },
      ...maskOf(operands),
    },
  });
}

/** Memory for the tuner to try a variant on. */
interface Scratch {
  /** One scalar per channel. */
  tokens(count: number): Operand;
  /** One f32 per query. */
  lse(): Operand;
  /** A key mask where the problem at hand has one. */
  readonly mask?: Operand;
}

/** The variant to run: the tuner's choice, else by the kind of adapter. */
function choose(
  direction: "forward" | "backward",
  problem: Problem,
  { q, mask }: ForwardOperands,
  launchOn: (variant: AttentionVariant, scratch: Scratch) => void,
): AttentionVariant {
  const { device, dtype } = q.tensor;
  const { batch, heads, tq, tk, d, causal } = problem;
  const names = attentionVariants(device, direction, problem);
  const up = (tokens: number) => Math.ceil(tokens / 32) * 32;
  const shape = `${2 ** Math.ceil(Math.log2(batch * heads))}x${up(tq)}x${up(tk)}x${d}`;
  const key = `attention/${direction}/${dtype}/${shape}${causal ? "/causal" : ""}${
    mask ? "/mask" : ""
  }`;
  const name = device.tuning.pick(key, names, () => (name) =>
    launchOn(ATTENTION_VARIANTS[name], {
      tokens: (count) => heads4(device.empty([batch, heads, count, d], dtype)),
      lse: () => perRow(device.empty([batch, heads, tq])),
      mask: mask && perToken(device.empty([batch, tk], mask.tensor.dtype)),
    }));
  return ATTENTION_VARIANTS[name];
}

/** Writes the result to `o` and the log-sum-exp of each row to `lse`. */
export function runForward(problem: Problem, operands: ForwardOperands): void {
  const { tq, tk } = problem;
  const variant = choose("forward", problem, operands, (variant, scratch) => {
    const [q, k, v, o] = [tq, tk, tk, tq].map(scratch.tokens);
    forwardWith(variant, problem, { q, k, v, mask: scratch.mask, o, lse: scratch.lse() });
  });
  forwardWith(variant, problem, operands);
}

/** Writes the gradients. */
export function runBackward(problem: Problem, operands: BackwardOperands): void {
  const { tq, tk } = problem;
  const variant = choose("backward", problem, operands, (variant, scratch) => {
    const [q, o, dout, dq] = [tq, tq, tq, tq].map(scratch.tokens);
    const [k, v, dk, dv] = [tk, tk, tk, tk].map(scratch.tokens);
    const [mask, lse] = [scratch.mask, scratch.lse()];
    backwardWith(variant, problem, { q, k, v, mask, o, lse, dout, dq, dk, dv });
  });
  backwardWith(variant, problem, operands);
}
