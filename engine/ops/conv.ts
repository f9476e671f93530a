/**
 * Convolutions and their transposes as matrix products over unfolded patches.
 *
 * @module
 */
import { kindOf, needOptions, needTensors } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { defineOp, type Op } from "../op.ts";
import { refZeros } from "../reference.ts";
import { denseStrides, type Shape, show, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { materialize } from "../launch/copy.ts";
import { elementwise } from "../launch/elementwise.ts";
import { multiply } from "./matmul.ts";
import { sumTo } from "./reduce.ts";
import { reshape } from "./view.ts";

/** Elements before and after an axis. */
export type Sides = readonly [before: number, after: number];

/** One entry for each axis of places. */
interface ConvAttrs {
  readonly stride: readonly number[];
  /** Zeros on both sides. */
  readonly padding: readonly Sides[];
  readonly dilation: readonly number[];
  /** Channels of x and of the result fall into so many groups, each of which sees only its own. */
  readonly groups: number;
}

/** Sizes of a convolution. */
interface Sizes {
  readonly batch: number;
  readonly channels: number;
  readonly outputs: number;
  /** Places of the padded input, the kernel and the result. */
  readonly padded: Shape;
  readonly kernel: Shape;
  readonly result: Shape;
  /** Values per patch of one group. */
  readonly patch: number;
  /** Places over the whole batch. */
  readonly places: number;
}

function sizesOf(
  x: Shape,
  weight: Shape,
  { stride, padding, dilation }: ConvAttrs,
): Sizes {
  const [batch, channels, ...image] = x;
  const [outputs, perGroup, ...kernel] = weight;
  const padded = image.map((size, i) => padding[i][0] + size + padding[i][1]);
  const result = padded.map((size, i) =>
    Math.floor((size - dilation[i] * (kernel[i] - 1) - 1) / stride[i]) + 1
  );
  const patch = perGroup * sizeOf(kernel);
  const places = batch * sizeOf(result);
  return { batch, channels, outputs, padded, kernel, result, patch, places };
}

/** The part of a padded image [batch, channels, ...] (dense) that holds the image itself. */
function inside(padded: Tensor, image: Shape, { padding }: ConvAttrs): Tensor {
  const first = padding.reduce((at, [before], i) => at + before * padded.strides[i + 2], 0);
  return padded.view(image, padded.strides, padded.offset + first);
}

/** Steps between neighbouring places of the result, and between elements of a patch, in memory. */
const stepsOf = (image: Tensor, by: readonly number[]): number[] =>
  by.map((n, i) => n * image.strides[i + 2]);

/** Every patch of x as a column: [channels * kernel, batch * places], dense. */
function unfold(x: Tensor, attrs: ConvAttrs, sizes: Sizes): Tensor {
  const { device } = x;
  const { batch, channels, kernel, padded, places, result } = sizes;
  const { stride, padding, dilation } = attrs;
  let image = x;
  if (padding.flat().some((width) => width > 0)) {
    image = device.zeros([batch, channels, ...padded]);
    elementwise(inside(image, x.shape, attrs), [x], { expression: "a" });
  }
  const [perBatch, perChannel] = image.strides;
  // Patches overlap: a view that reads elements several times, copied out.
  const patches = image.view(
    [channels, ...kernel, batch, ...result],
    [perChannel, ...stepsOf(image, dilation), perBatch, ...stepsOf(image, stride)],
  );
  const columns = device.empty(patches.shape);
  elementwise(columns, [patches], { expression: "a" });
  return columns.view([channels * sizeOf(kernel), places]);
}

/**
 * Adjoint of {@link unfold}: adds every column back where it was read, one kernel offset after the
 * other.
 */
function fold(columns: Tensor, shape: Shape, attrs: ConvAttrs, sizes: Sizes): Tensor {
  const { device } = columns;
  const { batch, channels, kernel, padded, result } = sizes;
  const { stride, dilation } = attrs;
  const image = device.zeros([batch, channels, ...padded]);
  const [perBatch, perChannel] = image.strides;
  const all = columns.view([channels, ...kernel, batch, ...result]);
  const steps = denseStrides(kernel);
  for (let k = 0; k < sizeOf(kernel); k++) {
    const offset = kernel.map((size, i) => Math.floor(k / steps[i]) % size);
    const along = (strides: readonly number[]) =>
      offset.reduce((at, n, i) => at + n * strides[i], 0);
    const target = image.view(
      [channels, batch, ...result],
      [perChannel, perBatch, ...stepsOf(image, stride)],
      image.offset + along(stepsOf(image, dilation)),
    );
    const part = all.view(
      target.shape,
      [all.strides[0], ...all.strides.slice(1 + kernel.length)],
      all.offset + along(all.strides.slice(1)),
    );
    elementwise(target, [part], { expression: "o + a", readOut: true });
    target.dispose();
    part.dispose();
  }
  return inside(image, shape, attrs);
}

/** Swaps the first two axes, without a copy. */
function swapFront(x: Tensor): Tensor {
  const [a, b, ...rest] = x.shape;
  const [s, t, ...steps] = x.strides;
  return x.view([b, a, ...rest], [t, s, ...steps]);
}

/**
 * Visits every product of a convolution: (index in x, in the weight, in the result). The index in x
 * is -1 in the padding, whose zeros take part: times NaN they are NaN.
 */
function refVisit(
  x: Shape,
  weight: Shape,
  attrs: ConvAttrs,
  visit: (x: number, weight: number, y: number) => void,
): void {
  const { batch, channels, outputs, kernel, result, patch } = sizesOf(x, weight, attrs);
  const { stride, padding, dilation, groups } = attrs;
  const image = x.slice(2);
  const area = sizeOf(result);
  const [at, within] = [denseStrides(result), denseStrides(kernel)];
  for (let y = 0; y < batch * outputs * area; y++) {
    const o = Math.floor(y / area) % outputs;
    const b = Math.floor(y / area / outputs);
    const group = Math.floor(o * groups / outputs);
    for (let w = 0; w < patch; w++) {
      const c = group * channels / groups + Math.floor(w / sizeOf(kernel));
      const place = image.map((_, i) =>
        Math.floor(y / at[i]) % result[i] * stride[i] - padding[i][0] +
        Math.floor(w / within[i]) % kernel[i] * dilation[i]
      );
      const from = place.some((p, i) => p < 0 || p >= image[i])
        ? -1
        : place.reduce((sum, p, i) => sum * image[i] + p, b * channels + c);
      visit(from, o * patch + w, y);
    }
  }
}

/**
 * The matrices of a convolution, one per group and next to each other in memory, as operands of
 * {@link gemm}.
 */
function matrices({ outputs, patch, places }: Sizes, groups: number) {
  const rows = outputs / groups;
  return {
    groups,
    rows,
    weight: (tensor: Tensor) => ({ tensor, ld: patch, batchStride: rows * patch }),
    columns: (tensor: Tensor) => ({ tensor, ld: places, batchStride: patch * places }),
    product: (tensor: Tensor) => ({ tensor, ld: places, batchStride: rows * places }),
  };
}

const outputShape = ({ batch, outputs, result }: Sizes): number[] => [batch, outputs, ...result];

/** A bias of channels, seen from [batch, channels, ...]. */
const perChannel = (bias: Tensor, places: Shape): Tensor =>
  bias.view([bias.size, ...places.map(() => 1)]);

/** The convolution, channels first: [outputs, batch, ...]. */
function convolve(x: Tensor, weight: Tensor, attrs: ConvAttrs, sizes: Sizes): Tensor {
  const { outputs, patch, places } = sizes;
  const columns = unfold(x, attrs, sizes);
  const product = x.device.empty([outputs, sizes.batch, ...sizes.result]);
  const of = matrices(sizes, attrs.groups);
  multiply({
    a: of.weight(weight),
    b: of.columns(columns),
    c: of.product(product),
    m: of.rows,
    n: places,
    k: patch,
    batch: of.groups,
  });
  return product;
}

/** Its adjoint by x: an image of `shape` for the gradient [outputs, batch, ...], dense. */
function spread(
  gradient: Tensor,
  weight: Tensor,
  shape: Shape,
  attrs: ConvAttrs,
  sizes: Sizes,
): Tensor {
  const { patch, places } = sizes;
  const of = matrices(sizes, attrs.groups);
  const columns = gradient.device.empty([attrs.groups * patch, places]);
  multiply({
    a: { ...of.weight(weight), transposed: true },
    b: of.product(gradient),
    c: of.columns(columns),
    m: patch,
    n: places,
    k: of.rows,
    batch: of.groups,
  });
  return fold(columns, shape, attrs, sizes);
}

/** Its adjoint by the weight, for the gradient [outputs, batch, ...], dense. */
function weightGradient(
  x: Tensor,
  gradient: Tensor,
  shape: Shape,
  attrs: ConvAttrs,
  sizes: Sizes,
): Tensor {
  const { patch, places } = sizes;
  const of = matrices(sizes, attrs.groups);
  const columns = unfold(x, attrs, sizes);
  const dweight = x.device.empty(shape);
  multiply({
    a: of.product(gradient),
    b: { ...of.columns(columns), transposed: true },
    c: of.weight(dweight),
    m: of.rows,
    n: patch,
    k: places,
    batch: of.groups,
  });
  columns.dispose();
  return dweight;
}

function defineConv(name: "conv2d" | "conv3d"): Op<ConvAttrs> {
  return defineOp<ConvAttrs>({
    name,
    savedFor: [[1], [0]],
    forward([x, weight, bias], attrs, save) {
      const sizes = sizesOf(x.shape, weight.shape, attrs);
      const product = convolve(x, weight, attrs, sizes);
      save(x);
      save(weight);
      const y = x.device.empty(outputShape(sizes));
      const operands = [swapFront(product)];
      if (bias) operands.push(perChannel(bias, sizes.result));
      elementwise(y, operands, { expression: bias ? "a + b" : "a" });
      return [y];
    },
    backward({ grads: [dy], saved: [x, weight], shapes, needs }, attrs) {
      const sizes = sizesOf(x.shape, weight.shape, attrs);
      const gradient = materialize(swapFront(dy!));
      const dweight = needs[1]
        ? weightGradient(x, gradient, weight.shape, attrs, sizes)
        : undefined;
      const dx = needs[0] ? spread(gradient, weight, x.shape, attrs, sizes) : undefined;
      const ones = sizes.result.map(() => 1);
      const dbias = needs[2]
        ? sumTo(gradient, [sizes.outputs, 1, ...ones]).view(shapes[2])
        : undefined;
      return [dx, dweight, dbias];
    },
    reference: {
      forward([x, weight, bias], attrs) {
        const sizes = sizesOf(x.shape, weight.shape, attrs);
        const y = refZeros(outputShape(sizes));
        const area = sizeOf(sizes.result);
        if (bias) {
          y.data.forEach((_, i) => y.data[i] = bias.data[Math.floor(i / area) % sizes.outputs]);
        }
        refVisit(
          x.shape,
          weight.shape,
          attrs,
          (i, w, o) => y.data[o] += (x.data[i] ?? 0) * weight.data[w],
        );
        return [y];
      },
      backward([x, weight, bias], attrs, [dy]) {
        const sizes = sizesOf(x.shape, weight.shape, attrs);
        const [dx, dweight] = [refZeros(x.shape), refZeros(weight.shape)];
        refVisit(x.shape, weight.shape, attrs, (i, w, o) => {
          if (i >= 0) dx.data[i] += dy.data[o] * weight.data[w];
          dweight.data[w] += dy.data[o] * (x.data[i] ?? 0);
        });
        const area = sizeOf(sizes.result);
        const dbias = bias && refZeros(bias.shape);
        if (dbias) dy.data.forEach((g, i) => dbias.data[Math.floor(i / area) % sizes.outputs] += g);
        return [dx, dweight, dbias];
      },
    },
  });
}

const convOp = /* @__PURE__ */ defineConv("conv2d");
const conv3dOp = /* @__PURE__ */ defineConv("conv3d");

interface ConvTransposeAttrs extends ConvAttrs {
  /** Places that the result has beyond those that the last kernel reaches. */
  readonly outputPadding: readonly number[];
}

/** The result of a transposed convolution: what a convolution would have x made of. */
function transposedShape(x: Shape, weight: Shape, attrs: ConvTransposeAttrs): number[] {
  const { stride, padding, dilation, groups, outputPadding } = attrs;
  const [batch, , ...places] = x;
  const [, perGroup, ...kernel] = weight;
  const result = places.map((size, i) =>
    (size - 1) * stride[i] - padding[i][0] - padding[i][1] + dilation[i] * (kernel[i] - 1) +
    outputPadding[i] + 1
  );
  return [batch, perGroup * groups, ...result];
}

/** Sizes of the convolution that leads from the result of a transposed one to its operand. */
const transposedSizes = (x: Shape, weight: Shape, attrs: ConvTransposeAttrs): Sizes => ({
  ...sizesOf(transposedShape(x, weight, attrs), weight, attrs),
  // Padding at the end may leave room for one more place.
  result: x.slice(2),
  places: x[0] * sizeOf(x.slice(2)),
});

const convTransposeOp = /* @__PURE__ */ defineOp<ConvTransposeAttrs>({
  name: "convTranspose2d",
  savedFor: [[1], [0]],
  forward([x, weight, bias], attrs, save) {
    const shape = transposedShape(x.shape, weight.shape, attrs);
    const sizes = transposedSizes(x.shape, weight.shape, attrs);
    save(x);
    save(weight);
    const image = spread(materialize(swapFront(x)), weight, shape, attrs, sizes);
    const y = x.device.empty(shape);
    const operands = bias ? [image, perChannel(bias, shape.slice(2))] : [image];
    elementwise(y, operands, { expression: bias ? "a + b" : "a" });
    return [y];
  },
  backward({ grads: [dy], saved: [x, weight], shapes, needs }, attrs) {
    const sizes = transposedSizes(x.shape, weight.shape, attrs);
    let [dx, dweight, dbias]: (Tensor | undefined)[] = [];
    if (needs[0]) dx = swapFront(convolve(dy!, weight, attrs, sizes));
    if (needs[1]) {
      dweight = weightGradient(dy!, materialize(swapFront(x)), weight.shape, attrs, sizes);
    }
    if (needs[2]) {
      const ones = sizes.result.map(() => 1);
      dbias = sumTo(dy!, [1, dy!.shape[1], ...ones]).view(shapes[2]);
    }
    return [dx, dweight, dbias];
  },
  reference: {
    forward([x, weight, bias], attrs) {
      const shape = transposedShape(x.shape, weight.shape, attrs);
      const y = refZeros(shape);
      const area = sizeOf(shape.slice(2));
      if (bias) y.data.forEach((_, i) => y.data[i] = bias.data[Math.floor(i / area) % shape[1]]);
      refTranspose(x.shape, weight.shape, attrs, (i, w, o) => {
        if (o >= 0) y.data[o] += x.data[i] * weight.data[w];
      });
      return [y];
    },
    backward([x, weight, bias], attrs, [dy]) {
      const [dx, dweight] = [refZeros(x.shape), refZeros(weight.shape)];
      refTranspose(x.shape, weight.shape, attrs, (i, w, o) => {
        dx.data[i] += (dy.data[o] ?? 0) * weight.data[w];
        dweight.data[w] += (dy.data[o] ?? 0) * x.data[i];
      });
      const area = sizeOf(dy.shape.slice(2));
      const dbias = bias && refZeros(bias.shape);
      if (dbias) dy.data.forEach((g, i) => dbias.data[Math.floor(i / area) % dy.shape[1]] += g);
      return [dx, dweight, dbias];
    },
  },
});

/**
 * Visits every product of a transposed convolution: (index in x, in the weight, in the result). The
 * index in the result is -1 where padding cuts it off.
 */
function refTranspose(
  x: Shape,
  weight: Shape,
  attrs: ConvTransposeAttrs,
  visit: (x: number, weight: number, y: number) => void,
): void {
  const { stride, padding, dilation, groups } = attrs;
  const [batch, inputs, height, width] = x;
  const [, perGroup, kh, kw] = weight;
  const [, outputs, rows, columns] = transposedShape(x, weight, attrs);
  for (let i = 0; i < batch * inputs * height * width; i++) {
    const [column, row] = [i % width, Math.floor(i / width) % height];
    const [c, b] = [
      Math.floor(i / width / height) % inputs,
      Math.floor(i / width / height / inputs),
    ];
    for (let o = 0; o < perGroup; o++) {
      for (let k = 0; k < kh * kw; k++) {
        const r = row * stride[0] + Math.floor(k / kw) * dilation[0] - padding[0][0];
        const s = column * stride[1] + k % kw * dilation[1] - padding[1][0];
        const cut = r < 0 || s < 0 || r >= rows || s >= columns;
        const channel = Math.floor(c * groups / inputs) * perGroup + o;
        visit(
          i,
          (c * perGroup + o) * kh * kw + k,
          cut ? -1 : ((b * outputs + channel) * rows + r) * columns + s,
        );
      }
    }
  }
}

/** Options of {@link conv2d}; a single number stands for rows and columns. */
export interface Conv2dOptions {
  /** Steps between neighbouring places; default 1. */
  readonly stride?: number | readonly [rows: number, columns: number];
  /**
   * Zeros around the image, for both sides of an axis together or each its own; "valid": none, the
   * default; "same": as many as keep its size, one more at the end where they are odd, for stride
   * 1.
   */
  readonly padding?:
    | number
    | "same"
    | "valid"
    | readonly [rows: number | Sides, columns: number | Sides];
  /** Steps between neighbouring elements of a patch; default 1. */
  readonly dilation?: number | readonly [rows: number, columns: number];
  /** Groups of channels that do not see each other; as many as channels: depthwise. Default 1. */
  readonly groups?: number;
}

/** Options of {@link conv1d}. */
export interface Conv1dOptions {
  /** Steps between neighbouring places; default 1. */
  readonly stride?: number;
  /**
   * Zeros on both sides, or before and after: `[k - 1, 0]` is causal; "same" and "valid" as of
   * {@link Conv2dOptions}. Default 0.
   */
  readonly padding?: number | "same" | "valid" | Sides;
  /** Steps between neighbouring elements of a patch; default 1. */
  readonly dilation?: number;
  /** Groups of channels that do not see each other; as many as channels: depthwise. Default 1. */
  readonly groups?: number;
}

/** Options of {@link conv3d}; a single number stands for all three axes. */
export interface Conv3dOptions {
  /** Steps between neighbouring places; default 1. */
  readonly stride?: number | readonly [number, number, number];
  /** As of {@link Conv2dOptions}, for three axes. */
  readonly padding?:
    | number
    | "same"
    | "valid"
    | readonly [number | Sides, number | Sides, number | Sides];
  /** Steps between neighbouring elements of a patch; default 1. */
  readonly dilation?: number | readonly [number, number, number];
  /** Groups of channels that do not see each other; as many as channels: depthwise. Default 1. */
  readonly groups?: number;
}

/** Options of {@link convTranspose2d}; a single number stands for rows and columns. */
export interface ConvTranspose2dOptions {
  /** Steps between the places of the result that neighbouring elements begin at; default 1. */
  readonly stride?: number | readonly [rows: number, columns: number];
  /** What is cut off of the result, for both sides of an axis together or each; default 0. */
  readonly padding?: number | readonly [rows: number | Sides, columns: number | Sides];
  /** Places added to the end of the result, below stride or dilation; default 0. */
  readonly outputPadding?: number | readonly [rows: number, columns: number];
  /** Steps between neighbouring elements of a kernel; default 1. */
  readonly dilation?: number | readonly [rows: number, columns: number];
  /** Groups of channels that do not see each other; default 1. */
  readonly groups?: number;
}

/** Options of {@link convTranspose1d}. */
export interface ConvTranspose1dOptions {
  /** Steps between the places of the result that neighbouring elements begin at; default 1. */
  readonly stride?: number;
  /** What is cut off of the result, on both sides or each; default 0. */
  readonly padding?: number | Sides;
  /** Places added to the end of the result, below stride or dilation; default 0. */
  readonly outputPadding?: number;
  /** Steps between neighbouring elements of a kernel; default 1. */
  readonly dilation?: number;
  /** Groups of channels that do not see each other; default 1. */
  readonly groups?: number;
}

/** One entry for each of `n` axes. */
const each = <T>(value: T | readonly T[], n: number): readonly T[] =>
  Array.isArray(value) ? value : new Array<T>(n).fill(value as T);

/** Options as they may be given for any number of axes. */
interface AnyOptions {
  readonly stride?: number | readonly number[];
  readonly padding?: number | "same" | "valid" | readonly (number | Sides)[];
  readonly dilation?: number | readonly number[];
  readonly groups?: number;
}

/** @throws {ShapeError} if "same" stands beside a stride, or another word is given. */
function attrsOf(
  name: string,
  { stride: steps = 1, padding = 0, dilation: spaces = 1, groups = 1 }: AnyOptions,
  kernel: Shape,
): ConvAttrs {
  const n = kernel.length;
  const [stride, dilation] = [each(steps, n), each(spaces, n)];
  if (typeof padding !== "string") {
    const sides = each<number | Sides>(padding, n).map((it): Sides =>
      typeof it === "number" ? [it, it] : it
    );
    return { stride, padding: sides, dilation, groups };
  }
  if (padding !== "same" && padding !== "valid") {
    throw new ShapeError(
      `${name}: the padding is ${kindOf(padding)}; numbers, same, valid are known`,
    );
  }
  if (padding === "same" && stride.some((it) => it !== 1)) {
    throw new ShapeError(`${name}: padding "same" needs stride 1, not [${stride}]`);
  }
  const sides = kernel.map((size, i): Sides => {
    const zeros = padding === "same" ? dilation[i] * (size - 1) : 0;
    return [Math.floor(zeros / 2), Math.ceil(zeros / 2)];
  });
  return { stride, padding: sides, dilation, groups };
}

const whole = (list: readonly number[], least: number) =>
  list.every((n) => Number.isInteger(n) && n >= least);

/** @throws {ShapeError} if strides, padding, dilation or groups are no whole numbers. */
function checkAttrs(name: string, { stride, padding, dilation, groups }: ConvAttrs, n: number) {
  const lists = [stride, padding, dilation];
  if (
    lists.some((list) => list.length !== n) || !whole([...stride, ...dilation, groups], 1) ||
    !whole(padding.flat(), 0)
  ) {
    throw new ShapeError(
      `${name}: stride [${stride}], padding ${
        JSON.stringify(padding)
      }, dilation [${dilation}] and ` +
        `groups ${groups} must be whole numbers, all but the padding from 1`,
    );
  }
}

function run(
  name: string,
  op: Op<ConvAttrs>,
  [x, weight, bias]: readonly [Tensor, Tensor, Tensor | undefined],
  attrs: ConvAttrs,
): Tensor {
  const { groups } = attrs;
  checkAttrs(name, attrs, x.shape.length - 2);
  if (
    x.shape[1] !== weight.shape[1] * groups || weight.shape[0] % groups !== 0 ||
    bias && (bias.shape.length !== 1 || bias.size !== weight.shape[0])
  ) {
    throw new ShapeError(
      `${name}: x ${show(x.shape)} [batch, in, ...], weight ${
        show(weight.shape)
      } [out, in / groups, ...]${bias ? `, bias ${show(bias.shape)} [out]` : ""} do not fit${
        groups > 1 ? ` in ${groups} groups` : ""
      }`,
    );
  }
  const { result } = sizesOf(x.shape, weight.shape, attrs);
  if (result.some((size) => size < 1)) {
    throw new ShapeError(
      `${name}: the kernel ${show(weight.shape)} is larger than the padded ${show(x.shape)}`,
    );
  }
  return op.apply(bias ? [x, weight, bias] : [x, weight], attrs)[0];
}

/** @throws {ShapeError} if operands have another number of axes. */
function needRank(name: string, x: Tensor, weight: Tensor, rank: number): void {
  if (x.shape.length === rank && weight.shape.length === rank) return;
  throw new ShapeError(
    `${name}: x ${show(x.shape)} and weight ${show(weight.shape)} must have ${rank} axes each`,
  );
}

const OPTIONS = ["stride", "padding", "dilation", "groups"] as const;

/**
 * Cross-correlation of images with kernels, as torch's `conv2d`. Patches are copied out, which
 * takes `in * kh * kw` values for each place of the result; groups are one batched matrix product.
 *
 * @param x [batch, in, height, width]
 * @param weight [out, in / groups, kh, kw]; outputs of group g see its channels of `x` alone
 * @param bias [out]
 * @returns [batch, out, rows, columns], with
 * `rows = floor((above + height + below - dilation (kh - 1) - 1) / stride) + 1`
 * @throws {ShapeError} if sizes do not fit or the kernel is larger than the padded image.
 */
export function conv2d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  options: Conv2dOptions = {},
): Tensor {
  needTensors("conv2d", { x, weight }, { bias });
  needOptions("conv2d", options, OPTIONS);
  needRank("conv2d", x, weight, 4);
  const attrs = attrsOf("conv2d", options, weight.shape.slice(2));
  return run("conv2d", convOp, [x, weight, bias], attrs);
}

