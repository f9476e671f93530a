/**
 * Convolutions as a matrix product over unfolded patches.
 *
 * @module
 */
import { needOptions, needTensors } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { defineOp } from "../op.ts";
import { refZeros } from "../reference.ts";
import { type Shape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { materialize } from "../launch/copy.ts";
import { elementwise } from "../launch/elementwise.ts";
import { multiply } from "./matmul.ts";
import { sumTo } from "./reduce.ts";
import { reshape } from "./view.ts";

type Pair = readonly [number, number];

interface ConvAttrs {
  /** Rows, columns. */
  readonly stride: Pair;
  /** Zeros above and below, left and right. */
  readonly padding: readonly [Pair, Pair];
  /** Rows, columns. */
  readonly dilation: Pair;
  /** Channels of x and of the result fall into so many groups, each of which sees only its own. */
  readonly groups: number;
}

/** Sizes of a convolution. */
interface Sizes {
  readonly batch: number;
  readonly channels: number;
  readonly outputs: number;
  /** Rows and columns of the padded input, the kernel and the result. */
  readonly padded: Pair;
  readonly kernel: Pair;
  readonly result: Pair;
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
  const pair = (list: number[]) => list as unknown as Pair;
  return {
    batch,
    channels,
    outputs,
    padded: pair(padded),
    kernel: pair(kernel),
    result: pair(result),
    patch: perGroup * kernel[0] * kernel[1],
    places: batch * result[0] * result[1],
  };
}

/** The part of a padded image [batch, channels, H, W] (dense) that holds the image itself. */
function inside(padded: Tensor, image: Shape, [[top], [left]]: ConvAttrs["padding"]): Tensor {
  return padded.view(image, padded.strides, padded.offset + top * padded.strides[2] + left);
}

/** Every patch of x as a column: [channels * kh * kw, batch * rows * columns], dense. */
function unfold(x: Tensor, attrs: ConvAttrs, sizes: Sizes): Tensor {
  const { device } = x;
  const { batch, channels, kernel, padded, places, result } = sizes;
  const { stride, padding, dilation } = attrs;
  let image = x;
  if (padding.flat().some((width) => width > 0)) {
    image = device.zeros([batch, channels, ...padded]);
    elementwise(inside(image, x.shape, padding), [x], { expression: "a" });
  }
  const [perBatch, perChannel, perRow, perColumn] = image.strides;
  // Patches overlap: a view that reads elements several times, copied out.
  const patches = image.view(
    [channels, ...kernel, batch, ...result],
    [
      perChannel,
      dilation[0] * perRow,
      dilation[1] * perColumn,
      perBatch,
      stride[0] * perRow,
      stride[1] * perColumn,
    ],
  );
  const columns = device.empty(patches.shape);
  elementwise(columns, [patches], { expression: "a" });
  return columns.view([channels * kernel[0] * kernel[1], places]);
}

/**
 * Adjoint of {@link unfold}: adds every column back where it was read, one kernel offset after the
 * other.
 */
function fold(columns: Tensor, shape: Shape, attrs: ConvAttrs, sizes: Sizes): Tensor {
  const { device } = columns;
  const { batch, channels, kernel, padded, result } = sizes;
  const { stride, padding, dilation } = attrs;
  const image = device.zeros([batch, channels, ...padded]);
  const [perBatch, perChannel, perRow, perColumn] = image.strides;
  const all = columns.view([channels, ...kernel, batch, ...result]);
  for (let i = 0; i < kernel[0]; i++) {
    for (let j = 0; j < kernel[1]; j++) {
      const target = image.view(
        [channels, batch, ...result],
        [perChannel, perBatch, stride[0] * perRow, stride[1] * perColumn],
        image.offset + i * dilation[0] * perRow + j * dilation[1] * perColumn,
      );
      const part = all.view(
        target.shape,
        [all.strides[0], ...all.strides.slice(3)],
        all.offset + i * all.strides[1] + j * all.strides[2],
      );
      elementwise(target, [part], { expression: "o + a", readOut: true });
      target.dispose();
      part.dispose();
    }
  }
  return inside(image, shape, padding);
}

/** Swaps the first two axes, without a copy. */
function swapFront(x: Tensor): Tensor {
  const [a, b, ...rest] = x.shape;
  const [s, t, ...steps] = x.strides;
  return x.view([b, a, ...rest], [t, s, ...steps]);
}

/** Visits every product of a convolution: (index in x, in the weight, in the result). */
function refVisit(
  x: Shape,
  weight: Shape,
  attrs: ConvAttrs,
  visit: (x: number, weight: number, y: number) => void,
): void {
  const { batch, channels, outputs, kernel, result, patch } = sizesOf(x, weight, attrs);
  const { stride, padding: [[top], [left]], dilation, groups } = attrs;
  const [, , height, width] = x;
  for (let y = 0; y < batch * outputs * result[0] * result[1]; y++) {
    const column = y % result[1];
    const row = Math.floor(y / result[1]) % result[0];
    const o = Math.floor(y / result[1] / result[0]) % outputs;
    const b = Math.floor(y / result[1] / result[0] / outputs);
    const group = Math.floor(o * groups / outputs);
    for (let w = 0; w < patch; w++) {
      const c = group * channels / groups + Math.floor(w / kernel[0] / kernel[1]);
      const i = row * stride[0] + Math.floor(w / kernel[1]) % kernel[0] * dilation[0] - top;
      const j = column * stride[1] + w % kernel[1] * dilation[1] - left;
      if (i < 0 || j < 0 || i >= height || j >= width) continue;
      visit(
        ((b * channels + c) * height + i) * width + j,
        o * patch + w,
        y,
      );
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

const convOp = /* @__PURE__ */ defineOp<ConvAttrs>({
  name: "conv2d",
  savedFor: [[1], [0]],
  forward([x, weight, bias], attrs, save) {
    const { device } = x;
    const sizes = sizesOf(x.shape, weight.shape, attrs);
    const { outputs, patch, places } = sizes;
    const columns = unfold(x, attrs, sizes);
    const product = device.empty([outputs, sizes.batch, ...sizes.result]);
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
    save(x);
    save(weight);
    const y = device.empty(outputShape(sizes));
    const operands = [swapFront(product)];
    if (bias) operands.push(bias.view([outputs, 1, 1]));
    elementwise(y, operands, { expression: bias ? "a + b" : "a" });
    return [y];
  },
  backward({ grads: [dy], saved: [x, weight], shapes, needs }, attrs) {
    const { device } = x;
    const sizes = sizesOf(x.shape, weight.shape, attrs);
    const { outputs, patch, places } = sizes;
    const of = matrices(sizes, attrs.groups);
    const gradient = materialize(swapFront(dy!));
    let [dx, dweight, dbias]: (Tensor | undefined)[] = [];
    if (needs[1]) {
      const columns = unfold(x, attrs, sizes);
      dweight = device.empty(weight.shape);
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
    }
    if (needs[0]) {
      const columns = device.empty([attrs.groups * patch, places]);
      multiply({
        a: { ...of.weight(weight), transposed: true },
        b: of.product(gradient),
        c: of.columns(columns),
        m: patch,
        n: places,
        k: of.rows,
        batch: of.groups,
      });
      dx = fold(columns, x.shape, attrs, sizes);
    }
    if (needs[2]) dbias = sumTo(gradient, [outputs, 1, 1, 1]).view(shapes[2]);
    return [dx, dweight, dbias];
  },
  reference: {
    forward([x, weight, bias], attrs) {
      const sizes = sizesOf(x.shape, weight.shape, attrs);
      const y = refZeros(outputShape(sizes));
      const area = sizes.result[0] * sizes.result[1];
      if (bias) {
        y.data.forEach((_, i) => y.data[i] = bias.data[Math.floor(i / area) % sizes.outputs]);
      }
      refVisit(
        x.shape,
        weight.shape,
        attrs,
        (i, w, o) => y.data[o] += x.data[i] * weight.data[w],
      );
      return [y];
    },
    backward([x, weight, bias], attrs, [dy]) {
      const sizes = sizesOf(x.shape, weight.shape, attrs);
      const [dx, dweight] = [refZeros(x.shape), refZeros(weight.shape)];
      refVisit(x.shape, weight.shape, attrs, (i, w, o) => {
        dx.data[i] += dy.data[o] * weight.data[w];
        dweight.data[w] += dy.data[o] * x.data[i];
      });
      const area = sizes.result[0] * sizes.result[1];
      const dbias = bias && refZeros(bias.shape);
      if (dbias) dy.data.forEach((g, i) => dbias.data[Math.floor(i / area) % sizes.outputs] += g);
      return [dx, dweight, dbias];
    },
  },
});

/** Options of {@link conv2d}; a single number stands for rows and columns. */
export interface Conv2dOptions {
  /** Steps between neighbouring places; default 1. */
  readonly stride?: number | readonly [rows: number, columns: number];
  /** Zeros around the image, for both sides of an axis together or each its own; default 0. */
  readonly padding?:
    | number
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
  /** Zeros on both sides, or before and after: `[k - 1, 0]` is causal. Default 0. */
  readonly padding?: number | Sides;
  /** Steps between neighbouring elements of a patch; default 1. */
  readonly dilation?: number;
  /** Groups of channels that do not see each other; as many as channels: depthwise. Default 1. */
  readonly groups?: number;
}

/** Elements before and after an axis. */
export type Sides = readonly [before: number, after: number];

const pairOf = (n: number | Pair): Pair => typeof n === "number" ? [n, n] : n;

function run(
  name: string,
  [x, weight, bias]: readonly [Tensor, Tensor, Tensor | undefined],
  attrs: ConvAttrs,
): Tensor {
  const { stride, padding, dilation, groups } = attrs;
  const whole = (list: readonly number[], least: number) =>
    list.every((n) => Number.isInteger(n) && n >= least);
  if (!whole([...stride, ...dilation, groups], 1) || !whole(padding.flat(), 0)) {
    throw new ShapeError(
      `${name}: stride [${stride}], padding ${
        JSON.stringify(padding)
      }, dilation [${dilation}] and ` +
        `groups ${groups} must be whole numbers, all but the padding from 1`,
    );
  }
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
  return convOp.apply(bias ? [x, weight, bias] : [x, weight], attrs)[0];
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
  needTensors("conv2d", { x, weight }, { bias });
  needOptions("conv2d", options, ["stride", "padding", "dilation", "groups"]);
  if (x.shape.length !== 4 || weight.shape.length !== 4) {
    throw new ShapeError(
      `conv2d: x ${show(x.shape)} and weight ${show(weight.shape)} must have 4 axes each`,
    );
  }
  const { stride = 1, padding = 0, dilation = 1, groups = 1 } = options;
  const [rows, columns] = typeof padding === "number" ? [padding, padding] : padding;
  return run("conv2d", [x, weight, bias], {
    stride: pairOf(stride),
    padding: [pairOf(rows), pairOf(columns)],
    dilation: pairOf(dilation),
    groups,
  });
}

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
  needOptions("conv1d", options, ["stride", "padding", "dilation", "groups"]);
  if (x.shape.length !== 3 || weight.shape.length !== 3) {
    throw new ShapeError(
      `conv1d: x ${show(x.shape)} and weight ${show(weight.shape)} must have 3 axes each`,
    );
  }
  const { stride = 1, padding = 0, dilation = 1, groups = 1 } = options;
  const flat = ([a, b, c]: Shape): number[] => [a, b, 1, c];
  const y = run("conv1d", [reshape(x, flat(x.shape)), reshape(weight, flat(weight.shape)), bias], {
    stride: [1, stride],
    padding: [[0, 0], pairOf(padding)],
    dilation: [1, dilation],
    groups,
  });
  return reshape(y, [y.shape[0], y.shape[1], y.shape[3]]);
}
