/**
 * The kernels that compute matrix products and which of them a product starts with.
 *
 * @module
 */
import source from "../../kernels/gemm.wgsl" with { type: "text" };
import subgroupSource from "../../kernels/gemm_subgroup.wgsl" with { type: "text" };
import tiledSource from "../../kernels/gemm_tiled.wgsl" with { type: "text" };
import { cores } from "../adapter.ts";
import type { Device } from "../device.ts";
import { defineKernel, type Kernel, type KernelInsight } from "../kernel.ts";
import type { Constants } from "../template.ts";

const insight: KernelInsight = {
  flops: ({ params: { m, n, k }, grid }) => 2 * m * n * k * grid[2],
  label: ({ constants: c, params: { m, n, k }, grid }) =>
    [
      `${m}x${k}${c.TA ? "ᵀ" : ""} · ${k}x${n}${c.TB ? "ᵀ" : ""}`,
      grid[2] > 1 && `batch ${grid[2]}`,
      c.E === "f16" && "f16",
      c.BIAS && "bias",
      c.GELU && "gelu",
      c.FACTOR && "factor",
      c.RESIDUAL && "residual",
      c.ACC && "add",
      c.SUMS && "row sums",
    ].filter(Boolean).join(" "),
};
/** Rounds over K, `step` at a time and its end one by one, over its blocks, and of the stores. */
const rounds =
  (step: (constants: Constants) => number): KernelInsight["rounds"] =>
  ({ constants, params: { k } }) =>
    Math.ceil(k / step(constants)) + 5 + (constants.BLOCKED ? 2 * Math.ceil(k / 128) + 1 : 0) +
    Number(constants.ROWS) / Number(constants.STORE) + 1;
const inFours = { ...insight, rounds: rounds(() => 4) };
const registerKernel = /* @__PURE__ */ defineKernel("gemm", source, inFours);
const subgroupKernel = /* @__PURE__ */ defineKernel("gemm_subgroup", subgroupSource, inFours);
const tiledKernel = /* @__PURE__ */ defineKernel("gemm_tiled", tiledSource, {
  ...insight,
  rounds: rounds(({ BK }) => Number(BK)),
});

/** One way to compute a product. */
export interface GemmVariant {
  /**
   * Kind of kernel and rows x columns of the result: per invocation for `register`, else per
   * workgroup.
   */
  readonly name: string;
  /** The kernel. */
  readonly kernel: Kernel;
  /** Its constants, besides what depends on the operands. */
  readonly constants: Constants;
  /** Rows of the result per workgroup. */
  readonly rows: number;
  /** Columns of the result per workgroup. */
  readonly columns: number;
}

/** Rows and columns of the largest tile that every adapter and operand allows. */
export const LARGEST_REGISTER_TILE = 64;

/** 8 x 8 per invocation: any operands, any adapter. */
const REGISTER: GemmVariant = {
  name: "register-8x8",
  kernel: registerKernel,
  constants: { ROWS: 8, VECS: 2, STORE: 8, DOWN: 4, ACROSS: 4, WX: 8, WY: 8 },
  rows: LARGEST_REGISTER_TILE,
  columns: LARGEST_REGISTER_TILE,
};

/** Rows of tiles that a band of workgroups has, as measured on a software adapter. */
const BAND = 4;

/** One subgroup per workgroup, `rows` x `vecs` vec4 per invocation. */
function subgroupTile(lanes: number, rows: number, vecs: number): GemmVariant {
  const columns = 4 * vecs * lanes;
  return {
    name: `subgroup-${rows}x${columns}`,
    kernel: subgroupKernel,
    constants: { LANES: lanes, ROWS: rows, VECS: vecs, BAND, STORE: 8 / vecs, DOWN: 4, ACROSS: 4 },
    rows,
    columns,
  };
}

/** Likewise, with operands that are copied into textures. */
function imageTile(...size: Parameters<typeof subgroupTile>): GemmVariant {
  const tile = subgroupTile(...size);
  const name = tile.name.replace("subgroup", "image");
  return { ...tile, name, constants: { ...tile.constants, IMAGES: true } };
}

/**
 * Tiles by size of subgroups, the only ones that were measured. Large ones are faster than the
 * others by a tenth and more, but twice as long to compile (0.5 s): for products that take several
 * ms. Tiles of textures are smaller, as loads cost less, and the code of larger ones would exceed
 * the instruction cache.
 */
const SUBGROUP_TILES: Readonly<
  Record<number, {
    readonly buffers: readonly GemmVariant[];
    readonly images: readonly GemmVariant[];
  }>
> = {
  8: {
    buffers: [
      ...[subgroupTile(8, 64, 2), subgroupTile(8, 128, 1)],
      ...[64, 48, 32, 16, 8].map((rows) => subgroupTile(8, rows, 1)),
    ],
    images: [[32, 2], [16, 2], [16, 1], [8, 1]].map(([rows, vecs]) => imageTile(8, rows, vecs)),
  },
  16: {
    buffers: [64, 32, 16].map((rows) => subgroupTile(16, rows, 1)),
    images: [[48, 1], [32, 1], [16, 1]].map(([rows, vecs]) => imageTile(16, rows, vecs)),
  },
};
/** Rows x vec4 of columns per invocation. */
const LARGE_TILE = 128;
const LARGE_PRODUCT = 2 ** 28;

