/** Captured plans: same bits as eager, nothing made at replay, planned memory, refusals. */
import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  add,
  assign,
  backward,
  capture,
  type Device,
  KernelError,
  layerNorm,
  LifetimeError,
  linear,
  matmul,
  measure,
  mul,
  OutOfMemoryError,
  scope,
  selfAttention,
  ShapeError,
  sum,
  type Tensor,
  transpose,
} from "../../engine/mod.ts";
import { milestone } from "../../engine/plan.ts";
import { Matpac } from "../../model/objectives/matpac.ts";
import { type PresetName, PRESETS } from "../../model/objectives/presets.ts";
import { patchGrid } from "../../model/vit/geometry.ts";
import { lossWeights, RECIPES } from "../../model/objectives/recipe.ts";
import { randomMask } from "../../model/objectives/masking.ts";
import { Prng } from "../../engine/prng.ts";
import { STEP_DEFAULTS, Trainer } from "../../train/run/update.ts";
import { constantSchedules } from "../support/constant_schedules.ts";
import { full, fullOnly, test } from "../support/tier.ts";
import { openDevice } from "../support/device.ts";
import { OVERLAPPING } from "../support/overlapping.ts";

const values = (n: number, seed: number) =>
  Float32Array.from({ length: n }, (_, i) => Math.sin(i * 1.3 + seed));

/** A block with gradients, on odd sizes. */
function network(
  device: Device,
): { weight: Tensor; f: (x: Tensor) => { y: Tensor; loss: Tensor } } {
  const weight = device.tensor(values(48 * 16, 1), [48, 16]).trainable();
  const [gamma, beta] = [device.full([16], 1), device.zeros([16])];
  return {
    weight,
    f: (x) => {
      const y = selfAttention(linear(layerNorm(x, gamma, beta), weight), 2);
      const loss = sum(mul(y, y));
      weight.zeroGrad();
      backward(loss);
      return { y, loss };
    },
  };
}

test("a replay gives the bits of the eager function, again and again, on new inputs", async () => {
  using device = await openDevice();
  const { weight, f } = network(device);
  const shape = [3, 7, 16];
  const inputs = [1, 2, 3].map((seed) => device.tensor(values(3 * 7 * 16, seed), shape));
  const expected = [];
  for (const x of inputs) {
    const { y, loss } = scope(() => f(x));
    expected.push([await y.data(), await loss.data(), await weight.grad!.data()]);
  }
  using plan = capture(device, [inputs[0]], f);
  for (const round of [0, 1, 2, 0]) {
    const { y, loss } = plan.replay([inputs[round]]);
    assertEquals([await y.data(), await loss.data(), await weight.grad!.data()], expected[round]);
  }
});

test("plans share the gradient of a leaf, also one that was first made in a capture, and outlive each other", async () => {
  using device = await openDevice();
  const weight = device.tensor(values(5 * 3, 1), [3, 5]).trainable();
  const plans = [2, 7].map((rows) => {
    const x = device.tensor(values(rows * 5, rows), [rows, 5]);
    return capture(device, [x], (x) => {
      weight.zeroGrad();
      const y = linear(x, weight);
      backward(sum(mul(y, y)));
    });
  });
  const gradient = async (plan: number, seed: number) => {
    const rows = [2, 7][plan];
    const x = values(rows * 5, seed);
    plans[plan].replay([x]);
    const w = values(5 * 3, 1);
    const at = (i: number, o: number) =>
      [...w.subarray(5 * o, 5 * o + 5)].reduce((s, v, k) => s + v * x[5 * i + k], 0);
    const expected = Array.from(w, (_, j) => {
      const [o, k] = [Math.floor(j / 5), j % 5];
      return Array.from({ length: rows }, (_, i) => 2 * at(i, o) * x[5 * i + k])
        .reduce((s, v) => s + v, 0);
    });
    const found = await weight.grad!.data();
    // Sums of at most 35 products of values up to 5, in f32.
    expected.forEach((value, i) => assertAlmostEquals(found[i], value, 2e-5));
  };
  await gradient(0, 11);
  await gradient(1, 12);
  await gradient(0, 13);
  plans[0][Symbol.dispose]();
  await gradient(1, 14);
  plans[1][Symbol.dispose]();
});

