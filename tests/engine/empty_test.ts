/**
 * Tensors without elements, and sums over nothing: what PyTorch gives for them, eagerly and
 * captured. Memory is full of NaN, so that whatever is left unwritten shows.
 */
import { assertEquals, assertThrows } from "@std/assert";
import * as t from "../../engine/mod.ts";
import { ShapeError, type Tensor } from "../../engine/mod.ts";
import { openDevice } from "../support/device.ts";

const device = await openDevice();
const zeros = (...shape: number[]) => device.zeros(shape, "u32");

/**
 * A function, the shapes of its operands, which hold 1, 2, 3, …, and of its result; the values of
 * the result, and of the gradients of its sum, where they are not 0.
 */
type Case = readonly [
  label: string,
  f: (...x: never[]) => Tensor,
  operands: readonly (readonly number[])[],
  shape: readonly number[],
  values?: readonly number[],
  grads?: Readonly<Record<number, readonly number[]>>,
];

const CASES: readonly Case[] = [
  ["linear", t.linear, [[2, 0], [3, 0]], [2, 3]],
  ["linear, bias", t.linear, [[2, 0], [3, 0], [3]], [2, 3], [1, 2, 3, 1, 2, 3], { 2: [2, 2, 2] }],
  [
    "linear, bias and residual",
    (x, w, b, residual) => t.linear(x, w, b, { residual }),
    [[1, 0], [2, 0], [2], [1, 2]],
    [1, 2],
    [2, 4],
    { 2: [1, 1], 3: [1, 1] },
  ],
  ["linear, no outputs", t.linear, [[2, 3], [0, 3], [0]], [2, 0]],
  ["linear, no rows", t.linear, [[0, 3], [4, 3], [4]], [0, 4]],
  [
    "mlp, nothing between the layers",
    (x, w, b, v, c) => t.mlp(x, [{ weight: w, bias: b }, { weight: v, bias: c }]),
    [[2, 3], [0, 3], [0], [4, 0], [4]],
    [2, 4],
    [1, 2, 3, 4, 1, 2, 3, 4],
    { 4: [2, 2, 2, 2] },
  ],
  [
    "mlp, no rows",
    (x, w, v) => t.mlp(x, [{ weight: w }, { weight: v }]),
    [[0, 3], [4, 3], [2, 4]],
    [0, 2],
  ],
  ["matmul", t.matmul, [[5, 2, 0], [0, 3]], [5, 2, 3]],
  ["matmul, no batch", t.matmul, [[0, 4, 2], [2, 3]], [0, 4, 3]],
  ["sum", (x) => t.sum(x, { axes: [1] }), [[2, 0]], [2]],
  ["softmax", t.softmax, [[2, 0]], [2, 0]],
  ["logSoftmax", t.logSoftmax, [[0, 2]], [0, 2]],
  ["layerNorm, no width", t.layerNorm, [[2, 0], [0], [0]], [2, 0]],
  ["layerNorm, no rows", t.layerNorm, [[0, 4], [4], [4]], [0, 4]],
  ["rmsNorm, no rows", t.rmsNorm, [[0, 4], [4]], [0, 4]],
  ["l2Normalize", t.l2Normalize, [[2, 0]], [2, 0]],
  ["max, no rows", (x) => t.max(x, { axes: [1] }), [[0, 3]], [0]],
  ["concat", (x, y) => t.concat([x, y], 1), [[2, 0], [2, 1]], [2, 1], [1, 2], { 1: [1, 1] }],
  ["slice", (x) => t.slice(x, 0, 2, 0), [[4, 3]], [0, 3]],
  ["expand", (x) => t.expand(x, [0, 3]), [[1, 3]], [0, 3]],
  ["repeat", (x) => t.repeat(x, [0, 2]), [[2, 3]], [0, 6]],
  ["split", (x) => t.split(x, 0, [0, 2])[0], [[2, 3]], [0, 3]],
  ["broadcast", t.mul, [[1, 1], [0, 3]], [0, 3]],
  ["attention, no keys", t.attention, [[1, 2, 3, 4], [1, 2, 0, 4], [1, 2, 0, 4]], [1, 2, 3, 4]],
  ["attention, no queries", t.attention, [[1, 1, 0, 4], [1, 1, 3, 4], [1, 1, 3, 4]], [1, 1, 0, 4]],
  ["selfAttention, no tokens", (x) => t.selfAttention(x, 2), [[2, 0, 24]], [2, 0, 8]],
  ["conv2d, no images", t.conv2d, [[0, 1, 4, 4], [2, 1, 2, 2], [2]], [0, 2, 3, 3]],
  ["conv1d, no channels", t.conv1d, [[1, 0, 2], [2, 0, 2], [2]], [1, 2, 1], [1, 2], { 2: [1, 1] }],
  ["crossEntropy, no rows", (x) => t.crossEntropy(x, zeros(0)), [[0, 5]], [0]],
  ["embedding of nothing", (x) => t.embedding(x, zeros(0)), [[4, 3]], [0, 3]],
  ["embedding, no rows", (x) => t.embedding(x, zeros(0)), [[0, 3]], [0, 3]],
  ["gather of nothing", (x) => t.gather(x, zeros(4, 0)), [[4, 3]], [4, 0]],
  ["scatterAdd of nothing", (x) => t.scatterAdd(x, zeros(0), 2), [[0, 3]], [2, 3]],
  ["topk", (x) => t.topk(x, 0).values, [[3, 2]], [3, 0]],
  ["topk, no width", (x) => t.topk(x, 0).values, [[3, 0]], [3, 0]],
  ["pad", (x) => t.pad(x, [[0, 0], [1, 1]], 3), [[1, 0]], [1, 2], [3, 3]],
  ["overlapAdd", (x) => t.overlapAdd(x, 1), [[0, 3, 2]], [0, 4]],
  ["istft", (x) => t.istft(x, { size: 4, hop: 2 }), [[0, 3, 3, 2]], [0, 8]],
  ["median, no rows", (x) => t.median(x, { axis: 1 }), [[0, 3]], [0]],
  ["cdist", (x, y) => t.cdist(x, y), [[0, 3], [2, 3]], [0, 2]],
  ["cosineSimilarity", (x, y) => t.cosineSimilarity(x, y), [[2, 0], [2, 0]], [2]],
  ["pixelShuffle", (x) => t.pixelShuffle(x, 2), [[0, 4, 1, 1]], [0, 1, 2, 2]],
  ["windowPartition", (x) => t.windowPartition(x, 2), [[0, 4, 4, 3]], [0, 4, 3]],
  ["windowReverse", (x) => t.windowReverse(x, 4, 2), [[0, 4, 3]], [0, 4, 4, 3]],
  ["unfold, no images", (x) => t.unfold(x, 2), [[0, 1, 3, 3]], [0, 4, 4]],
  ["fold, no images", (x) => t.fold(x, 3, 2), [[0, 4, 4]], [0, 1, 3, 3]],
  ["logcumsumexp", (x) => t.logcumsumexp(x), [[2, 0]], [2, 0]],
  ["glu", (x) => t.glu(x), [[0, 4]], [0, 2]],
  ["lerp", (x, y) => t.lerp(x, y, 0.3), [[0, 4], [4]], [0, 4]],
  ["hypot", t.hypot, [[0, 4], [4]], [0, 4]],
  ["rfft", (x) => t.rfft(x), [[0, 4]], [0, 3, 2]],
  ["fft", (x) => t.fft(x, { axis: 0 }), [[37, 0, 2]], [37, 0, 2]],
];