/**
 * Cross-correlation of volumes with kernels, as torch's `conv3d`; see {@link conv2d}.
 *
 * @param x [batch, in, depth, height, width]
 * @param weight [out, in / groups, kd, kh, kw]
 * @param bias [out]
 * @returns [batch, out, ...]
 * @throws {ShapeError} if sizes do not fit or the kernel is larger than the padded volume.
 */
export function conv3d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  options: Conv3dOptions = {},
): Tensor {
  needTensors("conv3d", { x, weight }, { bias });
  needOptions("conv3d", options, OPTIONS);
  needRank("conv3d", x, weight, 5);
  const attrs = attrsOf("conv3d", options, weight.shape.slice(2));
  return run("conv3d", conv3dOp, [x, weight, bias], attrs);
}

/** A sequence, or its kernels, as an image of one row. */
const asImage = (x: Tensor): Tensor => {
  const [a, b, c] = x.shape;
  return reshape(x, [a, b, 1, c]);
};

/** An image of one row as a sequence. */
const asSequence = (y: Tensor): Tensor => reshape(y, [y.shape[0], y.shape[1], y.shape[3]]);

/** Attributes of one axis as those of the columns of an image. */
const inRow = ({ stride, padding, dilation, groups }: ConvAttrs): ConvAttrs => ({
  stride: [1, ...stride],
  padding: [[0, 0], ...padding],
  dilation: [1, ...dilation],
  groups,
});

