/**
 * Views, shapes and triangles against values as NumPy 1.26 prints them, mostly of
 * x = arange(12).reshape(3, 4).
 */
import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  at,
  chunk,
  diag,
  diagonal,
  flatten,
  flip,
  type Index,
  moveaxis,
  pad,
  repeatInterleave,
  roll,
  scope,
  ShapeError,
  squeeze,
  swapaxes,
  type Tensor,
  tile,
  tril,
  triu,
  unsqueeze,
} from "../../engine/mod.ts";
import { openDevice } from "../support/device.ts";

const device = await openDevice();
const x = device.tensor(Uint32Array.from({ length: 12 }, (_, i) => i), [3, 4]);

/** Shape and values. */
async function seen(make: () => Tensor): Promise<[readonly number[], number[]]> {
  using y = scope(make);
  return [y.shape, [...await y.data()]];
}

Deno.test("at takes numbers, slices with steps, ellipses and new axes", async () => {
  const cases: [Index[], number[], number[]][] = [
    [[1], [4], [4, 5, 6, 7]],
    [[-1], [4], [8, 9, 10, 11]],
    [[-1, -2], [], [10]],
    [["...", 1], [3], [1, 5, 9]],
    [[":", "1:-1"], [3, 2], [1, 2, 5, 6, 9, 10]],
    [["::2", "::3"], [2, 2], [0, 3, 8, 11]],
    [["::-1"], [3, 4], [8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3]],
    [[0, "::-2"], [2], [3, 1]],
    [[0, "-1:-3:-1"], [2], [3, 2]],
    [[0, "10:0:-3"], [1], [3]],
    [[0, "2:1"], [0], []],
    [["5:"], [0, 4], []],
    [[null, 0, "...", null, "2:"], [1, 1, 2], [2, 3]],
    [["..."], [3, 4], [...Array(12).keys()]],
  ];
  for (const [indices, shape, values] of cases) {
    assertEquals(await seen(() => at(x, ...indices)), [shape, values], JSON.stringify(indices));
  }
});

Deno.test("at refuses what is no index, and says where", () => {
  assertThrows(
    () => at(x, 3),
    ShapeError,
    "3 for axis 0 of [3, 4]; a whole number from -3 below 3",
  );
  assertThrows(() => at(x, ":", 1.5), ShapeError, "1.5 for axis 1 of [3, 4]");
  assertThrows(() => at(x, 0, 0, 0), ShapeError, "3 indices for [3, 4]");
  assertThrows(() => at(x, "...", "..."), ShapeError, "2 times");
  assertThrows(() => at(x, "::0"), ShapeError, "the step");
  assertThrows(() => at(x, "1:1.5"), ShapeError, `"1:1.5" for axis 0`);
  assertThrows(() => at(x, "a:b" as Index), ShapeError, `"a:b" for axis 0`);
});

Deno.test("a slice takes the places that stepping from start to stop meets", async () => {
  const line = device.tensor(Uint32Array.from({ length: 7 }, (_, i) => i));
  const bound = fc.option(fc.integer({ min: -9, max: 9 }));
  const step = fc.integer({ min: -4, max: 4 }).filter((it) => it !== 0);
  await fc.assert(
    fc.asyncProperty(bound, bound, step, async (start, stop, by) => {
      // Python's rule, one place at a time.
      const clip = (value: number | null, missing: number, low: number, high: number) =>
        value === null ? missing : Math.min(Math.max(value < 0 ? value + 7 : value, low), high);
      const [low, high] = by > 0 ? [0, 7] : [-1, 6];
      const end = clip(stop, by > 0 ? 7 : -1, low, high);
      const places: number[] = [];
      for (
        let place = clip(start, by > 0 ? 0 : 6, low, high);
        by > 0 ? place < end : place > end;
        place += by
      ) places.push(place);
      const [, values] = await seen(() => at(line, `${start ?? ""}:${stop ?? ""}:${by}`));
      assertEquals(values, places);
    }),
    { numRuns: 60, seed: 3 },
  );
  line.dispose();
});

