/**
 * Unrecorded scans along an axis, in blocks.
 *
 * @module
 */
import source from "../../kernels/scan.wgsl" with { type: "text" };
import { type DType, isFloat } from "../dtype.ts";
import { defineKernel } from "../kernel.ts";
import { type Shape, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { rowChunks, rowsOf } from "./elementwise.ts";
import type { Extent } from "./reduce.ts";

const kernel = /* @__PURE__ */ defineKernel("scan", source, { rounds: () => BLOCK + 1 });
const WORKGROUP = 64;
/** Elements that one invocation goes through. */
const BLOCK = 64;

const KINDS = {
  ...{ sum: 0, prod: 1, max: 2, min: 3, linear: 4, segments: 4 },
  // Totals alone.
  ...{ most: 5, least: 6 },
} as const;

/** What a scan computes (kernels/scan.wgsl). */
export interface Scan {
  /** Running sums, products, extrema, or recurrences. */
  readonly kind: keyof typeof KINDS;
  /** From the end of the axis to its beginning. */
  readonly reverse?: boolean;
  /** Without the element itself. */
  readonly exclusive?: boolean;
}

/** A dense tensor around one of its axes. */
export function extentOf(shape: Shape, axis: number): Extent {
  return {
    outer: sizeOf(shape.slice(0, axis)),
    reduce: shape[axis],
    inner: sizeOf(shape.slice(axis + 1)),
  };
}

/** What a pass reads besides its source, by the numbers of its bindings. */
interface Operands {
  readonly result: Tensor;
  readonly carry?: Tensor;
  /** Factors, or places that stand for elements. */
  readonly beside?: Tensor;
  /** Products of factors, or values at places. */
  readonly second?: Tensor;
}

function pass(
  scan: Scan,
  x: Tensor,
  { result, carry, beside, second }: Operands,
  { outer, reduce: width, inner }: Extent,
  leaf: boolean,
  totals: boolean,
): void {
  const { device } = x;
  const parts = Math.ceil(width / BLOCK);
  const others = [result, carry, beside, second].filter((it) => it !== undefined);
  const perRow = (tensor: Tensor) => tensor.size / outer;
  const sizes = [x, ...others].map(perRow);
  const narrowest = Math.min(...[x, ...others].map(({ itemSize }) => itemSize));
  for (const [first, count] of rowChunks(device, outer, sizes, narrowest)) {
    const invocations = count * parts * inner;
    device.run(
      kernel,
      {
        WG: WORKGROUP,
        BLOCK,
        KIND: KINDS[scan.kind],
        SEGMENTS: scan.kind === "segments",
        TOTALS: totals,
        CARRY: carry !== undefined,
        LEAF: leaf,
        REVERSE: leaf && (scan.reverse ?? false),
        EXCLUSIVE: leaf && (scan.exclusive ?? false),
        E: x.dtype,
        EO: result.dtype,
        C: carried(scan, x.dtype),
        F: beside?.dtype ?? "f32",
        FLOAT: isFloat(x.dtype),
        SIGNED: x.dtype === "i32",
      },
      [x, ...others].map((tensor) => rowsOf(tensor, first, count, perRow(tensor))),
      { count: invocations, width, inner, parts, whole: x.size / outer / inner },
      Math.ceil(invocations / WORKGROUP),
    );
  }
}

/** Element type of totals. */
function carried({ kind }: Scan, dtype: DType): DType {
  return kind === "max" || kind === "min" ? "u32" : isFloat(dtype) ? "f32" : dtype;
}

/** Folds blocks of the axis: totals, and for recurrences products of factors. */
function fold(
  scan: Scan,
  x: Tensor,
  beside: Tensor | undefined,
  extent: Extent,
  leaf: boolean,
): Operands {
  const shape = [extent.outer, Math.ceil(extent.reduce / BLOCK), extent.inner];
  const result = x.device.empty(shape, carried(scan, x.dtype));
  const second = KINDS[scan.kind] === 4 ? x.device.empty(shape, result.dtype) : undefined;
  pass(scan, x, { result, beside, second }, extent, leaf, true);
  return { result, second };
}

function run(
  scan: Scan,
  x: Tensor,
  operands: Operands,
  extent: Extent,
  leaf: boolean,
): void {
  const { outer, reduce, inner } = extent;
  if (outer * reduce * inner === 0) return;
  let carry: Tensor | undefined;
  if (reduce > BLOCK) {
    const { device } = x;
    const totals = fold(scan, x, operands.beside, extent, leaf);
    carry = device.empty(totals.result.shape, totals.result.dtype);
    const next = { outer, reduce: totals.result.shape[1], inner };
    // Totals take the place of elements; those of extrema are places in the same source.
    if (carry.dtype === "u32" && (scan.kind === "max" || scan.kind === "min")) {
      run(scan, x, { result: carry, beside: totals.result }, next, false);
    } else {
      run(scan, totals.result, { result: carry, beside: totals.second }, next, false);
    }
    totals.result.dispose();
    totals.second?.dispose();
  }
  pass(scan, x, { ...operands, carry }, extent, leaf, false);
  carry?.dispose();
}

/**
 * Scans a dense tensor along an axis into `result`, of its shape. Sums and products are f32 for
 * floats, and wrap around for integers.
 *
 * @param beside factors of `linear`, places of `segments`
 * @param values what stands at the places that `max` and `min` give
 */
export function scanInto(
  result: Tensor,
  x: Tensor,
  axis: number,
  scan: Scan,
  { beside, values }: { readonly beside?: Tensor; readonly values?: Tensor } = {},
): void {
  run(scan, x, { result, beside, second: values }, extentOf(x.shape, axis), true);
}

/**
 * Sum, product, or of integers the largest or smallest along the middle axis, which has elements,
 * of a dense tensor seen as `[outer, reduce, inner]`: `[outer, 1, inner]`, f32 for floats. Sums and
 * products of integers wrap around.
 */
export function foldOf(
  x: Tensor,
  extent: Extent,
  kind: "sum" | "prod" | "most" | "least",
): Tensor {
  let { result } = fold({ kind }, x, undefined, extent, true);
  while (result.shape[1] > 1) {
    const next = fold({ kind }, result, undefined, { ...extent, reduce: result.shape[1] }, false);
    result.dispose();
    ({ result } = next);
  }
  return result;
}
