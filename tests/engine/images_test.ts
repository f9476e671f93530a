/**
 * Pooling, resampling and padding beyond the samples of their ops: ties, NaN, long windows, what is
 * refused.
 */
import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../engine/errors.ts";
import { conv1d, conv2d, conv3d } from "../../engine/ops/conv.ts";
import { convTranspose2d } from "../../engine/ops/conv_transpose.ts";
import { interpolate } from "../../engine/ops/interpolate.ts";
import { pad } from "../../engine/ops/pad.ts";
import {
  adaptiveAvgPool1d,
  adaptiveMaxPool1d,
  avgPool1d,
  avgPool2d,
  maxPool1d,
  maxPool2d,
} from "../../engine/ops/pool.ts";
import { sum } from "../../engine/ops/reduce.ts";
import { backward } from "../../engine/tape.ts";
import { openDevice } from "../support/device.ts";
import { refRandom } from "../support/random.ts";
import { fullOnly, test } from "../support/tier.ts";

const device = await openDevice();

test("the first of equal maxima gets the gradient, row by row, and NaN is a maximum", async () => {
  const x = device.tensor([1, 5, 5, 0, 5, 2, 2, 2], [2, 4]).trainable();
  const y = maxPool2d(x, [2, 4]);
  const value = y.view(y.shape);
  backward(y, device.full([1, 1], 3));
  const lowest = maxPool1d(device.tensor([-Infinity, -Infinity, 1, NaN, 7, NaN]), 2);
  const [top, gradient, others] = await device.read([value, x.grad!, lowest]);
  assertEquals([...top], [5]);
  assertEquals([...gradient], [0, 3, 0, 0, 0, 0, 0, 0]);
  assertEquals([...others], [-Infinity, NaN, NaN]);
});

test("overlapping windows add the gradients of a maximum", async () => {
  const x = device.tensor([0, 4, 1, 2, 3]).trainable();
  backward(maxPool1d(x, 3, { stride: 1 }), device.tensor([1, 2, 4]));
  assertEquals([...await x.grad!.data()], [0, 3, 0, 0, 4]);
});

test("a window as long as 30,000 places, and one value shared out", async () => {
  const x = device.tensor(Float32Array.from({ length: 30000 }, (_, i) => i % 2), [1, 30000]);
  const results = [adaptiveAvgPool1d(x, 1), adaptiveMaxPool1d(x, 1), avgPool1d(x, 30000)];
  const [average, top, plain] = await device.read(results);
  // Sums in order: 2,048 equal terms, off by up to 2,048 times 2^-25.
  assertEquals(Math.abs(average[0] - 0.5) < 6e-5 && Math.abs(plain[0] - 0.5) < 6e-5, true);
  assertEquals([...top], [1]);
  const shared = adaptiveAvgPool1d(device.tensor([2]), 3);
  assertEquals([...await shared.data()], [2, 2, 2]);
});

fullOnly("300,000 places become one, and one 300,000, with their gradients", async () => {
  const n = 300_000;
  const x = device.full([1, 1, n], 1).trainable();
  const y = avgPool1d(x, n);
  const mean = y.view(y.shape);
  backward(y, device.full([1, 1, 1], n));
  const one = device.full([1, 1, 1], 2).trainable();
  const spread = interpolate(one, { size: n });
  const values = spread.view(spread.shape);
  backward(sum(spread));
  const [[average], dx, all, [total]] = await device.read([mean, x.grad!, values, one.grad!]);
  // 4,096 equal terms in order, off by up to 4,096 times 2^-25.
  assertEquals(Math.abs(average - 1) < 1.3e-4 && Math.abs(total / n - 1) < 1.3e-4, true);
  assertEquals(dx.every((v) => Math.abs(v - 1) < 1e-6) && all.every((v) => v === 2), true);
});

test('padding "same" is the padding that keeps the size, more of it at the end', async () => {
  const x = device.tensor(Float32Array.from(refRandom([2, 2, 5, 6], 1).data), [2, 2, 5, 6]);
  const w = device.tensor(Float32Array.from(refRandom([3, 2, 4, 3], 2).data), [3, 2, 4, 3]);
  const same = conv2d(x, w, undefined, { padding: "same", dilation: [1, 2] });
  const padded = pad(x, [[0, 0], [0, 0], [1, 2], [2, 2]]);
  const explicit = conv2d(padded, w, undefined, { padding: "valid", dilation: [1, 2] });
  assertEquals(same.shape, [2, 3, 5, 6]);
  const [a, b] = await device.read([same, explicit]);
  assertEquals(a, b);
  const [sequence, kernel] = [device.zeros([1, 2, 9]), device.zeros([4, 1, 4])];
  assertEquals(conv1d(sequence, kernel, undefined, { padding: "same", groups: 2 }).shape, [
    1,
    4,
    9,
  ]);
  const [volume, cube] = [device.zeros([1, 1, 3, 4, 5]), device.zeros([1, 1, 2, 3, 3])];
  assertEquals(conv3d(volume, cube, undefined, { padding: "same" }).shape, volume.shape);
});

test("a transposed convolution leads a convolution's result back to its operand's shape", () => {
  const weight = device.zeros([4, 3, 3, 2]);
  const options = { stride: [2, 3], padding: [1, 0] } as const;
  for (const [height, width] of [[7, 8], [8, 9]]) {
    const y = conv2d(device.zeros([1, 3, height, width]), weight, undefined, options);
    const outputPadding = [(height + 1) % 2, (width - 2) % 3] as const;
    const x = convTranspose2d(y, weight, undefined, { ...options, outputPadding });
    assertEquals(x.shape, [1, 3, height, width]);
  }
});

test("what does not fit windows, sizes or paddings is named", () => {
  const x = device.zeros([1, 2, 5, 6]);
  const w = device.zeros([3, 2, 3, 3]);
  const cases: [() => unknown, string][] = [
    [() => maxPool2d(x, 7), "windows of 7"],
    [() => maxPool2d(x, 2, { padding: 2 }), "at most half"],
    [() => maxPool2d(x, [2, 2, 2]), "the window is the array [2, 2, 2]"],
    [() => avgPool2d(x, 2, { dilation: 2 } as object), "the option dilation"],
    [() => avgPool2d(device.zeros([4]), 2), "at least 2 axes"],
    [() => adaptiveAvgPool1d(x, 0), "the size of the result is 0"],
    [() => interpolate(x, {}), "either size or scale"],
    [() => interpolate(x, { size: 3, mode: "linear" }), "1 axes of places"],
    [() => interpolate(x, { scale: [2, -1] }), "[2, -1] are not positive"],
    [() => interpolate(x, { scale: 0.1 }), "a size of the result is 0"],
    [() => interpolate(x, { size: 3, mode: "area" as "nearest" }), '"area"; nearest'],
    [() => conv2d(x, w, undefined, { padding: "same", stride: 2 }), "needs stride 1"],
    [() => conv2d(x, w, undefined, { padding: "full" as "same" }), '"full"'],
    [() => convTranspose2d(x, w), "[in, out / groups, ...]"],
    [
      () => convTranspose2d(x, device.zeros([2, 3, 3, 3]), undefined, { outputPadding: 1 }),
      "output padding [1,1]",
    ],
    [() => convTranspose2d(x, device.zeros([2, 3, 1, 1]), undefined, { padding: 3 }), "leaves"],
  ];
  for (const [call, message] of cases) assertThrows(call, ShapeError, message);
});
