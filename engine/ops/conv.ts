/**
 * Convolutions as a matrix product over unfolded patches.
 *
 * @module
 */
import { ShapeError } from "../errors.ts";
import { defineOp, type RefArray, type Sample } from "../op.ts";
import { refRandom, refZeros } from "../reference.ts";
import { type Shape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { materialize } from "./copy.ts";
import { gemm } from "./gemm.ts";
import { elementwise } from "./launch.ts";
import { sumTo } from "./reduce.ts";
import { reshape } from "./view.ts";

interface ConvAttrs {
  /** Rows, columns. */
  readonly stride: readonly [number, number];
  readonly padding: readonly [number, number];
  readonly dilation: readonly [number, number];
}

/** Sizes of a convolution. */
interface Sizes {
  readonly batch: number;
  readonly channels: number;
  readonly outputs: number;
  /** Rows and columns of the padded input, the kernel and the result. */
  readonly padded: readonly [number, number];
  readonly kernel: readonly [number, number];
  readonly result: readonly [number, number];
  /** Values per patch. */
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
  const [outputs, , ...kernel] = weight;
  const padded = image.map((size, i) => size + 2 * padding[i]);
  const result = padded.map((size, i) =>
    Math.floor((size - dilation[i] * (kernel[i] - 1) - 1) / stride[i]) + 1
  );
  const pair = (list: number[]) => list as unknown as readonly [number, number];
  return {
    batch,
    channels,
    outputs,
    padded: pair(padded),
    kernel: pair(kernel),
    result: pair(result),
    patch: channels * kernel[0] * kernel[1],
    places: batch * result[0] * result[1],
  };
}

/** The part of a padded image [batch, channels, H, W] (dense) that holds the image itself. */
function inside(padded: Tensor, image: Shape, [top, left]: readonly [number, number]): Tensor {
  return padded.view(image, padded.strides, padded.offset + top * padded.strides[2] + left);
}

/** Every patch of x as a column: [channels * kh * kw, batch * rows * columns], dense. */
function unfold(x: Tensor, attrs: ConvAttrs, sizes: Sizes): Tensor {
  const { device } = x;
  const { batch, channels, kernel, padded, patch, places, result } = sizes;
  const { stride, padding, dilation } = attrs;
  let image = x;
  if (padding[0] > 0 || padding[1] > 0) {
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
  return columns.view([patch, places]);
}

/** Adjoint of {@link unfold}: adds every column back where it was read, one kernel offset after the other. */
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
  const { batch, channels, outputs, kernel, result } = sizesOf(x, weight, attrs);
  const { stride, padding, dilation } = attrs;
  const [, , height, width] = x;
  for (let y = 0; y < batch * outputs * result[0] * result[1]; y++) {
    const column = y % result[1];
    const row = Math.floor(y / result[1]) % result[0];
    const o = Math.floor(y / result[1] / result[0]) % outputs;
    const b = Math.floor(y / result[1] / result[0] / outputs);
    for (let w = 0; w < channels * kernel[0] * kernel[1]; w++) {
      const c = Math.floor(w / kernel[0] / kernel[1]);
      const i = row * stride[0] + Math.floor(w / kernel[1]) % kernel[0] * dilation[0] - padding[0];
      const j = column * stride[1] + w % kernel[1] * dilation[1] - padding[1];
      if (i < 0 || j < 0 || i >= height || j >= width) continue;
      visit(
        ((b * channels + c) * height + i) * width + j,
        o * channels * kernel[0] * kernel[1] + w,
        y,
      );
    }
  }
}

const outputShape = ({ batch, outputs, result }: Sizes): number[] => [batch, outputs, ...result];

const convOp = defineOp<ConvAttrs>({
  name: "conv2d",
  forward([x, weight, bias], attrs, save) {
    const { device } = x;
    const sizes = sizesOf(x.shape, weight.shape, attrs);
    const { outputs, patch, places } = sizes;
    const columns = unfold(x, attrs, sizes);
    const product = device.empty([outputs, sizes.batch, ...sizes.result]);
    gemm({
      a: { tensor: weight, ld: patch },
      b: { tensor: columns, ld: places },
      c: { tensor: product, ld: places },
      m: outputs,
      n: places,
      k: patch,
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
    const gradient = materialize(swapFront(dy!));
    let [dx, dweight, dbias]: (Tensor | undefined)[] = [];
    if (needs[1]) {
      const columns = unfold(x, attrs, sizes);
      dweight = device.empty(weight.shape);
      gemm({
        a: { tensor: gradient, ld: places },
        b: { tensor: columns, ld: places, transposed: true },
        c: { tensor: dweight, ld: patch },
        m: outputs,
        n: patch,
        k: places,
      });
      columns.dispose();
    }
    if (needs[0]) {
      const columns = device.empty([patch, places]);
      gemm({
        a: { tensor: weight, ld: patch, transposed: true },
        b: { tensor: gradient, ld: places },
        c: { tensor: columns, ld: places },
        m: patch,
        n: places,
        k: outputs,
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
  samples() {
    const cases: [string, Shape, Shape, boolean, ConvAttrs][] = [
      ["one", [1, 1, 1, 1], [1, 1, 1, 1], true, same(1, 0, 1)],
      ["3 x 3", [2, 3, 7, 5], [4, 3, 3, 3], true, same(1, 0, 1)],
      ["3 x 3, padded", [1, 2, 5, 8], [3, 2, 3, 3], false, same(1, 1, 1)],
      ["stride 2", [2, 3, 9, 7], [5, 3, 3, 3], true, same(2, 1, 1)],
      ["patches", [2, 1, 8, 12], [8, 1, 4, 4], true, same(4, 0, 1)],
      ["dilated", [1, 2, 9, 9], [2, 2, 3, 3], false, same(1, 2, 2)],
      ["stride beyond the kernel", [1, 2, 7, 7], [3, 2, 2, 2], true, same(3, 0, 1)],
      ["larger", [2, 3, 33, 31], [4, 3, 3, 3], true, same(1, 1, 1)],
      ["1 x 5", [3, 4, 1, 31], [6, 4, 1, 5], true, {
        stride: [1, 2],
        padding: [0, 2],
        dilation: [1, 1],
      }],
      ["uneven", [1, 1, 6, 11], [2, 1, 2, 3], true, {
        stride: [2, 1],
        padding: [1, 0],
        dilation: [1, 3],
      }],
    ];
    return cases.map(([label, x, weight, bias, attrs], seed): Sample<ConvAttrs> => ({
      label: `${label}: ${show(x)} by ${show(weight)}`,
      inputs: [
        refRandom(x, seed),
        refRandom(weight, seed + 20),
        ...(bias ? [refRandom([weight[0]], seed + 40)] : []) as RefArray[],
      ],
      attrs,
    }));
  },
});

function same(stride: number, padding: number, dilation: number): ConvAttrs {
  return {
    stride: [stride, stride],
    padding: [padding, padding],
    dilation: [dilation, dilation],
  };
}

/** Options of {@link conv2d}; a single number stands for rows and columns. */
export interface Conv2dOptions {
  /** Steps between neighbouring places; default 1. */
  readonly stride?: number | readonly [number, number];
  /** Zeros on both sides of each axis; default 0. */
  readonly padding?: number | readonly [number, number];
  /** Steps between neighbouring elements of a patch; default 1. */
  readonly dilation?: number | readonly [number, number];
}

/** Options of {@link conv1d}. */
export interface Conv1dOptions {
  /** Steps between neighbouring places; default 1. */
  readonly stride?: number;
  /** Zeros on both sides; default 0. */
  readonly padding?: number;
  /** Steps between neighbouring elements of a patch; default 1. */
  readonly dilation?: number;
}

function run(
  name: string,
  [x, weight, bias]: readonly [Tensor, Tensor, Tensor | undefined],
  attrs: ConvAttrs,
): Tensor {
  if (
    x.shape[1] !== weight.shape[1] ||
    bias && (bias.shape.length !== 1 || bias.size !== weight.shape[0])
  ) {
    throw new ShapeError(
      `${name}: x ${show(x.shape)} [batch, in, ...], weight ${show(weight.shape)} [out, in, ...]${
        bias ? `, bias ${show(bias.shape)} [out]` : ""
      } do not fit`,
    );
  }
  const whole = (list: readonly number[], least: number) =>
    list.every((n) => Number.isInteger(n) && n >= least);
  if (!whole(attrs.stride, 1) || !whole(attrs.dilation, 1) || !whole(attrs.padding, 0)) {
    throw new ShapeError(
      `${name}: stride [${attrs.stride}], padding [${attrs.padding}] and dilation [${attrs.dilation}] ` +
        "must be whole numbers, the first and the last from 1",
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
 * Cross-correlation of images with kernels, as torch's `conv2d` (one group). Patches are copied out, which takes
 * `in * kh * kw` values for each place of the result.
 *
 * @param x [batch, in, height, width]
 * @param weight [out, in, kh, kw]
 * @param bias [out]
 * @returns [batch, out, rows, columns], `rows = floor((height + 2 padding - dilation (kh - 1) - 1) / stride) + 1`
 * @throws {ShapeError} if sizes do not fit or the kernel is larger than the padded image.
 */
export function conv2d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  options: Conv2dOptions = {},
): Tensor {
  if (x.shape.length !== 4 || weight.shape.length !== 4) {
    throw new ShapeError(
      `conv2d: x ${show(x.shape)} and weight ${show(weight.shape)} must have 4 axes each`,
    );
  }
  const pair = (n: number | readonly [number, number]): readonly [number, number] =>
    typeof n === "number" ? [n, n] : n;
  const { stride = 1, padding = 0, dilation = 1 } = options;
  return run("conv2d", [x, weight, bias], {
    stride: pair(stride),
    padding: pair(padding),
    dilation: pair(dilation),
  });
}

/**
 * Cross-correlation of sequences with kernels, as torch's `conv1d` (one group).
 *
 * @param x [batch, in, length]
 * @param weight [out, in, k]
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
  if (x.shape.length !== 3 || weight.shape.length !== 3) {
    throw new ShapeError(
      `conv1d: x ${show(x.shape)} and weight ${show(weight.shape)} must have 3 axes each`,
    );
  }
  const { stride = 1, padding = 0, dilation = 1 } = options;
  const flat = ([a, b, c]: Shape): number[] => [a, b, 1, c];
  const y = run("conv1d", [reshape(x, flat(x.shape)), reshape(weight, flat(weight.shape)), bias], {
    stride: [1, stride],
    padding: [0, padding],
    dilation: [1, dilation],
  });
  return reshape(y, [y.shape[0], y.shape[1], y.shape[3]]);
}
