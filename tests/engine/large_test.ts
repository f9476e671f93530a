/**
 * Tensors above the binding limit: with a lowered limit every kernel works in pieces and must give
 * the same result.
 */
import { assert, assertEquals } from "@std/assert";
import {
  adamHyperValues,
  adamStep,
  add,
  backward,
  batchedIndexSelect,
  concat,
  type Device,
  emaStep,
  gelu,
  gradientNorm,
  layerNorm,
  linear,
  matmul,
  mul,
  openDevice,
  reshape,
  scope,
  selfAttention,
  softmax,
  sum,
  type Tensor,
  transpose,
} from "../../engine/mod.ts";

/** Far below every tensor of the cases. */
const LIMIT = 8192;

const values = (n: number, seed: number): Float32Array =>
  Float32Array.from(
    { length: n },
    (_, i) => Math.sin(1.7 * i + seed) * Math.cos(0.31 * i * seed + 1),
  );

type Case = (device: Device, input: (shape: number[], seed: number) => Tensor) => Tensor;

const CASES: Record<string, Case> = {
  "elementwise with broadcasting": (_, x) => mul(add(x([70, 64], 1), x([64], 2)), x([70, 1], 3)),
  "transposed operands": (_, x) => add(transpose(x([61, 73], 1)), x([73, 61], 2)),
  gelu: (_, x) => gelu(x([5000], 1)),
  "linear, all three products": (_, x) => linear(x([130, 36], 1), x([68, 36], 2), x([68], 3)),
  "linear with GELU": (_, x) => linear(x([130, 36], 1), x([44, 36], 2), x([44], 3), { gelu: true }),
  "matmul, odd sizes": (_, x) => matmul(x([67, 45], 1), x([45, 83], 2)),
  "matmul, batched": (_, x) => matmul(x([9, 20, 24], 1), x([9, 24, 28], 2)),
  "layer norm": (_, x) => layerNorm(x([150, 40], 1), x([40], 2), x([40], 3)),
  softmax: (_, x) => softmax(x([90, 72], 1)),
  "sum over rows": (_, x) => sum(x([200, 24], 1), { axes: [0] }),
  "sum of everything": (_, x) => sum(x([200, 31], 1)),
  attention: (_, x) => selfAttention(x([24, 5, 48], 1), 2),
  gather: (device, x) =>
    batchedIndexSelect(
      x([48, 6, 16], 1),
      device.tensor(Uint32Array.from({ length: 48 * 6 }, (_, i) => 5 - i % 6), [48, 6]),
      { unique: true },
    ),
  concat: (_, x) => concat([x([40, 30], 1), x([40, 50], 2)], 1),
  reshape: (_, x) => reshape(transpose(x([64, 96], 1)), [32, 192]),
};

async function run(name: string, bindingLimit: number | undefined): Promise<Float32Array[]> {
  using device = await openDevice({ bindingLimit });
  const inputs: Tensor[] = [];
  const y = scope(() => {
    const result = CASES[name](device, (shape, seed) => {
      const tensor = device.tensor(values(shape.reduce((a, b) => a * b, 1), seed), shape)
        .trainable();
      inputs.push(tensor);
      return tensor;
    });
    backward(result, device.tensor(values(result.size, 9), result.shape));
    return { result, inputs };
  });
  return [
    await y.result.data(),
    ...await device.read(inputs.map((x) => x.grad!)) as Float32Array[],
  ];
}

for (const name of Object.keys(CASES)) {
  Deno.test(`in pieces: ${name}`, async () => {
    const [whole, pieces] = [await run(name, undefined), await run(name, LIMIT)];
    assertEquals(pieces.length, whole.length);
    whole.forEach((expected, part) => {
      const largest = expected.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
      assert(largest > 0);
      // Sums are split elsewhere, so they round differently: a few units in the last place of the
      // largest value.
      expected.forEach((x, i) =>
        assert(Math.abs(x - pieces[part][i]) <= 2e-6 * largest, `output ${part}, element ${i}`)
      );
    });
  });
}

Deno.test("in pieces: optimizer, averages and norms", async () => {
  const n = 64 * 100;
  const step = async (bindingLimit?: number) => {
    using device = await openDevice({ bindingLimit });
    const [p, g, m, v, average] = [1, 2, 3, 4, 5].map((seed) =>
      device.tensor(values(n, seed).map((x) => seed === 4 ? x * x : x))
    );
    const norm = gradientNorm([g], 1);
    const hyper = {
      lr: 1e-2,
      betas: [0.9, 0.95],
      eps: 1e-8,
      weightDecay: 0.1,
      step: 3,
      epsPlacement: "torch",
    } as const;
    adamStep({ values: p, grads: g, m, v }, device.tensor(adamHyperValues(hyper)), norm);
    emaStep(average, p, device.tensor([0.9, 0.1]));
    return await device.read([p, m, v, average, norm]);
  };
  const [whole, pieces] = [await step(), await step(LIMIT)];
  assertEquals(pieces.slice(0, 4), whole.slice(0, 4));
  const host = values(n, 2);
  const norm = Math.sqrt(host.reduce((sum, x) => sum + x * x, 0));
  // A float64 sum on the host; the device adds 6400 squares in float32 in a tree.
  for (const [value] of [whole[4], pieces[4]]) {
    assert(Math.abs(value - norm) < 1e-6 * norm, `${value} against ${norm}`);
  }
});
