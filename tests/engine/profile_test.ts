/** Profiles: every dispatch is timed, and nothing after the body. */
import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { openDevice } from "../../engine/device.ts";
import { add, mul } from "../../engine/ops/elementwise.ts";
import { matmul } from "../../engine/ops/matmul.ts";
import { sum } from "../../engine/ops/reduce.ts";
import { chromeTrace, type Profile, profile, table } from "../../engine/profile.ts";
import { scope } from "../../engine/scope.ts";

const device = await openDevice();

const ceilings = { fmaGflops: 100, copyGbps: 10 };

/** Seven products, fourteen maps and, above one query set, more maps. */
async function measure(timestamps: boolean, more = 0): Promise<Profile> {
  const x = device.full([64, 48], 0.5);
  const w = device.full([48, 32], 0.25);
  const result = await profile(device, async () => {
    for (let i = 0; i < 7; i++) {
      const y = scope(() => {
        const z = matmul(x, w);
        return mul(add(z, z), z);
      });
      if (i === 3) assertEquals((await y.data())[0], 72, "reading in between is allowed");
      y.dispose();
    }
    for (let i = 0; i < more; i++) scope(() => mul(w, w));
  }, { timestamps, ceilings });
  x.dispose();
  w.dispose();
  return result;
}

const callsOf = (result: Profile) =>
  Object.fromEntries(result.kernels.map((it) => [it.name.split("_")[0], it.calls]));

for (const timestamps of device.features.timestamps ? [true, false] : [false]) {
  const clock = timestamps ? "timestamps" : "wall";

  Deno.test(`profile by ${clock}: kernels, calls, times, bytes and arithmetic`, async () => {
    const result = await measure(timestamps);
    assertEquals(result.clock, clock);
    assertEquals(callsOf(result), { gemm: 7, elementwise: 14 });
    assertEquals(result.events.length, 21);
    for (const { ms, share, gbps, ceiling } of result.kernels) {
      assert(ms > 0 && share > 0 && share < 1 && gbps > 0 && ceiling!.fraction > 0);
    }
    assertAlmostEquals(result.kernels.reduce((all, it) => all + it.share, 0), 1);
    assertAlmostEquals(
      result.kernelMs,
      result.events.reduce((all, it) => all + it.duration, 0) / 1000,
    );
    assert(result.kernelMs < result.wallMs);
    const starts = result.events.map((it) => it.start);
    assertEquals(starts, starts.toSorted((a, b) => a - b));

    const gemm = result.variants.find((it) => it.name.startsWith("gemm"))!;
    assertEquals([gemm.calls, gemm.flops], [7, 7 * 2 * 64 * 48 * 32]);
    assertEquals(gemm.bytes, 7 * 4 * (64 * 48 + 48 * 32 + 64 * 32));
    assertEquals(gemm.variant, "64x48 · 48x32");
    assertAlmostEquals(gemm.gflops!, gemm.flops! / gemm.ms / 1e6, 1e-9);
    const maps = result.variants.filter((it) => it.name === "elementwise");
    assertEquals(maps.map((it) => [it.calls, it.flops]), [[7, undefined], [7, undefined]]);
  });

  Deno.test(`profile by ${clock}: the table is aligned and sorted, the trace opens`, async () => {
    const result = await measure(timestamps);
    const [title, header, ...rows] = table(result).split("\n");
    assertStringIncludes(title, "21 dispatches");
    assertStringIncludes(title, timestamps ? "timestamps of the device" : "no timestamps");
    assertEquals(rows.length, result.variants.length);
    assertEquals(rows.filter((row) => row.startsWith("gemm")).length, 1);
    assertEquals(new Set(rows.map((row) => row.indexOf(" %"))).size, 1, "columns stand in line");
    assertStringIncludes(header, "GFLOP/s");
    const times = result.variants.map((it) => it.ms);
    assertEquals(times, times.toSorted((a, b) => b - a));
    assertEquals(table(result, "kernels").split("\n").length, 2 + result.kernels.length);
    assert(!table(result, "kernels").includes("variant"));

    const { traceEvents } = JSON.parse(chromeTrace(result));
    const complete = traceEvents.filter((it: { ph: string }) => it.ph === "X");
    assertEquals(complete.length, 21);
    for (const { name, ts, dur, args } of complete) {
      assert(name.length > 0 && ts >= 0 && dur >= 0 && args.bytes > 0);
    }
  });
}

Deno.test("profile: more dispatches than one query set holds", async () => {
  const result = await measure(true, 5000);
  assertEquals(callsOf(result), { gemm: 7, elementwise: 5014 });
  assertEquals(result.events.filter((it) => it.duration > 0).length > 5000, true);
});

Deno.test("profile: nothing is measured after it, also when the body throws", async () => {
  const failing = profile(device, () => Promise.reject(new RangeError("mine")));
  assertEquals(await failing.catch((error) => error.message), "mine");
  assertEquals(device.observer, undefined);
  const submits = device.counters.submits;
  using x = device.tensor([1, 2, 3]);
  using y = scope(() => sum(mul(x, 2)));
  assertEquals(await y.item(), 12);
  assertEquals(device.counters.submits, submits + 1);
  assertEquals((await profile(device, () => {})).events, []);
});
