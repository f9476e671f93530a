/** Tensors made from sizes and ranges, against values as NumPy 1.26 gives them. */
import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  arange,
  emptyLike,
  eye,
  fullLike,
  hannWindow,
  linspace,
  meshgrid,
  onesLike,
  scope,
  ShapeError,
  type Tensor,
  zerosLike,
} from "../../engine/mod.ts";
import { openDevice } from "../support/device.ts";

const device = await openDevice();

async function seen(make: () => Tensor): Promise<[readonly number[], string, number[]]> {
  using y = scope(make);
  return [y.shape, y.dtype, [...await y.data()]];
}

Deno.test("arange stops before its end, in both directions", async () => {
  assertEquals(await seen(() => arange(device, 4)), [[4], "f32", [0, 1, 2, 3]]);
  assertEquals(await seen(() => arange(device, 2, { start: -1, dtype: "i32" })), [
    [3],
    "i32",
    [-1, 0, 1],
  ]);
  assertEquals(await seen(() => arange(device, 0, { start: 5, step: -2, dtype: "u32" })), [
    [3],
    "u32",
    [5, 3, 1],
  ]);
  const tenths = Array.from({ length: 10 }, (_, i) => Math.fround(i * 0.1));
  assertEquals(await seen(() => arange(device, 1, { step: 0.1 })), [[10], "f32", tenths]);
  assertEquals(await seen(() => arange(device, -1)), [[0], "f32", []]);
  assertThrows(() => arange(device, 3, { step: 0 }), ShapeError, "steps of 0");
  assertThrows(() => arange(device, 3, { step: 0.5, dtype: "u32" }), ShapeError, "0.5 beside u32");
  assertThrows(() => arange(device, Infinity), ShapeError, "stop is Infinity");
});

Deno.test("the Hann window is periodic: it adds up to 1 with itself half a frame later", async () => {
  const [shape, dtype, window] = await seen(() => hannWindow(device, 8));
  assertEquals([shape, dtype, window[0], window[4]], [[8], "f32", 0, 1]);
  for (let i = 0; i < 4; i++) assertAlmostEquals(window[i] + window[i + 4], 1, 1e-7);
  assertThrows(() => hannWindow(device, 0), ShapeError, "hannWindow: the size");
});

Deno.test("linspace holds both ends exactly", async () => {
  assertEquals(await seen(() => linspace(device, 0, 1, 5)), [[5], "f32", [0, 0.25, 0.5, 0.75, 1]]);
  const [, , values] = await seen(() => linspace(device, 0.1, 0.7, 7));
  assertEquals([values[0], values[6]], [Math.fround(0.1), Math.fround(0.7)]);
  assertEquals(await seen(() => linspace(device, 3, 9, 1)), [[1], "f32", [3]]);
  assertEquals(await seen(() => linspace(device, 5, 1, 3, "i32")), [[3], "i32", [5, 3, 1]]);
  assertThrows(() => linspace(device, 0, 1, -1), ShapeError, "the count");
});

Deno.test("identities, tensors like others, and grids", async () => {
  assertEquals(await seen(() => eye(device, 2)), [[2, 2], "f32", [1, 0, 0, 1]]);
  assertEquals(await seen(() => eye(device, 2, 3, "i32")), [[2, 3], "i32", [1, 0, 0, 0, 1, 0]]);
  using x = device.tensor(new Int32Array([4, 5]), [1, 2]);
  assertEquals(await seen(() => zerosLike(x)), [[1, 2], "i32", [0, 0]]);
  assertEquals(await seen(() => onesLike(x, "f32")), [[1, 2], "f32", [1, 1]]);
  assertEquals(await seen(() => fullLike(x, -7)), [[1, 2], "i32", [-7, -7]]);
  assertEquals(scope(() => emptyLike(x).shape), [1, 2]);
  assertThrows(() => fullLike(x, 0.5), ShapeError, "0.5 beside i32");
  using rows = device.tensor([1, 2]);
  using columns = device.tensor([3, 4, 5]);
  for (
    const [indexing, a, b] of [
      ["ij", [[2, 3], "f32", [1, 1, 1, 2, 2, 2]], [[2, 3], "f32", [3, 4, 5, 3, 4, 5]]],
      ["xy", [[3, 2], "f32", [1, 2, 1, 2, 1, 2]], [[3, 2], "f32", [3, 3, 4, 4, 5, 5]]],
    ] as const
  ) {
    const grid = (i: number) => seen(() => meshgrid([rows, columns], { indexing })[i]);
    assertEquals([await grid(0), await grid(1)] as unknown, [a, b]);
  }
  assertThrows(() => meshgrid([x]), ShapeError, "[1, 2] is no vector");
});
