/**
 * Optimizers against the same updates in float64, over several steps, odd sizes and tensors of
 * several axes.
 *
 * The tolerance is relative to the largest value: a step rounds a handful of times, each time by
 * 6e-8 of values of about 1, so ten steps stay within 3e-6 (Adam divides by roots of small moments,
 * which keeps relative errors).
 */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import type { Device } from "../../engine/device.ts";
import { ShapeError } from "../../engine/errors.ts";
import { Linear, Sequential } from "../../engine/nn/layers.ts";
import { LOSS_SCALE_FIELDS, lossScaleStep } from "../../engine/launch/loss_scale.ts";
import { adamHyperValues, adamStep } from "../../engine/launch/adamw.ts";
import { addScaled, assign, emaStep } from "../../engine/launch/in_place.ts";
import { loadRow, storeRow } from "../../engine/launch/ring_buffer.ts";
import { mul } from "../../engine/ops/elementwise.ts";
import { gelu } from "../../engine/ops/unary.ts";
import { mse } from "../../engine/ops/loss.ts";
import { sum } from "../../engine/ops/reduce.ts";
import { Adam, AdamW, clipGradients, type Optimizer, SGD } from "../../engine/nn/optimizers.ts";
import { LARS } from "../../engine/nn/lars.ts";
import {
  constantRate,
  exponentialDecay,
  linearRamp,
  stepDecay,
  warmupCosine,
} from "../../engine/nn/schedules.ts";
import { capture } from "../../engine/plan.ts";
import { scope } from "../../engine/scope.ts";
import { backward } from "../../engine/tape.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { openDevice } from "../support/device.ts";
import { refRandom } from "../support/random.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const SHAPES = [[1], [7], [3, 5], [4, 8], [2, 3, 11], [129]];
const STEPS = 10;
const TOLERANCE = 3e-6;

/** One tensor in float64: values, gradient of this step, memory. */
interface Ref {
  readonly shape: readonly number[];
  p: Float64Array;
  g: Float64Array;
  readonly memory: Record<string, Float64Array>;
}
type RefStep = (refs: readonly Ref[], rate: number, step: number) => void;

const gradientOf = (i: number, step: number): Float64Array =>
  refRandom(SHAPES[i], 1000 + 100 * step + i, 0.5).data;
const rateOf = (step: number): number => 0.05 + 0.01 * step;

const norm = (x: Float64Array): number => Math.sqrt(x.reduce((a, b) => a + b * b, 0));

function memory(ref: Ref, name: string): Float64Array {
  return ref.memory[name] ??= new Float64Array(ref.p.length);
}

/** `g + decay p`. */
const decayed = ({ p, g }: Ref, decay: number): Float64Array => g.map((x, k) => x + decay * p[k]);

function momentumStep(ref: Ref, direction: Float64Array, momentum: number, rate: number): void {
  const b = memory(ref, "momentum");
  b.forEach((x, k) => b[k] = momentum * x + direction[k]);
  ref.p = ref.p.map((x, k) => x - rate * b[k]);
}

const refSgd = (momentum: number, decay: number): RefStep => (refs, rate) =>
  refs.forEach((ref) => momentumStep(ref, decayed(ref, decay), momentum, rate));

const refLars = (momentum: number, decay: number, trust: number): RefStep => (refs, rate) =>
  refs.forEach((ref) => {
    if (ref.shape.length === 1) return momentumStep(ref, ref.g, momentum, rate);
    const d = decayed(ref, decay);
    const [a, b] = [norm(ref.p), norm(d)];
    momentumStep(ref, d.map((x) => x * (a > 0 && b > 0 ? trust * a / b : 1)), momentum, rate);
  });

