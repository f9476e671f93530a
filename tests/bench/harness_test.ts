/** Measuring: medians, repeats and what is counted. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { affordablePart, relativeError } from "../../bench/case.ts";
import {
  fractionsOf,
  isNoisy,
  median,
  NOISE_LIMIT,
  noiseOf,
  quantile,
  spreadOf,
} from "../../bench/harness.ts";
import { adapterKey, judge, judgementTable, learn } from "../../bench/check.ts";
import type { Device } from "../../engine/mod.ts";

Deno.test("statistics of samples", () => {
  assertEquals(median([3, 1, 2]), 2);
  assertEquals(median([4, 1, 2, 3]), 2.5);
  assertEquals(quantile([10, 0, 20, 30, 40], 0.25), 10);
  assertEquals(quantile([0, 10], 0.75), 7.5);
  assertEquals(quantile([7], 0.9), 7);
  // Quartiles 2 and 4 around 3.
  assertAlmostEquals(spreadOf([1, 2, 3, 4, 5]), 1 / 3, 1e-15);
  assertEquals(spreadOf([5]), 0);
});

Deno.test("a machine that changes its speed leaves fractions as they are", () => {
  const speed = [1, 1.5, 2, 1, 0.5, 0.5];
  const ceilings = speed.map((s) => 80 * s);
  const rates = speed.slice(1).map((s, i) => 20 * (s + speed[i]));
  fractionsOf(rates, ceilings).forEach((it) => assertAlmostEquals(it, 0.5, 1e-12));
});

Deno.test("noise: a slow drift is none to neighbours, jumps are", () => {
  const drifting = noiseOf([[100, 99, 98], [70, 69, 68], [50, 49, 48]]);
  assert(drifting.jitter < 0.03 && drifting.drift > 0.1, JSON.stringify(drifting));
  assert(!isNoisy(drifting));
  const jumping = noiseOf([[100, 50, 100, 50], [55, 98, 51, 99]]);
  assert(isNoisy(jumping), JSON.stringify(jumping));
  assert(isNoisy({ drift: NOISE_LIMIT.drift * 1.01, jitter: 0 }));
  // Jumps between rows are drift alone, and one sample is no noise.
  assertEquals(noiseOf([[100, 100], [50, 50]]).jitter, 0);
  assertEquals(noiseOf([[100]]), { drift: 0, jitter: 0 });
});

Deno.test("results: error relative to the largest value; NaN never agrees", () => {
  assertAlmostEquals(relativeError([1, -4, 2], [1, -4.4]), 0.1, 1e-12);
  assertEquals(relativeError([0, 0], [0, 0]), 0);
  assertEquals(relativeError([1, 2], [1, NaN]), Infinity);
  assertEquals(relativeError([NaN, 2], [1, 2]), Infinity);
  // Later numbers must not hide it.
  assertEquals(relativeError([NaN, 9], [1, 1]), Infinity);
});

Deno.test("slow kernels do a part on processors only", () => {
  const on = (software: boolean) => ({ info: { software } }) as Device;
  assertEquals(affordablePart(on(true), 1000, 12.7), 12);
  assertEquals(affordablePart(on(true), 1000, 0.1), 1);
  assertEquals(affordablePart(on(true), 5, 12.7), 5);
  assertEquals(affordablePart(on(false), 1000, 12.7), 1000);
});

const row = (name: string, fraction: number, fraction_spread = 0.02) => ({
  name,
  fraction,
  fraction_spread,
});

Deno.test("learning: median, twice the largest distance, never so wide that two thirds of the speed pass", () => {
  const learned = learn([
    [row("steady", 0.5), row("wide", 0.5), row("wild", 0.5)],
    [row("steady", 0.51), row("wide", 0.44), row("wild", 0.1)],
    [row("steady", 0.49), row("wide", 0.55), row("wild", 0.9)],
  ]);
  assertEquals(learned.steady, { fraction: 0.5, band: 0.15 });
  assertEquals(learned.wide, { fraction: 0.5, band: 0.24 });
  assertEquals(learned.wild.fraction, 0.5);
  for (const [name, { fraction, band }] of Object.entries(learned)) {
    assert(fraction * (1 - band) > fraction * 2 / 3, name);
  }
});

Deno.test("judging: passed, failed, too noisy; what nothing is expected of is left out", () => {
  const expectations = {
    a: { fraction: 0.6, band: 0.2 },
    b: { fraction: 0.6, band: 0.2 },
    c: { fraction: 0.6, band: 0.2 },
    d: { fraction: 0.6, band: 0.2 },
  };
  const rows = [row("a", 0.49), row("b", 0.47), row("c", 0.3, 0.4), row("d", 0.9), row("e", 0)];
  const verdicts = judge(rows, expectations).map(({ name, verdict }) => `${name} ${verdict}`);
  assertEquals(verdicts, ["a passed", "b failed", "c noisy", "d passed"]);
  const generous = judge(rows, expectations, 0.5).map(({ verdict }) => verdict);
  assertEquals(generous, ["passed", "passed", "passed", "passed"]);
  assertEquals(judge([row("a", 0.29)], expectations, 0.5)[0].verdict, "failed");
  const table = judgementTable(judge(rows.slice(1, 2), expectations)).split("\n");
  assertEquals(table.length, 2);
  for (const word of ["b", "60.0%", "48.0%", "47.0%", "failed"]) assert(table[1].includes(word));
});

Deno.test("a kernel that fell against its ceiling alone, not against its plain kernel, is no failure", () => {
  const expectations = { a: { fraction: 0.6, band: 0.2, naive_ratio: 10 } };
  const verdictOf = (naive_ratio?: number) =>
    judge([{ ...row("a", 0.3), naive_ratio }], expectations)[0].verdict;
  assertEquals([9, 8.1, 7.9, undefined].map(verdictOf), ["passed", "passed", "failed", "failed"]);
  const learned = learn([6, 9, 7].map((naive_ratio) => [{ ...row("a", 0.5), naive_ratio }]));
  assertEquals(learned.a, { fraction: 0.5, band: 0.15, naive_ratio: 7 });
});

Deno.test("baselines of processors know the number of cores", () => {
  assertEquals(adapterKey({ description: "llvmpipe", software: true }, 2), "llvmpipe, 2 cores");
  assertEquals(adapterKey({ description: "H200", software: false }, 2), "H200");
});
