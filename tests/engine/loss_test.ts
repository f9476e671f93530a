/**
 * Options of losses against their formulas in float64: reductions, weights, smoothing, rows that
 * are left out. Terms themselves are held by the test of ops.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../engine/errors.ts";
import { crossEntropy, type CrossEntropyOptions, nllLoss } from "../../engine/ops/cross_entropy.ts";
import { bce, bceWithLogits } from "../../engine/ops/binary_cross_entropy.ts";
import { mse } from "../../engine/ops/loss.ts";
import { huberLoss, klDiv, l1Loss, smoothL1Loss } from "../../engine/ops/regression_loss.ts";
import { cosineLoss } from "../../engine/ops/self_distillation.ts";
import { softplus } from "../../engine/ops/unary.ts";
import { permute } from "../../engine/ops/view.ts";
import { refSoftmaxRow } from "../../engine/ops/softmax.ts";
import { logSoftmax } from "../../engine/ops/softmax.ts";
import { refRows } from "../../engine/reference.ts";
import { backward } from "../../engine/tape.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { openDevice } from "../support/device.ts";
import { refRandom } from "../support/random.ts";

const device = await openDevice();
const SHAPE = [5, 4];
const x = refRandom(SHAPE, 1);
const t = refRandom(SHAPE, 2);
const upload = ({ shape, data }: { shape: readonly number[]; data: Float64Array }) =>
  device.tensor(Float32Array.from(data), shape);

/** A few f32 ulp of sums of some ten terms. */
const TOLERANCE = 3e-6;
function assertNear(actual: ArrayLike<number>, expected: readonly number[], label: string) {
  assertEquals(actual.length, expected.length, label);
  expected.forEach((value, i) =>
    assert(
      Math.abs(actual[i] - value) <= TOLERANCE * Math.max(1, Math.abs(value)),
      `${label}: ${actual[i]} is not ${value}`,
    )
  );
}

Deno.test("losses of elements: their terms, sums and means", async () => {
  const [a, b] = [upload(x), upload(t)];
  const d = x.data.map((value, i) => value - t.data[i]);
  const huber = (e: number, at: number) =>
    Math.abs(e) <= at ? e * e / 2 : at * (Math.abs(e) - at / 2);
  const soft = (logit: number, target: number) =>
    -target * Math.log(1 / (1 + Math.exp(-logit))) -
    (1 - target) * Math.log(1 - 1 / (1 + Math.exp(-logit)));
  const cases: [(options: object) => Tensor, Float64Array][] = [
    [(o) => mse(a, b, o), d.map((e) => e * e)],
    [(o) => l1Loss(a, b, o), d.map(Math.abs)],
    [(o) => huberLoss(a, b, { delta: 0.6, ...o }), d.map((e) => huber(e, 0.6))],
    [(o) => smoothL1Loss(a, b, { beta: 0.6, ...o }), d.map((e) => huber(e, 0.6) / 0.6)],
    [(o) => smoothL1Loss(a, b, { beta: 0, ...o }), d.map(Math.abs)],
    [(o) => bceWithLogits(a, 0.25, o), x.data.map((e) => soft(e, 0.25))],
  ];
  for (const [i, [loss, terms]] of cases.entries()) {
    const total = terms.reduce((p, q) => p + q, 0);
    const results = ["none", "sum", "mean"].map((reduction) => loss({ reduction }));
    const [none, sum, mean] = await device.read(results);
    assertNear(none, [...terms], `loss ${i}`);
    assertNear(sum, [total], `loss ${i}, sum`);
    assertNear(mean, [total / terms.length], `loss ${i}, mean`);
  }
});

Deno.test("the divergence of distributions, of their logarithms too", async () => {
  const rows = [x, t].map((it) => refRows(it).map((row) => refSoftmaxRow(row, 1)));
  const terms = rows[1].flatMap(({ probability, log }, r) =>
    [...probability].map((p, k) => p * (log[k] - rows[0][r].log[k]))
  );
  const total = terms.reduce((a, b) => a + b, 0);
  const [log, logTarget] = [logSoftmax(upload(x)), logSoftmax(upload(t))];
  const target = device.tensor(
    Float32Array.from(rows[1].flatMap(({ probability }) => [...probability])),
    SHAPE,
  );
  const [plain, ofLog, batch] = await device.read([
    klDiv(log, target),
    klDiv(log, logTarget, { logTarget: true, reduction: "sum" }),
    klDiv(log, target, { reduction: "batchmean" }),
  ]);
  assertNear(plain, [total / terms.length], "mean");
  assertNear(ofLog, [total], "sum of logarithms");
  assertNear(batch, [total / SHAPE[0]], "batchmean");
  // 0 log 0 counts 0, whatever the logarithm beside it.
  const none = klDiv(device.tensor([-Infinity, 0]), device.tensor([0, 1]), { reduction: "none" });
  assertEquals([...await none.data()], [0, 0]);
});

