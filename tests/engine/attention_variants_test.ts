/**
 * Every variant of the attention kernels, f32 and f16, without subgroups and with them, against the
 * float64 reference at odd lengths and head sizes; memory of long sequences.
 */
import { assert, assertEquals } from "@std/assert";
import { type Device, openDevice } from "../../engine/device.ts";
import type { DType } from "../../engine/dtype.ts";
import { type RefArray, registry } from "../../engine/op.ts";
import { attention, selfAttention } from "../../engine/ops/attention.ts";
import { refFrom } from "../../engine/reference.ts";
import { scope } from "../../engine/scope.ts";
import { backward } from "../../engine/tape.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { tune } from "../../engine/measure_variants.ts";
import { refRandom } from "../support/random.ts";
import { full, fullOnly, test } from "../support/tier.ts";

/**
 * [B, H, Tq, Tk, d, causal, key mask]; workgroups own 8 to 96 tokens, tiles walk over 32, chunks
 * are 32 channels. Of a mask the first batch hides all keys, the second those up to the middle and
 * every third from there.
 */
type Case = readonly [number, number, number, number, number, boolean, boolean?];

const FEW: readonly Case[] = [
  [1, 2, 1, 3, 16, false],
  [1, 1, 5, 71, 6, false],
  [1, 2, 33, 65, 64, false],
  [1, 1, 34, 99, 36, true],
  [2, 2, 35, 71, 36, false, true],
];
const MANY: readonly Case[] = [
  ...FEW,
  [1, 1, 31, 29, 35, false],
  [1, 1, 9, 35, 128, false],
  [2, 2, 13, 13, 8, true],
  [3, 1, 70, 67, 20, true, true],
];
/**
 * One kernel for all gradients of fused projections: batch, heads, tokens, head size. Whole words
 * of 32 channels, several tiles of 8 to 48 keys.
 */
const SINGLE: readonly (readonly [number, number, number, number, boolean, boolean?])[] = [
  [2, 2, 35, 36, false, true],
  [1, 2, 1, 16, false],
  [1, 2, 33, 64, false],
  [1, 1, 35, 128, false],
  [1, 2, 49, 32, true],
  [3, 1, 13, 20, true, true],
  [2, 1, 107, 16, false, true],
  [1, 1, 9, 6, false],
];

// As in the samples of the op: a logit of size L is off by some 1e-7 L in f32. In f16 a result is
// off by 2^-11 of itself, and so is what backward reads of it. Gradients pass one more product:
// twice that.
const TOLERANCE: Readonly<Record<string, number>> = { f32: 4e-6, f16: 2 ** -10 };

/** Reproducible inputs that `dtype` holds exactly. */
function inputs(
  device: Device,
  dtype: DType,
  shapes: readonly number[][],
): { readonly arrays: readonly RefArray[]; readonly tensors: readonly Tensor[] } {
  const arrays = shapes.map((shape, seed) => {
    const { data } = refRandom(shape, seed + shape[2]);
    return refFrom(shape, (i) => dtype === "f16" ? Math.f16round(data[i]) : Math.fround(data[i]));
  });
  const Host = dtype === "f16" ? Float16Array : Float32Array;
  return { arrays, tensors: arrays.map((x) => device.tensor(Host.from(x.data), x.shape)) };
}

const keyMask = (batch: number, keys: number): RefArray =>
  refFrom([batch, keys], (i) => {
    const [b, j] = [Math.floor(i / keys), i % keys];
    return +(b > 0 && j > keys / 2 && j % 3 !== 0);
  });

function assertClose(label: string, actual: ArrayLike<number>, expected: RefArray, most: number) {
  const largest = expected.data.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  const error = expected.data.reduce((a, b, i) => Math.max(a, Math.abs(b - actual[i])), 0);
  assertEquals(actual.length, expected.data.length, label);
  assert(error <= most * largest, `${label} is off by ${error / largest} > ${most}`);
}

const ROWS = ["attention_backward_kv", "attention_backward_q", "attention_forward"];
/** The kernels of a variant, for operands of their own. */
const KERNELS: Readonly<Record<string, readonly string[]>> = {
  "rows": ROWS,
  "tiled": ["attention_tiled"],
  "tiled-64": ["attention_tiled"],
};

