/** Linear probes: reference numbers, metrics, training against float64, splits, protocols. */
import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { openDevice } from "../../../engine/mod.ts";
import { ownGoldenFolder } from "../../../train/commands/verify.ts";
import { Prng } from "../../../engine/prng.ts";
import { exitCodeOf, NoDataError } from "../../../train/errors.ts";
import { labelledFolder } from "../../../train/data/labelled_folder.ts";
import { principalComponents } from "../../../train/visualize/components.ts";
import { umap } from "../../../train/visualize/projection.ts";
import {
  LinearProbes,
  type LinearSettings,
  ProbeTable,
} from "../../../train/downstream/probe/linear_probes.ts";
import {
  accuracyOf,
  averagePrecision,
  balancedAccuracyOf,
  classPrecisions,
  classTargets,
  confusionOf,
  halfInterval,
  macroAuc,
  meanAveragePrecision,
  meanLoss,
  predictions,
  rocAuc,
} from "../../../train/downstream/probe/metrics.ts";
import { finalProbe, type ProbeContext, runProbe } from "../../../train/downstream/probe/probe.ts";
import { metricFor, type Protocol, PROTOCOLS } from "../../../train/downstream/probe/protocol.ts";
import {
  type Problem,
  trainProblems,
  type TrainSettings,
} from "../../../train/downstream/probe/train_probes.ts";
import { probeData, shuffled, trialsOf } from "../../../train/downstream/probe/splits.ts";
import { scorer } from "../../../train/downstream/probe/summary.ts";
import { readGolden } from "../../../train/verify/golden.ts";
import { verifyProbe } from "../../../train/verify/probe.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

Deno.test("probe: the golden set passes, also on a plainer adapter", async () => {
  const golden = readGolden(ownGoldenFolder(), "probe")!;
  for (
    const options of [{}, { subgroups: false, offsetAlignment: 256, bindingLimit: 1 << 18 }]
  ) {
    using device = await openDevice(options);
    const rows = await verifyProbe(device, golden);
    assertEquals(rows.filter(({ passed }) => !passed), []);
    assertEquals(rows.length, 18);
  }
});

Deno.test("probe: average precision of tied scores is one threshold", () => {
  const positive = (clip: number) => [0, 2].includes(clip);
  // From the top: clip 0 alone (1/1), then 1 and 2 together (2 of 3).
  assertAlmostEquals(averagePrecision([3, 2, 2, 1], positive), 0.5 * 1 + 0.5 * 2 / 3, 1e-15);
  assertEquals(averagePrecision([1, 1, 1, 1], positive), 0.5);
  assertEquals(averagePrecision([1, 2], () => false), 0);
  assertEquals(averagePrecision([], () => true), 0);
  const scores = { values: Float32Array.of(1, 0, 0, 0, 1, 0), classes: 3 };
  const truth = [[0], [0, 1]];
  assertEquals(meanAveragePrecision(scores, truth), 1);
  assertAlmostEquals(meanAveragePrecision(scores, truth, "zero"), 2 / 3, 1e-15);
  assert(Number.isNaN(meanAveragePrecision(scores, [[], []])));
});

Deno.test("probe: NaN is the lowest score, and no score of a result", () => {
  const positive = (clip: number) => clip === 1;
  for (const nan of [NaN, -NaN]) {
    assertEquals(averagePrecision([nan, 1, nan, 2], positive), 1 / 2);
    // Below the others; both NaN are one threshold.
    assertEquals(averagePrecision([nan, nan, 1, 2], positive), 1 / 4);
    assertEquals(averagePrecision([-Infinity, nan, 1, 2], positive), 1 / 4);
    assertEquals(averagePrecision([nan, nan, nan, nan], positive), 1 / 4);
    assertEquals(rocAuc([nan, 1, nan, 2], positive), 2 / 3);
    assertEquals(rocAuc([nan, nan, 1, -Infinity], positive), 1 / 2 / 3);
    assertEquals(rocAuc([nan, nan, nan, nan], positive), 1 / 2);
    const scores = { values: Float32Array.of(nan, -1, -1, nan, nan, nan), classes: 2 };
    assertEquals(predictions(scores), [1, 0, 0]);
  }
});

