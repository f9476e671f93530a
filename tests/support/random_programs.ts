/**
 * Random programs: chains of ops over small shapes, with tensors disposed along the way and steps
 * that backward recomputes, against the ops' own float64 references; and the same captured and
 * replayed twice, which gives the same bits.
 *
 * Steps are of two kinds. {@link RULES} has ops that take a value of any shape. Every op and
 * composed function with samples (`tests/samples/`) joins by itself as well: a step takes one of
 * its samples and puts the chain's value, brought to that shape and to a factor between 0.27 and
 * 0.73, on one of the sample's float inputs, whose domain it so stays in; the other inputs are
 * leaves and constants.
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
  checkpoint,
  type Device,
  type HostArray,
  type Op,
  type RefArray,
  registry,
  scope,
  sum,
  type Tensor,
} from "../../engine/mod.ts";
import { refFrom, refZeros } from "../../engine/reference.ts";
import { refRandom } from "./random.ts";
import { composedOps, type Sample, type SampledOp, sampledOps } from "./samples.ts";

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

/** What made a value. */
interface Made {
  readonly op: Op<unknown>;
  readonly inputs: readonly Value[];
  readonly attrs: unknown;
  /** Which of the op's outputs it is. */
  readonly output: number;
  /** The sample that the step follows. */
  readonly sample?: Sample;
}

/** A tensor of a chain: a leaf, a constant, or what a step made. */
interface Value {
  readonly tensor: Tensor;
  /** Approximate values, which decide whether an op is numerically sensible here. */
  readonly shadow: RefArray;
  /** A copy, to be read at the end. */
  readonly copy: Tensor;
  readonly made?: Made;
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
  readonly constants: Value[] = [];

  /** Leaves and constants are made, or those of a chain before. */
  constructor(readonly device: Device, readonly before?: Chain) {}

  /** Inputs, which outlive a run. */
  get given(): readonly Value[] {
    return [...this.leaves, ...this.constants];
  }

  leaf(shape: readonly number[], seed: number): Value {
    return this.leafOf(refRandom(shape, seed));
  }

  leafOf(shadow: RefArray): Value {
    const tensor = this.before?.leaves[this.leaves.length]?.tensor ??
      this.device.tensor(Float32Array.from(shadow.data), shadow.shape).trainable();
    const value = this.#value(tensor, shadow);
    this.leaves.push(value);
    return value;
  }

  constant(shadow: RefArray, dtype: "f32" | "u32" | "i32"): Value {
    const hosts = { f32: Float32Array, u32: Uint32Array, i32: Int32Array };
    const tensor = this.before?.constants[this.constants.length]?.tensor ??
      this.device.tensor(hosts[dtype].from(shadow.data) as HostArray, shadow.shape);
    const value = this.#value(tensor, shadow);
    this.constants.push(value);
    return value;
  }

  /** One op; its first output, or nothing where the device does not bind enough for it. */
  step(name: string, inputs: readonly Value[], attrs: unknown): Value | undefined {
    return this.apply(registry().get(name)!, inputs, attrs);
  }

  /** As {@link step}, recomputed in backward if wanted and it has one output. */
  apply(
    op: Op<unknown>,
    inputs: readonly Value[],
    attrs: unknown,
    sample?: Sample,
    recomputed = false,
  ): Value | undefined {
    const shadows = op.reference.forward(inputs.map((it) => it.shadow), attrs);
    const body = (...tensors: Tensor[]) => op.apply(tensors, attrs);
    const tensors = inputs.map((it) => it.tensor);
    try {
      const outputs = recomputed && shadows.length === 1
        ? [checkpoint((...tensors: Tensor[]) => body(...tensors)[0])(...tensors)]
        : body(...tensors);
      return outputs.map((tensor, output) => {
        assertEquals(tensor.shape, shadows[output].shape, op.name);
        return this.#value(tensor, shadows[output], { op, inputs, attrs, output, sample });
      })[0];
    } catch (error) {
      if (refused(this.device, error)) return undefined;
      throw error;
    }
  }

  #value(tensor: Tensor, shadow: RefArray, made?: Made): Value {
    using plain = tensor.view(tensor.shape, tensor.strides);
    const value = { tensor, shadow, copy: add(plain, 0), made };
    this.values.push(value);
    return value;
  }
}

/** Whether a device that binds little says that a row is too long for it. */
const refused = (device: Device, error: unknown): boolean =>
  error instanceof RangeError && device.bindingLimit < 2 ** 20;

/** Whether a chain may go on from a value, and backward start there. */
const joins = ({ tensor, shadow, made }: Value): boolean =>
  !tensor.disposed && tensor.dtype === "f32" && shadow.data.length > 0 &&
  shadow.data.length <= MOST && shadow.shape.length <= 4 &&
  !made?.op.auxiliary?.includes(made.output) &&
  shadow.data.every((x) => Math.abs(x) < 1e6);

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
  const live = chain.values.filter((it) => joins(it) && `${it.shadow.shape}` === `${shape}`);
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
  // Mostly one part goes on, and the other reaches no loss.
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