/** 256 invocations that share memory, `rows` x `vecs` vec4 each; `slice` steps of K at a time. */
function sharedTile(rows: number, vecs: number, slice: number): GemmVariant {
  return {
    name: `tiled-${16 * rows}x${64 * vecs}`,
    kernel: tiledKernel,
    constants: { ROWS: rows, VECS: vecs, BK: slice, STORE: rows, DOWN: 64, ACROSS: 64 },
    rows: 16 * rows,
    columns: 64 * vecs,
  };
}

/** Largest first: fewest loads per multiply-add. */
const SHARED_TILES = [sharedTile(8, 2, 16), sharedTile(8, 1, 16), sharedTile(4, 1, 32)];
/**
 * Two per multiprocessor of the largest GPUs today: with fewer, a part of such a GPU would idle.
 */
const ENOUGH_WORKGROUPS = 264;

/** What the choice depends on. */
export interface GemmProblem {
  /** Rows of the result. */
  readonly m: number;
  /** Columns of the result. */
  readonly n: number;
  /** Inner size. */
  readonly k: number;
  /** Number of products. */
  readonly batch: number;
  /** Elements of the left operand that can be loaded at once: 4, 2 or 1. */
  readonly widthA: number;
  /** Likewise, of the right operand. */
  readonly widthB: number;
  /** Whether the right operand is stored transposed; default false. */
  readonly transposedB?: boolean;
  /** Whether operands can be copied into textures; default false. */
  readonly images?: boolean;
  /** Whether sums go in blocks, with which large tiles take long to compile; default false. */
  readonly blocked?: boolean;
  /** Whether the rows of the left operand are summed as well; default false. */
  readonly rowSums?: boolean;
}

const tilesOf = ({ rows, columns }: GemmVariant, { m, n, batch }: GemmProblem): number =>
  Math.ceil(m / rows) * Math.ceil(n / columns) * batch;

/** Time for four elements in loads of this many, relative to one load of four, on lavapipe. */
const LOAD_TIME: Readonly<Record<number, number>> = { 4: 1, 2: 1.5, 1: 2.3 };

/**
 * Time to load a vector of the right operand, relative to a multiply-add of four: in the cache of a
 * core, and beyond.
 */
const B_LOAD = { near: 12, far: 30 };
/**
 * Elements of a right operand that is not transposed from which on no cache keeps it from one row
 * of tiles to the next.
 */
const FAR_B = 2 ** 20;

/**
 * Relative time of a subgroup tile, fitted to measurements on lavapipe: multiply-adds, loads of A,
 * loads of B.
 */
function tileTime({ LANES, ROWS, VECS, IMAGES }: Constants, problem: GemmProblem): number {
  const { n, k, widthA, widthB, transposedB = false } = problem;
  const [rows, vecs] = [Number(ROWS), Number(VECS)];
  if (IMAGES) return 0.7 * rows * vecs + 0.1 * rows + 0.6 * Number(LANES) * vecs;
  const load = !transposedB && n * k >= FAR_B ? B_LOAD.far : B_LOAD.near;
  return rows * vecs + 0.2 * rows * LOAD_TIME[widthA] + load * vecs * LOAD_TIME[widthB];
}

/** The first variant to use, without measurements of this machine. */
function startWith(
  device: Device,
  problem: GemmProblem,
  fitting: readonly GemmVariant[],
): GemmVariant {
  if (!device.info.software) {
    const shared = fitting.filter(({ kernel }) => kernel === tiledKernel);
    return shared.find((tile) => tilesOf(tile, problem) >= ENOUGH_WORKGROUPS) ??
      shared.at(-1) ?? REGISTER;
  }
  const { m, n, k, batch, blocked = false } = problem;
  // lavapipe deals workgroups out to the cores in equal numbers, so the core with the most decides.
  const time = (tile: GemmVariant) =>
    Math.ceil(tilesOf(tile, problem) / cores()) *
    tileTime(tile.constants, problem);
  const isLarge = ({ constants: { ROWS, VECS } }: GemmVariant) =>
    Number(ROWS) * Number(VECS) >= LARGE_TILE;
  const candidates = fitting.filter((tile) =>
    tile.kernel === subgroupKernel &&
    (!isLarge(tile) || !blocked && m * n * k * batch >= LARGE_PRODUCT)
  );
  return candidates.length === 0
    ? REGISTER
    : candidates.reduce((best, tile) => time(tile) < time(best) ? tile : best);
}

/** The variants that can compute a product on this device, the one to start with first. */
export function gemmVariants(device: Device, problem: GemmProblem): readonly GemmVariant[] {
  const most = device.workgroupLimit;
  const { buffers = [], images = [] } = SUBGROUP_TILES[device.info.subgroupSize] ?? {};
  const fitting = [
    REGISTER,
    ...(problem.images ? images : []),
    ...buffers,
    ...(problem.rowSums ? [] : SHARED_TILES),
  ].filter(({ rows, columns }) => problem.m <= most * rows && problem.n <= most * columns);
  const first = startWith(device, problem, fitting);
  return [first, ...fitting.filter((variant) => variant !== first)];
}