Deno.test("probe: accuracy, its balanced form, losses and the interval", () => {
  const scores = { values: Float32Array.of(2, 1, 1, 1, 0, 3, 5, 4), classes: 2 };
  // Ties go to the first class.
  const confusion = confusionOf(scores, [[0], [0], [1], [1]]);
  assertEquals(confusion, [[2, 0], [1, 1]]);
  assertEquals(accuracyOf(confusion), 0.75);
  assertEquals(balancedAccuracyOf(confusion), 0.75);
  assertEquals(balancedAccuracyOf([[1, 1, 0], [0, 4, 0], [0, 0, 0]]), 0.75);
  const large = { values: Float32Array.of(1000, -1000, -1000, 1000), classes: 2 };
  assertEquals(meanLoss(large, [[0], [0]], "cross-entropy"), 1000);
  assertEquals(meanLoss(large, [[0], [0]], "binary"), 500);
  const small = { values: Float32Array.of(0.5, -0.25), classes: 2 };
  assertAlmostEquals(
    meanLoss(small, [[1]], "cross-entropy"),
    Math.log(Math.exp(0.5) + Math.exp(-0.25)) + 0.25,
    1e-15,
  );
  assertAlmostEquals(
    meanLoss(small, [[1]], "binary"),
    (Math.log(1 + Math.exp(0.5)) + Math.log(1 + Math.exp(0.25))) / 2,
    1e-15,
  );
  // Deviations -1 and 1: variance 2 with n - 1.
  assertAlmostEquals(halfInterval([1, 3]), 1.96 * Math.sqrt(2) / Math.sqrt(2), 1e-15);
  assertEquals(halfInterval([0.5]), 0);
});

Deno.test("probe: clips of which a class is unknown are in none of its numbers", () => {
  const values = Float32Array.of(3, 1, 2, 4, 1, 2, 0, 3);
  // Nobody said whether clip 0 is of class 0, which has the highest score.
  const truth = [[~0, 1], [0, ~1], [], [1]];
  const scores = { values, classes: 2 };
  assertEquals(classTargets(truth, 2), Float32Array.of(-1, 1, 1, -1, 0, 0, 0, 1));
  // Class 1 has clips 3, 2, 0 by their scores, of which 3 and 0 are of it.
  assertEquals(classPrecisions(scores, truth), [1, (1 + 2 / 3) / 2]);
  assertEquals(macroAuc(scores, truth), (1 + 1 / 2) / 2);
  assertEquals(scorer("AUC")(scores, truth), (1 + 1 / 2) / 2);
  const each = (x: number, target: number) => Math.log(1 + Math.exp(x)) - x * target;
  assertAlmostEquals(
    meanLoss(scores, truth, "binary"),
    (each(1, 1) + each(2, 1) + each(1, 0) + each(2, 0) + each(0, 0) + each(3, 1)) / 2 / 4,
    1e-15,
  );
});

/** Clips around centres of their classes. */
function sample(clips: number, dim: number, classes: number, noise: number) {
  const random = new Prng(11, clips, dim);
  const centres = Float32Array.from({ length: classes * dim }, () => random.uniform(-1, 1));
  const features = Float32Array.from({ length: clips * dim }, (_, i) => {
    const [clip, at] = [Math.floor(i / dim), i % dim];
    return 0.3 + 2 * centres[clip % classes * dim + at] + noise * random.uniform(-1, 1);
  });
  const truth = Array.from({ length: clips }, (_, clip) => [clip % classes]);
  const targets = new Float32Array(clips * classes);
  truth.forEach(([k], clip) => targets[clip * classes + k] = 1);
  return { features, truth, targets };
}

/** Adam on a linear layer in float64: weights [classes, dim] after all batches. */
function reference(
  { features, targets }: ReturnType<typeof sample>,
  start: { weight: Float32Array; bias: Float32Array; mean: Float32Array; std: Float32Array },
  batches: readonly (readonly number[])[],
  { rate, weightDecay = 0, lossScale = 1, loss }: LinearSettings,
): { weight: Float64Array; bias: Float64Array } {
  const [classes, dim] = [start.bias.length, start.mean.length];
  const theta = Float64Array.of(...start.weight, ...start.bias);
  const [m, v] = [new Float64Array(theta.length), new Float64Array(theta.length)];
  batches.forEach((batch, step) => {
    const grad = theta.map((x) => weightDecay * x);
    for (const clip of batch) {
      const x = start.mean.map((mean, i) => (features[clip * dim + i] - mean) / start.std[i]);
      const logits = Array.from(
        { length: classes },
        (_, k) => x.reduce((sum, it, i) => sum + it * theta[k * dim + i], theta[classes * dim + k]),
      );
      const total = logits.reduce((sum, it) => sum + Math.exp(it), 0);
      logits.forEach((logit, k) => {
        const share = loss === "binary"
          ? 1 / (1 + Math.exp(-logit)) / classes
          : Math.exp(logit) / total;
        // What is unknown has no gradient.
        if (targets[clip * classes + k] < 0) return;
        const target = targets[clip * classes + k] / (loss === "binary" ? classes : 1);
        const slope = (share - target) / batch.length / lossScale;
        x.forEach((it, i) => grad[k * dim + i] += slope * it);
        grad[classes * dim + k] += slope;
      });
    }
    grad.forEach((g, i) => {
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.999 * v[i] + 0.001 * g * g;
      const root = Math.sqrt(v[i] / (1 - 0.999 ** (step + 1)));
      theta[i] -= rate * m[i] / (1 - 0.9 ** (step + 1)) / (root + 1e-8);
    });
  });
  return { weight: theta.subarray(0, classes * dim), bias: theta.subarray(classes * dim) };
}

