/**
 * Layers: shapes, names, seeds, lifetimes, and the transformer block against reference gradients.
 */
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { openDevice } from "../../engine/device.ts";
import { ShapeError } from "../../engine/errors.ts";
import {
  Conv2d,
  Embedding,
  LayerNorm,
  Linear,
  Module,
  MultiHeadAttention,
  Sequential,
  TransformerBlock,
  uniformFrom,
} from "../../engine/nn/layers.ts";
import { mul, relu } from "../../engine/ops/elementwise.ts";
import { sum } from "../../engine/ops/reduce.ts";
import { contiguous, permute, reshape } from "../../engine/ops/view.ts";
import { scope } from "../../engine/scope.ts";
import { backward } from "../../engine/tape.ts";
import { readSafetensors } from "../../model/formats/safetensors.ts";

const GOLDEN = new URL("../golden/vit_ops.safetensors", import.meta.url);

/** Largest difference relative to the largest expected value. */
function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let most = 0;
  let scale = 0;
  for (let i = 0; i < expected.length; i++) {
    most = Math.max(most, Math.abs(actual[i] - expected[i]));
    scale = Math.max(scale, Math.abs(expected[i]));
  }
  return most / scale;
}

Deno.test("a transformer block has the reference's output and gradients", async () => {
  using device = await openDevice();
  const { tensors } = readSafetensors(await Deno.readFile(GOLDEN));
  const data = (name: string) => tensors.get(`block.${name}`)!.data as Float32Array;
  const shape = tensors.get("block.x")!.shape;
  using block = new TransformerBlock(device, 16, 2, 0);
  const names = [...block.parameters()].map(([name]) => name);
  assertEquals(
    names.toSorted(),
    [...tensors.keys()].filter((name) => /^block\.(norm|attn|mlp)/.test(name))
      .map((name) => name.slice("block.".length)).toSorted(),
  );
  block.load(names.map((name) => [name, data(name)]));
  using x = device.tensor(data("x"), shape).trainable();
  using y = scope(() => {
    const y = block.apply(x);
    backward(sum(mul(y, device.tensor(data("dy"), shape))));
    return y;
  });
  const checked = [["x", x] as const, ...block.parameters()];
  const [output, ...grads] = await device.read([y, ...checked.map(([, tensor]) => tensor.grad!)]);
  // PyTorch's own f32 differs from float64 by 3e-7 here; sums in another order may add some ulp.
  assert(relativeError(output, data("y")) < 2e-6);
  checked.forEach(([name], i) => {
    const error = relativeError(grads[i], data(`d_${name}`));
    assert(error < 3e-6, `${name}: ${error}`);
  });
});

Deno.test("equal seeds give equal layers, and a shared generator different ones", async () => {
  using device = await openDevice();
  using a = new Linear(device, 7, 5, 3);
  using b = new Linear(device, 7, 5, 3);
  using c = new Linear(device, 7, 5, 4);
  const [wa, wb, wc] = await device.read([a.weight, b.weight, c.weight]);
  assertEquals(wa, wb);
  assertNotEquals(wa, wc);
  const bound = Math.sqrt(6 / 12);
  assert(wa.every((value) => Math.abs(value) <= bound));
  assert(wa.some((value) => Math.abs(value) > bound / 2));
  const draw = uniformFrom(3);
  using d = new Linear(device, 7, 5, draw);
  using e = new Linear(device, 7, 5, draw);
  const [wd, we] = await device.read([d.weight, e.weight]);
  assertEquals(wd, wa);
  assertNotEquals(wd, we);
});

Deno.test("an embedding looks rows up and adds the gradients of repeated ones", async () => {
  using device = await openDevice();
  using table = new Embedding(device, 5, 3, 1);
  using ids = device.tensor(Uint32Array.of(4, 0, 4, 2), [2, 2]);
  using y = scope(() => {
    const y = table.apply(ids);
    backward(sum(y));
    return y;
  });
  assertEquals(y.shape, [2, 2, 3]);
  const [values, weight, grad] = await device.read([y, table.weight, table.weight.grad!]);
  assertEquals(
    [...values],
    [4, 0, 4, 2].flatMap((row) => [...weight.subarray(3 * row, 3 * row + 3)]),
  );
  assertEquals([...grad], [1, 0, 1, 0, 2].flatMap((count) => [count, count, count]));
  using floats = device.zeros([2]);
  assertThrows(() => table.apply(floats), ShapeError, "u32");
});