/** Samples that programs take: small ones, of plain numbers and near the usual tolerance. */
const usable = ({ inputs, tolerance = 0 }: Sample): boolean =>
  tolerance <= 1e-5 && inputs.length > 0 &&
  inputs.every(({ data }) =>
    data.length > 0 && data.length <= MOST && data.every((x) => Math.abs(x) < 100)
  );

/** Values of an array by factors of 0.27 to 0.73 that come from `x`. */
function scaled(chain: Chain, x: Value, base: RefArray): Value | undefined {
  const [size, length] = [x.shadow.data.length, base.data.length];
  let y: Value | undefined = chain.step("reshape", [x], { shape: [size] });
  const counts = [Math.ceil(length / size)];
  y = y && chain.step("repeat", [y], { counts });
  y = y && chain.step("slice", [y], { axis: 0, start: 0, length });
  y = y && chain.step("reshape", [y], { shape: base.shape });
  y = y && chain.step("tanh", [y], null);
  y = y && chain.step("sigmoid", [y], null);
  return y && chain.step("mul", [chain.leafOf(base), y], null);
}

/** A step that follows one of an op's samples. */
const sampled = ({ op, samples }: SampledOp): Rule => (chain, x, { operand, other, detail }) => {
  const sample = pick(samples, detail);
  const float = (i: number) => sample.integer?.[i] === undefined;
  const wanted = sample.inputs.flatMap((_, i) =>
    op.backward && float(i) && !sample.constant?.includes(i) ? [i] : []
  );
  const slot = wanted.length > 0 ? pick(wanted, other) : undefined;
  const inputs = sample.inputs.map((array, i) => {
    if (i === slot) return scaled(chain, x, array);
    const leaf = wanted.includes(i);
    return leaf ? chain.leafOf(array) : chain.constant(array, sample.integer?.[i] ?? "f32");
  });
  if (inputs.every((it) => it !== undefined)) {
    chain.apply(op, inputs, sample.attrs, sample, operand % 4 === 1);
  }
};

/** Rules of everything that has samples, by name. */
async function sampledRules(): Promise<Record<string, Rule>> {
  const all = [...await sampledOps(), ...await composedOps()]
    .map((it) => ({ ...it, samples: it.samples.filter(usable) }))
    .filter(({ samples }) => samples.length > 0);
  return Object.fromEntries(all.map((it) => [`sampled ${it.op.name}`, sampled(it)]));
}

/**
 * Runs a chain; the copies to read, what made them, the leaves and their gradients.
 *
 * @param before the same chain, run before
 */
function run(
  device: Device,
  rules: Readonly<Record<string, Rule>>,
  shape: readonly number[],
  choices: readonly Choice[],
  before?: Chain,
) {
  return scope(() => {
    const chain = new Chain(device, before);
    chain.leaf(shape, 1);
    for (const choice of choices) {
      const live = chain.values.filter(joins);
      if (live.length === 0) break;
      // Mostly the newest value, so that chains grow deep.
      const x = choice.operand % 3 ? live[live.length - 1] : pick(live, choice.operand);
      rules[choice.op](chain, x, choice);
      // Leaves stay: theirs are the gradients. Everything else may go, whoever still needs its
      // values.
      if (choice.dispose && x.made && chain.values.at(-1) !== x) x.tensor.dispose();
    }
    const last = chain.values.findLast((it) => joins(it) && it.tensor.node && it.made?.op.backward);
    const traced = last !== undefined && backed(device, last);
    const grads = chain.leaves.map(({ tensor }) =>
      traced && tensor.grad ? add(tensor.grad, 0) : undefined
    );
    return {
      chain,
      given: chain.given.map(({ tensor }) => tensor),
      values: chain.values,
      grads,
      last,
    };
  });
}

/** Runs backward, unless the device binds too little for it. */
function backed(device: Device, { tensor, shadow }: Value): boolean {
  try {
    backward(shadow.shape.length === 0 ? tensor : sum(tensor));
    return true;
  } catch (error) {
    if (refused(device, error)) return false;
    throw error;
  }
}

/** What a chain leaves to read. */
const readable = ({ values, grads }: ReturnType<typeof run>): Tensor[] => [
  ...values.map(({ copy }) => copy),
  ...grads.filter((grad) => grad !== undefined),
];

