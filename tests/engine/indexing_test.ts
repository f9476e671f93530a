/** Indices out of range: on the host a clear error, on the GPU a defined result. */
import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../engine/errors.ts";
import {
  embedding,
  type Fold,
  gather,
  indexSelect,
  scatterAdd,
} from "../../engine/ops/indexing.ts";
import { maskedFill, nonzero } from "../../engine/ops/masks.ts";
import { scatter } from "../../engine/ops/scatter.ts";
import { sum } from "../../engine/ops/reduce.ts";
import { batchedIndexSelect } from "../../engine/ops/batched_index_select.ts";
import { scope } from "../../engine/scope.ts";
import { backward } from "../../engine/tape.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { openDevice } from "../support/device.ts";

const device = await openDevice();
/** 33 rows of 4 floats do not fit a binding, so that tables come in pieces. */
const small = await openDevice({ bindingLimit: 512 });

const ids = (values: number[], shape?: number[], on = device): Tensor =>
  on.tensor(Uint32Array.from(values), shape);
const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** Result and gradient of `x` where the result's is 1. */
async function both(x: Tensor, f: (x: Tensor) => Tensor): Promise<[number[], number[]]> {
  using y = scope(() => {
    const y = f(x.trainable());
    backward(sum(y));
    return y;
  });
  const [values, grads] = await x.device.read([y, x.grad!]);
  return [[...values], [...grads]];
}

Deno.test("indices out of range: an embedding's row is NaN and its table gets no gradient from it", async () => {
  for (const width of [3, 4]) {
    using table = device.tensor(range(2 * width), [2, width]);
    const [y, dtable] = await both(table, (t) => embedding(t, ids([1, 2, 0, 2 ** 32 - 1])));
    const rows = [1, NaN, 0, NaN];
    assertEquals(y, rows.flatMap((row) => range(width).map((c) => row * width + c)));
    assertEquals(dtable, Array(2 * width).fill(1));
  }
});

Deno.test("indices out of range: the same when the table is bound in pieces", async () => {
  using table = small.tensor(range(4 * 100), [100, 4]);
  const [y, dtable] = await both(table, (t) => embedding(t, ids([99, 100, 3], undefined, small)));
  assertEquals(y, [396, 397, 398, 399, NaN, NaN, NaN, NaN, 12, 13, 14, 15]);
  assertEquals(dtable.map((g, i) => g ? Math.floor(i / 4) : -1).filter((row) => row >= 0), [
    ...[3, 3, 3, 3],
    ...[99, 99, 99, 99],
  ]);
});

Deno.test("indices out of range: gather, scatterAdd and batchedIndexSelect", async () => {
  using x = device.tensor(range(6), [2, 3]);
  assertEquals(
    await both(x, (t) => gather(t, ids([0, 3, 2, 7], [2, 2]))),
    [[0, NaN, 5, NaN], [1, 0, 0, 0, 0, 1]],
  );
  using values = device.tensor([1, 2, 3, 4], [2, 2]);
  assertEquals(
    await both(values, (t) => scatterAdd(t, ids([2, 1]), 2)),
    [[0, 0, 3, 4], [NaN, NaN, 1, 1]],
  );
  for (const unique of [true, false]) {
    using tokens = device.tensor(range(6), [1, 3, 2]);
    assertEquals(
      await both(tokens, (t) => batchedIndexSelect(t, ids([3, 1], [1, 2]), { unique })),
      [[NaN, NaN, 2, 3], [0, 0, 1, 1, 0, 0]],
    );
    // As many indices as tokens, and no permutation: what nobody named gets zeros.
    using more = device.tensor(range(6), [1, 3, 2]);
    assertEquals(
      await both(more, (t) => batchedIndexSelect(t, ids([3, 1, 7], [1, 3]), { unique })),
      [[NaN, NaN, 2, 3, NaN, NaN], [0, 0, 1, 1, 0, 0]],
    );
  }
});

Deno.test("indices of the host are used as given and leave nothing behind", async () => {
  using x = device.tensor(range(6), [2, 3]);
  const { liveBuffers } = device.memory;
  {
    using rows = embedding(x, [1, 1]);
    using columns = scope(() => indexSelect(x, new Uint32Array([2, 0]), 1));
    using dense = scope(() => scatterAdd(x, [1, 1], 2));
    assertEquals([...await rows.data()], [3, 4, 5, 3, 4, 5]);
    assertEquals(columns.shape, [2, 2]);
    assertEquals([...await dense.data()], [0, 0, 0, 3, 5, 7]);
  }
  assertEquals(device.memory.liveBuffers, liveBuffers);
});