test("host values are inputs too, and a replay makes no buffer, bind group or pipeline", async () => {
  using device = await openDevice();
  const { f } = network(device);
  const x = device.zeros([2, 5, 16]);
  using plan = capture(device, [x], f);
  plan.replay([values(160, 4)]);
  const counters = () => [
    device.memory.buffersCreated,
    device.memory.liveBuffers,
    device.counters.bindGroupsCreated,
    device.pipelinesCreated,
  ];
  const before = counters();
  const submits = device.counters.submits;
  for (let i = 0; i < 20; i++) plan.replay([values(160, i)]);
  assertEquals(counters(), before);
  assertEquals(device.counters.submits - submits, 20);
  assert((await plan.outputs.y.data()).every(Number.isFinite));
});

Deno.test("random chains of ops replay to their eager bits", async () => {
  using device = await openDevice();
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 9 }),
      fc.integer({ min: 1, max: 13 }),
      async (codes, n) => {
        const chain = (x: Tensor): Tensor =>
          codes.reduce((y, code) =>
            [
              () => add(y, y),
              () => mul(y, x),
              () => transpose(y),
              () => add(y, sum(y, { axes: [1], keepDims: true })),
              () => mul(y, 0.5),
            ][code](), x);
        using x = device.tensor(values(n * n, n), [n, n]);
        using eager = scope(() => add(chain(x), 0));
        using plan = capture(device, [x], (input) => add(chain(input), 0));
        assertEquals(await plan.replay([x]).data(), await eager.data());
      },
    ),
    { numRuns: full ? 25 : 3 },
  );
});

Deno.test("operands in the same memory give their eager bits", async () => {
  using device = await openDevice();
  const numbers = Float32Array.from(values(9 * 16, 5));
  for (const [name, body] of Object.entries(OVERLAPPING).slice(0, full ? undefined : 5)) {
    for (const array of [numbers, ...full ? [new Float16Array(numbers)] : []]) {
      using x = device.tensor(array, [9, 16]);
      // Within the plan an op makes it: inputs of a plan have buffers of their own.
      const made = (x: Tensor) => body(mul(x, 2));
      using eager = scope(() => made(x));
      using plan = capture(device, [x], made);
      assertEquals(await plan.replay([x]).data(), await eager.data(), `${name}, ${x.dtype}`);
    }
  }
});

test("intermediate results share the arena", async () => {
  using device = await openDevice();
  using x = device.full([1 << 16], 1);
  using plan = capture(device, [x], (input) => {
    let y = input;
    for (let i = 0; i < 20; i++) y = add(y, 1);
    return y;
  });
  // Two neighbours of the chain are alive at a time, and the last one is a result.
  assertEquals(plan.memory.lowerBound <= 2 * (1 << 18) + 4096, true);
  assert(plan.memory.arena <= 1.1 * plan.memory.lowerBound);
  assertEquals((await plan.replay([x]).data())[5], 21);
});

fullOnly("the plans of tiny and small are within a tenth of what is alive at once", async () => {
  using device = await openDevice();
  for (const [name, batch] of [["tiny", 16], ["small", 4]] as [PresetName, number][]) {
    const { geometry } = PRESETS[name];
    using model = new Matpac(device, geometry, RECIPES.paper);
    using trainer = new Trainer(device, model, constantSchedules(), {
      ...STEP_DEFAULTS,
      weights: lossWeights(RECIPES.paper, 0.5),
    });
    using input = device.zeros([batch, 80, geometry.cropFrames]);
    const random = new Prng(1);
    trainer.step(
      input,
      randomMask(() => random.uniform(), batch, patchGrid(geometry).patches, 0.7),
    );
    const { arena, lowerBound } = trainer.plan!.memory;
    assert(
      arena <= 1.1 * lowerBound,
      `${name}: ${arena} bytes planned, ${lowerBound} alive at once`,
    );
    assert(lowerBound > 1e7);
  }
});

