/**
 * NaN goes through ops as it does through NumPy: what compares says that NaN is unequal to
 * everything, what selects gives NaN on, what orders puts it last; whatever its bits are.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../engine/errors.ts";
import {
  abs,
  argmax,
  argmin,
  argsort,
  backward,
  clamp,
  contiguous,
  div,
  equal,
  greater,
  greaterEqual,
  less,
  lessEqual,
  max,
  maximum,
  mean,
  min,
  minimum,
  mse,
  notEqual,
  type Op,
  openDevice,
  type RefArray,
  relu,
  sign,
  sum,
  type Tensor,
  topk,
  where,
} from "../../engine/mod.ts";
import { full, test } from "../support/tier.ts";
import { quickSamples, type Sample, sampledOps } from "../support/samples.ts";

const device = await openDevice();
const plain = await openDevice({ subgroups: false });
const small = await openDevice({ bindingLimit: 4096 });

/** NaNs that differ in sign, kind and payload. */
const PATTERNS = [0x7fc00000, 0xffc00000, 0x7f800001, 0xffffffff] as const;

/** f32 or f16 values, those at the places of NaN with the bits of one pattern after the other. */
function withBits(values: readonly number[], half: boolean): Float32Array | Float16Array {
  const result = half ? Float16Array.from(values) : Float32Array.from(values);
  const bits = half ? new Uint16Array(result.buffer) : new Uint32Array(result.buffer);
  let next = 0;
  values.forEach((value, i) => {
    if (!Number.isNaN(value)) return;
    const pattern = PATTERNS[next++ % PATTERNS.length];
    // The same sign and kind in f16.
    bits[i] = half ? pattern >>> 16 & 0x8000 | 0x7c01 | pattern >>> 13 & 0x200 : pattern;
  });
  return result;
}

const N = NaN;
const I = Infinity;
const [LEFT, RIGHT] = [[N, N, 1, N, N, 2, -I, -0], [N, 1, N, I, -I, 2, N, N]];

test("comparisons, extrema and choices with NaN are NumPy's, in f32 and f16", async () => {
  for (const half of device.features.f16 ? [false, true] : [false]) {
    // Of one row in vectors, and of odd length.
    for (const length of [8, 7]) {
      const [x, y] = [LEFT, RIGHT].map((v) => device.tensor(withBits(v.slice(0, length), half)));
      const results: [string, Tensor, readonly number[]][] = [
        ["equal", equal(x, y), [0, 0, 0, 0, 0, 1, 0, 0]],
        ["notEqual", notEqual(x, y), [1, 1, 1, 1, 1, 0, 1, 1]],
        ["less", less(x, y), [0, 0, 0, 0, 0, 0, 0, 0]],
        ["lessEqual", lessEqual(x, y), [0, 0, 0, 0, 0, 1, 0, 0]],
        ["greater", greater(x, y), [0, 0, 0, 0, 0, 0, 0, 0]],
        ["greaterEqual", greaterEqual(x, y), [0, 0, 0, 0, 0, 1, 0, 0]],
        ["maximum", maximum(x, y), [N, N, N, N, N, 2, N, N]],
        ["minimum", minimum(x, y), [N, N, N, N, N, 2, N, N]],
        ["relu", relu(x), [N, N, 1, N, N, 2, 0, 0]],
        ["clamp", clamp(x, -1, 1.5), [N, N, 1, N, N, 1.5, -1, 0]],
        ["abs", abs(x), [N, N, 1, N, N, 2, I, 0]],
        ["sign", sign(x), [N, N, 1, N, N, 1, -1, 0]],
        ["where", where(x, 5, 6), [5, 5, 5, 5, 5, 5, 5, 6]],
      ];
      const values = await device.read(results.map(([, t]) => t));
      results.forEach(([name, t, expected], i) => {
        assertEquals(
          [...values[i]].map((v) => v + 0),
          expected.slice(0, length).map((v) => v + 0),
          `${name} ${half ? "f16" : "f32"}`,
        );
        t.dispose();
      });
      [x, y].forEach((t) => t.dispose());
    }
  }
});