for (const captured of [false, true]) {
  Deno.test(`nothing in, nothing added${captured ? ", captured" : ""}`, async () => {
    for (const [label, f, shapes, shape, values = [], grads = {}] of CASES) {
      const operands = shapes.map((shape) => {
        const size = shape.reduce((a, b) => a * b, 1);
        const values = Float32Array.from({ length: size }, (_, i) => i + 1);
        return device.tensor(values, shape).trainable();
      });
      const run = () =>
        t.scope(() => {
          const y = (f as (...x: Tensor[]) => Tensor)(...operands);
          t.backward(t.sum(y));
          return t.contiguous(y);
        });
      using plan = captured ? t.capture(device, [], run) : undefined;
      using y = plan ? t.add(plan.replay([]), 0) : run();
      assertEquals(y.shape, shape, label);
      const zeros = (size: number) => new Array<number>(size).fill(0);
      assertEquals([...await y.data()], values.length ? [...values] : zeros(y.size), label);
      for (const [i, x] of operands.entries()) {
        assertEquals(x.grad?.shape, x.shape, `${label}: gradient ${i}`);
        assertEquals([...await x.grad!.data()], [...grads[i] ?? zeros(x.size)], `${label}: ${i}`);
        x.dispose();
      }
    }
  });
}

Deno.test("orders of nothing are empty, and what nothing has no value for is refused", () => {
  using none = device.empty([3, 0]);
  assertEquals(t.argsort(none).shape, [3, 0]);
  assertEquals(t.argmax(device.empty([0, 3]), { axis: 1 }).shape, [0]);
  assertEquals(t.searchsorted(device.empty([0]), device.empty([2])).shape, [2]);
  assertEquals(t.countNonzero(none, { axes: [1] }).shape, [3]);
  const refused: Readonly<Record<string, () => unknown>> = {
    quantile: () => t.quantile(none, 0.5, { axis: 1 }),
    median: () => t.median(none),
    argmax: () => t.argmax(none, { axis: 1 }),
    argmin: () => t.argmin(none),
    mean: () => t.mean(none, { axes: [1] }),
    max: () => t.max(none, { axes: [1] }),
    variance: () => t.variance(none, { axes: [1] }),
    mse: () => t.mse(none, none),
    crossEntropy: () => t.crossEntropy(none, zeros(3)),
    topk: () => t.topk(none, 1),
    concat: () => t.concat([], 0),
    stft: () => t.stft(none, { size: 4, hop: 2 }),
    embedding: () => t.embedding(device.empty([0, 3]), zeros(1)),
    pad: () => t.pad(none, [[0, 0], [1, 1]], "reflect"),
  };
  for (const [name, call] of Object.entries(refused)) {
    assertThrows(call, ShapeError, name === "mse" ? "" : name);
  }
});
