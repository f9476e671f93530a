/** `probe --shots`: logistic regression against its definition, neighbours, draws, the command. */
import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import * as fc from "fast-check";
import { openDevice } from "../../../engine/mod.ts";
import { Prng } from "../../../engine/prng.ts";
import { exitCodeOf } from "../../../train/errors.ts";
import { run } from "../../../train/commands/probe.ts";
import {
  aheadOf,
  drawShots,
  type FewShotContext,
  fewShots,
} from "../../../train/downstream/probe/few_shots.ts";
import { fitLogistic, logitsFrom } from "../../../train/downstream/probe/logistic_regression.ts";
import { neighbourScores } from "../../../train/downstream/probe/nearest_neighbours.ts";
import { similaritiesOf } from "../../../train/downstream/probe/similarity.ts";
import type { ProbeData } from "../../../train/downstream/probe/splits.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { writeEncoder } from "../../support/small_encoder.ts";
import { test } from "../../support/tier.ts";

/** Σ cross-entropy + penalty / 2 · ‖W‖² of weights [classes, dim], by its definition. */
function objective(
  x: readonly (readonly number[])[],
  labels: readonly number[],
  weights: readonly (readonly number[])[],
  bias: readonly number[],
  penalty: number,
): number {
  let sum = 0;
  x.forEach((values, i) => {
    const logits = weights.map((w, k) => w.reduce((s, it, d) => s + it * values[d], bias[k]));
    const most = Math.max(...logits);
    sum += most + Math.log(logits.reduce((s, it) => s + Math.exp(it - most), 0)) -
      logits[labels[i]];
  });
  return sum + penalty / 2 * weights.flat().reduce((s, it) => s + it * it, 0);
}

test("shots: logistic regression ends where its definition is lowest", () => {
  const sizes = fc.record({
    clips: fc.integer({ min: 2, max: 14 }),
    // Fewer values than clips, and more.
    dim: fc.integer({ min: 1, max: 20 }),
    classes: fc.integer({ min: 2, max: 4 }),
    penalty: fc.constantFrom(0.1, 1, 10),
    seed: fc.nat(),
  });
  fc.assert(
    fc.property(sizes, ({ clips, dim, classes, penalty, seed }) => {
      const random = new Prng(seed);
      const x = Array.from(
        { length: clips },
        () => Array.from({ length: dim }, () => random.uniform(-2, 2)),
      );
      // Every class occurs where there are clips enough.
      const labels = x.map((_, i) => i < classes ? i : random.integer(classes));
      const products = x.flatMap((a) => x.map((b) => a.reduce((s, it, d) => s + it * b[d], 0)));
      const fit = fitLogistic(products, labels, classes, penalty);
      const weights = Array.from(
        { length: classes },
        (_, k) =>
          Array.from(
            { length: dim },
            (_, d) => x.reduce((s, it, i) => s + fit.coefficients[i * classes + k] * it[d], 0),
          ),
      );
      const bias = [...fit.bias];
      const at = (w: number[][], b: number[]) => objective(x, labels, w, b, penalty);
      const best = at(weights, bias);
      // Slopes by central differences, which are off by about 1e-8; a class without a clip has none
      // for its bias but at minus infinity, and biases go on falling there.
      const h = 1e-4;
      const slope = (change: (w: number[][], b: number[], by: number) => void) => {
        const moved = (by: number) => {
          const [w, b] = [weights.map((it) => [...it]), [...bias]];
          change(w, b, by);
          return at(w, b);
        };
        return (moved(h) - moved(-h)) / (2 * h);
      };
      for (let k = 0; k < classes; k++) {
        for (let d = 0; d < dim; d++) {
          assertAlmostEquals(slope((w, _, by) => w[k][d] += by), 0, 2e-3);
        }
        assertAlmostEquals(slope((_, b, by) => b[k] += by), 0, 2e-3);
      }
      const noise = new Prng(seed, 1);
      const other = weights.map((w) => w.map((it) => it + noise.uniform(-0.1, 0.1)));
      assert(at(other, bias) >= best, "it is a minimum");
      // The same logits from products as from weights.
      const logits = logitsFrom(products, fit);
      x.forEach((values, i) =>
        weights.forEach((w, k) =>
          assertAlmostEquals(
            logits[i * classes + k],
            w.reduce((s, it, d) => s + it * values[d], bias[k]),
            1e-9,
          )
        )
      );
    }),
    { numRuns: 60, seed: 5 },
  );
  assertThrows(() => fitLogistic([1], [], 2), RangeError, "0 clips");
  assertThrows(() => fitLogistic([1, 2], [0], 2), RangeError, "2 products");
});