for (const loss of ["cross-entropy", "binary"] as const) {
  Deno.test(`probe: standardised ${loss} with L2 follows float64, beside another problem`, async () => {
    const [clips, dim, classes] = [23, 7, 3];
    const data = sample(clips, dim, classes, 0.5);
    if (loss === "binary") {
      data.truth.forEach((own, clip) => clip % 3 === 0 && own.push(~((clip + 1) % classes)));
      data.targets.set(classTargets(data.truth, classes));
      assert(data.targets.includes(-1));
    }
    using table = new ProbeTable(device, clips, data.features, data.targets);
    const random = new Prng(5);
    const draw = (length: number, low: number, high: number) =>
      Float32Array.from({ length }, () => random.uniform(low, high));
    const start = () => ({
      weight: draw(classes * dim, -0.3, 0.3),
      bias: draw(classes, -0.3, 0.3),
      statistics: { mean: draw(dim, -1, 1), std: draw(dim, 0.5, 2) },
    });
    const starts = [start(), start()];
    const settings = { loss, rate: 0.01, batch: 5, weightDecay: 0.1, lossScale: 3 };
    using probes = new LinearProbes(table, starts, settings);
    const orders = starts.map((_, i) => shuffled([...data.truth.keys()], new Prng(i)));
    const batches = [orders[0], orders[1].slice(0, 22)].map((order) =>
      [0, 5, 10, 15, 20].map((first) => order.slice(first, first + 5))
    );
    for (const i of batches[0].keys()) probes.step(batches.map((own) => own[i]));
    probes.keep([true, true]);
    const kept = await probes.kept();
    starts.forEach(({ statistics, ...start }, i) => {
      const expected = reference(data, { ...start, ...statistics }, batches[i], settings);
      // Five updates of 0.01 each; float32 rounds their sums to 1e-7 of weights below 1.
      for (const name of ["weight", "bias"] as const) {
        expected[name].forEach((x, at) => assertAlmostEquals(kept[i][name][at], x, 3e-7));
      }
    });
  });
}

/** Settings of a quick training. */
const QUICK: TrainSettings = {
  loss: "cross-entropy",
  rate: 0.02,
  batch: 16,
  epochs: 12,
  patience: 3,
  criterion: "loss",
  metric: (scores, truth) => accuracyOf(confusionOf(scores, truth)),
};

function problemsOf(
  data: ReturnType<typeof sample>,
  dim: number,
  counts: readonly number[],
): Problem[] {
  const classes = data.targets.length / data.truth.length;
  return counts.map((count, i) => {
    const random = new Prng(100 + i);
    const order = shuffled([...data.truth.keys()], random);
    return {
      train: order.slice(0, count),
      validation: order.slice(count, count + 9 + i),
      test: order.slice(count + 9 + i),
      initial: {
        weight: Float32Array.from({ length: classes * dim }, () => random.uniform(-0.1, 0.1)),
        bias: new Float32Array(classes),
      },
      random,
    };
  });
}

Deno.test("probe: problems trained side by side are those trained alone, bit for bit", async () => {
  const dim = 12;
  const data = sample(90, dim, 4, 2.5);
  using table = new ProbeTable(device, 90, data.features, data.targets);
  // 16 and 17 clips differ in the number of updates, 33 and 40 do not.
  const counts = [40, 16, 33, 17];
  const context = { table, truth: data.truth };
  const together = await trainProblems(context, problemsOf(data, dim, counts), QUICK);
  for (const [i, result] of together.entries()) {
    const [alone] = await trainProblems(context, [problemsOf(data, dim, counts)[i]], QUICK);
    assertEquals(alone, result);
    assertEquals(result.test.values.length, 4 * (90 - counts[i] - 9 - i));
  }
  assert(new Set(together.map(({ epoch }) => epoch)).size > 1, "they stop at different epochs");
});

