/**
 * Second derivatives of every op on its samples: the gradient of a random function of its gradient,
 * by inputs and by the incoming gradient, against central differences of the gradient's float64
 * reference. The gradients that carry a graph are held against that reference itself.
 *
 * A sum over all elements of products of f32 results: 2e-5 of the largest value in f32; in f16
 * gradients and what is made of them are rounded three times, and 2^-7 allows for three roundings
 * of 2^-11 where terms cancel. An op of each kind of rule is differentiated three times, against
 * second differences of float64 that are right to 1e-6: 1e-4 for sums that cancel.
 */
import { assert } from "@std/assert";
import { derivativeOf } from "../../engine/derivatives/table.ts";
import type { RefArray } from "../../engine/op.ts";
import { type DType, grad, type Op, scope, sum, type Tensor } from "../../engine/mod.ts";
import { openDevice } from "../support/device.ts";
import { refRandom } from "../support/random.ts";
import { type Sample, sampledOps } from "../support/samples.ts";
import { full, test } from "../support/tier.ts";

const device = await openDevice();

/** Ops that the quick tier takes. */
const QUICK = ["tanh", "matmul", "max", "slice"];
/** An op of each kind of rule, which are tried in f16 as well. */
const KINDS = [...QUICK, "div", "softmax", "gather", "linear", "layerNorm", "conv2d", "scatter"];
/** Ops whose rules depend on attributes and operands. */
const VARIED = ["linear", "scatter", "attention", "selfAttention"];
/** Largest samples, for differences take a reference gradient or two for each element. */
const LARGEST = 600;
const STEP = 1e-5;
/** Seeds of directions of third derivatives. */
const THIRD = [110, 120, 130];

type Arrays = readonly (RefArray | undefined)[];

const dot = (a: Float64Array, b: Float64Array): number => a.reduce((s, v, i) => s + v * b[i], 0);

/** What is differentiated twice: random weights times the gradients of what weighs the outputs. */
interface Problem {
  readonly op: Op<unknown>;
  readonly sample: Sample;
  /** Gradients of the outputs; undefined for those without one. */
  readonly seeds: Arrays;
  /** Weights of the gradients; undefined for inputs without one. */
  readonly weights: Arrays;
}

/** Values that f16 holds, so that both element types have the same. */
const halves = ({ shape, data }: RefArray): RefArray => ({ shape, data: data.map(Math.f16round) });

/** The reference's gradients. */
function gradientsOf(
  { op, sample: { attrs } }: Pick<Problem, "op" | "sample">,
  inputs: readonly RefArray[],
  seeds: Arrays,
): Arrays {
  const given = op.reference.forward(inputs, attrs).map(({ shape, data }, i) =>
    seeds[i] ?? { shape, data: new Float64Array(data.length) }
  );
  return op.reference.backward!(inputs, attrs, given);
}

function problemOf(op: Op<unknown>, sample: Sample): Problem {
  const { inputs, integer, constant } = sample;
  const seeds = op.reference.forward(inputs, sample.attrs).map(({ shape }, i) =>
    op.auxiliary?.includes(i) ? undefined : halves(refRandom(shape, 40 + i))
  );
  const grads = gradientsOf({ op, sample }, inputs, seeds);
  const weights = inputs.map(({ shape }, i) =>
    grads[i] && integer?.[i] === undefined && !constant?.includes(i)
      ? refRandom(shape, 60 + i)
      : undefined
  );
  return { op, sample, seeds, weights };
}

/** The number whose gradient is taken, by the reference. */
function valueOf(problem: Problem, inputs: readonly RefArray[], seeds: Arrays): number {
  const grads = gradientsOf(problem, inputs, seeds);
  return problem.weights.reduce((s, w, i) => w ? s + dot(w.data, grads[i]!.data) : s, 0);
}

/** All single elements of a small array, three random directions of others. */
function directions({ shape, data: { length } }: RefArray): Float64Array[] {
  return length <= 24
    ? Array.from({ length }, (_, k) => Float64Array.from({ length }, (_, i) => +(i === k)))
    : [80, 81, 82].map((seed) => refRandom(shape, seed).data);
}

