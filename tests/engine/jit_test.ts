/** Captured functions that keep a plan for each set of shapes. */
import { assertEquals, assertThrows } from "@std/assert";
import {
  add,
  backward,
  capture,
  type DType,
  jit,
  LifetimeError,
  mean,
  mul,
  scope,
  sgdStep,
  ShapeError,
  sub,
  sum,
  type Tensor,
} from "../../engine/mod.ts";
import { openDevice } from "../support/device.ts";

const device = await openDevice();
const valuesOf = async (tensor: Tensor) => [...(await device.read([tensor]))[0]];

Deno.test("one plan for each shape and element type; results are the caller's own", async () => {
  let traced = 0;
  using double = jit(device, (x: Tensor) => {
    traced++;
    return { doubled: add(x, x), total: [sum(x)], input: x };
  });
  using a = device.tensor([1, 2, 3]);
  using b = device.tensor([4, 5, 6]);
  const [first, second] = [double(a), double(b)];
  assertEquals(await valuesOf(first.doubled), [2, 4, 6]);
  assertEquals(await valuesOf(second.doubled), [8, 10, 12]);
  assertEquals([await first.total[0].item(), await second.total[0].item()], [6, 15]);
  assertEquals(await valuesOf(first.input), [1, 2, 3]);
  assertEquals([traced, double.plans], [1, 1]);
  for (const [dtype, shape] of [["f32", [2, 2]], ["f16", [3]], ["f32", [2, 2]]] as const) {
    using x = device.full(shape, 0.5, dtype as DType);
    assertEquals(await valuesOf(double(x).doubled), new Array(x.size).fill(1));
  }
  assertEquals([traced, double.plans], [3, 3]);
  const { liveBuffers } = device.memory;
  scope(() => void double(a));
  assertEquals(device.memory.liveBuffers, liveBuffers);
});

Deno.test("beyond the limit shapes run op by op, and that is said once", async () => {
  const { warn } = console;
  const warnings: string[] = [];
  console.warn = (text: string) => void warnings.push(text);
  try {
    using square = jit(device, (x: Tensor) => mul(x, x), { limit: 2 });
    for (const n of [1, 2, 3, 4, 3, 1]) {
      using x = device.full([n], 3);
      using y = square(x);
      assertEquals(await valuesOf(y), new Array(n).fill(9));
    }
    assertEquals(square.plans, 2);
  } finally {
    console.warn = warn;
  }
  assertEquals(warnings, [
    "jit: 2 plans are kept, and for [3] of f32 there is none: it runs op by op. Pass a larger " +
    "limit, or pad inputs to a few shapes",
  ]);
});

Deno.test("a training step for batches of any size", async () => {
  using weight = device.tensor([0.5, -1]).trainable();
  using step = jit(device, (x: Tensor, y: Tensor) => {
    weight.zeroGrad();
    const off = sub(sum(mul(x, weight), { axes: [1] }), y);
    const loss = mean(mul(off, off));
    backward(loss);
    sgdStep([weight], 0.1);
    return { loss, weight };
  });
  const w = [0.5, -1];
  for (const n of [2, 3, 2]) {
    const rows = Array.from({ length: n }, (_, i) => [Math.sin(i + n), Math.cos(2 * i)]);
    const targets = rows.map(([a, b]) => a - b);
    using x = device.tensor(rows);
    using y = device.tensor(targets);
    const { loss, weight: same } = step(x, y);
    assertEquals(same, weight);
    const off = rows.map(([a, b], i) => a * w[0] + b * w[1] - targets[i]);
    // Sums of a few products of values up to 2, in f32.
    const near = (found: number, wanted: number) =>
      assertEquals(Math.abs(found - wanted) < 2e-6, true, `${found}, ${wanted}`);
    near(await loss.item(), off.reduce((s, v) => s + v * v, 0) / n);
    [0, 1].forEach((k) => w[k] -= 0.2 * off.reduce((s, v, i) => s + v * rows[i][k], 0) / n);
    (await weight.data()).forEach((value, k) => near(value, w[k]));
    loss.dispose();
  }
  assertEquals(step.plans, 2);
});

Deno.test("inside a capture it is part of that; refusals", async () => {
  using x = device.tensor([1, 2]);
  const twice = jit(device, (x: Tensor) => add(x, x));
  using plan = capture(device, [x], (x) => mul(twice(x), 3));
  assertEquals([...await plan.replay([x]).data()], [6, 12]);
  assertEquals(twice.plans, 0);
  assertThrows(() => twice([1] as unknown as Tensor), ShapeError, "jit: input 0");
  assertThrows(() => jit(device, (x: Tensor) => x, { limit: 0 }), ShapeError, "limit");
  twice[Symbol.dispose]();
  assertThrows(() => twice(x), LifetimeError, "after it was disposed");
});
