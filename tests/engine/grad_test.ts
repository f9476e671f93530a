/**
 * `grad`: gradients as tensors, gradients of gradients, what is refused. Derivatives of single ops
 * are held in second_derivatives_test.ts.
 */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  add,
  backward,
  capture,
  checkpoint,
  defineOp,
  detach,
  exp,
  grad,
  idiv,
  jit,
  LifetimeError,
  linear,
  matmul,
  mean,
  mod,
  mul,
  nanToNum,
  noGrad,
  norm,
  reshape,
  scope,
  SGD,
  ShapeError,
  sigmoid,
  slice,
  square,
  stack,
  sub,
  sum,
  tanh,
  type Tensor,
} from "../../engine/mod.ts";
import { openDevice } from "../support/device.ts";
import { refRandom } from "../support/random.ts";
import { fullOnly, test } from "../support/tier.ts";

const device = await openDevice();

const read = async (...tensors: Tensor[]): Promise<number[][]> =>
  (await device.read(tensors)).map((values) => [...values]);

const assertClose = (found: readonly number[], wanted: readonly number[], by = 1e-5) => {
  assertEquals(found.length, wanted.length);
  const scale = Math.max(...wanted.map(Math.abs));
  found.forEach((value, i) => assertAlmostEquals(value, wanted[i], by * scale, `element ${i}`));
};

test("derivatives of x^4 of order 1 to 5, and memory that comes back", async () => {
  using x = device.tensor([1, -2, 3]).trainable();
  const live = device.memory.liveBuffers;
  const orders = scope(() => {
    let y = square(mul(x, x));
    return [1, 2, 3, 4, 5].map(() => y = grad(sum(y), x, { createGraph: true, allowUnused: true }));
  });
  assertEquals(await read(...orders), [
    [4, -32, 108],
    [12, 48, 108],
    [24, -48, 72],
    [24, 24, 24],
    [0, 0, 0],
  ]);
  assertEquals(x.grad, undefined, "leaves collect nothing");
  orders.forEach((it) => it.dispose());
  assertEquals(device.memory.liveBuffers, live);
});

test("inputs may be leaves, results on the way, and both; lists and one", async () => {
  using x = device.tensor([1, 2, 3]).trainable();
  using c = device.tensor([2, 0, 1]).trainable();
  for (const createGraph of [false, true]) {
    const found = scope(() => {
      const h = square(x);
      const [byX, byH, byC, again] = grad(sum(mul(mul(h, h), c)), [x, h, c, x], { createGraph });
      return [byX, byH, byC, again];
    });
    // h^2 c: 4 x^3 c, 2 h c, h^2.
    const byX = [8, 0, 108];
    assertEquals(await read(...found), [byX, [4, 0, 18], [1, 16, 81], byX]);
    found.forEach((it) => it.dispose());
  }
  // A seed of the caller's, and an output that is an input as well.
  using seed = device.tensor([1, 10, 100]);
  const found = scope(() => {
    const y = mul(x, c);
    return grad(y, [x, c, y], { seed });
  });
  assertEquals(await read(...found), [[2, 0, 100], [1, 20, 300], [1, 10, 100]]);
  // What passes the incoming gradient on gives memory of its own.
  const sums = scope(() => grad(add(x, c), [x, c], { seed }));
  assertEquals(new Set([...sums, seed].map(({ storage }) => storage)).size, 3);
  [...found, ...sums].forEach((it) => it.dispose());
});

test("a graph serves one pass unless it is kept", async () => {
  using x = device.tensor([1, 2]).trainable();
  scope(() => {
    const y = sum(exp(mul(x, x)));
    grad(y, x, { retainGraph: true });
    grad(y, x);
    assertThrows(() => grad(y, x), LifetimeError, "retainGraph");
  });
  // A pass that makes a graph keeps it, and backward frees all of it.
  const live = device.memory.liveBuffers;
  const penalty = sum(square(grad(sum(mul(mul(x, x), x)), x, { createGraph: true })));
  backward(penalty);
  // d (3 x^2)^2 = 36 x^3
  assertEquals(await read(x.grad!), [[36, 288]]);
  assertThrows(() => backward(penalty), ShapeError, "depends on no trainable tensor");
  x.zeroGrad();
  assert(device.memory.liveBuffers > live);
});

/** A layer perceptron of 3 inputs, 5 tanh units and one output, in float64. */
function mlp(w: ArrayLike<number>, x: readonly number[]) {
  const hidden = [...Array(5).keys()].map((j) =>
    Math.tanh(x.reduce((s, v, k) => s + w[3 * j + k] * v, w[15 + j]))
  );
  const y = hidden.reduce((s, h, j) => s + w[20 + j] * h, 0);
  return { hidden, y };
}

/** The same by ops, of one flat tensor of parameters. */
function mlpOps(w: Tensor, x: Tensor): Tensor {
  const part = (start: number, shape: number[]) =>
    reshape(slice(w, 0, start, shape.reduce((a, b) => a * b)), shape);
  return linear(tanh(linear(x, part(0, [5, 3]), part(15, [5]))), part(20, [1, 5]));
}

