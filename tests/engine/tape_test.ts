/** Backward passes: where gradients go, what they add up to, what is refused. */
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { LifetimeError, ShapeError } from "../../engine/errors.ts";
import { add, mul, sub } from "../../engine/ops/elementwise.ts";
import { exp, square } from "../../engine/ops/unary.ts";
import { layerNorm, residualLayerNorm } from "../../engine/ops/layernorm.ts";
import { split } from "../../engine/ops/assemble.ts";
import { mse } from "../../engine/ops/loss.ts";
import { linear } from "../../engine/ops/matmul.ts";
import { mlp } from "../../engine/ops/mlp.ts";
import { rmsNorm } from "../../engine/ops/rmsnorm.ts";
import { transpose } from "../../engine/ops/view.ts";
import type { Shape } from "../../engine/shape.ts";
import { mean, sum } from "../../engine/ops/reduce.ts";
import { scope } from "../../engine/scope.ts";
import { greater } from "../../engine/ops/compare.ts";
import { indexSelect } from "../../engine/ops/indexing.ts";
import { argsort } from "../../engine/ops/sort.ts";
import { capture } from "../../engine/plan.ts";
import { profile } from "../../engine/profile.ts";
import { backward, checkpoint, detach, noGrad } from "../../engine/tape.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { openDevice } from "../support/device.ts";
import { refRandom } from "../support/random.ts";

const device = await openDevice();

/** Gradients of `leaves` on the host. */
const gradients = async (...leaves: Tensor[]): Promise<number[][]> =>
  (await device.read(leaves.map((leaf) => leaf.grad!))).map((values) => [...values]);

Deno.test("a leaf that is used several times collects every gradient", async () => {
  using x = device.tensor([1, 2, 3]).trainable();
  // d/dx (x^2 + 3x + x x) = 4x + 3
  scope(() => backward(sum(add(add(square(x), mul(x, 3)), mul(x, x)))));
  assertEquals(await gradients(x), [[7, 11, 15]]);
});

Deno.test("a value that is used several times passes the sum of its gradients on", async () => {
  using x = device.tensor([1, 2, 3]).trainable();
  scope(() => {
    const y = mul(x, 2);
    backward(sum(mul(y, sub(y, x))));
  });
  // 2x (2x - x) = 2x^2
  assertEquals(await gradients(x), [[4, 8, 12]]);
});

Deno.test("norms and products add what has arrived of a gradient to their own", async () => {
  const random = (shape: Shape, seed: number) =>
    device.tensor(Float32Array.from(refRandom(shape, seed).data), shape);
  const [gamma, beta, weight, hidden] = [
    ...[random([8], 1), random([8], 2), random([8, 8], 3), random([5, 8], 4)],
  ];
  const ops: Record<string, (x: Tensor) => Tensor> = {
    layerNorm: (x) => layerNorm(x, gamma, beta),
    rmsNorm: (x) => rmsNorm(x, gamma),
    linear: (x) => linear(x, weight),
    mlp: (x) => mlp(x, [{ weight: hidden }, { weight: transpose(hidden) }]),
  };
  const [dy, data] = [random([3, 8], 5), random([3, 8], 6)];
  const dyValues = await dy.data();
  for (const [name, op] of Object.entries(ops)) {
    for (const made of [false, true]) {
      using x = data.view(data.shape).trainable();
      // What was made of the leaf, or the leaf itself.
      const input = () => made ? mul(x, 1) : x;
      const through = async (f: (x: Tensor) => Tensor): Promise<number[]> => {
        x.zeroGrad();
        scope(() => backward(f(input()), dy));
        return (await gradients(x))[0];
      };
      const alone = await through(op);
      const twice = alone.map((value, i) => Math.fround(Math.fround(dyValues[i] + value) + value));
      const both = (x: Tensor) => add(add(op(x), op(x)), x);
      assertEquals(await through(both), twice, name);
      const { variants } = await profile(device, () => through(both));
      // The two of the forward pass.
      const sums = variants.find(({ variant }) => variant.startsWith("a + b "));
      assertEquals(sums?.calls, 2, name);
    }
  }
});

Deno.test("backward passes add up until zeroGrad", async () => {
  using x = device.tensor([1, 2]).trainable();
  const step = () => scope(() => backward(sum(mul(x, 3))));
  step();
  step();
  assertEquals(await gradients(x), [[6, 6]]);
  x.zeroGrad();
  assertEquals(x.grad, undefined);
  step();
  assertEquals(await gradients(x), [[3, 3]]);
});

Deno.test("one leaf as two parameters of an op that writes gradients in place", async () => {
  using x = device.tensor([1, 2, 3, 6], [1, 4]);
  using both = device.tensor([1, 1, 1, 1]).trainable();
  using gamma = device.tensor([1, 1, 1, 1]).trainable();
  using beta = device.tensor([1, 1, 1, 1]).trainable();
  scope(() => backward(sum(layerNorm(x, both, both))));
  scope(() => backward(sum(layerNorm(x, gamma, beta))));
  const [together, first, second] = await gradients(both, gamma, beta);
  assertEquals(together, first.map((value, i) => Math.fround(value + second[i])));
});