/** Options of one axis for any number of them. */
const oneAxis = ({ padding, ...rest }: Conv1dOptions): AnyOptions => ({
  ...rest,
  padding: Array.isArray(padding) ? [padding as unknown as Sides] : padding as number | undefined,
});

/**
 * Cross-correlation of sequences with kernels, as torch's `conv1d`.
 *
 * @param x [batch, in, length]
 * @param weight [out, in / groups, k]
 * @param bias [out]
 * @returns [batch, out, places]
 * @throws {ShapeError} if sizes do not fit or the kernel is longer than the padded sequence.
 */
export function conv1d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  options: Conv1dOptions = {},
): Tensor {
  needTensors("conv1d", { x, weight }, { bias });
  needOptions("conv1d", options, OPTIONS);
  needRank("conv1d", x, weight, 3);
  const attrs = inRow(attrsOf("conv1d", oneAxis(options), weight.shape.slice(2)));
  return asSequence(run("conv1d", convOp, [asImage(x), asImage(weight), bias], attrs));
}

function runTransposed(
  name: string,
  [x, weight, bias]: readonly [Tensor, Tensor, Tensor | undefined],
  attrs: ConvTransposeAttrs,
): Tensor {
  const { groups, stride, dilation, outputPadding } = attrs;
  checkAttrs(name, attrs, 2);
  if (
    x.shape[1] !== weight.shape[0] || weight.shape[0] % groups !== 0 ||
    bias && (bias.shape.length !== 1 || bias.size !== weight.shape[1] * groups)
  ) {
    throw new ShapeError(
      `${name}: x ${show(x.shape)} [batch, in, ...], weight ${
        show(weight.shape)
      } [in, out / groups, ...]${bias ? `, bias ${show(bias.shape)} [out]` : ""} do not fit${
        groups > 1 ? ` in ${groups} groups` : ""
      }`,
    );
  }
  const most = stride.map((it, i) => Math.max(it, dilation[i]));
  if (
    outputPadding.length !== 2 || !whole(outputPadding, 0) ||
    outputPadding.some((it, i) => it >= most[i] && it > 0)
  ) {
    throw new ShapeError(
      `${name}: output padding [${outputPadding}] must be whole numbers below stride [${stride}] ` +
        `or dilation [${dilation}]`,
    );
  }
  const shape = transposedShape(x.shape, weight.shape, attrs);
  if (shape.slice(2).some((size) => size < 1)) {
    throw new ShapeError(
      `${name}: the padding leaves ${show(shape)} of x ${show(x.shape)} and weight ${
        show(weight.shape)
      }`,
    );
  }
  return convTransposeOp.apply(bias ? [x, weight, bias] : [x, weight], attrs)[0];
}