test("shots: neighbours vote by their cosine", () => {
  // Clips at 0, 90 and 180 degrees of other lengths; one tested at 45, one at 0 of length 0.
  const [a, b, c] = [[2, 0], [0, 1], [-3, 0]];
  const dot = (u: number[], v: number[]) => u[0] * v[0] + u[1] * v[1];
  const learned = [a, b, c];
  const tested = [[3, 1], [0, 0]];
  const similarities = {
    train: Float32Array.from(learned.flatMap((u) => learned.map((v) => dot(u, v)))),
    test: Float32Array.from(tested.flatMap((u) => learned.map((v) => dot(u, v)))),
    testSquares: Float64Array.from(tested, (u) => dot(u, u)),
  };
  const truth = [[0], [1], [0, ~1]];
  const [first, second] = neighbourScores(similarities, truth, 2, 2);
  // Cosines 3/√10 and 1/√10 to the first two.
  const vote = Math.exp((1 - 3) / Math.sqrt(10) / 0.07);
  assertAlmostEquals(first, 1 / (1 + vote), 1e-6);
  assertAlmostEquals(second, vote / (1 + vote), 1e-6);
  const all = neighbourScores(similarities, truth, 2, 9);
  // Of a clip without a direction all are alike.
  assertAlmostEquals(all[2], 2 / 3, 1e-6);
  assertAlmostEquals(all[3], 1 / 3, 1e-6);
});

/** Clips of three classes in two folds, far apart in the first value. */
function folder(each: number): ProbeData {
  const clips = Array.from({ length: 3 * each }, (_, i) => ({
    path: `${i}.wav`,
    labels: [`${i % 3}`],
    part: `${Math.floor(i / 3) % 2}`,
  }));
  return {
    protocol: "leave-one-part-out",
    clips: clips as unknown as ProbeData["clips"],
    classes: ["0", "1", "2"],
    truth: clips.map((_, i) => [i % 3]),
    multiLabel: false,
  };
}

test("shots: draws are of each class, of training clips alone, and others each time", () => {
  const data = folder(10);
  const known = data.clips.map((_, i) => i).filter((i) => data.clips[i].part === "0");
  const drawn = new Set<string>();
  for (let seed = 0; seed < 10; seed++) {
    const chosen = drawShots(known, data, 2, new Prng(seed));
    assertEquals(chosen.length, 6);
    for (let k = 0; k < 3; k++) assertEquals(chosen.filter((i) => i % 3 === k).length, 2);
    assert(chosen.every((i) => known.includes(i)));
    drawn.add(`${chosen}`);
  }
  assert(drawn.size > 5, `${drawn.size} of 10 draws differ`);
  assertEquals(drawShots(known, data, 99, new Prng(1)), known);
  assertEquals(drawShots(known, data, "all", new Prng(1)), known);
});

test("shots: more clips of noisy classes do better; with all of them intervals are over clips", async () => {
  using device = await openDevice();
  const data = folder(20);
  const random = new Prng(3);
  const features = Float32Array.from(
    data.clips.flatMap((_, i) => [
      ...Array.from({ length: 3 }, (_, d) => (d === i % 3 ? 1.2 : 0) + random.uniform(-1, 1)),
      // A value that is always the same.
      7,
    ]),
  );
  const context: FewShotContext = {
    ...{ device, data, features, metric: "accuracy", draws: 6, seed: 1, penalty: 1, shots: 1 },
  };
  const one = await fewShots(context);
  assertEquals(await fewShots(context), one, "the same draws again");
  assertEquals([one.clips, one.dim, one.linear.repeats.length], [3, 4, 6]);
  const all = await fewShots({ ...context, shots: "all" });
  assertEquals([all.clips, all.linear.repeats.length], [30, 1]);
  assert(all.linear.mean > one.linear.mean + 0.1, `${all.linear.mean}, ${one.linear.mean}`);
  assert(all.knn.mean > one.knn.mean, `${all.knn.mean}, ${one.knn.mean}`);
  // Of 60 test clips: about as wide as that of a share.
  const { mean: p, ci95 } = all.linear;
  const binomial = 1.96 * Math.sqrt(p * (1 - p) / 60);
  assert(ci95 > binomial / 2 && ci95 < 2 * binomial, `${ci95}, ${binomial}`);
  // Classes further apart: nearly all that was right stays right.
  const helped = features.slice();
  for (let i = 0; i < data.clips.length; i++) helped[4 * i + i % 3] += 0.3;
  const better = await fewShots({ ...context, shots: "all", features: helped });
  const ahead = aheadOf(better.linear, all.linear);
  assertAlmostEquals(ahead.mean, better.linear.mean - all.linear.mean, 1e-12);
  assert(ahead.mean > 0 && ahead.ci95 > 0, `${ahead.mean}, ${ahead.ci95}`);
  assertEquals(aheadOf(all.linear, all.linear), { mean: 0, ci95: 0 });
  // Paired: narrower than of two independent scores.
  assert(ahead.ci95 < 0.9 * Math.hypot(better.linear.ci95, all.linear.ci95), `${ahead.ci95}`);
  const few = await fewShots({ ...context, features: helped });
  const differences = few.linear.repeats.map((it, draw) => it - one.linear.repeats[draw]);
  const mean = differences.reduce((sum, it) => sum + it) / 6;
  const variance = differences.reduce((sum, it) => sum + (it - mean) ** 2, 0) / 5;
  const { mean: found, ci95: half } = aheadOf(few.linear, one.linear);
  assertAlmostEquals(found, mean, 1e-12);
  assertAlmostEquals(half, 1.96 * Math.sqrt(variance / 6), 1e-12);
  const several = { ...data, multiLabel: true };
  await assertRejects(() => fewShots({ ...context, data: several }), Error, "one label each");
});

