/** Elementwise launches of a plan that are joined: fewer dispatches, no memory, the eager bits. */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  add,
  backward,
  capture,
  cast,
  type Device,
  div,
  type DType,
  exp,
  flip,
  gelu,
  greater,
  idiv,
  matmul,
  mod,
  mul,
  permute,
  relu,
  reshape,
  scope,
  sigmoid,
  sin,
  slice,
  sqrt,
  sub,
  sum,
  tanh,
  type Tensor,
  transpose,
  where,
} from "../../engine/mod.ts";
import { full, test } from "../support/tier.ts";
import { sizeOf } from "../../engine/shape.ts";
import { openDevice } from "../support/device.ts";

const device = await openDevice();

const values = (n: number, seed: number) =>
  Float32Array.from({ length: n }, (_, i) => Math.sin(i * 1.3 + seed));

/** Bits of a tensor: NaN is what it is. */
async function bitsOf(tensor: Tensor): Promise<number[]> {
  const [data] = await tensor.device.read([tensor]);
  return [...new Uint8Array(data.buffer, data.byteOffset, data.byteLength)];
}

/** The eager bits of `body`, those of a replay, and the dispatches of the replay. */
async function both(device: Device, inputs: readonly Tensor[], body: (...x: Tensor[]) => Tensor) {
  using eager = scope(() => body(...inputs));
  using plan = capture(device, inputs, body);
  plan.replay(inputs);
  return {
    eager: await bitsOf(eager),
    replayed: await bitsOf(plan.outputs),
    dispatches: plan.dispatches,
    memory: plan.memory,
    values: await plan.outputs.data(),
  };
}

test("a chain of eight maps is one dispatch without intermediate memory", async () => {
  using x = device.tensor(values(1000, 1));
  using y = device.tensor(values(1000, 2));
  const found = await both(device, [x, y], (x, y) => {
    const a = add(mul(x, y), x);
    return sqrt(add(mul(relu(sub(a, y)), a), exp(y)));
  });
  assertEquals(found.dispatches, 1);
  assertEquals(found.memory.lowerBound, 0);
  assertEquals(found.replayed, found.eager);
  const [u, v] = [values(1000, 1), values(1000, 2)];
  found.values.forEach((value, i) => {
    const a = u[i] * v[i] + u[i];
    const wanted = Math.sqrt(Math.max(a - v[i], 0) * a + Math.exp(v[i]));
    // Some eight roundings of values up to 4; NaN where the root has no value.
    assert(
      Object.is(value, wanted) || Math.abs(value - wanted) < 2e-6,
      `${i}: ${value}, ${wanted}`,
    );
  });
});

test("views between maps are read through: transposes, slices, reshapes", async () => {
  using x = device.tensor(values(6 * 20 * 8, 3), [6, 20, 8]);
  using bias = device.tensor(values(20, 4));
  const found = await both(device, [x, bias], (x, bias) => {
    const rows = reshape(mul(x, x), [6, 160]); // [6, 160]
    const part = slice(rows, 1, 40, 80);
    const turned = permute(reshape(part, [6, 4, 20]), [1, 0, 2]);
    return tanh(add(turned, bias));
  });
  assertEquals(found.dispatches, 1);
  assertEquals(found.replayed, found.eager);
  const [u, b] = [values(960, 3), values(20, 4)];
  found.values.forEach((value, i) => {
    const [p, q, r] = [Math.floor(i / 120), Math.floor(i / 20) % 6, i % 20];
    const from = u[q * 160 + 40 + p * 20 + r];
    // A few roundings of values up to 2.
    assert(Math.abs(value - Math.tanh(from * from + b[r])) < 5e-7, `${i}`);
  });
});