Deno.test("gradients that lie in a slot are handed on by value", async () => {
  using w = device.tensor([1, 2, 3, 6, -1, 0, 2, 5], [2, 4]).trainable();
  using gamma = device.tensor([1, 2, 0.5, 1]).trainable();
  using beta = device.zeros([4]).trainable();
  using c = device.tensor([3, 1, -2, 1, 0, 2, 1, 1], [2, 4]);
  const losses: (() => Tensor)[] = [
    // One leaf on both sides, and a leaf beside what was made of it and of more.
    () => sum(mul(residualLayerNorm(w, w, gamma, beta).y, c)),
    () => {
      const other = add(mul(w, c), exp(mul(w, 0.25)));
      return sum(mul(residualLayerNorm(w, other, gamma, beta).y, c));
    },
  ];
  const apart: (() => Tensor)[] = [
    () => sum(mul(layerNorm(mul(w, 2), gamma, beta), c)),
    () => sum(mul(layerNorm(add(w, add(mul(w, c), exp(mul(w, 0.25)))), gamma, beta), c)),
  ];
  for (const i of [0, 1]) {
    const found: number[][] = [];
    for (const loss of [losses[i], apart[i]]) {
      scope(() => backward(loss()));
      found.push((await gradients(w, gamma, beta)).flat());
      [w, gamma, beta].forEach((leaf) => leaf.zeroGrad());
    }
    // Two orders of summation, of values below 20.
    found[0].forEach((value, k) => assertAlmostEquals(value, found[1][k], 2e-5));
  }
});

Deno.test("an output that does not reach the loss adds zeros", async () => {
  using x = device.tensor([1, 2, 3, 4]).trainable();
  const parts = (pick: (parts: Tensor[]) => Tensor) => async () => {
    scope(() => backward(sum(mul(pick(split(x, 0, 2)), 2))));
    const [found] = await gradients(x);
    x.zeroGrad();
    return found;
  };
  assertEquals(await parts(([first]) => first)(), [2, 2, 0, 0]);
  assertEquals(await parts(([, second]) => second)(), [0, 0, 2, 2]);
});

Deno.test("noGrad records nothing", () => {
  using x = device.tensor([1, 2]).trainable();
  scope(() => {
    const y = noGrad(() => mul(x, 2));
    assertEquals(y.node, undefined);
    assert(mul(x, 2).node !== undefined, "recording resumes behind noGrad");
    assertThrows(() =>
      noGrad(() => {
        throw new Error("stop");
      })
    );
    assert(mul(x, 2).node !== undefined, "recording resumes behind an error in noGrad");
  });
});

Deno.test("constants get no gradient", async () => {
  using x = device.tensor([1, 2]).trainable();
  using c = device.tensor([5, 7]);
  scope(() => backward(sum(mul(x, c))));
  assertEquals(c.grad, undefined);
  assertEquals(await gradients(x), [[5, 7]]);
});

Deno.test("a scope frees everything, on success and on failure", async () => {
  const before = device.memory.liveBuffers;
  const run = (fail: boolean) =>
    scope(() => {
      const x = device.tensor([1, 2, 3, 4], [1, 4]).trainable();
      const gamma = device.tensor([1, 1, 1, 1]).trainable();
      const loss = mean(exp(layerNorm(x, gamma, mul(gamma, 2))));
      if (fail) throw new Error("stop");
      backward(loss);
    });
  run(false);
  assertEquals(device.memory.liveBuffers, before);
  assertThrows(() => run(true), Error, "stop");
  assertEquals(device.memory.liveBuffers, before);
  // A graph that no backward pass consumed.
  scope(() => void square(device.tensor([1, 2]).trainable()));
  assertEquals(device.memory.liveBuffers, before);
  await device.sync();
});

Deno.test("a scope's result outlives it, its gradients do not leak", async () => {
  const before = device.memory.liveBuffers;
  const loss = scope(() => {
    const x = device.tensor([1, 2]).trainable();
    const y = sum(square(x));
    backward(y);
    return y;
  });
  assertEquals(device.memory.liveBuffers, before + 1);
  assertEquals(await loss.item(), 5);
  loss.dispose();
  assertEquals(device.memory.liveBuffers, before);
});

Deno.test("a steady loop creates no buffers", () => {
  using x = device.tensor(new Float32Array(64), [8, 8]).trainable();
  using target = device.tensor(new Float32Array(64).fill(1), [8, 8]);
  const step = () => {
    scope(() => backward(mse(x, target)));
    x.zeroGrad();
  };
  step();
  step();
  const { buffersCreated } = device.memory;
  for (let i = 0; i < 5; i++) step();
  assertEquals(device.memory.buffersCreated, buffersCreated);
});