fullOnly("the Hessian of a small network, row by row, eager and captured", async () => {
  const values = Float32Array.from(refRandom([25], 3).data);
  const xs = Array.from({ length: 4 }, (_, i) => [...refRandom([3], 7 + i).data]);
  /** Gradient of the mean squared output. */
  const slope = (w: ArrayLike<number>): number[] => {
    const total = new Array<number>(25).fill(0);
    for (const x of xs) {
      const { hidden, y } = mlp(w, x);
      hidden.forEach((h, j) => {
        const down = 2 * y / xs.length * w[20 + j] * (1 - h * h);
        x.forEach((v, k) => total[3 * j + k] += down * v);
        total[15 + j] += down;
        total[20 + j] += 2 * y / xs.length * h;
      });
    }
    return total;
  };
  const h = 1e-5;
  const wanted = [...values.keys()].flatMap((i) => {
    const [up, down] = [h, -h].map((by) =>
      slope(Array.from(values, (v, k) => k === i ? v + by : v))
    );
    return up.map((value, k) => (value - down[k]) / (2 * h));
  });
  using w = device.tensor(values).trainable();
  using x = device.tensor(xs.flat(), [4, 3]);
  const hessian = (x: Tensor) => {
    const g = grad(mean(square(mlpOps(w, x))), w, { createGraph: true });
    return stack(
      [...values.keys()].map((i) => grad(sum(slice(g, 0, i, 1)), w, { retainGraph: true })),
    );
  };
  const live = device.memory.liveBuffers;
  const eager = scope(() => hessian(x));
  // Products of up to 20 terms of f32.
  assertClose((await read(eager))[0], wanted);
  {
    using captured = capture(device, [x], hessian);
    captured.replay([x]);
    assertEquals(await read(captured.replay([x])), await read(eager));
  }
  eager.dispose();
  assertEquals(device.memory.liveBuffers, live);
});

test("a gradient penalty trains a critic (WGAN-GP), in jit as well", async () => {
  const [points, first, second] = [[6, 3], [8, 3], [1, 8]].map((shape, i) =>
    refRandom(shape, 20 + i)
  );
  /** Output and penalty of the critic `b tanh(A x)`: its gradient is A^T (b (1 - tanh^2)). */
  const penalty = (a: Float64Array, b: Float64Array): number => {
    let total = 0;
    for (let i = 0; i < 6; i++) {
      const x = points.data.subarray(3 * i, 3 * i + 3);
      const g = [0, 0, 0];
      let y = 0;
      for (let j = 0; j < 8; j++) {
        const t = Math.tanh([0, 1, 2].reduce((s, k) => s + a[3 * j + k] * x[k], 0));
        y += b[j] * t;
        for (let k = 0; k < 3; k++) g[k] += b[j] * (1 - t * t) * a[3 * j + k];
      }
      total += (y + 10 * (Math.hypot(...g) - 1) ** 2) / 6;
    }
    return total;
  };
  const wanted = [first, second].map(({ data }, which) =>
    [...data.keys()].map((at) => {
      const [up, down] = [1e-5, -1e-5].map((by) => {
        const moved = data.map((v, i) => i === at ? v + by : v);
        return which === 0 ? penalty(moved, second.data) : penalty(first.data, moved);
      });
      return (up - down) / 2e-5;
    })
  );
  const up = ({ shape, data }: typeof points) => device.tensor(Float32Array.from(data), shape);
  using a = up(first).trainable();
  using b = up(second).trainable();
  using x = up(points);
  const critic = (x: Tensor) => linear(tanh(linear(x, a)), b);
  const loss = (real: Tensor): Tensor => {
    const x = detach(real).trainable();
    const y = critic(x);
    const g = grad(sum(y), x, { createGraph: true });
    return add(mean(y), mul(mean(square(sub(norm(g, { axes: [1] }), 1))), 10));
  };
  scope(() => backward(loss(x)));
  const gradients = await read(a.grad!, b.grad!);
  gradients.forEach((it, i) => assertClose(it, wanted[i]));
  [a, b].forEach((it) => it.zeroGrad());

  using optimizer = new SGD([a, b], { rate: 0.01 });
  using step = jit(device, (x: Tensor) => {
    optimizer.zeroGrad();
    const value = loss(x);
    backward(value);
    optimizer.update();
    return value;
  });
  const losses: number[] = [];
  for (let i = 0; i < 20; i++) {
    optimizer.advance();
    using value = step(x);
    losses.push(await value.item());
  }
  // The penalty alone is above 0.
  assertAlmostEquals(losses[0], penalty(first.data, second.data), 1e-5 * losses[0]);
  assert(losses[19] < losses[0] / 2, `${losses[0]} to ${losses[19]}`);
});

