/**
 * Random programs: chains of ops over small shapes, with tensors disposed along the way, against
 * the ops' own float64 references; and the same captured and replayed twice, which gives the same
 * bits.
 *
 * Every step is compared on the very values it was given, so that errors of earlier steps do not
 * count: what is allowed is 2e-6 of the largest of inputs, outputs and outputs for inputs without
 * signs (sums may cancel). Gradients run through the whole chain, where layer norm of nearly equal
 * values multiplies rounding by up to 1000: 1e-4 of the largest gradient met on the way. (Seen in
 * 300 chains on lavapipe: 1.4e-7 and 4e-6.)
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  add,
  backward,
  capture,
  type Device,
  type RefArray,
  registry,
  scope,
  sum,
  type Tensor,
} from "../../engine/mod.ts";
import { refFrom, refZeros } from "../../engine/reference.ts";
import { refRandom } from "./random.ts";

const FORWARD = 2e-6;
const BACKWARD = 1e-4;
const SIZES = [1, 2, 3, 4, 5, 7, 8, 11, 13];

/** Small numbers that decide everything about a step. */
interface Choice {
  readonly op: string;
  readonly operand: number;
  readonly other: number;
  readonly detail: number;
  readonly dispose: boolean;
}

/** A tensor of a chain: a leaf, or what a step made. */
interface Value {
  readonly tensor: Tensor;
  /** Approximate values, which decide whether an op is numerically sensible here. */
  readonly shadow: RefArray;
  /** A copy, to be read at the end. */
  readonly copy: Tensor;
  readonly made?: { readonly name: string; readonly inputs: readonly Value[]; attrs: unknown };
}

const largest = (data: ArrayLike<number>): number => {
  let most = 0;
  for (let i = 0; i < data.length; i++) most = Math.max(most, Math.abs(data[i]));
  return most;
};

/** A chain being run. */
class Chain {
  readonly values: Value[] = [];
  readonly leaves: Value[] = [];

  /** Leaves are made, or those of a chain before. */
  constructor(readonly device: Device, readonly before: readonly Value[] = []) {}

