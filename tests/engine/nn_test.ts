/**
 * Layers: shapes, names, seeds, lifetimes, and the transformer block against reference gradients.
 */
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertNotEquals,
  assertThrows,
} from "@std/assert";
import { ShapeError } from "../../engine/errors.ts";
import {
  Conv1d,
  Conv2d,
  Conv3d,
  ConvTranspose1d,
  ConvTranspose2d,
} from "../../engine/nn/convolution.ts";
import { Embedding } from "../../engine/nn/embedding.ts";
import { LayerNorm, Linear, Module, Sequential, within } from "../../engine/nn/layers.ts";
import { BatchNorm, GroupNorm, InstanceNorm, RMSNorm } from "../../engine/nn/norms.ts";
import { MultiHeadAttention, TransformerBlock } from "../../engine/nn/transformer.ts";
import { mul } from "../../engine/ops/elementwise.ts";
import { relu } from "../../engine/ops/unary.ts";
import { sum } from "../../engine/ops/reduce.ts";
import { contiguous, permute, reshape } from "../../engine/ops/view.ts";
import { scope } from "../../engine/scope.ts";
import { backward } from "../../engine/tape.ts";
import { normalValues } from "../../engine/nn/init.ts";
import { Prng } from "../../engine/prng.ts";
import { openDevice } from "../support/device.ts";
import { refRandom } from "../support/random.ts";
import { readSafetensors } from "../../engine/formats/safetensors.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

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
  using a = new Linear(device, 7, 5, 3);
  using b = new Linear(device, 7, 5, 3);
  using c = new Linear(device, 7, 5, 4);
  const [wa, wb, wc] = await device.read([a.weight, b.weight, c.weight]);
  assertEquals(wa, wb);
  assertNotEquals(wa, wc);
  const bound = Math.sqrt(6 / 12);
  assert(wa.every((value) => Math.abs(value) <= bound));
  assert(wa.some((value) => Math.abs(value) > bound / 2));
  const draw = new Prng(3);
  using d = new Linear(device, 7, 5, draw);
  using e = new Linear(device, 7, 5, draw);
  const [wd, we] = await device.read([d.weight, e.weight]);
  assertEquals(wd, wa);
  assertNotEquals(wd, we);
});

