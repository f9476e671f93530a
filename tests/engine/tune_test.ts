/**
 * The tuner measures variants with clearly different work, so that the outcome does not hang on a
 * noisy clock.
 */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import {
  add,
  type Device,
  fingerprint,
  matmul,
  openDevice,
  scope,
  tune,
} from "../../engine/mod.ts";
import { fullOnly, test } from "../support/tier.ts";

/** Launches `times` additions on memory of its own. */
function additions(device: Device, times: number): void {
  const x = device.zeros([1 << 16]);
  for (let i = 0; i < times; i++) add(x, x);
}

/** An op with a slow default and a fast alternative; returns the variant that it picks. */
function work(device: Device, key = "demo/1"): string {
  return device.tuning.pick(
    key,
    ["slow", "fast"],
    () => (name) => additions(device, name === "slow" ? 60 : 1),
  );
}

test("the faster variant is remembered, and a later device can take it over", async () => {
  using device = await openDevice();
  assertEquals(work(device), "slow", "the default before anything was measured");
  const { result, open } = device.tuning.collect(() => work(device));
  assertEquals(result, "slow");
  assertEquals(open.map(({ key, variants }) => [key, variants]), [["demo/1", ["slow", "fast"]]]);
  const live = device.memory.liveBuffers;
  const told: string[] = [];
  const replaced = await tune(device, open, {
    rounds: 3,
    progress: (done, all, key) => told.push(`${done}/${all} ${key}`),
  });
  assertEquals(replaced, 1);
  assertEquals(told, ["0/1 demo/1"]);
  assertEquals(work(device), "fast");
  assertEquals(work(device, "demo/2"), "slow", "another shape class has its own choice");
  assertEquals(device.memory.liveBuffers, live, "scratch memory is given back");
  const entry = device.tuning.entries.get("demo/1")!;
  assertEquals(entry.ratios.slow, 1);
  assert(entry.ratios.fast < 0.95);
  assertEquals(
    device.tuning.collect(() => work(device)).open,
    [],
    "what is known is not asked again",
  );

  using later = await openDevice();
  later.tuning.load(device.tuning.entries);
  assertEquals(work(later), "fast");
});

test("a variant that is no faster leaves the default", async () => {
  using device = await openDevice();
  const pick = () =>
    device.tuning.pick(
      "demo/3",
      ["fast", "slow"],
      () => (name) => additions(device, name === "slow" ? 60 : 1),
    );
  assertEquals(await tune(device, device.tuning.collect(pick).open, { rounds: 3 }), 0);
  assertEquals(pick(), "fast");
});

test("deterministic devices ignore measurements, overrides win over both", async () => {
  using fixed = await openDevice({ deterministic: true });
  fixed.tuning.load([["demo/1", { variant: "fast", ratios: {} }]]);
  assertEquals(work(fixed), "slow");
  assertEquals(fixed.tuning.collect(() => work(fixed)).open, []);
  using forced = await openDevice({ deterministic: true, variants: { demo: "fast" } });
  assertEquals(work(forced), "fast");
  using unfit = await openDevice({ variants: { demo: "unheard of" } });
  assertEquals(work(unfit), "slow", "an override that does not fit is passed over");
  assertEquals([unfit, forced].map(({ tuning }) => tuning.unusedOverrides), [["demo"], []]);
});

test("a remembered variant that no longer exists is passed over", async () => {
  using device = await openDevice();
  device.tuning.load([["demo/1", { variant: "removed", ratios: {} }]]);
  assertEquals(work(device), "slow");
});

fullOnly("tuning real products changes no result beyond rounding", async () => {
  using device = await openDevice();
  using a = device.tensor(Float32Array.from({ length: 72 * 40 }, (_, i) => Math.sin(i)), [72, 40]);
  using b = device.tensor(Float32Array.from({ length: 40 * 64 }, (_, i) => Math.cos(i)), [40, 64]);
  const product = () => scope(() => matmul(a, b));
  const { result: before, open } = device.tuning.collect(product);
  assert(open.length > 0, "a product has variants");
  await tune(device, open, { rounds: 1, burstMs: 1 });
  const after = product();
  const [x, y] = [await before.data(), await after.data()];
  // Sums of 40 products below 1 in different orders.
  x.forEach((value, i) => assert(Math.abs(value - y[i]) <= 1e-5));
  [before, after].forEach((t) => t.dispose());
});

test("the fingerprint is stable and tells devices with other features apart", async () => {
  using device = await openDevice();
  using plain = await openDevice({ subgroups: false });
  assertEquals(await fingerprint(device), await fingerprint(device));
  if (device.features.subgroups) {
    assertNotEquals(await fingerprint(device), await fingerprint(plain));
  }
});
