/**
 * Rows, lists of indices and margins just longer than the loops of one invocation could go
 * (kernels/README.md, Loops end): ops against their float64 references. The full tier has all of
 * them, f16, captured plans and larger sizes.
 */
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { openDevice } from "../../engine/device.ts";
import type { HostArray } from "../../engine/dtype.ts";
import {
  argmax,
  argsort,
  embedding,
  layerNorm,
  logSoftmax,
  max,
  mean,
  min,
  scatterAdd,
  softmax,
  sum,
  topk,
  variance,
} from "../../engine/mod.ts";
import { type RefArray, registry } from "../../engine/op.ts";
import { capture } from "../../engine/plan.ts";
import { refFrom, refZeros } from "../../engine/reference.ts";
import { scope } from "../../engine/scope.ts";
import { backward } from "../../engine/tape.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { refRandom } from "../support/random.ts";
import { fullOnly, test } from "../support/tier.ts";

const device = await openDevice();

/** An op at a size. */
interface Case {
  readonly op: string;
  readonly inputs: readonly RefArray[];
  /** Inputs that are indices, or get no gradient. */
  readonly indices?: readonly number[];
  readonly constant?: readonly number[];
  readonly attrs: unknown;
  /** Part of the quick tier. */
  readonly quick?: boolean;
}

/** Indices all over the place, some often. */
const refIds = (n: number, most: number): RefArray =>
  refFrom([1, n], (i) => i % 3 === 0 ? 0 : (i * 7919 + i % 31) % most);

const row = (n: number, seed = 1): RefArray => refRandom([1, n], seed);
const along = { axis: 1, keepDims: false };
const value = (v: number): RefArray => ({ shape: [1], data: Float64Array.of(v) });
/** Beyond what kernels that walk a row three times did. */
const LONG = 1_398_101;

const CASES: readonly Case[] = [
  { op: "argmax", inputs: [row(4_190_213)], attrs: along, quick: true },
  { op: "argsort", inputs: [row(262_147)], attrs: { descending: false } },
  { op: "topk", inputs: [row(262_147)], attrs: { k: 70_001, descending: true } },
  { op: "gather", inputs: [row(50), refIds(65_543, 50)], indices: [1], attrs: null, quick: true },
  {
    op: "batchedIndexSelect",
    inputs: [refRandom([1, 7, 3], 1), refIds(65_543, 7)],
    indices: [1],
    attrs: { unique: false },
    quick: true,
  },
  {
    op: "batchedIndexSelect",
    inputs: [
      refRandom([1, 2_100_001, 1], 1),
      refFrom([1, 2_100_001], (i) => (i * 7919) % 2_100_001),
    ],
    indices: [1],
    attrs: { unique: true },
  },
  {
    op: "pad",
    inputs: [refRandom([2, 3, 5], 1)],
    attrs: { widths: [[0, 0], [32_768, 32_770], [0, 0]], fill: "replicate" },
    quick: true,
  },
  { op: "softmax", inputs: [row(LONG)], attrs: { temperature: 0.5 }, quick: true },
  { op: "logSoftmax", inputs: [row(LONG), value(2)], constant: [1], attrs: { temperature: 2 } },
  { op: "layerNorm", inputs: [row(LONG), 2, 3].map(vector), attrs: { eps: 1e-6 } },
  { op: "rmsNorm", inputs: [row(2_097_101), 2].map(vector), attrs: { eps: 1e-6 } },
  { op: "l2Normalize", inputs: [row(2_097_101)], attrs: { eps: 1e-12 } },
  { op: "cosineLoss", inputs: [row(2_097_101), row(2_097_101, 2)], attrs: { eps: 1e-12 } },
  {
    op: "crossEntropy",
    inputs: [row(LONG), value(LONG - 1)],
    indices: [1],
    attrs: null,
  },
  {
    op: "centredCrossEntropy",
    inputs: [row(LONG), row(LONG, 2), refRandom([LONG], 3), value(0.5)],
    constant: [1, 2, 3],
    attrs: { studentTemperature: 0.5 },
  },
];

