/**
 * Launching matrix products: picks a kernel family and its tile, and splits what a binding cannot hold.
 *
 * @module
 */
import source from "../../kernels/gemm.wgsl" with { type: "text" };
import subgroupSource from "../../kernels/gemm_subgroup.wgsl" with { type: "text" };
import type { Device } from "../device.ts";
import { BYTES_PER_ELEMENT } from "../dtype.ts";
import { defineKernel, type Kernel, type KernelInsight } from "../kernel.ts";
import type { Constants } from "../template.ts";
import type { Tensor } from "../tensor.ts";

const insight: KernelInsight = {
  flops: ({ params: { m, n, k }, grid }) => 2 * m * n * k * grid[2],
  variant: ({ constants: c, params: { m, n, k }, grid }) =>
    [
      `${m}x${k}${c.TA ? "ᵀ" : ""} · ${k}x${n}${c.TB ? "ᵀ" : ""}`,
      grid[2] > 1 && `batch ${grid[2]}`,
      c.BIAS && "bias",
      c.GELU && "gelu",
      c.RESIDUAL && "residual",
      c.ACC && "add",
    ].filter(Boolean).join(" "),
};
const registerKernel = defineKernel("gemm", source, insight);
const subgroupKernel = defineKernel("gemm_subgroup", subgroupSource, insight);

/** One operand: where its first matrix starts and how it is walked, in elements. */
export interface MatrixOperand {
  /** Memory; only its storage, device and offset matter. */
  readonly tensor: Tensor;
  /** Elements between rows as stored. */
  readonly ld: number;
  /** First element, relative to the tensor. */
  readonly start?: number;
  /** Whether the stored matrix is the transpose of the operand. */
  readonly transposed?: boolean;
  /** Elements between neighbouring matrices of a batch; default 0. */
  readonly batchStride?: number;
}

/** `c = alpha * a b (+ bias) (+ residual)`; `a` is m x k, `b` is k x n, `c` is m x n. */
export interface GemmArguments {
  /** Left operand. */
  readonly a: MatrixOperand;
  /** Right operand. */
  readonly b: MatrixOperand;
  /** Result, never transposed. */
  readonly c: MatrixOperand;
  /** Rows of the result. */
  readonly m: number;
  /** Columns of the result. */
  readonly n: number;
  /** Inner size. */
  readonly k: number;
  /** Number of products; default 1. */
  readonly batch?: number;
  /** Factor; default 1. */
  readonly alpha?: number;
  /** [n], added to each row. */
  readonly bias?: Tensor;
  /** Laid out like `c`, added to it. */
  readonly residual?: Tensor;
  /** Laid out like `c`: receives the value before GELU, which is then applied. */
  readonly pre?: Tensor;
  /** Add to `c` instead of overwriting it. */
  readonly accumulate?: boolean;
}

/** Computes a matrix product. All operands are f32. */
export function gemm(args: GemmArguments): void {
  const { m, n, k, batch = 1 } = args;
  if (m === 0 || n === 0 || batch === 0) return;
  launch(args, [0, m], [0, n], [0, k], [0, batch], args.accumulate ?? false);
}

/** A kernel and what one of its workgroups computes. */
interface Tile {
  readonly kernel: Kernel;
  /** Constants of the family, besides the layouts and what is fused. */
  readonly constants: Constants;
  /** Rows of the result per workgroup. */
  readonly rows: number;
  /** Columns of the result per workgroup. */
  readonly columns: number;
}

/** 8 x 8 per invocation: any shape, any adapter. */
function registerTile(vector: boolean): Tile {
  const constants = { VEC: vector, ROWS: 8, VECS: 2, STORE: 8, WX: 8, WY: 8 };
  return { kernel: registerKernel, constants, rows: 64, columns: 64 };
}

/** One subgroup per workgroup, `rows` x `vecs` vec4 per invocation; for vector loads only. */
function subgroupTile(rows: number, vecs: number, tail: boolean): Tile {
  const constants = {
    VEC: true,
    LANES: SUBGROUP_LANES,
    ROWS: rows,
    VECS: vecs,
    STORE: 8 / vecs,
    TAIL: tail,
  };
  return { kernel: subgroupKernel, constants, rows, columns: 4 * vecs * SUBGROUP_LANES };
}

/** The only subgroup size that was measured. */
const SUBGROUP_LANES = 8;
const SUBGROUP_TILES = [[64, 1], [32, 1], [16, 1], [8, 1]] as const;
/** Up to a tenth faster, but twice as long to compile (0.5 s): for products that take several ms. */
const LARGE_SUBGROUP_TILE = [64, 2] as const;
const LARGE_PRODUCT = 2 ** 28;

/** Relative time of a tile, fitted to measurements on lavapipe: its multiply-adds, its loads of A, its loads of B. */
function tileTime([rows, vecs]: readonly [number, number]): number {
  return rows * vecs + 0.2 * rows + 12 * vecs;
}

/**
 * The family and tile for a product of the given sizes; the one place where that is decided.
 *
 * @param vector whether the operands allow vector loads
 * @param tail whether the kernel must end with steps of one
 */
