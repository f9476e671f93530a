/** Anomaly mode: which op and which call a NaN or an infinity is blamed on. */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { openDevice } from "../../engine/device.ts";
import { AnomalyError } from "../../engine/errors.ts";
import { add, mul } from "../../engine/ops/elementwise.ts";
import { exp, log, sqrt } from "../../engine/ops/unary.ts";
import { embedding, gather, scatterAdd } from "../../engine/ops/indexing.ts";
import { matmul } from "../../engine/ops/matmul.ts";
import { sum } from "../../engine/ops/reduce.ts";
import { batchedIndexSelect } from "../../engine/ops/batched_index_select.ts";
import { permute } from "../../engine/ops/view.ts";
import { capture } from "../../engine/plan.ts";
import { scope } from "../../engine/scope.ts";
import { backward } from "../../engine/tape.ts";
import type { Tensor } from "../../engine/tensor.ts";

const device = await openDevice({ detectAnomalies: true });

function takeLogarithm(x: Tensor): Tensor {
  return log(x);
}

function takeRoot(x: Tensor): Tensor {
  return sqrt(x);
}

Deno.test("anomalies: the forward op that makes a NaN is named, with shapes, element and this file", async () => {
  using x = device.tensor([1, 2, 3, -1], [2, 2]);
  using y = scope(() => exp(mul(takeLogarithm(mul(x, 2)), 3)));
  const error = await assertRejects(() => y.data(), AnomalyError);
  assertEquals([error.anomaly.op, error.anomaly.phase], ["log", "forward"]);
  assertEquals([error.anomaly.inputs, error.anomaly.outputs], [[[2, 2]], [[2, 2]]]);
  assertStringIncludes(error.message, "log (forward): output 0 [2, 2] holds NaN at element 3");
  assertStringIncludes(error.message, "every input is finite");
  const [frame] = error.anomaly.site.split("\n");
  assertMatch(frame, /takeLogarithm .*tests\/engine\/anomaly_test\.ts:/);
  assert(!error.message.includes("engine/op.ts"));
  assertEquals([...await y.data()].length, 4, "what was reported once is not reported again");
});

Deno.test("anomalies: the backward of the square root of zero is named with the forward call", async () => {
  using x = device.tensor([4, 0, 9]).trainable();
  scope(() => backward(sum(mul(takeRoot(x), 2))));
  const error = await assertRejects(() => device.sync(), AnomalyError);
  assertEquals([error.anomaly.op, error.anomaly.phase], ["sqrt", "backward"]);
  assertStringIncludes(error.message, "gradient of input 0 [3] holds infinity at element 1");
  assertStringIncludes(error.message, "every incoming gradient is finite");
  assertMatch(error.anomaly.site, /^\s*at takeRoot .*anomaly_test\.ts:/);
});

Deno.test("anomalies: an input that was bad before is told apart", async () => {
  using x = device.tensor([1, Infinity, 2]);
  scope(() => add(x, 1));
  const error = await assertRejects(() => device.sync(), AnomalyError);
  assertEquals(error.anomaly.op, "add");
  assertStringIncludes(error.message, "input 0 [3] already holds infinity at element 1");
});

Deno.test("anomalies: an index out of range is named with op, size and place, before the NaN it makes", async () => {
  using table = device.tensor([1, 2, 3, 4, 5, 6], [3, 2]);
  using ids = device.tensor(Uint32Array.of(2, 0, 9, 3), [2, 2]);
  function lookUp(): void {
    scope(() => exp(embedding(table, ids)));
  }
  lookUp();
  const error = await assertRejects(() => device.sync(), AnomalyError);
  assertEquals([error.anomaly.op, error.anomaly.phase], ["embedding", "forward"]);
  assertEquals(error.anomaly.inputs, [[2, 2]]);
  assertStringIncludes(
    error.message,
    "embedding (forward): an index is out of range at element 2 of the indices [2, 2]: " +
      "the largest is 9, the size 3",
  );
  assertMatch(error.anomaly.site, /lookUp .*anomaly_test\.ts:/);

  using list = device.tensor(Uint32Array.of(0, 3));
  using rows = device.tensor([1, 2, 3, 4], [2, 2]);
  const others: [string, () => Tensor][] = [
    ["gather", () => gather(rows, ids)],
    ["scatterAdd", () => scatterAdd(rows, list, 3)],
    ["batchedIndexSelect", () => batchedIndexSelect(rows.view([1, 2, 2]), list.view([1, 2]))],
  ];
  for (const [op, call] of others) {
    scope(call);
    const error = await assertRejects(() => device.sync(), AnomalyError, "is out of range");
    assertEquals(error.anomaly.op, op);
  }
  scope(() => embedding(table, [2, 0]));
  await device.sync();
});

Deno.test("anomalies: strided views are walked by their own elements", async () => {
  using x = device.tensor([0, 1, 2, 3, 4, NaN], [2, 3]);
  scope(() => permute(x, [1, 0]));
  const error = await assertRejects(() => device.sync(), AnomalyError);
  assertStringIncludes(error.message, "output 0 [3, 2] holds NaN at element 5");
});

Deno.test("anomalies: the first of many is kept when slots run out", async () => {
  using x = device.tensor([-1]);
  for (let i = 0; i < 2200; i++) scope(() => i === 3 ? log(x) : i === 2100 ? sqrt(x) : mul(x, 2));
  const error = await assertRejects(() => device.sync(), AnomalyError);
  assertEquals(error.anomaly.op, "log");
  await device.sync();
});

Deno.test("anomalies: a clean graph reports nothing and holds no memory", async () => {
  const round = async () => {
    using w = device.tensor([1, 2, 3, 4, 5, 6], [2, 3]).trainable();
    scope(() => backward(sum(exp(mul(matmul(w, permute(w, [1, 0])), 0.1)))));
    await device.sync();
    return [...(await device.read([w.grad!]))[0]];
  };
  const gradients = await round();
  const { liveBuffers } = device.memory;
  assertEquals(await round(), gradients);
  assertEquals(device.memory.liveBuffers, liveBuffers);
});

Deno.test("anomalies: nothing is looked at while the mode is off", async () => {
  device.detectAnomalies(false);
  using x = device.tensor([-1, 0]).trainable();
  const before = device.counters.dispatches;
  using y = scope(() => log(x));
  assertEquals(device.counters.dispatches - before, 1);
  assertEquals([...await y.data()], [NaN, -Infinity]);
  device.detectAnomalies(true);
  scope(() => log(x));
  await assertRejects(() => y.data(), AnomalyError);
});

Deno.test("anomalies: a captured function is replayed unseen", async () => {
  using x = device.tensor([-1]);
  using plan = capture(device, [x], (x) => log(x));
  assertEquals(plan.dispatches, 1);
  assertEquals([...await plan.replay([x]).data()], [NaN]);
});
