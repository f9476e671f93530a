/**
 * Launching elementwise kernels over strided operands, split where a binding would exceed the
 * adapter's limit.
 *
 * @module
 */
import source from "../../kernels/elementwise.wgsl" with { type: "text" };
import { fragments } from "../../kernels/include/mod.ts";
import { BYTES_PER_ELEMENT, type DType } from "../dtype.ts";
import { defineKernel } from "../kernel.ts";
import { broadcastStrides, collapseAxes, isDense } from "../shape.ts";
import type { Tensor } from "../tensor.ts";

const kernel = defineKernel("elementwise", source, {
  rounds: ({ constants: { RUN, U } }) => Number(RUN) > 1 ? Number(RUN) / Number(U) + 1 : 0,
  label: ({ constants: { EXPR, W }, params: { count } }) => `${EXPR} over ${count * Number(W)}`,
});
const WORKGROUP = 64;
/** A call of a function that kernels/include/functions.wgsl has beside those of math.wgsl. */
const FUNCTIONS = new RegExp(
  `\\b(${[...fragments.functions.matchAll(/^fn (\w+)_vec4/gm)].map(([, it]) => it).join("|")})_`,
);

/**
 * Invocations per workgroup and elements in sequence of each where arrays are large on a software
 * adapter.
 */
const STREAM = { workgroup: 16, elements: 1024 };
/** Workgroups of streams that each core should get at least. */
const STREAMS_PER_CORE = 8;

/** What an elementwise kernel computes. */
export interface ElementwiseMap {
  /**
   * WGSL over a, b, c, d (operands), o (the old output, with `readOut`), params.alpha and
   * params.beta. `T` is the type of the first operand in registers, such as f32 or vec4f (f16 is
   * widened to f32), `S` its scalar; `$V` is "f32" or "vec4", the suffix of functions in math.wgsl.
   */
  readonly expression: string;
  /** Whether the expression uses `o`. */
  readonly readOut?: boolean;
  /** Scalar parameter. */
  readonly alpha?: number;
  /** Scalar parameter. */
  readonly beta?: number;
}

/** WGSL of the larger or smaller of two operands, NaN where either is: `max` alone may drop it. */
export const extremum = (name: "max" | "min", x: string, y: string): string =>
  `select(select(${name}(${x}, ${y}), ${y}, is_nan_$V(${y})), ${x}, is_nan_$V(${x}))`;

/** WGSL of the condition that a float is not 0; NaN is not. */
export const nonZero = (x: string): string => `((${x} != T(0.0)) | is_nan_$V(${x}))`;

interface Walk {
  readonly shape: readonly number[];
  /** Per operand, output last. */
  readonly strides: readonly (readonly number[])[];
  /** First element within the buffer, output last. */
  readonly offsets: readonly number[];
}

/**
 * Computes `out = map(inputs)`, broadcasting inputs to the shape of `out`. Strides may be negative
 * ({@link windowOf} in copy.ts): parameters are taken modulo 2^32, as the kernel's sums are.
 *
 * @param out dense, or a slice that is to be overwritten
 */
export function elementwise(out: Tensor, inputs: readonly Tensor[], map: ElementwiseMap): void {
  if (out.size === 0) return;
  const operands = [...inputs, out];
  const merged = collapseAxes(
    out.shape,
    operands.map((t) => broadcastStrides(t.shape, t.strides, out.shape)),
  );
  launch(operands, map, { ...merged, offsets: operands.map((t) => t.offset) });
}

/** Elements between the lowest and highest one that a walk touches, plus one. */
function extent(shape: readonly number[], strides: readonly number[]): number {
  return shape.reduce((sum, size, axis) => sum + (size - 1) * Math.abs(strides[axis]), 1);
}

/** Elements that a walk touches before the one that it starts at: along negative strides. */
function below(shape: readonly number[], strides: readonly number[]): number {
  return shape.reduce((sum, size, axis) => sum + (size - 1) * Math.max(0, -strides[axis]), 0);
}

