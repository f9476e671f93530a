/**
 * Launching matrix products: asks for the kernel variant, and splits what a binding or a launch
 * cannot hold.
 *
 * @module
 */
import {
  type GemmProblem,
  type GemmVariant,
  gemmVariants,
  LARGEST_REGISTER_TILE,
} from "./gemm_variants.ts";
import type { Device, TensorWindow } from "../device.ts";
import { type ImageLayout, ROW_BYTES } from "../images.ts";
import type { Constants } from "../template.ts";
import type { Tensor } from "../tensor.ts";

/**
 * One operand: where its first matrix starts and how far its rows and matrices lie apart, in
 * elements.
 */
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

/**
 * `c = alpha * a b (+ bias) (+ residual)`, perhaps GELU or a factor after it; `a` is m x k, `b` is
 * k x n, `c` is m x n.
 */
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
  /** Laid out like `c`: receives the derivative of GELU at the result, to which GELU is applied. */
  readonly slope?: Tensor;
  /** Laid out like `c`, which is multiplied by it. Not with `slope`. */
  readonly factor?: Tensor;
  /** [m], of the type of `a`: receives the sums of the rows of `a`, where {@link gemm} can. */
  readonly rowSums?: Tensor;
  /** Add to `c` instead of overwriting it. */
  readonly accumulate?: boolean;
}

/** Inner size up to which a sum goes over k in order. */
const LONGEST_IN_ORDER = 16384;
/** Inner size of one launch: sums of blocks (kernels/include/gemm_blocks.wgsl) in order. */
const LONGEST_LAUNCH = 32768;

/**
 * Computes a matrix product. Sums are f32, whatever the operands are, in the same order in every
 * kernel variant: over k up to 16,384, beyond in blocks of 128 whose sums are added, and those of
 * 32,768 each in turn. So the sum of any number of equal terms is right to 5e-6, where 16,384 of
 * them in order may be off by 2e-4.
 *
 * @param args all tensors f32, or all f16
 * @returns whether the row sums that were asked for are there
 * @throws {RangeError} if a single row of an operand exceeds the adapter's binding limit.
 */
export function gemm(args: GemmArguments): boolean {
  const { m, n, k, batch = 1 } = args;
  if (m === 0 || n === 0 || batch === 0) return false;
  const rowSums = sumsRows(args) ? args.rowSums : undefined;
  launch({ ...args, rowSums }, [0, m], [0, n], [0, k], [0, batch], args.accumulate ?? false);
  return rowSums !== undefined;
}

/**
 * Whether the kernels can sum the rows of `a` on the way: those that start on software adapters,
 * whose lanes load rows side by side then, if a launch has all of k.
 */
function sumsRows({ a, b, c, k, batch = 1, rowSums }: GemmArguments): boolean {
  const { bindingLimit, offsetAlignment, info } = c.tensor.device;
  const fits = ({ tensor, ld }: MatrixOperand) =>
    k * ld * tensor.itemSize <= bindingLimit - offsetAlignment;
  return rowSums !== undefined && info.software && a.transposed === true && !b.transposed &&
    batch === 1 && k <= LONGEST_IN_ORDER && fits(a) && fits(b);
}

type Range = readonly [first: number, count: number];

/**
 * Halves a range, the first half a multiple of 8 where possible so that vector loads stay aligned.
 */
function halves([first, count]: Range): Range[] {
  const half = count > 8 ? Math.ceil(count / 16) * 8 : Math.ceil(count / 2);
  return [[first, half], [first + half, count - half]];
}

/** Cuts a range after every {@link LONGEST_LAUNCH}. */
function blocks([first, count]: Range): Range[] {
  return Array.from({ length: Math.ceil(count / LONGEST_LAUNCH) }, (_, i) => {
    const done = i * LONGEST_LAUNCH;
    return [first + done, Math.min(LONGEST_LAUNCH, count - done)];
  });
}

/** One launch of a product, perhaps of a part of k. */
interface Launch extends GemmArguments {
  /** f32, laid out like `c`: the product over k before, added before everything else. */
  readonly partial?: MatrixOperand;
}

/** Operands in the order of their bindings, and the parameter that says where each starts. */
const OFFSETS = [
  ["a", "offset_a"],
  ["b", "offset_b"],
  ["c", "offset_c"],
  ["bias", "offset_bias"],
  ["residual", "offset_residual"],
  ["slope", "offset_slope"],
  ["partial", "offset_partial"],
  ["rowSums", "offset_sums"],
] as const;