Deno.test("probe: the best epoch stays, and patience ends the training", async () => {
  const dim = 12;
  const data = sample(60, dim, 4, 6);
  using table = new ProbeTable(device, 60, data.features, data.targets);
  const context = { table, truth: data.truth };
  const train = async (changed: Partial<TrainSettings>) =>
    (await trainProblems(context, problemsOf(data, dim, [30]), { ...QUICK, ...changed }))[0];
  const settings = { rate: 0.3, epochs: 100, patience: 4 };
  const stopped = await train(settings);
  assertEquals(stopped.epochs, stopped.epoch + 4);
  // Ended there, it is the same: what came later left no trace.
  const exact = await train({ ...settings, epochs: stopped.epoch });
  assertEquals({ ...exact, epochs: 0 }, { ...stopped, epochs: 0 });
  const first = await train({ ...settings, criterion: "metric" });
  const last = await train({ ...settings, criterion: "metric", later: true, epochs: first.epochs });
  assert(last.epoch >= first.epoch && last.validation === first.validation);
});

const clipsOf = (parts: readonly string[], labels: (i: number) => string[]) =>
  parts.map((part, i) => ({ path: `${i}`, labels: labels(i), part }));
const folds = (count: number, clips: number) =>
  clipsOf(
    Array.from({ length: clips }, (_, i) => String(1 + Math.floor(i / 3) % count)),
    (i) => [`c${i % 3}`],
  );

Deno.test("probe: folds are tested in turn, validation clips come from the others", () => {
  const clips = folds(10, 60);
  const data = probeData({ dir: "", clips, protocol: "leave-one-part-out" }, clips);
  const trials = trialsOf(data, PROTOCOLS.matpac);
  assertEquals(trials.length, 50);
  assertEquals(trials.slice(0, 10).map(({ fold }) => fold), [..."123456789", "10"]);
  for (const { fold, train, validation, test } of trials) {
    assert(test.every((clip) => clips[clip].part === fold));
    assertEquals([train.length, validation.length, test.length], [49, 5, 6]);
    assertEquals(new Set([...train, ...validation, ...test]).size, 60);
  }
  assertEquals(trialsOf(data, PROTOCOLS.matpac), trials, "the same seed draws the same clips");
  const drawn = new Set(trials.filter(({ fold }) => fold === "1").map((it) => `${it.validation}`));
  assertEquals(drawn.size, 5, "each repeat draws anew");
});

Deno.test("probe: a split is used as it is; evar's validation has every class", () => {
  const parts = ["train", "test", "train", "validation", "train", "test", "train"];
  const clips = clipsOf(parts, (i) => [`c${i % 2}`]);
  const data = probeData({ dir: "", clips, protocol: "split" }, clips);
  const [first] = trialsOf(data, PROTOCOLS.matpac);
  assertEquals(first, {
    repeat: 0,
    fold: "test",
    train: [0, 2, 4, 6],
    validation: [3],
    test: [1, 5],
  });
  // Without test clips those of validation are tested, and others validate.
  const untested = clips.filter(({ part }) => part !== "test");
  const [second] = trialsOf(
    probeData({ dir: "", clips: untested, protocol: "split" }, untested),
    PROTOCOLS.matpac,
  );
  assertEquals([second.fold, second.train.length, second.validation.length], ["validation", 3, 1]);
  const many = clipsOf(
    Array.from({ length: 100 }, (_, i) => i < 80 ? "train" : "test"),
    (i) => i === 7 ? ["rare"] : [`c${i % 12}`],
  );
  const wide = probeData({ dir: "", clips: many, protocol: "split" }, many);
  const [{ validation, train }] = trialsOf(wide, PROTOCOLS.evar);
  assertEquals(new Set(validation.map((clip) => many[clip].labels[0])).size, 12);
  assert(train.includes(7), "the only clip of a class is learned from");
  const lone = clips.slice(0, 2);
  const error = assertThrows(() =>
    trialsOf(probeData({ dir: "", clips: lone, protocol: "split" }, lone), PROTOCOLS.matpac)
  );
  assertEquals(exitCodeOf(error), 4);
});

