/**
 * Launching elementwise kernels over strided operands, split where a binding would exceed the
 * adapter's limit.
 *
 * @module
 */
import source from "../../kernels/elementwise.wgsl" with { type: "text" };
import { fragments } from "../../kernels/include/mod.ts";
import { cores } from "../adapter.ts";
import type { Device } from "../device.ts";
import { BYTES_PER_ELEMENT, type DType, isFloat, itemSizeOf } from "../dtype.ts";
import { LifetimeError } from "../errors.ts";
import { defineKernel, type Pipeline } from "../kernel.ts";
import type { PoolBuffer } from "../memory.ts";
import type { BufferWindow, Params } from "../recorder.ts";
import { broadcastStrides, collapseAxes, isDense, sameShape, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";

const kernel = /* @__PURE__ */ defineKernel("elementwise", source, {
  rounds: ({ constants: { RUN, U, MODULO } }) =>
    (Number(RUN) > 1 ? Number(RUN) / Number(U) + 1 : 0) + Number(MODULO) * REMAINDER_ROUNDS,
  label: ({ constants: { EXPR, W }, params: { count } }) => `${EXPR} over ${count * Number(W)}`,
});
const WORKGROUP = 64;
/** A call of a function of kernels/include/modulo.wgsl, and rounds of the loop in it. */
const MODULO = /\bfloor_(div|mod)_/g;
const REMAINDER_ROUNDS = 33;
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

/** Axes that do not merge, more than parameter blocks have room for. */
const MOST_AXES = 64;
/** Storage buffers of a kernel but its result. */
const MOST_LOADS = 7;

/** What an elementwise kernel computes. */
export interface ElementwiseMap {
  /**
   * WGSL over a, b, c, d (operands), o (the old output, with `readOut`), params.alpha and
   * params.beta. `T` is the type of the first operand in registers, such as f32 or vec4f (f16 is
   * widened to f32), `S` its scalar, `Bits` the u32 or vec4u of as many; `$V` is "f32" or "vec4",
   * the suffix of functions in math.wgsl and functions.wgsl.
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

/** Where a launch reads or writes: elements of a buffer. */
export interface MapOperand {
  /** The memory. */
  readonly buffer: PoolBuffer;
  /** Element type. */
  readonly dtype: DType;
  /** Per axis of the launch. */
  readonly strides: readonly number[];
  /** First element within the buffer. */
  readonly offset: number;
}

/**
 * An operand of a step: a load by its index, the result of an earlier step by the complement of
 * its, or a number.
 */
export type MapValue = number | { readonly value: number; readonly dtype: DType };

/** One map of a launch. */
export interface MapStep extends ElementwiseMap {
  /** Operands a, b, …. */
  readonly operands: readonly MapValue[];
  /** Element types of the first operand and of the result. */
  readonly types: readonly [DType, DType];
  /** Whether it rounds to f16 as launches by vectors do, which matters where a driver does not. */
  readonly vector: boolean;
}

/** Maps of one index space, the last of which is stored. Eager ones have one step. */
export interface MapLaunch {
  /** Sizes of the axes, neighbouring ones merged where no operand tells them apart. */
  readonly shape: readonly number[];
  /** What is read. */
  readonly loads: readonly MapOperand[];
  /** The maps in order. */
  readonly steps: readonly MapStep[];
  /** Where the last one's result goes. */
  readonly out: MapOperand;
}

/**
 * Computes `out = map(inputs)`, broadcasting inputs to the shape of `out`. Strides may be negative
 * (`windowOf` in copy.ts): parameters are taken modulo 2^32, as the kernel's sums are.
 *
 * @param out dense, or a slice that is to be overwritten
 * @throws {LifetimeError} for a disposed tensor, or one of another device.
 */
export function elementwise(out: Tensor, inputs: readonly Tensor[], map: ElementwiseMap): void {
  if (out.size === 0) return;
  const { device } = out;
  const operands: MapValue[] = [];
  const all: Tensor[] = [];
  for (const input of inputs) {
    if (input.device !== device) {
      throw new LifetimeError("elementwise: an operand lives on another device");
    }
    const { storage: { value }, dtype } = input;
    operands.push(value === undefined ? all.push(input) - 1 : { value, dtype });
  }
  all.push(out);
  const { shape, strides } = walkOf(out, all);
  const loads = all.map(({ storage: { buffer }, dtype, offset }, i): MapOperand => {
    return { buffer, dtype, offset, strides: strides[i] };
  });
  const last = loads.pop()!;
  const { expression, readOut, alpha, beta } = map;
  const types = [(inputs[0] ?? out).dtype, out.dtype] as const;
  launch(device, shape, loads, last, { expression, readOut, alpha, beta, operands, types });
}

const STEP_OF_ONE: readonly number[] = [1];

/** Axes of a launch, and each operand's strides over them. */
function walkOf(
  out: Tensor,
  all: readonly Tensor[],
): { shape: readonly number[]; strides: readonly (readonly number[])[] } {
  // The usual case in short: one after the other.
  if (all.every((t) => t.dense && sameShape(t.shape, out.shape))) {
    return { shape: [out.size], strides: all.map(() => STEP_OF_ONE) };
  }
  const strides = all.map((t) => broadcastStrides(t.shape, t.strides, out.shape));
  return collapseAxes(out.shape, strides);
}

function launch(
  device: Device,
  shape: readonly number[],
  loads: readonly MapOperand[],
  out: MapOperand,
  map: Omit<MapStep, "vector">,
): void {
  if (!canBind(device, { shape, loads, out })) {
    for (const [part, change] of halves(shape)) {
      launch(device, part, loads.map(change), change(out), map);
    }
    return;
  }
  const vector = isVector({ shape, loads, out });
  const { expression, readOut, alpha, beta, operands, types } = map;
  const step = { expression, readOut, alpha, beta, operands, types, vector };
  const whole = { shape, loads, steps: [step], out };
  const { recorder } = device;
  if (recorder.map) {
    recorder.map(whole);
  } else {
    const { pipeline, windows, params, groups } = dispatchOf(device, whole, vector);
    recorder.dispatch(pipeline, windows, params, groups);
  }
}

/** The outermost axis halved, or stepped into if single: shapes, and what operands become. */
function halves(
  [outer, ...rest]: readonly number[],
): [shape: number[], change: (operand: MapOperand) => MapOperand][] {
  if (outer === 1) return [[rest, (it) => ({ ...it, strides: it.strides.slice(1) })]];
  // Multiples of 4 keep vector loads possible when the outermost axis is the only one.
  const half = outer > 8 ? Math.ceil(outer / 8) * 4 : Math.ceil(outer / 2);
  return [
    [[half, ...rest], (it) => it],
    [[outer - half, ...rest], (it) => ({ ...it, offset: it.offset + half * it.strides[0] })],
  ];
}

/** Elements between the lowest and highest one that a walk touches, plus one. */
function extent(shape: readonly number[], strides: readonly number[]): number {
  let elements = 1;
  for (let i = 0; i < shape.length; i++) elements += (shape[i] - 1) * Math.abs(strides[i]);
  return elements;
}

/** Elements that a walk touches before the one that it starts at: along negative strides. */
function below(shape: readonly number[], strides: readonly number[]): number {
  let elements = 0;
  for (let i = 0; i < shape.length; i++) elements += (shape[i] - 1) * Math.max(0, -strides[i]);
  return elements;
}

/** Whether no operand of a launch is beyond what the adapter can bind. */
export function canBind(
  device: Device,
  launch: Omit<MapLaunch, "steps">,
): boolean {
  const { shape, loads, out } = launch;
  const most = device.bindingLimit - device.offsetAlignment;
  const fits = ({ strides, dtype }: MapOperand) =>
    extent(shape, strides) * itemSizeOf(dtype) <= most;
  if (!fits(out) || !loads.every(fits)) return false;
  return !device.recorder.aliasing ||
    spansOf(device, launch).every(({ first, end }) => end - first <= device.bindingLimit);
}

/** Bytes of a buffer, from an aligned one on. */
interface Span {
  readonly buffer: PoolBuffer;
  readonly first: number;
  readonly end: number;
}

/**
 * What is bound for each operand of a launch, the result last. Where all is bound for writing,
 * loads whose memory overlaps have one span, the same object: WebGPU lets no two bindings for
 * writing overlap.
 */
function spansOf(device: Device, { shape, loads, out }: Omit<MapLaunch, "steps">): Span[] {
  let spans = [...loads, out].map(({ buffer, dtype, strides, offset }): Span => {
    const itemSize = itemSizeOf(dtype);
    const lowest = offset - below(shape, strides);
    const bytes = lowest * itemSize;
    return {
      buffer,
      first: bytes - bytes % device.offsetAlignment,
      end: Math.ceil((lowest + extent(shape, strides)) * itemSize / 4) * 4,
    };
  });
  if (!device.recorder.aliasing) return spans;
  for (let i = 1; i < loads.length; i++) {
    for (let j = 0; j < i; j++) {
      const [a, b] = [spans[i], spans[j]];
      if (a === b || a.buffer !== b.buffer || a.end <= b.first || b.end <= a.first) continue;
      const first = Math.min(a.first, b.first);
      // Whole units of a vector: a load of single elements may end within one.
      const end = Math.min(a.buffer.bytes, Math.ceil(Math.max(a.end, b.end) / 16) * 16);
      const joined = { buffer: a.buffer, first, end };
      spans = spans.map((it) => it === a || it === b ? joined : it);
      // It may overlap others now.
      i = 0;
      break;
    }
  }
  return spans;
}

/** Whether a launch can go by vectors of four elements. */
export function isVector({ shape, loads, out }: Omit<MapLaunch, "steps">): boolean {
  const inner = shape.length - 1;
  const fits = ({ strides, offset }: MapOperand) =>
    strides[inner] === 1 && offset % 4 === 0 &&
    strides.every((step, axis) => axis === inner || step % 4 === 0);
  return shape[inner] % 4 === 0 && fits(out) &&
    loads.every((it) => it.strides[inner] === 0 || fits(it));
}

/** Names of parameters by axis and by load, made once. */
const NAMES =
  ((): { sizes: string[]; outStrides: string[]; offsets: string[]; strides: string[][] } => {
    const named = (count: number, prefix: string) =>
      Array.from({ length: count }, (_, i) => prefix + i);
    return {
      sizes: named(MOST_AXES, "d"),
      outStrides: named(MOST_AXES, "s_out_"),
      offsets: named(MOST_LOADS, "offset_"),
      strides: named(MOST_LOADS, "s").map((it) => named(MOST_AXES, `${it}_`)),
    };
  })();

/** Names of a step's parameters: its numbers, and operands that are numbers. */
const fieldsOf = (suffix: string) => ({
  alpha: `alpha${suffix}`,
  beta: `beta${suffix}`,
  values: [0, 1, 2, 3].map((place) => `value${suffix}_${place}`),
});
/** Those of a launch of one step. */
const FIELDS = /* @__PURE__ */ fieldsOf("");

const expressions = new Map<string, { readonly id: number; readonly loops: boolean }>();

/** A number for an expression, which keys are shorter with, and whether it has loops within. */
function knownOf(expression: string): { readonly id: number; readonly loops: boolean } {
  let known = expressions.get(expression);
  if (!known) {
    known = { id: expressions.size, loops: expression.search(MODULO) >= 0 };
    expressions.set(expression, known);
  }
  return known;
}

/** Compiled maps by what is compiled in. */
const compiled = new WeakMap<GPUDevice, Map<string, Pipeline>>();

/** What the recorder is to dispatch for a launch that {@link canBind}. */
export function dispatchOf(device: Device, map: MapLaunch, vector: boolean = isVector(map)): {
  readonly pipeline: Pipeline;
  readonly windows: readonly BufferWindow[];
  readonly params: Params;
  readonly groups: number;
} {
  const { shape, loads, steps, out } = map;
  const rank = shape.length;
  const width = vector ? 4 : 1;
  const inner = shape[rank - 1] / width;
  const stridedOut = !isDense(shape, out.strides);
  const count = sizeOf(shape) / width;
  const operands = [...loads, out];
  const inOrder = operands.every(({ strides }) => strides[rank - 1] <= 1);
  // Loops within expressions leave no rounds for streams.
  const streamed = inOrder && !steps.some(({ expression }) => knownOf(expression).loops);
  const { workgroup, run, step } = streams(device, streamed ? count : 0, width, inner);
  const params: Record<string, number> = { count, alpha: 0, beta: 0 };
  for (let axis = 0; axis < rank; axis++) {
    params[NAMES.sizes[axis]] = axis === rank - 1 ? inner : shape[axis];
    if (stridedOut) params[NAMES.outStrides[axis]] = out.strides[axis];
  }
  let layout = `${workgroup},${run},${step},${width},${rank},${stridedOut}`;
  const spans = spansOf(device, map);
  const bound = device.recorder.aliasing ? [...new Set(spans)] : spans;
  operands.forEach(({ dtype, strides, offset }, i) => {
    const start = spans[i].first / itemSizeOf(dtype);
    layout += `,${dtype}`;
    if (i === loads.length) {
      params.offset_out = offset - start;
    } else {
      params[NAMES.offsets[i]] = offset - start;
      for (let axis = 0; axis < rank; axis++) params[NAMES.strides[i][axis]] = strides[axis];
      if (strides[rank - 1] === 0) layout += "*";
      if (bound.length <= loads.length) layout += bound.indexOf(spans[i]);
    }
  });
  steps.forEach(({ expression, operands, types, alpha = 0, beta = 0, readOut, vector }, i) => {
    const names = steps.length > 1 ? fieldsOf(`_${i}`) : FIELDS;
    params[names.alpha] = alpha;
    params[names.beta] = beta;
    layout += `;${knownOf(expression).id},${types[0]},${types[1]},${readOut},${vector}`;
    for (let place = 0; place < operands.length; place++) {
      const operand = operands[place];
      const isLoad = typeof operand === "number";
      if (!isLoad) params[names.values[place]] = operand.value;
      layout += `,${isLoad ? operand : operand.dtype}`;
    }
  });
  if (steps.length > 1) { for (const place of PLACES) params[`zero_${place}`] = 0; }
  if (device.recorder.aliasing) layout += "aliasing";
  let pipelines = compiled.get(device.gpu);
  if (!pipelines) compiled.set(device.gpu, pipelines = new Map());
  let pipeline = pipelines.get(layout);
  if (!pipeline) {
    const places = spans.map((it) => bound.indexOf(it));
    const constants = {
      ...{ WG: workgroup, RUN: run, U: step },
      ...constantsOf(map, places, vector, stridedOut),
    };
    pipelines.set(layout, pipeline = device.pipeline(kernel, constants));
  }
  const windows = bound.map(({ buffer, first, end }) => ({
    buffer,
    offset: first,
    bytes: end - first,
  }));
  return { pipeline, windows, params, groups: Math.ceil(count / (workgroup * run)) };
}

/** What does not depend on how the launch is shared out; `places` of operands among buffers. */
function constantsOf(
  { shape, loads, steps, out }: MapLaunch,
  places: readonly number[],
  vector: boolean,
  stridedOut: boolean,
): Record<string, number | boolean | string> {
  const width = vector ? 4 : 1;
  const last = steps[steps.length - 1];
  const fused = steps.length > 1;
  const half = (dtype: DType) => vector && dtype === "f16";
  const constants: Record<string, number | boolean | string> = {
    W: width,
    RANK: shape.length,
    INPUTS: loads.length,
    BUFFERS: places[loads.length],
    READ_OUT: last.readOut ?? false,
    STRIDED_OUT: stridedOut,
    TO: half(out.dtype) ? "vec2u" : wgslType(out.dtype, width),
    LOAD_OUT: half(out.dtype) ? "half_values(result[k])" : "TV(result[k])",
    STORE: half(out.dtype) ? "half_bits" : wgslType(out.dtype, width),
    S: computed(last.types[0]),
    TC: wgslType(computed(last.types[0]), width),
    TV: wgslType(computed(out.dtype), width),
    TU: wgslType("u32", width),
    FUNCTIONS: steps.some(({ expression }) => FUNCTIONS.test(expression)),
    MODULO: steps.flatMap(({ expression }) => expression.match(MODULO) ?? []).length,
  };
  const isSplat = ({ strides }: MapOperand) => strides[shape.length - 1] === 0;
  loads.forEach((load, i) => {
    const { dtype } = load;
    const place = places[i];
    const [type, scalar] = fused ? [wgslType(computed(dtype), width), computed(dtype)] : ["T", "S"];
    // A buffer of vectors where any of its loads is one.
    const inVectors = vector && loads.some((it, j) => places[j] === place && !isSplat(it));
    constants[`T${place}`] = half(dtype) && inVectors
      ? "vec2u"
      : wgslType(dtype, inVectors ? 4 : 1);
    const unit = isSplat(load) ? `at${i} / 4u` : `k${i}`;
    const vectorText = half(dtype)
      ? `half_values(in${place}[${unit}])`
      : `${isSplat(load) ? "" : type}(in${place}[${unit}])`;
    constants[`LOAD${i}`] = !isSplat(load)
      ? inVectors ? vectorText : `${type}(in${place}[k${i}])`
      : `${type}(${scalar}(${inVectors ? `${vectorText}[at${i} % 4u]` : `in${place}[at${i}]`}))`;
  });
  const expression = steps.map(({ expression }) =>
    expression.replaceAll("$V", vector ? "vec4" : "f32").replace(/\bparams\.(?=alpha|beta)/g, "")
  ).join("; ");
  const text = fused ? fusedText(loads, steps, width) : singleText(last, expression);
  return { ...constants, ...text, EXPR: expression };
}

/** Operands of an expression. */
const PLACES = ["a", "b", "c", "d"] as const;

/** Declarations and statements of one step. */
function singleText({ operands }: MapStep, expression: string): Record<string, string> {
  const [fields, hoisted, statements]: string[][] = [[], [], []];
  operands.forEach((operand, place) => {
    let value = `x${operand}`;
    if (typeof operand !== "number") {
      value = `T(S(value_${place}))`;
      fields.push(`value_${place}: ${computed(operand.dtype)},`);
      hoisted.push(`let value_${place} = params.value_${place};`);
    }
    statements.push(`let ${PLACES[place]} = ${value};`);
  });
  return {
    FIELDS: fields.join("\n  "),
    STEPS: "",
    HOISTED: hoisted.join("\n  "),
    STATEMENTS: statements.join("\n      "),
    RESULT: `TV(${expression})`,
  };
}

/**
 * Declarations and statements of several steps. Each is to give the bits that it gives alone, so
 * what goes from one to the next is rounded to its element type, and neither contracted to a
 * multiply-add nor simplified: a xor with zeros that the compiler does not know keeps it from
 * seeing where floats come from, other zeros for each operand lest it see that two are the same.
 */
function fusedText(
  loads: readonly MapOperand[],
  steps: readonly MapStep[],
  width: number,
): Record<string, string> {
  const [fields, hoisted, statements]: string[][] = [[], [], []];
  const functions = new Map<string, string>();
  for (const place of PLACES) {
    fields.push(`zero_${place}: u32,`);
    hoisted.push(`let zero_${place} = Bits(params.zero_${place});`);
  }
  const suffix = width === 4 ? "vec4" : "f32";
  steps.forEach(({ expression, operands, types: [first, last], readOut, vector }, i) => {
    const scalars: Record<string, string> = { S: computed(first) };
    const [T, TV] = [first, last].map((dtype) => wgslType(computed(dtype), width));
    const text = expression.replaceAll("$V", suffix)
      .replace(/\bparams\.(?=alpha|beta)/g, "")
      .replace(/\b(T|S|TV)\b/g, (name) => ({ ...scalars, T, TV })[name]!);
    const values = operands.map((operand, place) => {
      if (typeof operand !== "number") {
        const name = `value_${i}_${place}`;
        fields.push(`${name}: ${computed(operand.dtype)},`);
        hoisted.push(`let ${name} = params.${name};`);
        return `${T}(${scalars.S}(${name}))`;
      }
      const dtype = operand < 0 ? steps[~operand].types[1] : loads[operand].dtype;
      const value = operand < 0 ? `v${~operand}` : `x${operand}`;
      const type = wgslType(computed(dtype), width);
      return isFloat(dtype)
        ? `${T}(bitcast<${type}>(bitcast<Bits>(${value}) ^ zero_${PLACES[place]}))`
        : `${T}(${value})`;
    });
    const parameters = operands.map((_, place) => `${PLACES[place]}: ${T}`);
    if (readOut) {
      parameters.push(`o: ${TV}`);
      values.push("o");
    }
    for (const name of ["alpha", "beta"]) {
      if (!new RegExp(`\\b${name}\\b`).test(text)) continue;
      fields.push(`${name}_${i}: f32,`);
      hoisted.push(`let ${name}_${i} = params.${name}_${i};`);
      parameters.push(`${name}: f32`);
      values.push(`${name}_${i}`);
    }
    const body = `(${parameters.join(", ")}) -> ${TV} {\n  return ${TV}(${text});\n}`;
    if (!functions.has(body)) functions.set(body, `step_${functions.size}`);
    const result = `${functions.get(body)}(${values.join(", ")})`;
    const stored = i === steps.length - 1 && vector === (width === 4);
    statements.push(
      `let v${i} = ${last === "f16" && !stored ? rounded(result, vector, width) : result};`,
    );
  });
  return {
    FIELDS: fields.join("\n  "),
    STEPS: [...functions].map(([body, name]) => `fn ${name}${body}`).join("\n\n"),
    HOISTED: hoisted.join("\n  "),
    STATEMENTS: statements.join("\n      "),
    RESULT: `v${steps.length - 1}`,
  };
}

/** A float rounded to f16 as a launch by vectors, or by elements, stores and loads it. */
function rounded(value: string, vector: boolean, width: number): string {
  if (!vector) return `${wgslType("f32", width)}(${wgslType("f16", width)}(${value}))`;
  return `half_values(half_bits(vec4f(${value})))${width === 4 ? "" : ".x"}`;
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
  const enough = STREAMS_PER_CORE * STREAM.workgroup * run;
  if (!info.software || count < enough || count < enough * cores()) {
    return { workgroup: WORKGROUP, run: 1, step: 1 };
  }
  return {
    workgroup: STREAM.workgroup,
    run,
    step: inner % 4 === 0 ? 4 : inner % 2 === 0 ? 2 : 1,
  };
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
