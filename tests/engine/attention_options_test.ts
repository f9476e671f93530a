/**
 * Attention with masks, biases and their gates per query and key, repeated over batches, grouped
 * queries, causality aligned to the end and rotary positions: in every variant, in blocks, in
 * layers.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Device } from "../../engine/device.ts";
import { KernelError, ShapeError } from "../../engine/errors.ts";
import {
  KeyValueCache,
  MultiHeadAttention,
  TransformerBlock,
} from "../../engine/nn/transformer.ts";
import { type RefArray, registry } from "../../engine/op.ts";
import { attention, type AttentionOptions, selfAttention } from "../../engine/ops/attention.ts";
import { rotaryTable } from "../../engine/nn/rotary_table.ts";
import { rotary } from "../../engine/ops/rotary.ts";
import { concat, slice } from "../../engine/ops/view.ts";
import { capture } from "../../engine/plan.ts";
import { refFrom } from "../../engine/reference.ts";
import { scope } from "../../engine/scope.ts";
import { backward } from "../../engine/tape.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { openDevice } from "../support/device.ts";
import { refRandom } from "../support/random.ts";
import { full, fullOnly, test } from "../support/tier.ts";

/**
 * Heads of q and of k, queries, keys, head size, causal, shapes of mask, bias and gate beside 4
 * batches.
 */
type Case = readonly [
  heads: readonly [number, number],
  tq: number,
  tk: number,
  d: number,
  causal: boolean | "end",
  mask?: readonly number[],
  bias?: readonly number[],
  gate?: readonly number[],
];

const CASES: readonly Case[] = [
  [[4, 2], 35, 71, 4, "end", [1, 1, 35, 71], [1, 4, 35, 71], [4, 4, 35]],
  [[2, 2], 71, 35, 12, "end", [2, 1, 71, 1], [2, 2, 1, 35], [1, 2, 71]],
  [[2, 1], 33, 34, 36, true, undefined, [2, 1, 33, 34]],
  [[3, 3], 33, 37, 20, false, undefined, [1, 3, 33, 37], [4, 3, 33]],
  [[6, 3], 9, 65, 5, "end"],
];

// As in the samples of the op: a logit of size L is off by some 1e-7 L in f32; sums over blocks of
// keys go in another order.
const TOLERANCE = 4e-6;
// A result is off by 2^-11 of itself, and so is what backward reads of it.
const HALF_TOLERANCE = 2 ** -10;

/** Asserts result and gradients of one case on a device. */
async function matches(
  device: Device,
  label: string,
  [heads, tq, tk, d, causal, mask, bias, gate]: Case,
  dtype: "f32" | "f16" = "f32",
) {
  const [h, own] = heads;
  const random = (shape: readonly number[], seed: number): RefArray => {
    const { data } = refRandom(shape, seed);
    return refFrom(shape, (i) => dtype === "f16" ? Math.f16round(data[i]) : Math.fround(data[i]));
  };
  const arrays = [[4, h, tq, d], [4, own, tk, d], [4, own, tk, d], [4, h, tq, d]].map(random);
  const dy = arrays.pop()!;
  const masks = mask ? [refFrom(mask, (i) => +((i * 5) % 11 < 7))] : [];
  const biases = [...bias ? [random(bias, 9)] : [], ...gate ? [random(gate, 10)] : []];
  const Host = dtype === "f16" ? Float16Array : Float32Array;
  const upload = ({ shape, data }: RefArray) => device.tensor(Host.from(data), shape);
  const [q, k, v, ...added] = [...arrays, ...biases].map((x) => upload(x).trainable());
  const [seen] = masks.map((x) => device.tensor(Uint32Array.from(x.data), x.shape));
  const options = { causal, mask: seen, bias: added[0], gate: added[1] };
  const y = attention(q, k, v, options);
  const result = y.view(y.shape);
  backward(y, upload(dy));
  const actual = await device.read([result, ...[q, k, v, ...added].map((x) => x.grad!)]);
  const { reference } = registry().get("attention")!;
  const attrs = { scale: d ** -0.5, causal, bias: bias !== undefined, gate: gate !== undefined };
  const inputs = [...arrays, ...masks, ...biases];
  const grads = reference.backward!(inputs, attrs, [dy]).filter((x) => x !== undefined);
  const expected = [...reference.forward(inputs, attrs), ...grads];
  assertEquals(actual.length, expected.length);
  expected.forEach(({ data }, i) => {
    const largest = data.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    const error = data.reduce((a, b, j) => Math.max(a, Math.abs(b - actual[i][j])), 0);
    assert(
      error <= (i > 0 ? 2 : 1) * (dtype === "f16" ? HALF_TOLERANCE : TOLERANCE) * largest,
      `${label}, ${heads} heads, ${tq}x${tk}x${d}, ${dtype}: ${
        ["o", "dq", "dk", "dv", "dbias", "dgate"][i]
      } is off by ${error / largest}`,
    );
  });
}

