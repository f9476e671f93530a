/**
 * Recurrent layers and dropout: torch's equations in float64, directions and layers, gradients
 * through time, captured steps.
 */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../engine/errors.ts";
import { Dropout } from "../../engine/nn/dropout.ts";
import { GRU, LSTM } from "../../engine/nn/recurrent.ts";
import { mul } from "../../engine/ops/elementwise.ts";
import { sum } from "../../engine/ops/reduce.ts";
import { capture } from "../../engine/plan.ts";
import { scope } from "../../engine/scope.ts";
import { backward } from "../../engine/tape.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { openDevice } from "../support/device.ts";
import { refRandom } from "../support/random.ts";

const device = await openDevice();
const upload = (shape: readonly number[], seed: number): Tensor =>
  device.tensor(Float32Array.from(refRandom(shape, seed).data), shape);

type Values = Readonly<Record<string, ArrayLike<number>>>;
const logistic = (x: number) => 1 / (1 + Math.exp(-x));

/** States of one sequence [tokens][inputs] in float64, as torch's manual has them. */
function refStates(
  kind: "LSTM" | "GRU",
  sequence: readonly (readonly number[])[],
  weights: Values,
  width: number,
  suffix: string,
): number[][] {
  const product = (name: string, x: readonly number[], row: number) =>
    x.reduce(
      (total, v, i) => total + v * weights[`weight_${name}_${suffix}`][row * x.length + i],
      0,
    ) +
    weights[`bias_${name}_${suffix}`][row];
  let h = new Array<number>(width).fill(0);
  let c = h;
  return sequence.map((x) => {
    const before = h;
    const gate = (k: number, i: number) => [
      product("ih", x, k * width + i),
      product("hh", before, k * width + i),
    ];
    const both = (k: number, i: number) => gate(k, i)[0] + gate(k, i)[1];
    if (kind === "GRU") {
      h = before.map((value, i) => {
        const [r, z] = [logistic(both(0, i)), logistic(both(1, i))];
        const n = Math.tanh(gate(2, i)[0] + r * gate(2, i)[1]);
        return (1 - z) * n + z * value;
      });
    } else {
      c = c.map((value, i) =>
        logistic(both(1, i)) * value + logistic(both(0, i)) * Math.tanh(both(2, i))
      );
      h = c.map((value, i) => logistic(both(3, i)) * Math.tanh(value));
    }
    return h;
  });
}

for (const [kind, Layer] of [["LSTM", LSTM], ["GRU", GRU]] as const) {
  Deno.test(`${kind}: two layers, both directions, as torch's equations have them`, async () => {
    const [batch, tokens, inputs, width] = [2, 3, 4, 3];
    using layer = new Layer(device, inputs, width, 5, {
      layers: 2,
      bidirectional: true,
      batchFirst: true,
    });
    const named = [...layer.parameters()];
    const gates = kind === "LSTM" ? 4 : 3;
    assertEquals(named.length, 16);
    assertEquals(named[0][0], "weight_ih_l0");
    assertEquals(named[7][0], "bias_hh_l0_reverse");
    assertEquals(layer.state().next().value![1].shape, [gates * width, inputs]);
    const x = refRandom([batch, tokens, inputs], 6).data;
    const input = device.tensor(Float32Array.from(x), [batch, tokens, inputs]);
    const { output, state } = layer.run(input);
    const [values, last, ...weights] = await device.read([
      output,
      state.h,
      ...named.map(([, it]) => it),
    ]);
    const of = Object.fromEntries(named.map(([name], i) => [name, weights[i]]));
    const bound = width ** -0.5;
    assert(weights.every((it) => it.every((value) => Math.abs(value) <= bound)));
    for (let b = 0; b < batch; b++) {
      let sequence = Array.from(
        { length: tokens },
        (_, t) => [...x.subarray((b * tokens + t) * inputs, (b * tokens + t + 1) * inputs)],
      );
      for (const level of [0, 1]) {
        const there = refStates(kind, sequence, of, width, `l${level}`);
        const back = refStates(kind, sequence.toReversed(), of, width, `l${level}_reverse`);
        there.at(-1)!.forEach((value, i) =>
          assertAlmostEquals(last[((2 * level) * batch + b) * width + i], value, 1e-6)
        );
        back.at(-1)!.forEach((value, i) =>
          assertAlmostEquals(last[((2 * level + 1) * batch + b) * width + i], value, 1e-6)
        );
        sequence = there.map((own, t) => [...own, ...back[tokens - 1 - t]]);
      }
      sequence.flat().forEach((value, i) =>
        assertAlmostEquals(values[b * tokens * 2 * width + i], value, 1e-6)
      );
    }
  });

  Deno.test(`${kind}: gradients through time, and a captured step gives the same bits`, async () => {
    const [tokens, batch, inputs, width] = [3, 2, 3, 2];
    using layer = new Layer(device, inputs, width, 7);
    const x = upload([tokens, batch, inputs], 8);
    const seed = upload([tokens, batch, width], 9);
    const parameters = [...layer.parameters()].map(([, it]) => it);
    const step = (input: Tensor) => {
      parameters.forEach((it) => it.zeroGrad());
      const loss = sum(mul(layer.apply(input), seed));
      const value = loss.view(loss.shape);
      backward(loss);
      return value;
    };
    using loss = scope(() => step(x));
    const gradients = await device.read(parameters.map((it) => it.grad!));
    using plan = capture(device, [x], step);
    const again = plan.replay([x]);
    assertEquals(await again.data(), await loss.data());
    assertEquals(await device.read(parameters.map((it) => it.grad!)), gradients);
    // Against central differences of the layer itself, whose f32 results are right to some 1e-7.
    for (const [k, parameter] of parameters.entries()) {
      const own = Float32Array.from(await parameter.data() as Float32Array);
      const at = async (by: number) => {
        device.write(parameter, own.map((value, i) => i === 1 ? value + by : value));
        const value = await scope(() => sum(mul(layer.apply(x), seed))).item();
        device.write(parameter, own);
        return value;
      };
      const slope = (await at(0.02) - await at(-0.02)) / 0.04;
      assertAlmostEquals(gradients[k][1], slope, 5e-4);
    }
  });
}