/** Its derivatives along directions of inputs and seeds, by central differences. */
function differences(problem: Problem): number[] {
  const { sample: { inputs }, seeds, weights } = problem;
  const all: Arrays = [...inputs, ...seeds];
  return all.flatMap((array, which) => {
    if (!array || which < inputs.length && !weights[which]) return [];
    return directions(array).map((direction) => {
      const [up, down] = [STEP, -STEP].map((by) => {
        const moved = all.map((it, i) =>
          it && i === which
            ? { shape: it.shape, data: it.data.map((v, k) => v + by * direction[k]) }
            : it
        );
        const [x, s] = [moved.slice(0, inputs.length), moved.slice(inputs.length)];
        return valueOf(problem, x as RefArray[], s);
      });
      return (up - down) / (2 * STEP);
    });
  });
}

function upload({ shape, data }: RefArray, dtype: DType): Tensor {
  const host = dtype === "u32"
    ? Uint32Array.from(data)
    : dtype === "i32"
    ? Int32Array.from(data)
    : dtype === "f16"
    ? Float16Array.from(data)
    : Float32Array.from(data);
  return device.tensor(host, shape);
}

/** Weights of second derivatives, for third ones. */
const weightOf = (i: number, shape: readonly number[]): RefArray => refRandom(shape, 90 + i);

/** What is differentiated: inputs with a gradient, then the outputs' incoming gradients. */
const variables = ({ sample: { inputs }, seeds, weights }: Problem): RefArray[] =>
  [...inputs.map((it, i) => weights[i] && it), ...seeds].filter((it) => it !== undefined);

