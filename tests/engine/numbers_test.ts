/** Numbers beside tensors: parameters of one kernel, without memory until something needs it. */
import { assertEquals, assertThrows } from "@std/assert";
import {
  add,
  backward,
  capture,
  div,
  equal,
  greater,
  matmul,
  mul,
  pow,
  scope,
  ShapeError,
  sub,
  sum,
  type Tensor,
} from "../../engine/mod.ts";
import { openDevice } from "../support/device.ts";

const device = await openDevice();
const data = [1, -2.5, 3, 0.25, 7, -8, 9];

Deno.test("a tensor and a number: one dispatch, one buffer, one kernel for all numbers", async () => {
  using x = device.tensor(data);
  using first = mul(x, 2);
  assertEquals([...await first.data()], data.map((v) => 2 * v));
  const { pipelinesCreated, counters: { dispatches }, memory: { liveBuffers } } = device;
  using tripled = mul(x, 3);
  using turned = mul(-1, x);
  assertEquals(device.counters.dispatches - dispatches, 2);
  assertEquals(device.memory.liveBuffers - liveBuffers, 2);
  assertEquals([...await tripled.data()], data.map((v) => 3 * v));
  assertEquals([...await turned.data()], data.map((v) => -v));
  using again = mul(5, x);
  assertEquals([...await again.data()], data.map((v) => 5 * v));
  // The number on the left is another kernel.
  assertEquals(device.pipelinesCreated - pipelinesCreated, 1);
});

Deno.test("gradients go through numbers on either side", async () => {
  for (
    const [f, df] of [
      [(x) => sub(1.5, x), () => -1],
      [(x) => div(x, 4), () => 0.25],
      [(x) => div(3, x), (v) => -3 / v ** 2],
      [(x) => mul(mul(0.5, x), x), (v) => v],
      [(x) => pow(2, x), (v) => Math.LN2 * 2 ** v],
    ] as [(x: Tensor) => Tensor, (v: number) => number][]
  ) {
    using x = device.tensor(data).trainable();
    scope(() => backward(sum(f(x))));
    (await x.grad!.data()).forEach((found, i) => {
      const wanted = df(data[i]);
      // Some f32 roundings; pow is right to 8 ulp.
      assertEquals(
        Math.abs(found - wanted) <= 2e-6 * Math.abs(wanted),
        true,
        `${found}, ${wanted}`,
      );
    });
  }
});

Deno.test("numbers are rounded to the type of the tensor, and integers are whole", async () => {
  using x = device.tensor(Float16Array.from(data));
  using sums = add(x, 0.1);
  assertEquals([...await sums.data()], data.map((v) => Math.f16round(v + Math.f16round(0.1))));
  using ids = device.tensor(new Uint32Array([0, 16777217, 4294967295]));
  using same = equal(ids, 16777217);
  using above = greater(ids, 4294967294);
  assertEquals([...await same.data()], [0, 1, 0]);
  assertEquals([...await above.data()], [0, 0, 1]);
  assertThrows(() => add("1" as unknown as number, x), ShapeError);
});

Deno.test("what reads memory finds the number there, eagerly and in a plan", async () => {
  const f = (x: Tensor) => {
    const two = device.constant(2, "f32");
    // A product binds memory; the sum before and after takes a parameter or the memory.
    return add(matmul(add(x, two), two.view([1, 1])), two);
  };
  using x = device.tensor(data, [7, 1]);
  using eager = scope(() => f(x));
  using plan = capture(device, [x], f);
  const wanted = data.map((v) => 2 * (v + 2) + 2);
  assertEquals([...await eager.data()], wanted);
  assertEquals([...await plan.replay([x]).data()], wanted);
  const { liveBuffers } = device.memory;
  scope(() => void f(x));
  assertEquals(device.memory.liveBuffers, liveBuffers);
});