function refAdam(
  options: { decay: number; decoupled: boolean; fairseq?: boolean; eps: number },
): RefStep {
  const [b1, b2] = [0.9, 0.98];
  const { decay, decoupled, fairseq, eps } = options;
  return (refs, rate, step) =>
    refs.forEach((ref) => {
      const g = decoupled ? ref.g : decayed(ref, decay);
      const [m, v] = [memory(ref, "m"), memory(ref, "v")];
      const [c1, c2] = [1 - b1 ** step, 1 - b2 ** step];
      ref.p = ref.p.map((p, k) => {
        m[k] = b1 * m[k] + (1 - b1) * g[k];
        v[k] = b2 * v[k] + (1 - b2) * g[k] ** 2;
        const kept = decoupled ? p * (1 - rate * decay) : p;
        return fairseq
          ? kept - rate * Math.sqrt(c2) / c1 * m[k] / (Math.sqrt(v[k]) + eps)
          : kept - rate / c1 * m[k] / (Math.sqrt(v[k] / c2) + eps);
      });
    });
}

/** Scales all gradients to a global norm of at most `limit`. */
const clipped = (limit: number, then: RefStep): RefStep => (refs, rate, step) => {
  const total = Math.hypot(...refs.map(({ g }) => norm(g)));
  refs.forEach((ref) => ref.g = ref.g.map((x) => x * Math.min(1, limit / (total + 1e-6))));
  then(refs, rate, step);
};

/** Gives the parameters these gradients, through the tape. */
function setGradients(parameters: readonly Tensor[], step: number): void {
  scope(() =>
    parameters.forEach((p, i) =>
      backward(sum(mul(p, p.device.tensor(Float32Array.from(gradientOf(i, step)), p.shape))))
    )
  );
}

const startParameters = (device: Device): Tensor[] =>
  SHAPES.map((shape, i) =>
    device.tensor(Float32Array.from(refRandom(shape, i).data), shape).trainable()
  );

const adam = { rate: 1, betas: [0.9, 0.98], eps: 1e-3 } as const;
const CASES: [string, (p: readonly Tensor[]) => Optimizer, RefStep][] = [
  ["SGD", (p) => new SGD(p, { rate: 1 }), refSgd(0, 0)],
  ["SGD with decay", (p) => new SGD(p, { rate: 1, weightDecay: 0.1 }), refSgd(0, 0.1)],
  [
    "SGD with momentum and decay",
    (p) => new SGD(p, { rate: 1, momentum: 0.9, weightDecay: 0.1 }),
    refSgd(0.9, 0.1),
  ],
  [
    "SGD with clipping",
    (p) => new SGD(p, { rate: 1, momentum: 0.5, clipNorm: 2 }),
    clipped(2, refSgd(0.5, 0)),
  ],
  ["Adam", (p) => new Adam(p, adam), refAdam({ decay: 0, decoupled: false, eps: 1e-3 })],
  [
    "Adam with decay in the gradient",
    (p) => new Adam(p, { ...adam, weightDecay: 0.1, clipNorm: 2 }),
    clipped(2, refAdam({ decay: 0.1, decoupled: false, eps: 1e-3 })),
  ],
  [
    "AdamW, torch's eps",
    (p) => new AdamW(p, { ...adam, weightDecay: 0.1 }),
    refAdam({ decay: 0.1, decoupled: true, eps: 1e-3 }),
  ],
  [
    "AdamW, fairseq's eps, clipping",
    (p) => new AdamW(p, { ...adam, weightDecay: 0.1, epsPlacement: "fairseq", clipNorm: 2 }),
    clipped(2, refAdam({ decay: 0.1, decoupled: true, fairseq: true, eps: 1e-3 })),
  ],
  [
    "LARS",
    (p) => new LARS(p, { rate: 1, weightDecay: 0.1, trust: 0.5 }),
    refLars(0.9, 0.1, 0.5),
  ],
];

