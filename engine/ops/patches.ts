/**
 * Images as columns of patches and back, and channels as places of finer images.
 *
 * @module
 */
import { kindOf, needOptions, needTensors, needWhole, perAxis } from "../arguments.ts";
import { isFloat } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { composite } from "../scope.ts";
import { show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { at } from "./at.ts";
import { pad } from "./pad.ts";
import type { PerAxis } from "./pool.ts";
import { frames, overlapAdd } from "./stft.ts";
import { permute, reshape, slice } from "./view.ts";

/** Options of {@link unfold} and {@link fold}; a single number stands for rows and columns. */
export interface PatchOptions {
  /** Steps between neighbouring patches; default 1. */
  readonly stride?: PerAxis;
  /** Zeros around the image; default 0. */
  readonly padding?: PerAxis;
  /** Steps between neighbouring elements of a patch; default 1. */
  readonly dilation?: PerAxis;
}

/** How patches lie along one axis of places. */
interface Patches {
  readonly kernel: number;
  readonly stride: number;
  readonly padding: number;
  readonly dilation: number;
  /** Places from the first to the last element of a patch. */
  readonly span: number;
  /** Places with the padding. */
  readonly padded: number;
  readonly count: number;
}

/** @throws {ShapeError} if no patch fits. */
function patchesOf(
  name: string,
  sizes: readonly number[],
  kernel: PerAxis,
  options: PatchOptions,
): [rows: Patches, columns: Patches] {
  needOptions(name, options, ["stride", "padding", "dilation"]);
  const kernels = perAxis(name, "kernel", kernel, 2, 1);
  const strides = perAxis(name, "stride", options.stride ?? 1, 2, 1);
  const paddings = perAxis(name, "padding", options.padding ?? 0, 2, 0);
  const dilations = perAxis(name, "dilation", options.dilation ?? 1, 2, 1);
  return sizes.map((size, i): Patches => {
    const [stride, padding, dilation] = [strides[i], paddings[i], dilations[i]];
    const span = dilation * (kernels[i] - 1) + 1;
    const padded = size + 2 * padding;
    const count = Math.floor((padded - span) / stride) + 1;
    if (count < 1) {
      throw new ShapeError(
        `${name}: patches of ${kernels[i]}, ${dilation} apart, do not fit ${size} places with ` +
          `padding ${padding}`,
      );
    }
    return { kernel: kernels[i], stride, padding, dilation, span, padded, count };
  }) as [Patches, Patches];
}

const paddingOf = (image: number, ...axes: readonly Patches[]) => [
  ...new Array<[number, number]>(image).fill([0, 0]),
  ...axes.map(({ padding }): [number, number] => [padding, padding]),
];

/** Patches along the last axis: [..., padded] to [..., count, kernel]. */
const taken = (x: Tensor, { span, stride, dilation }: Patches): Tensor => {
  const whole = frames(x, span, stride);
  return dilation === 1 ? whole : at(whole, "...", `::${dilation}`);
};

/** Adds [..., count, kernel] up to [..., size], without the padding. */
function added(x: Tensor, it: Patches, size: number): Tensor {
  const { kernel, stride, padding, dilation, span, padded, count } = it;
  const front = x.shape.slice(0, -2);
  const none = front.map((): [number, number] => [0, 0]);
  let spread = x;
  if (dilation > 1) {
    const apart = pad(reshape(x, [...front, count, kernel, 1]), [
      ...none,
      ...[[0, 0], [0, 0], [0, dilation - 1]] as [number, number][],
    ]);
    spread = slice(reshape(apart, [...front, count, kernel * dilation]), -1, 0, span);
  }
  const sum = overlapAdd(spread, stride);
  const whole = pad(sum, [...none, [0, padded - sum.shape[sum.shape.length - 1]]]);
  return slice(whole, -1, padding, size);
}

/**
 * Patches of images as columns, as torch's `unfold` (im2col): a product with kernels of shape [out,
 * channels kh kw] is a convolution.
 *
 * @param x [batch, channels, height, width]
 * @param kernel rows and columns of a patch
 * @returns [batch, channels kh kw, places], patches in order of rows
 * @throws {ShapeError} if `x` holds no images of floats, or no patch fits.
 */
export function unfold(x: Tensor, kernel: PerAxis, options: PatchOptions = {}): Tensor {
  needTensors("unfold", { x });
  if (x.shape.length !== 4 || !isFloat(x.dtype)) {
    throw new ShapeError(
      `unfold: x is ${kindOf(x)}; floats [batch, channels, height, width] are needed`,
    );
  }
  const [batch, channels] = x.shape;
  const [rows, columns] = patchesOf("unfold", x.shape.slice(2), kernel, options);
  return composite(() => {
    const padded = pad(x, paddingOf(2, rows, columns));
    // [batch, channels, places, kw, height], then [..., places, kh] at its end.
    const across = permute(taken(padded, columns), [0, 1, 3, 4, 2]);
    const patches = permute(taken(across, rows), [0, 1, 5, 3, 4, 2]);
    const size = channels * rows.kernel * columns.kernel;
    return reshape(patches, [batch, size, rows.count * columns.count]);
  });
}

/**
 * Adds patches up where they lie in an image, as torch's `fold` (col2im): the adjoint of
 * {@link unfold}.
 *
 * @param x [batch, channels kh kw, places]
 * @param size rows and columns of the image
 * @param kernel rows and columns of a patch
 * @returns [batch, channels, height, width]
 * @throws {ShapeError} if places or elements of a patch do not fit.
 */
export function fold(
  x: Tensor,
  size: PerAxis,
  kernel: PerAxis,
  options: PatchOptions = {},
): Tensor {
  needTensors("fold", { x });
  const sizes = perAxis("fold", "size of the image", size, 2, 1);
  const [rows, columns] = patchesOf("fold", sizes, kernel, options);
  const [batch, elements, places] = x.shape;
  const channels = elements / (rows.kernel * columns.kernel);
  if (
    x.shape.length !== 3 || !isFloat(x.dtype) || !Number.isInteger(channels) ||
    places !== rows.count * columns.count
  ) {
    throw new ShapeError(
      `fold: x is ${kindOf(x)}; floats [batch, channels ${rows.kernel} ${columns.kernel}, ${
        rows.count * columns.count
      }] are needed for images ${show(sizes)}`,
    );
  }
  return composite(() => {
    const patches = reshape(x, [
      ...[batch, channels, rows.kernel, columns.kernel, rows.count, columns.count],
    ]);
    // [batch, channels, places of columns, kw, places of rows, kh].
    const tall = added(permute(patches, [0, 1, 5, 3, 4, 2]), rows, sizes[0]);
    return added(permute(tall, [0, 1, 4, 2, 3]), columns, sizes[1]);
  });
}

/** @throws {ShapeError} if `x` has fewer than three axes or an axis does not divide. */
function needFactor(name: string, x: Tensor, factor: number, fits: boolean, what: string): void {
  needTensors(name, { x });
  needWhole(name, "the factor", factor, 1);
  if (x.shape.length >= 3 && fits) return;
  throw new ShapeError(`${name}: x is ${kindOf(x)}; [..., channels, height, width] with ${what}`);
}

/**
 * Channels become places of a finer image, as torch's `pixel_shuffle` (Shi et al.,
 * arXiv:1609.05158).
 *
 * @param x [..., channels factor^2, height, width] of any type
 * @returns [..., channels, height factor, width factor]
 * @throws {ShapeError} if the channels do not divide.
 */
export function pixelShuffle(x: Tensor, factor: number): Tensor {
  const [all = 0, height = 0, width = 0] = x?.shape?.slice(-3) ?? [];
  const channels = all / factor ** 2;
  needFactor("pixelShuffle", x, factor, Number.isInteger(channels), `${factor}^2 c channels`);
  return composite(() => {
    const front = x.shape.slice(0, -3);
    const n = front.length;
    const split = reshape(x, [...front, channels, factor, factor, height, width]);
    const order = [...front.keys(), ...[0, 3, 1, 4, 2].map((axis) => n + axis)];
    return reshape(permute(split, order), [...front, channels, height * factor, width * factor]);
  });
}

/**
 * Undoes {@link pixelShuffle}.
 *
 * @param x [..., channels, height factor, width factor] of any type
 * @returns [..., channels factor^2, height, width]
 * @throws {ShapeError} if height or width do not divide.
 */
export function pixelUnshuffle(x: Tensor, factor: number): Tensor {
  const [channels = 0, tall = 0, wide = 0] = x?.shape?.slice(-3) ?? [];
  const [height, width] = [tall / factor, wide / factor];
  const fits = Number.isInteger(height) && Number.isInteger(width);
  needFactor("pixelUnshuffle", x, factor, fits, `sizes that ${factor} divides`);
  return composite(() => {
    const front = x.shape.slice(0, -3);
    const n = front.length;
    const split = reshape(x, [...front, channels, height, factor, width, factor]);
    const order = [...front.keys(), ...[0, 2, 4, 1, 3].map((axis) => n + axis)];
    return reshape(permute(split, order), [...front, channels * factor ** 2, height, width]);
  });
}