test("another shape, another dtype or another count of inputs is refused", async () => {
  using device = await openDevice();
  using x = device.zeros([4]);
  using y = device.zeros([5]);
  using plan = capture(device, [x], (input) => add(input, 1));
  assertThrows(() => plan.replay([y]), ShapeError, "capture again for another shape");
  assertThrows(() => plan.replay([new Float32Array(3)]), ShapeError);
  assertThrows(() => plan.replay([new Uint32Array(4)]), ShapeError);
  assertThrows(() => plan.replay([]), ShapeError, "0 inputs for a plan of 1");
});

test("what cannot be replayed is refused while recording", async () => {
  using device = await openDevice();
  using x = device.zeros([4]);
  using outside = device.zeros([4]);
  assertThrows(
    () => capture(device, [x], () => device.write(outside, new Float32Array(4))),
    KernelError,
    "pass the values as an input",
  );
  let leaked: Tensor | undefined;
  using plan = capture(device, [x], (input) => {
    leaked = add(input, 1);
    const kept = leaked.view([2, 2]);
    return add(kept, 1);
  });
  assertEquals([...await plan.replay([x]).data()], [2, 2, 2, 2]);
  // Freed by the recording's scope; even a handle saved elsewhere has no memory of its own.
  await assertRejects(() => leaked!.data(), LifetimeError);
  // After a failed recording ops run eagerly again.
  using sum = add(outside, 3);
  assertEquals(await sum.data(), Float32Array.of(3, 3, 3, 3));
});

test("constants made inside are part of the plan", async () => {
  using device = await openDevice();
  using x = device.tensor([1, 2, 3]);
  using plan = capture(device, [x], (input) => mul(input, device.tensor([10, 20, 30])));
  for (let i = 0; i < 2; i++) assertEquals([...await plan.replay([x]).data()], [10, 40, 90]);
});

test("products that read textures see what was written since the last copy", async () => {
  using device = await openDevice();
  // Sizes for which gemm copies operands into textures on software adapters.
  const [w, v] = [1, 2].map((seed) => device.tensor(values(128 * 128, seed), [128, 128]));
  const f = (x: Tensor) => {
    // The same operand twice, and then others, which take its place in the arena in turn.
    const twice = add(matmul(x, w), matmul(x, v));
    const chained = matmul(matmul(mul(twice, 1e-2), w), v);
    return add(matmul(transpose(chained), x), matmul(chained, transpose(x)));
  };
  using sample = device.zeros([128, 128]);
  using plan = capture(device, [sample], f);
  const before = device.memory.textureBytes;
  assertEquals(before > 0, device.info.software && [8, 16].includes(device.info.subgroupSize));
  for (const seed of [3, 4, 3]) {
    using x = device.tensor(values(128 * 128, seed), [128, 128]);
    using expected = scope(() => f(x));
    const [eager, replayed] = await device.read([expected, plan.replay([x])]);
    assertEquals(replayed, eager);
  }
  assertEquals(device.memory.textureBytes, before);
  assertEquals(measure(device, () => device.zeros([1]), () => f(sample)).textures, before);
  // A plan keeps its textures; when it is gone they are given back, and come again.
  device.trim();
  assertEquals(device.memory.textureBytes, before);
  using x = device.tensor(values(128 * 128, 3), [128, 128]);
  const replayed = await plan.replay([x]).data();
  plan[Symbol.dispose]();
  device.trim();
  assertEquals(device.memory.textureBytes, 0);
  using eager = scope(() => f(x));
  assertEquals(await eager.data(), replayed);
});

