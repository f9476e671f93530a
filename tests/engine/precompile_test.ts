/** Kernels that are compiled ahead: those that are needed, without work, memory or changed bits. */
import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import {
  backward,
  defineKernel,
  type Device,
  KernelError,
  linear,
  mse,
  openDevice,
  precompile,
  relu,
  scope,
} from "../../engine/mod.ts";

const device = await openDevice();

/** A small step: a layer and its gradients. */
function step(device: Device) {
  const x = device.tensor([1, 2, 3, 4, 5, 6], [3, 2]);
  const weight = device.tensor([1, -1, 0.5, 2], [2, 2]).trainable();
  const loss = mse(relu(linear(x, weight, device.zeros([2]))), device.zeros([3, 2]));
  backward(loss);
  return weight.grad ? [loss, weight.grad.view([2, 2])] : [loss];
}

Deno.test("a function runs with the kernels that were compiled ahead", async () => {
  const { liveBytes, buffersCreated } = device.memory;
  const { dispatches } = device.counters;
  const told: string[] = [];
  await precompile(device, () => step(device), {
    onProgress: (done, total) => told.push(`${done} of ${total}`),
  });
  const { pipelinesCreated } = device;
  assert(pipelinesCreated > 3);
  assertEquals(told, Array.from(told, (_, i) => `${i + 1} of ${pipelinesCreated}`));
  assertEquals(device.memory.liveBytes, liveBytes);
  assertEquals(device.memory.buffersCreated, buffersCreated);
  assertEquals(device.counters.dispatches, dispatches);
  const [loss, gradient] = await device.read(scope(() => step(device)));
  assertEquals(device.pipelinesCreated, pipelinesCreated);
  // Outputs [0, 4.5], [0, 9.5], [0, 14.5], by hand; y = x w^T, the gradient 2 y x / 6.
  assertAlmostEquals(loss[0], (4.5 ** 2 + 9.5 ** 2 + 14.5 ** 2) / 6, 1e-5);
  const slope = (k: number) => [4.5, 9.5, 14.5].reduce((s, y, i) => s + y * (2 * i + k), 0) / 3;
  [0, 0, slope(1), slope(2)].forEach((it, i) => assertAlmostEquals(gradient[i], it, 1e-4));
  await precompile(device, () => step(device), { onProgress: () => assert(false) });
});

Deno.test("a function that reads is refused, and what does not compile is told by a read", async () => {
  await assertRejects(
    () => precompile(device, () => device.zeros([1]).data()),
    KernelError,
    "reads or waits",
  );
  using other = await openDevice();
  const broken = defineKernel(
    "broken",
    `struct Params { count: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn main() { y[0] = nonsense; }`,
  );
  const run = () => other.run(broken, {}, [other.zeros([1])], { count: 1 }, 1);
  await precompile(other, run);
  using x = other.zeros([1]);
  await assertRejects(() => x.data(), KernelError, "kernel broken does not compile");
});
