/**
 * Walks the op registry: every op on every sample, on the GPU against its float64 reference, the
 * reference against finite differences, and the GPU against itself with strided inputs, captured,
 * without subgroups and with small bindings. Memory is full of NaN before it is written. Of an op
 * with more than two samples half are tried in f16, the others captured and without subgroups, as
 * most of the time goes into compiling for these. The quick tier takes one or two samples of each
 * op, one of them in f16 or captured, in turns, and leaves the other comparisons of the GPU with
 * itself out.
 *
 * Tolerances are relative to the largest reference value of each output: `sample.tolerance`,
 * default 2e-6 (a few f32 ulp after a short sum). Gradients pass one more product, so they may have
 * twice that. With f16 operands both start from inputs rounded to f16, and the tolerance is
 * `sample.halfTolerance`, default 2^-10: rounding a result to f16 costs up to 2^-11 of it.
 */
import { assert } from "@std/assert";
import type { Device } from "../../engine/device.ts";
import type { RefArray } from "../../engine/op.ts";
import { show } from "../../engine/shape.ts";
import { openDevice } from "../support/device.ts";
import { refRandom } from "../support/random.ts";
import {
  type AnyOp,
  capturedSample,
  dense,
  isFloat,
  launch,
  type LaunchedSample,
  seedsFor,
  strided,
  type Upload,
  wantsGradient,
} from "../support/sample_runs.ts";
import { composedOps, quickSamples, type Sample, sampledOps } from "../support/samples.ts";
import { full, isInPart } from "../support/tier.ts";

const DEFAULT_TOLERANCE = 2e-6;
const DEFAULT_HALF_TOLERANCE = 2 ** -10;

/**
 * Results of one sample: outputs, then gradients of the inputs (undefined where none was asked
 * for).
 */
interface Result {
  readonly outputs: readonly Float64Array[];
  readonly grads: readonly (Float64Array | undefined)[];
}

async function runAll(
  device: Device,
  op: AnyOp,
  samples: readonly Sample[],
  upload: Upload,
  seeds: readonly (readonly (RefArray | undefined)[])[],
  float: "f32" | "f16" = "f32",
): Promise<Result[]> {
  return await resultsOf(
    device,
    samples.map((sample, i) => launch(device, op, sample, upload, seeds[i], float)),
  );
}

/** Reads and frees what was launched. */
async function resultsOf(
  device: Device,
  launched: readonly LaunchedSample[],
): Promise<Result[]> {
  const tensors = launched.flatMap((
    { outputs, grads },
  ) => [...outputs, ...grads.filter((g) => g !== undefined)]);
  const values = (await device.read(tensors)).map((v) => Float64Array.from(v));
  tensors.forEach((t) => t.dispose());
  return launched.map(({ outputs, grads }) => ({
    outputs: outputs.map(() => values.shift()!),
    grads: grads.map((g) => g && values.shift()!),
  }));
}

/** The same through a plan, replayed twice. */
async function runCaptured(
  device: Device,
  op: AnyOp,
  sample: Sample,
  seeds: readonly (RefArray | undefined)[],
): Promise<Result> {
  const { inputs, plan: captured } = capturedSample(device, op, sample, seeds);
  using plan = captured;
  plan.replay(inputs);
  const launched = plan.replay(inputs);
  inputs.forEach((input) => input.dispose());
  return (await resultsOf(device, [launched]))[0];
}

/**
 * Largest error relative to the largest finite reference value; infinite where non-finite values
 * disagree.
 */
function relativeError(
  actual: Float64Array,
  expected: Float64Array,
  round: (value: number) => number = Math.fround,
): number {
  if (actual.length !== expected.length) return Infinity;
  let most = 0;
  let scale = 0;
  for (let i = 0; i < expected.length; i++) {
    const wanted = round(expected[i]);
    if (!Number.isFinite(wanted)) {
      if (!Object.is(actual[i], wanted)) return Infinity;
      continue;
    }
    const error = Math.abs(actual[i] - expected[i]);
    if (Number.isNaN(error)) return Infinity;
    most = Math.max(most, error);
    scale = Math.max(scale, Math.abs(expected[i]));
  }
  return most === 0 ? 0 : most / (scale || 1);
}