for (const [label, make, reference] of CASES) {
  Deno.test(`${label}: ${STEPS} steps as in float64`, async () => {
    const parameters = startParameters(device);
    const refs = SHAPES.map((shape, i): Ref => ({
      shape,
      p: refRandom(shape, i).data,
      g: new Float64Array(),
      memory: {},
    }));
    using optimizer = make(parameters);
    for (let step = 1; step <= STEPS; step++) {
      setGradients(parameters, step);
      optimizer.step(rateOf(step));
      optimizer.zeroGrad();
      assert(parameters.every(({ grad }) => grad === undefined));
      refs.forEach((ref, i) => ref.g = gradientOf(i, step));
      reference(refs, rateOf(step), step);
    }
    const state = new Map(optimizer.state());
    const checked = refs.flatMap((ref, i) => [
      { name: `[${ref.shape}]`, tensor: parameters[i], expected: ref.p },
      ...Object.entries(ref.memory).flatMap(([key, expected]) => {
        // Without momentum, nothing is remembered.
        const tensor = state.get(`${i}.${key}`);
        return tensor ? [{ name: `[${ref.shape}] ${key}`, tensor, expected }] : [];
      }),
    ]);
    const values = await device.read(checked.map(({ tensor }) => tensor));
    checked.forEach(({ name, expected }, i) => {
      const scale = Math.max(...expected.map(Math.abs));
      const error = Math.max(...expected.map((x, k) => Math.abs(x - values[i][k]))) / scale;
      assert(error < TOLERANCE, `${name}: ${error}`);
    });
  });
}

interface Layout {
  readonly dtype: "f32" | "f16";
  readonly strides: readonly number[];
  readonly offset: number;
  /** Whether the gradient lies in the same buffer. */
  readonly slot?: boolean;
}

/** Ways for a leaf [3, 5] to lie in a buffer. */
const LAYOUTS: Record<string, Layout> = {
  "f16": { dtype: "f16", strides: [5, 1], offset: 0 },
  "f16 from an odd element": { dtype: "f16", strides: [5, 1], offset: 3 },
  "f16 transposed": { dtype: "f16", strides: [1, 3], offset: 0 },
  "transposed": { dtype: "f32", strides: [1, 3], offset: 0 },
  "with gaps": { dtype: "f32", strides: [11, 2], offset: 1 },
  "from an odd element": { dtype: "f32", strides: [5, 1], offset: 5 },
  "beside its gradient": { dtype: "f32", strides: [5, 1], offset: 64, slot: true },
};

/** Leaf [3, 5] in a buffer of 128 elements that are 7 elsewhere. */
function laidOut(device: Device, layout: Layout, values: Float64Array) {
  const { dtype, strides, offset } = layout;
  const Host = dtype === "f32" ? Float32Array : Float16Array;
  const all = new Host(128).fill(7);
  const place = (i: number) => offset + Math.floor(i / 5) * strides[0] + i % 5 * strides[1];
  values.forEach((value, i) => all[place(i)] = value);
  const buffer = device.tensor(all);
  const slot = layout.slot ? buffer.view([3, 5]) : undefined;
  return { buffer, leaf: buffer.view([3, 5], strides, offset).trainable(slot), slot, place };
}

for (const [name, layout] of Object.entries(LAYOUTS)) {
  Deno.test(`a leaf that lies ${name} moves as in float64, nothing beside it`, async () => {
    if (layout.dtype === "f16" && !device.features.f16) return;
    const round = layout.dtype === "f16" ? Math.f16round : Math.fround;
    // Steps that end on either side of a half round to neighbours; three may add up.
    const tolerance = layout.dtype === "f16" ? 3 * 2 ** -10 : TOLERANCE;
    for (const [label, make, reference] of CASES) {
      const start = refRandom([3, 5], 3).data.map(round);
      const { buffer, leaf, slot, place } = laidOut(device, layout, start);
      const ref: Ref = { shape: [3, 5], p: start, g: new Float64Array(), memory: {} };
      using optimizer = make([leaf]);
      for (let step = 1; step <= 3; step++) {
        const gradient = refRandom([3, 5], 50 + step, 0.5).data.map(round);
        const Host = layout.dtype === "f32" ? Float32Array : Float16Array;
        scope(() => {
          const seed = device.tensor(Host.from(gradient), [3, 5]);
          backward(mul(leaf, device.full([], 1, layout.dtype)), seed);
        });
        optimizer.step(rateOf(step));
        optimizer.zeroGrad();
        ref.g = gradient;
        reference([ref], rateOf(step), step);
        ref.p = ref.p.map(round);
      }
      const found = [...await buffer.data()];
      const scale = Math.max(...ref.p.map(Math.abs));
      ref.p.forEach((wanted, i) => {
        const error = Math.abs(found[place(i)] - wanted) / scale;
        assert(error < tolerance, `${label}: element ${i} is off by ${error}`);
        found[place(i)] = 7;
      });
      if (slot) found.fill(7, 0, 15);
      assert(found.every((value) => value === 7), `${label}: ${found}`);
      [leaf, slot, buffer].forEach((tensor) => tensor?.dispose());
    }
  });
}

