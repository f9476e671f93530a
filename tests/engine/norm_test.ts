/** Layer norm of a sum with its residual, and what norms refuse. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../engine/errors.ts";
import { reduceInto, sum } from "../../engine/ops/reduce.ts";
import { layerNorm, residualLayerNorm } from "../../engine/ops/layernorm.ts";
import { softmax } from "../../engine/ops/softmax.ts";
import { scope } from "../../engine/scope.ts";
import { backward } from "../../engine/tape.ts";
import { add, mul } from "../../engine/ops/elementwise.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { openDevice } from "../support/device.ts";
import { refRandom } from "../support/random.ts";

const device = await openDevice();

const random = (shape: readonly number[], seed: number): Tensor =>
  device.tensor(Float32Array.from(refRandom(shape, seed).data), shape);

Deno.test("residualLayerNorm gives what add and layerNorm give, gradients through both results included", async () => {
  // More rows than blocks, and a last block that is not full.
  const [rows, width] = [301, 64];
  const [weightY, weightSum] = [random([rows, width], 5), random([rows, width], 6)];
  const run = (fused: boolean) =>
    scope(() => {
      const inputs = [
        random([rows, width], 1),
        random([rows, width], 2),
        random([width], 3),
        random([width], 4),
      ].map((t) => t.trainable());
      const [x, residual, gamma, beta] = inputs;
      const total = fused ? undefined : add(x, residual);
      const { y, sum: s } = total
        ? { y: layerNorm(total, gamma, beta), sum: total }
        : residualLayerNorm(x, residual, gamma, beta);
      backward(add(sum(mul(y, weightY)), sum(mul(s, weightSum))));
      return [y, s, ...inputs.map(({ grad }) => grad!)].map((t) => t.view(t.shape));
    });
  const [fused, plain] = [run(true), run(false)];
  const values = (await device.read([...fused, ...plain])).map((v) => Float32Array.from(v));
  for (let i = 0; i < fused.length; i++) {
    const [a, b] = [values[i], values[fused.length + i]];
    const scale = b.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    // The same sums in the same order, but for the place where the two gradients of x meet.
    a.forEach((v, k) => assert(Math.abs(v - b[k]) <= 1e-6 * scale, `result ${i}: ${v}, ${b[k]}`));
  }
  [...fused, ...plain, weightY, weightSum].forEach((t) => t.dispose());
});

Deno.test("residualLayerNorm with one result used", async () => {
  const gradients = (use: "y" | "sum") =>
    scope(() => {
      const [x, residual] = [random([3, 8], 1).trainable(), random([3, 8], 2)];
      const [gamma, beta] = [random([8], 3).trainable(), random([8], 4)];
      backward(sum(residualLayerNorm(x, residual, gamma, beta)[use]));
      return [x, gamma].map(({ grad }) => grad?.view(grad.shape));
    });
  const [dx, dgamma] = gradients("sum");
  assertEquals([...await dx!.data()], Array(24).fill(1));
  assertEquals(dgamma, undefined);
  const viaRows = gradients("y");
  const rows = await viaRows[0]!.data();
  for (let r = 0; r < 3; r++) {
    // A shift of a row changes nothing.
    assert(Math.abs(rows.subarray(8 * r, 8 * r + 8).reduce((a, b) => a + b)) < 1e-5);
  }
  [dx, ...viaRows].forEach((t) => t?.dispose());
});

Deno.test("residualLayerNorm refuses shapes that do not fit", () => {
  using x = random([3, 8], 1);
  using other = random([3, 4], 2);
  using gamma = random([8], 3);
  assertThrows(() => residualLayerNorm(x, other, gamma, gamma), ShapeError, "[3, 4]");
  using short = random([4], 4);
  assertThrows(() => residualLayerNorm(x, x, short, gamma), ShapeError, "gamma is [4]");
});

Deno.test({
  name: "results are rounded to the nearest f16, ties to even, and infinite beyond its range",
  ignore: !device.features.f16,
  async fn() {
    // Rows of one column of a sum: each value comes out as f16 of itself.
    const values = Float32Array.of(
      1 + 2 ** -11,
      1 + 3 * 2 ** -11,
      -(1 + 2 ** -11 + 2 ** -20),
      65519,
      65520,
      -1e9,
      2 ** -14 - 2 ** -26,
      2 ** -24,
      2 ** -25,
      3 * 2 ** -25,
      -5.3e-7,
      0,
    );
    using ones = device.tensor(Float32Array.from({ length: 24 }, (_, i) => values[i % 12]), [
      2,
      12,
    ]);
    using half = device.empty([12], "f16");
    reduceInto(half, ones, { outer: 1, reduce: 2, inner: 12 }, "max");
    const [result] = await device.read([half]);
    assertEquals([...result], [...Float16Array.from(values)]);
  },
});

Deno.test({
  name: "f16 softmax keeps infinite logits and NaN where f32 does",
  ignore: !device.features.f16,
  async fn() {
    const rows = [[0, -Infinity, 1, -Infinity], [NaN, 0, 0, 0]].flat();
    using x = device.tensor(Float16Array.from(rows), [2, 4]);
    using y = softmax(x);
    const p = await y.data();
    const share = 1 / (1 + Math.E);
    [share, 0, 1 - share, 0].forEach((v, i) => assert(Math.abs(p[i] - v) < 5e-4, `${p}`));
    assert(p.subarray(4).every(Number.isNaN), `${p}`);
  },
});