Deno.test("a convolution whose stride is its kernel is a linear layer over patches", async () => {
  using device = await openDevice();
  using conv = new Conv2d(device, 3, 5, 2, 1, { stride: 2 });
  using dense = new Linear(device, 12, 5, 0);
  const before = await device.read([conv.weight]);
  dense.load([["weight", before[0]], ["bias", new Float32Array(5).fill(0.5)]]);
  conv.load([["bias", new Float32Array(5).fill(0.5)]]);
  const images = Float32Array.from({ length: 2 * 3 * 4 * 6 }, (_, i) => Math.sin(i));
  const results = scope(() => {
    const x = device.tensor(images, [2, 3, 4, 6]);
    const patches = permute(reshape(x, [2, 3, 2, 2, 3, 2]), [0, 2, 4, 1, 3, 5]);
    const y = permute(conv.apply(x), [0, 2, 3, 1]);
    const z = dense.apply(reshape(patches, [2, 2, 3, 12]));
    backward(sum(mul(y, z)));
    return [contiguous(y), z];
  });
  const [y, z] = await device.read(results);
  assert(relativeError(y, z) < 1e-6);
  const grads = await device.read([conv.weight.grad!, dense.weight.grad!]);
  // Both sides are multiplied with the same numbers, so their gradients agree too.
  assert(relativeError(grads[0], grads[1]) < 2e-6);
});

Deno.test("a convolution in groups sees its own channels only, and each side may be padded on its own", async () => {
  using device = await openDevice();
  using conv = new Conv2d(device, 4, 6, 1, 1, { groups: 2, padding: [[1, 0], 0] });
  assertEquals(conv.weight.shape, [6, 2, 1, 1]);
  conv.load([["weight", Float32Array.from({ length: 12 }, (_, i) => i)]]);
  using x = device.tensor([1, 10, 100, 1000], [1, 4, 1, 1]);
  using y = scope(() => conv.apply(x));
  assertEquals(y.shape, [1, 6, 2, 1]);
  assertEquals([...await y.data()], [
    ...[0, 10, 0, 32, 0, 54],
    ...[0, 7600, 0, 9800, 0, 12000],
  ]);
  assertThrows(() => new Conv2d(device, 4, 6, 1, 1, { groups: 3 }), ShapeError, "3 groups");
});

Deno.test("layers give all their memory back and outlive the scope they are made in", async () => {
  using device = await openDevice();
  const before = device.memory.liveBytes;
  {
    using model = scope(() =>
      new Sequential(
        new Linear(device, 6, 8, 1),
        relu,
        new Sequential(new LayerNorm(device, 8), new Linear(device, 8, 1, 2, { bias: false })),
      )
    );
    assertEquals([...model.parameters()].map(([name, { shape }]) => `${name} [${shape}]`), [
      "0.weight [8,6]",
      "0.bias [8]",
      "2.0.weight [8]",
      "2.0.bias [8]",
      "2.1.weight [1,8]",
    ]);
    scope(() => {
      const y = model.apply(device.full([3, 6], 0.5));
      assertEquals(y.shape, [3, 1]);
      backward(sum(y));
    });
    for (const [, tensor] of model.parameters()) assert(tensor.grad);
    await device.sync();
  }
  assertEquals(device.memory.liveBytes, before);
});

Deno.test("what does not fit is refused by name", async () => {
  using device = await openDevice();
  assertThrows(() => new MultiHeadAttention(device, 10, 3, 0), ShapeError, "3 heads");
  using layer = new Linear(device, 3, 2, 0);
  assert(layer instanceof Module);
  assertThrows(() => layer.load([["weight", new Float32Array(5)]]), ShapeError, "[2, 3]");
  assertThrows(() => layer.load([["gamma", new Float32Array(5)]]), ShapeError, "weight, bias");
  assertThrows(() => layer.apply(device.zeros([2, 4])), ShapeError, "linear");
});