Deno.test("cross-entropy: weights, smoothing, rows left out, as torch weighs means", async () => {
  const classes = Int32Array.of(0, 3, -100, 2, 3);
  const weights = [0.5, 2, 1, 3];
  const log = refRows(x).map((row) => refSoftmaxRow(row, 1).log);
  const given = device.tensor(Float32Array.from(weights));
  for (const weighted of [false, true]) {
    for (const labelSmoothing of [0, 0.3]) {
      const w = (k: number) => weighted ? weights[k] : 1;
      const share = (y: number, k: number) =>
        ((1 - labelSmoothing) * +(k === y) + labelSmoothing / 4) * w(k);
      const terms = [...classes].map((y, r) =>
        y < 0 ? 0 : -log[r].reduce((sum, value, k) => sum + share(y, k) * value, 0)
      );
      const total = terms.reduce((a, b) => a + b, 0);
      const weight = [...classes].reduce((sum, y) => sum + (y < 0 ? 0 : w(y)), 0);
      const options: CrossEntropyOptions = {
        ignoreIndex: -100,
        labelSmoothing,
        ...weighted && { weights: given },
      };
      const label = `${weighted ? "weights" : "plain"}, smoothing ${labelSmoothing}`;
      const target = device.tensor(classes);
      const logits = upload(x).trainable();
      const [none, mean] = (["none", "mean"] as const).map((reduction) =>
        crossEntropy(logits, target, { ...options, reduction })
      );
      const value = mean.view(mean.shape);
      backward(mean);
      const [rows, one, gradient] = await device.read([none, value, logits.grad!]);
      assertNear(rows, terms, label);
      assertNear(one, [total / weight], `${label}, mean`);
      // By probabilities: d/dx = (sum of shares) p - share.
      const expected = [...classes].flatMap((y, r) =>
        [...log[r]].map((value, k) => {
          const all = [0, 1, 2, 3].reduce((sum, c) => sum + share(y, c), 0);
          return y < 0 ? 0 : (all * Math.exp(value) - share(y, k)) / weight;
        })
      );
      assertNear(gradient, expected, `${label}, gradient`);
    }
  }
});

Deno.test("cross-entropy of distributions takes weights and smoothing", async () => {
  const rows = [x, t].map((it) => refRows(it).map((row) => refSoftmaxRow(row, 1)));
  const weights = [0.5, 2, 1, 3];
  const terms = rows[1].map(({ probability }, r) =>
    -probability.reduce(
      (sum, p, k) => sum + weights[k] * (0.9 * p + 0.1 / 4) * rows[0][r].log[k],
      0,
    )
  );
  const target = device.tensor(
    Float32Array.from(rows[1].flatMap(({ probability }) => [...probability])),
    SHAPE,
  );
  const options = { weights: device.tensor(weights), labelSmoothing: 0.1 };
  const loss = crossEntropy(upload(x), target, { ...options, reduction: "mean" });
  assertNear(await loss.data(), [terms.reduce((a, b) => a + b, 0) / SHAPE[0]], "mean");
});

Deno.test("log-likelihood picks, and infinities of other classes do not count", async () => {
  const log = device.tensor([-1, -Infinity, -2, -Infinity, -3, -4], [2, 3]);
  const target = device.tensor(Uint32Array.of(2, 1));
  const [plain, weighted] = await device.read([
    nllLoss(log, target),
    nllLoss(log, target, { weights: device.tensor([1, 2, 4]), reduction: "mean" }),
  ]);
  assertEquals([...plain], [2, 3]);
  assertNear(weighted, [(4 * 2 + 2 * 3) / 6], "weighted mean");
});

Deno.test("what does not fit a loss is named", () => {
  const [a, b] = [device.zeros([2, 3]), device.zeros([3, 2])];
  const ids = device.tensor(Uint32Array.of(0, 1));
  const cases: [() => unknown, string][] = [
    [() => l1Loss(a, b), "l1Loss"],
    [() => mse(a, a, { reduction: "average" as "mean" }), '"average"; mean, sum, none'],
    [() => huberLoss(a, a, { delta: 0 }), "huberLoss: delta is 0"],
    [() => cosineLoss(a, a, { eps: 1 } as object), "the option eps"],
    [() => nllLoss(a, device.zeros([2])), "[2] of f32"],
    [() => nllLoss(a, ids, { weights: device.zeros([2]) }), "weights are [2] of f32; f32 [3]"],
    [() => crossEntropy(a, ids, { labelSmoothing: 2 }), "labelSmoothing 2"],
    [() => crossEntropy(a, ids, { ignoreIndex: -1 }), "-1 beside u32"],
    [() => crossEntropy(a, a, { ignoreIndex: 1 }), "ignoreIndex"],
  ];
  for (const [call, message] of cases) assertThrows(call, ShapeError, message);
});