/** Derivatives of weighted second derivatives along three directions, by central differences. */
function thirdDifferences(problem: Problem): number[] {
  const { sample: { inputs }, seeds, weights } = problem;
  const wanted = [...inputs.map((_, i) => weights[i]), ...seeds];
  const order = [...wanted.keys()].filter((i) => wanted[i]);
  const h = 1e-4;
  return THIRD.map((seed) => {
    const at = (p: number, q: number) => {
      const moved = [...inputs, ...seeds].map((it, i) => {
        const k = order.indexOf(i);
        if (!it || k === -1) return it;
        const [along, by] = [weightOf(k, it.shape), refRandom(it.shape, seed + k)];
        const data = it.data.map((v, n) => v + h * (p * along.data[n] + q * by.data[n]));
        return { shape: it.shape, data };
      });
      return valueOf(
        problem,
        moved.slice(0, inputs.length) as RefArray[],
        moved.slice(inputs.length),
      );
    };
    return (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / (4 * h * h);
  });
}

/**
 * Gradients with a graph, then the gradients of their weighted sum by inputs and seeds, and of the
 * weighted sum of those once more.
 */
async function actual(problem: Problem, float: "f32" | "f16", third: boolean) {
  const { op, sample, seeds, weights } = problem;
  const made = scope(() => {
    const inputs = sample.inputs.map((array, i) => {
      const tensor = upload(array, sample.integer?.[i] ?? float);
      return weights[i] ? tensor.trainable() : tensor;
    });
    const outputs = op.apply(inputs, sample.attrs);
    const given = seeds.map((seed, i) => seed && upload(seed, outputs[i].dtype).trainable());
    const loss = outputs.flatMap((y, i) => given[i] ? [sum(y.mul(given[i]).cast("f32"))] : [])
      .reduce((a, b) => a.add(b));
    const leaves = inputs.filter((_, i) => weights[i]);
    const firsts = grad(loss, leaves, { createGraph: true });
    const total = firsts.map((g, k) => {
      const weight = weights.filter((it) => it)[k]!;
      return sum(g.cast("f32").mul(upload(weight, "f32")));
    }).reduce((a, b) => a.add(b));
    const by = [...leaves, ...given.filter((it) => it !== undefined)];
    const seconds = grad(total, by, { allowUnused: true, createGraph: third });
    if (!third) return [firsts, seconds, []];
    const mixed = seconds.map((it, k) => sum(it.mul(upload(weightOf(k, it.shape), "f32"))))
      .reduce((a, b) => a.add(b));
    return [firsts, seconds, grad(mixed, by, { allowUnused: true })];
  });
  const dense = made.map((them) => them.map((it) => it.contiguous()));
  const values = (await device.read(dense.flat())).map((it) => Float64Array.from(it));
  [...made, ...dense].flat().forEach((it) => it.dispose());
  return made.map((them) => values.splice(0, them.length));
}

/** The largest error over the largest value. */
function worst(found: readonly number[], wanted: readonly number[]): number {
  const scale = Math.max(1e-3, ...wanted.map(Math.abs));
  const errors = wanted.map((value, i) => Math.abs(found[i] - value) / scale);
  return errors.some(Number.isNaN) ? Infinity : Math.max(...errors);
}

/** A sample whose values f16 holds. */
const rounded = (sample: Sample): Sample => ({
  ...sample,
  inputs: sample.inputs.map(halves),
});

/** Whether differences can be taken there, in little time. */
const fits = (op: Op<unknown>) => ({ inputs, integer, attrs, skipDifferences }: Sample): boolean =>
  !skipDifferences && inputs.some((_, i) => integer?.[i] === undefined) &&
  inputs.reduce((n, { data }) => n + data.length, 0) <= LARGEST &&
  [...inputs, ...op.reference.forward(inputs, attrs)].every(({ data }) =>
    data.every(Number.isFinite)
  );

const ops = await sampledOps();

test("every op with a gradient has a graph of it, whatever its attributes", () => {
  const without = ops.flatMap(({ op, samples }) =>
    op.backward && !op.derivative
      ? samples.filter(({ attrs }) => !derivativeOf(op.name, attrs))
      : []
  );
  assert(without.length === 0, without.map(({ label }) => label).join(", "));
});

for (const { op, samples } of ops) {
  if (!op.backward) continue;
  const ignore = !full && !QUICK.includes(op.name);
  Deno.test({ name: `second derivative of ${op.name}`, ignore }, async () => {
    // One sample, or one for each set of attributes and operands.
    const keyOf = ({ attrs, inputs }: Sample) =>
      VARIED.includes(op.name) ? JSON.stringify([attrs, inputs.length]) : "";
    const chosen = new Map(samples.filter(fits(op)).map((it) => [keyOf(it), it]));
    // grad_test.ts has those without a smooth sample.
    assert(chosen.size > 0 || ["nanToNum", "idiv", "mod"].includes(op.name), "no sample fits");
    const live = device.memory.liveBuffers;
    const types = (["f32", "f16"] as const).filter((it) =>
      it === "f32" || full && device.features.f16 && KINDS.includes(op.name)
    );
    for (
      const [sample, float] of [...chosen.values()].flatMap((it) =>
        types.map((type) => [it, type] as const)
      )
    ) {
      const problem = problemOf(op, float === "f32" ? sample : rounded(sample));
      const { seeds, weights } = problem;
      const third = full && float === "f32" && KINDS.includes(op.name);
      const [firsts, seconds, thirds] = await actual(problem, float, third);
      const gradients = gradientsOf(problem, problem.sample.inputs, seeds);
      const first = worst(
        firsts.flatMap((it) => [...it]),
        gradients.flatMap((it, i) => weights[i] ? [...it!.data] : []),
      );
      const second = worst(
        variables(problem).flatMap((it, k) =>
          directions(it).map((direction) => dot(direction, seconds[k]))
        ),
        differences(problem),
      );
      const tolerance = float === "f32" ? 2e-5 : 2 ** -7;
      const label = `${sample.label} ${float}`;
      if (Deno.env.has("TESSERA_VERBOSE")) console.log(op.name, label, first, second);
      assert(first <= tolerance, `${label}: gradients are off by ${first}`);
      assert(second <= tolerance, `${label}: gradients of gradients are off by ${second}`);
      if (!third) continue;
      const along = THIRD.map((seed) =>
        thirds.reduce(
          (s, it, k) => s + dot(it, refRandom(variables(problem)[k].shape, seed + k).data),
          0,
        )
      );
      const error = worst(along, thirdDifferences(problem));
      assert(error <= 1e-4, `${label}: third derivatives are off by ${error}`);
    }
    assert(device.memory.liveBuffers === live, "buffers are still live");
  });
}