  leaf(shape: readonly number[], seed: number): Value {
    const shadow = refRandom(shape, seed);
    const tensor = this.before[this.leaves.length]?.tensor ??
      this.device.tensor(Float32Array.from(shadow.data), shape).trainable();
    const value = { tensor, shadow, copy: this.#copy(tensor) };
    this.values.push(value);
    this.leaves.push(value);
    return value;
  }

  step(name: string, inputs: readonly Value[], attrs: unknown): Value {
    const op = registry().get(name)!;
    const [tensor] = op.apply(inputs.map((it) => it.tensor), attrs);
    const [shadow] = op.reference.forward(inputs.map((it) => it.shadow), attrs);
    assertEquals(tensor.shape, shadow.shape, name);
    const value = { tensor, shadow, copy: this.#copy(tensor), made: { name, inputs, attrs } };
    this.values.push(value);
    return value;
  }

  #copy(tensor: Tensor): Tensor {
    using plain = tensor.view(tensor.shape, tensor.strides);
    return add(plain, 0);
  }
}

type Rule = (chain: Chain, x: Value, choice: Choice) => void;

/** An op for operands up to some size, else tanh, which brings values back to at most 1. */
const bounded = (limit: number, rule: Rule): Rule => (chain, x, choice) =>
  largest(x.shadow.data) > limit ? void chain.step("tanh", [x], null) : rule(chain, x, choice);

const unary = (name: string): Rule => (chain, x) => void chain.step(name, [x], null);

/** A shape that broadcasts with `shape`: some axes 1, leading ones left out or added. */
function partner(shape: readonly number[], detail: number): number[] {
  const other = shape.map((size, axis) => detail >> axis & 1 ? 1 : size);
  if (detail & 16) return other.slice(1);
  return detail & 32 && shape.length < 4 ? [2, ...other] : other;
}

const binary = (name: string): Rule => (chain, x, { other, detail }) => {
  const shape = partner(x.shadow.shape, detail);
  const live = chain.values.filter(({ tensor, shadow }) =>
    !tensor.disposed && `${shadow.shape}` === `${shape}`
  );
  const y = live.length > 0 ? live[other % live.length] : chain.leaf(shape, other);
  chain.step(name, other % 2 ? [x, y] : [y, x], null);
};

const reduction = (name: string): Rule => (chain, x, { detail }) => {
  const reduced = x.shadow.shape.map((_, axis) => (detail >> axis & 1) === 1);
  chain.step(name, [x], { reduced, keepDims: (detail & 16) > 0 });
};

const rows = (name: string, attrs: unknown): Rule => (chain, x) =>
  void (x.shadow.shape.length > 0 && chain.step(name, [x], attrs));

const pick = <T>(list: readonly T[], n: number): T => list[n % list.length];

const RULES: Record<string, Rule> = {
  add: binary("add"),
  sub: binary("sub"),
  maximum: binary("maximum"),
  minimum: binary("minimum"),
  mul: bounded(30, binary("mul")),
  neg: unary("neg"),
  exp: bounded(5, unary("exp")),
  square: bounded(30, unary("square")),
  relu: unary("relu"),
  tanh: unary("tanh"),
  gelu: unary("gelu"),
  sigmoid: unary("sigmoid"),
  abs: unary("abs"),
  powScalar: bounded(
    10,
    (chain, x, { detail }) => void chain.step("powScalar", [x], { exponent: 2 + detail % 3 }),
  ),
  clamp: (chain, x) => void chain.step("clamp", [x], { low: -0.5, high: 1 }),
  sum: bounded(1000, reduction("sum")),
  mean: reduction("mean"),
  max: reduction("max"),
  min: reduction("min"),
  softmax: rows("softmax", { temperature: 1 }),
  logSoftmax: bounded(100, rows("logSoftmax", { temperature: 0.5 })),
  contiguous: unary("contiguous"),
  layerNorm(chain, x, { other }) {
    const width = x.shadow.shape.at(-1);
    if (width === undefined) return;
    const [gamma, beta] = [chain.leaf([width], other), chain.leaf([width], other + 1)];
    chain.step("layerNorm", [x, gamma, beta], { eps: 1e-6 });
  },
  linear: bounded(100, (chain, x, { other, detail }) => {
    const width = x.shadow.shape.at(-1);
    if (width === undefined) return;
    const out = pick(SIZES, detail);
    const [weight, bias] = [chain.leaf([out, width], other), chain.leaf([out], other + 1)];
    chain.step("linear", [x, weight, bias], { gelu: other % 2 > 0, bias: true, residual: false });
  }),
  matmul: bounded(100, (chain, x, { other, detail }) => {
    const { shape } = x.shadow;
    if (shape.length < 2) return;
    const free = pick(SIZES, detail);
    const batch = detail & 1 ? shape.slice(0, -2) : [];
    const [m, k] = shape.slice(-2);
    if (other % 2) chain.step("matmul", [x, chain.leaf([...batch, k, free], other)], null);
    else chain.step("matmul", [chain.leaf([...batch, free, m], other), x], null);
  }),
  reshape(chain, x, { detail }) {
    const { shape } = x.shadow;
    const axis = shape.length > 1 ? detail % (shape.length - 1) : 0;
    const merged = [...shape.slice(0, axis), shape[axis] * shape[axis + 1]];
    const shapes = [[x.shadow.data.length], [1, ...shape], [...shape, 1]];
    if (shape.length > 1) shapes.push([...merged, ...shape.slice(axis + 2)]);
    const wanted = pick(shapes, detail >> 2);
    chain.step("reshape", [x], { shape: wanted.length > 4 ? [x.shadow.data.length] : wanted });
  },
  permute(chain, x, { detail }) {
    const order = [...x.shadow.shape.keys()];
    for (let i = order.length - 1, n = detail; i > 0; n = Math.floor(n / (i + 1)), i--) {
      [order[i], order[n % (i + 1)]] = [order[n % (i + 1)], order[i]];
    }
    chain.step("permute", [x], { order });
  },
  slice(chain, x, { other, detail }) {
    const { shape } = x.shadow;
    if (shape.length === 0) return;
    const axis = detail % shape.length;
    const start = other % shape[axis];
    const length = 1 + (detail >> 2) % (shape[axis] - start);
    chain.step("slice", [x], { axis, start, length });
  },
  // Every axis with a step of its own, some backwards.
  at(chain, x, { other, detail }) {
    const entries = x.shadow.shape.map((size, axis) => {
      const step = 1 + (other >> axis) % 3;
      const length = 1 + (detail >> axis) % Math.ceil(size / step);
      const backwards = other >> axis & 4;
      const start = backwards ? step * (length - 1) : size - 1 - step * (length - 1);
      return { start, step: backwards ? -step : step, length, drop: false };
    });
    chain.step("at", [x], {
      entries: detail & 8 && entries.length < 4 ? [null, ...entries] : entries,
    });
  },
  tril(chain, x, { detail }) {
    if (x.shadow.shape.length > 1) chain.step("tril", [x], { diagonal: detail % 7 - 3 });
  },
  expand(chain, x, { detail }) {
    const shape = x.shadow.shape.map((size) => size === 1 ? pick(SIZES, detail) : size);
    chain.step("expand", [x], { shape: detail & 1 && shape.length < 4 ? [3, ...shape] : shape });
  },
  // The first part goes on; the others reach no loss.
  split(chain, x, { other, detail }) {
    const { shape } = x.shadow;
    if (shape.length === 0) return;
    const axis = detail % shape.length;
    const first = 1 + other % shape[axis];
    chain.step("split", [x], { axis, sizes: [first, shape[axis] - first] });
  },
  topk(chain, x, { detail }) {
    const width = x.shadow.shape.at(-1);
    if (width) chain.step("topk", [x], { k: 1 + detail % width, descending: detail < 500 });
  },
  repeat(chain, x, { detail }) {
    const counts = x.shadow.shape.map((_, axis) => 1 + (detail >> axis & 1));
    chain.step("repeat", [x], {
      counts: detail & 16 && counts.length < 4 ? [2, ...counts] : counts,
    });
  },
  concat(chain, x, { other, detail }) {
    const { shape } = x.shadow;
    if (shape.length === 0) return;
    const axis = detail % shape.length;
    const y = chain.leaf(shape.map((size, i) => i === axis ? pick(SIZES, other) : size), other);
    chain.step("concat", other % 2 ? [x, y, x] : [y, x], { axis });
  },
};

/** Ops that repeat their operands. */
const COPIES = new Set(["add", "sub", "maximum", "minimum", "expand", "repeat"]);

/** Largest number of elements a chain may carry on. */
const MOST = 4000;

/**
 * Runs a chain; the copies to read, what made them, the leaves and their gradients.
 *
 * @param before leaves of the same chain
 */
function run(
  device: Device,
  shape: readonly number[],
  choices: readonly Choice[],
  before?: readonly Value[],
) {
  return scope(() => {
    const chain = new Chain(device, before);
    chain.leaf(shape, 1);
    for (const choice of choices) {
      const live = chain.values.filter(({ tensor, shadow }) =>
        !tensor.disposed && shadow.data.length <= MOST && shadow.shape.length <= 4
      );
      if (live.length === 0) break;
      // Mostly the newest value, so that chains grow deep.
      const x = choice.operand % 3 ? live[live.length - 1] : pick(live, choice.operand);
      RULES[choice.op](chain, x, choice);
      // Leaves stay: theirs are the gradients. Everything else may go, whoever still needs its
      // values.
      if (choice.dispose && x.made && chain.values.at(-1) !== x) x.tensor.dispose();
    }
    const last = chain.values.at(-1)!;
    const traced = last.made !== undefined && !last.tensor.disposed;
    if (traced) {
      backward(
        last.tensor.size === 1 && last.shadow.shape.length === 0 ? last.tensor : sum(last.tensor),
      );
    }
    const grads = chain.leaves.map(({ tensor }) =>
      traced && tensor.grad ? add(tensor.grad, 0) : undefined
    );
    return { values: chain.values, leaves: chain.leaves, grads, last };
  });
}

/** What a chain leaves to read. */
const readable = ({ values, grads }: ReturnType<typeof run>): Tensor[] => [
  ...values.map(({ copy }) => copy),
  ...grads.filter((grad) => grad !== undefined),
];

/** Runs a program on a device and holds every value and gradient against float64. */
async function checkProgram(
  device: Device,
  shape: readonly number[],
  choices: readonly Choice[],
  captured: boolean,
) {
  const chain = run(device, shape, choices);
  try {
    const data = await device.read(readable(chain));
    compare(data.map((it) => Float64Array.from(it)), chain);
    if (!captured) return;
    const zeroGrad = () => chain.leaves.forEach(({ tensor }) => tensor.zeroGrad());
    zeroGrad();
    using plan = capture(device, [], () => readable(run(device, shape, choices, chain.leaves)));
    for (const replay of ["first", "second"]) {
      const replayed = await device.read(plan.replay([]));
      assertEquals(replayed.map(bits), data.map(bits), `the ${replay} replay is not the eager run`);
      zeroGrad();
    }
  } finally {
    // What the scope returned is this function's.
    for (const { tensor, copy } of chain.values) [tensor, copy].forEach((it) => it.dispose());
    chain.grads.forEach((grad) => grad?.dispose());
  }
}

/** Bits of floats; NaN is one value. */
const bits = (data: ArrayLike<number>): number[] =>
  Array.from(new Uint32Array(Float32Array.from(data).buffer));

function compare(
  data: readonly Float64Array[],
  { values, leaves, grads, last }: ReturnType<typeof run>,
): void {
  const actual = new Map<Value, RefArray>(
    values.map((value, i) => [value, { shape: value.shadow.shape, data: data[i] }]),
  );
  const outer = new Map<Value, RefArray>(
    last.made ? [[last, refFrom(last.shadow.shape, () => 1)]] : [],
  );
  let steepest = 1;
  for (const value of values.toReversed()) {
    if (!value.made) continue;
    const { name, inputs, attrs } = value.made;
    const { reference } = registry().get(name)!;
    const given = inputs.map((it) => actual.get(it)!);
    const [expected, ...others] = reference.forward(given, attrs);
    const positive = given.map((it) => ({ ...it, data: it.data.map(Math.abs) }));
    const size = (arrays: readonly RefArray[]) => Math.max(...arrays.map((it) => largest(it.data)));
    const scale = Math.max(
      1e-30, // all of it may be 0
      size([expected]),
      size(given),
      ["exp", "square"].includes(name) ? 0 : size([reference.forward(positive, attrs)[0]]),
    );
    const got = actual.get(value)!.data;
    const error = largest(expected.data.map((x, i) => x - got[i])) / scale;
    assert(error < FORWARD, `${name} of [${given.map((it) => it.shape).join("] [")}]: ${error}`);
    const grad = outer.get(value);
    if (!grad) continue;
    const seeds = [grad, ...others.map((it) => refZeros(it.shape))];
    reference.backward!(given, attrs, seeds).forEach((part, i) => {
      if (!part) return;
      const before = outer.get(inputs[i]);
      // Of an operand that was repeated, the sum that may have cancelled.
      const repeats = COPIES.has(name) ? expected.data.length / part.data.length : 0;
      steepest = Math.max(steepest, largest(part.data), repeats * largest(grad.data));
      outer.set(
        inputs[i],
        before ? { ...part, data: part.data.map((x, k) => x + before.data[k]) } : part,
      );
    });
  }
  let at = values.length;
  leaves.forEach((leaf, i) => {
    if (!grads[i]) return;
    const got = data[at++];
    const expected = outer.get(leaf) ?? refZeros(leaf.shadow.shape);
    const error = largest(expected.data.map((x, k) => x - got[k])) / steepest;
    assert(error < BACKWARD, `gradient of leaf ${i} [${leaf.shadow.shape}]: ${error}`);
  });
}

const choice: fc.Arbitrary<Choice> = fc.record({
  op: fc.constantFrom(...Object.keys(RULES)),
  operand: fc.nat({ max: 100 }),
  other: fc.nat({ max: 1000 }),
  detail: fc.nat({ max: 1000 }),
  dispose: fc.boolean(),
});
const shapes = fc.array(fc.constantFrom(...SIZES), { minLength: 0, maxLength: 3 });
const choices = fc.array(choice, { minLength: 1, maxLength: 16, size: "max" });

/**
 * Draws programs from a seed, runs them and fails with the smallest one that is wrong.
 *
 * @param seed decides all programs
 * @param count programs
 * @param captured whether plans of them are run as well
 */
export async function checkPrograms(
  device: Device,
  seed: number,
  count: number,
  captured: boolean,
): Promise<void> {
  await fc.assert(
    fc.asyncProperty(shapes, choices, async (shape, choices) => {
      const before = device.memory.liveBytes;
      await checkProgram(device, shape, choices, captured);
      assertEquals(device.memory.liveBytes, before);
    }),
    { seed, numRuns: count, unbiased: true },
  );
}