Deno.test("use after dispose names the op", () => {
  const x = device.tensor([1, 2]);
  x.dispose();
  x.dispose();
  const error = assertThrows(() => exp(x), LifetimeError);
  assertStringIncludes(error.message, "exp");
  assertStringIncludes(error.message, "disposed");
});

Deno.test("tensors of two devices do not mix", async () => {
  using other = await openDevice();
  using a = device.tensor([1]);
  const b = other.tensor([1]);
  const error = assertThrows(() => add(a, b), LifetimeError);
  assertStringIncludes(error.message, "add");
});

Deno.test("gradients are written into given slots", async () => {
  // One arena for the gradients of several leaves, the second at an offset that kernels cannot
  // bind.
  using arena = device.zeros([256]);
  using slot0 = arena.view([4], [1], 0);
  using slot1 = arena.view([4], [1], 67);
  using gamma = device.tensor([1, 2, 3, 4]).trainable(slot0);
  using beta = device.tensor([0, 0, 0, 0]).trainable(slot1);
  using x = device.tensor([1, 2, 3, 6, 1, 1, 0, 0], [2, 4]);
  const step = () => scope(() => backward(sum(layerNorm(x, gamma, beta))));
  step();
  const once = [...await arena.data() as Float32Array];
  assertEquals(gamma.grad, slot0);
  assertEquals(beta.grad, slot1);
  assertEquals(once.slice(67, 71), [2, 2, 2, 2]);
  assert(once.slice(0, 4).some((v) => v !== 0));
  assert(once.every((v, i) => i < 4 || i >= 67 && i < 71 || v === 0), "only the slots are written");
  step();
  assertEquals([...await arena.data()], once.map((v) => 2 * v));
});

Deno.test("backward without a scalar, without a graph or twice says so", () => {
  scope(() => {
    const x = device.tensor([1, 2]).trainable();
    const y = mul(x, 2);
    assertStringIncludes(assertThrows(() => backward(y), ShapeError).message, "[2]");
    const loss = sum(y);
    backward(loss);
    const twice = assertThrows(() => backward(loss), ShapeError);
    assertStringIncludes(twice.message, "freed");
    assertThrows(() => backward(sum(device.tensor([1]))), ShapeError, "no trainable tensor");
  });
});

Deno.test("a second loss over a graph that was freed says so", () => {
  scope(() => {
    const x = device.tensor([1, 2]).trainable();
    const shared = square(exp(x));
    const [one, two] = [sum(shared), mean(shared)];
    backward(one);
    assertThrows(() => backward(two), LifetimeError, "freed");
  });
});

Deno.test("checkpoint of several inputs, integers among them, gives the plain bits", async () => {
  const f = (a: Tensor, b: Tensor, ids: Tensor, c: Tensor) =>
    mul(mul(exp(a), b), add(indexSelect(c, ids), a));
  const found: Float32Array[][] = [];
  for (const g of [f, checkpoint(f)]) {
    using a = device.tensor([[0.5, -1], [2, 0.25]]).trainable();
    using b = device.tensor([[3, 1], [-1, 2]]).trainable();
    using ids = device.tensor(Uint32Array.of(1, 0));
    scope(() => backward(sum(mul(g(a, b, ids, b), a))));
    found.push([await a.grad!.data() as Float32Array, await b.grad!.data() as Float32Array]);
  }
  assertEquals(found[1], found[0]);
});

Deno.test("checkpoint of what no gradient passes, and of its own input", async () => {
  using x = device.tensor([0.5, -1]).trainable();
  const [positive, itself] = [checkpoint((x) => greater(x, 0)), checkpoint((x: Tensor) => x)];
  scope(() => backward(sum(mul(add(positive(x), itself(mul(x, 3))), itself(x)))));
  // x [x > 0] + 3 x^2
  assertEquals([...await x.grad!.data()], [4, -6]);
  using order = scope(() => checkpoint((x: Tensor) => argsort(x))(x));
  assertEquals([order.dtype, ...await order.data()], ["u32", 1, 0]);
  assertEquals(x.node, undefined);
});

Deno.test("backward of a leaf adds the seed to its gradient, as in PyTorch", async () => {
  using x = device.tensor([0.5, -1]).trainable();
  using seed = device.tensor([2, 3]);
  backward(x, seed);
  scope(() => backward(sum(square(x))));
  backward(x, seed);
  assertEquals([...await x.grad!.data()], [5, 4]);
  using one = device.tensor([7]).trainable();
  backward(one);
  assertEquals([...await one.grad!.data()], [1]);
  using plan = capture(device, [], () => backward(x, seed));
  plan.replay([]);
  assertEquals([...await x.grad!.data()], [7, 7]);
});

Deno.test("detach: the value without the gradient", async () => {
  using w = device.tensor([2, -3]).trainable();
  scope(() => backward(sum(mul(detach(mul(w, w)), w))));
  assertEquals([...await w.grad!.data()], [4, 9]);
});