const software = await (async () => {
  using device = await openDevice();
  return device.info.software;
})();

for (const [variant, kernels] of Object.entries(KERNELS)) {
  for (const subgroups of variant === "rows" ? [false, true] : [false]) {
    const title = `attention kernels "${variant}" ${subgroups ? "with" : "without"} subgroups`;
    // The quick tier takes each kernel file once; the op test takes "rows", in f16 as well.
    const ignore = !full && variant !== "tiled";
    Deno.test({
      name: `${title} match the reference`,
      ignore,
      fn: async (t) => {
        using device = await openDevice({ variants: { attention: variant }, subgroups });
        const ran = new Set<string>();
        device.observe({
          beforeDispatch: ({ name }) => void ran.add(name),
          afterDispatch() {},
          submitted() {},
        });
        for (const dtype of ["f32", "f16"] as const) {
          await t.step({
            name: dtype,
            ignore: dtype === "f16" && !(full && device.features.f16),
            fn: async () => {
              // Compiling takes most of the time; dtype, tile size and subgroups change little of
              // the text.
              const few = variant === "tiled-64" || subgroups;
              const all = dtype === "f16" ? FEW.slice(few ? 3 : 1) : few ? FEW.slice(1) : MANY;
              const cases = full ? all : FEW.slice(2, 3);
              for (const [b, h, tq, tk, d, causal, masked] of cases) {
                const shapes = [[b, h, tq, d], [b, h, tk, d], [b, h, tk, d], [b, h, tq, d]];
                const { arrays: [q, k, v, dy], tensors } = inputs(device, dtype, shapes);
                const operands = tensors.slice(0, 3).map((x) => x.trainable());
                const mask = masked ? [keyMask(b, tk)] : [];
                const [given] = mask.map(({ shape, data }) =>
                  device.tensor(Uint32Array.from(data), shape)
                );
                const options = { causal, keyMask: given };
                const y = attention(operands[0], operands[1], operands[2], options);
                const result = y.view(y.shape);
                backward(y, tensors[3]);
                const values = await device.read([result, ...operands.map((x) => x.grad!)]);
                const { reference } = registry().get("attention")!;
                const attrs = { scale: d ** -0.5, causal };
                const arrays = [q, k, v, ...mask];
                const [o] = reference.forward(arrays, attrs);
                const label = `${b}x${h} heads ${tq}x${tk}x${d}${causal ? " causal" : ""}${
                  masked ? " masked" : ""
                }:`;
                assertClose(`${label} result`, values[0], o, TOLERANCE[dtype]);
                reference.backward!(arrays, attrs, [dy]).forEach((expected, i) =>
                  assertClose(
                    `${label} d${"qkv"[i]}`,
                    values[i + 1],
                    expected!,
                    2 * TOLERANCE[dtype],
                  )
                );
              }
            },
          });
        }
        assertEquals([...ran].filter((name) => name.startsWith("attention")).sort(), kernels);
      },
    });
  }
}

Deno.test({
  name: "one kernel for all gradients of fused projections matches the reference",
  ignore: !software,
  fn: async () => {
    using device = await openDevice({ variants: { attention: "single" } });
    const { reference } = registry().get("selfAttention")!;
    for (const dtype of full && device.features.f16 ? ["f32", "f16"] as const : ["f32"] as const) {
      const some = dtype === "f16" ? SINGLE.filter((_, i) => i % 2 === 1) : SINGLE;
      for (const [b, heads, tokens, d, causal, masked] of full ? some : SINGLE.slice(0, 1)) {
        const ran = new Set<string>();
        device.observe({
          beforeDispatch: ({ name }) => void ran.add(name),
          afterDispatch() {},
          submitted() {},
        });
        const shapes = [[b, tokens, 3 * heads * d], [b, tokens, heads * d]];
        const { arrays: [qkv, dy], tensors } = inputs(device, dtype, shapes);
        const mask = masked ? [keyMask(b, tokens)] : [];
        const [given] = mask.map(({ shape, data }) => device.tensor(Uint32Array.from(data), shape));
        const y = selfAttention(tensors[0].trainable(), heads, { causal, keyMask: given });
        const result = y.view(y.shape);
        backward(y, tensors[1]);
        const [actual, gradient] = await device.read([result, tensors[0].grad!]);
        const attrs = { heads, scale: d ** -0.5, causal };
        const [o] = reference.forward([qkv, ...mask], attrs);
        const [dqkv] = reference.backward!([qkv, ...mask], attrs, [dy]);
        const label = `${dtype} ${b}x${heads} heads ${tokens}x${d}:`;
        assertClose(`${label} result`, actual, o, TOLERANCE[dtype]);
        assertClose(`${label} gradient`, gradient, dqkv!, 2 * TOLERANCE[dtype]);
        // Heads that are no multiple of 4 have no such kernel.
        assertEquals(ran.has("attention_backward"), d % 4 === 0, label);
      }
    }
  },
});

