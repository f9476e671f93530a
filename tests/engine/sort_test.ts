/**
 * Sorting at lengths around those of blocks and chunks, along any axis, with ties, NaN and
 * integers, against JavaScript's own sort, which is stable.
 */
import { assertEquals } from "@std/assert";
import {
  argmax,
  argmin,
  argsort,
  backward,
  cast,
  type HostArray,
  mul,
  scope,
  sort,
  sum,
  topk,
} from "../../engine/mod.ts";
import { openDevice } from "../support/device.ts";
import { refRandom } from "../support/random.ts";
import { full, fullOnly, test } from "../support/tier.ts";

const device = await openDevice();

/** Places of the elements in order: NaN above infinity, equal ones as they stood. */
function orderOf(row: HostArray, descending: boolean): number[] {
  const rank = (v: number) => Number.isNaN(v) ? [1, 0] : [0, v];
  return [...row.keys()].sort((i, j) => {
    const [[m, a], [n, b]] = descending
      ? [rank(row[j]), rank(row[i])]
      : [rank(row[i]), rank(row[j])];
    return m - n || +(a > b) - +(a < b) || i - j;
  });
}

/** Many ties, NaN, infinities and zeros of both signs. */
const coarse = (n: number, seed: number): Float32Array =>
  Float32Array.from(
    refRandom([n], seed).data,
    (v, i) => i % 29 === 3 ? NaN : i % 31 === 5 ? -Infinity : Math.round(v * 3) / 2,
  );

const LENGTHS = full ? [1, 2, 31, 32, 33, 63, 64, 65, 96, 97, 129, 1000, 4097] : [33, 129];

Deno.test("sort, argsort and topk of any length, either way", async () => {
  for (const n of LENGTHS) {
    const row = coarse(n, n);
    using x = device.tensor(row);
    for (const descending of [false, true]) {
      const order = orderOf(row, descending);
      const label = `${n}${descending ? ", descending" : ""}`;
      for (const k of [...new Set([1, Math.min(5, n), Math.min(40, n), n])]) {
        const { values, indices } = topk(x, k, { largest: descending });
        const [v, i] = await device.read([values, indices]);
        assertEquals([...i], order.slice(0, k), `${k} of ${label}`);
        assertEquals([...v].map((it) => it + 0), order.slice(0, k).map((at) => row[at] + 0));
        values.dispose();
        indices.dispose();
      }
      using places = argsort(x, { descending });
      assertEquals([...await places.data()], order, label);
    }
  }
});

test("sorting and picking along another axis, with gradients, and of integers", async () => {
  const rows = Int32Array.from({ length: 35 * 2 }, (_, i) => (i * 37 % 23 - 11) * 1e8);
  const columns = [0, 1].map((c) => rows.filter((_, i) => i % 2 === c));
  const wanted = columns.map((column) => orderOf(column, true));
  using x = device.tensor(rows, [35, 2]);
  const { values, indices } = sort(x, { axis: 0, descending: true });
  const [v, i] = await device.read([values, indices].map((it) => cast(it, it.dtype)));
  assertEquals([...i], Array.from({ length: 70 }, (_, k) => wanted[k % 2][k >> 1]));
  assertEquals(
    [...v],
    Array.from({ length: 70 }, (_, k) => columns[k % 2][wanted[k % 2][k >> 1]]),
  );

  using y = device.tensor([3, 1, 2, 5, 9, 4], [3, 2]).trainable();
  scope(() => {
    const { values } = topk(y, 2, { axis: 0, largest: false });
    backward(sum(mul(values, device.tensor([1, 10, 2, 20], [2, 2]))));
  });
  assertEquals([...await y.grad!.data()], [2, 10, 1, 0, 0, 20]);
});

test("argmax and argmin without an axis look through all elements", async () => {
  using x = device.tensor([3, 1, 2, 5, 9, 4], [3, 2]);
  const results = [argmax(x), argmin(x), argmax(x, { keepDims: true })];
  assertEquals(results.map(({ shape }) => shape), [[], [], [1, 1]]);
  assertEquals((await device.read(results)).map(([at]) => at), [4, 1, 4]);
  using odd = device.tensor(coarse(30, 1), [5, 3, 2]);
  using first = argmin(odd);
  assertEquals(await first.item(), 3);
});

fullOnly("half a million elements in order", async () => {
  const row = coarse(500_003, 7);
  using x = device.tensor(row);
  using order = argsort(x);
  assertEquals([...await order.data()], orderOf(row, false));
});