function chooseTile(
  device: Device,
  { m, n, k, batch }: { m: number; n: number; k: number; batch: number },
  vector: boolean,
  tail: boolean,
): Tile {
  const widest = device.gpu.limits.maxComputeWorkgroupsPerDimension * 4 * SUBGROUP_LANES;
  if (!vector || device.info.subgroupSize !== SUBGROUP_LANES || n > widest) {
    return registerTile(vector);
  }
  // lavapipe deals workgroups out to the cores in equal numbers, so the core with the most decides.
  const time = (tile: readonly [number, number]) => {
    const tiles = Math.ceil(m / tile[0]) * Math.ceil(n / (4 * tile[1] * SUBGROUP_LANES)) * batch;
    return Math.ceil(tiles / navigator.hardwareConcurrency) * tileTime(tile);
  };
  const tiles = m * n * k * batch < LARGE_PRODUCT
    ? SUBGROUP_TILES
    : [LARGE_SUBGROUP_TILE, ...SUBGROUP_TILES];
  const [rows, vecs] = tiles.reduce((best, tile) => time(tile) < time(best) ? tile : best);
  return subgroupTile(rows, vecs, tail);
}

type Range = readonly [first: number, count: number];

/** Halves a range, the first half a multiple of 8 where possible so that vector loads stay aligned. */
function halves([first, count]: Range): [Range, Range] {
  const half = count > 8 ? Math.ceil(count / 16) * 8 : Math.ceil(count / 2);
  return [[first, half], [first + half, count - half]];
}

function launch(
  args: GemmArguments,
  m: Range,
  n: Range,
  k: Range,
  batch: Range,
  accumulate: boolean,
): void {
  const { a, b, c } = args;
  const { device } = c.tensor;
  const alignment = device.offsetAlignment / BYTES_PER_ELEMENT;
  const limit = device.bindingLimit / BYTES_PER_ELEMENT - alignment;

  const span = (operand: MatrixOperand, rows: Range, columns: Range) => {
    const [outer, inner] = operand.transposed ? [columns, rows] : [rows, columns];
    const step = operand.batchStride ?? 0;
    const first = operand.tensor.offset + (operand.start ?? 0) + batch[0] * step +
      outer[0] * operand.ld + inner[0];
    const count = (batch[1] - 1) * step + (outer[1] - 1) * operand.ld + inner[1];
    return { tensor: operand.tensor, first, count };
  };
  const like = (tensor: Tensor) => span({ ...c, tensor, start: 0 }, m, n);
  const spans = {
    a: span(a, m, k),
    b: span(b, k, n),
    c: span(c, m, n),
    bias: args.bias && { tensor: args.bias, first: args.bias.offset + n[0], count: n[1] },
    residual: args.residual && like(args.residual),
    pre: args.pre && like(args.pre),
  };
  const tooLarge = (part: { count: number } | undefined) =>
    part !== undefined && part.count > limit;
  if (Object.values(spans).some(tooLarge)) {
    const again = (over: { m?: Range; n?: Range; k?: Range; batch?: Range }, add: boolean) =>
      launch(args, over.m ?? m, over.n ?? n, over.k ?? k, over.batch ?? batch, add);
    if (batch[1] > 1) halves(batch).forEach((half) => again({ batch: half }, accumulate));
    else if (tooLarge(spans.c) || (tooLarge(spans.a) && !a.transposed)) {
      halves(m).forEach((half) => again({ m: half }, accumulate));
    } else if (tooLarge(spans.b) && b.transposed) {
      halves(n).forEach((half) => again({ n: half }, accumulate));
    } else splitInner(args, m, n, k, batch, accumulate);
    return;
  }

  const params: Record<string, number> = {
    m: m[1],
    n: n[1],
    k: k[1],
    lda: a.ld,
    ldb: b.ld,
    ldc: c.ld,
    batch_a: a.batchStride ?? 0,
    batch_b: b.batchStride ?? 0,
    batch_c: c.batchStride ?? 0,
    alpha: args.alpha ?? 1,
    offset_bias: 0,
    offset_residual: 0,
    offset_pre: 0,
  };
  const windows = [];
  let aligned =
    [a.ld, b.ld, c.ld, params.batch_a, params.batch_b, params.batch_c, n[1]].every((x) =>
      x % 4 === 0
    ) &&
    (a.transposed ? m[1] % 4 === 0 : k[1] % 4 === 0) && (!b.transposed || k[1] % 4 === 0);
  for (const name of ["a", "b", "c", "bias", "residual", "pre"] as const) {
    const part = spans[name];
    if (!part) continue;
    const start = part.first - part.first % alignment;
    params[`offset_${name}`] = part.first - start;
    aligned &&= part.first % 4 === 0;
    windows.push({
      tensor: part.tensor,
      start: start - part.tensor.offset,
      count: part.first - start + part.count,
    });
  }
  const tail = a.transposed === true && !b.transposed && k[1] % 4 !== 0;
  const tile = chooseTile(device, { m: m[1], n: n[1], k: k[1], batch: batch[1] }, aligned, tail);
  device.run(
    tile.kernel,
    {
      ...tile.constants,
      TA: a.transposed ?? false,
      TB: b.transposed ?? false,
      BIAS: args.bias !== undefined,
      GELU: args.pre !== undefined,
      RESIDUAL: args.residual !== undefined,
      ACC: accumulate,
    },
    windows,
    params,
    [Math.ceil(n[1] / tile.columns), Math.ceil(m[1] / tile.rows), batch[1]],
  );
}

/** Splits K: the first half writes, the second adds; bias and residual ride on the first. */
function splitInner(
  args: GemmArguments,
  m: Range,
  n: Range,
  k: Range,
  batch: Range,
  accumulate: boolean,
): void {
  if (k[1] < 2 || args.pre) {
    throw new RangeError("gemm: one row of an operand exceeds the adapter's binding limit");
  }
  const [first, second] = halves(k);
  launch(args, m, n, first, batch, accumulate);
  launch({ ...args, bias: undefined, residual: undefined }, m, n, second, batch, true);
}