Deno.test({
  name: "the single backward pass is left out where lavapipe would end its loops early",
  ignore: !software || !full,
  fn: async () => {
    using device = await openDevice({ variants: { attention: "single" } });
    const shape = [1, 1, 721, 128];
    const { arrays: [q, k, v, dy], tensors } = inputs(device, "f32", [shape, shape, shape, shape]);
    const operands = tensors.slice(0, 3).map((x) => x.trainable());
    backward(attention(operands[0], operands[1], operands[2]), tensors[3]);
    const values = await device.read(operands.map((x) => x.grad!));
    const { reference } = registry().get("attention")!;
    reference.backward!([q, k, v], { scale: 128 ** -0.5, causal: false }, [dy])
      .forEach((expected, i) =>
        assertClose(`d${"qkv"[i]}`, values[i], expected!, 2 * TOLERANCE.f32)
      );
  },
});

/** Blocks of 16 tokens, as the binding limit allows no more of them. */
const IN_BLOCKS: readonly Case[] = [
  [2, 2, 37, 53, 8, false, true],
  [1, 2, 53, 37, 8, true],
  [2, 1, 21, 71, 8, true, true],
];

test("attention in blocks matches the reference: causal, masked, f32 and f16", async () => {
  using probe = await openDevice();
  const bindingLimit = probe.offsetAlignment + 16 * 8 * 4;
  using device = await openDevice({ bindingLimit });
  for (const dtype of device.features.f16 ? ["f32", "f16"] as const : ["f32"] as const) {
    for (const [b, h, tq, tk, d, causal, masked] of IN_BLOCKS) {
      const shapes = [[b, h, tq, d], [b, h, tk, d], [b, h, tk, d], [b, h, tq, d]];
      const { arrays: [q, k, v, dy], tensors } = inputs(device, dtype, shapes);
      const operands = tensors.slice(0, 3).map((x) => x.trainable());
      const mask = masked ? [keyMask(b, tk)] : [];
      const [given] = mask.map(({ shape, data }) => device.tensor(Uint32Array.from(data), shape));
      const y = attention(operands[0], operands[1], operands[2], { causal, keyMask: given });
      const result = y.view(y.shape);
      backward(y, tensors[3]);
      const values = await device.read([result, ...operands.map((x) => x.grad!)]);
      const { reference } = registry().get("attention")!;
      const attrs = { scale: d ** -0.5, causal };
      const [o] = reference.forward([q, k, v, ...mask], attrs);
      const label = `${dtype} ${tq}x${tk}${causal ? " causal" : ""}${masked ? " masked" : ""}:`;
      assertClose(`${label} result`, values[0], o, TOLERANCE[dtype]);
      reference.backward!([q, k, v, ...mask], attrs, [dy]).forEach((expected, i) =>
        assertClose(`${label} d${"qkv"[i]}`, values[i + 1], expected!, 2 * TOLERANCE[dtype])
      );
    }
  }
});

test("more batches times heads than a launch has workgroups are split", async () => {
  using device = await openDevice();
  const q = device.full([70000, 1, 1, 1], 1).trainable();
  const y = attention(q, q, q);
  const result = y.view(y.shape);
  backward(y, device.full(y.shape, 3));
  const [values, gradient] = await device.read([result, q.grad!]);
  // One key has all the weight: the gradient is that of v.
  assert(values.every((x) => x === 1) && gradient.every((x) => x === 3));
});

