/**
 * The variants of attention: what each launches for a pass, and which of them an adapter starts
 * with.
 *
 * @module
 */
import backwardSource from "../../kernels/attention_backward.wgsl" with { type: "text" };
import backwardKvSource from "../../kernels/attention_backward_kv.wgsl" with { type: "text" };
import backwardQSource from "../../kernels/attention_backward_q.wgsl" with { type: "text" };
import forwardSource from "../../kernels/attention_forward.wgsl" with { type: "text" };
import tiledSource from "../../kernels/attention_tiled.wgsl" with { type: "text" };
import type { Device } from "../device.ts";
import { defineKernel, type Kernel, type KernelInsight, MOST_ROUNDS } from "../kernel.ts";
import type { Constants } from "../template.ts";

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
  /** Whether query i sees keys 0 to i + `shift` only. */
  readonly causal: boolean;
  /** See {@link causal}; 0 without it. */
  readonly shift: number;
  /** Query heads that share a head of k and v. */
  readonly shared: number;
  /** Whether scores have a mask or a bias per query and key. */
  readonly scored: boolean;
}

/**
 * Backward is one computation or two of them, as the variant has it; the gradient of a bias is one
 * more, which walks as the gradient of q does, or as those of k and v.
 */
export type PassKind = "forward" | "backward" | "backwardQ" | "backwardKv" | "biasQ" | "biasKv";

/** How a variant computes a pass. */
export interface PassKernel {
  readonly kernel: Kernel;
  /** Tokens per workgroup: queries, or keys in the passes "backwardKv" and "biasKv". */
  readonly tokens: number;
  /** Constants besides those of kernels/include/attention_bindings.wgsl. */
  readonly constants: Constants;
  /** Whether it can read, and gains by reading, operands through textures; default false. */
  readonly images?: boolean;
}

/** `vector`: all operands can be read by vec4. */
type KernelOfPass = (
  device: Device,
  pass: PassKind,
  problem: Problem,
  vector: boolean,
) => PassKernel;

/** Kernels that compute all of attention. */
export interface AttentionVariant {
  /** The kernel of a pass. */
  readonly kernelOf: KernelOfPass;
  /**
   * Whether it has the pass "backward", for operands that can be read by vec4; else the other two
   * make the gradients.
   */
  readonly single: boolean;
}

/**
 * `products`: how many products of queries by keys by head size the kernel makes, each 2 tq tk d
 * operations.
 */
const insight = (
  products: (constants: Constants) => number,
  rounds: KernelInsight["rounds"],
): KernelInsight => ({
  rounds,
  flops: ({ constants, params: { tq, tk }, grid: [, heads, batch] }) =>
    products(constants) * 2 * tq * tk * Number(constants.D) * heads * batch *
    (constants.CAUSAL ? 0.5 : 1),
  label: (
    { constants: { D, CAUSAL, MASK, SCORED, E }, params: { tq, tk }, grid: [, heads, batch] },
  ) =>
    `${batch}x${heads} heads ${tq}x${tk}x${D}${E === "f16" ? " f16" : ""}${
      CAUSAL ? " causal" : ""
    }${MASK || SCORED ? " masked" : ""}`,
});

const singleKernel = /* @__PURE__ */ defineKernel(
  "attention_backward",
  backwardSource,
  /* @__PURE__ */ insight(
    () => 5,
    ({ constants: { D, ROWS, WX }, params: { tq, tk } }) =>
      singleRounds(tq, tk, Number(D), Number(ROWS), Number(WX)),
  ),
);
const rowsKernels = {
  forward: /* @__PURE__ */ defineKernel(
    "attention_forward",
    forwardSource,
    /* @__PURE__ */ insight(
      () => 2,
      ({ constants: { STEP }, params: { tk } }) => Math.ceil(tk / Number(STEP)) + 1,
    ),
  ),
  backwardQ: /* @__PURE__ */ defineKernel(
    "attention_backward_q",
    backwardQSource,
    /* @__PURE__ */ insight(() => 3, ({ params: { tk } }) => tk + 1),
  ),
  backwardKv: /* @__PURE__ */ defineKernel(
    "attention_backward_kv",
    backwardKvSource,
    /* @__PURE__ */ insight(() => 4, ({ params: { tq } }) => tq + 1),
  ),
};

/** Vectors of the head size that a row keeps in registers. */
const LIVE = { forward: 2, backwardQ: 3, backwardKv: 4 };

/** Subgroups as the kernels need them; measured on software adapters only. */
const hasLanes = ({ info }: Device): boolean => info.software && info.subgroupSize >= 8;

/** Lanes of a workgroup of the kernels with rows in registers: on software adapters one vector. */
const lanesOf = ({ info }: Device): number =>
  !info.software ? 32 : info.subgroupSize >= 16 ? 16 : 8;

/**
 * Rows per lane, at most `most`: a workgroup's time goes with them and, by `shared` of a row, with
 * what they share.
 */
function rowsPerLane(tokens: number, lanes: number, most: number, shared: number): number {
  const time = (perLane: number) => Math.ceil(tokens / (lanes * perLane)) * (perLane + shared);
  let best = 1;
  for (let n = 2; n <= most; n++) if (time(n) < time(best)) best = n;
  return best;
}

/**
 * Keys per lane of the single backward pass; more would crowd the first-level cache, where
 * registers spill to (kernels/attention_backward.wgsl).
 */
function singleRows(tk: number, d: number, lanes: number): number {
  const words = Math.ceil(d / 4 / lanes);
  // Lanes twice as many take twice the room each.
  const most = lanes === 16
    ? (d > 32 ? 1 : 2)
    : words === 1
    ? 6
    : Math.max(1, Math.floor(4 / words));
  return rowsPerLane(tk, lanes, most, 1);
}

