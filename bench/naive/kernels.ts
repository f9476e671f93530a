/**
 * The plain kernels that ours are held against: one thread per output (per row where outputs share
 * a sum), written for the reader and not for speed.
 *
 * @module
 */
import adamw from "./adamw.wgsl" with { type: "text" };
import cosine from "./cosine.wgsl" with { type: "text" };
import crossEntropy from "./cross_entropy.wgsl" with { type: "text" };
import dft from "./dft.wgsl" with { type: "text" };
import elementwise from "./elementwise.wgsl" with { type: "text" };
import gather from "./gather.wgsl" with { type: "text" };
import gemm from "./gemm.wgsl" with { type: "text" };
import layernorm from "./layernorm.wgsl" with { type: "text" };
import mel from "./mel.wgsl" with { type: "text" };
import reduce from "./reduce.wgsl" with { type: "text" };
import softmax from "./softmax.wgsl" with { type: "text" };
import { type Constants, defineKernel, type Params, type Tensor } from "../../engine/mod.ts";

const KERNELS = {
  adamw: defineKernel("naive_adamw", adamw),
  cosine: defineKernel("naive_cosine", cosine),
  crossEntropy: defineKernel("naive_cross_entropy", crossEntropy),
  dft: defineKernel("naive_dft", dft),
  elementwise: defineKernel("naive_elementwise", elementwise),
  gather: defineKernel("naive_gather", gather),
  gemm: defineKernel("naive_gemm", gemm),
  layernorm: defineKernel("naive_layernorm", layernorm),
  mel: defineKernel("naive_mel", mel),
  reduce: defineKernel("naive_reduce", reduce),
  softmax: defineKernel("naive_softmax", softmax),
} as const;

/**
 * Runs a plain kernel with one thread per output.
 *
 * @param operands in the order of its bindings
 * @param params all but `count`
 * @param count number of threads
 */
export function naive(
  name: keyof typeof KERNELS,
  constants: Constants,
  operands: readonly Tensor[],
  params: Params,
  count: number,
): void {
  const groups = Math.ceil(count / 64);
  operands[0].device.run(KERNELS[name], constants, operands, { ...params, count }, groups);
}

/** A product for {@link naiveGemm}: [m, k] by [k, n], `batch` times, dense. */
export interface PlainProduct {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly batch?: number;
  /** Rows to compute of each product; default all. */
  readonly rows?: number;
  readonly alpha?: number;
  /** Whether `a` is stored transposed. */
  readonly ta?: boolean;
  /** Whether `b` is stored transposed. */
  readonly tb?: boolean;
  readonly bias?: Tensor;
  readonly residual?: Tensor;
  readonly gelu?: boolean;
}

/** The plain matrix product: [batch, rows, n]. */
export function naiveGemm(a: Tensor, b: Tensor, product: PlainProduct): Tensor {
  const { m, n, k, batch = 1, rows = m, alpha = 1, bias, residual } = product;
  const c = a.device.empty([batch, rows, n]);
  naive(
    "gemm",
    {
      TA: product.ta ?? false,
      TB: product.tb ?? false,
      GELU: product.gelu ?? false,
      BIAS: bias !== undefined,
      RESIDUAL: residual !== undefined,
    },
    [a, b, c, ...[bias, residual].filter((it) => it !== undefined)],
    { rows, m, n, k, alpha },
    batch * rows * n,
  );
  return c;
}
