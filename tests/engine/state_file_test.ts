/** Layers in safetensors files, and layers taken out of training. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ShapeError } from "../../engine/errors.ts";
import {
  readSafetensors,
  SafetensorsError,
  writeSafetensors,
} from "../../engine/formats/safetensors.ts";
import { Dropout } from "../../engine/nn/dropout.ts";
import { Linear, Sequential } from "../../engine/nn/layers.ts";
import { BatchNorm } from "../../engine/nn/norms.ts";
import { SGD } from "../../engine/nn/optimizers.ts";
import { sum } from "../../engine/ops/reduce.ts";
import { scope } from "../../engine/scope.ts";
import { backward } from "../../engine/tape.ts";
import { openDevice } from "../support/device.ts";

const device = await openDevice();
const make = (seed: number) =>
  new Sequential(
    new Linear(device, 3, 4, seed),
    new BatchNorm(device, 4),
    new Dropout(device, 0.5, seed),
  );

Deno.test("a layer saved and loaded elsewhere computes the same bits, averages and counts included", async () => {
  using first = make(1);
  const x = device.tensor([1, 2, 3, -1, 0.5, 2], [2, 3]);
  scope(() => first.apply(x));
  const bytes = await first.save({ note: "after one step" });
  const { tensors, metadata } = readSafetensors(bytes);
  assertEquals(metadata, { note: "after one step" });
  assertEquals([...tensors.keys()].toSorted(), [...first.state()].map(([name]) => name).toSorted());
  assertEquals(tensors.get("0.weight")!.shape, [4, 3]);
  assertEquals([...tensors.get("2.uses")!.data], [1]);
  using second = make(2);
  second.load(bytes);
  const states = [first, second].map((it) => [...it.state()].map(([, tensor]) => tensor));
  const [a, b] = [await device.read(states[0]), await device.read(states[1])];
  assertEquals(a, b);
  assertEquals(await second.save({ note: "after one step" }), bytes);
});

Deno.test("floats of other types are rounded; what does not fit is named and changes nothing", async () => {
  using layer = new Linear(device, 2, 1, 3);
  const before = await layer.save();
  const file = (
    weight: Parameters<typeof writeSafetensors>[0] extends Iterable<infer E> ? E : never,
  ) =>
    writeSafetensors([weight, ["bias", {
      dtype: "BF16",
      shape: [1],
      data: Uint16Array.of(0x3fc0),
    }]]);
  layer.load(file(["weight", { dtype: "F64", shape: [1, 2], data: Float64Array.of(0.1, 2) }]));
  const values = await device.read([layer.weight, layer.bias!]);
  assertEquals(values, [Float32Array.of(0.1, 2), Float32Array.of(1.5)]);
  const half = new Uint16Array(Float16Array.of(0.1, -3).buffer);
  layer.load(file(["weight", { dtype: "F16", shape: [1, 2], data: half }]));
  assertEquals([...await layer.weight.data()], [Math.f16round(0.1), -3]);
  layer.load(before);
  const bad: [Uint8Array, string][] = [
    [file(["weight", { dtype: "F32", shape: [2, 1], data: new Float32Array(2) }]), "[2, 1] of F32"],
    [file(["weight", { dtype: "I32", shape: [1, 2], data: new Int32Array(2) }]), "of I32"],
    [
      file(["gamma", { dtype: "F32", shape: [1], data: new Float32Array(1) }]),
      '"weight"; the layer has no "gamma"',
    ],
  ];
  for (const [bytes, message] of bad) assertThrows(() => layer.load(bytes), ShapeError, message);
  assertThrows(() => layer.load(before.slice(0, 20)), SafetensorsError);
  assertEquals(await layer.save(), before);
  layer.load(bad[2][0], { strict: false });
  assertEquals([...await layer.bias!.data()], [1.5]);
  await assertRejects(async () => {
    layer.weight.dispose();
    await layer.save();
  });
});

Deno.test("a frozen layer collects no gradient and optimizers leave it alone", async () => {
  using model = new Sequential(new Linear(device, 2, 2, 1), new Linear(device, 2, 1, 2));
  const [front, back] = [...model.parameters()].map(([, it]) => it).filter((_, i) => i % 2 === 0);
  using optimizer = new SGD(model.parameters(), { rate: 0.1 });
  const x = device.tensor([1, 2], [1, 2]);
  const step = () => {
    scope(() => backward(sum(model.apply(x))));
    optimizer.step();
    optimizer.zeroGrad();
  };
  const inner = model.parameters().next().value![1];
  assertEquals(inner, front);
  const before = await device.read([front, back]);
  for (const [name, it] of model.parameters()) if (name.startsWith("0.")) it.constant();
  step();
  const frozen = await device.read([front, back]);
  assertEquals(frozen[0], before[0]);
  assert(frozen[1].some((value, i) => value !== before[1][i]));
  model.freeze();
  assertThrows(() => scope(() => backward(sum(model.apply(x)))), ShapeError, "no trainable");
  assertThrows(() => new SGD(model.parameters(), { rate: 1 }), ShapeError, "not trainable");
  model.unfreeze();
  step();
  const [after] = await device.read([front]);
  assert(after.some((value, i) => value !== before[0][i]));
});