function sameBits(a: Result, b: Result): boolean {
  const flat = (r: Result) => [...r.outputs, ...r.grads].flatMap((v) => v ? [...v] : []);
  const [x, y] = [flat(a), flat(b)];
  // +0 and -0 count as the same.
  return x.length === y.length &&
    x.every((value, i) => value === y[i] || Number.isNaN(value) && Number.isNaN(y[i]));
}

/** Seeds with zeros for outputs that carry no gradient. */
function filledSeeds(
  seeds: readonly (RefArray | undefined)[],
  outputs: readonly RefArray[],
): RefArray[] {
  return outputs.map((y, i) =>
    seeds[i] ?? { shape: y.shape, data: new Float64Array(y.data.length) }
  );
}

/**
 * Asserts that results are those of the float64 reference, gradients within twice the tolerance.
 *
 * @param tolerances of each sample, and how the element type rounds
 * @returns the largest errors in words
 */
function holdsReference(
  op: AnyOp,
  samples: readonly Sample[],
  results: readonly Result[],
  expected: readonly (readonly RefArray[])[],
  seeds: readonly (readonly (RefArray | undefined)[])[],
  tolerances: { of(sample: Sample): number; round(value: number): number },
): string {
  const worst = { output: 0, gradient: 0 };
  samples.forEach((sample, s) => {
    const hold = (
      kind: keyof typeof worst,
      i: number,
      actual: Float64Array,
      { shape, data }: RefArray,
    ) => {
      const tolerance = tolerances.of(sample) * (kind === "gradient" ? 2 : 1);
      const error = relativeError(actual, data, tolerances.round);
      worst[kind] = Math.max(worst[kind], error);
      assert(
        error <= tolerance,
        `${sample.label}: ${kind} ${i} ${show(shape)} is off by ${error} > ${tolerance}`,
      );
    };
    expected[s].forEach((y, i) => hold("output", i, results[s].outputs[i], y));
    if (!results[s].grads.some((g) => g)) return;
    const filled = filledSeeds(seeds[s], expected[s]);
    const wanted = op.reference.backward!(sample.inputs, sample.attrs, filled);
    results[s].grads.forEach((grad, i) => grad && hold("gradient", i, grad, wanted[i]!));
  });
  return `largest error ${worst.output.toExponential(1)}, of a gradient ${
    worst.gradient.toExponential(1)
  }`;
}

/**
 * Compares reference.backward with central differences of reference.forward, element by element or
 * along lines.
 */
function differences(
  op: AnyOp,
  sample: Sample,
  seeds: (RefArray | undefined)[],
  grads: Result["grads"],
): void {
  const value = (inputs: readonly RefArray[]): number =>
    op.reference.forward(inputs, sample.attrs).reduce(
      (total, y, i) =>
        total + (seeds[i] ? y.data.reduce((s, v, k) => s + v * seeds[i]!.data[k], 0) : 0),
      0,
    );
  sample.inputs.forEach((input, i) => {
    const grad = grads[i];
    if (!grad) return;
    const size = input.data.length;
    const directions = size <= 64
      ? Array.from(
        { length: size },
        (_, k) => Float64Array.from({ length: size }, (_, j) => +(j === k)),
      )
      : [1, 2, 3].map((seed) => refRandom([size], 900 + seed).data);
    for (const direction of directions) {
      const h = 1e-5;
      const at = (t: number) =>
        value(
          sample.inputs.map((x, j) =>
            j === i ? { shape: x.shape, data: x.data.map((v, k) => v + t * direction[k]) } : x
          ),
        );
      const numeric = (at(h) - at(-h)) / (2 * h);
      const analytic = grad.reduce((s, g, k) => s + g * direction[k], 0);
      const scale = Math.sqrt(grad.reduce((s, g) => s + g * g, 0)) + Math.abs(at(0)) * 1e-2 + 1e-3;
      assert(
        Math.abs(numeric - analytic) <=
          1e-6 * scale * Math.sqrt(direction.reduce((s, v) => s + v * v, 0)),
        `${sample.label}: d input ${i} is ${analytic} in the reference, ` +
          `${numeric} by finite differences`,
      );
    }
  });
}

