/**
 * Values that change between forward and backward: a gradient is right (by the derivative at the
 * old values), or the backward pass refuses before it changed anything.
 */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  AdamW,
  add,
  addScaled,
  assign,
  backward,
  capture,
  dropout,
  exp,
  LifetimeError,
  linear,
  matmul,
  mul,
  recompute,
  reshape,
  scope,
  SGD,
  slice,
  split,
  sum,
  tanh,
  type Tensor,
} from "../../engine/mod.ts";
import { fill } from "../../engine/launch/copy.ts";
import { openDevice } from "../support/device.ts";

const device = await openDevice();

/** Ways to overwrite [3] without going through an optimizer. */
const WRITES: Record<string, (w: Tensor) => void> = {
  assign: (w) => scope(() => assign(w, device.tensor([1, 2, 3]))),
  addScaled: (w) => scope(() => addScaled(w, device.tensor([1, 2, 3]), 0.5)),
  fill: (w) => fill(w, 2),
  write: (w) => device.write(w, Float32Array.of(1, 2, 3)),
  copy: (w) => scope(() => device.copy(device.tensor([1, 2, 3]), w)),
  "write through a view": (w) => {
    using part = w.view([1], undefined, w.offset + 1);
    device.write(part, Float32Array.of(5));
  },
  "a replay": (w) => {
    using plan = capture(device, [], () => fill(w, 4));
    plan.replay([]);
  },
};

Deno.test("w³ with a step between names the op, says what to do, keeps the gradient", async () => {
  using w = device.tensor([3]).trainable();
  using optimizer = new SGD([w], { rate: 0.25 });
  scope(() => backward(sum(mul(w, 2))));
  scope(() => {
    const cube = sum(mul(w, mul(w, w)));
    optimizer.step();
    const { message } = assertThrows(() => backward(cube), LifetimeError);
    for (const part of ['"mul"', "[1]", "optimizer", "compute the loss"]) {
      assert(message.includes(part), message);
    }
  });
  assertEquals([...await w.grad!.data()], [2]);
  optimizer.zeroGrad();
  // 3 w² at the new value, 2.5.
  scope(() => backward(sum(mul(w, mul(w, w)))));
  assertEquals([...await w.grad!.data()], [18.75]);
});

for (const [name, write] of Object.entries(WRITES)) {
  Deno.test(`${name} between forward and backward is refused where values are needed`, async () => {
    using w = device.tensor([0.5, 1, 2]).trainable();
    using c = device.tensor([1, -1, 2]);
    const refused = (loss: () => Tensor, op: string, target: Tensor) =>
      scope(() => {
        const value = loss();
        write(target);
        assertThrows(() => backward(value), LifetimeError, `"${op}"`);
      });
    refused(() => sum(mul(w, w)), "mul", w);
    refused(() => sum(mul(w, c)), "mul", c);
    refused(() => sum(linear(reshape(c, [1, 3]), reshape(w, [1, 3]))), "linear", c);
    refused(() => sum(recompute((x) => tanh(mul(x, c)), w)), "recompute", c);
    refused(() => sum(recompute((x) => tanh(mul(x, c)), w)), "recompute", w);
    assertEquals(w.grad, undefined);
    // What no gradient needs may change: d/dw of w c + w is c + 1, whatever w is now.
    const [k] = [await c.data()];
    scope(() => {
      const loss = sum(add(mul(w, c), w));
      write(w);
      backward(loss);
    });
    assertEquals([...await w.grad!.data()], [...k].map((v) => v + 1));
  });
}

Deno.test("a changed output is seen by ops that saved it, and a changed view by its whole", () => {
  using w = device.tensor([0.5, 1, 2]).trainable();
  scope(() => {
    const y = exp(w);
    const loss = sum(y);
    fill(y, 1);
    assertThrows(() => backward(loss), LifetimeError, '"exp"');
    const [first] = split(mul(w, 2), 0, [1, 2]);
    const squared = sum(mul(first, first));
    fill(first, 1);
    assertThrows(() => backward(squared), LifetimeError, '"mul"');
    const step = device.tensor(Uint32Array.of(1));
    const dropped = sum(dropout(w, { rate: 0.5, seed: 1, step }));
    device.write(step, Uint32Array.of(2));
    assertThrows(() => backward(dropped), LifetimeError, '"dropout"');
  });
});

