/** Tensors of f16: what moves them, what refuses them, and that gradients pass casts. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  add,
  backward,
  capture,
  cast,
  concat,
  linear,
  mul,
  scope,
  ShapeError,
  sum,
} from "../../engine/mod.ts";
import { refRandom } from "../support/random.ts";
import { openDevice } from "../support/device.ts";

const device = await openDevice();
const ignore = !device.features.f16;

/** Values that f16 holds exactly. */
const values = (count: number, seed: number): Float16Array =>
  Float16Array.from(refRandom([count], seed).data);

Deno.test({
  name: "f16 values of odd counts and at odd places come back as they were written",
  ignore,
  fn: async () => {
    using whole = device.tensor(values(15, 1), [3, 5]);
    using row = whole.view([5], [1], 5);
    using other = device.tensor(values(5, 2));
    const host = await device.read([whole, row, other]);
    assertEquals(host[0], values(15, 1));
    assertEquals(host[1], values(15, 1).slice(5, 10));
    // Elements 5 to 9 start and end in the middle of a word; their neighbours must stay.
    device.write(row, values(5, 3));
    const expected = values(15, 1);
    expected.set(values(5, 3), 5);
    assertEquals((await device.read([whole]))[0], expected);
    device.copy(other, row);
    expected.set(values(5, 2), 5);
    assertEquals((await device.read([whole]))[0], expected);
    assertEquals(await whole.data(), Float32Array.from(expected));
  },
});

Deno.test({
  name: "f16 takes half the memory of f32",
  ignore,
  fn: () => {
    const before = device.memory.liveBytes;
    using _half = device.zeros([64, 256], "f16");
    assertEquals(device.memory.liveBytes - before, 64 * 256 * 2);
  },
});

Deno.test("an adapter without shader-f16 refuses f16 and says so", async () => {
  using plain = await openDevice({ f16: false });
  assert(!plain.features.f16);
  assertThrows(() => plain.empty([2, 3], "f16"), ShapeError, "no 16-bit floats");
  using x = plain.tensor([1, 2, 3]);
  assertThrows(() => cast(x, "f16"), ShapeError, "no 16-bit floats");
  assertThrows(() => plain.tensor(values(3, 1)), ShapeError, "no 16-bit floats");
});

Deno.test({
  name: "f16 beside f32 is refused with both operands named where types do not meet",
  ignore,
  fn: () => {
    using half = device.zeros([2, 3], "f16");
    using full = device.zeros([2, 3]);
    assertThrows(
      () => concat([half, full], 0),
      ShapeError,
      "[2, 3] of f16, [2, 3] of f32",
    );
    assertThrows(() => device.copy(half, full), ShapeError, "f16");
    assertThrows(() => device.write(half, new Float32Array(6)), ShapeError, "f32 values");
  },
});

Deno.test({
  name: "gradients of f32 leaves pass through an f16 product",
  ignore,
  fn: async () => {
    const [x, w] = [refRandom([6, 8], 1), refRandom([4, 8], 2)];
    using weight = device.tensor(Float32Array.from(w.data), w.shape).trainable();
    using input = device.tensor(Float32Array.from(x.data), x.shape);
    scope(() => backward(sum(cast(linear(cast(input, "f16"), cast(weight, "f16")), "f32"))));
    const grad = weight.grad!;
    assertEquals(grad.dtype, "f32");
    const actual = await grad.data();
    // d sum(x w^T) / d w[n, k] = sum over rows of x, whose elements and whose sum are rounded to
    // f16.
    for (let k = 0; k < 8; k++) {
      let [expected, size] = [0, 0];
      for (let m = 0; m < 6; m++) {
        expected += Math.f16round(x.data[m * 8 + k]);
        size += Math.abs(x.data[m * 8 + k]);
      }
      for (let n = 0; n < 4; n++) {
        assert(Math.abs(actual[n * 8 + k] - expected) <= 2 ** -11 * size);
      }
    }
  },
});

Deno.test({
  name: "a captured function of f16 tensors gives the bits of eager ones",
  ignore,
  fn: async () => {
    using a = device.tensor(values(7, 4));
    using b = device.tensor(values(7, 5));
    using plan = capture(device, [a, b], (x, y) => add(mul(x, y), x));
    using eager = scope(() => add(mul(a, b), a));
    using replayed = plan.replay([a, values(7, 5)]);
    const [first, second] = await device.read([eager, replayed]);
    assertEquals(second, first);
  },
});
