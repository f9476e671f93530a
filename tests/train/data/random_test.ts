/** The generator of the host against its published recurrence, and its distributions. */
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertNotEquals,
  assertThrows,
} from "@std/assert";
import fc from "fast-check";
import { Prng, type PrngState } from "../../../engine/prng.ts";

/** xoshiro128** as published, in BigInt arithmetic. */
function referenceSequence(words: readonly number[], count: number): number[] {
  const mask = (1n << 32n) - 1n;
  const rotate = (x: bigint, k: bigint): bigint => ((x << k) | (x >> (32n - k))) & mask;
  const s = words.map(BigInt);
  return Array.from({ length: count }, () => {
    const result = (rotate((s[1] * 5n) & mask, 7n) * 9n) & mask;
    const t = (s[1] << 9n) & mask;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 11n);
    return Number(result);
  });
}

Deno.test("prng follows the published xoshiro128** recurrence", () => {
  const prng = new Prng(2024, 7);
  const expected = referenceSequence(prng.state().words, 1000);
  assertEquals(expected.map(() => prng.next()), expected);
});

Deno.test("prng goes on identically from a state that went through JSON", () => {
  const prng = new Prng(5);
  for (let i = 0; i < 17; i++) prng.next();
  const saved = JSON.parse(JSON.stringify(prng.state())) as PrngState;
  const copy = Prng.fromState(saved);
  for (let i = 0; i < 100; i++) assertEquals(copy.next(), prng.next());
});

Deno.test("prng gives different sequences for different seeds and streams", () => {
  const seeds = [[0], [1], [-1], [2 ** 32], [2 ** 40], [1, 0], [0, 1], [1, 1]];
  const firsts = seeds.map(([seed, ...rest]) => new Prng(seed, ...rest).state().words.join());
  assertEquals(new Set(firsts).size, seeds.length);
});

Deno.test("prng refuses a seed that is not an integer", () => {
  assertThrows(() => new Prng(0.5), RangeError, "seed");
  assertThrows(() => new Prng(NaN), RangeError, "seed");
});

Deno.test("uniform stays in its bounds and has the right mean and variance", () => {
  const prng = new Prng(1);
  let sum = 0, squares = 0;
  const count = 100_000;
  for (let i = 0; i < count; i++) {
    const x = prng.uniform();
    assert(x >= 0 && x < 1);
    sum += x;
    squares += x * x;
  }
  const mean = sum / count;
  assertAlmostEquals(mean, 0.5, 5 / Math.sqrt(12 * count));
  assertAlmostEquals(squares / count - mean * mean, 1 / 12, 2e-3);
  for (let i = 0; i < 1000; i++) {
    const x = prng.uniform(-3, 5);
    assert(x >= -3 && x < 5);
  }
});

Deno.test("integer covers its range evenly, by a chi-squared test", () => {
  const prng = new Prng(3);
  for (const n of [2, 7, 100]) {
    const counts = new Array<number>(n).fill(0);
    const expected = 1000;
    for (let i = 0; i < n * expected; i++) counts[prng.integer(n)]++;
    const chi = counts.reduce((s, c) => s + (c - expected) ** 2 / expected, 0);
    // Five standard deviations of a chi-squared variable with n - 1 degrees of freedom.
    assert(chi < n - 1 + 5 * Math.sqrt(2 * (n - 1)) + 10, `n ${n}: ${chi}`);
  }
  // 3 * 2^30 does not divide 2^32: a plain remainder would favour the lowest third by 2 to 1.
  const n = 3 * 2 ** 30;
  let low = 0;
  for (let i = 0; i < 30_000; i++) low += prng.integer(n) < 2 ** 30 ? 1 : 0;
  assertAlmostEquals(low / 30_000, 1 / 3, 0.015);
  assertEquals(prng.integer(1), 0);
});

Deno.test("integer refuses an empty or oversized range", () => {
  const prng = new Prng(3);
  for (const n of [0, -1, 1.5, NaN, 2 ** 32 + 1]) {
    assertThrows(() => prng.integer(n), RangeError, "integer(n)");
  }
});

Deno.test("normal has mean 0, variance 1, kurtosis 3 and only finite values", () => {
  const prng = new Prng(9);
  const count = 200_000;
  let sum = 0, squares = 0, fourth = 0;
  for (let i = 0; i < count; i++) {
    const x = prng.normal();
    assert(Number.isFinite(x));
    sum += x;
    squares += x ** 2;
    fourth += x ** 4;
  }
  assertAlmostEquals(sum / count, 0, 5 / Math.sqrt(count));
  assertAlmostEquals(squares / count, 1, 0.02);
  assertAlmostEquals(fourth / count, 3, 0.15);
});

Deno.test("permutation holds every index once, for any length and seed", () => {
  fc.assert(
    fc.property(fc.nat(300), fc.integer(), (n, seed) => {
      const order = new Prng(seed).permutation(n);
      assertEquals([...order].sort((a, b) => a - b), [...Array(n).keys()]);
    }),
    { numRuns: 50 },
  );
});

Deno.test("permutation reaches all orders of three about equally often", () => {
  const prng = new Prng(4);
  const counts = new Map<string, number>();
  for (let i = 0; i < 6000; i++) {
    const key = prng.permutation(3).join();
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  assertEquals(counts.size, 6);
  for (const count of counts.values()) assertAlmostEquals(count, 1000, 150);
  assertNotEquals(
    new Prng(1, 0).permutation(50).join(),
    new Prng(1, 1).permutation(50).join(),
  );
});
