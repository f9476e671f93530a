/**
 * Draws against the numbers that they are made of, and their counts against the distributions:
 * Pearson's chi-squared at a significance of 1e-6. Seeds are fixed, so nothing here is flaky.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  bernoulli,
  categorical,
  expand,
  hostUniform,
  permutation,
  philox,
  Prng,
  randint,
  randLike,
  randnLike,
  randomNormal,
  scope,
  ShapeError,
} from "../../engine/mod.ts";
import { openDevice } from "../support/device.ts";

const device = await openDevice();
const COUNT = 20_000;

/** Holds counts against probabilities. */
function holdsCounts(counts: readonly number[], probabilities: readonly number[]): void {
  const total = counts.reduce((a, b) => a + b, 0);
  const statistic = counts.reduce(
    (sum, count, i) => sum + (count - total * probabilities[i]) ** 2 / (total * probabilities[i]),
    0,
  );
  // Wilson and Hilferty's quantile; 4.7534 is the normal one of 1 - 1e-6.
  const k = counts.length - 1;
  const most = k * (1 - 2 / (9 * k) + 4.7534 * Math.sqrt(2 / (9 * k))) ** 3;
  assert(statistic < most, `chi-squared is ${statistic}, at most ${most} is expected: ${counts}`);
}

const tally = (values: Iterable<number>, first: number, bins: number): number[] => {
  const counts = new Array<number>(bins).fill(0);
  for (const value of values) counts[value - first]++;
  return counts;
};

Deno.test("randint scales Philox's words to its range, evenly", async () => {
  const words = Array.from(
    { length: COUNT / 4 },
    (_, i) => philox([i, 0, 9, 0], [42, 7]),
  ).flat();
  const options = { stream: 7, step: 9 };
  using dice = randint(device, -3, 4, [COUNT], 42, options);
  const values = await dice.data<Int32Array>();
  assertEquals(values, Int32Array.from(words, (word) => Math.floor(word * 7 / 2 ** 32) - 3));
  holdsCounts(tally(values, -3, 7), Array(7).fill(1 / 7));
  using all = randint(device, 0, 2 ** 32, [8], 42, options);
  assertEquals(await all.data<Uint32Array>(), Uint32Array.from(words.slice(0, 8)));
  assertThrows(() => randint(device, 3, 3, [1], 0), ShapeError, "high is 3");
  assertThrows(() => randint(device, -1, 2 ** 31 + 1, [1], 0), ShapeError, "beside i32");
});

Deno.test("bernoulli draws 1 where the uniform number is below the probability", async () => {
  const p = Float32Array.from({ length: COUNT }, (_, i) => (i % 4) / 3);
  using probabilities = device.tensor(p);
  using drawn = bernoulli(probabilities, 5, { stream: 1 });
  const values = await drawn.data();
  const u = hostUniform(COUNT, 5, 1);
  assertEquals(values, Float32Array.from(u, (it, i) => +(it < p[i])));
  for (const [k, probability] of [[1, 1 / 3], [2, 2 / 3]]) {
    const ones = values.filter((_, i) => i % 4 === k);
    holdsCounts(tally(ones, 0, 2), [1 - probability, probability]);
  }
  assertThrows(() => bernoulli(device.zeros([2], "u32"), 0), ShapeError, "are floats");
});

Deno.test("categorical draws classes with the probabilities of the softmax", async () => {
  const logits = [0.5, -1, 2, -Infinity, 0];
  const weights = logits.map(Math.exp);
  const total = weights.reduce((a, b) => a + b);
  using drawn = scope(() => {
    const columns = device.tensor(logits, [5, 1]);
    return categorical(expand(columns, [5, COUNT]), 11, { axis: 0 });
  });
  assertEquals([drawn.shape, drawn.dtype], [[COUNT], "u32"]);
  const counts = tally(await drawn.data<Uint32Array>(), 0, 5);
  assertEquals(counts[3], 0);
  holdsCounts(
    counts.filter((_, k) => k !== 3),
    weights.filter((_, k) => k !== 3).map((weight) => weight / total),
  );
  assertThrows(() => categorical(device.zeros([2, 3]), 0, { axis: 2 }), ShapeError, "axis 2");
});

Deno.test("a permutation holds every number once, and every order is as probable", async () => {
  using order = permutation(device, 257, 3);
  const values = await order.data<Uint32Array>();
  assertEquals(values, new Prng(3).permutation(257));
  assertEquals(values.toSorted(), Uint32Array.from(values, (_, i) => i));
  const random = new Prng(8);
  const orders = Array.from({ length: 6000 }, () => {
    const [a, b, c] = random.permutation(3);
    return 2 * a + +(b > c);
  });
  holdsCounts(tally(orders, 0, 6), Array(6).fill(1 / 6));
});

Deno.test("numbers like a tensor have its shape and element type", async () => {
  using x = device.zeros([3, 5]);
  using uniform = randLike(x, 1, { low: 2, high: 3 });
  using normal = randnLike(x, 1, { mean: 4 });
  using same = randomNormal(device, [3, 5], 1, { mean: 4 });
  assertEquals(await uniform.data(), Float32Array.from(hostUniform(15, 1), (u) => 2 + u));
  assertEquals(await normal.data(), await same.data());
  if (device.features.f16) {
    using half = device.zeros([7], "f16");
    using drawn = randLike(half, 1);
    assertEquals([drawn.dtype, drawn.shape], ["f16", [7]]);
  }
  assertThrows(() => randLike(device.zeros([2], "u32"), 1), ShapeError, "floats is needed");
});