Deno.test("what a yes counts, and each term, in cross-entropies of yes and no", async () => {
  // Logits at which the probability or its complement is 0 in f32.
  const logits = device.tensor([0.5, -2, 120, -120, 3, -0.25], [2, 3]).trainable();
  const targets = device.tensor([1, 0, 0, 1, 0.25, 0.75], [2, 3]);
  const posWeight = device.tensor([3, 0.125, 0]);
  const weights = device.tensor([[2], [0.5]]);
  const [x, t] = [await logits.data(), await targets.data()];
  const log = (v: number) => Math.min(v, 0) - Math.log1p(Math.exp(-Math.abs(v)));
  const of = (p: (i: number) => number, w: (i: number) => number) =>
    [...x].map((v, i) => -w(i) * (p(i) * t[i] * log(v) + (1 - t[i]) * log(-v)));
  const [own, one] = [(i: number) => [3, 0.125, 0][i % 3], () => 1];
  const run = async (options: object) => await bceWithLogits(logits, targets, options).data();
  assertNear(await run({ posWeight }), of(own, one), "by class");
  assertNear(await run({ posWeight: 5 }), of(() => 5, one), "for all");
  assertNear(await run({ posWeight, weights }), of(own, (i) => i < 3 ? 2 : 0.5), "and by row");
  assertNear(await run({ weights }), of(one, (i) => i < 3 ? 2 : 0.5), "by row");
  const known = await bceWithLogits(logits, 1, { posWeight: 5 }).data();
  assertNear(known, [...x].map((v) => -5 * log(v)), "numbers");
  const loss = bceWithLogits(logits, targets, { posWeight, weights, reduction: "sum" });
  backward(loss);
  const slopes = [...x].map((v, i) => {
    const s = 1 / (1 + Math.exp(-v));
    return (i < 3 ? 2 : 0.5) * ((1 - t[i]) * s - own(i) * t[i] * (1 - s));
  });
  assertNear(await logits.grad!.data(), slopes, "gradient");
  const short = device.zeros([2]);
  assertThrows(() => bceWithLogits(logits, targets, { posWeight: short }), ShapeError, "broadcast");
  assertThrows(() => bceWithLogits(logits, targets, { posWeight: -1 }), ShapeError, "posWeight");
  const p = device.tensor([0, 1, 0.25]);
  assertNear(
    await bce(p, device.tensor([1, 1, 0]), { weights: device.tensor([1, 1, 2]) }).data(),
    [100, 0, -2 * Math.log(0.75)],
    "probabilities, logarithms from -100 on",
  );
});

Deno.test("classes may lie along any axis", async () => {
  // Values of torch's convention [batch, classes, places] are those of [batch, places, classes].
  const logits = upload(refRandom([2, 4, 3], 7)).trainable();
  const last = permute(logits, [0, 2, 1]);
  const targets = device.tensor(Uint32Array.of(0, 3, 1, 2, 2, 0), [2, 3]);
  const options = { weights: device.tensor([1, 2, 0.5, 1]), ignoreIndex: 2 } as const;
  for (const axis of [1, -2]) {
    const pairs: [Tensor, Tensor][] = [
      [crossEntropy(logits, targets, { axis }), crossEntropy(last, targets)],
      [
        crossEntropy(logits, targets, { axis, reduction: "mean", ...options }),
        crossEntropy(last, targets, { reduction: "mean", ...options }),
      ],
      [nllLoss(logits, targets, { axis }), nllLoss(last, targets)],
      [crossEntropy(logits, logits, { axis }), crossEntropy(last, last)],
    ];
    for (const [own, other] of pairs) {
      assertEquals(own.shape, other.shape);
      assertEquals(await own.data(), await other.data());
    }
  }
  backward(crossEntropy(logits, targets, { axis: 1, reduction: "sum" }));
  const grad = logits.grad!;
  assertEquals(grad.shape, [2, 4, 3]);
  // Each row's gradient sums to 0 over its classes.
  const values = await grad.data();
  for (let i = 0; i < 6; i++) {
    const column = [0, 1, 2, 3].map((k) => values[Math.floor(i / 3) * 12 + 3 * k + i % 3]);
    assert(Math.abs(column.reduce((a, b) => a + b)) < 1e-6);
    assert(column[(await targets.data())[i]] < 0);
  }
  assertThrows(() => crossEntropy(logits, targets, { axis: 3 }), ShapeError, "axis 3");
  assertThrows(() => nllLoss(logits, targets, { axis: 2 }), ShapeError, "nllLoss");
});

Deno.test("softplus: sharpness, and where it becomes its argument", async () => {
  const values = [-3, -0.5, 0, 0.5, 3, NaN];
  const x = device.tensor(values).trainable();
  const f = (v: number) => 2 * v > 1 ? v : Math.log1p(Math.exp(2 * v)) / 2;
  const y = softplus(x, { beta: 2, threshold: 1 });
  const [seen] = await device.read([y]);
  assertNear(seen.subarray(0, 5), values.slice(0, 5).map(f), "values");
  assertEquals(seen[5], NaN);
  backward(y, device.full([6], 1));
  const slope = (v: number) => 2 * v > 1 ? 1 : 1 / (1 + Math.exp(-2 * v));
  assertNear((await x.grad!.data()).subarray(0, 5), values.slice(0, 5).map(slope), "gradient");
  assertThrows(() => softplus(x, { beta: 0 }), ShapeError, "beta");
});