Deno.test("axes are dropped, added, merged, moved and turned", async () => {
  const shapeOf = (make: () => Tensor) => scope(() => make().shape);
  const cube = device.zeros([2, 1, 3, 1]);
  assertEquals(shapeOf(() => squeeze(cube)), [2, 3]);
  assertEquals(shapeOf(() => squeeze(cube, -1)), [2, 1, 3]);
  assertEquals(shapeOf(() => squeeze(cube, [1, 3])), [2, 3]);
  assertEquals(shapeOf(() => unsqueeze(cube, -1)), [2, 1, 3, 1, 1]);
  assertEquals(shapeOf(() => unsqueeze(cube, 2)), [2, 1, 1, 3, 1]);
  assertEquals(shapeOf(() => flatten(cube)), [6]);
  assertEquals(shapeOf(() => flatten(cube, 1, -2)), [2, 3, 1]);
  assertEquals(shapeOf(() => flatten(device.zeros([]))), [1]);
  assertEquals(shapeOf(() => swapaxes(cube, 0, -2)), [3, 1, 2, 1]);
  assertEquals(shapeOf(() => moveaxis(cube, 0, -1)), [1, 3, 1, 2]);
  assertEquals(shapeOf(() => moveaxis(cube, [0, 2], [3, 0])), [3, 1, 1, 2]);
  assertEquals(scope(() => chunk(x, 3, 1).map((it) => it.shape)), [[3, 2], [3, 2]]);
  assertEquals(scope(() => chunk(x, 2).map((it) => it.shape)), [[2, 4], [1, 4]]);
  cube.dispose();
  assertEquals(await seen(() => flip(x, 1)), [
    [3, 4],
    [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8],
  ]);
  assertEquals(await seen(() => flip(x)), [[3, 4], [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]]);
  assertEquals(await seen(() => swapaxes(x, 0, 1)), [
    [4, 3],
    [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11],
  ]);
  assertThrows(() => squeeze(x, 0), ShapeError, "axis 0 of [3, 4] has size 3");
  assertThrows(() => moveaxis(x, [0, 0], [0, 1]), ShapeError, "twice");
  assertThrows(() => flatten(x, 1, 0), ShapeError, "comes before");
});

Deno.test("values are rolled, tiled and repeated", async () => {
  const line = device.tensor([1, 2, 3]);
  assertEquals(await seen(() => roll(x, 5)), [[3, 4], [7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6]]);
  assertEquals(await seen(() => roll(x, [1, -1], [0, 1])), [
    [3, 4],
    [9, 10, 11, 8, 1, 2, 3, 0, 5, 6, 7, 4],
  ]);
  assertEquals(await seen(() => tile(line, [2])), [[6], [1, 2, 3, 1, 2, 3]]);
  assertEquals(await seen(() => tile(device.tensor([[1, 2]]), [2])), [[1, 4], [1, 2, 1, 2]]);
  assertEquals(await seen(() => repeatInterleave(line, 2)), [[6], [1, 1, 2, 2, 3, 3]]);
  assertEquals(await seen(() => repeatInterleave(line, [0, 2, 1])), [[3], [2, 2, 3]]);
  assertThrows(() => repeatInterleave(line, [1, 2]), ShapeError, "3 whole numbers");
  assertThrows(() => roll(x, [1, 2], 0), ShapeError, "differ in number");
  line.dispose();
});

Deno.test("triangles and diagonals", async () => {
  assertEquals(await seen(() => tril(x)), [[3, 4], [0, 0, 0, 0, 4, 5, 0, 0, 8, 9, 10, 0]]);
  assertEquals(await seen(() => triu(x, 1)), [[3, 4], [0, 1, 2, 3, 0, 0, 6, 7, 0, 0, 0, 11]]);
  assertEquals(await seen(() => diag(x, 1)), [[3], [1, 6, 11]]);
  assertEquals(await seen(() => diag(x, -2)), [[1], [8]]);
  assertEquals(await seen(() => diag(device.tensor([1, 2]), -1)), [
    [3, 3],
    [0, 0, 0, 1, 0, 0, 0, 2, 0],
  ]);
  assertEquals(await seen(() => diagonal(device.zeros([2, 3, 4]), 0, 0, 1)), [
    [4, 2],
    Array(8).fill(0),
  ]);
  assertThrows(() => diag(x, 5), ShapeError, "no diagonal 5");
  assertThrows(() => tril(device.zeros([3])), ShapeError, "no matrix");
});

Deno.test("pad: rows none of which begin aligned with another in one binding", async () => {
  using small = await openDevice({ bindingLimit: 4096, offsetAlignment: 256 });
  const [rows, length] = [3, 601];
  const values = Float32Array.from({ length: rows * length }, (_, i) => i);
  using x = small.tensor(values, [rows, length]);
  using y = pad(x, [[0, 0], [5, 7]], "reflect");
  const expected = Array.from({ length: rows * (length + 12) }, (_, i) => {
    const [row, at] = [Math.floor(i / (length + 12)), Math.abs(i % (length + 12) - 5)];
    return row * length + (at < length ? at : 2 * (length - 1) - at);
  });
  assertEquals([...await y.data()], expected);
});