fullOnly("where ops do nothing, gradients of gradients are 0; NaN passes as it does", async () => {
  using x = device.tensor([1.5, NaN, -2.25, Infinity]).trainable();
  using y = device.tensor([2, 1, 0.5, 1]).trainable();
  const found = scope(() => {
    const clean = grad(sum(mul(nanToNum(x), y)), [x, y], { createGraph: true });
    const [whole] = grad(sum(mul(idiv(x, y), x)), [y], { createGraph: true });
    // x mod y = x - y floor(x / y)
    const rest = grad(sum(square(mod(x, y))), [y], { createGraph: true });
    return [...clean, whole, ...rest, ...grad(sum(clean[0]), [y]), ...grad(sum(rest[0]), [y])];
  });
  const largest = Math.fround(3.4028234663852886e38);
  assertEquals(await read(...found), [
    [2, 0, 0.5, 0],
    [1.5, 0, -2.25, largest],
    [0, 0, 0, 0],
    // -2 (x mod y) floor(x / y), and twice the floor squared.
    [-0, NaN, 2.5, NaN],
    [1, 0, 1, 0],
    [0, NaN, 50, NaN],
  ]);
});

test("a graph of gradients is refused where there is none, by the op's name", () => {
  using x = device.tensor([1, 2]).trainable();
  const twice = defineOp<null>({
    name: "twiceWithoutGraph",
    forward: ([x]) => [noGrad(() => mul(x, 2))],
    backward: ({ grads: [dy] }) => [noGrad(() => mul(dy!, 2))],
    reference: { forward: ([x]) => [x] },
  });
  scope(() => {
    const y = sum(twice.apply([x], null)[0]);
    const { message } = assertThrows(() => grad(y, x, { createGraph: true }), ShapeError);
    assert(message.includes('"twiceWithoutGraph"'), message);
    grad(y, x);
    const again = sum(checkpoint((x: Tensor) => mul(x, x))(x));
    assertThrows(() => grad(again, x), ShapeError, '"checkpoint"');
  });
});

test("what is wrong is said", () => {
  using x = device.tensor([1, 2]).trainable();
  using other = device.tensor([1, 2]).trainable();
  using plain = device.tensor([1, 2]);
  using seed = device.tensor([1]);
  scope(() => {
    const y = mul(x, x);
    const cases: [() => unknown, string][] = [
      [() => grad(y, x), "reduce it to a scalar or pass a seed"],
      [() => grad(y, x, { seed }), "they must agree"],
      [() => grad(sum(plain), x), "depends on no trainable tensor"],
      [() => grad(sum(y), plain), "neither trainable"],
      [() => grad(sum(y), other), "does not depend on the input 0 [2]; pass allowUnused"],
      [() => grad(sum(y), []), "an array of tensors"],
      [() => grad(sum(y), x, { graph: true } as never), "createGraph"],
      [() => grad(1 as never, x), "a tensor is needed"],
    ];
    for (const [call, part] of cases) {
      const { message } = assertThrows(call, ShapeError);
      assert(message.startsWith("grad: ") && message.includes(part), message);
    }
    // Nothing was freed by what was refused.
    const [byOther] = grad(sum(y), [other], { allowUnused: true, retainGraph: true });
    assertEquals(byOther.shape, [2]);
    grad(sum(y), x);
  });
});

test("values that only a gradient of a gradient needs must be as they were", () => {
  using w = device.tensor([[1, 2], [3, 4]]).trainable();
  using x = device.tensor([[1, 0], [2, 1]]);
  using optimizer = new SGD([w], { rate: 1 });
  scope(() => {
    const y = sum(sigmoid(matmul(x, w)));
    const g = grad(sum(mul(mul(w, w), w)), w, { createGraph: true });
    backward(sum(w));
    optimizer.step();
    // By w alone, the product needs x; a graph of that may need w as well.
    grad(y, w, { retainGraph: true });
    assertThrows(() => grad(y, w, { createGraph: true }), LifetimeError, 'grad: "matmul" needs');
    assertThrows(() => grad(sum(g), w), LifetimeError, "overwritten");
  });
});

fullOnly("f16 gradients of gradients", async () => {
  if (!device.features.f16) return;
  using x = device.tensor(Float16Array.of(0.5, -1, 2)).trainable();
  const [g, h] = scope(() => {
    const g = grad(sum(mul(tanh(x), x)), x, { createGraph: true });
    return [g, grad(sum(g), x)];
  });
  assertEquals([g.dtype, h.dtype], ["f16", "f16"]);
  const at = [0.5, -1, 2];
  const slope = (v: number) => 1 - Math.tanh(v) ** 2;
  // Three roundings of 2^-11.
  assertClose((await read(g))[0], at.map((v) => Math.tanh(v) + v * slope(v)), 2e-3);
  assertClose(
    (await read(h))[0],
    at.map((v) => 2 * slope(v) - 2 * v * Math.tanh(v) * slope(v)),
    2e-3,
  );
});
