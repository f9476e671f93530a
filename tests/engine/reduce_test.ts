/** Sums, minima and maxima along axes, against sums in another order and any binding limit. */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import type { Device } from "../../engine/device.ts";
import { ShapeError } from "../../engine/errors.ts";
import { max, mean, min, reduceInto, sum, sumOfSquares, sumTo } from "../../engine/ops/reduce.ts";
import { prod } from "../../engine/ops/scan.ts";
import { refBroadcast, refFrom, refUnbroadcast } from "../../engine/reference.ts";
import { scope } from "../../engine/scope.ts";
import { sizeOf } from "../../engine/shape.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { openDevice } from "../support/device.ts";
import { full, test } from "../support/tier.ts";

const device = await openDevice();
const small = await openDevice({ bindingLimit: 4096 });

/** Small whole numbers: every sum below 2^24 is exact, so results are compared bit for bit. */
const whole = (size: number): Float32Array =>
  Float32Array.from({ length: size }, (_, i) => i * 7919 % 23 - 11);

const upload = (on: Device, shape: readonly number[]): Tensor =>
  on.tensor(whole(sizeOf(shape)), shape);

Deno.test("sumTo undoes any broadcasting, whatever the binding limit", async () => {
  const shapes = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 4 }).chain((
    shape,
  ) =>
    fc.record({
      shape: fc.constant(shape),
      kept: fc.array(fc.boolean(), { minLength: shape.length, maxLength: shape.length }),
      dropped: fc.integer({ min: 0, max: shape.length }),
    })
  );
  await fc.assert(
    fc.asyncProperty(shapes, async ({ shape, kept, dropped }) => {
      const target = shape.map((size, axis) => kept[axis] ? size : 1).slice(dropped);
      const expected = refUnbroadcast(Float64Array.from(whole(sizeOf(shape))), shape, target);
      for (const on of [device, small]) {
        using x = upload(on, shape);
        using result = sumTo(x, target);
        assertEquals([...await result.data()], [...expected.data]);
      }
    }),
    { numRuns: full ? 20 : 5 },
  );
});

test("sumTo writes into part of another tensor and nothing else", async () => {
  using x = upload(device, [5, 3]);
  using arena = device.zeros([40]);
  using part = arena.view([3], [1], 13);
  sumTo(x, [3], part);
  const data = [...await arena.data()];
  const expected = [...refUnbroadcast(Float64Array.from(whole(15)), [5, 3], [3]).data];
  assertEquals(data.slice(13, 16), expected);
  assertEquals(data.filter((v) => v !== 0).length, expected.filter((v) => v !== 0).length);
});

test("sumTo refuses shapes that do not broadcast", () => {
  using x = upload(device, [5, 3]);
  assertStringIncludes(assertThrows(() => sumTo(x, [2]), ShapeError).message, "[2]");
  assertThrows(() => sumTo(x, [1, 5, 3]), ShapeError);
  assertThrows(() => sum(x, { axes: [2] }), ShapeError, "axis 2");
});

test("long sums stay exact to a few ulp and repeat bit for bit", async () => {
  const n = 3_000_001;
  // 0.1f is no power of two: a running f32 sum of 3 million of them is off by 3e-2.
  using x = device.tensor(new Float32Array(n).fill(0.1));
  using total = sum(x);
  using again = sum(x);
  using squares = sumOfSquares(x);
  using columns = sum(x.view([1000, 3000]), { axes: [0] });
  const value = await total.item();
  assert(Math.abs(value / (n * Math.fround(0.1)) - 1) < 1e-6, `${value}`);
  assertEquals(await again.item(), value);
  assert(Math.abs(await squares.item() / (n * Math.fround(0.1) ** 2) - 1) < 1e-6);
  assert((await columns.data()).every((v) => Math.abs(v / (1000 * Math.fround(0.1)) - 1) < 1e-6));
});

test("slices too large for two to share a binding are added one by one", async () => {
  const shape = [2, 3, 1500];
  const data = whole(9000);
  using x = small.tensor(data, shape);
  const results = scope(
    () => [sum(x, { axes: [1] }), mean(x, { axes: [1] }), max(x, { axes: [1] })],
  );
  const [total, average, top] = await small.read(results);
  for (let i = 0; i < 3000; i++) {
    const at = Math.floor(i / 1500) * 4500 + i % 1500;
    const column = [data[at], data[at + 1500], data[at + 3000]];
    const s = column[0] + column[1] + column[2];
    assertEquals(total[i], s);
    assert(Math.abs(average[i] - s / 3) < 1e-6);
    assertEquals(top[i], Math.max(...column));
  }
  results.forEach((t) => t.dispose());
});