/** Runs a program on a device and holds every value and gradient against float64. */
async function checkProgram(
  device: Device,
  rules: Readonly<Record<string, Rule>>,
  shape: readonly number[],
  choices: readonly Choice[],
  captured: boolean,
) {
  const ran = run(device, rules, shape, choices);
  const { chain } = ran;
  try {
    const data = await device.read(readable(ran));
    compare(data.map((it) => Float64Array.from(it)), ran);
    if (!captured) return;
    const zeroGrad = () => chain.leaves.forEach(({ tensor }) => tensor.zeroGrad());
    zeroGrad();
    using plan = capture(device, [], () => readable(run(device, rules, shape, choices, chain)));
    for (const replay of ["first", "second"]) {
      const replayed = await device.read(plan.replay([]));
      assertEquals(replayed.map(bits), data.map(bits), `the ${replay} replay is not the eager run`);
      zeroGrad();
    }
  } finally {
    // What the scope returned is this function's.
    for (const { tensor, copy } of chain.values) [tensor, copy].forEach((it) => it.dispose());
    ran.grads.forEach((grad) => grad?.dispose());
  }
}

/** Bits of floats; NaN is one value. */
const bits = (data: ArrayLike<number>): number[] =>
  Array.from(new Uint32Array(Float32Array.from(data).buffer));

/** Largest distance of two arrays; where one is infinite or NaN, the other is the same. */
const distance = (expected: Float64Array, got: ArrayLike<number>): number =>
  largest(expected.map((x, i) => Object.is(Math.fround(x), got[i]) ? 0 : x - got[i]));

function compare(
  data: readonly Float64Array[],
  { chain, values, grads, last }: ReturnType<typeof run>,
): void {
  const actual = new Map<Value, RefArray>(
    values.map((value, i) => [value, { shape: value.shadow.shape, data: data[i] }]),
  );
  const outer = new Map<Value, RefArray>(last && [[last, refFrom(last.shadow.shape, () => 1)]]);
  // What lies outside an op's domain is NaN or infinite on both sides.
  const size = (arrays: readonly RefArray[]) =>
    Math.max(...arrays.map((it) => largest(it.data.filter(Number.isFinite))));
  let steepest = 1;
  for (const value of values.toReversed()) {
    if (!value.made) continue;
    const { op, inputs, attrs, output, sample } = value.made;
    const { name, reference } = op;
    const given = inputs.map((it) => actual.get(it)!);
    const all = reference.forward(given, attrs);
    const expected = all[output];
    const positive = given.map((it) => ({ ...it, data: it.data.map(Math.abs) }));
    const scale = Math.max(
      1e-30, // all of it may be 0
      size([expected]),
      size(given.filter((_, i) => sample?.integer?.[i] === undefined)),
      sample || ["exp", "square"].includes(name)
        ? 0
        : size([reference.forward(positive, attrs)[output]]),
    );
    const error = distance(expected.data, actual.get(value)!.data) / scale;
    const what = `${name}${sample ? `, ${sample.label},` : ""} of [${
      given.map((it) => it.shape).join("] [")
    }]`;
    assert(error < Math.max(FORWARD, sample?.tolerance ?? 0), `${what}: ${error}`);
    const grad = outer.get(value);
    if (!grad || !op.backward) continue;
    const seeds = all.map((it, i) => i === output ? grad : refZeros(it.shape));
    reference.backward!(given, attrs, seeds).forEach((part, i) => {
      if (!part || sample?.integer?.[i] || sample?.constant?.includes(i)) return;
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
  chain.leaves.forEach((leaf, i) => {
    if (!grads[i]) return;
    const expected = outer.get(leaf) ?? refZeros(leaf.shadow.shape);
    const error = distance(expected.data, data[at++]) / steepest;
    assert(error < BACKWARD, `gradient of leaf ${i} [${leaf.shadow.shape}]: ${error}`);
  });
}

const choice = (op: fc.Arbitrary<string>): fc.Arbitrary<Choice> =>
  fc.record({
    op,
    operand: fc.nat({ max: 100 }),
    other: fc.nat({ max: 1000 }),
    detail: fc.nat({ max: 1000 }),
    dispose: fc.boolean(),
  });
const shapes = fc.array(fc.constantFrom(...SIZES), { minLength: 0, maxLength: 3 });

/**
 * Draws programs from a seed, runs them and fails with the smallest one that is wrong.
 *
 * @param seed decides all programs
 * @param count programs
 * @param captured whether plans of them are run as well
 * @param samples whether half of the steps follow samples of all ops, whose kernels take long to
 *   compile
 */
export async function checkPrograms(
  device: Device,
  seed: number,
  count: number,
  captured: boolean,
  samples: boolean,
): Promise<void> {
  const ofSamples = samples ? await sampledRules() : {};
  const rules = { ...RULES, ...ofSamples };
  const names = [RULES, ofSamples].map(Object.keys).filter((it) => it.length > 0);
  const op = fc.oneof(...names.map((it) => fc.constantFrom(...it)));
  const choices = fc.array(choice(op), { minLength: 1, maxLength: 16, size: "max" });
  await fc.assert(
    fc.asyncProperty(shapes, choices, async (shape, choices) => {
      const before = device.memory.liveBytes;
      await checkProgram(device, rules, shape, choices, captured);
      assertEquals(device.memory.liveBytes, before);
    }),
    { seed, numRuns: count, unbiased: true },
  );
}