// The op test takes "rows".
for (const variant of ["single", "tiled", "tiled-64"]) {
  fullOnly(`masks, biases, gates, grouped queries and causality: "${variant}"`, async () => {
    using device = await openDevice({ variants: { attention: variant } });
    for (const it of CASES) {
      await matches(device, variant, it);
      // Element types change little of the text, which takes long to compile.
      const [bias, gate] = it.slice(6);
      if (bias && gate && device.features.f16) await matches(device, variant, it, "f16");
    }
  });
}

Deno.test("the same in blocks of 16 tokens, as a small binding limit makes them", async () => {
  using probe = await openDevice();
  for (const [i, it] of CASES.entries()) {
    if (!full && i !== 0) continue;
    const [, , tk, d, , mask, bias] = it;
    const widest = Math.max(d, ...[mask, bias].map((shape) => shape ? tk : 0));
    const bindingLimit = probe.offsetAlignment + 16 * widest * 4;
    using device = await openDevice({ bindingLimit });
    await matches(device, "in blocks", it);
  }
});

const device = await openDevice();
const random = (shape: readonly number[], seed: number) =>
  device.tensor(Float32Array.from(refRandom(shape, seed).data), shape);

/** Largest difference of two lists. */
const difference = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0);

test("token by token over a cache of keys gives what the whole sequence gives", async () => {
  const [tokens, d] = [9, 4];
  const [q, k, v] = [1, 2, 3].map((seed) => random([1, 2, tokens, d], seed));
  const whole = attention(q, k, v, { causal: true });
  const steps = [[0, 4], [4, 1], [5, 4]].map(([first, count]) => {
    const [keys, values] = [k, v].map((x) => slice(x, 2, 0, first + count));
    return attention(slice(q, 2, first, count), keys, values, { causal: "end" });
  });
  const [a, b] = await device.read([whole, concat(steps, 2)]);
  assert(difference(a, b) < 1e-6);
});

test("a bias of -infinity hides as a mask does, and NaN goes through", async () => {
  const [q, k, v] = [[1, 1, 3, 4], [1, 1, 5, 4], [1, 1, 5, 4]].map(random);
  const seen = Array.from({ length: 15 }, (_, i) => +(i >= 5 && i % 3 > 0));
  const mask = device.tensor(Uint32Array.from(seen), [3, 5]);
  const bias = device.tensor(Float32Array.from(seen, (x) => x ? 0 : -Infinity), [3, 5]);
  const broken = device.tensor(Float32Array.from(seen, (_, i) => i === 7 ? NaN : 0), [3, 5]);
  const results = [{ mask }, { bias }, { bias: broken }].map((it) => attention(q, k, v, it));
  const [a, b, c] = await device.read(results);
  assertEquals(a, b);
  // The first query sees nothing.
  assertEquals([...a.subarray(0, 4)], [0, 0, 0, 0]);
  assertEquals(Array.from(c, Number.isNaN), Array.from(c, (_, i) => i >= 4 && i < 8));
});

test("a key mask and a mask of pairs must both hold", async () => {
  const [q, k, v] = [[2, 2, 3, 4], [2, 2, 5, 4], [2, 2, 5, 4]].map(random);
  const keys = Uint32Array.from({ length: 10 }, (_, i) => +(i % 4 > 0));
  const pairs = Float32Array.from({ length: 15 }, (_, i) => +(i % 3 > 0));
  const both = Uint32Array.from(
    { length: 30 },
    (_, i) => +(keys[Math.floor(i / 15) * 5 + i % 5] * pairs[i % 15]),
  );
  const options: AttentionOptions[] = [
    { keyMask: device.tensor(keys, [2, 5]), mask: device.tensor(pairs, [3, 5]) },
    { mask: device.tensor(both, [2, 1, 3, 5]) },
  ];
  const [a, b] = await device.read(options.map((it) => attention(q, k, v, it)));
  assertEquals(a, b);
});