Deno.test("integers are summed, multiplied and compared exactly, and wrap around", async () => {
  const cases = [[[3, 77, 5], [1]], [[7, 9], [0]], [[2, 3, 4, 5], [0, 2]], [[2, 5000], [0, 1]]];
  for (const [shape, axes] of full ? cases : cases.slice(-2)) {
    const kept = shape.map((size, axis) => axes.includes(axis) ? 1 : size);
    for (const dtype of full ? ["u32", "i32"] as const : ["i32"] as const) {
      const array = dtype === "u32" ? Uint32Array : Int32Array;
      // All bits are in use; odd factors keep products from 0.
      const values = new array(sizeOf(shape)).map((_, i) => Math.imul(i, 2654435769) | 1);
      const at = refBroadcast(refFrom(kept, (i) => i), shape);
      const slices = Array.from({ length: sizeOf(kept) }, (): bigint[] => []);
      values.forEach((value, i) => slices[at[i]].push(BigInt(value)));
      const wanted = (join: (a: bigint, b: bigint) => bigint): number[] => {
        const folded = slices.map((them) => Number(BigInt.asIntN(32, them.reduce(join))));
        return [...new array(folded)];
      };
      using x = device.tensor(values, shape);
      const results = scope(() =>
        [sum, prod, max, min].map((reduce) => reduce(x, { axes, keepDims: true }))
      );
      const found = (await device.read(results)).map((it) => [...it]);
      const label = `[${shape}] over ${axes} of ${dtype}`;
      assertEquals(results.map((it) => [it.dtype, it.shape]), results.map(() => [dtype, kept]));
      assertEquals(found[0], wanted((a, b) => a + b), `sum of ${label}`);
      assertEquals(found[1], wanted((a, b) => BigInt.asIntN(32, a * b)), `product of ${label}`);
      assertEquals(found[2], wanted((a, b) => a > b ? a : b), `maximum of ${label}`);
      assertEquals(found[3], wanted((a, b) => a < b ? a : b), `minimum of ${label}`);
      results.forEach((it) => it.dispose());
    }
  }
  using none = device.zeros([2, 0], "u32");
  const [zeros, ones] = scope(() => [sum(none, { axes: [1] }), prod(none, { axes: [1] })]);
  assertEquals([...await zeros.data(), ...await ones.data()], [0, 0, 1, 1]);
  assertThrows(() => max(none), ShapeError, "max: [2, 0] has no elements");
  assertThrows(() => mean(none), ShapeError, "mean: the operand is u32");
});

test("empty axes give the neutral element", async () => {
  using x = device.empty([2, 0, 3]);
  using zeros = sum(x, { axes: [1] });
  assertEquals([...await zeros.data()], [0, 0, 0, 0, 0, 0]);
  using lowest = device.empty([2]);
  reduceInto(lowest, x, { outer: 2, reduce: 0, inner: 1 }, "max");
  assertEquals([...await lowest.data()], [-Infinity, -Infinity]);
});

Deno.test("minima, maxima and sums agree with and without subgroups and in f16", async () => {
  const plain = await openDevice({ subgroups: false });
  const shapes = [
    [[3, 777], 1],
    [[700, 96], 0],
    [[2, 130, 36], 1],
    [[2, 150_004], 1],
    [[5, 1200], 1],
    // Several short rows per lane, blocks of a long row, each of odd lengths too.
    [[1500, 100], 1],
    [[1501, 101], 1],
    [[1, 150_001], 1],
    // Columns in streams: more than a lane holds, all of a row, few.
    [[2, 303, 768], 1],
    [[4001, 52], 0],
    [[9001, 12], 0],
  ] as const;
  for (const [shape, axis] of full ? shapes : shapes.slice(0, 4)) {
    // Multiples of 1/8 up to 11/8: f16 holds them, and their sums in f32 are exact.
    const data = whole(sizeOf(shape)).map((v) => v / 8);
    const kept = shape.map((size, i) => i === axis ? 1 : size);
    const inner = sizeOf(shape.slice(axis + 1));
    const slices = Array.from({ length: sizeOf(kept) }, (_, i) =>
      Array.from(
        { length: shape[axis] },
        (_, k) => data[(Math.floor(i / inner) * shape[axis] + k) * inner + i % inner],
      ));
    // Small bindings take hundreds of launches for the large ones.
    for (const on of data.length < 10_000 ? [device, plain, small] : [device, plain]) {
      for (const values of on.features.f16 ? [data, Float16Array.from(data)] : [data]) {
        using x = on.tensor(values, shape);
        const results = [sum, max, min].map((op) => op(x, { axes: [axis] }));
        const [total, top, bottom] = await on.read(results);
        const round = values instanceof Float16Array ? Math.f16round : Math.fround;
        assertEquals([...total], slices.map((s) => round(s.reduce((a, b) => a + b))));
        assertEquals([...top], slices.map((s) => s.reduce((a, b) => Math.max(a, b))));
        assertEquals([...bottom], slices.map((s) => s.reduce((a, b) => Math.min(a, b))));
        results.forEach((t) => t.dispose());
      }
    }
  }
});