/** What was found for a problem: small products come by the thousand. */
interface Variants {
  readonly byName: ReadonlyMap<string, GemmVariant>;
  readonly names: readonly string[];
  /** What launches have in common, by {@link formOf}. */
  readonly forms: Map<number, Form>;
}

/** What launches of one problem and form have in common. */
interface Form {
  /** Key of {@link Tuning.pick}. */
  readonly tunable: string;
  /** Constants, frozen, by variant. */
  readonly constants: Map<string, Constants>;
}

const knownVariants = new WeakMap<Device, Map<string, Variants>>();
/** Problems whose variants are kept. */
const MOST_PROBLEMS = 1024;

/** {@link gemmVariants}, found once for each problem. */
function variantsOf(device: Device, problem: GemmProblem): Variants {
  let known = knownVariants.get(device);
  if (!known) knownVariants.set(device, known = new Map());
  const { m, n, k, batch, widthA, widthB, ...flags } = problem;
  const { transposedB, images, blocked, rowSums } = flags;
  const key = `${m},${n},${k},${batch},${widthA},${widthB},` +
    `${transposedB},${images},${blocked},${rowSums}`;
  let found = known.get(key);
  if (!found) {
    if (known.size === MOST_PROBLEMS) known.clear();
    const byName = new Map(gemmVariants(device, problem).map((it) => [it.name, it]));
    known.set(key, found = { byName, names: [...byName.keys()], forms: new Map() });
  }
  return found;
}