test("shots: products are of features standardised over the clips that are learned from", async () => {
  using device = await openDevice();
  const values = Float32Array.of(1, 5, 3, 5, 11, 6);
  const { train, test, testSquares } = await similaritiesOf(
    device,
    { values, dim: 2 },
    [0, 1],
    [2],
  );
  // 1 and 3 become -1 and 1, 11 becomes 9; the constant 5 is centred, 6 becomes 1.
  assertEquals([...train], [1, -1, -1, 1]);
  assertEquals([...test], [-9, 9]);
  assertEquals([...testSquares], [82]);
});

test("probe --shots: a table, JSON, and what does not go with it", () =>
  inTempDir(async (dir) => {
    const encoder = join(dir, "encoder.safetensors");
    await writeEncoder(encoder, 7);
    const audio = join(dir, "audio");
    await Deno.mkdir(audio);
    const lines = ["filename,fold,label"];
    for (let i = 0; i < 12; i++) {
      const pitch = [300, 900, 2700][i % 3];
      const tone = (_: unknown, n: number) => 0.5 * Math.sin(2 * Math.PI * pitch * n / 16000 + i);
      await Deno.writeFile(join(audio, `${i}.wav`), wav(Float32Array.from({ length: 5000 }, tone)));
      lines.push(`${i}.wav,${1 + Math.floor(i / 3) % 2},${pitch}`);
    }
    await Deno.writeTextFile(join(dir, "meta.csv"), `${lines.join("\n")}\n`);
    const json = join(dir, "shots.json");
    const words = ["--checkpoint", encoder, "--dataset", dir, "--cache", "none", "--workers", "0"];
    const command = (...more: string[]) => run([...words, ...more], new AbortController().signal);
    const { log } = console;
    let out = "";
    console.log = (text: string) => out += `${text}\n`;
    try {
      const more = ["--shots", "1,all", "--repeats", "3", "--json", json, "--quiet"];
      assertEquals(await command(...more, "--untrained"), 0);
    } finally {
      console.log = log;
    }
    assert(/^encoder {2,}320 {2,}all {2,}100\.00 +0\.00 +100\.00/m.test(out), out);
    assert(/^mean and sd of log-mel {2,}160 {2,}all {2,}100\.00/m.test(out), out);
    const record = JSON.parse(await Deno.readTextFile(json));
    assertEquals([record.protocol, record.repeats.length], ["shots", 3]);
    assert(record.mean > 0.5, "far above a third");
    assertEquals(record.rows.length, 8);
    assert(/^encoder ahead of {2,}clips a class {2,}linear, points/m.test(out), out);
    assert(/^encoder, untrained +all +\+0\.00 +0\.00 +\+0\.00 +0\.00$/m.test(out), out);
    const own = record.rows.find((it: { shots: unknown }) => it.shots === 1);
    for (const it of record.encoder_ahead_of.filter((it: { shots: unknown }) => it.shots === 1)) {
      const other = record.rows.find((row: typeof it) =>
        row.features === it.features && row.shots === 1
      );
      assertAlmostEquals(it.linear.mean, own.linear.mean - other.linear.mean, 1e-12);
    }
    assertEquals(record.encoder_ahead_of.length, 6);
    for (
      const more of [["--protocol", "matpac"], ["--save", "x"], ["--finetune"], ["--mixup", "0"]]
    ) {
      const error = await assertRejects(() => command("--shots", "1", ...more), Error, "--shots");
      assertEquals(exitCodeOf(error), 2);
    }
    const error = await assertRejects(() => command("--shots", "0"));
    assert(String(error).includes("a whole number from 1 or all"), String(error));
  }));