Deno.test("an embedding looks rows up and adds the gradients of repeated ones", async () => {
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

Deno.test("a convolution of signals is that of images of one row, with a bias or without", async () => {
  using conv = new Conv1d(device, 2, 3, 2, 1, { stride: 2, bias: false });
  assertEquals([...conv.parameters()].map(([name, { shape }]) => [name, shape]), [
    ["weight", [3, 2, 2]],
  ]);
  using images = new Conv2d(device, 2, 3, 2, 1, { bias: false });
  assertEquals(images.bias, undefined);
  const weight = Float32Array.from({ length: 12 }, (_, i) => i - 4);
  conv.load([["weight", weight]]);
  using x = device.tensor([1, 2, 3, 4, 10, 20, 30, 40], [1, 2, 4]);
  using y = conv.apply(x);
  assertEquals(y.shape, [1, 3, 2]);
  // Rows of the weight times [1, 2, 10, 20] and [3, 4, 30, 40].
  const products = [0, 4, 8].flatMap((row) =>
    [[1, 2, 10, 20], [3, 4, 30, 40]].map((patch) =>
      patch.reduce((sum, value, i) => sum + value * weight[row + i], 0)
    )
  );
  assertEquals([...await y.data()], products);
  assertThrows(() => new Conv1d(device, 2, 3, 2, 1, { pad: 1 } as never), ShapeError, "Conv1d");
});

Deno.test("transposed convolutions are the adjoints of plain ones with the same kernels", async () => {
  const random = new Prng(3);
  const draw = (shape: number[]) => device.tensor(normalValues(shape, random, 1), shape);
  const settings = { stride: 2, bias: false } as const;
  const pairs = [
    [new Conv1d(device, 4, 6, 3, 1, { ...settings, groups: 2 }), ConvTranspose1d, 3, [9], [4]],
    [new Conv2d(device, 4, 6, [2, 3], 2, { ...settings, groups: 2 }), ConvTranspose2d, [2, 3], [
      6,
      5,
    ], [3, 2]],
  ] as const;
  for (const [plain, Transposed, kernel, places, results] of pairs) {
    using transposed = new Transposed(device, 6, 4, kernel as 3, 4, { ...settings, groups: 2 });
    assertEquals(transposed.weight.shape, plain.weight.shape);
    transposed.load([["weight", await plain.weight.data()]]);
    const [x, y] = [draw([2, 4, ...places]), draw([2, 6, ...results])];
    const back = transposed.apply(y);
    const [there, here] = [sum(mul(plain.apply(x), y)), sum(mul(x, back))];
    assertEquals(back.shape, x.shape);
    // Sums of some hundred products of either sign.
    assertAlmostEquals(await there.item(), await here.item(), 2e-5);
    plain[Symbol.dispose]();
  }
});

Deno.test("a convolution of volumes sums over its kernel, and refuses kernels of other axes", async () => {
  using conv = new Conv3d(device, 2, 1, [1, 2, 2], 1, { padding: [0, 1, 0] });
  assertEquals(conv.weight.shape, [1, 2, 1, 2, 2]);
  conv.load([["weight", new Float32Array(8).fill(1)], ["bias", Float32Array.of(0.5)]]);
  using x = device.full([1, 2, 3, 2, 2], 1);
  using y = conv.apply(x);
  assertEquals(y.shape, [1, 1, 3, 3, 1]);
  assertEquals([...await y.data()], [4.5, 8.5, 4.5, 4.5, 8.5, 4.5, 4.5, 8.5, 4.5]);
  assertThrows(
    () => new Conv3d(device, 2, 1, [2, 2], 1),
    ShapeError,
    "Conv3d: the kernel is the array [2, 2]; a whole number or 3 of them are needed",
  );
});

Deno.test("layers give all their memory back and outlive the scope they are made in", async () => {
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

Deno.test("what does not fit is refused by name", () => {
  assertThrows(() => new MultiHeadAttention(device, 10, 3, 0), ShapeError, "3 heads");
  using layer = new Linear(device, 3, 2, 0);
  assert(layer instanceof Module);
  assertThrows(() => layer.load([["weight", new Float32Array(5)]]), ShapeError, "[2, 3]");
  assertThrows(() => layer.load([["gamma", new Float32Array(5)]]), ShapeError, "weight, bias");
  assertThrows(() => layer.apply(device.zeros([2, 4])), ShapeError, "linear");
});

/** Columns of a matrix, row-major. */
const columns = (data: ArrayLike<number>, width: number): number[][] =>
  Array.from(
    { length: width },
    (_, k) => Array.from({ length: data.length / width }, (_, i) => data[i * width + k]),
  );
const average = (values: readonly number[]): number =>
  values.reduce((a, b) => a + b, 0) / values.length;

for (const affine of [false, true]) {
  Deno.test(`batch norm ${affine ? "with" : "without"} scale and shift, as torch's BatchNorm1d`, async () => {
    const [rows, width, momentum] = [5, 7, 0.25];
    using layer = scope(() => new BatchNorm(device, width, { affine, momentum }));
    const scales = affine ? refRandom([width], 1).data : new Float64Array(width).fill(1);
    const shifts = affine ? refRandom([width], 2).data : new Float64Array(width);
    assertEquals(
      [...layer.state()].map(([name]) => name),
      [...(affine ? ["weight", "bias"] : []), "running_mean", "running_var"],
    );
    assertEquals([...layer.parameters()].length, affine ? 2 : 0);
    if (affine) {
      layer.load([["weight", Float32Array.from(scales)], ["bias", Float32Array.from(shifts)]]);
    }
    const running = { mean: new Array(width).fill(0), variance: new Array(width).fill(1) };
    for (const round of [0, 1, 2]) {
      // Far from 0, where squares would lose digits.
      const x = refRandom([rows, width], 10 + round).data
        .map((value, i) => Math.fround(3 * value + 10 * (i % width)));
      const dy = refRandom([rows, width], 20 + round).data;
      using input = device.tensor(Float32Array.from(x), [rows, width]).trainable();
      const weights = [...layer.parameters()].map(([, tensor]) => tensor);
      weights.forEach((tensor) => tensor.zeroGrad());
      using y = scope(() => {
        const y = layer.apply(input);
        backward(sum(mul(y, device.tensor(Float32Array.from(dy), [rows, width]))));
        return y;
      });
      const [found, dx, ...dWeights] = (await device.read([
        y,
        ...[input, ...weights].map(({ grad }) => grad!),
      ])).map((values) => columns(values as Float32Array, width));
      columns(x, width).forEach((own, k) => {
        const up = columns(dy, width)[k];
        const mean = average(own);
        const variance = average(own.map((it) => (it - mean) ** 2));
        const deviation = Math.sqrt(variance + 1e-5);
        const normal = own.map((it) => (it - mean) / deviation);
        const [level, tilt] = [average(up), average(up.map((it, i) => it * normal[i]))];
        own.forEach((_, i) => {
          // x is up to 70 and rounded to 4e-6 of it, the deviation some 3.
          assertAlmostEquals(found[k][i], normal[i] * scales[k] + shifts[k], 1e-5);
          const slope = scales[k] * (up[i] - level - normal[i] * tilt) / deviation;
          assertAlmostEquals(dx[k][i], slope, 1e-5);
        });
        if (affine) {
          assertAlmostEquals(dWeights[0][k][0], rows * tilt, 1e-4);
          assertAlmostEquals(dWeights[1][k][0], rows * level, 1e-5);
        }
        running.mean[k] += momentum * (mean - running.mean[k]);
        const sample = variance * rows / (rows - 1);
        running.variance[k] += momentum * (sample - running.variance[k]);
      });
    }
    const [mean, variance] = await device.read([layer.mean, layer.variance]);
    running.mean.forEach((it, k) => assertAlmostEquals(mean[k], it, 1e-5));
    running.variance.forEach((it, k) => assertAlmostEquals(variance[k], it, 1e-4));
    // Evaluation takes the running averages, leaves them alone, and takes a single row.
    using chain = new Sequential(layer);
    chain.train(false);
    using one = device.full([1, width], 2);
    using result = scope(() => chain.apply(one));
    (await result.data()).forEach((value, k) => {
      const normal = (2 - running.mean[k]) / Math.sqrt(running.variance[k] + 1e-5);
      assertAlmostEquals(value, normal * scales[k] + shifts[k], 1e-4);
    });
    assertEquals(await device.read([layer.mean, layer.variance]), [mean, variance]);
    chain.train();
    assertThrows(() => layer.apply(one), ShapeError, "fewer than two");
    assertThrows(() => layer.apply(device.zeros([2, 3, width])), ShapeError, "runningMean is [7]");
  });
}

Deno.test("batch norm of images averages over places, and evaluation uses what it averaged", async () => {
  const shape = [2, 3, 2, 2];
  const { data } = refRandom(shape, 4);
  using layer = new BatchNorm(device, 3, { momentum: 1 });
  const x = device.tensor(Float32Array.from(data), shape);
  layer.apply(x);
  const values = [0, 1, 2].map((c) => [...data].filter((_, i) => Math.floor(i / 4) % 3 === c));
  const means = values.map(average);
  const squares = values.map((own, c) => own.reduce((s, v) => s + (v - means[c]) ** 2, 0));
  const y = await layer.apply(x, false).data();
  [...data].forEach((value, i) => {
    const c = Math.floor(i / 4) % 3;
    assertAlmostEquals(y[i], (value - means[c]) / Math.sqrt(squares[c] / 7 + 1e-5), 1e-5);
  });
});

Deno.test("group and instance norm know torch's names and their own number of groups", async () => {
  using group = new GroupNorm(device, 2, 4);
  using instance = new InstanceNorm(device, 4);
  assertEquals([...group.parameters()].map(([name]) => name), ["weight", "bias"]);
  assertEquals([...instance.parameters()], []);
  const x = device.tensor(Float32Array.from(refRandom([2, 4, 3], 5).data), [2, 4, 3]);
  const [own, each] = await device.read([
    new GroupNorm(device, 4, 4).apply(x),
    instance.apply(x),
  ]);
  assertEquals(own, each);
  assertThrows(() => group.apply(device.zeros([2, 3, 4])), ShapeError, "weight is [4]");
  assertThrows(() => new GroupNorm(device, 3, 4).apply(x), ShapeError, "3 groups do not divide");
  assertThrows(() => instance.apply(device.zeros([2, 4])), ShapeError, "one value");
});

Deno.test("root-mean-square norm scales rows", async () => {
  const [rows, width] = [3, 5];
  using layer = new RMSNorm(device, width, 1e-3);
  const gamma = refRandom([width], 1).data;
  layer.load([["weight", Float32Array.from(gamma)]]);
  const x = refRandom([rows, width], 2).data;
  using y = scope(() => layer.apply(device.tensor(Float32Array.from(x), [rows, width])));
  const expected = x.map((value, i) => {
    const first = i - i % width;
    const squares = x.subarray(first, first + width).reduce((sum, it) => sum + it * it, 0);
    return gamma[i % width] * value / Math.sqrt(squares / width + 1e-3);
  });
  assert(relativeError(await y.data(), expected) < 1e-6);
});

Deno.test("layers on parameters that live elsewhere give the same and leave them there", async () => {
  const [width, heads] = [16, 2];
  using own = new TransformerBlock(device, width, heads, 1);
  const table = new Map([...own.parameters()].map(([name, it]) => [`net.${name}`, it]));
  const asked: string[] = [];
  const source = (name: string) => {
    asked.push(name);
    return table.get(name)!;
  };
  const data = Float32Array.from(refRandom([2, 5, width], 3).data);
  using x = device.tensor(data, [2, 5, width]);
  const before = device.memory.liveBytes;
  {
    using other = new TransformerBlock(device, width, heads, within(source, "net."));
    assertEquals(asked.toSorted(), [...table.keys()].toSorted());
    assertEquals([...other.parameters()], [...own.parameters()]);
    assertEquals(device.memory.liveBytes, before);
    const outputs = scope(() => [own.apply(x), other.apply(x)]);
    const [y, z] = await device.read(outputs);
    assertEquals(z, y);
    for (const it of outputs) it.dispose();
  }
  assertEquals((await own.mlp.fc1.bias!.data()).length, 4 * width);
  assertThrows(
    () => new Linear(device, width, 3, () => own.mlp.fc1.weight),
    ShapeError,
    "the parameter weight is [64, 16], not [3, 16]",
  );
});

Deno.test("attention without a bias of keys has biases of queries and values", async () => {
  const [width, heads] = [8, 2];
  using plain = new MultiHeadAttention(device, width, heads, 1);
  using layer = new MultiHeadAttention(device, width, heads, 1, { keyBias: false });
  assertEquals([...layer.parameters()].map(([name]) => name), [
    "q_bias",
    "v_bias",
    "qkv.weight",
    "proj.weight",
    "proj.bias",
  ]);
  const biases = [1, 2, 3].map((seed) => Float32Array.from(refRandom([width], seed).data));
  layer.load([["q_bias", biases[0]], ["v_bias", biases[2]]]);
  const [qkv, proj] = await device.read([layer.qkv.weight, layer.proj.weight]);
  plain.load([
    ["qkv.weight", qkv],
    ["proj.weight", proj],
    ["qkv.bias", Float32Array.from(biases.flatMap((it) => [...it]))],
  ]);
  const outputs = scope(() => {
    const x = device.tensor(Float32Array.from(refRandom([2, 3, width], 4).data), [2, 3, width]);
    return [layer.apply(x), plain.apply(x)];
  });
  const [y, z] = await device.read(outputs);
  // The bias of keys adds the same to all scores of a query, so it drops out.
  assert(relativeError(y, z) < 2e-6);
});
