/**
 * Variances over many elements: every way of cutting them, data that cost digits, and their
 * gradients.
 */
import { assert, assertEquals } from "@std/assert";
import type { Device } from "../../engine/device.ts";
import { sum } from "../../engine/ops/reduce.ts";
import { variance } from "../../engine/ops/variance.ts";
import { mul } from "../../engine/ops/elementwise.ts";
import { scope } from "../../engine/scope.ts";
import { sizeOf } from "../../engine/shape.ts";
import { backward } from "../../engine/tape.ts";
import { openDevice } from "../support/device.ts";

const device = await openDevice();
const small = await openDevice({ bindingLimit: 4096 });
const plain = await openDevice({ subgroups: false });

/** Uniform between -1 and 1, the same ones every time. */
function noise(size: number): Float32Array {
  let state = 12345;
  return Float32Array.from({ length: size }, () => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return state / 2 ** 30 - 1;
  });
}

/** Mean and sum of squared deviations of each slice along `axis`, in float64. */
function reference(data: Float32Array, shape: readonly number[], axis: number) {
  const [reduce, inner] = [shape[axis], sizeOf(shape.slice(axis + 1))];
  return Array.from({ length: data.length / reduce }, (_, i) => {
    const first = Math.floor(i / inner) * reduce * inner + i % inner;
    let total = 0;
    for (let k = 0; k < reduce; k++) total += data[first + k * inner];
    const mean = total / reduce;
    let squares = 0;
    for (let k = 0; k < reduce; k++) squares += (data[first + k * inner] - mean) ** 2;
    return { mean, squares };
  });
}

/** Largest error of the variances of `data` along `axis`, relative to each. */
async function error(on: Device, data: Float32Array, shape: readonly number[], axis: number) {
  using x = on.tensor(data, shape);
  using y = variance(x, { axes: [axis], correction: 1 });
  const values = await y.data();
  return reference(data, shape, axis).reduce(
    (most, { squares }, i) =>
      Math.max(most, Math.abs(values[i] / (squares / (shape[axis] - 1)) - 1)),
    0,
  );
}

const SHAPES = [
  [[2, 777], 1],
  [[1, 300_001], 1],
  [[3, 200_004], 1],
  [[1500, 100], 1],
  [[1501, 101], 1],
  [[300, 768], 1],
  [[2, 303, 768], 1],
  [[4001, 52], 0],
  [[9001, 12], 0],
  [[2, 70, 9], 1],
] as const;

Deno.test("variances agree with float64, whatever the cut, subgroups and the binding limit", async () => {
  for (const [shape, axis] of SHAPES) {
    const data = noise(sizeOf(shape));
    for (const on of [device, plain, small]) {
      const off = await error(on, data, shape, axis);
      // Roundings of sums of up to 256 terms, times 4 where the first element is a standard
      // deviation and a half away.
      assert(off < 3e-6, `${shape} over ${axis}: ${off}`);
    }
  }
});

Deno.test("a mean of 1700 deviations costs no more than the rounding of the input", async () => {
  for (const [shape, axis] of SHAPES) {
    const data = noise(sizeOf(shape)).map((v) => v + 1000);
    const off = await error(device, data, shape, axis);
    // The largest of 1536 errors of size 2 e mean / (deviation sqrt n), e = 2^-25; what rounding
    // the input (which the reference sees as well) does is as large. Sums of squares of x itself
    // would be off by 0.3.
    assert(off < 3e-5, `${shape} over ${axis}: ${off}`);
  }
});

Deno.test("an outlier where a block starts keeps its bound", async () => {
  for (const [shape, axis] of SHAPES) {
    const data = noise(sizeOf(shape));
    // First of every column or row, far out: all deviations are taken from it.
    const inner = sizeOf(shape.slice(axis + 1));
    for (let i = 0; i < data.length; i++) {
      if (Math.floor(i / inner) % shape[axis] === 0) data[i] = 1e4;
    }
    const off = await error(device, data, shape, axis);
    // n e with n = 1024 elements of a block and e = 2^-21, the rounding of sums of some hundred
    // terms.
    assert(off < 1024 * 2 ** -21, `${shape} over ${axis}: ${off}`);
  }
});

Deno.test("axes with others between them, and the gradient, at sizes with several blocks", async () => {
  const shape = [5, 37, 260, 3];
  const data = noise(sizeOf(shape));
  using x = device.tensor(data, shape).trainable();
  using weights = device.tensor(noise(37 * 3), [1, 37, 1, 3]);
  using y = scope(() => {
    const y = variance(x, { axes: [0, 2], keepDims: true, correction: 0 });
    backward(sum(mul(y, weights)));
    return y;
  });
  assertEquals(y.shape, [1, 37, 1, 3]);
  const [values, grads] = await device.read([y, x.grad!]);
  const factors = noise(37 * 3);
  for (let j = 0; j < 37; j++) {
    for (let c = 0; c < 3; c++) {
      const at: number[] = [];
      for (let a = 0; a < 5; a++) {
        for (let b = 0; b < 260; b++) at.push(((a * 37 + j) * 260 + b) * 3 + c);
      }
      const mean = at.reduce((total, i) => total + data[i], 0) / at.length;
      const squares = at.reduce((total, i) => total + (data[i] - mean) ** 2, 0);
      assert(Math.abs(values[j * 3 + c] / (squares / at.length) - 1) < 1e-6);
      for (const i of at) {
        const wanted = 2 / at.length * (data[i] - mean) * factors[j * 3 + c];
        // Means are near 0: their error is a few roundings of values near 1.
        assert(Math.abs(grads[i] - wanted) < 4 * 2 ** -24 * 2 / at.length, `${grads[i]} ${wanted}`);
      }
    }
  }
});

Deno.test("equal elements have a variance of 0, NaN gives NaN, repeated runs the same bits", async () => {
  const data = noise(3 * 5000);
  data.fill(0.1, 0, 5000);
  data[7000] = NaN;
  using x = device.tensor(data, [3, 5000]);
  using first = variance(x, { axes: [1] });
  using second = variance(x, { axes: [1] });
  const [a, b] = await device.read([first, second]);
  assertEquals(a[0], 0);
  assertEquals(a[1], NaN);
  assertEquals([...a], [...b]);
});
