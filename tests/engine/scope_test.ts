/** What ops leave behind where no scope cleans up after them. */
import { assertEquals } from "@std/assert";
import * as t from "../../engine/mod.ts";
import { tensorsIn } from "../../engine/scope.ts";

const device = await t.openDevice();
const values = (...shape: number[]): t.Tensor =>
  device.tensor(
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i) + 1.5),
    shape,
  );
const ids = (...shape: number[]): t.Tensor =>
  device.tensor(new Uint32Array(shape.reduce((a, b) => a * b, 1)).fill(1), shape);

const x = values(2, 3, 4).trainable();
const same = values(2, 3, 4);
const gain = values(4);
const [few, along, classes, list] = [ids(2), ids(2, 3, 4), ids(6), ids(5)];
const weight = values(5, 4);
const image = values(2, 3, 6, 6);
const kernel = values(4, 3, 3, 3);
const flat = values(6, 4);
const signal = values(64);
const qkv = values(2, 5, 24);

/** Functions that run more than one op, make operands of their own or keep tensors for backward. */
const CALLS: Record<string, () => unknown> = {
  "add a number": () => t.add(x, 2),
  "multiply by a number": () => t.mul(x, 2),
  "compare with a number": () => t.greater(x, 1),
  "where with a number": () => t.where(same, x, 0),
  "bceWithLogits of a number": () => t.bceWithLogits(x, 1),
  "indexSelect along axis 1": () => t.indexSelect(x, few, 1),
  "indexSelect of a host list": () => t.indexSelect(x, [0, 1], 2),
  "gather along axis 1": () => t.gather(x, along, 1),
  "embedding of a host list": () => t.embedding(weight, [0, 1]),
  "scatterAdd": () => t.scatterAdd(weight, list, 3),
  "mean": () => t.mean(x, { axes: [1] }),
  "variance": () => t.variance(x, { axes: [-1] }),
  "max": () => t.max(x, { axes: [1] }),
  "argmax": () => t.argmax(x, { axis: 0 }),
  "argmin of all": () => t.argmin(x),
  "topk": () => t.topk(x, 2),
  "sort along axis 0": () => t.sort(x, { axis: 0 }),
  "layerNorm": () => t.layerNorm(x, gain, gain),
  "rmsNorm": () => t.rmsNorm(x, gain),
  "residualLayerNorm": () => t.residualLayerNorm(x, same, gain, gain, 1e-5),
  "linear": () => t.linear(x, weight),
  "conv2d": () => t.conv2d(image, kernel),
  "crossEntropy": () => t.crossEntropy(flat, classes),
  "pow": () => t.pow(x, 2.5),
  "pad": () => t.pad(x, [[0, 0], [1, 1], [0, 0]], "reflect"),
  "concat": () => t.concat([x, same], 0),
  "split": () => t.split(x, 2, 2),
  "rfft": () => t.rfft(signal),
  "selfAttention": () => t.selfAttention(qkv, 2),
};

for (const [name, call] of Object.entries(CALLS)) {
  Deno.test(`${name} leaves nothing but its results outside a scope`, () => {
    const round = () => tensorsIn(t.noGrad(call)).forEach((y) => y.dispose());
    round();
    const live = device.memory.liveBuffers;
    round();
    assertEquals(device.memory.liveBuffers, live);
  });
}

Deno.test("composite ops stay on the tape", async () => {
  const y = t.indexSelect(t.mul(x, 2), few, 1);
  const loss = t.sum(y);
  t.backward(loss);
  // Row 1 of axis 1 was taken twice.
  assertEquals(
    [...await x.grad!.data()],
    [...Array(24).keys()].map((i) => Math.floor(i / 4) % 3 === 1 ? 4 : 0),
  );
});