Deno.test("indices of the host are checked before anything runs", () => {
  using x = device.tensor(range(6), [2, 3]);
  const before = device.counters.dispatches;
  const message = (index: number, of: number, value: number, size: number) =>
    `index ${index} of ${of} is ${value}; whole numbers from 0 below ${size} are needed`;
  assertThrows(() => embedding(x, [0, 2]), ShapeError, `embedding: ${message(1, 2, 2, 2)}`);
  assertThrows(() => indexSelect(x, [3], 1), ShapeError, `indexSelect: ${message(0, 1, 3, 3)}`);
  assertThrows(() => indexSelect(x, [-1]), ShapeError, message(0, 1, -1, 2));
  assertThrows(() => indexSelect(x, [0.5]), ShapeError, message(0, 1, 0.5, 2));
  assertThrows(() => scatterAdd(x, [0, 4], 4), ShapeError, `scatterAdd: ${message(1, 2, 4, 4)}`);
  assertEquals(device.counters.dispatches, before);
});

/** Values of a tensor that is made in a scope. */
async function seen(make: () => Tensor): Promise<number[]> {
  using y = scope(make);
  return [...await y.data()];
}

Deno.test("gather and scatter go along any axis, with indices of a part", async () => {
  // torch 1.13.1: x = arange(6).reshape(2, 3); scatter, scatter_add, scatter_reduce("amax").
  using x = device.tensor(range(6), [2, 3]);
  using index = ids([1, 0, 1, 1], [2, 2]);
  using values = device.tensor([10, 20, -30, 40, 99, 99], [2, 3]);
  assertEquals(await seen(() => gather(x, index, 0)), [3, 1, 3, 4]);
  assertEquals(await seen(() => gather(x, ids([2, 0], [1, 2]), 1)), [2, 0]);
  const cases: [Fold, number, number[]][] = [
    ["set", 0, [0, 20, 2, 40, 99, 5]],
    ["add", 0, [0, 21, 2, 53, 103, 5]],
    ["max", 0, [0, 20, 2, 40, 99, 5]],
    ["set", 1, [20, 10, 2, 3, 99, 5]],
    ["add", 1, [20, 11, 2, 3, 143, 5]],
    ["max", 1, [20, 10, 2, 3, 99, 5]],
  ];
  for (const [reduce, axis, expected] of cases) {
    const result = await seen(() => scatter(x, index, values, { axis, reduce }));
    assertEquals(result, expected, `${reduce} along ${axis}`);
  }
  assertEquals(await seen(() => scatter(x, ids([2], [1, 1]), -1)), [0, 1, -1, 3, 4, 5]);
  assertThrows(() => gather(x, ids([0, 0, 0], [3, 1])), ShapeError, "do not fit [2, 3]");
  assertThrows(() => scatter(x, ids([0, 0, 0], [3, 1]), 1), ShapeError, "do not fit [2, 3]");
  assertThrows(() => scatter(x, index, device.zeros([1, 2])), ShapeError, "values [1, 2] of f32");
});

Deno.test("indices out of range: scatter writes nowhere, the last of several values stays", async () => {
  for (const reduce of ["set", "max"] as const) {
    using x = device.tensor([1, 2, 3]);
    using values = device.tensor([9, 5, 7, 8]);
    const leaf = values.trainable();
    const [y, dx] = await both(x, (t) => scatter(t, ids([3, 1, 1, 0]), leaf, { reduce }));
    assertEquals([y, dx], [[8, 7, 3], [0, 0, 1]]);
    assertEquals([...await values.grad!.data()], [0, 0, 1, 1]);
  }
});

Deno.test("maskedFill and nonzero go by what is not 0", async () => {
  using x = device.tensor([[0, -2, 0], [NaN, 0, 5]]);
  using mask = device.tensor(new Uint32Array([0, 1, 7]));
  assertEquals(await both(x, (t) => maskedFill(t, mask, -1)), [
    [0, -1, -1, NaN, -1, -1],
    [1, 0, 0, 1, 0, 0],
  ]);
  assertEquals(await nonzero(x), [Uint32Array.of(0, 1, 1), Uint32Array.of(1, 0, 2)]);
});
