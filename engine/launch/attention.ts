/**
 * Launching the attention kernels: how operands are addressed, and how launches are split where a
 * binding would exceed the adapter's limit or loops would be too long.
 *
 * @module
 */
import type { Tensor } from "../tensor.ts";
import type { Device, TensorWindow } from "../device.ts";
import type { DType } from "../dtype.ts";
import { ROW_BYTES } from "../images.ts";
import { reduceRows } from "../ops/reduce.ts";
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
  /** Elements between keys, of what lies per query and key. */
  readonly key?: number;
  /** Keys of that. */
  readonly keys?: number;
  /** Query heads that share a head; default 1. */
  readonly shared?: number;
}

/** Walks a [B, H, T, d] tensor whose last axis has stride 1. */
export function heads4(tensor: Tensor): Operand {
  const [batch, head, token] = tensor.strides;
  const [, , tokens, width] = tensor.shape;
  return { tensor, start: 0, batch, head, token, tokens, width };
}

/** The same where `shared` query heads read each head of the tensor. */
export function sharedHeads(operand: Operand, shared: number): Operand {
  return shared === 1 ? operand : { ...operand, shared };
}

/** Walks heads of `width` elements in a dense [B, T, N] tensor, `first` heads from its start. */
export function headsOf(tensor: Tensor, width: number, first = 0): Operand {
  const [, tokens, all] = tensor.shape;
  return {
    tensor,
    start: first * width,
    batch: tokens * all,
    head: width,
    token: all,
    tokens,
    width,
  };
}

/**
 * Walks what lies per query and key: a tensor that broadcasts to [B, H, Tq, Tk], whose last axis
 * has stride 1.
 */
export function perPair(tensor: Tensor): Operand {
  const [batch, head, token, key] = tensor.shape.map((size, i) =>
    size === 1 ? 0 : tensor.strides[i]
  );
  const [, , tokens, keys] = tensor.shape;
  return { tensor, start: 0, batch, head, token, tokens, width: 1, key, keys };
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

/** Storage buffers that WebGPU grants to every kernel. */
const MOST_BUFFERS = 8;

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
  const { shared = 1, key = 0, keys = 1 } = operand;
  return (batches - 1) * operand.batch + (Math.ceil(heads / shared) - 1) * operand.head +
    (operand.tokens - 1) * operand.token + (keys - 1) * key + operand.width;
}

/** Whether every row of `d` elements can be read by vec4, however batches and heads are split. */
const inVectors = ({ d }: Problem, operands: readonly Operand[]): boolean =>
  d % 4 === 0 &&
  operands.every(({ tensor, start, batch, head, token, width }) =>
    width !== d || [tensor.offset + start, batch, head, token].every((x) => x % 4 === 0)
  );

type Range = readonly [first: number, count: number];

/** Two ranges, the first of a multiple of `step`. */
function halves([first, count]: Range, step = 1): [Range, Range] {
  const half = Math.ceil(count / step / 2) * step;
  return [[first, half], [first + half, count - half]];
}

/** Part of a buffer that is bound, in elements from the beginning of the buffer. */
interface Window {
  /** "read" or "written", by operands that may share it, or the name of a statistic. */
  readonly use: string;
  /** Its first operand. */
  readonly name: string;
  readonly tensor: Tensor;
  first: number;
  end: number;
}

/** Parameters of an operand, and what its memory is called. */
interface Fields {
  readonly offset: string;
  readonly batch: string;
  readonly head: string;
  readonly token: string;
  readonly key: string;
  readonly data: string;
}

const knownFields = new Map<string, Fields>();

/** Names of what belongs to an operand, put together once. */
function fieldsOf(name: string): Fields {
  let fields = knownFields.get(name);
  if (!fields) {
    knownFields.set(
      name,
      fields = {
        offset: `offset_${name}`,
        batch: `batch_${name}`,
        head: `head_${name}`,
        token: `token_${name}`,
        key: `key_${name}`,
        data: `${name}_data`,
      },
    );
  }
  return fields;
}