function launch(
  args: Launch,
  m: Range,
  n: Range,
  k: Range,
  batch: Range,
  accumulate: boolean,
): void {
  const { a, b, c } = args;
  const { device } = c.tensor;
  const { dtype } = a.tensor;
  const most = device.workgroupLimit;
  const longest = most * LARGEST_REGISTER_TILE;

  const span = (operand: MatrixOperand, rows: Range, columns: Range) => {
    const [outer, inner] = operand.transposed ? [columns, rows] : [rows, columns];
    const step = operand.batchStride ?? 0;
    const first = operand.tensor.offset + (operand.start ?? 0) + batch[0] * step +
      outer[0] * operand.ld + inner[0];
    const count = (batch[1] - 1) * step + (outer[1] - 1) * operand.ld + inner[1];
    return { tensor: operand.tensor, first, count };
  };
  const slopes = args.slope ?? args.factor;
  const like = (tensor: Tensor) => span({ ...c, tensor, start: 0 }, m, n);
  const spans = {
    a: span(a, m, k),
    b: span(b, k, n),
    c: span(c, m, n),
    bias: args.bias && { tensor: args.bias, first: args.bias.offset + n[0], count: n[1] },
    residual: args.residual && like(args.residual),
    slope: slopes && like(slopes),
    partial: args.partial && span(args.partial, m, n),
    rowSums: args.rowSums &&
      { tensor: args.rowSums, first: args.rowSums.offset + m[0], count: m[1] },
  };
  const tooLarge = (part: { tensor: Tensor; count: number } | undefined) =>
    part !== undefined &&
    part.count * part.tensor.itemSize > device.bindingLimit - device.offsetAlignment;
  const tooMany = batch[1] > most || m[1] > longest || n[1] > longest;
  // Partial sums are f32.
  const largeC = tooLarge(spans.c) || tooLarge(spans.partial) ||
    k[1] > LONGEST_LAUNCH && spans.c.count * 4 > device.bindingLimit - device.offsetAlignment;
  if (tooMany || largeC || Object.values(spans).some(tooLarge)) {
    const launchPart = (over: { m?: Range; n?: Range; k?: Range; batch?: Range }, add: boolean) =>
      launch(args, over.m ?? m, over.n ?? n, over.k ?? k, over.batch ?? batch, add);
    if (batch[1] > 1) halves(batch).forEach((half) => launchPart({ batch: half }, accumulate));
    else if (m[1] > longest || m[1] > 1 && (largeC || tooLarge(spans.a) && !a.transposed)) {
      halves(m).forEach((half) => launchPart({ m: half }, accumulate));
    } else if (n[1] > longest || n[1] > 1 && (largeC || tooLarge(spans.b) && b.transposed)) {
      halves(n).forEach((half) => launchPart({ n: half }, accumulate));
    } else splitInner(args, m, n, k, batch, accumulate);
    return;
  }
  if (k[1] > LONGEST_LAUNCH) {
    splitInner(args, m, n, k, batch, accumulate);
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
    offset_slope: 0,
    offset_partial: 0,
    offset_sums: 0,
  };
  const windows: TensorWindow[] = [];
  for (const [name, offset] of OFFSETS) {
    const part = spans[name];
    if (!part) continue;
    const start = part.first - part.first % (device.offsetAlignment / part.tensor.itemSize);
    params[offset] = part.first - start;
    windows.push({
      tensor: part.tensor,
      start: start - part.tensor.offset,
      count: part.first - start + part.count,
    });
  }
  const mayCopy = batch[1] === 1 && k[1] % 4 === 0 && isWorthCopying(m[1], n[1], k[1]) &&
    device.images.usable;
  const imageA = mayCopy ? imageOf(a, m, k, spans.a.first) : undefined;
  const imageB = mayCopy ? imageOf(b, k, n, spans.b.first) : undefined;
  const sizes = {
    m: m[1],
    n: n[1],
    k: k[1],
    batch: batch[1],
    widthA: widthOf(a.transposed ? m[1] : k[1], a.ld, params.batch_a, spans.a.first),
    widthB: widthOf(b.transposed ? k[1] : n[1], b.ld, params.batch_b, spans.b.first),
    transposedB: b.transposed ?? false,
    blocked: args.k > LONGEST_IN_ORDER,
    rowSums: args.rowSums !== undefined,
    images: imageA !== undefined && imageB !== undefined,
  };
  const results = [spans.c, spans.bias, spans.residual, spans.slope, spans.partial];
  const firsts = results.map((part) => part?.first ?? 0);
  const widthC = widthOf(n[1], c.ld, params.batch_c, ...firsts);
  const variants = variantsOf(device, sizes);
  const form = formOf(args, widthC, accumulate);
  let known = variants.forms.get(form);
  if (!known) {
    const layout = `${a.transposed ? "t" : "n"}${b.transposed ? "t" : "n"}`;
    // Loads and stores of four elements, the usual ones, go without saying.
    const widths = [sizes.widthA, sizes.widthB, widthC].join("-");
    const accesses = (widths === "4-4-4" ? "" : `/${widths}`) + (sizes.rowSums ? "/sums" : "");
    const shape = shapeClass(sizes, a.transposed ?? false);
    const tunable = `gemm/${layout}/${dtype}/${shape}${accesses}`;
    variants.forms.set(form, known = { tunable, constants: new Map() });
  }
  const { tunable, constants } = known;
  const constantsOf = (name: string): Constants => {
    let found = constants.get(name);
    if (!found) {
      found = Object.freeze({
        IMAGES: false,
        ...variants.byName.get(name)!.constants,
        E: dtype,
        EC: c.tensor.dtype,
        VA: sizes.widthA,
        VB: sizes.widthB,
        VC: widthC,
        TAIL: k[1] % 4 !== 0,
        BLOCKED: sizes.blocked,
        TA: a.transposed ?? false,
        TB: b.transposed ?? false,
        BIAS: args.bias !== undefined,
        GELU: args.slope !== undefined,
        FACTOR: args.factor !== undefined,
        RESIDUAL: args.residual !== undefined,
        PARTIAL: args.partial !== undefined,
        ACC: accumulate,
        SUMS: sizes.rowSums,
      });
      constants.set(name, found);
    }
    return found;
  };
  const run = (name: string, operands: readonly TensorWindow[]) => {
    const { kernel, rows, columns } = variants.byName.get(name)!;
    const constants = constantsOf(name);
    const images = constants.IMAGES ? [imageA, imageB] : [];
    device.run(
      kernel,
      constants,
      operands.map((operand, i) => {
        const image = images[i];
        if (!image) return operand;
        const skipped = i === 0 ? params.offset_a : params.offset_b;
        return {
          ...operand,
          start: operand.start + skipped,
          count: operand.count - skipped,
          image,
        };
      }),
      params,
      [Math.ceil(n[1] / columns), Math.ceil(m[1] / rows), batch[1]],
    );
  };
  const picked = device.tuning.pick(
    tunable,
    variants.names,
    () => {
      const sizes = windows.map(({ tensor, count }) => ({ count, dtype: tensor.dtype }));
      return (name) => {
        const scratch = sizes.map(({ count, dtype }) => {
          return { tensor: device.empty([count], dtype), start: 0, count };
        });
        run(name, scratch);
        scratch.forEach(({ tensor }) => tensor.dispose());
      };
    },
  );
  run(picked, windows);
}