test("what others read, or what is overwritten before, stays apart", async () => {
  using x = device.tensor(values(64, 1), [8, 8]);
  using state = device.tensor(values(64, 2), [8, 8]);
  const start = values(64, 2);
  using plan = capture(device, [x], (x) => {
    const doubled = add(state, state); // of the old state
    device.copy(mul(x, x), state);
    const kept = exp(x);
    return { doubled: mul(doubled, x), kept, product: matmul(kept, relu(kept)) };
  });
  plan.replay([x]);
  const u = values(64, 1);
  const { doubled, kept } = plan.outputs;
  assertEquals([...await doubled.data()], [...u].map((v, i) => Math.fround(2 * start[i] * v)));
  assertEquals(await bitsOf(kept), await bitsOf(scope(() => exp(x))));
  assertEquals([...await state.data()], [...u].map((v) => Math.fround(v * v)));
});

Deno.test("random programs of maps and views, f32 and f16, with gradients, keep the eager bits", async () => {
  const STEPS: ((y: Tensor, x: Tensor, row: Tensor) => Tensor)[] = [
    (y, x) => mul(y, x),
    (y, x) => sub(y, x),
    (y) => sub(y, y),
    (y, _, row) => add(y, row),
    (y) => transpose(y),
    (y) => gelu(y),
    (y, x) => div(y, add(exp(x), y)),
    (y) => cast(cast(y, y.dtype === "f16" ? "f32" : "f16"), y.dtype),
    (y) => add(y, sum(y, { axes: [1], keepDims: true })),
    (y) => reshape(transpose(y), y.shape),
    (y) => flip(y, [1]),
    (y) => sin(mod(y, 0.7)),
    (y, x) => where(greater(y, x), y, mul(x, -3)),
    (y) => add(cast(idiv(cast(mul(y, 9), "i32"), -4), y.dtype), y),
    (y) => sigmoid(y),
    (y, x) => add(mul(y, x), y),
  ];
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat(STEPS.length - 1), { minLength: 2, maxLength: 9 }),
      fc.constantFrom(4, 5, 8),
      fc.constantFrom<DType>("f32", "f16"),
      fc.boolean(),
      async (codes, n, dtype, gradients) => {
        const data = dtype === "f16" ? Float16Array : Float32Array;
        using x = device.tensor(data.from(values(n * n, n)), [n, n]);
        using row = device.tensor(data.from(values(n, 7)), [n]);
        const found = await both(device, [x, row], (x, row) => {
          const leaf = gradients ? add(x, x).trainable() : x;
          const y = codes.reduce((y, code) => STEPS[code](y, leaf, row), leaf);
          if (!gradients) return add(y, y);
          backward(sum(mul(y, y)));
          return add(leaf.grad!, 0); // the gradient itself goes with its leaf
        });
        assertEquals(found.replayed, found.eager);
      },
    ),
    { numRuns: full ? 30 : 2, seed: full ? undefined : 5 },
  );
});

test("fifteen axes that do not merge: more parameters than a slot holds", async () => {
  const axes = 15;
  const shapes = [0, 1, 2].map((k) => Array.from({ length: axes }, (_, i) => i % 3 === k ? 1 : 2));
  const data = (size: number) => Float32Array.from({ length: size }, (_, i) => i % 5 - 2);
  const inputs = shapes.map((shape) => device.tensor(data(sizeOf(shape)), shape));
  const valueAt = (shape: readonly number[], i: number) =>
    shape.reduce((at, size, k) => at * size + (size === 1 ? 0 : i >> (axes - 1 - k) & 1), 0) % 5 -
    2;
  const body = (mask: Tensor, a: Tensor, b: Tensor) => {
    const chosen = where(mask, a, b);
    const next = sum(a); // its parameters come behind
    return { chosen, next };
  };
  const eager = scope(() => body(...inputs as [Tensor, Tensor, Tensor]));
  using plan = capture(device, inputs, body as (...x: Tensor[]) => ReturnType<typeof body>);
  for (const { chosen } of [eager, plan.replay(inputs)]) {
    const found = await chosen.data();
    found.forEach((value, i) => {
      const [mask, a, b] = shapes.map((shape) => valueAt(shape, i));
      if (value !== (mask ? a : b)) assertEquals(value, mask ? a : b, `element ${i}`);
    });
  }
  for (const tensor of [...inputs, eager.chosen, eager.next]) tensor.dispose();
});
