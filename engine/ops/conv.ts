/**
 * Convolutions as matrix products over unfolded patches. Their transposes, which are made of the
 * same parts, are in conv_transpose.ts.
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
import { convolveRow, isRow } from "./conv_row.ts";
import { multiply } from "./matmul.ts";
import { sumTo } from "./reduce.ts";
import { reshape } from "./view.ts";

/** Elements before and after an axis. */
export type Sides = readonly [before: number, after: number];

/** One entry for each axis of places. */
export interface ConvAttrs {
  readonly stride: readonly number[];
  /** Zeros on both sides. */
  readonly padding: readonly Sides[];
  readonly dilation: readonly number[];
  /** Channels of x and of the result fall into so many groups, each of which sees only its own. */
  readonly groups: number;
}

/** Sizes of a convolution. */
export interface Sizes {
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

/** Sizes of a convolution of such operands. */
export function sizesOf(
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
export function swapFront(x: Tensor): Tensor {
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
export const perChannel = (bias: Tensor, places: Shape): Tensor =>
  bias.view([bias.size, ...places.map(() => 1)]);

/** The convolution, channels first: [outputs, batch, ...]. */
export function convolve(x: Tensor, weight: Tensor, attrs: ConvAttrs, sizes: Sizes): Tensor {
  if (isRow(attrs, sizes)) return convolveRow(x, weight, attrs, sizes);
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
export function spread(
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
export function weightGradient(
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

/** One entry for each of `n` axes. */
export const each = <T>(value: T | readonly T[], n: number): readonly T[] =>
  Array.isArray(value) ? value : new Array<T>(n).fill(value as T);

/** Options as they may be given for any number of axes. */
export interface AnyOptions {
  readonly stride?: number | readonly number[];
  readonly padding?: number | "same" | "valid" | readonly (number | Sides)[];
  readonly dilation?: number | readonly number[];
  readonly groups?: number;
}

/** @throws {ShapeError} if "same" stands beside a stride, or another word is given. */
export function attrsOf(
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

/** Whether all numbers are whole ones from `least`. */
export const whole = (list: readonly number[], least: number) =>
  list.every((n) => Number.isInteger(n) && n >= least);

/** @throws {ShapeError} if strides, padding, dilation or groups are no whole numbers. */
export function checkAttrs(
  name: string,
  { stride, padding, dilation, groups }: ConvAttrs,
  n: number,
) {
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

/** Names of the options of all convolutions. */
export const OPTIONS = ["stride", "padding", "dilation", "groups"] as const;

/**
 * Checks what a convolution is given before sizes are looked at. Internal to convolutions.
 *
 * @param rank axes of x and weight
 * @throws {ShapeError} if something is no tensor, an option is not known, or operands have another
 * number of axes.
 */
export function needOperands(
  name: string,
  [x, weight, bias]: readonly [Tensor, Tensor, Tensor | undefined],
  rank: number,
  options: object,
  known: readonly string[] = OPTIONS,
): void {
  needTensors(name, { x, weight }, { bias });
  needOptions(name, options, known);
  if (x.shape.length === rank && weight.shape.length === rank) return;
  throw new ShapeError(
    `${name}: x ${show(x.shape)} and weight ${show(weight.shape)} must have ${rank} axes each`,
  );
}

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
  needOperands("conv2d", [x, weight, bias], 4, options);
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
  needOperands("conv3d", [x, weight, bias], 5, options);
  const attrs = attrsOf("conv3d", options, weight.shape.slice(2));
  return run("conv3d", conv3dOp, [x, weight, bias], attrs);
}

/** A sequence, or its kernels, as an image of one row. */
export const asImage = (x: Tensor): Tensor => {
  const [a, b, c] = x.shape;
  return reshape(x, [a, b, 1, c]);
};

/** An image of one row as a sequence. */
export const asSequence = (y: Tensor): Tensor => reshape(y, [y.shape[0], y.shape[1], y.shape[3]]);

/** Attributes of one axis as those of the columns of an image. */
export const inRow = ({ stride, padding, dilation, groups }: ConvAttrs): ConvAttrs => ({
  stride: [1, ...stride],
  padding: [[0, 0], ...padding],
  dilation: [1, ...dilation],
  groups,
});

/** Options of one axis for any number of them. */
export const oneAxis = ({ padding, ...rest }: Conv1dOptions): AnyOptions => ({
  ...rest,
  padding: Array.isArray(padding) ? [padding as unknown as Sides] : padding as number | undefined,
});

/**
 * Cross-correlation of sequences with kernels, as torch's `conv1d`. Patches that overlap are copied
 * out only where groups have few outputs, or for gradients.
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
  needOperands("conv1d", [x, weight, bias], 3, options);
  const attrs = inRow(attrsOf("conv1d", oneAxis(options), weight.shape.slice(2)));
  return asSequence(run("conv1d", convOp, [asImage(x), asImage(weight), bias], attrs));
}