test("a mask of floats chooses among integers", async () => {
  using mask = device.tensor([0.5, 0, N, -0]);
  using a = device.tensor(Uint32Array.of(1, 2, 3, 4));
  using b = device.tensor(Uint32Array.of(5, 6, 7, 8));
  using y = where(mask, a, b);
  assertEquals([...(await device.read([y]))[0]], [1, 6, 3, 8]);
});

test("gradients at NaN are NaN, beside it they are what they were", async () => {
  const check = async (f: (x: Tensor) => Tensor, values: number[], expected: number[]) => {
    using x = device.tensor(withBits(values, false)).trainable();
    using y = f(x);
    backward(y, y.device.full(y.shape, 2));
    assertEquals([...await x.grad!.data()], expected);
  };
  const values = [N, -3, 4, N, 0.5];
  await check(relu, values, [N, 0, 2, N, 2]);
  await check((x) => clamp(x, -1, 1), values, [N, 0, 0, N, 2]);
  await check(abs, values, [N, -2, 2, N, 2]);
  await check((x) => maximum(x, 1), values, [N, 0, 2, N, 0]);
  await check((x) => minimum(x, 1), values, [N, 2, 0, N, 2]);
  await check((x) => max(x), [1, 3, 3, 0, 2], [0, 1, 1, 0, 0]);
  await check((x) => max(x), values, [N, N, N, N, N]);
  await check((x) => min(x), values, [N, N, N, N, N]);
  await check((x) => where(x, x, 0), [N, 0, 1, N, 0], [2, 0, 2, 2, 0]);
});

Deno.test("maxima and minima of what holds a NaN are NaN wherever it stands", async () => {
  for (const on of full ? [device, plain, small] : [device]) {
    for (const half of on.features.f16 ? [false, true] : [false]) {
      // Rows in vectors and not, along lanes and alone; columns; several passes.
      for (
        const [shape, axis] of [
          [[3, 5], 1],
          [[3, 8], 1],
          [[2, 1037], 1],
          [[3, 4096], 1],
          [[5, 12], 0],
          [[700, 8], 0],
          [[2, 33, 3], 1],
          // Slices of which no two fit a small binding.
          [[1, 3, 1500], 1],
        ] as const
      ) {
        const size = shape.reduce((a: number, b: number) => a * b, 1);
        const width = shape[axis];
        const inner = shape.slice(axis + 1).reduce((a: number, b: number) => a * b, 1);
        for (const at of [0, 1, Math.floor(width / 2), width - 1]) {
          const values = Array.from({ length: size }, (_, i) => (i * 7) % 13 - 6);
          // In the first slice only.
          values[at * inner] = NaN;
          using x = on.tensor(withBits(values, half), shape);
          for (const op of [max, min] as const) {
            using y = op(x, { axes: [axis] });
            const got = [...await y.data()];
            const label = `${op.name} [${shape}] ${half} at ${at}`;
            assert(Number.isNaN(got[0]), label);
            assert(!got.slice(1).some(Number.isNaN), label);
          }
          if (on === small) continue;
          using most = argmax(x, { axis });
          using least = argmin(x, { axis });
          const [a, b] = await on.read([most, least]);
          assertEquals([a[0], b[0]], [at, at], `arg [${shape}] ${half} at ${at}`);
        }
      }
    }
  }
});

test("NaN ranks above infinity, whatever its bits; argmax and argmin give the first", async () => {
  for (const half of device.features.f16 ? [false, true] : [false]) {
    const values = [I, N, -I, N, 1, N, -0, N, 0];
    using x = device.tensor(withBits(values, half));
    const { values: best, indices } = topk(x, 6);
    const results = [
      argsort(x),
      argsort(x, { descending: true }),
      indices,
      argmax(x),
      argmin(x),
      best,
    ];
    const [up, down, top, most, least, largest] = await device.read(results);
    assertEquals([...up], [2, 6, 8, 4, 0, 1, 3, 5, 7]);
    assertEquals([...down], [1, 3, 5, 7, 0, 4, 6, 8, 2]);
    assertEquals([...top], [1, 3, 5, 7, 0, 4]);
    assertEquals([...most, ...least], [1, 1]);
    assertEquals([...largest], [N, N, N, N, I, 1]);
    results.forEach((t) => t.dispose());
  }
  // What a kernel made ranks as what was uploaded.
  using zero = device.tensor([0, 1, -I, I]);
  using ratio = div(zero, device.tensor([0, 1, 1, 1]));
  using order = argsort(ratio);
  assertEquals([...(await device.read([order]))[0]], [2, 1, 3, 0]);
});

