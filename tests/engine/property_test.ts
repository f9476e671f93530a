/**
 * Random programs against float64, and every op on operands that it has to refuse.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  add,
  backward,
  batchedIndexSelect,
  concat,
  type Device,
  expand,
  layerNorm,
  LifetimeError,
  linear,
  matmul,
  mean,
  mul,
  permute,
  reshape,
  scope,
  selfAttention,
  ShapeError,
  slice,
  softmax,
  sum,
  type Tensor,
} from "../../engine/mod.ts";
import { show } from "../../engine/shape.ts";
import { openDevice } from "../support/device.ts";
import { checkPrograms } from "../support/random_programs.ts";
import { type SampledOp, sampledOps } from "../support/samples.ts";
import { full, test } from "../support/tier.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

/** Same programs in every run; other seeds are for whoever changes an op, and for `task fuzz`. */
const SEED = 2026;
const RUNS = 40;

Deno.test("random chains of ops agree with float64, whatever is disposed on the way", async () => {
  await checkPrograms(device, SEED, full ? RUNS : 5, full, false);
});

/** Device and tensors of a misuse; everything is freed, and the device must still work. */
async function misused(body: (device: Device) => void): Promise<void> {
  const before = device.memory.liveBytes;
  scope(() => body(device));
  assertEquals(device.memory.liveBytes, before);
  using one = device.tensor([1, 2, 3]);
  using two = add(one, one);
  assertEquals([...await two.data()], [2, 4, 6]);
}

const OPS = await sampledOps();

/** The first sample's inputs of an op, each on the device that `where` gives. */
function inputsOf(
  { samples: [{ inputs, integer, attrs }] }: SampledOp,
  where: (i: number) => Device,
): { inputs: Tensor[]; attrs: unknown } {
  return {
    attrs,
    inputs: inputs.map(({ data, shape }, i) => {
      const Host = { u32: Uint32Array, i32: Int32Array, f32: Float32Array }[integer?.[i] ?? "f32"];
      return where(i).tensor(Host.from(data), shape);
    }),
  };
}

test("every op refuses a disposed operand by name and shape", () =>
  misused((device) => {
    for (const sampled of OPS) {
      const { op, samples: [sample] } = sampled;
      for (let i = 0; i < sample.inputs.length; i++) {
        const { inputs, attrs } = inputsOf(sampled, () => device);
        inputs[i].dispose();
        const error = assertThrows(() => op.apply(inputs, attrs), LifetimeError);
        assert(error.message.includes(op.name), error.message);
        assert(error.message.includes(show(inputs[i].shape)), error.message);
      }
    }
  }));

test("every op refuses operands of two devices by name", async () => {
  using other = await openDevice();
  await misused((device) => {
    for (const sampled of OPS) {
      const { inputs, attrs } = inputsOf(sampled, (i) => i === 1 ? other : device);
      if (inputs.length < 2) continue;
      assertThrows(() => sampled.op.apply(inputs, attrs), LifetimeError, sampled.op.name);
    }
  });
});

test("shapes that do not fit are refused by name, with both sides", () =>
  misused((device) => {
    const zeros = (...shape: number[]) => device.zeros(shape);
    const cases: [string, () => void, ...string[]][] = [
      ["add", () => add(zeros(2, 3), zeros(4)), "[2, 3]", "[4]"],
      ["mul", () => mul(zeros(5, 1), zeros(2, 4, 7)), "[5, 1]", "[2, 4, 7]"],
      ["matmul", () => matmul(zeros(2, 3), zeros(2, 3)), "[2, 3]"],
      ["matmul", () => matmul(zeros(4), zeros(3, 2)), "[4]", "[3, 2]"],
      ["matmul", () => matmul(zeros(3, 2), zeros(3)), "[3, 2]", "[3]"],
      ["matmul", () => matmul(zeros(2, 3, 4), zeros(3, 4, 5)), "[2]", "[3]"],
      ["linear", () => linear(zeros(2, 3), zeros(5, 4)), "[2, 3]", "[5, 4]"],
      ["linear", () => linear(zeros(2, 3), zeros(5, 3), zeros(4)), "[4]", "[5, 3]"],
      ["layerNorm", () => layerNorm(zeros(2, 3), zeros(4), zeros(3)), "[2, 3]", "[4]"],
      ["selfAttention", () => selfAttention(zeros(1, 2, 10), 2), "[1, 2, 10]"],
      [
        "batchedIndexSelect",
        () => batchedIndexSelect(zeros(1, 2, 3), zeros(1, 2)),
        "[1, 2, 3]",
        "[1, 2]",
        "f32",
      ],
      ["reshape", () => reshape(zeros(2, 3), [4]), "[2, 3]", "[4]"],
      ["permute", () => permute(zeros(2, 3), [0, 0]), "[2, 3]"],
      ["slice", () => slice(zeros(2, 3), 1, 2, 2), "[2, 3]"],
      ["expand", () => expand(zeros(2, 3), [2, 4]), "[2, 3]", "[2, 4]"],
      ["concat", () => concat([zeros(2, 3), zeros(2, 4)], 0), "[2, 3]", "[2, 4]"],
      ["sum", () => sum(zeros(2, 3), { axes: [2] }), "axis 2"],
      ["mean", () => mean(device.tensor(Uint32Array.of(1, 2))), "u32"],
      ["write", () => device.write(zeros(2), Uint32Array.of(1, 2)), "u32", "f32"],
      ["write", () => device.write(zeros(2), Float32Array.of(1)), "1 values", "[2]"],
      ["backward", () => backward(zeros(2)), "trainable"],
      ["backward", () => backward(add(zeros(2).trainable(), 1)), "[2]"],
    ];
    for (const [name, body, ...parts] of cases) {
      const { message } = assertThrows(body, ShapeError);
      for (const part of [name, ...parts]) assert(message.includes(part), `${part}: ${message}`);
    }
  }));

test("reading and writing disposed tensors is refused, the process goes on", async () => {
  const x = device.tensor([1, 2]);
  x.dispose();
  x.dispose();
  assertThrows(() => device.write(x, Float32Array.of(1, 2)), LifetimeError, "[2]");
  assertThrows(() => softmax(x), LifetimeError, "softmax");
  assertThrows(() => x.view([1]), LifetimeError, "[2]");
  await assertRejects(() => x.data(), LifetimeError, "[2]");
  assertEquals(device.memory.liveBytes, 0);
  using y = device.tensor([1, 2]);
  using loss = sum(y.trainable());
  backward(loss);
  assertThrows(() => backward(loss), ShapeError, "freed");
  assertEquals([...await y.grad!.data()], [1, 1]);
});
