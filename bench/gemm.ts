/**
 * Matrix products at the shapes of MATPAC's training steps.
 *
 * @module
 */
import type { Device } from "../engine/mod.ts";
import { gemm } from "../engine/launch/gemm.ts";
import { visibleCount } from "../model/objectives/masking.ts";

import { PRESETS } from "../model/objectives/presets.ts";
import { type Geometry, patchGrid, patchSides } from "../model/vit/geometry.ts";
import { affordablePart, prepared, random } from "./case.ts";
import type { Benchmark, Prepared } from "./harness.ts";
import { naiveGemm } from "./naive/kernels.ts";

/** Which operand is stored transposed: nn none, nt the right one, tn the left one. */
export type Layout = "nn" | "nt" | "tn";
/** What the kernel does to the product before it stores it. */
export type Epilogue = "" | "+bias" | "+bias+gelu" | "+bias+residual";

/** One matrix product: m x k by k x n. */
export interface Product {
  readonly layout: Layout;
  readonly epilogue: Epilogue;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Default 1. */
  readonly batch?: number;
}

/** A product's name, such as `gemm/nt+bias/1024x768x768`. */
export function nameOf({ layout, epilogue, m, n, k, batch }: Product): string {
  return `gemm/${layout}${epilogue}/${batch ? `b${batch}x` : ""}${m}x${n}x${k}`;
}

/** Rows of a linear layer's operands and what a step does with it. */
interface Layer {
  readonly rows: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly epilogue: Epilogue;
  /** Forward alone, or also the gradients of input and weight. */
  readonly gradients: "none" | "weight" | "both";
}

/** Every linear layer of an update: student with gradients, teacher without. */
function layersOf(geometry: Geometry, batch: number): Layer[] {
  const {
    width: d,
    predictorWidth: w,
    headHidden: h,
    bottleneck,
    prototypes,
    maskRatio,
  } = geometry;
  const [high, wide] = patchSides(geometry);
  const { patches } = patchGrid(geometry);
  const visible = visibleCount(patches, maskRatio);
  const masked = patches - visible;
  const layer = (
    rows: number,
    inputs: number,
    outputs: number,
    epilogue: Epilogue = "+bias",
    gradients: Layer["gradients"] = "both",
  ): Layer => ({ rows: batch * rows, inputs, outputs, epilogue, gradients });
  const block = (tokens: number, size: number, gradients: Layer["gradients"]) => [
    layer(tokens, size, 3 * size, "+bias", gradients),
    layer(tokens, size, size, "+bias+residual", gradients),
    layer(tokens, size, 4 * size, "+bias+gelu", gradients),
    layer(tokens, 4 * size, size, "+bias+residual", gradients),
  ];
  const head = (gradients: Layer["gradients"]) => [
    layer(masked, d, h, "+bias+gelu", gradients),
    layer(masked, h, h, "+bias+gelu", gradients),
    layer(masked, h, bottleneck, "+bias", gradients),
    layer(masked, bottleneck, prototypes, "", gradients),
  ];
  return [
    layer(patches, high * wide, d, "+bias", "weight"),
    ...block(1 + visible, d, "both"),
    layer(1 + visible, d, w),
    ...block(1 + patches, w, "both"),
    layer(masked, w, d),
    ...head("both"),
    ...block(1 + masked, d, "none"),
    ...head("none"),
  ];
}

/** Every matrix product of an update that is no part of attention, each once. */
export function stepProducts(geometry: Geometry, batch: number): Product[] {
  const products = layersOf(geometry, batch).flatMap(
    ({ rows, inputs, outputs, epilogue, gradients }): Product[] => [
      { layout: "nt", epilogue, m: rows, n: outputs, k: inputs },
      ...(gradients === "both"
        ? [{ layout: "nn", epilogue: "", m: rows, n: inputs, k: outputs } as const]
        : []),
      ...(gradients === "none"
        ? []
        : [{ layout: "tn", epilogue: "", m: outputs, n: inputs, k: rows } as const]),
    ],
  );
  return [...new Map(products.map((it) => [nameOf(it), it])).values()];
}