test("a disposed plan gives its memory back and is refused", async () => {
  using device = await openDevice();
  using x = device.zeros([1000]);
  const { liveBytes } = device.memory;
  const plan = capture(device, [x], (input) => add(add(input, 1), 1));
  assert(device.memory.liveBytes > liveBytes);
  plan[Symbol.dispose]();
  plan[Symbol.dispose]();
  assertEquals(device.memory.liveBytes, liveBytes);
  assertThrows(() => plan.replay([x]), LifetimeError, "disposed");
});

test("a plan above the memory limit says so", async () => {
  using device = await openDevice({ memoryLimit: 1 << 20 });
  using x = device.zeros([100_000]);
  const { liveBytes } = device.memory;
  const twice = (input: Tensor) => mul(add(input, 1), add(input, 2));
  assertThrows(() => capture(device, [x], twice), OutOfMemoryError);
  assertEquals(device.memory.liveBytes, liveBytes);
});

test("a milestone is reached before what it does not depend on has been submitted", async () => {
  using device = await openDevice();
  const [first, second, early] = [1, 2, 3].map(() => device.zeros([64]));
  using plan = capture(device, [device.empty([64])], (x) => {
    assign(first, mul(x, 2));
    assign(second, mul(x, 3));
    milestone(device, () => assign(early, add(first, 1)));
  });
  const seen: number[][] = [];
  for (const number of plan.replayInParts([new Float32Array(64).fill(5)])) {
    const read = await device.read([first, second, early]);
    seen.push([number, ...read.map(([value]) => value)]);
  }
  assertEquals(seen, [[0, 10, 0, 11]]);
  assertEquals((await device.read([second]))[0][0], 15);
});

Deno.test("milestones change no bits, whatever they read and write", async () => {
  using device = await openDevice();
  const SLICES = 4;
  const step = fc.record({
    kind: fc.constantFrom("work", "milestone"),
    from: fc.nat(SLICES - 1),
    to: fc.nat(SLICES - 1),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 1, maxLength: full ? 14 : 9 }),
      async (steps) => {
        using state = device.zeros([SLICES * 64]);
        using out = device.zeros([steps.length * 64]);
        const slice = (of: Tensor, i: number) => of.view([64], undefined, of.offset + i * 64);
        let milestones = 0;
        const body = (x: Tensor) => {
          milestones = 0;
          steps.forEach(({ kind, from, to }, i) => {
            const value = () => add(mul(slice(state, from), i % 3 - 1), x);
            if (kind === "work") return assign(slice(state, to), value());
            milestones++;
            milestone(device, () => {
              assign(slice(out, i), value());
              // It may change what others read.
              if (i % 2 === 0) assign(slice(state, to), slice(out, i));
            });
          });
        };
        const run = async (replay: () => void | Promise<void>) => {
          device.write(state, values(SLICES * 64, 7));
          device.write(out, new Float32Array(out.size));
          await replay();
          return await device.read([state, out]);
        };
        const input = values(64, 3);
        using x = device.tensor(input, [64]);
        using plan = capture(device, [x], body);
        const expected = await run(() => scope(() => body(x)));
        const indices = steps.flatMap(({ kind }, i) => kind === "milestone" ? [i] : []);
        assertEquals(await run(() => void plan.replay([input])), expected);
        const numbers: number[] = [];
        const inParts = await run(async () => {
          for (const number of plan.replayInParts([input])) {
            numbers.push(number);
            const i = indices[number];
            using part = slice(out, i);
            assertEquals(await part.data(), expected[1].subarray(i * 64, (i + 1) * 64));
          }
        });
        assertEquals(inParts, expected);
        assertEquals(
          numbers.sort((a, b) => a - b),
          Array.from({ length: milestones }, (_, i) => i),
        );
      },
    ),
    { numRuns: full ? 100 : 15 },
  );
});