Deno.test("a state goes on where the sequence before it ended", async () => {
  using layer = new LSTM(device, 3, 2, 1);
  const x = upload([4, 2, 3], 2);
  const parts = [0, 2].map((from) => x.view([2, 2, 3], undefined, from * 6));
  const first = layer.run(parts[0]);
  const second = layer.run(parts[1], first.state);
  const [whole, end] = await device.read([layer.apply(x), second.output]);
  assertEquals([...end], [...whole.subarray(8)]);
  assertThrows(() => layer.run(x, { h: first.state.h }), ShapeError, "lacks c");
  assertThrows(() => layer.run(x, { h: x, c: x }), ShapeError, "must be [1, 2, 2]");
  assertThrows(() => layer.apply(upload([4, 2, 5], 1)), ShapeError, "[tokens, batch, 3]");
});

Deno.test("dropout draws another mask each time, also in replays, and none in evaluation", async () => {
  using layer = new Dropout(device, 0.25, 3);
  const x = device.full([1000], 1).trainable();
  const masks: string[] = [];
  const record = (values: ArrayLike<number>) => {
    const kept = Array.from(values).filter((value) => value !== 0);
    assert(kept.every((value) => Math.abs(value - 4 / 3) < 1e-6));
    // Four deviations of 1000 draws.
    assert(Math.abs(kept.length - 750) < 55, `${kept.length}`);
    masks.push(Array.from(values, (value) => +(value !== 0)).join(""));
  };
  for (let i = 0; i < 2; i++) {
    x.zeroGrad();
    const y = scope(() => {
      const y = layer.apply(x);
      const result = y.view(y.shape);
      backward(sum(y));
      return result;
    });
    const [values, gradient] = await device.read([y, x.grad!]);
    assertEquals(gradient, values);
    record(values);
  }
  const ones = device.full([1000], 1);
  using plan = capture(device, [ones], (input) => layer.apply(input));
  for (let i = 0; i < 2; i++) record(await plan.replay([ones]).data());
  assertEquals(new Set(masks).size, 4);
  layer.train(false);
  assertEquals(layer.apply(x), x);
  assertEquals([...layer.state()].map(([name]) => name), ["uses"]);
  assertThrows(() => new Dropout(device, 1, 0), ShapeError, "rate 1");
});

Deno.test("dropout stands between layers, in training alone", async () => {
  const values = new Map<string, Tensor>();
  const lookup = (name: string, shape: readonly number[]) => {
    if (!values.has(name)) values.set(name, upload(shape, values.size));
    return values.get(name)!;
  };
  using both = new LSTM(device, 2, 2, lookup, { layers: 2, dropout: 0.5, dropoutSeed: 9 });
  using first = new LSTM(device, 2, 2, lookup);
  using second = new LSTM(device, 2, 2, (name, shape) => lookup(name.replace("l0", "l1"), shape));
  using dropout = new Dropout(device, 0.5, 9);
  assertEquals([...both.parameters()].length, 8);
  assertEquals([...both.state()].at(-1)![0], "dropout.uses");
  const x = upload([3, 4, 2], 20);
  const seen = async (t: Tensor) => [...await t.data()];
  const between = dropout.apply(first.apply(x));
  assert((await seen(between)).some((value) => value === 0));
  const trained = await seen(both.apply(x));
  assertEquals(trained, await seen(second.apply(between)));
  both.train(false);
  const evaluated = await seen(both.apply(x));
  assertEquals(evaluated, await seen(second.apply(first.apply(x))));
  assert(trained.some((value, i) => value !== evaluated[i]));
  assertThrows(() => new GRU(device, 2, 2, 1, { dropout: 1 }), ShapeError, "rate 1");
  // One layer has nothing between; what a seed draws does not depend on it.
  using alone = new GRU(device, 2, 2, 1, { dropout: 0.5 });
  using plain = new GRU(device, 2, 2, 1);
  assertEquals(await seen(alone.apply(x)), await seen(plain.apply(x)));
});