test("131,072 keys: the last one counts", async () => {
  using device = await openDevice();
  const tokens = 131072;
  const values = new Float32Array(tokens * 4).fill(tokens, (tokens - 1) * 4);
  const shape = [1, 1, tokens, 4];
  const [q, k] = [device.zeros([1, 1, 1, 4]), device.zeros(shape)];
  const y = attention(q, k, device.tensor(values, shape));
  assert((await y.data()).every((x) => Math.abs(x - 1) < 1e-5));
});

// With tiles 70,000 heads hold as well, but take a minute; launches are cut alike for all variants.
for (const variant of ["rows", "single", "tiled"]) {
  fullOnly(`70,000 queries, keys and heads all count: ${variant}`, async () => {
    using device = await openDevice({ variants: { attention: variant } });
    const zeros = (...shape: number[]) => device.zeros(shape).trainable();
    const run = async (q: Tensor, k: Tensor, v: Tensor) => {
      const y = attention(q, k, v);
      const result = y.view(y.shape);
      backward(y, device.full(y.shape, 1));
      const read = await device.read([result, ...[q, k, v].map((x) => x.grad!)]);
      [result, q, k, v].forEach((x) => x.dispose());
      return read;
    };
    // Equal scores: means of the values, and shares of the number of queries. Sums of 16,384 equal
    // terms in order, then of blocks.
    const close = (values: ArrayLike<number>, wanted: number) =>
      assert(Array.prototype.every.call(values, (x) => Math.abs(x / wanted - 1) < 2e-4), variant);
    const [, , , queries] = await run(
      zeros(1, 1, 70_000, 4),
      zeros(1, 1, 3, 4),
      zeros(1, 1, 3, 4),
    );
    close(queries, 70_000 / 3);
    const values = device.full([1, 1, 70_000, 4], 2).trainable();
    const [mean, , , keys] = await run(zeros(1, 1, 2, 4), zeros(1, 1, 70_000, 4), values);
    close(mean, 2);
    close(keys, 2 / 70_000);
    if (variant === "tiled") return;
    const many = () => device.full([1, 70_000, 1, 4], 3).trainable();
    const [heads, , , perHead] = await run(many(), many(), many());
    close(heads, 3);
    close(perHead, 1);
  });
}

fullOnly("every variant reads and writes fused projections in place", async () => {
  const [batch, tokens, heads, d] = [2, 41, 3, 12];
  for (const [i, variant] of ["single", ...Object.keys(KERNELS)].entries()) {
    using device = await openDevice({ variants: { attention: variant } });
    const shapes = [[batch, tokens, 3 * heads * d], [batch, tokens, heads * d]];
    // In turns: where operands lie does not depend on the dtype.
    const dtype = i % 2 === 0 || !device.features.f16 ? "f32" : "f16";
    const { arrays: [qkv, dy], tensors } = inputs(device, dtype, shapes);
    const y = selfAttention(tensors[0].trainable(), heads);
    const result = y.view(y.shape);
    backward(y, tensors[1]);
    const [actual, gradient] = await device.read([result, tensors[0].grad!]);
    const { reference } = registry().get("selfAttention")!;
    const attrs = { heads, scale: d ** -0.5 };
    const [o] = reference.forward([qkv], attrs);
    const [dqkv] = reference.backward!([qkv], attrs, [dy]);
    const label = `${variant} ${dtype}:`;
    assertClose(`${label} result`, actual, o, TOLERANCE[dtype]);
    assertClose(`${label} gradient`, gradient, dqkv!, 2 * TOLERANCE[dtype]);
  }
});

fullOnly("the tuner tries every variant on masked attention, apart from unmasked", async () => {
  using device = await openDevice();
  const qkv = device.full([1, 9, 3 * 8], 0.5);
  const mask = keyMask(1, 9);
  const given = device.tensor(Uint32Array.from(mask.data), mask.shape);
  const { open } = device.tuning.collect(() => {
    selfAttention(qkv, 2);
    selfAttention(qkv, 2, { keyMask: given });
  });
  const [plain, masked] = open.map(({ key }) => key);
  assertEquals(masked, `${plain}/mask`);
  await tune(device, open, { rounds: 1, burstMs: 1 });
  const { ratios } = device.tuning.entries.get(masked)!;
  assertEquals(Object.keys(ratios).sort(), Object.keys(KERNELS));
});

