/**
 * Ops on samples in a page: forward and backward against float64 references.
 *
 * @module
 */
import type { Device } from "../../../engine/device.ts";
import { registry } from "../../../engine/op.ts";
import { capturedSample, dense, launch, seedsFor } from "../../support/sample_runs.ts";
import { asOp, type ComposedFunctions, quickSamples, type Samples } from "../../support/samples.ts";

/** As ops_test.ts has it: a few f32 ulp after a short sum, twice that for gradients. */
const TOLERANCE = 2e-6;

/** What came of the ops. */
export interface OpsOutcome {
  /** Names of the ops of which something was compared. */
  readonly ops: readonly string[];
  /** Results that were compared. */
  readonly compared: number;
  /** What was wrong. */
  readonly faults: readonly string[];
}

/** Largest error relative to the largest finite value; infinite where others disagree. */
function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let [most, scale] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    const wanted = Math.fround(expected[i]);
    if (!Number.isFinite(wanted)) {
      if (!Object.is(actual[i], wanted)) return Infinity;
      continue;
    }
    most = Math.max(most, Math.abs(actual[i] - expected[i]));
    scale = Math.max(scale, Math.abs(expected[i]));
  }
  return Number.isNaN(most) || actual.length !== expected.length
    ? Infinity
    : most === 0
    ? 0
    : most / (scale || 1);
}

/** What a file of samples exports. */
export interface Table {
  readonly samples?: Samples;
  readonly composed?: ComposedFunctions;
}

/**
 * Runs the quick samples of every op of the tables, or its second where none is quick; those of
 * composed functions also captured, which must give the same bits.
 */
export async function runOps(device: Device, tables: readonly Table[]): Promise<OpsOutcome> {
  const ops: string[] = [];
  const faults: string[] = [];
  let compared = 0;
  const sampled = tables.flatMap(({ samples = {}, composed = {} }) => [
    ...Object.entries(samples).map(([name, it]) => ({
      ...{ op: registry().get(name)!, samples: it(), composed: false },
    })),
    ...Object.entries(composed).filter(([, { trial }]) => trial)
      .map(([name, it]) => ({ ...asOp(name, it), composed: true })),
  ]);
  for (const { op, samples: all, composed } of sampled) {
    const { name } = op;
    const quick = quickSamples(all);
    const before = compared;
    for (const sample of quick.length > 0 ? quick : all.slice(0, 2).slice(-1)) {
      try {
        const expected = op.reference.forward(sample.inputs, sample.attrs);
        const seeds = seedsFor(op, expected);
        const { outputs, grads } = launch(device, op, sample, dense, seeds, "f32");
        const filled = expected.map((y, i) =>
          seeds[i] ?? { shape: y.shape, data: new Float64Array(y.data.length) }
        );
        const wanted = grads.some((it) => it)
          ? op.reference.backward!(sample.inputs, sample.attrs, filled)
          : [];
        const pairs = [
          ...outputs.map((tensor, i) => ({ tensor, values: expected[i].data, share: 1 })),
          ...grads.flatMap((tensor, i) =>
            tensor ? [{ tensor, values: wanted[i]!.data, share: 2 }] : []
          ),
        ];
        const read = await device.read(pairs.map(({ tensor }) => tensor));
        pairs.forEach(({ tensor, values, share }, i) => {
          const error = relativeError(read[i], values);
          const most = share * (sample.tolerance ?? TOLERANCE);
          const what = `${name} (${sample.label}), ${share === 1 ? "output" : "gradient"} ${i}`;
          if (!(error <= most)) faults.push(`${what}: off by ${error} > ${most}`);
          compared++;
          tensor.dispose();
        });
        if (!composed) continue;
        const { inputs, plan } = capturedSample(device, op, sample, seeds);
        plan.replay(inputs);
        const again = plan.replay(inputs);
        const replayed = await device.read(
          [...again.outputs, ...again.grads].filter((it) => it !== undefined),
        );
        const same = replayed.length === read.length &&
          replayed.every((it, i) => it.every((value, k) => Object.is(value, read[i][k])));
        if (!same) faults.push(`${name} (${sample.label}), captured: other bits`);
        compared++;
        plan[Symbol.dispose]();
        inputs.forEach((it) => it.dispose());
      } catch (error) {
        // Samples of a cast to f16 are for adapters that have it.
        if (!device.features.f16 && /shader-f16/.test(String(error))) continue;
        faults.push(`${name} (${sample.label}): ${error}`);
      }
    }
    if (compared > before) ops.push(name);
  }
  return { ops, compared, faults };
}