Deno.test("what was written before the forward pass or beside it raises no alarm", async () => {
  using arena = device.tensor([1, 2, 3, 4]);
  using other = device.tensor([0, 0]);
  using w = device.tensor([2, 3]).trainable();
  using optimizer = new AdamW([w], { rate: 0.1 });
  for (let i = 0; i < 3; i++) {
    scope(() => {
      fill(arena, 2 + i);
      const x = slice(arena, 0, 1, 2);
      const y = recompute((x) => mul(x, add(mul(w, w), x)), x);
      void y;
      const z = recompute((v) => mul(v, v), mul(w, x));
      const loss = sum(z);
      device.write(other, Float32Array.of(i, i));
      assign(other, x);
      using plan = capture(device, [other], (o) => {
        fill(w, 0);
        return mul(o, 2);
      });
      void plan;
      backward(loss);
      optimizer.step();
      optimizer.zeroGrad();
    });
  }
  assert((await w.data()).every(Number.isFinite));
});

Deno.test("inside a captured function as well, at recording", () => {
  using w = device.tensor([1, 2]).trainable();
  assertThrows(
    () =>
      capture(device, [], () => {
        const loss = sum(mul(w, w));
        fill(w, 3);
        backward(loss);
      }),
    LifetimeError,
    '"mul"',
  );
  // Nothing was written, so nothing is refused outside.
  scope(() => {
    const loss = sum(mul(w, w));
    using plan = capture(device, [], () => {
      fill(w, 3);
      return add(w, 1);
    });
    void plan;
    backward(loss);
  });
});

Deno.test("random programs: gradients agree with float64 or are refused", async () => {
  const operand = fc.nat(5);
  const operation = fc.record({
    op: fc.constantFrom("mul", "add", "matmul", "tanh"),
    a: operand,
    b: operand,
  });
  const written = fc.option(fc.nat(1));
  let right = 0;
  let refusals = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(operation, { minLength: 1, maxLength: 5 }),
      written,
      async (program, target) => {
        const start = [[0.5, -0.25, 0.75, 1], [1, 0.5, -0.5, 0.25]];
        const leaves = start.map((values) => device.tensor(values, [2, 2]).trainable());
        /** The loss in float64. */
        const value = (w: number[][]): number => {
          const known = [...w];
          for (const { op, a, b } of program) {
            const [x, y] = [known[a % known.length], known[b % known.length]];
            known.push(
              op === "mul"
                ? x.map((v, i) => v * y[i])
                : op === "add"
                ? x.map((v, i) => v + y[i])
                : op === "tanh"
                ? x.map(Math.tanh)
                : [0, 1, 2, 3].map((i) => x[i & 2] * y[i & 1] + x[(i & 2) + 1] * y[(i & 1) + 2]),
            );
          }
          return known[known.length - 1].reduce((s, v) => s + v, 0);
        };
        let refused = false;
        scope(() => {
          const known = [...leaves];
          for (const { op, a, b } of program) {
            const [x, y] = [known[a % known.length], known[b % known.length]];
            known.push(
              op === "mul"
                ? mul(x, y)
                : op === "add"
                ? add(x, y)
                : op === "tanh"
                ? tanh(x)
                : matmul(x, y),
            );
          }
          const loss = sum(known[known.length - 1]);
          if (target !== null) fill(leaves[target], 9);
          try {
            backward(loss);
          } catch (error) {
            if (!(error instanceof LifetimeError)) throw error;
            refused = true;
          }
        });
        if (refused) refusals++;
        for (const [l, leaf] of leaves.entries()) {
          if (refused) assertEquals(leaf.grad, undefined);
          else if (leaf.grad) {
            (await leaf.grad.data()).forEach((got, i) => {
              const at = (h: number) =>
                value(start.map((w, k) => k === l ? w.map((v, j) => j === i ? v + h : v) : w));
              // Differences of a smooth function: h² and rounding of values of at most some tens.
              const expected = (at(1e-4) - at(-1e-4)) / 2e-4;
              assertAlmostEquals(got, expected, 1e-4 * (1 + Math.abs(expected)));
            });
            right++;
          }
          leaf.dispose();
        }
        if (target === null) assert(!refused, "nothing was overwritten");
      },
    ),
    { seed: 11, numRuns: 80 },
  );
  assert(right > 40 && refusals > 10, `${right} right, ${refusals} refused`);
});