Deno.test("assign, addScaled, emaStep and clipGradients go by position, whatever lies how", async () => {
  const count = Array.from({ length: 15 }, (_, i) => i);
  for (const [name, layout] of Object.entries(LAYOUTS)) {
    if (layout.dtype === "f16" && !device.features.f16) continue;
    const updates: [
      string,
      (target: Tensor, value: Tensor) => void,
      (t: number, v: number) => number,
    ][] = [
      ["assign", assign, (_, v) => v],
      ["gated", (t, v) => assign(t, v, device.tensor([1])), (_, v) => v],
      ["shut", (t, v) => assign(t, v, device.tensor([0])), (t) => t],
      ["addScaled", (t, v) => addScaled(t, v, 0.5), (t, v) => t + v / 2],
      ["by", (t, v) => addScaled(t, v, 0.5, device.tensor([4])), (t, v) => t + 2 * v],
      ["emaStep", (t, v) => emaStep(t, v, device.tensor([0.75, 0.25])), (t, v) => 0.75 * t + v / 4],
    ];
    for (const [what, update, expected] of updates) {
      // All values are small multiples of 1/4: exact in f16.
      const values: Record<string, Tensor> = {
        dense: device.tensor(count.map((i) => 4 - i), [3, 5]),
        flat: device.tensor(count.map((i) => 4 - i)),
        transposed: device.tensor(count.map((k) => 4 - (k % 3 * 5 + Math.floor(k / 3))))
          .view([3, 5], [1, 3]),
      };
      for (const [kind, value] of Object.entries(values)) {
        const { buffer, leaf, slot, place } = laidOut(device, layout, Float64Array.from(count));
        scope(() => update(leaf, value));
        const found = await buffer.data();
        assertEquals(
          count.map((i) => found[place(i)]),
          count.map((i) => expected(i, 4 - i)),
          `${what} of ${kind} onto a leaf that lies ${name}`,
        );
        [leaf, slot, buffer].forEach((tensor) => tensor?.dispose());
      }
      Object.values(values).forEach((tensor) => tensor.dispose());
    }
  }
  // Out of one buffer onto another part of it.
  using x = device.tensor(count, [3, 5]);
  scope(() => assign(x.view([5], [1], 0), x.view([5], [1], 2)));
  assertEquals([...await x.data()].slice(0, 6), [2, 3, 4, 5, 6, 5]);
  // A gradient slot with gaps.
  using slots = device.full([32], 7);
  using p = device.tensor([1, 1, 1]).trainable(slots.view([3], [3], 1));
  scope(() => backward(sum(mul(p, device.tensor([3, 0, 4])))));
  clipGradients([p], 1).dispose();
  const [a, b, c] = [1, 4, 7].map((i) => [3, 0, 4][(i - 1) / 3] / 5);
  const clippedSlots = await slots.data();
  [a, b, c].forEach((wanted, i) => assertAlmostEquals(clippedSlots[1 + 3 * i], wanted, 1e-6));
  assert(clippedSlots.every((value, i) => value === 7 || [1, 4, 7].includes(i)));
});

Deno.test("what cannot be updated in place is refused by name and shape", () => {
  using one = device.tensor([1, 2, 3]);
  const repeated = one.view([4, 3], [0, 1]);
  using value = device.zeros([4, 3]);
  using decays = device.tensor([1, 0]);
  using whole = device.tensor(Int32Array.of(1, 2, 3));
  const refused: [string, () => void][] = [
    ["assign", () => assign(repeated, value)],
    ["addScaled", () => addScaled(repeated, value, 1)],
    ["emaStep", () => emaStep(repeated, value, decays)],
    ["parameter", () => new SGD([repeated.trainable()], { rate: 1 })],
  ];
  for (const [name, update] of refused) {
    const { message } = assertThrows(update, ShapeError);
    for (const part of [name, "[4, 3]", "share memory"]) assert(message.includes(part), message);
  }
  assertThrows(() => assign(one, value), ShapeError, "assign: [3] and [4, 3]");
  assertThrows(() => addScaled(whole, one, 1), ShapeError, "addScaled: [3] is i32");
  assertThrows(() => addScaled(one, one.view([3]), 1, value), ShapeError, "one number");
  const state = { values: value.view([3, 4], [1, 3]), grads: value, m: value, v: value };
  using hyper = device.zeros([8]);
  assertThrows(
    () => adamStep(state, hyper, decays),
    ShapeError,
    "values [3, 4] of f32 with strides",
  );
  [repeated, state.values].forEach((view) => view.dispose());
});

