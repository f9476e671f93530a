/**
 * Images of tokens in windows, within which Swin transformers attend (Liu et al.,
 * arXiv:2103.14030).
 *
 * @module
 */
import { kindOf, needOptions, needTensors, perAxis } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { composite } from "../scope.ts";
import { show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { roll } from "./rearrange.ts";
import type { PerAxis } from "./pool.ts";
import { permute, reshape } from "./view.ts";

/** Options of {@link windowPartition} and {@link windowReverse}. */
export interface WindowOptions {
  /**
   * Places by which windows begin later along rows and columns; those of the last windows go on at
   * the other end of the image. Default 0.
   */
  readonly shift?: PerAxis;
}

type Pair = readonly [rows: number, columns: number];

/** Windows and shift of an image. @throws {ShapeError} if windows do not divide it. */
function windowsOf(name: string, sizes: Pair, window: PerAxis, options: WindowOptions) {
  needOptions(name, options, ["shift"]);
  const { shift = 0 } = options;
  const [rows, columns] = perAxis(name, "window", window, 2, 1);
  const shifts = perAxis(name, "shift", shift, 2, 0);
  const [down, across] = [sizes[0] / rows, sizes[1] / columns];
  if (!Number.isInteger(down) || !Number.isInteger(across)) {
    throw new ShapeError(
      `${name}: windows of ${rows} x ${columns} do not divide an image of ${show(sizes)}`,
    );
  }
  return { rows, columns, down, across, shifts, shifted: shifts.some((it) => it > 0) };
}

/**
 * Cuts images into windows, which become batches.
 *
 * @param x [batch, height, width, channels]
 * @param window rows and columns of a window, which divide those of the image
 * @returns [batch * windows, tokens of a window, channels]: windows, and tokens within, row by row
 * @throws {ShapeError} if `x` has other axes, or windows do not divide the image.
 */
export function windowPartition(x: Tensor, window: PerAxis, options: WindowOptions = {}): Tensor {
  const name = "windowPartition";
  needTensors(name, { x });
  const [batch, height, width, channels] = x.shape;
  if (x.shape.length !== 4) {
    throw new ShapeError(`${name}: x is ${kindOf(x)}; [batch, height, width, channels] is needed`);
  }
  const { rows, columns, down, across, shifts, shifted } = windowsOf(
    name,
    [height, width],
    window,
    options,
  );
  return composite(() => {
    const from = shifted ? roll(x, shifts.map((it) => -it), [1, 2]) : x;
    const parts = reshape(from, [batch, down, rows, across, columns, channels]);
    const order = permute(parts, [0, 1, 3, 2, 4, 5]);
    return reshape(order, [batch * down * across, rows * columns, channels]);
  });
}

/**
 * The inverse of {@link windowPartition}.
 *
 * @param x [batch * windows, tokens of a window, channels]
 * @param size height and width of the images
 * @param window rows and columns of a window
 * @returns [batch, height, width, channels]
 * @throws {ShapeError} if windows do not divide the image, or batches and tokens are not theirs.
 */
export function windowReverse(
  x: Tensor,
  size: PerAxis,
  window: PerAxis,
  options: WindowOptions = {},
): Tensor {
  const name = "windowReverse";
  needTensors(name, { x });
  const [height, width] = perAxis(name, "size of the image", size, 2, 1);
  const { rows, columns, down, across, shifts, shifted } = windowsOf(
    name,
    [height, width],
    window,
    options,
  );
  const [batches, tokens, channels] = x.shape;
  const batch = batches / (down * across);
  if (x.shape.length !== 3 || !Number.isInteger(batch) || tokens !== rows * columns) {
    throw new ShapeError(
      `${name}: x is ${kindOf(x)}; batches of ${down * across} windows of ${rows * columns} ` +
        "tokens are needed",
    );
  }
  return composite(() => {
    const parts = reshape(x, [batch, down, across, rows, columns, channels]);
    const image = reshape(permute(parts, [0, 1, 3, 2, 4, 5]), [batch, height, width, channels]);
    return shifted ? roll(image, shifts, [1, 2]) : image;
  });
}