function launch(operands: readonly Tensor[], map: ElementwiseMap, walk: Walk): void {
  const { device } = operands[0];
  const tooLong = (strides: readonly number[], i: number): boolean =>
    extent(walk.shape, strides) * operands[i].itemSize >
      device.bindingLimit - device.offsetAlignment;
  if (walk.strides.some(tooLong)) {
    split(operands, map, walk);
    return;
  }
  const rank = walk.shape.length;
  const inner = walk.shape[rank - 1];
  const vector = inner % 4 === 0 && operands.every((_, i) => {
    const strides = walk.strides[i];
    const step = strides[rank - 1];
    return step === 0 ? i < operands.length - 1 : step === 1 && walk.offsets[i] % 4 === 0 &&
      strides.every((s, axis) => axis === rank - 1 || s % 4 === 0);
  });
  const width = vector ? 4 : 1;
  const inputs = operands.length - 1;
  const outStrides = walk.strides[inputs];
  const stridedOut = !isDense(walk.shape, outStrides);
  const count = walk.shape.reduce((a, b) => a * b, 1) / width;
  const inOrder = walk.strides.every((strides) => strides[rank - 1] <= 1);
  const { workgroup, run, step } = streams(device, inOrder ? count : 0, width, inner / width);
  const half = (i: number) => vector && operands[i].dtype === "f16";
  const stored = (i: number, splat: boolean) =>
    half(i) && !splat ? "vec2u" : wgslType(operands[i].dtype, splat ? 1 : width);
  const constants: Record<string, number | boolean | string> = {
    WG: workgroup,
    W: width,
    RANK: rank,
    INPUTS: inputs,
    RUN: run,
    U: step,
    READ_OUT: map.readOut ?? false,
    STRIDED_OUT: stridedOut,
    TO: stored(inputs, false),
    LOAD_OUT: half(inputs) ? "half_values(result[k])" : "TV(result[k])",
    STORE: half(inputs) ? "half_bits" : wgslType(operands[inputs].dtype, width),
    S: computed(operands[0].dtype),
    TC: wgslType(computed(operands[0].dtype), width),
    TV: wgslType(computed(operands[inputs].dtype), width),
    TU: wgslType("u32", width),
    V: vector ? "vec4" : "f32",
    FUNCTIONS: FUNCTIONS.test(map.expression),
  };
  const params: Record<string, number> = {
    count,
    alpha: map.alpha ?? 0,
    beta: map.beta ?? 0,
  };
  for (let axis = 0; axis < rank; axis++) {
    params[`d${axis}`] = axis === rank - 1 ? inner / width : walk.shape[axis];
    if (stridedOut) params[`s_out_${axis}`] = outStrides[axis];
  }
  const windows = operands.map((tensor, i) => {
    const first = walk.offsets[i];
    const strides = walk.strides[i];
    const lowest = first - below(walk.shape, strides);
    const start = lowest - lowest % (device.offsetAlignment / tensor.itemSize);
    if (i === inputs) {
      params.offset_out = first - start;
    } else {
      const splat = strides[rank - 1] === 0;
      constants[`T${i}`] = stored(i, splat);
      constants[`LOAD${i}`] = splat
        ? `T(S(in${i}[at${i}]))`
        : half(i)
        ? `half_values(in${i}[k${i}])`
        : `T(in${i}[k${i}])`;
      params[`offset_${i}`] = first - start;
      for (let axis = 0; axis < rank; axis++) params[`s${i}_${axis}`] = strides[axis];
    }
    return {
      tensor,
      start: start - tensor.offset,
      count: lowest - start + extent(walk.shape, strides),
    };
  });
  constants.EXPR = map.expression.replaceAll("$V", constants.V as string)
    .replace(/\bparams\.(?=alpha|beta)/g, "");
  device.run(kernel, constants, windows, params, Math.ceil(count / (workgroup * run)));
}

/**
 * How a walk over `count` units of `width` elements is shared out: invocations per workgroup, units
 * in sequence of each, `step` of them at a time. Large arrays on software adapters are walked in
 * streams (see kernels/elementwise.wgsl).
 *
 * @param inner units of the innermost axis, a multiple of `step`
 */
export function streams(
  { info }: Tensor["device"],
  count: number,
  width: number,
  inner: number,
): { readonly workgroup: number; readonly run: number; readonly step: number } {
  const run = STREAM.elements / width;
  const enough = STREAMS_PER_CORE * navigator.hardwareConcurrency * STREAM.workgroup * run;
  if (!info.software || count < enough) return { workgroup: WORKGROUP, run: 1, step: 1 };
  return {
    workgroup: STREAM.workgroup,
    run,
    step: inner % 4 === 0 ? 4 : inner % 2 === 0 ? 2 : 1,
  };
}

/** Halves the outermost axis, or steps into its only element. */
function split(operands: readonly Tensor[], map: ElementwiseMap, walk: Walk): void {
  const [outer, ...rest] = walk.shape;
  if (outer === 1) {
    launch(operands, map, { ...walk, shape: rest, strides: walk.strides.map((s) => s.slice(1)) });
    return;
  }
  // Multiples of 4 keep vector loads possible when the outermost axis is the only one.
  const half = outer > 8 ? Math.ceil(outer / 8) * 4 : Math.ceil(outer / 2);
  launch(operands, map, { ...walk, shape: [half, ...rest] });
  launch(operands, map, {
    shape: [outer - half, ...rest],
    strides: walk.strides,
    offsets: walk.offsets.map((offset, i) => offset + half * walk.strides[i][0]),
  });
}

/** What kernels compute with. */
function computed(dtype: DType): DType {
  return dtype === "f16" ? "f32" : dtype;
}

function wgslType(dtype: DType, width: number): string {
  return width === 1 ? dtype : `vec4<${dtype}>`;
}

/**
 * Rows that one launch may take, so that each operand's window stays bindable.
 *
 * @param rows number of rows in all
 * @param rowElements elements per row of each operand
 * @param itemSize bytes per element of the narrowest operand
 * @returns `[first row, count]` of each launch
 */
export function rowChunks(
  device: Tensor["device"],
  rows: number,
  rowElements: readonly number[],
  itemSize = BYTES_PER_ELEMENT,
): [number, number][] {
  const widest = Math.max(...rowElements) * BYTES_PER_ELEMENT;
  if (rows * widest <= device.bindingLimit) return rows > 0 ? [[0, rows]] : [];
  const step = Math.max(...rowElements.map((width) => alignedRows(device, width, itemSize)));
  const most = Math.floor(device.bindingLimit / widest / step) * step;
  if (most === 0) {
    throw new RangeError(
      `a row of ${widest} bytes${step > 1 ? `, ${step} of them for its alignment,` : ""} exceeds ` +
        `the adapter's binding limit of ${device.bindingLimit} bytes`,
    );
  }
  const chunks: [number, number][] = [];
  for (let first = 0; first < rows; first += most) {
    chunks.push([first, Math.min(most, rows - first)]);
  }
  return chunks;
}

/** Rows of `width` elements until one starts at an aligned byte again. */
export function alignedRows(device: Tensor["device"], width: number, itemSize: number): number {
  const align = device.offsetAlignment / itemSize;
  return align / gcd(align, width);
}

/** The window of a dense tensor that holds `count` rows of `width` elements from `first`. */
export function rowsOf(
  tensor: Tensor,
  first: number,
  count: number,
  width: number,
): { tensor: Tensor; start: number; count: number } {
  return { tensor, start: first * width, count: count * width };
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}