/** Operands of the backward pass with everything that there is. */
const MOST_OPERANDS = 16;
/** Names of constants by place, put together once. */
const CONSTANTS = Array.from({ length: MOST_OPERANDS }, (_, i) => ({
  NAME: `NAME${i}`,
  HEAD: `HEAD${i}`,
  DATA: `DATA${i}`,
  BUFFER: `BUFFER${i}`,
  ACCESS: `ACCESS${i}`,
  TYPE: `TYPE${i}`,
}));

/** Products of queries, keys and channels from which on copies are a small part of the time. */
const WORTH_COPYING = 2 ** 22;

/**
 * How windows that are only read are copied into textures, a token per row; undefined where they
 * cannot be.
 */
function imagesOf(
  { heads, tq, tk, d }: Problem,
  reads: Operands,
  batches: Range,
  windowOf: Readonly<Record<string, Window>>,
): Map<Window, TensorWindow> | undefined {
  const { device } = Object.values(reads)[0].tensor;
  // Textures are no tensors: who limits the memory of these must not find more taken.
  if (device.memory.limitBytes !== Infinity) return undefined;
  if (batches[1] * heads * tq * tk * d < WORTH_COPYING) return undefined;
  const most = device.gpu.limits.maxTextureDimension2D;
  const images = new Map<Window, TensorWindow>();
  for (const [name, operand] of Object.entries(reads)) {
    const { tensor, start, batch, head, token, tokens, width, shared = 1 } = operand;
    const columns = start % token + (Math.ceil(heads / shared) - 1) * head + width;
    const row = Math.floor((start + batches[0] * batch) / token);
    const height = (batches[1] - 1) * (batch / token) + tokens;
    const bytesPerRow = token * tensor.itemSize;
    const texels = token / 4;
    const image = { width: texels, height, bytesPerRow };
    const first = row * token;
    const known = images.get(windowOf[name]);
    const fits = tensor.dtype === "f32" && columns <= token && batch % token === 0 &&
      bytesPerRow % ROW_BYTES === 0 && texels + 8 <= most && height + 64 <= most &&
      first + height * token <= tensor.size &&
      (!known || known.tensor === tensor && known.start === first &&
          known.image!.height === height && known.image!.bytesPerRow === bytesPerRow);
    if (!fits) return undefined;
    images.set(windowOf[name], { tensor, start: first, count: height * token, image });
  }
  return images.size <= device.gpu.limits.maxStorageTexturesPerShaderStage ? images : undefined;
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
  const firstOf = ({ tensor, start, batch, head, shared = 1 }: Operand) =>
    tensor.offset + start + batches[0] * batch + Math.floor(heads[0] / shared) * head;
  const windows: Window[] = [];
  const windowOf: Record<string, Window> = {};
  for (const [name, operand] of all) {
    const { tensor } = operand;
    const at = firstOf(operand);
    const end = at + extent(operand, batches[1], heads[1]);
    const first = at - at % (device.offsetAlignment / tensor.itemSize);
    const use = name in reads ? "read" : name in writes ? "written" : name;
    // Parts of a fused tensor: WebGPU lets no two bindings overlap where one is for writing, and a
    // plan binds all of them so.
    let window = windows.find((it) =>
      it.use === use && it.tensor.storage === tensor.storage &&
      (first < it.end && it.first < end ||
        (Math.max(it.end, end) - Math.min(it.first, first)) * tensor.itemSize <=
          device.bindingLimit)
    );
    if (window) {
      window.first = Math.min(window.first, first);
      window.end = Math.max(window.end, end);
    } else {
      windows.push(window = { use, name, tensor, first, end });
    }
    windowOf[name] = window;
  }
  const most = device.workgroupLimit;
  if (
    batches[1] > most || heads[1] > most ||
    windows.some((w) => (w.end - w.first) * w.tensor.itemSize > device.bindingLimit)
  ) {
    const launchPart = (b: Range, h: Range) => launch(variant, problem, pass, b, h);
    if (batches[1] > 1) halves(batches).forEach((half) => launchPart(half, heads));
    else if (heads[1] > 1) {
      // Heads that share keys stay together until they are all that is left.
      const step = heads[1] > problem.shared ? problem.shared : 1;
      halves(heads, step).forEach((half) => launchPart(batches, half));
    } else {
      throw new RangeError(
        `attention: ${problem.tk} tokens of a head exceed the adapter's binding limit`,
      );
    }
    return;
  }

  const vector = inVectors(problem, all.map(([, operand]) => operand));
  const { tq, tk, scale, causal, shift, scored } = problem;
  const params: Record<string, number> = { tq, tk, scale };
  const offset = causal && shift !== 0;
  if (offset) params.shift = shift;
  const names: Record<string, string> = {};
  windows.forEach(({ use, name, tensor }, i) => {
    const statistic = statistics[name];
    const written = statistic?.written ?? use === "written";
    const { BUFFER, ACCESS, TYPE } = CONSTANTS[i];
    names[BUFFER] = fieldsOf(name).data;
    names[ACCESS] = written ? "read_write" : "read";
    names[TYPE] = !statistic
      ? "Element"
      : vector && statistic.operand.width === d
      ? `vec4<${tensor.dtype}>`
      : tensor.dtype;
  });
  all.forEach(([name, operand], i) => {
    const step = vector && operand.width === d ? 4 : 1;
    const field = fieldsOf(name);
    params[field.offset] = (firstOf(operand) - windowOf[name].first) / step;
    params[field.batch] = operand.batch / step;
    params[field.head] = operand.head / step;
    params[field.token] = operand.token / step;
    if (operand.key !== undefined || name === "dbias") params[field.key] = operand.key ?? 0;
    const { NAME, HEAD, DATA } = CONSTANTS[i];
    names[NAME] = name;
    names[HEAD] = operand.shared ? `(group.y / ${operand.shared}u)` : "group.y";
    names[DATA] = fieldsOf(windowOf[name].name).data;
  });
  const chosen = variant.kernelOf(device, pass.kind, problem, vector);
  const images = chosen.images && vector ? imagesOf(problem, reads, batches, windowOf) : undefined;
  if (images) {
    for (const [name, { start, batch, head, token, shared = 1 }] of Object.entries(reads)) {
      const field = fieldsOf(name);
      const column = start % token + Math.floor(heads[0] / shared) * head;
      params[field.offset] = column / 4;
      params[field.batch] = batch / token;
    }
  }
  const tokens = pass.kind === "backwardKv" || pass.kind === "biasKv" ? tk : tq;
  const total = "sum" in statistics ? "sum" : "dq";
  const perPairMask = statistics.mask?.operand.key !== undefined;
  device.run(
    chosen.kernel,
    {
      D: d,
      D4: Math.ceil(d / 4),
      VEC: vector,
      E: dtype,
      CAUSAL: causal,
      OFFSET: offset,
      MASK: "mask" in statistics && !perPairMask,
      PAIR_MASK: perPairMask,
      BIAS: "bias" in statistics,
      DBIAS: "dbias" in statistics,
      PAIR: "pair" in statistics,
      SCORED: scored,
      BLIND: scored || offset || "mask" in statistics,
      READS: Object.keys(reads).length,
      WIDE: Object.keys(reads).length + Object.keys(writes).length,
      OPERANDS: all.length,
      BUFFERS: windows.length,
      IMAGES: images?.size ?? 0,
      SUMS: total === "sum",
      TOTAL: total,
      TOTAL_DATA: windowOf[total] ? `${windowOf[total].name}_data` : "",
      ...names,
      ...chosen.constants,
    },
    windows.map((window) => {
      const { tensor, first, end } = window;
      return images?.get(window) ??
        { tensor, start: first - tensor.offset, count: end - first };
    }),
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
  /** u32 or f32 per key, or per query and key: where it is 0 the key is hidden. */
  readonly mask?: Operand;
  /** f32 or f16 per query and key, added to the scaled scores. */
  readonly bias?: Operand;
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
}

/** What scores are changed by. */
const besideOf = ({ mask, bias }: ForwardOperands): Pass["statistics"] => ({
  ...mask && { mask: { operand: mask, written: false } },
  ...bias && { bias: { operand: bias, written: false } },
});

/** `count` tokens of an operand, from `first` on. */
function tokensOf(operand: Operand, [first, tokens]: Range): Operand {
  return { ...operand, start: operand.start + first * operand.token, tokens };
}

/** Queries and keys of the operands that scores are changed by. */
function besideWithin(
  operands: ForwardOperands,
  queries: Range,
  keys: Range,
): Pick<ForwardOperands, "mask" | "bias"> {
  const { mask, bias } = operands;
  const part = (it: Operand) =>
    it.key === undefined ? tokensOf(it, keys) : pairsOf(it, queries, keys);
  return { ...mask && { mask: part(mask) }, ...bias && { bias: part(bias) } };
}

/** Some queries and keys of an operand per query and key; what repeats stays one. */
function pairsOf(operand: Operand, queries: Range, keys: Range): Operand {
  const { start, token, key = 0 } = operand;
  return {
    ...operand,
    start: start + queries[0] * token + keys[0] * key,
    tokens: token === 0 ? 1 : queries[1],
    keys: key === 0 ? 1 : keys[1],
  };
}

/** An operand as a view [B, H, T, width]. */
function viewOf({ batch: batches, heads }: Problem, operand: Operand): Tensor {
  const { tensor, start, batch, head, token, tokens, width, shared = 1 } = operand;
  const shape = [batches, heads / shared, tokens, width];
  return tensor.view(shape, [batch, head, token, 1], tensor.offset + start);
}

/** An f32 operand: itself, or a dense copy. */
function widened(problem: Problem, operand: Operand): Operand {
  if (operand.tensor.dtype === "f32") return operand;
  const copy = heads4(converted(viewOf(problem, operand), "f32"));
  return sharedHeads(copy, operand.shared ?? 1);
}

/** Queries by keys of one launch. */
interface Block {
  readonly queries: Range;
  readonly keys: Range;
  /** Whether query i sees keys 0 to i + `shift` of the block only, or all of them. */
  readonly causal: boolean;
  readonly shift: number;
  /** Whether it is the first block with these queries. */
  readonly firstKeys: boolean;
  /** Whether it is the first block with these keys. */
  readonly firstQueries: boolean;
}

/** The most tokens of one launch: what loops and bindings allow. */
function blockSize(operands: readonly Operand[], { mask, bias }: ForwardOperands): number {
  const { device } = operands[0].tensor;
  const rows = [mask, bias].filter((it) => it?.key !== undefined) as Operand[];
  const widest = Math.max(
    ...[...operands, ...rows].map(({ token, tensor }) => token * tensor.itemSize),
  );
  const bindable = Math.floor((device.bindingLimit - device.offsetAlignment) / widest / 8) * 8;
  return Math.max(8, Math.min(MOST_TOKENS, bindable));
}

/**
 * Cuts a problem into blocks of `size` tokens; those that `causal` hides altogether are left out,
 * but for the first of each query.
 */
function blocksOf({ tq, tk, causal, shift }: Problem, size: number): Block[] {
  const cut = (count: number) =>
    Array.from({ length: Math.ceil(count / size) }, (_, i): Range => {
      return [i * size, Math.min(size, count - i * size)];
    });
  const met = new Set<number>();
  return cut(tq).flatMap((queries) => {
    // Keys that the first and the last of these queries see.
    const [fewest, most] = [queries[0], queries[0] + queries[1] - 1].map((i) => i + shift + 1);
    return cut(tk).filter(([first]) => !causal || first === 0 || first < most).map((keys) => {
      const partly = causal && keys[0] + keys[1] > fewest;
      const firstQueries = !met.has(keys[0]);
      met.add(keys[0]);
      return {
        queries,
        keys,
        causal: partly,
        shift: partly ? shift + queries[0] - keys[0] : 0,
        firstKeys: keys[0] === 0,
        firstQueries,
      };
    });
  });
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
  const { dbias } = operands;
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
  const { q, k, v, o, lse } = operands;
  const size = blockSize([q, k, v, o], operands);
  if (Math.max(problem.tq, problem.tk) > size) {
    forwardInBlocks(variant, problem, operands, size);
    return;
  }
  launch(variant, problem, {
    kind: "forward",
    reads: { q, k, v },
    writes: { o },
    statistics: { lse: { operand: lse, written: true }, ...besideOf(operands) },
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

/** Per query, lse and delta = sum(do * o) side by side. */
function pairOf(problem: Problem, { lse, o, dout }: BackwardOperands): Operand {
  const { device } = lse.tensor;
  const { batch, heads, tq, d } = problem;
  const pair = device.empty([batch, heads, tq, 2]);
  const products = device.empty([batch, heads, tq, d]);
  elementwise(products, [viewOf(problem, dout), viewOf(problem, o)], { expression: "a * b" });
  const delta = reduceRows(products);
  products.dispose();
  [viewOf(problem, lse), delta].forEach((it, i) => {
    const half = pair.view([batch, heads, tq, 1], pair.strides, pair.offset + i);
    elementwise(half, [it], { expression: "a" });
  });
  delta.dispose();
  return heads4(pair);
}

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
  };
  const apart = (stride: number, count: number): Range[] =>
    stride === 0 ? Array.from({ length: count }, (_, i) => [i, 1]) : [[0, count]];
  for (const batches of apart(dbias.batch, problem.batch)) {
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
  const { q, k, v, o, lse, dout, dq, dk, dv } = operands;
  const { device } = lse.tensor;
  const { batch, heads, tq, tk, scored } = problem;
  const size = blockSize([q, k, v, o, dout, dq, ...dk ? [dk] : []], operands);
  if (Math.max(tq, tk) > size) {
    backwardInBlocks(variant, problem, operands, size);
    return;
  }
  const vectors = dk && dv && inVectors(problem, [q, k, v, o, dout, dq, dk, dv]);
  if (variant.single && vectors && singleFits(problem) && singleBinds(operands)) {
    backwardAtOnce(variant, problem, { ...operands, dk, dv });
    return;
  }
  // Else a mask would be the ninth buffer.
  const pair = scored || operands.mask && !isFused(operands)
    ? pairOf(problem, operands)
    : undefined;
  const delta = pair ?? perRow(device.empty([batch, heads, tq]));
  const statistics = (written: boolean): Pass["statistics"] =>
    pair ? { pair: { operand: pair, written: false }, ...besideOf(operands) } : {
      lse: { operand: lse, written: false },
      delta: { operand: delta, written },
      ...besideOf(operands),
    };
  launch(variant, problem, {
    kind: "backwardQ",
    reads: { q, k, v, ...!pair && { o }, do: dout },
    writes: { dq },
    statistics: statistics(true),
  });
  if (pair) biasGradient(variant, problem, operands, pair);
  if (!dk || !dv) return;
  launch(variant, problem, {
    kind: "backwardKv",
    reads: { q, k, v, do: dout },
    writes: { dk, dv },
    statistics: statistics(false),
  });
}

/** Memory for the tuner to try a variant on. */
interface Scratch extends Pick<ForwardOperands, "mask" | "bias"> {
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
  { q, mask, bias }: ForwardOperands,
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
    bias ? "/bias" : "",
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
    }));
  return ATTENTION_VARIANTS[name];
}

/** Writes the result to `o` and the log-sum-exp of each row to `lse`. */
export function runForward(problem: Problem, operands: ForwardOperands): void {
  const variant = choose("forward", problem, operands, (variant, scratch) => {
    const { mask, bias } = scratch;
    const [q, o, k, v] = [scratch.queries(), scratch.queries(), scratch.keys(), scratch.keys()];
    forwardWith(variant, problem, { q, k, v, mask, bias, o, lse: scratch.lse() });
  });
  forwardWith(variant, problem, operands);
}

/** Writes the gradients. */
export function runBackward(problem: Problem, operands: BackwardOperands): void {
  const variant = choose("backward", problem, operands, (variant, scratch) => {
    const { mask, bias } = scratch;
    const [q, o, dout, dq] = Array.from({ length: 4 }, scratch.queries);
    const [k, v] = [scratch.keys(), scratch.keys()];
    const [dk, dv] = scratch.gradients();
    const lse = scratch.lse();
    backwardWith(variant, problem, { q, k, v, mask, bias, o, lse, dout, dq, dk, dv });
  });
  backwardWith(variant, problem, operands);
}
