/**
 * Odd arguments one by one: those that do not fit have errors of the engine's own, and those that
 * do give what they should. `arguments_test.ts` tries all functions with strangers.
 */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import * as engine from "../../engine/mod.ts";
import {
  add,
  backward,
  capture,
  cast,
  concat,
  conv2d,
  type Device,
  div,
  equal,
  expand,
  istft,
  less,
  LifetimeError,
  maximum,
  mul,
  noGrad,
  openDevice,
  pad,
  permute,
  pow,
  reshape,
  ShapeError,
  slice,
  split,
  stft,
  sub,
  sum,
  type Tensor,
  transpose,
  where,
} from "../../engine/mod.ts";

const device = await openDevice();
const elsewhere: Device = await openDevice();
const values = async (t: Tensor) => [...(await device.read([t]))[0]];

/** What stands where numbers belong. */
const STRANGERS: readonly unknown[] = [undefined, null, 2, NaN, "x", {}];

const x = device.tensor([1, 2, 3, 4, 5, 6], [2, 3]);
const row = device.tensor([1, 2, 3]);
const ids = device.tensor(Uint32Array.of(0, 1));
const image = device.zeros([1, 1, 4, 4]);
const leaf = device.tensor([1, 2, 3]).trainable();
backward(sum(mul(leaf, leaf)));

Deno.test("options of another name are refused, and sizes that are none", () => {
  const refused: readonly (() => unknown)[] = [
    () => sum(x, { axis: 0 } as never),
    () => sum(x, [0] as never),
    () => sum(x, 0 as never),
    () => sum(x, { axes: 0 } as never),
    () => sum(x, { axes: [0, 0] }),
    () => sum(x, { axes: [1, -1] }),
    () => sum(x, { axes: [0.5] }),
    () => sum(x, { axes: [NaN] }),
    () => permute(x, [0, 0]),
    () => permute(x, [0, 1, 0]),
    () => permute(x, [0, -2]),
    () => permute(x, [0]),
    () => transpose(row),
    () => transpose(device.tensor([])),
    () => reshape(x, [-2, -3]),
    () => reshape(x, [-1, -1]),
    () => reshape(x, [1.5, 4]),
    () => expand(device.tensor([1]), [-3]),
    () => expand(device.tensor([1]), [1.5]),
    () => slice(x, 1, 0.5, 1),
    () => slice(x, 1, 0, NaN),
    () => split(x, 1, -1),
    () => split(x, 1, 0),
    () => concat([], 0),
    () => pad(x, [[1], [1]] as never),
    () => pad(x, [[0, 1], [0, 1]], "mirror" as never),
    () => pad(ids, [[0, 1]], 0.5),
    () => pad(ids, [[0, 1]], -1),
    () => pow(2, 3 as never),
    () => pow(x, NaN),
    () => conv2d(image, device.zeros([1, 1, 2, 2]), undefined, { padding: "full" } as never),
    () => conv2d(image, device.zeros([1, 1, 2, 2]), undefined, { strides: 2 } as never),
    () => cast(x, "f64" as never),
    () => x.view([2, 3], [3]),
    () => x.view([2, 3], [-3, 1], 3),
    () => x.view([2.5]),
    () => x.view([2], [1], 0.5),
    () => add(1 as never, 2),
    () => add(ids, -1),
    () => add(ids, 2 ** 40),
    () => equal(ids, -1),
    () => where(x, ids, -1),
    () => device.full([2], 2 ** 32, "u32"),
    () => device.full([2], -1, "u32"),
    () => device.full([2], 2 ** 31, "i32"),
    () => device.full([2], 1.5, "i32"),
    () => device.full([2], "1" as never),
    () => device.full([2], 1, "f64" as never),
    () => device.zeros([NaN]),
    () => device.zeros([-1]),
    () => device.zeros([2 ** 30, 2 ** 30]),
    () => device.zeros(3 as never),
    () => device.zeros(undefined as never),
  ];
  for (const call of refused) {
    assertThrows(call, ShapeError, undefined, call.toString());
  }
});