Deno.test("a restored optimizer goes on with the same bits", async () => {
  const run = async (interrupted: boolean) => {
    const parameters = startParameters(device);
    const options = { rate: 0.1, weightDecay: 0.01, clipNorm: 1 };
    let optimizer = new AdamW(parameters, options);
    for (let step = 1; step <= 4; step++) {
      if (interrupted && step === 3) {
        const state = optimizer.state();
        const data = await device.read(state.map(([, tensor]) => tensor));
        optimizer[Symbol.dispose]();
        optimizer = new AdamW(parameters, options);
        optimizer.restore(state.map(([name], i) => [name, data[i]]));
        assertEquals(optimizer.steps, 2);
      }
      setGradients(parameters, step);
      optimizer.step();
      optimizer.zeroGrad();
    }
    const result = await device.read(parameters);
    optimizer[Symbol.dispose]();
    parameters.forEach((p) => p.dispose());
    return result;
  };
  const before = device.memory.liveBytes;
  assertEquals(await run(true), await run(false));
  assertEquals(device.memory.liveBytes, before);
});

Deno.test("a captured update takes each step's rate and gives the same bits", async () => {
  const train = async (captured: boolean) => {
    using model = new Sequential(new Linear(device, 5, 7, 1), gelu, new Linear(device, 7, 3, 2));
    using optimizer = new AdamW(model.parameters(), { rate: 1, weightDecay: 0.1, clipNorm: 1 });
    const [x, y] = [5, 3].map((width, i) =>
      device.tensor(Float32Array.from(refRandom([4, width], i).data), [4, width])
    );
    const update = (x: Tensor, y: Tensor): Tensor => {
      const loss = mse(model.apply(x), y);
      backward(loss);
      optimizer.update();
      optimizer.zeroGrad();
      return loss;
    };
    // The first step makes the gradients' memory.
    optimizer.advance(rateOf(0));
    scope(() => void update(x, y));
    using plan = captured ? capture(device, [x, y], update) : undefined;
    for (let step = 1; step <= 5; step++) {
      optimizer.advance(rateOf(step));
      if (plan) plan.replay([x, y]);
      else scope(() => void update(x, y));
    }
    const values = await device.read([...model.parameters()].map(([, tensor]) => tensor));
    [x, y].forEach((tensor) => tensor.dispose());
    return values;
  };
  assertEquals(await train(true), await train(false));
});

Deno.test("steps need no new memory, and tensors without a gradient stay", async () => {
  using layer = new Linear(device, 5, 3, 1);
  using optimizer = new LARS(layer.parameters(), { rate: 0.1, clipNorm: 1 });
  const step = () => {
    scope(() => backward(sum(layer.weight)));
    optimizer.step();
    optimizer.zeroGrad();
  };
  step();
  step();
  await device.sync();
  const { liveBytes, buffersCreated } = device.memory;
  for (let i = 0; i < 20; i++) step();
  await device.sync();
  assertEquals(device.memory.liveBytes, liveBytes);
  assertEquals(device.memory.buffersCreated, buffersCreated);
  assertEquals([...await layer.bias!.data()], [0, 0, 0]);
  const [total, factor] = await optimizer.gradientNorm.data();
  assertAlmostEquals(total, Math.sqrt(15), 1e-5);
  assertAlmostEquals(factor, 1 / Math.sqrt(15), 1e-5);
});

