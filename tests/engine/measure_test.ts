/** Memory that is known before it is taken, and kernels that are counted as they run first. */
import { assert, assertEquals } from "@std/assert";
import { openDevice } from "../../engine/device.ts";
import { add, mul } from "../../engine/ops/elementwise.ts";
import { matmul } from "../../engine/ops/matmul.ts";
import { sum } from "../../engine/ops/reduce.ts";
import { addScaled, sgdStep } from "../../engine/launch/in_place.ts";
import { capture, measure } from "../../engine/plan.ts";
import { scope } from "../../engine/scope.ts";
import { backward } from "../../engine/tape.ts";
import type { Tensor } from "../../engine/tensor.ts";

const device = await openDevice();

function build(): { weight: Tensor; x: Tensor } & Disposable {
  const weight = device.zeros([300, 200]);
  device.write(weight, new Float32Array(60_000).fill(0.5));
  weight.trainable(device.zeros([300, 200]));
  const x = device.empty([100, 300]);
  return {
    weight,
    x,
    [Symbol.dispose]() {
      weight.dispose();
      x.dispose();
    },
  };
}

function body(weight: Tensor, x: Tensor): Tensor {
  weight.zeroGrad();
  const loss = sum(mul(matmul(x, weight), add(matmul(x, weight), 1)));
  backward(loss);
  sgdStep([weight], 1e-3);
  return loss;
}

Deno.test("what is measured is what capture takes, and measuring takes nothing", async () => {
  const { liveBytes, buffersCreated } = device.memory;
  const measured = measure(device, build, ({ weight, x }) => body(weight, x));
  assertEquals([device.memory.liveBytes, device.memory.buffersCreated], [
    liveBytes,
    buffersCreated,
  ]);
  using state = build();
  assertEquals(device.memory.liveBytes - liveBytes, measured.state);
  using x = device.full([100, 300], 0.25);
  using plan = capture(device, [x], (input) => body(state.weight, input));
  assertEquals(measured.arena, plan.memory.arena);
  assertEquals(measured.largest, Math.max(measured.arena, 300 * 200 * 4));
  assertEquals(measured.outputs, 256);
  assert(Number.isFinite(await plan.replay([x]).item()));
});

Deno.test("watched work is asked about between dispatches and has the same bits", async () => {
  using own = await openDevice();
  using x = own.full([7], 0.5);
  const chain = (x: Tensor) => {
    let y = x;
    for (let i = 0; i < 40; i++) y = sum(add(y, i), { axes: [0], keepDims: true });
    return y;
  };
  using eager = scope(() => chain(x));
  using plan = capture(own, [x], chain);
  const wanted = await own.read([eager, plan.replay([x])]);
  let asked = 0;
  own.watchWork(() => void asked++, 0);
  using again = scope(() => chain(x));
  assert(asked > 60, `asked ${asked} times`);
  asked = 0;
  assertEquals(await own.read([again, plan.replay([x])]), wanted);
  assert(asked > 30, `asked ${asked} times in a replay`);
});

Deno.test("what is done whole is not ended within, eager and replayed", async () => {
  using own = await openDevice();
  using x = own.full([1], 1);
  using a = own.zeros([1]);
  using b = own.zeros([1]);
  const update = () => {
    for (let i = 0; i < 20; i++) addScaled(a, x, 1);
    own.uninterrupted(() => {
      for (let i = 0; i < 20; i++) addScaled(b, x, 1);
    });
  };
  using plan = capture(own, [], update);
  for (const run of [update, () => plan.replay([])]) {
    let [left, b0] = [0, (await b.data())[0]];
    own.watchWork(() => {
      if (left-- === 0) throw new Error("enough");
    }, 0);
    let ended = 0;
    for (let after = 0; after < 24; after += 3) {
      left = after;
      try {
        run();
        b0 += 20;
      } catch (error) {
        assertEquals((error as Error).message, "enough");
        ended++;
      }
      assertEquals((await b.data())[0], b0, `after ${after} questions`);
    }
    own.watchWork(undefined);
    assert(ended >= 4, `${ended} of 8 runs were ended`);
  }
});

Deno.test("kernels are counted at their first dispatch, and the bits stay", async () => {
  using x = device.full([100, 300], 0.25);
  const results: Float32Array[] = [];
  for (const counted of [true, false]) {
    using state = build();
    using plan = capture(device, [x], (input) => body(state.weight, input));
    const counts: string[] = [];
    const before = device.counters.dispatches;
    device.watchKernels((done, total) => void counts.push(`${done}/${total}`));
    if (!counted) device.watchKernels(undefined);
    plan.replay([x]);
    assertEquals(device.counters.dispatches - before, plan.dispatches);
    if (counted) {
      const total = counts.length;
      assert(total > 2 && total < plan.dispatches, `${total} of ${plan.dispatches}`);
      assertEquals(counts, Array.from({ length: total }, (_, i) => `${i + 1}/${total}`));
    }
    plan.replay([x]);
    results.push(await state.weight.data());
  }
  assertEquals(results[0], results[1]);
});
