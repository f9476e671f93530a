/** Scans over long axes, against float64, and what they do with NaN and nothing. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../engine/errors.ts";
import {
  backward,
  cummax,
  cummin,
  cumprod,
  cumsum,
  diff,
  logsumexp,
  norm,
  prod,
  scope,
  std,
  sum,
} from "../../engine/mod.ts";
import { openDevice } from "../support/device.ts";
import { refRandom } from "../support/random.ts";
import { full, fullOnly, test } from "../support/tier.ts";

const device = await openDevice();

/** Largest error relative to the largest value, of a running sum in float64. */
function error(actual: ArrayLike<number>, terms: ArrayLike<number>): number {
  let [total, most, off] = [0, 0, 0];
  for (let i = 0; i < terms.length; i++) {
    total += terms[i];
    most = Math.max(most, Math.abs(total));
    off = Math.max(off, Math.abs(actual[i] - total));
  }
  return off / most;
}

Deno.test("running sums of a long axis round as few additions do, forth and back", async () => {
  // Three levels of blocks; one after the other would be off by up to n 2^-25, here 3e-2.
  const n = full ? 1_000_003 : 5_003;
  const terms = Float32Array.from(refRandom([n], 1).data, (v) => Math.abs(v) + 0.5);
  using x = device.tensor(terms).trainable();
  using y = scope(() => {
    const y = cumsum(x);
    backward(y, x);
    return y;
  });
  assert(error(await y.data(), terms) < 1e-6);
  const grads = await x.grad!.data();
  assert(error(grads.toReversed(), terms.toReversed()) < 1e-6);
});

test("running extrema keep NaN and name the last of equal ones", async () => {
  using x = device.tensor([1, 3, 3, NaN, 5, NaN, 2]);
  const [up, down] = [cummax(x), cummin(x)];
  const [values, places, least, lowest] = await device.read(
    [up.values, up.indices, down.values, down.indices],
  );
  assertEquals([...values], [1, 3, 3, NaN, NaN, NaN, NaN]);
  assertEquals([...places], [0, 1, 2, 3, 3, 5, 5]);
  assertEquals([...least], [1, 1, 1, NaN, NaN, NaN, NaN]);
  assertEquals([...lowest], [0, 0, 0, 3, 3, 5, 5]);
});

test("scans and products of nothing and of wrong axes", async () => {
  using none = device.empty([3, 0]);
  assertEquals([cumsum(none), cumprod(none, 0)].map(({ shape }) => shape), [[3, 0], [3, 0]]);
  assertEquals(cummax(none).indices.shape, [3, 0]);
  assertEquals([...await prod(none, { axes: [1] }).data()], [1, 1, 1]);
  assertThrows(() => cumsum(none, 2), ShapeError, "cumsum");
});

test("norms of every order; logsumexp, std and diff at their ends", async () => {
  using x = device.tensor([3, -4, 0, -4]).trainable();
  const orders = [0, 1, 2, 3, Infinity, -Infinity];
  const norms = scope(() => orders.map((p) => norm(x, { p })));
  const values = (await device.read(norms)).map(([v]) => v);
  const wanted = [3, 11, Math.sqrt(41), Math.cbrt(27 + 128), 4, 0];
  values.forEach((v, i) => assert(Math.abs(v - wanted[i]) < 1e-6 * 11, `p = ${orders[i]}: ${v}`));
  scope(() => backward(norm(x, { p: Infinity })));
  assertEquals([...await x.grad!.data()], [0, -0.5, 0, -0.5]);

  const I = Infinity;
  using rows = device.tensor([-I, -I, 1, I, 90, 90], [3, 2]).trainable();
  using y = scope(() => {
    const y = logsumexp(rows, { axes: [1] });
    backward(y, device.tensor([1, 0, 1]));
    return y;
  });
  assertEquals([...await y.data()], [-I, I, Math.fround(90 + Math.LN2)]);
  const grads = await rows.grad!.data();
  assertEquals([grads[0], grads[1], grads[4], grads[5]], [0, 0, 0.5, 0.5]);
  assertEquals(await logsumexp(device.empty([0])).item(), -I);

  using same = device.tensor([2, 2, 2]).trainable();
  scope(() => backward(std(same)));
  assertEquals([...await same.grad!.data()], [0, 0, 0]);
  using steps = diff(device.tensor(Int32Array.of(1, 4, 9, 16)), { n: 2 });
  assertEquals([steps.dtype, ...await steps.data()], ["i32", 2, 2]);
  assertThrows(() => diff(same, { n: 4 }), ShapeError, "diff: n along 3 elements");
});

fullOnly("running extrema and products of a long axis, with gradients", async () => {
  const n = 300_001;
  const terms = Float32Array.from(refRandom([n], 3).data, (v, i) => v + i / n);
  using x = device.tensor(terms).trainable();
  using places = scope(() => {
    const { values, indices } = cummax(x);
    backward(sum(values));
    return indices;
  });
  const [found, grads] = [await places.data(), await x.grad!.data()];
  const counts = new Float64Array(n);
  let best = 0;
  for (let i = 0; i < n; i++) {
    if (terms[i] >= terms[best]) best = i;
    assertEquals(found[i], best);
    counts[best]++;
  }
  assertEquals([...grads], [...counts]);

  const near = Float32Array.from(refRandom([n], 4).data, (v) => 1 + v * 1e-3);
  const product = near.reduce((a, b) => a * b, 1);
  using z = device.tensor(near).trainable();
  using y = scope(() => {
    const y = prod(z);
    backward(y);
    return y;
  });
  assert(Math.abs(await y.item() / product - 1) < 1e-4);
  const slopes = await z.grad!.data();
  near.forEach((v, i) => assert(Math.abs(slopes[i] * v / product - 1) < 2e-4));
});