test("layers hand masks, biases, causality and rotary positions on", async () => {
  const [batch, tokens, width] = [2, 6, 16];
  using block = new TransformerBlock(device, width, 4, 3, { keyHeads: 2 });
  assertEquals(block.attn.qkv.weight.shape, [width + 2 * 8, width]);
  const x = random([batch, tokens, width], 4);
  const later = concat([slice(x, 1, 0, 5), random([batch, 1, width], 5)], 1);
  const table = rotaryTable(device, tokens, width / 4);
  const moved = rotaryTable(device, tokens, width / 4, { start: 7 });
  const causal = { causal: true, rotary: table } as const;
  const [a, b, c, d, e] = await device.read([
    block.apply(x, causal),
    block.apply(later, causal),
    block.apply(x, { causal: true, rotary: moved }),
    block.apply(x, { causal: true }),
    block.apply(x, { mask: lowerTriangle(tokens), bias: device.zeros([4, 1, 1]), rotary: table }),
  ]);
  const early = (i: number) => Math.floor(i / width) % tokens < 5;
  assert(a.every((value, i) => !early(i) || value === b[i]), "a later token changes earlier ones");
  assert(difference(a, b) > 1e-3);
  // Only distances count, up to the rounding of the tables.
  assert(difference(a, c) < 2e-6, `${difference(a, c)}`);
  assert(difference(a, d) > 1e-3, "positions change nothing");
  assert(difference(a, e) < 2e-6, "a mask of the lower triangle is not what causal is");
});

test("tokens that come one by one see the same through a cache", async () => {
  const [batch, tokens, width] = [2, 7, 16];
  using block = new TransformerBlock(device, width, 4, 3, { keyHeads: 2 });
  const x = random([batch, tokens, width], 4);
  const table = rotaryTable(device, tokens, width / 4);
  const whole = block.apply(x, { causal: true, rotary: table });
  const live = device.memory.liveBuffers;
  const cache = new KeyValueCache();
  // Three tokens at once, then one by one.
  const steps = [[0, 3], [3, 1], [4, 1], [5, 2]].map(([first, count]) =>
    scope(() => {
      const now = slice(table, 0, first, count);
      return block.apply(slice(x, 1, first, count), { causal: true, rotary: now, cache });
    })
  );
  assertEquals(cache.tokens, tokens);
  const parts = concat(steps, 1);
  const [a, b] = await device.read([whole, parts]);
  // Other kernels for other counts of queries: sums of 7 keys and 16 channels in another order.
  assert(difference(a, b) < 2e-6, `${difference(a, b)}`);
  assertThrows(
    () => scope(() => block.apply(random([1, 1, width], 5), { cache })),
    ShapeError,
    "keys [1, 2, 1, 4] behind [2, 2, 7, 4]",
  );
  assertThrows(
    () => capture(device, [x], (x) => block.apply(x, { cache })),
    KernelError,
    "grows with every call",
  );
  cache[Symbol.dispose]();
  assertEquals(cache.tokens, 0);
  [parts, ...steps].forEach((it) => it.dispose());
  assertEquals(device.memory.liveBuffers, live);
});

const lowerTriangle = (n: number): Tensor =>
  device.tensor(Uint32Array.from({ length: n * n }, (_, i) => +(i % n <= Math.floor(i / n))), [
    n,
    n,
  ]);

test("what does not fit is named", () => {
  const [q, k] = [device.zeros([2, 4, 5, 8]), device.zeros([2, 2, 7, 8])];
  const cases: [() => unknown, string][] = [
    [() => attention(q, device.zeros([2, 3, 7, 8]), device.zeros([2, 3, 7, 8])), "[2, 3, 7, 8]"],
    [() => attention(q, k, k, { mask: device.zeros([7, 5]) }), "mask is [7, 5] of f32"],
    [() => attention(q, k, k, { bias: device.zeros([3, 5, 7]) }), "broadcasts to [2, 4, 5, 7]"],
    [() => attention(q, k, k, { bias: device.zeros([4, 1, 5, 7]) }), "bias is [4, 1, 5, 7]"],
    [() => attention(q, k, k, { gate: device.zeros([4, 5]) }), "gate is without a bias"],
    [
      () => attention(q, k, k, { bias: device.zeros([5, 7]), gate: device.zeros([4, 7]) }),
      "gate is [4, 7] of f32: a shape that broadcasts to [2, 4, 5]",
    ],
    [() => attention(q, k, k, { causal: "start" as "end" }), 'causal is "start"'],
    [() => selfAttention(device.zeros([1, 2, 30]), 4, { keyHeads: 2 }), "4 heads and 2 of keys"],
    [() => new MultiHeadAttention(device, 12, 4, 1, { keyHeads: 3 }), "3 heads of keys"],
    [() => rotary(q, rotaryTable(device, 6, 8)), "table [6, 2, 4]"],
    [() => rotaryTable(device, 6, 5), "half the head size"],
  ];
  for (const [call, message] of cases) assertThrows(call, ShapeError, message);
});