Deno.test("plans, layers, optimizers and leaves refuse what they cannot take", () => {
  const plan = capture(device, [row], (x) => mul(x, 2));
  const layer = new engine.Linear(device, 3, 2, 1);
  const optimizer = new engine.SGD([leaf], { rate: 1 });
  const gone = device.tensor([1, 2, 3]);
  gone.dispose();
  const foreign = elsewhere.tensor([1, 2, 3]);
  const refused: readonly (readonly [name: string, call: () => unknown])[] = [
    ["replay", () => plan.replay(undefined as never)],
    ["replay", () => plan.replay([])],
    ["replay", () => plan.replay([x])],
    ["disposed", () => plan.replay([gone])],
    ["another device", () => plan.replay([foreign])],
    ["capture", () => capture(device, [gone], (x) => x)],
    ["capture", () => capture(device, [foreign], (x) => x)],
    ["load", () => layer.load(null as never)],
    ["load", () => layer.load([["weight", new Float32Array(5)]])],
    ["Linear", () => new engine.Linear(device, 3, 2, (() => undefined) as never)],
    ["Linear", () => new engine.Linear(device, 3, 2, () => row)],
    ["SGD", () => optimizer.step(NaN)],
    ["SGD", () => new engine.SGD([leaf], { rate: 1, momentun: 1 } as never)],
    ["SGD", () => new engine.SGD([leaf, foreign], { rate: 1 })],
    ["Adam", () => new engine.Adam([leaf], { rate: -1 })],
    ["betas", () => new engine.Adam([leaf], { rate: 1, betas: [0.9, 1] })],
    ["restore", () => optimizer.restore(undefined as never)],
    ["slot", () => device.zeros([2]).trainable({} as never)],
    ["clipGradients", () => engine.clipGradients([leaf], -1)],
    ["gradientNorm", () => engine.gradientNorm([], 1)],
  ];
  for (const [name, call] of refused) {
    const error = assertThrows(call, Error, name, call.toString());
    assert(error instanceof ShapeError || error instanceof LifetimeError, call.toString());
  }
  [plan, layer, optimizer].forEach((it) => it[Symbol.dispose]());
  // Nor does a rejection go unheard.
  assertThrows(() => engine.scope(() => Promise.reject(new Error("lost"))), TypeError, "scope");
});

Deno.test("numbers stand on either side of arithmetic and comparisons", async () => {
  const results: [Tensor, number[]][] = [
    [add(2, row), [3, 4, 5]],
    [sub(2, row), [1, 0, -1]],
    [mul(2, row), [2, 4, 6]],
    [div(6, row), [6, 3, 2]],
    [maximum(2, row), [2, 2, 3]],
    [less(2, row), [0, 0, 1]],
    [equal(2, row), [0, 1, 0]],
    [equal(device.tensor(Uint32Array.of(16777217, 16777216)), 16777217), [1, 0]],
    [where(row, 7, 8), [7, 7, 7]],
    [pow(2, row), [2, 4, 8]],
    [pow(row, row), [1, 4, 27]],
    [where(device.tensor([1, 0]), ids, 4294967295), [0, 4294967295]],
  ];
  for (const [t, expected] of results) assertEquals(await values(t), expected);
  using w = device.tensor([1, 2, 4]).trainable();
  backward(sum(div(8, w)));
  assertEquals([...await w.grad!.data()], [-8, -2, -0.5]);
});

Deno.test("integers are exact in full and pad", async () => {
  const cases: readonly ["u32" | "i32", readonly number[]][] = [
    ["u32", [16777217, 4294967295, 65536, 65535, 0, 2 ** 31 + 1]],
    ["i32", [16777217, -16777217, 2147483647, -2147483648, -1, -65537]],
  ];
  for (const [dtype, numbers] of cases) {
    for (const value of numbers) {
      assertEquals(await values(device.full([5], value, dtype)), new Array(5).fill(value));
      const one = device.full([1], 0, dtype);
      assertEquals(await values(pad(one, [[1, 2]], value)), [value, 0, value, value]);
    }
  }
  assertEquals(await values(device.full([3], NaN)), [NaN, NaN, NaN]);
});