/** Multiply-adds that a naive kernel may take on a software adapter, some 30 ms. */
const AFFORDABLE = 2 ** 24;

function benchmark(product: Product, tier: Benchmark["tier"]): Benchmark {
  const { epilogue, m, n, k, batch = 1 } = product;
  const name = nameOf(product);
  const extra = epilogue === "" ? 0 : epilogue === "+bias" ? n : n + m * n;
  return {
    name,
    tier,
    bound: "fma",
    flops: 2 * batch * m * n * k,
    bytes: 4 * (batch * (m * k + k * n + m * n) + extra),
    prepare: (device) => Promise.resolve(prepare(device, product, name)),
  };
}

function prepare(device: Device, product: Product, name: string): Prepared {
  const { layout, epilogue, m, n, k, batch = 1 } = product;
  const [ta, tb] = [layout === "tn", layout === "nt"];
  const a = random(device, [batch, m, k]);
  const b = random(device, [batch, k, n], k ** -0.5);
  const bias = epilogue === "" ? undefined : random(device, [n]);
  const residual = epilogue.endsWith("residual") ? random(device, [m, n]) : undefined;
  const slope = epilogue.endsWith("gelu") ? device.empty([m, n]) : undefined;
  const c = device.empty([batch, m, n]);
  const outputs = () => {
    gemm({
      a: { tensor: a, ld: ta ? m : k, transposed: ta, batchStride: m * k },
      b: { tensor: b, ld: tb ? k : n, transposed: tb, batchStride: k * n },
      c: { tensor: c, ld: n, batchStride: m * n },
      m,
      n,
      k,
      batch,
      bias,
      residual,
      slope,
    });
    return [c];
  };
  const rows = batch > 1 ? m : affordablePart(device, m, AFFORDABLE / n / k);
  const batches = batch > 1 ? affordablePart(device, batch, AFFORDABLE / m / n / k) : 1;
  const naive = {
    share: rows * batches / m / batch,
    // Sums of k products in another order: their error grows with the root of k.
    tolerance: 1e-6 * Math.max(4, Math.sqrt(k)),
    outputs: () => [
      naiveGemm(a, b, {
        m,
        n,
        k,
        rows,
        batch: batches,
        ta,
        tb,
        bias,
        residual,
        gelu: slope !== undefined,
      }),
    ],
  };
  const operands = [a, b, c, bias, residual, slope].filter((it) => it !== undefined);
  return prepared(name, { operands, outputs, naive });
}

/** Measured on every machine, whatever the presets are. */
const FIXED: readonly (readonly [Product, Benchmark["tier"]])[] = [
  [{ layout: "nn", epilogue: "", m: 1024, n: 768, k: 768 }, "check"],
  [{ layout: "nt", epilogue: "", m: 1024, n: 768, k: 768 }, "check"],
  [{ layout: "tn", epilogue: "", m: 1024, n: 768, k: 768 }, "check"],
  [{ layout: "nt", epilogue: "+bias+gelu", m: 1024, n: 768, k: 768 }, "quick"],
  [{ layout: "nt", epilogue: "+bias+residual", m: 1024, n: 768, k: 768 }, "quick"],
  // The two products of attention in the base step.
  [{ layout: "nt", epilogue: "", m: 134, n: 134, k: 64, batch: 96 }, "quick"],
  [{ layout: "nn", epilogue: "", m: 134, n: 64, k: 134, batch: 96 }, "quick"],
  // And one whose sizes are multiples of all tiles.
  [{ layout: "nn", epilogue: "", m: 128, n: 128, k: 64, batch: 96 }, "full"],
];

/** Clips of the base step's shapes, of which names of benchmarks are made. */
export const BASE_BATCH = 8;

/** All of them, each name once. */
export const GEMM_BENCHMARKS: readonly Benchmark[] = [
  ...new Map([
    ...FIXED,
    ...[
      ...stepProducts(PRESETS.tiny.geometry, PRESETS.tiny.training.batch),
      ...stepProducts(PRESETS.base.geometry, BASE_BATCH),
    ].map((it) => [it, "full"] as const),
  ].map(([product, tier]) => [nameOf(product), benchmark(product, tier)])).values(),
];
