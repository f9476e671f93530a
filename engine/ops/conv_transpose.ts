/**
 * Transposes of convolutions, of the parts of conv.ts.
 *
 * @module
 */
import { ShapeError } from "../errors.ts";
import { elementwise } from "../launch/elementwise.ts";
import { materialize } from "../launch/copy.ts";
import { defineOp } from "../op.ts";
import { refZeros } from "../reference.ts";
import { type Shape, show, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import {
  asImage,
  asSequence,
  attrsOf,
  checkAttrs,
  type ConvAttrs,
  convolve,
  each,
  inRow,
  needOperands,
  oneAxis,
  OPTIONS,
  perChannel,
  type Sides,
  type Sizes,
  sizesOf,
  spread,
  swapFront,
  weightGradient,
  whole,
} from "./conv.ts";
import { sumTo } from "./reduce.ts";

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
 * The transpose of `conv2d` (its gradient by x), as torch's `conv_transpose2d`: each element
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
  needOperands(name, [x, weight, bias], 4, options, TRANSPOSED_OPTIONS);
  const { outputPadding = 0, ...rest } = options;
  const attrs = attrsOf(name, rest, weight.shape.slice(2));
  return runTransposed(name, [x, weight, bias], {
    ...attrs,
    outputPadding: each(outputPadding, 2),
  });
}

/**
 * The transpose of `conv1d`, as torch's `conv_transpose1d`; see {@link convTranspose2d}.
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
  needOperands(name, [x, weight, bias], 3, options, TRANSPOSED_OPTIONS);
  const { outputPadding = 0, ...rest } = options;
  const attrs = {
    ...inRow(attrsOf(name, oneAxis(rest), weight.shape.slice(2))),
    outputPadding: [0, outputPadding],
  };
  return asSequence(runTransposed(name, [asImage(x), asImage(weight), bias], attrs));
}