/** What the constants of a launch depend on beside its problem, as one number. */
function formOf(args: Launch, widthC: number, accumulate: boolean): number {
  const { a, b, c, bias, slope, factor, residual, partial, rowSums } = args;
  const half = (operand: MatrixOperand) => operand.tensor.dtype === "f16";
  const types = [half(a), half(c), a.transposed, b.transposed];
  const bits = [...types, bias, slope, factor, residual, partial, rowSums];
  return bits.reduce((all, bit) => 2 * all + (bit ? 1 : 0), accumulate ? 1 : 0) * 8 + widthC;
}

/**
 * Elements that can be loaded or stored at once where rows have this length and start at these
 * distances.
 */
function widthOf(...distances: readonly number[]): 4 | 2 | 1 {
  const divides = (width: number) => distances.every((distance) => distance % width === 0);
  return divides(4) ? 4 : divides(2) ? 2 : 1;
}

/** How a part of an operand is copied into a texture; undefined where it cannot be. */
function imageOf(
  { tensor, ld, transposed }: MatrixOperand,
  [, rows]: Range,
  [, columns]: Range,
  first: number,
): ImageLayout | undefined {
  const { itemSize, dtype, device } = tensor;
  const [height, length] = transposed ? [columns, rows] : [rows, columns];
  const image = { width: Math.ceil(length / 4), height, bytesPerRow: ld * itemSize };
  // Rows may overlap in memory, not in an image.
  const whole = dtype === "f32" && length <= ld && length % 4 === 0 && first % 4 === 0 &&
    image.bytesPerRow % ROW_BYTES === 0;
  return whole && device.images.fits(image) ? image : undefined;
}

/** Whether the copies of both operands take a small part of the time of the product. */
function isWorthCopying(m: number, n: number, k: number): boolean {
  return 1 / m + 1 / n < 1 / 48 && m * n * k >= 2 ** 21;
}

/**
 * Sizes as measurements tell them apart: how many tokens go through a weight counts by powers of
 * two only.
 */
function shapeClass({ m, n, k, batch }: GemmProblem, gradient: boolean): string {
  const rough = (size: number) => size < 64 ? size : 2 ** Math.ceil(Math.log2(size));
  const sizes = gradient ? [m, n, rough(k)] : [rough(m), n, k];
  return sizes.join("x") + (batch > 1 ? `x${rough(batch)}` : "");
}

/**
 * Splits K: the first part writes, the others add; bias and residual ride on the first. Where f16,
 * GELU or a factor forbid adding to the result, all but the last add up in f32 elsewhere.
 */
function splitInner(
  args: Launch,
  m: Range,
  n: Range,
  k: Range,
  batch: Range,
  accumulate: boolean,
): void {
  if (k[1] < 2) {
    throw new RangeError("gemm: one row of an operand exceeds the adapter's binding limit");
  }
  const parts = k[1] > LONGEST_LAUNCH ? blocks(k) : halves(k);
  const plain = {
    ...args,
    ...{ bias: undefined, residual: undefined, slope: undefined, factor: undefined },
  };
  const { c } = args;
  const { device, dtype } = c.tensor;
  if (dtype === "f32" && !args.slope && !args.factor) {
    parts.forEach((part, i) => launch(i ? plain : args, m, n, part, batch, i > 0 || accumulate));
    return;
  }
  // Laid out like this part of C.
  const step = c.batchStride ?? 0;
  const first = batch[0] * step + m[0] * c.ld + n[0];
  const count = (batch[1] - 1) * step + (m[1] - 1) * c.ld + n[1];
  const partial = args.partial ?? { ...c, tensor: device.empty([count]), start: -first };
  const last = parts.pop()!;
  parts.forEach((part, i) => {
    const add = i > 0 || args.partial !== undefined;
    launch({ ...plain, c: partial, partial: undefined }, m, n, part, batch, add);
  });
  launch({ ...args, partial }, m, n, last, batch, accumulate);
  if (!args.partial) partial.tensor.dispose();
}