Deno.test({
  name: "a software adapter starts backward with one kernel where heads are many, and tunes it",
  ignore: !software || !full,
  fn: async () => {
    for (const [heads, first] of [[16, "single"], [2, "rows"]] as const) {
      using device = await openDevice();
      const { open } = device.tuning.collect(() => {
        const qkv = device.full([1, 9, 3 * heads * 8], 0.5).trainable();
        const y = selfAttention(qkv, heads);
        backward(y, device.full(y.shape, 1));
      });
      const { key, variants } = open.find(({ key }) => key.startsWith("attention/backward"))!;
      assertEquals(variants[0], first);
      await tune(device, open, { rounds: 1, burstMs: 1 });
      const { ratios } = device.tuning.entries.get(key)!;
      assertEquals(Object.keys(ratios).sort(), ["single", ...Object.keys(KERNELS)].sort());
    }
  },
});

for (const variant of ["rows", "single"]) {
  fullOnly(`4096 tokens forward and backward need no score matrix: ${variant}`, async () => {
    using device = await openDevice({ variants: { attention: variant } });
    const [tokens, heads, d] = [4096, 1, 8];
    const floats = tokens * heads * d;
    scope(() => {
      const shape = [1, tokens, 3 * heads * d];
      const qkv = device.full(shape, 0.25).trainable();
      const y = selfAttention(qkv, heads);
      backward(y, device.full(y.shape, 1));
      return [];
    });
    await device.sync();
    // qkv and its gradient, the result and its gradient, log-sum-exp, delta and at most the
    // log-sum-exp again.
    const expected = 4 *
      (2 * 3 * floats + 2 * floats + (variant === "single" ? 3 : 2) * heads * tokens);
    const scores = 4 * heads * tokens * tokens;
    const { peakBytes } = device.memory;
    assert(peakBytes <= 1.02 * expected, `${peakBytes} bytes at most, ${expected} expected`);
    assert(peakBytes < scores / 50, `${peakBytes} bytes, where one score matrix takes ${scores}`);
  });
}

Deno.test("operands in textures give the bits of those in buffers", async () => {
  // A limit of tensors' memory keeps operands in buffers.
  const devices = [await openDevice(), await openDevice({ memoryLimit: 2 ** 40 })];
  const forms = [
    { batch: 3, tokens: 59, heads: 3, keyHeads: 3, d: 64 },
    { batch: 2, tokens: 131, heads: 4, keyHeads: 2, d: 32, causal: true },
    { batch: 4, tokens: 58, heads: 12, keyHeads: 12, d: 32, masked: true },
  ];
  for (
    const { batch, tokens, heads, keyHeads, d, causal, masked } of full ? forms : forms.slice(1, 2)
  ) {
    const width = (heads + 2 * keyHeads) * d;
    const results = devices.map((device) => {
      const values = (size: number, step: number) =>
        Float32Array.from({ length: size }, (_, i) => Math.sin(i * step));
      // Not at the beginning of its buffer.
      const all = device.tensor(values((batch * tokens + 1) * width, 1.7), [
        batch * tokens + 1,
        width,
      ]);
      const qkv = all.view([batch, tokens, width], undefined, width).trainable();
      const dy = device.tensor(values(batch * tokens * heads * d, 0.3), [
        batch,
        tokens,
        heads * d,
      ]);
      const mask = masked
        ? device.tensor(Uint32Array.from({ length: batch * tokens }, (_, i) => i % 3), [
          batch,
          tokens,
        ])
        : undefined;
      const y = selfAttention(qkv, heads, { keyHeads, causal, keyMask: mask });
      backward(y, dy);
      return { device, y, gradient: qkv.grad! };
    });
    const [textures, buffers] = await Promise.all(
      results.map(({ device, y, gradient }) => device.read([y, gradient])),
    );
    assertEquals(textures, buffers);
  }
  const [{ info, memory }, { memory: limited }] = devices;
  assertEquals(memory.textureBytes > 0, info.software && info.subgroupSize >= 8);
  assertEquals(limited.textureBytes, 0);
  for (const device of devices) device[Symbol.dispose]();
});