/** A row as it is; a seed as a vector of the length of the row before it. */
function vector(it: RefArray | number, _: number, all: readonly (RefArray | number)[]): RefArray {
  return typeof it === "number" ? refRandom([(all[0] as RefArray).data.length], it) : it;
}

type Float = "f32" | "f16";

const round: Readonly<Record<Float, (v: number) => number>> = {
  f32: Math.fround,
  f16: Math.f16round,
};

function upload({ data, shape }: RefArray, dtype: Float | "u32", on = device): Tensor {
  const host: HostArray = dtype === "u32"
    ? Uint32Array.from(data)
    : dtype === "f16"
    ? Float16Array.from(data)
    : Float32Array.from(data);
  return on.tensor(host, shape);
}

/** Holds values to those in float64, relative to the largest, but for `least`. */
function assertClose(
  what: string,
  actual: ArrayLike<number>,
  expected: Float64Array,
  tolerance: number,
  least = 0,
): void {
  assertEquals(actual.length, expected.length, what);
  let [most, error] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    most = Math.max(most, Math.abs(expected[i]));
    const off = Math.abs(actual[i] - expected[i]);
    if (!(off <= error)) error = off;
  }
  assert(error <= tolerance * most + least, `${what}: off by ${error / most} of the largest`);
}

/** Results and gradients of a case. */
function launch(test: Case, leaves: readonly Tensor[], seed: Tensor): Tensor[] {
  const [y, ...others] = registry().get(test.op)!.apply(leaves, test.attrs);
  if (y.node) {
    leaves.forEach((leaf) => leaf.requiresGrad && leaf.zeroGrad());
    backward(y, seed);
  }
  return [y, ...others];
}

async function check(test: Case, dtype: Float, on = device): Promise<void> {
  const op = registry().get(test.op)!;
  const { indices = [], constant = [] } = test;
  const inputs = test.inputs.map((x, i) =>
    indices.includes(i) ? x : { shape: x.shape, data: x.data.map(round[dtype]) }
  );
  const leaves = inputs.map((x, i) => {
    const leaf = upload(x, indices.includes(i) ? "u32" : dtype, on);
    return indices.includes(i) || constant.includes(i) ? leaf : leaf.trainable();
  });
  const expected = op.reference.forward(inputs, test.attrs);
  const seed = refRandom(expected[0].shape, 9);
  seed.data.forEach((v, i) => seed.data[i] = round[dtype](v));
  using gradient = upload(seed, dtype, on);
  const outputs = scope(() => launch(test, leaves, gradient));
  const read = async (ys: readonly Tensor[]) => {
    const grads = leaves.flatMap(({ grad }) => grad ? [grad] : []);
    return await on.read([...ys, ...grads]);
  };
  const actual = await read(outputs);
  const seeds = expected.map((y, i) => i === 0 ? seed : refZeros(y.shape));
  const grads = op.reference.backward?.(inputs, test.attrs, seeds) ?? [];
  const wanted = [
    ...expected,
    ...grads.filter((g, i) => g && !indices.includes(i) && !constant.includes(i)),
  ];
  assertEquals(actual.length, wanted.length);
  // Of f16 the smallest are 2^-24 apart, and probabilities in such rows are not much larger.
  const allowed = dtype === "f32" ? [1e-5] : [2 ** -9, 2 ** -23];
  wanted.forEach((x, i) => assertClose(`result ${i}`, actual[i], x!.data, allowed[0], allowed[1]));
  outputs.forEach((y) => y.dispose());
  leaves.forEach((leaf) => leaf.dispose());
}

