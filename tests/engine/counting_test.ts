/** Counts of values, found on the host: NumPy's `unique`, `bincount` and `histogram`. */
import { assertEquals, assertRejects } from "@std/assert";
import {
  add,
  allclose,
  bincount,
  countNonzero,
  histogram,
  permute,
  ShapeError,
  unique,
} from "../../engine/mod.ts";
import { openDevice } from "../support/device.ts";

const device = await openDevice();

Deno.test("the values of a tensor, their counts and places, NaN last and one", async () => {
  const x = device.tensor([2, NaN, -1, 2, 0, -0, Infinity, NaN], [2, 4]);
  const { values, counts, inverse, first } = await unique(x);
  assertEquals([...values], [-1, 0, 2, Infinity, NaN]);
  assertEquals([...counts], [1, 2, 2, 1, 2]);
  assertEquals([...inverse], [2, 4, 0, 2, 1, 1, 3, 4]);
  assertEquals([...first], [2, 4, 0, 6, 1]);
  // A view is read in its own order, and integers stay such.
  const whole = permute(device.tensor(Int32Array.of(3, -1, 3, 2), [2, 2]), [1, 0]);
  const own = await whole.unique();
  assertEquals(own.values, Int32Array.of(-1, 2, 3));
  assertEquals([...own.inverse], [2, 2, 0, 1]);
  assertEquals((await unique(device.empty([0, 3]))).values.length, 0);
});

Deno.test("whole numbers are counted from 0 on", async () => {
  const x = device.tensor(Uint32Array.of(1, 4, 1, 0), [2, 2]);
  assertEquals(await bincount(x), Uint32Array.of(1, 2, 0, 0, 1));
  assertEquals((await bincount(x, { least: 7 })).length, 7);
  assertEquals(await bincount(device.zeros([0], "u32")), new Uint32Array(0));
  await assertRejects(
    () => bincount(device.tensor(Int32Array.of(2, -3))),
    ShapeError,
    "bincount: -3 in a tensor [2] of i32 is below 0",
  );
  await assertRejects(() => bincount(device.zeros([2])), ShapeError, "of integers");
});

Deno.test("parts of a histogram begin with their lower end, the last holds both", async () => {
  // np.histogram([0, 1, 2, 2.5, 3, 4, nan, -9], 4, (0, 4)) without NaN.
  const x = device.tensor([0, 1, 2, 2.5, 3, 4, NaN, -9]);
  const { counts, edges } = await histogram(x, { bins: 4, range: [0, 4] });
  assertEquals([...counts], [1, 1, 2, 2]);
  assertEquals([...edges], [0, 1, 2, 3, 4]);
  // Tenths are rounded, and so is a quotient by them; np.histogram(x, 10) has one in each.
  const tenths = Float32Array.from({ length: 11 }, (_, i) => i / 10);
  const all = await device.tensor(tenths).histogram();
  assertEquals(all.counts.reduce((a, b) => a + b), 11);
  tenths.forEach((value) => {
    const bin = all.edges.findLastIndex((edge) => edge <= value);
    assertEquals(all.counts[Math.min(bin, 9)] > 0, true);
  });
  assertEquals([...(await histogram(device.full([3], 2), { bins: 2 })).edges], [1.5, 2, 2.5]);
  await assertRejects(() => histogram(x), ShapeError, "histogram: a tensor [8] of f32 holds NaN");
  await assertRejects(() => histogram(x, { range: [2, 1] }), ShapeError, "the high end");
});

Deno.test("close tensors, and how many elements are not 0", async () => {
  const x = device.tensor([1, 2, NaN]);
  assertEquals(await allclose(x, add(x, 1e-6)), false);
  assertEquals(await x.allclose(add(x, 1e-6), { equalNan: true }), true);
  assertEquals(await allclose(x, add(x, 1e-3), { equalNan: true }), false);
  // The difference of unsigned integers would wrap around.
  const [few, more] = [[1, 7], [2, 7]].map((it) => device.tensor(Uint32Array.from(it)));
  assertEquals(await allclose(few, more, { atol: 1 }), true);
  assertEquals(await countNonzero(device.full([70_001], 1, "f16")).item(), 70_001);
});
