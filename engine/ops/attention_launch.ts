/**
 * Launching the attention kernels: how operands are walked, which kernel family runs, and how launches are split where a
 * binding would exceed the adapter's limit.
 *
 * @module
 */
import backwardKvSource from "../../kernels/attention_backward_kv.wgsl" with { type: "text" };
import backwardQSource from "../../kernels/attention_backward_q.wgsl" with { type: "text" };
import forwardSource from "../../kernels/attention_forward.wgsl" with { type: "text" };
import tiledSource from "../../kernels/attention_tiled.wgsl" with { type: "text" };
import type { Device } from "../device.ts";
import { defineKernel, type Kernel, type KernelInsight } from "../kernel.ts";
import type { Constants } from "../template.ts";
import type { Tensor } from "../tensor.ts";

/** A tensor walked by batch, head and token; strides in elements. */
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
  /** Elements per token: the head size, or 1 for statistics per row. */
  readonly width: number;
}

/** Sizes of one attention. */
export interface Problem {
  /** Number of batches. */
  readonly batch: number;
  /** Heads per batch. */
  readonly heads: number;
  /** Queries. */
  readonly tq: number;
  /** Keys. */
  readonly tk: number;
  /** Head size. */
  readonly d: number;
  /** Factor of the scores. */
  readonly scale: number;
  /** Whether query i sees keys 0 to i only. */
  readonly causal: boolean;
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

/** One of the three computations; a family of kernels has a kernel for each. */
interface Pass {
  readonly kind: "forward" | "backwardQ" | "backwardKv";
  /** Only read, `d` elements per token. */
  readonly reads: Operands;
  /** Written, `d` elements per token. */
  readonly writes: Operands;
  /** One scalar per token. */
  readonly statistics: Readonly<Record<string, { readonly operand: Operand; written: boolean }>>;
}

/** How a family of kernels computes a pass. */
interface Plan {
  readonly kernel: Kernel;
  /** Tokens that one workgroup owns. */
  readonly owned: number;
  /** Constants besides those of kernels/attention_bindings.wgsl. */
  readonly constants: Constants;
}

/** `vector`: all operands can be read by vec4. */
type Family = (device: Device, pass: Pass["kind"], problem: Problem, vector: boolean) => Plan;

/** `products`: how many products of queries by keys by head size the kernel makes, each 2 tq tk d operations. */
const insight = (products: (constants: Constants) => number): KernelInsight => ({
  flops: ({ constants, params: { tq, tk }, grid: [, heads, batch] }) =>
    products(constants) * 2 * tq * tk * Number(constants.D) * heads * batch *
    (constants.CAUSAL ? 0.5 : 1),
  variant: ({ constants: { D, CAUSAL, MASK, E }, params: { tq, tk }, grid: [, heads, batch] }) =>
    `${batch}x${heads} heads ${tq}x${tk}x${D}${E === "f16" ? " f16" : ""}${
      CAUSAL ? " causal" : ""
    }${MASK ? " masked" : ""}`,
});

const rowsKernels = {
  forward: defineKernel("attention_forward", forwardSource, insight(() => 2)),
  backwardQ: defineKernel("attention_backward_q", backwardQSource, insight(() => 3)),
  backwardKv: defineKernel("attention_backward_kv", backwardKvSource, insight(() => 4)),
};

/** Vectors of the head size that a row keeps in registers. */
const LIVE = { forward: 2, backwardQ: 3, backwardKv: 4 };

/** Rows in registers: any adapter; with subgroups the family for software adapters. */
const rows: Family = (device, pass, { d, tq, tk }, vector) => {
  const { software, subgroupSize } = device.info;
  const lanes = software ? 8 : 32;
  const shuffles = vector && software && subgroupSize >= 8;
  // On a GPU a lane has 255 registers. A CPU adapter spills to its cache for next to nothing; there the bound is
  // the time to compile (kernels/attention_backward_kv.wgsl).
  const channels = software ? (shuffles ? 192 : 128) : 192 / LIVE[pass];
  const most = Math.min(4, Math.floor(channels / d));
  const owned = pass === "backwardKv" ? tk : tq;
  // A workgroup's time goes with its rows and, by about half a row, with what they share.
  const time = (perLane: number) => Math.ceil(owned / (lanes * perLane)) * (perLane + 0.6);
  let perLane = 1;
  for (let n = 2; n <= most; n++) if (time(n) < time(perLane)) perLane = n;
  return {
    kernel: rowsKernels[pass],
    owned: lanes * perLane,
    constants: {
      WX: lanes,
      ROWS: perLane,
      ...pass === "forward" ? { STEP: vector && d <= 64 ? 2 : 1 } : {},
      SUBGROUPS: shuffles,
      WORDS: Math.ceil(d / 32),
    },
  };
};

const tiledKernel = defineKernel(
  "attention_tiled",
  tiledSource,
  insight(({ PASS }) => Number(PASS) + 2),
);

/** Roles of the operands in kernels/attention_tiled.wgsl: products of left by right, weights times factor. */
const TILED = {
  forward: { PASS: 0, LEFT0: "q", RIGHT0: "k", FACTOR0: "v", OUTPUT0: "o" },
  backwardQ: {
    PASS: 1,
    LEFT0: "q",
    RIGHT0: "k",
    LEFT1: "do",
    RIGHT1: "v",
    FACTOR0: "k",
    OUTPUT0: "dq",
  },
  backwardKv: {
    PASS: 2,
    LEFT0: "k",
    RIGHT0: "q",
    LEFT1: "v",
    RIGHT1: "do",
    FACTOR0: "do",
    OUTPUT0: "dv",
    FACTOR1: "q",
    OUTPUT1: "dk",
  },
};

/** Tiles in workgroup memory, 4 * `ty` owned tokens by 32 walked ones: the family for GPUs. */
const tiled = (ty: number): Family => (_device, pass) => ({
  kernel: tiledKernel,
  owned: 4 * ty,
  constants: {
    ...TILED[pass],
    TY: ty,
    PRODUCTS: pass === "forward" ? 1 : 2,
    OUTPUTS: pass === "backwardKv" ? 2 : 1,
  },
});

const FAMILIES: Readonly<Record<string, Family>> = {
  rows,
  "tiled": tiled(8),
  "tiled-64": tiled(16),
};

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

/** Part of a buffer that is bound, in elements from the beginning of the buffer. */
interface Window {
  readonly tensor: Tensor;
  first: number;
  end: number;
}

/** Runs one pass over all batches and heads, split where a window would exceed the binding limit. */
function launch(
  family: Family,
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
  for (const [name, operand] of all) {
    const { tensor } = operand;
    const at = firstOf(operand);
    const end = at + extent(operand, batches[1], heads[1]);
    const first = at - at % (device.offsetAlignment / tensor.itemSize);
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
  if (windows.some((w) => (w.end - w.first) * w.tensor.itemSize > device.bindingLimit)) {
    const again = (b: Range, h: Range) => launch(family, problem, pass, b, h);
    if (batches[1] > 1) halves(batches).forEach((half) => again(half, heads));
    else if (heads[1] > 1) halves(heads).forEach((half) => again(batches, half));
    else {
      throw new RangeError(
        `attention: one head of ${problem.tk} tokens exceeds the adapter's binding limit`,
      );
    }
    return;
  }

  const vector = d % 4 === 0 &&
    all.every(([, operand]) =>
      operand.width === 1 ||
      [firstOf(operand), operand.batch, operand.head, operand.token].every((x) => x % 4 === 0)
    );
  const params: Record<string, number> = { tq: problem.tq, tk: problem.tk, scale: problem.scale };
  const names: Record<string, string> = {};
  all.forEach(([name, operand], i) => {
    const step = vector && !(name in statistics) ? 4 : 1;
    params[`offset_${name}`] = (firstOf(operand) - windowOf[name].first) / step;
    params[`batch_${name}`] = operand.batch / step;
    params[`head_${name}`] = operand.head / step;
    params[`token_${name}`] = operand.token / step;
    names[`NAME${i}`] = name;
    names[`BUFFER${i}`] = `${windowOf[name] === windowOf.dk ? "dk" : name}_data`;
    if (name in statistics) {
      names[`ACCESS${i}`] = statistics[name].written ? "read_write" : "read";
      names[`TYPE${i}`] = operand.tensor.dtype;
    }
  });
  const plan = family(device, pass.kind, problem, vector);
  const owned = pass.kind === "backwardKv" ? problem.tk : problem.tq;
  device.run(
    plan.kernel,
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
      ...names,
      ...plan.constants,
    },
    windows.map(({ tensor, first, end }) => ({
      tensor,
      start: first - tensor.offset,
      count: end - first,
    })),
    params,
    [Math.ceil(owned / plan.owned), heads[1], batches[1]],
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
  /** Receives the gradient of k; absent where only dq is wanted. */
  readonly dk?: Operand;
  /** Receives the gradient of v; there where `dk` is. */
  readonly dv?: Operand;
}

const maskOf = ({ mask }: ForwardOperands): Pass["statistics"] =>
  mask ? { mask: { operand: mask, written: false } } : {};

function forwardWith(family: Family, problem: Problem, operands: ForwardOperands): void {
  const { q, k, v, o, lse } = operands;
  launch(family, problem, {
    kind: "forward",
    reads: { q, k, v },
    writes: { o },
    statistics: { lse: { operand: lse, written: true }, ...maskOf(operands) },
  });
}

function backwardWith(family: Family, problem: Problem, operands: BackwardOperands): void {
  const { q, k, v, o, lse, dout, dq, dk, dv } = operands;
  const delta = perRow(lse.tensor.device.empty(lse.tensor.shape));
  launch(family, problem, {
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
  launch(family, problem, {
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

/** Memory for the tuner to try a family on. */
interface Scratch {
  /** One scalar per channel. */
  tokens(count: number): Operand;
  /** One f32 per query. */
  lse(): Operand;
  /** A key mask where the problem at hand has one. */
  readonly mask?: Operand;
}

/** The family to run: the tuner's choice, else by the kind of adapter. */
function choose(
  direction: "forward" | "backward",
  problem: Problem,
  { q, mask }: ForwardOperands,
  launchOn: (family: Family, scratch: Scratch) => void,
): Family {
  const { device, dtype } = q.tensor;
  const { batch, heads, tq, tk, d, causal } = problem;
  const names = device.info.software
    ? ["rows", "tiled", "tiled-64"]
    : ["tiled", "tiled-64", "rows"];
  const up = (tokens: number) => Math.ceil(tokens / 32) * 32;
  const shape = `${2 ** Math.ceil(Math.log2(batch * heads))}x${up(tq)}x${up(tk)}x${d}`;
  const key = `attention/${direction}/${dtype}/${shape}${causal ? "/causal" : ""}${
    mask ? "/mask" : ""
  }`;
  const name = device.tuning.pick(key, names, () => (variant) =>
    launchOn(FAMILIES[variant], {
      tokens: (count) => heads4(device.empty([batch, heads, count, d], dtype)),
      lse: () => perRow(device.empty([batch, heads, tq])),
      mask: mask && perToken(device.empty([batch, tk], mask.tensor.dtype)),
    }));
  return FAMILIES[name];
}

/** Writes the result to `o` and the log-sum-exp of each row to `lse`. */
export function runForward(problem: Problem, operands: ForwardOperands): void {
  const { tq, tk } = problem;
  const family = choose("forward", problem, operands, (family, scratch) => {
    const [q, k, v, o] = [tq, tk, tk, tq].map(scratch.tokens);
    forwardWith(family, problem, { q, k, v, mask: scratch.mask, o, lse: scratch.lse() });
  });
  forwardWith(family, problem, operands);
}

/** Writes the gradients. */
export function runBackward(problem: Problem, operands: BackwardOperands): void {
  const { tq, tk } = problem;
  const family = choose("backward", problem, operands, (family, scratch) => {
    const [q, o, dout, dq] = [tq, tq, tq, tq].map(scratch.tokens);
    const [k, v, dk, dv] = [tk, tk, tk, tk].map(scratch.tokens);
    const [mask, lse] = [scratch.mask, scratch.lse()];
    backwardWith(family, problem, { q, k, v, mask, o, lse, dout, dq, dk, dv });
  });
  backwardWith(family, problem, operands);
}