/** Rounds of all loops of the single backward pass together, with `rows` keys per lane. */
function singleRounds(tq: number, tk: number, d: number, rows: number, lanes: number): number {
  const blocks = Math.ceil(tk / (lanes * rows));
  return Math.ceil(tq * Math.ceil(d / 16) / lanes) + tq + 3 + blocks * (tq + 2);
}

/** Whether there is a single backward pass for a problem, and it may take so many rounds. */
export function singleFits(device: Device, { tq, tk, d, shift, scored }: Problem): boolean {
  const lanes = lanesOf(device);
  return !scored && shift === 0 &&
    singleRounds(tq, tk, d, singleRows(tk, d, lanes), lanes) <= MOST_ROUNDS;
}

/** Rows in registers: any adapter; with subgroups the one for software adapters. */
const rows: KernelOfPass = (device, kind, { d, tq, tk }, vector) => {
  const lanes = lanesOf(device);
  const WORDS = Math.ceil(d / 4 / lanes);
  const pass = kind === "biasQ" ? "backwardQ" : kind === "biasKv" ? "backwardKv" : kind;
  if (pass === "backward") {
    return {
      kernel: singleKernel,
      tokens: Math.max(tq, tk),
      constants: { WX: lanes, ROWS: singleRows(tk, d, lanes), WORDS },
      images: hasLanes(device),
    };
  }
  const { software } = device.info;
  const shuffles = vector && hasLanes(device);
  // On a GPU a lane has 255 registers. A CPU adapter spills to its cache for next to nothing; there
  // the bound is the time to compile (kernels/attention_backward_kv.wgsl), and with 16 lanes, that
  // take twice the room, the cache.
  const spilt = (shuffles ? (pass === "forward" ? 256 : 192) : 128) * 8 / lanes;
  const channels = software ? spilt : 192 / LIVE[pass];
  const tokens = pass === "backwardKv" ? tk : tq;
  const most = Math.min(lanes === 16 ? 2 : 4, Math.floor(channels / d));
  const ROWS = rowsPerLane(tokens, lanes, most, 0.6);
  return {
    kernel: rowsKernels[pass],
    tokens: lanes * ROWS,
    constants: {
      WX: lanes,
      ROWS,
      ...pass === "forward" ? { STEP: vector && d <= 64 ? 2 : 1 } : {},
      SUBGROUPS: shuffles,
      WORDS,
    },
    images: shuffles && pass === "forward",
  };
};

const tiledKernel = /* @__PURE__ */ defineKernel(
  "attention_tiled",
  tiledSource,
  /* @__PURE__ */ insight(
    ({ PASS }) => Number(PASS) + 2,
    ({ constants, params: { tq, tk } }) => tiledRounds(constants, constants.PASS === 2 ? tq : tk),
  ),
);

/** Tokens that kernels/attention_tiled.wgsl walks over at a time. */
const INNER = 32;

/**
 * Queries and keys of one launch, in every variant but the single pass: 63,000 rounds of
 * kernels/attention_tiled.wgsl at the largest head size.
 */
export const MOST_TOKENS = 16384;

/** Rounds over `inner` tokens: of products, 4 per chunk of 32 channels, and of sums, 8. */
function tiledRounds({ D, PRODUCTS, OUTPUTS }: Constants, inner: number): number {
  const chunks = Math.ceil(Number(D) / 32);
  const each = Number(PRODUCTS) * (6 * chunks + 1) + Number(OUTPUTS) * 9 * chunks + 1;
  return Math.ceil(inner / INNER) * each + 1;
}

/**
 * Roles of the operands in kernels/attention_tiled.wgsl: products of left by right, weights times
 * factor.
 */
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

/** Tiles in workgroup memory, 4 * `ty` tokens by 32 of the others at a time: for GPUs. */
const tiled = (ty: number): KernelOfPass => (device, pass, problem, vector) => {
  if (pass === "biasQ" || pass === "biasKv") return rows(device, pass, problem, vector);
  if (pass === "backward") throw new Error("attention_tiled has no single pass");
  return {
    kernel: tiledKernel,
    tokens: 4 * ty,
    constants: {
      ...TILED[pass],
      TY: ty,
      PRODUCTS: pass === "forward" ? 1 : 2,
      OUTPUTS: pass === "backwardKv" ? 2 : 1,
    },
  };
};

/** All variants by name. */
export const ATTENTION_VARIANTS: Readonly<Record<string, AttentionVariant>> = {
  "rows": { kernelOf: rows, single: false },
  "single": { kernelOf: rows, single: true },
  "tiled": { kernelOf: /* @__PURE__ */ tiled(8), single: false },
  "tiled-64": { kernelOf: /* @__PURE__ */ tiled(16), single: false },
};

/** The single pass has a workgroup per head; with fewer heads some of a few cores would idle. */
const ENOUGH_HEADS = 16;

/** Names of the variants that compute `direction` there, the one to start with first. */
export function attentionVariants(
  device: Device,
  direction: "forward" | "backward",
  problem: Problem,
): string[] {
  const { batch, heads, d } = problem;
  if (!device.info.software) return ["tiled", "tiled-64", "rows"];
  const names = ["rows", "tiled", "tiled-64"];
  if (direction === "forward" || d % 4 !== 0 || !hasLanes(device)) return names;
  if (!singleFits(device, problem)) return names;
  return batch * heads < ENOUGH_HEADS
    ? ["rows", "single", "tiled", "tiled-64"]
    : ["single", ...names];
}