Deno.test("clipGradients scales gradients in place", async () => {
  const parameters = startParameters(device);
  setGradients(parameters, 1);
  const all = () => device.read(parameters.map(({ grad }) => grad!));
  const before = await all();
  using result = clipGradients(parameters, 0.5);
  const [total, factor] = await result.data();
  assertAlmostEquals(total, Math.hypot(...before.map((g) => norm(Float64Array.from(g)))), 1e-5);
  const after = await all();
  after.forEach((g, i) => g.forEach((x, k) => assertAlmostEquals(x, before[i][k] * factor, 1e-7)));
  parameters.forEach((p) => p.zeroGrad());
  assertThrows(() => clipGradients(parameters, 1), ShapeError, "no parameter");
});

Deno.test("a NaN gradient makes all NaN when clipped, an infinity the others 0, as in torch", async () => {
  const half = device.features.f16;
  for (const [bad, factor, others] of [[NaN, NaN, NaN], [Infinity, 0, 0]] as const) {
    using a = device.tensor([3, 4]).trainable();
    using b = half
      ? device.tensor(Float16Array.of(1, 1)).trainable()
      : device.full([2], 1).trainable();
    backward(mul(a, 1), device.tensor([3, -4]));
    backward(mul(b, 1), half ? device.tensor(Float16Array.of(bad, 5)) : device.tensor([bad, 5]));
    using result = clipGradients([a, b], 1);
    assertEquals([...await result.data()], [bad, factor]);
    assertEquals([...await a.grad!.data()].map(Math.abs), [others, others]);
    assertEquals([...await b.grad!.data()], [NaN, others]);
  }
  // Halves whose squares f16 does not hold.
  if (!half) return;
  using c = device.tensor(Float16Array.of(0, 0)).trainable();
  backward(mul(c, 1), device.tensor(Float16Array.of(30000, -40000)));
  using result = clipGradients([c], 5);
  assertAlmostEquals((await result.data())[0], 50000, 1);
  assertEquals([...await c.grad!.data()], [3, -4]);
});

Deno.test("what an optimizer cannot train is refused", () => {
  using fixed = device.zeros([3]);
  using free = device.zeros([3]).trainable();
  assertThrows(() => new SGD([], { rate: 1 }), ShapeError, "at least one");
  assertThrows(() => new SGD([free, fixed], { rate: 1 }), ShapeError, "not trainable");
  assertThrows(() => new SGD([free, free], { rate: 1 }), ShapeError, "twice");
  using optimizer = new Adam([["w", free]], { rate: 1 });
  assertThrows(() => optimizer.restore([]), ShapeError, "missing");
  const state = [["step", Float32Array.of(3)], ["w.m", new Float32Array(2)]] as const;
  assertThrows(() => optimizer.restore(state), ShapeError, "2 values");
  assertEquals(optimizer.steps, 0);
});

Deno.test("schedules", () => {
  assertEquals([0, 5, 1e6].map(constantRate(0.3)), [0.3, 0.3, 0.3]);
  const cosine = warmupCosine(2, 4, 12, 0.5);
  assertEquals([0, 1, 4].map(cosine), [0, 0.5, 2]);
  assertAlmostEquals(cosine(8), 1.25);
  assertAlmostEquals(cosine(12), 0.5);
  assertAlmostEquals(cosine(100), 0.5);
  const ramp = linearRamp(0.5, 1, 4);
  assertEquals([0, 1, 4, 9].map(ramp), [0.5, 0.625, 1, 1]);
  assertEquals(linearRamp(0.5, 1, 0)(0), 1);
  assertEquals([0, 1, 3].map(exponentialDecay(8, 0.5)), [8, 4, 1]);
  const steps = stepDecay(1, 10, 0.5);
  assertEquals([0, 9, 10, 29].map(steps), [1, 1, 0.5, 0.25]);
});