const TRANSPOSED_OPTIONS = [...OPTIONS, "outputPadding"] as const;

/**
 * The transpose of {@link conv2d} (its gradient by x), as torch's `conv_transpose2d`: each element
 * adds a kernel to the result.
 *
 * @param x [batch, in, height, width]
 * @param weight [in, out / groups, kh, kw]
 * @param bias [out]
 * @returns [batch, out, rows, columns], with
 * `rows = (height - 1) stride - above - below + dilation (kh - 1) + outputPadding + 1`
 * @throws {ShapeError} if sizes do not fit or the padding leaves nothing.
 */
export function convTranspose2d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  options: ConvTranspose2dOptions = {},
): Tensor {
  const name = "convTranspose2d";
  needTensors(name, { x, weight }, { bias });
  needOptions(name, options, TRANSPOSED_OPTIONS);
  needRank(name, x, weight, 4);
  const { outputPadding = 0, ...rest } = options;
  const attrs = attrsOf(name, rest, weight.shape.slice(2));
  return runTransposed(name, [x, weight, bias], {
    ...attrs,
    outputPadding: each(outputPadding, 2),
  });
}

/**
 * The transpose of {@link conv1d}, as torch's `conv_transpose1d`; see {@link convTranspose2d}.
 *
 * @param x [batch, in, length]
 * @param weight [in, out / groups, k]
 * @param bias [out]
 * @returns [batch, out, places]
 * @throws {ShapeError} if sizes do not fit or the padding leaves nothing.
 */
export function convTranspose1d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  options: ConvTranspose1dOptions = {},
): Tensor {
  const name = "convTranspose1d";
  needTensors(name, { x, weight }, { bias });
  needOptions(name, options, TRANSPOSED_OPTIONS);
  needRank(name, x, weight, 3);
  const { outputPadding = 0, ...rest } = options;
  const attrs = {
    ...inRow(attrsOf(name, oneAxis(rest), weight.shape.slice(2))),
    outputPadding: [0, outputPadding],
  };
  return asSequence(runTransposed(name, [asImage(x), asImage(weight), bias], attrs));
}