test("mean, mse, max and min of nothing throw; sums of nothing are 0", async () => {
  using x = device.empty([2, 0, 3]);
  for (const op of [mean, max, min]) {
    assertThrows(() => op(x, { axes: [1] }), ShapeError, `${op.name}: [2, 0, 3]`);
    assertThrows(() => op(x), ShapeError, op.name);
    // Nothing per result is not the same as no result.
    using none = op(x, { axes: [0] });
    assertEquals(none.shape, [0, 3]);
    assertThrows(() => op(x, { axes: [0, -3] }), ShapeError, "twice");
  }
  assertThrows(() => mse(x, x), ShapeError, "[2, 0, 3]");
  using total = sum(x);
  assertEquals(await total.item(), 0);
});

/** Sample with a NaN at one place of one input, or undefined where that is no float. */
function poisoned(sample: Sample, i: number): Sample | undefined {
  const size = sample.inputs[i].data.length;
  if (sample.integer?.[i] !== undefined || size === 0) return undefined;
  const inputs = sample.inputs.map((input, j): RefArray => {
    if (j !== i) return input;
    const data = input.data.slice();
    data[Math.floor(size / 3)] = NaN;
    return { shape: input.shape, data };
  });
  return { ...sample, inputs };
}

test("every op has NaN where its float64 reference has it, in results and gradients", async (t) => {
  for (const { op, samples } of await sampledOps()) {
    await t.step(op.name, async () => {
      for (const sample of quickSamples(samples)) {
        for (let i = 0; i < sample.inputs.length; i++) {
          const one = poisoned(sample, i);
          if (one) await holdsNaN(op, one, `${sample.label}, input ${i}`);
        }
      }
    });
  }
});

async function holdsNaN(op: Op<unknown>, sample: Sample, label: string): Promise<void> {
  const inputs = sample.inputs.map(({ shape, data }, i) => {
    const type = sample.integer?.[i];
    if (type) {
      return device.tensor(type === "u32" ? Uint32Array.from(data) : Int32Array.from(data), shape);
    }
    const tensor = device.tensor(withBits([...data], false), shape);
    return op.backward && !sample.constant?.includes(i) ? tensor.trainable() : tensor;
  });
  const outputs = op.apply(inputs, sample.attrs);
  const expected = op.reference.forward(sample.inputs, sample.attrs);
  const nans = (values: ArrayLike<number>) => Array.from(values, (v) => Number.isNaN(v));
  for (const [k, y] of outputs.entries()) {
    using copy = contiguous(y);
    const [values] = await device.read([copy]);
    assertEquals(nans(values), nans(expected[k].data), `${label}: output ${k}`);
  }
  const [first] = outputs;
  if (first.node && outputs.length - (op.auxiliary?.length ?? 0) === 1) {
    const seed = device.full(first.shape, 1, first.dtype);
    backward(first, seed);
    const seeds = expected.map(({ shape, data }, k) => ({
      shape,
      data: new Float64Array(data.length).fill(+(k === 0)),
    }));
    const grads = op.reference.backward!(sample.inputs, sample.attrs, seeds);
    for (const [k, x] of inputs.entries()) {
      if (!x.grad) continue;
      assertEquals(nans(await x.grad.data()), nans(grads[k]!.data), `${label}: gradient ${k}`);
    }
    seed.dispose();
  }
  [...inputs, ...outputs].forEach((t) => t.dispose());
}