for (const it of CASES) {
  const label = `${it.op} ${JSON.stringify(it.inputs.map(({ shape }) => shape))}`;
  const tier = it.quick ? test : fullOnly;
  tier(`beyond one invocation's loops: ${label}`, () => check(it, "f32"));
  fullOnly(`beyond one invocation's loops, f16: ${label}`, () => check(it, "f16"));
}

const small = await openDevice({ bindingLimit: 4096 });
const ones = (n: number): RefArray => refFrom([n], () => 1);

/** Rows and slices that a binding of 960 elements does not hold. */
const UNBINDABLE: readonly Case[] = [
  { op: "argmax", inputs: [refRandom([3, 5001], 1)], attrs: along, quick: true },
  { op: "argmax", inputs: [row(2_000_003)], attrs: along },
  { op: "argmin", inputs: [refRandom([2, 1001, 5], 1)], attrs: along },
  { op: "argmin", inputs: [refRandom([2, 7, 1301], 1)], attrs: along },
  { op: "argmin", inputs: [refRandom([2, 1, 1301], 1)], attrs: along },
  {
    op: "gather",
    inputs: [refRandom([3, 2003], 1), refFrom([3, 1201], (i) => i * 7919 % 2003)],
    indices: [1],
    attrs: null,
  },
  { op: "oneHot", inputs: [refFrom([5], (i) => i * 400)], indices: [0], attrs: { classes: 2003 } },
  {
    op: "crossEntropy",
    inputs: [refRandom([5, 2003], 1), refFrom([5], (i) => i * 400)],
    indices: [1],
    attrs: null,
    quick: true,
  },
  { op: "softmax", inputs: [refRandom([3, 2003], 1)], attrs: { temperature: 0.5 } },
  {
    op: "layerNorm",
    inputs: [refRandom([3, 2003], 1), ones(2003), ones(2003)],
    attrs: { eps: 1e-6 },
  },
  { op: "rmsNorm", inputs: [refRandom([3, 2003], 1), ones(2003)], attrs: { eps: 1e-6 } },
  {
    op: "residualLayerNorm",
    inputs: [refRandom([3, 2003], 1), refRandom([3, 2003], 2), ones(2003), ones(2003)],
    attrs: { eps: 1e-6 },
  },
  { op: "l2Normalize", inputs: [refRandom([3, 2003], 1)], attrs: { eps: 1e-12 } },
];

for (const it of UNBINDABLE) {
  const label = `${it.op} ${JSON.stringify(it.inputs.map(({ shape }) => shape))}`;
  const tier = it.quick ? test : fullOnly;
  tier(`beyond a binding: ${label}`, () => check(it, "f32", small));
  fullOnly(`beyond a binding, f16: ${label}`, () => check(it, "f16", small));
}

test("what cannot be split is refused by name and rule", () => {
  const x = small.zeros([3, 2003]);
  const rule = /a row of \d+ bytes.* exceeds the adapter's binding limit of 4096 bytes/;
  for (const op of [() => argsort(x), () => topk(x, 2), () => embedding(x, [1])]) {
    const { message } = assertThrows(op, RangeError);
    assertMatch(message, rule);
    assert(op.toString().includes(message.split(":")[0]), message);
  }
});

fullOnly("beyond one invocation's loops: a captured plan gives the eager bits", async () => {
  for (const test of CASES.filter(({ op, quick }) => quick || op === "layerNorm")) {
    const leaves = test.inputs.map((x, i) =>
      test.indices?.includes(i) ? upload(x, "u32") : upload(x, "f32").trainable()
    );
    const [{ shape }] = registry().get(test.op)!.reference.forward(test.inputs, test.attrs);
    const seed = upload(refRandom(shape, 9), "f32");
    const read = async (ys: readonly Tensor[]) =>
      await device.read([...ys, ...leaves.flatMap(({ grad }) => grad ? [grad] : [])]);
    const eager = await read(scope(() => launch(test, leaves, seed)));
    using plan = capture(device, [], () => launch(test, leaves, seed));
    for (const _ of [0, 1]) {
      const replayed = await read(plan.replay([]));
      replayed.forEach((values, i) => assert(sameValues(values, eager[i]), test.op));
    }
    [...leaves, seed].forEach((t) => t.dispose());
  }
});