Deno.test("tensor takes every array of numbers that it can hold, and says which it cannot", async () => {
  const taken: readonly [unknown, string, readonly number[], readonly number[]][] = [
    [new Float64Array([1.5, -2]), "f32", [2], [1.5, -2]],
    [new Float64Array([NaN, Infinity]), "f32", [2], [NaN, Infinity]],
    [new Uint8Array([0, 255]), "u32", [2], [0, 255]],
    [new Uint8ClampedArray([0, 255]), "u32", [2], [0, 255]],
    [new Uint16Array([65535]), "u32", [1], [65535]],
    [new Int8Array([-128, 127]), "i32", [2], [-128, 127]],
    [new Int16Array([-32768]), "i32", [1], [-32768]],
    [new BigInt64Array([-2147483648n]), "i32", [1], [-2147483648]],
    [new BigUint64Array([4294967295n]), "u32", [1], [4294967295]],
    [[[1, 2, 3], [4, 5, 6]], "f32", [2, 3], [1, 2, 3, 4, 5, 6]],
    [[[[1]], [[2]]], "f32", [2, 1, 1], [1, 2]],
    [[[], []], "f32", [2, 0], []],
    [[], "f32", [0], []],
  ];
  for (const [data, dtype, shape, expected] of taken) {
    using t = device.tensor(data as never);
    assertEquals([t.dtype, t.shape], [dtype, shape]);
    assertEquals(await values(t), [...expected]);
  }
  using shaped = device.tensor([[1, 2], [3, 4]], [4]);
  assertEquals(shaped.shape, [4]);
  for (
    const data of [
      [[1, 2], [3]],
      [[1, 2], 3],
      [1, [2]],
      [[1], [[2]]],
      ["1"],
      [true],
      [null],
      [undefined],
      [1n],
      [new Float32Array(2)],
      new BigInt64Array([2n ** 31n]),
      new BigUint64Array([2n ** 32n]),
      new BigInt64Array([2n ** 53n + 1n]),
      new Float64Array([1e39]),
      new ArrayBuffer(8),
      new DataView(new ArrayBuffer(8)),
      ...STRANGERS,
    ]
  ) {
    const live = device.memory.liveBuffers;
    assertThrows(() => device.tensor(data as never), ShapeError, "tensor", Deno.inspect(data));
    assertEquals(device.memory.liveBuffers, live);
  }
  assertThrows(() => device.write(row, new Float64Array(3) as never), ShapeError, "Float64Array");
});

Deno.test("strides of long tensors are no sizes: their product may be any number", async () => {
  const far = 2 ** 20;
  using long = device.full([far], 3);
  using view = long.view([1, 1, 1, 1, 2], [far, far, far, far, 1]);
  assertEquals(await values(add(view, 1)), [4, 4]);
});

Deno.test("seeds must have the shape and type of what they are the gradient of", () => {
  using w = device.tensor([1, 2, 3]).trainable();
  for (const seed of [device.tensor([1]), device.zeros([3, 1]), device.zeros([3], "u32")]) {
    assertThrows(() => backward(mul(w, 2), seed), ShapeError, "seed");
  }
});

Deno.test("noGrad refuses a body that waits, and records again after it", async () => {
  using w = device.tensor([1]).trainable();
  assertThrows(() => noGrad(async () => await w.data()), TypeError, "synchronous");
  // Nor does a rejection go unheard.
  assertThrows(() => noGrad(() => Promise.reject(new Error("lost"))), TypeError);
  backward(mul(w, 3));
  assertEquals([...await w.grad!.data()], [3]);
});

Deno.test("istft of f16 needs no window and gives the signal back", async () => {
  if (!device.features.f16) return;
  const signal = Float16Array.from({ length: 40 }, (_, i) => Math.sin(i * 0.7));
  using wave = device.tensor(signal);
  const window = device.tensor(Float16Array.from({ length: 8 }, (_, i) => 0.5 + i / 16));
  for (const options of [{ size: 8, hop: 4 }, { size: 8, hop: 4, window }]) {
    using back = istft(stft(wave, options), options);
    assertEquals([back.dtype, back.shape], ["f16", [40]]);
    (await back.data()).forEach((v, i) => assert(Math.abs(v - signal[i]) < 6e-3, `${i}: ${v}`));
  }
});

Deno.test("a disposed operand and one of another device are named", async () => {
  const gone = device.tensor([1]);
  gone.dispose();
  assertThrows(() => add(gone, 1), LifetimeError, "add");
  const other: Device = await openDevice();
  const error = assertThrows(() => add(row, other.tensor([1, 2, 3])), LifetimeError);
  assertStringIncludes(error.message, "devices");
  assertThrows(() => capture(device, undefined as never, () => row), Error);
  other[Symbol.dispose]();
});
