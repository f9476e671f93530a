/**
 * Convolutions along one axis whose patches overlap, without copying patches out.
 *
 * @module
 */
import { elementwise } from "../launch/elementwise.ts";
import type { Tensor } from "../tensor.ts";
import type { ConvAttrs, Sizes } from "./conv.ts";
import { multiply } from "./matmul.ts";

/** Outputs of a group that fill the columns of a product well enough. */
const ENOUGH_OUTPUTS = 16;

/** Whether {@link convolveRow} computes a convolution, and is the faster way. */
export function isRow(attrs: ConvAttrs, { outputs, kernel, padded, patch }: Sizes): boolean {
  const last = kernel.length - 1;
  const [stride, taps] = [attrs.stride[last], kernel[last]];
  const rows = outputs / attrs.groups;
  return padded.every((size, i) => i === last || size === 1) && attrs.dilation[last] === 1 &&
    taps > stride && patch > 0 && stride * patch / taps % 4 === 0 && rows >= ENOUGH_OUTPUTS &&
    rows % 4 === 0;
}

/**
 * The convolution, channels first: [outputs, batch, ...], a view. With the channels of a group
 * innermost a patch is contiguous, and the matrix of all patches is the padded row itself, read
 * with rows that lie a stride apart and overlap.
 */
export function convolveRow(x: Tensor, weight: Tensor, attrs: ConvAttrs, sizes: Sizes): Tensor {
  const { device } = x;
  const { groups } = attrs;
  const { batch, channels, outputs, kernel, padded, patch, result } = sizes;
  const last = kernel.length - 1;
  const [taps, length, places] = [kernel[last], padded[last], result[last]];
  const [before, after] = attrs.padding[last];
  const [own, rows] = [channels / groups, outputs / groups];
  const row = device[before + after > 0 ? "zeros" : "empty"]([batch, groups, length, own]);
  const [perBatch, perChannel] = x.strides;
  const from = x.view(
    [batch, groups, length - before - after, own],
    [perBatch, own * perChannel, x.strides[last + 2], perChannel],
  );
  elementwise(row.view(from.shape, row.strides, row.offset + before * own), [from], {
    expression: "a",
  });
  // Not [rows, patch]: lengths of patches are often such that rows would share few lines of caches.
  const kernels = device.empty([groups, taps, own, rows]);
  elementwise(kernels, [weight.view(kernels.shape, [rows * patch, 1, taps, patch])], {
    expression: "a",
  });
  const product = device.empty([batch, places, outputs]);
  for (let clip = 0; clip < batch; clip++) {
    multiply({
      a: {
        ...{ tensor: row, start: clip * groups * length * own },
        ...{ ld: attrs.stride[last] * own, batchStride: length * own },
      },
      b: { tensor: kernels, ld: rows, batchStride: patch * rows },
      c: {
        ...{ tensor: product, start: clip * places * outputs },
        ...{ ld: outputs, batchStride: rows },
      },
      ...{ m: places, n: rows, k: patch, batch: groups },
    });
  }
  return product.view(
    [outputs, batch, ...result],
    [1, places * outputs, ...result.map((_, i) => i === last ? outputs : 0)],
  );
}