const device = await openDevice();
const plain = await openDevice({ subgroups: false });
/**
 * Binding limits to try, in bytes: ops split at the first unless one row (or head) of theirs does
 * not fit it.
 */
const LIMITS = [4 * 1024, 64 * 1024];
const small = await Promise.all(LIMITS.map((bindingLimit) => openDevice({ bindingLimit })));

const tried = [...await sampledOps(), ...await composedOps()];
for (const [turn, { op, samples: all, of }] of tried.entries()) {
  if (of && all.length === 0 || !isInPart(turn)) continue;
  const samples = full ? all : quickSamples(all);
  const ignore = samples.length === 0 && all.length > 0;
  Deno.test({ name: `op ${op.name}`, ignore }, async (t) => {
    assert(
      all.length > 0,
      `the op "${op.name}" has no samples: add them under its name to tests/samples/, ` +
        "in the file named as the one in engine/ops/ that defines it",
    );
    const expected = samples.map((sample) => op.reference.forward(sample.inputs, sample.attrs));
    const seeds = expected.map((outputs) => seedsFor(op, outputs));
    const live = device.memory.liveBuffers;
    const first = await runAll(device, op, samples, dense, seeds);
    const note: string[] = [];

    await t.step("forward and backward match the float64 reference", () => {
      note.push(
        holdsReference(op, samples, first, expected, seeds, {
          of: ({ tolerance }) => tolerance ?? DEFAULT_TOLERANCE,
          round: Math.fround,
        }),
      );
    });

    await t.step("the reference's gradient matches finite differences", () => {
      samples.forEach((sample, s) => {
        if (sample.skipDifferences || !op.reference.backward) return;
        const filled = filledSeeds(seeds[s], expected[s]);
        const grads = op.reference.backward(sample.inputs, sample.attrs, filled);
        differences(
          op,
          sample,
          seeds[s],
          grads.map((g, i) => wantsGradient(op, sample, i) ? g?.data : undefined),
        );
      });
    });

    await t.step({
      name: "strided inputs give the same bits",
      ignore: !full,
      fn: async () => {
        const again = await runAll(device, op, samples, strided, seeds);
        samples.forEach((sample, s) =>
          assert(sameBits(first[s], again[s]), `${sample.label}: strided inputs change the result`)
        );
      },
    });

    await t.step("an output that does not reach the loss adds nothing to gradients", async () => {
      const carrying = (of: readonly unknown[]) => of.filter((seed) => seed).length;
      const most = op.backward ? Math.max(...seeds.map(carrying)) : 0;
      for (let only = 0; most > 1 && only < most; only++) {
        const kept = samples.flatMap((_, s) => seeds[s][only] ? [s] : []);
        const some = kept.map((s) => seeds[s].map((seed, i) => i === only ? seed : undefined));
        const chosen = kept.map((s) => samples[s]);
        const results = await runAll(device, op, chosen, dense, some);
        holdsReference(op, chosen, results, kept.map((s) => expected[s]), some, {
          of: ({ tolerance }) => tolerance ?? DEFAULT_TOLERANCE,
          round: Math.fround,
        });
      }
    });

    await t.step({
      name: "captured, it gives the same bits",
      ignore: !full && (of !== undefined || turn % 2 === 0),
      fn: async () => {
        for (const [s, sample] of samples.entries()) {
          if (full ? samples.length > 2 && (s + turn) % 2 === 0 : s > 0) continue;
          const again = await runCaptured(device, op, sample, seeds[s]);
          assert(sameBits(first[s], again), `${sample.label}: a plan changes the result`);
        }
      },
    });

    await t.step("nothing is left behind", () => {
      assert(
        device.memory.liveBuffers === live,
        `${device.memory.liveBuffers - live} buffers are still live`,
      );
    });

    const holds = (sample: Sample, wanted: Result, actual: Result) => {
      const tolerance = 2 * (sample.tolerance ?? DEFAULT_TOLERANCE);
      const results = [...actual.outputs, ...actual.grads];
      [...wanted.outputs, ...wanted.grads].forEach((values, i) => {
        if (!values) return;
        const error = relativeError(results[i]!, values);
        assert(
          error <= tolerance,
          `${sample.label}: result ${i} differs by ${error} > ${tolerance}`,
        );
      });
    };

    await t.step({
      name: "f16 operands: forward and backward match the reference",
      ignore: !device.features.f16 || !full && (of !== undefined || turn % 2 === 1),
      fn: async () => {
        const round = (x: RefArray) => ({
          shape: x.shape,
          data: Float64Array.from(x.data, Math.f16round),
        });
        const hasFloat = (sample: Sample) => sample.inputs.some((_, i) => isFloat(sample, i));
        const fitting = samples.filter(hasFloat).flatMap((sample) => {
          const inputs = sample.inputs.map((x, i) => isFloat(sample, i) ? round(x) : x);
          const fits = inputs.every(({ data }, i) =>
            data.every((v, k) => Number.isFinite(v) === Number.isFinite(sample.inputs[i].data[k]))
          );
          return fits ? [{ ...sample, inputs }] : [];
        });
        const halves = !full
          ? fitting.slice(0, 1)
          : fitting.filter((_, s) => fitting.length <= 2 || (s + turn) % 2 === 0);
        assert(halves.length > 0 || !samples.some(hasFloat), "no sample fits f16");
        const wanted = halves.map((s) => op.reference.forward(s.inputs, s.attrs));
        const halfSeeds = wanted.map((outputs) => seedsFor(op, outputs).map((s) => s && round(s)));
        const actual = await runAll(device, op, halves, dense, halfSeeds, "f16");
        note.push(
          "f16 " + holdsReference(op, halves, actual, wanted, halfSeeds, {
            of: ({ halfTolerance }) => halfTolerance ?? DEFAULT_HALF_TOLERANCE,
            round: Math.f16round,
          }),
        );
        assert(device.memory.liveBuffers === live, "buffers are still live");
      },
    });

    await t.step({
      name: "the results hold without subgroups",
      ignore: !full,
      fn: async () => {
        const some = samples.flatMap((_, s) =>
          samples.length <= 2 || (s + turn) % 2 === 1 ? [s] : []
        );
        const again = await runAll(
          plain,
          op,
          some.map((s) => samples[s]),
          dense,
          some.map((s) => seeds[s]),
        );
        some.forEach((s, i) => holds(samples[s], first[s], again[i]));
      },
    });

    await t.step({
      name: "the results hold with small bindings",
      ignore: !full,
      fn: async () => {
        let split = 0;
        for (const [s, sample] of samples.entries()) {
          const largest = 4 *
            Math.max(...[...sample.inputs, ...expected[s]].map((x) => x.data.length));
          // Rows that no binding holds are refused, and thousands of pieces take long.
          if (largest > 4 * LIMITS[LIMITS.length - 1]) continue;
          for (const [i, other] of small.entries()) {
            try {
              const [again] = await runAll(other, op, [sample], dense, [seeds[s]]);
              holds(sample, first[s], again);
              if (largest > LIMITS[i]) split++;
              break;
            } catch (error) {
              if (!(error instanceof RangeError) || i === small.length - 1) throw error;
            }
          }
        }
        note.push(`${split} of ${samples.length} samples split`);
      },
    });
    if (Deno.env.has("TESSERA_VERBOSE")) console.log(`${op.name}: ${note.join(", ")}`);
  });
}