async function probed(
  clips: ReturnType<typeof folds>,
  features: Float32Array,
  changed: Partial<Protocol>,
  wanted?: Parameters<typeof metricFor>[1],
) {
  const device = await openDevice();
  const data = probeData({ dir: "", clips, protocol: "leave-one-part-out" }, clips);
  const context: ProbeContext = {
    device,
    data,
    features,
    protocol: { ...PROTOCOLS.matpac, repeats: 2, epochs: 30, ...changed },
    metric: metricFor(data, wanted),
  };
  return { device, context, result: await runProbe(context) };
}

Deno.test("probe: clear classes are found, noise is not, and numbers add up", async () => {
  const clips = folds(3, 63);
  const clear = sample(63, 9, 3, 0.2).features;
  const { device, context, result } = await probed(clips, clear, { rates: [0.02] });
  using _ = device;
  assertEquals([result.mean, result.ci95, result.repeats], [1, 0, [1, 1]]);
  assertEquals(result.folds, ["1", "2", "3"].map((fold) => ({ fold, clips: 21, mean: 1 })));
  assertEquals(result.confusion, [[42, 0, 0], [0, 42, 0], [0, 0, 42]]);
  assertEquals(result.per_class.c1, { clips: 21, recall: 1, precision: 1, average_precision: 1 });
  // Of several rates the one that is best on validation clips is taken: 1e-9 learns nothing.
  const several = await runProbe({
    ...context,
    protocol: { ...context.protocol, rates: [1e-9, 0.02], standardise: true },
  });
  assertEquals([several.mean, several.rates], [1, { "0.02": 6 }]);
  const layer = await finalProbe(context);
  assertEquals([layer.weight.length, layer.bias.length], [27, 3]);
  const random = new Prng(3);
  const noise = Float32Array.from(clear, () => random.uniform(-1, 1));
  const chance = await runProbe({ ...context, features: noise });
  // 126 tests at 1/3: 4 standard deviations are 0.17.
  assertAlmostEquals(chance.mean, 1 / 3, 0.17);
  const stop = AbortSignal.abort();
  const error = await assertRejects(() => runProbe({ ...context, signal: stop }));
  assertEquals(exitCodeOf(error), 130);
});

Deno.test("probe: several labels are judged by mAP; classes without clips in a fold are left out", async () => {
  const base = sample(60, 9, 3, 0.2);
  const clips = folds(3, 60).map((clip, i) =>
    i % 5 === 0 ? { ...clip, labels: [...clip.labels, "also"] } : clip
  );
  // What tells "also" is one value.
  const features = base.features.map((x, at) =>
    at % 9 === 0 ? (Math.floor(at / 9) % 5 === 0 ? 4 : -4) : x
  );
  const { device, result } = await probed(clips, features, { rates: [0.05], epochs: 60 });
  using _ = device;
  assertEquals(result.confusion, null);
  assert(result.mean > 0.98, `${result.mean}`);
  assertEquals(Object.keys(result.per_class), ["also", "c0", "c1", "c2"]);
  assertEquals(result.per_class.also.recall, undefined);
  const data = probeData({ dir: "", clips, protocol: "leave-one-part-out" }, clips);
  const error = assertThrows(() => metricFor(data, "accuracy"));
  assertEquals(exitCodeOf(error), 2);
});

Deno.test("split: val and valid are validation, words that say nothing are an error", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const write = (...parts: string[]) =>
      Deno.writeTextFileSync(
        `${dir}/meta.csv`,
        `filename,label,split\n${parts.map((it, i) => `${i}.wav,${i % 2},${it}\n`).join("")}`,
      );
    write("train", "train", "val", "valid", "Validation", "test");
    assertEquals(labelledFolder(dir).clips.map(({ part }) => part), [
      "train",
      "train",
      ...["validation", "validation", "validation"],
      "test",
    ]);
    write("train", "evaluation", "test", "extra");
    assertThrows(() => labelledFolder(dir), NoDataError, '"evaluation", "extra"');
    write("train", "test", "x".repeat(10_000));
    assert(assertThrows(() => labelledFolder(dir), NoDataError).message.length < 500);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("principal components and UMAP of equal points are finite", () => {
  const equal = Array.from({ length: 6 }, () => [0.1, 0.2, 0.3]);
  const onLine = equal.map((row, i) => row.map((it) => it * i));
  for (const rows of [equal, onLine]) {
    const { points, shares } = principalComponents(rows, 2);
    assertEquals([points, shares].flat(2).every(Number.isFinite), true);
    assertEquals(umap(rows, 1).flat().every(Number.isFinite), true);
  }
});