/** Whether no value differs; assertEquals takes minutes for millions. */
const sameValues = (a: ArrayLike<number>, b: ArrayLike<number>): boolean =>
  a.length === b.length && !Array.prototype.some.call(a, (v, i) => v !== b[i]);

/** From -1 to 2, exact in f32, with one largest and one smallest value. */
function wave(n: number): Float32Array {
  const x = Float32Array.from({ length: n }, (_, i) => (i * 7919 % 3067 - 1024) / 1024);
  x[n - 7] = 3;
  x[n - 9] = -3;
  return x;
}

fullOnly("sums, means, maxima and variances of 25 M elements, argmax of 5 M", async () => {
  const n = 25_000_003;
  const host = wave(n);
  const total = host.reduce((a, b) => a + b, 0);
  const squares = host.reduce((a, b) => a + (b - total / n) ** 2, 0);
  using x = device.tensor(host);
  const results = [sum(x), mean(x), max(x), min(x), variance(x)];
  const [[s], [m], [most], [least], [v]] = await device.read(results);
  assertClose("sum, mean", [s, m * n], Float64Array.of(total, total), 1e-6);
  assertEquals([most, least], [3, -3]);
  assertClose("variance", [v], Float64Array.of(squares / (n - 1)), 1e-6);
  using short = device.tensor(wave(5_000_000));
  assertEquals([...(await device.read([argmax(short)]))[0]], [5_000_000 - 7]);
});

fullOnly("softmax of 6 M sums to 1, logSoftmax of 20 M", async () => {
  using x = device.tensor(wave(6_000_000));
  const [[one]] = await device.read([sum(softmax(x))]);
  assert(Math.abs(one - 1) < 1e-6, `${one}`);
  const host = wave(20_000_000);
  const log = Math.log(host.reduce((a, b) => a + Math.exp(b), 0));
  using y = device.tensor(host);
  using result = logSoftmax(y);
  assertClose("logSoftmax", await result.data(), Float64Array.from(host, (v) => v - log), 1e-6);
});

fullOnly("hundreds of thousands of rows, indices and equal indices", async () => {
  const [rows, width] = [300_007, 33];
  const host = wave(rows * width);
  using x = device.tensor(host, [rows, width]);
  using y = softmax(x);
  const normal = layerNorm(x, device.full([width], 1), device.zeros([width]), 0);
  const [sums, squares] = [y, normal].map((t, i) =>
    i === 0 ? sum(t, { axes: [1] }) : variance(t, { axes: [1], correction: 0 })
  );
  for (const values of await device.read([sums, squares])) {
    assertClose("rows", values, new Float64Array(rows).fill(1), 1e-5);
  }
  // All rows meet in one, and each in that of its remainder.
  const columns = Float64Array.from({ length: width }, (_, k) => {
    let total = 0;
    for (let r = 0; r < rows; r++) total += host[r * width + k];
    return total;
  });
  using one = scatterAdd(x, device.full([rows], 0, "u32"), 1);
  assertClose("equal indices", await one.data(), columns, 1e-5);
  using table = device.tensor(wave(7 * 3), [7, 3]).trainable();
  using ids = device.tensor(Uint32Array.from({ length: rows }, (_, i) => i % 7));
  scope(() => backward(sum(embedding(table, ids))));
  const counts = Float64Array.from(
    { length: 21 },
    (_, i) => Math.ceil((rows - Math.floor(i / 3)) / 7),
  );
  assertEquals([...await table.grad!.data()], [...counts]);
  using many = device.tensor(wave(300_007));
  const [[top]] = await device.read([topk(many, 5).values]);
  assertEquals(top, 3);
});
