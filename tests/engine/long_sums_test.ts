/**
 * Ops whose sums are longer than the loops of one launch (kernels/README.md, Sums of products), on
 * values whose sums are whole numbers below 2^24: every order of additions gives them exactly.
 */
import { assert, assertEquals } from "@std/assert";
import {
  attention,
  backward,
  capture,
  conv1d,
  conv2d,
  type Device,
  linear,
  matmul,
  openDevice,
  sum,
  type Tensor,
} from "../../engine/mod.ts";
import { fullOnly, test } from "../support/tier.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

test("a captured product over 300,000 places gives the eager bits and the exact sum", async () => {
  const k = 300000;
  const a = device.full([1, k], 1);
  const b = device.full([k, 1], 1);
  const eager = await matmul(a, b).data();
  using plan = capture(device, [a], (a) => matmul(a, b));
  const replayed = await plan.replay([a]).data();
  assertEquals([eager[0], replayed[0]], [k, k]);
});

fullOnly("operands of almost as many rows as a texture may have", async () => {
  // Textures have a few rows more than what is copied into them.
  const rows = device.gpu.limits.maxTextureDimension2D - 2;
  const product = matmul(device.full([rows, 64], 1), device.full([64, 64], 2));
  assert((await product.data()).every((x) => x === 128));
  const tokens = 90;
  const batch = Math.floor(rows / tokens);
  const q = device.zeros([batch, 1, tokens, 64]);
  // Equal scores: the mean of 90 equal values, whose weights are off by a few units of 2^-24.
  const values = await attention(q, q, device.full(q.shape, 1)).data();
  assert(values.every((x) => Math.abs(x - 1) < 1e-5));
});

/** Holds the gradient of the sum of an op's result with respect to its weight. */
async function assertGradient(
  shape: readonly number[],
  expected: number,
  run: (device: Device, weight: Tensor) => Tensor,
): Promise<void> {
  const weight = device.zeros(shape).trainable();
  backward(sum(run(device, weight)));
  const values = await weight.grad!.data();
  assert(values.every((x) => x === expected), `${values[0]}, not ${expected}`);
}

fullOnly(
  "the gradient of linear's weight over 270,000 rows",
  () =>
    assertGradient([8, 8], 270000, (device, weight) => linear(device.full([270000, 8], 1), weight)),
);

fullOnly("the gradient of conv1d's weight over 768,000 places", () =>
  assertGradient(
    [8, 1, 10],
    768000,
    (device, weight) => conv1d(device.full([8, 1, 96009], 1), weight),
  ));

fullOnly("the gradient of conv2d's weight over 74 images of 64 x 64", () =>
  assertGradient(
    [4, 2, 1, 1],
    74 * 64 * 64,
    (device, weight) => conv2d(device.full([74, 2, 64, 64], 1), weight),
  ));