Deno.test("the loss scale follows overflows, whatever the norm's bits", async () => {
  using state = device.tensor([128, 1 / 128, 0, 0, 0, 0]);
  const expected = { scale: 128, clean: 0, skipped: 0, applied: 0 };
  const largest = 3.4028234663852886e38;
  const norms = [1, 0, Infinity, largest, NaN, -NaN, 2, 3, 1e-45, 4, 5, 6, Infinity];
  for (const norm of norms) {
    using clip = device.tensor([norm, 0.5]);
    lossScaleStep(state, clip, 3);
    const finite = Number.isFinite(norm);
    if (finite) {
      expected.applied++;
      if (++expected.clean === 3) Object.assign(expected, { scale: expected.scale * 2, clean: 0 });
    } else {
      expected.skipped++;
      Object.assign(expected, { scale: expected.scale / 2, clean: 0 });
    }
    const { scale, clean, skipped, applied } = expected;
    const fields = [scale, 1 / scale, clean, skipped, applied, +finite];
    assertEquals([...await state.data()], fields, `after a norm of ${norm}`);
    assertEquals((await clip.data())[1], finite ? 0.5 : 0);
  }
  using short = device.zeros([2]);
  assertEquals(LOSS_SCALE_FIELDS.length, state.size);
  assertThrows(() => lossScaleStep(short, short, 3), ShapeError, "[6] and [2]");
});

Deno.test("a gated Adam step leaves everything as it is where the clip coefficient is 0", async () => {
  const hyper = { lr: 0.1, betas: [0.9, 0.99], eps: 1e-8, weightDecay: 0.1 } as const;
  using values = device.tensor(adamHyperValues({ ...hyper, step: 1, epsPlacement: "torch" }));
  for (const size of [7, 12]) {
    const start = [1, 2, 3, 4].map((seed) => Float32Array.from(refRandom([size], seed).data));
    const step = async (coefficient: number, gated: boolean, bad: boolean) => {
      const grads = start[0].map((g, i) => bad ? [NaN, Infinity, -Infinity][i % 3] : g);
      const [g, p, m, v] = [grads, start[1], start[2], start[3].map(Math.abs)]
        .map((data) => device.tensor(data));
      using clip = device.tensor([NaN, coefficient]);
      adamStep({ values: p, grads: g, m, v }, values, clip, gated);
      const after = await device.read([p, m, v]);
      [g, p, m, v].forEach((it) => it.dispose());
      return after;
    };
    const kept = [start[1], start[2], start[3].map(Math.abs)];
    assertEquals(await step(0, true, true), kept);
    assertEquals(await step(0.5, true, false), await step(0.5, false, false));
  }
});

Deno.test("rows come back out of a ring by a place on the device", async () => {
  using ring = device.zeros([3, 70]);
  using place = device.zeros([1]);
  const rows = [0, 1, 2].map((seed) => Float32Array.from(refRandom([70], seed).data));
  rows.forEach((data, i) => {
    using row = device.tensor(data);
    device.write(place, Float32Array.of(i + 3));
    storeRow(ring, row, place);
  });
  using places = device.tensor([9, 4, 2]);
  for (const [index, row] of [0, 1, 2].entries()) {
    using out = device.empty([70]);
    loadRow(out, ring, places, index);
    assertEquals(await out.data(), rows[row]);
  }
  using wrong = device.empty([71]);
  assertThrows(() => loadRow(wrong, ring, places), ShapeError, "do not fit");
  assertThrows(() => loadRow(places, ring, places, 3), ShapeError, "do not fit");
});

Deno.test("scaled sums and gated assignments, across element types", async () => {
  for (const size of [5, 64]) {
    const data = Float32Array.from(refRandom([size], 1).data);
    using half = device.empty([size], "f16");
    using full = device.tensor(data);
    assign(half, full);
    const rounded = data.map(Math.f16round);
    assertEquals(await half.data(), rounded);
    using factors = device.tensor([8, 0.25]);
    addScaled(full, half, 2, factors.view([1], undefined, 1));
    // Half of an f16 value is exact, its sum with an f32 rounds once.
    assertEquals(await full.data(), data.map((x, i) => Math.fround(x + rounded[i] / 2)));
    for (const [gate, expected] of [[0, data], [1, rounded]] as const) {
      using open = device.tensor([gate]);
      using target = device.tensor(data);
      using wide = device.tensor(rounded);
      assign(target, wide, open);
      assertEquals(await target.data(), expected);
    }
  }
});
