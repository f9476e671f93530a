/**
 * HEAR's protocol: perceptrons against float64, the grid, and each kind of task on a small one with
 * a known answer.
 */
import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { hostUniform, openDevice, xavierNormal, xavierUniform } from "../../../engine/mod.ts";
import { run } from "../../../train/commands/probe.ts";
import { Prng } from "../../../engine/prng.ts";
import { exitCodeOf } from "../../../train/errors.ts";
import { type EventFolder, eventFolder } from "../../../train/downstream/hear/event_folder.ts";
import {
  batches,
  gridPointsOf,
  HEAR,
  type HearProtocol,
  hearTrials,
} from "../../../train/downstream/hear/grid_search.ts";
import { Mlp, type MlpSettings } from "../../../train/downstream/hear/mlp.ts";
import { runScenes } from "../../../train/downstream/hear/scene_task.ts";
import { runTimestamps } from "../../../train/downstream/hear/timestamp_task.ts";
import { type Metric, metricFor } from "../../../train/downstream/probe/protocol.ts";
import { probabilitiesOf } from "../../../train/downstream/probe/metrics.ts";
import { probeData } from "../../../train/downstream/probe/splits.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { writeEncoder } from "../../support/small_encoder.ts";
import { fullOnly, test } from "../../support/tier.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const XAVIER = { uniform: xavierUniform, normal: xavierNormal } as const;

type Matrix = number[][];
const zeros = (rows: number, columns: number): Matrix =>
  Array.from({ length: rows }, () => new Array<number>(columns).fill(0));
const matrix = (data: ArrayLike<number>, columns: number): Matrix =>
  Array.from(
    { length: data.length / columns },
    (_, r) => Array.from({ length: columns }, (_, c) => data[r * columns + c]),
  );
/** a b^T. */
const product = (a: Matrix, b: Matrix): Matrix =>
  a.map((x) => b.map((y) => x.reduce((sum, v, i) => sum + v * y[i], 0)));
const transposed = (a: Matrix): Matrix => a[0].map((_, c) => a.map((row) => row[c]));

/** The perceptron in float64, gradients by hand. */
class Reference {
  readonly parameters: Matrix[];
  readonly running: { mean: number[]; variance: number[] }[];
  readonly #moments: { m: Matrix; v: Matrix }[];
  readonly #seed: number;
  #steps = 0;

  constructor(readonly settings: MlpSettings, random: Prng) {
    const { dim, classes, layers, hidden, initialisation } = settings;
    this.parameters = [];
    for (let i = 0; i < layers; i++) {
      const inputs = i === 0 ? dim : hidden;
      const gain = i === 0 ? 1 : Math.SQRT2;
      this.parameters.push(
        matrix(XAVIER[initialisation]([hidden, inputs], random, gain), inputs),
        [new Array(hidden).fill(1)],
        [new Array(hidden).fill(0)],
      );
    }
    const inputs = layers === 0 ? dim : hidden;
    const gain = layers === 0 ? 1 : Math.SQRT2;
    this.parameters.push(matrix(XAVIER[initialisation]([classes, inputs], random, gain), inputs));
    const bound = 1 / Math.sqrt(inputs);
    this.parameters.push([Array.from({ length: classes }, () => random.uniform(-bound, bound))]);
    this.#seed = random.integer(2 ** 32);
    this.running = Array.from({ length: layers }, () => ({
      mean: new Array(hidden).fill(0),
      variance: new Array(hidden).fill(1),
    }));
    this.#moments = this.parameters.map((p) => ({
      m: zeros(p.length, p[0].length),
      v: zeros(p.length, p[0].length),
    }));
  }

  logits(x: Matrix): Matrix {
    let rows = x;
    this.running.forEach(({ mean, variance }, i) => {
      const [weight, [scale], [shift]] = this.parameters.slice(3 * i, 3 * i + 3);
      rows = product(rows, weight).map((row) =>
        row.map((y, k) =>
          Math.max(0, (y - mean[k]) / Math.sqrt(variance[k] + 1e-5) * scale[k] + shift[k])
        )
      );
    });
    const [weight, [bias]] = this.parameters.slice(-2);
    return product(rows, weight).map((row) => row.map((y, k) => y + bias[k]));
  }

  step(x: Matrix, targets: Matrix): void {
    const { layers, hidden, dropout, loss, rate } = this.settings;
    const n = x.length;
    const grads = this.parameters.map((p) => zeros(p.length, p[0].length));
    const tape: { input: Matrix; normal: Matrix; spread: number[]; kept: Matrix }[] = [];
    let rows = x;
    for (let i = 0; i < layers; i++) {
      const [weight, [scale], [shift]] = this.parameters.slice(3 * i, 3 * i + 3);
      const y = product(rows, weight);
      const columns = transposed(y);
      const mean = columns.map((c) => c.reduce((a, b) => a + b) / n);
      const variance = columns.map((c, k) => c.reduce((a, v) => a + (v - mean[k]) ** 2, 0) / n);
      const running = this.running[i];
      running.mean = running.mean.map((m, k) => 0.9 * m + 0.1 * mean[k]);
      running.variance = running.variance.map((v, k) => 0.9 * v + 0.1 * variance[k] * n / (n - 1));
      const spread = variance.map((v) => Math.sqrt(v + 1e-5));
      const normal = y.map((row) => row.map((v, k) => (v - mean[k]) / spread[k]));
      const draws = hostUniform(n * hidden, this.#seed, i, this.#steps);
      const scaled = normal.map((row) => row.map((v, k) => v * scale[k] + shift[k]));
      const kept = scaled.map((row, r) =>
        row.map((v, k) =>
          draws[r * hidden + k] >= Math.fround(dropout) && v > 0 ? 1 / (1 - dropout) : 0
        )
      );
      tape.push({ input: rows, normal, spread, kept });
      rows = scaled.map((row, r) => row.map((v, k) => v * kept[r][k]));
    }
    const [weight, [bias]] = this.parameters.slice(-2);
    const logits = product(rows, weight).map((row) => row.map((y, k) => y + bias[k]));
    let dy = logits.map((row, r) => {
      if (loss === "binary") {
        return row.map((z, k) => (1 / (1 + Math.exp(-z)) - targets[r][k]) / (n * row.length));
      }
      const most = Math.max(...row);
      const total = row.reduce((sum, z) => sum + Math.exp(z - most), 0);
      return row.map((z, k) => (Math.exp(z - most) / total - targets[r][k]) / n);
    });
    grads[3 * layers] = product(transposed(dy), transposed(rows));
    grads[3 * layers + 1] = [transposed(dy).map((c) => c.reduce((a, b) => a + b))];
    let dx = product(dy, transposed(weight));
    for (let i = layers - 1; i >= 0; i--) {
      const { input, normal, spread, kept } = tape[i];
      const [weight, [scale]] = this.parameters.slice(3 * i, 3 * i + 2);
      dy = dx.map((row, r) => row.map((v, k) => v * kept[r][k]));
      const sums = (f: (r: number, k: number) => number) =>
        scale.map((_, k) => dy.reduce((sum, _, r) => sum + f(r, k), 0));
      grads[3 * i + 1] = [sums((r, k) => dy[r][k] * normal[r][k])];
      grads[3 * i + 2] = [sums((r, k) => dy[r][k])];
      const [along, across] = [grads[3 * i + 1][0], grads[3 * i + 2][0]];
      const before = dy.map((row, r) =>
        row.map((v, k) => scale[k] / spread[k] * (v - (across[k] + normal[r][k] * along[k]) / n))
      );
      grads[3 * i] = product(transposed(before), transposed(input));
      dx = product(before, transposed(weight));
    }
    const t = ++this.#steps;
    this.parameters.forEach((p, i) => {
      const { m, v } = this.#moments[i];
      p.forEach((row, r) =>
        row.forEach((_, c) => {
          const g = grads[i][r][c];
          m[r][c] = 0.9 * m[r][c] + 0.1 * g;
          v[r][c] = 0.999 * v[r][c] + 0.001 * g * g;
          row[c] -= rate * (m[r][c] / (1 - 0.9 ** t)) /
            (Math.sqrt(v[r][c] / (1 - 0.999 ** t)) + 1e-8);
        })
      );
    });
  }
}

test("hear: a perceptron trains as in float64, with dropout, batch norm and odd batches", async () => {
  const sizes = { dim: 7, classes: 3, hidden: 11, rate: 3e-3, dropout: 0.3 };
  for (
    const more of [
      { layers: 1, initialisation: "uniform", loss: "cross-entropy" },
      { layers: 2, initialisation: "normal", loss: "binary" },
      { layers: 0, initialisation: "normal", loss: "binary" },
    ] as const
  ) {
    const settings: MlpSettings = { ...sizes, ...more };
    const random = new Prng(4);
    const features = Float32Array.from({ length: 40 * 7 }, () => random.normal());
    const targets = new Float32Array(40 * 3);
    for (let i = 0; i < 40; i++) targets[3 * i + random.integer(3)] = 1;
    const rows = { features, targets };
    const reference = new Reference(settings, new Prng(9));
    using mlp = new Mlp(device, settings, new Prng(9));
    const all = Array.from({ length: 40 }, (_, i) => i);
    for (let step = 0; step < 12; step++) {
      const which = step % 3 === 2 ? all.slice(0, 9) : all.slice(step, step + 17);
      mlp.step(rows, which);
      reference.step(
        which.map((i) => matrix(features, 7)[i]),
        which.map((i) => matrix(targets, 3)[i]),
      );
      if (step === 7) mlp.keep();
      if (step < 11) continue;
      const logits = await mlp.logits(rows, all);
      const expected = reference.logits(matrix(features, 7)).flat();
      // Twelve steps of float32 at values near 1; Adam divides small gradients by small roots.
      logits.forEach((x, i) => assertAlmostEquals(x, expected[i], 1e-4));
      mlp.restore();
      const kept = await mlp.logits(rows, all);
      assert(kept.some((x, i) => Math.abs(x - logits[i]) > 1e-3), "what was kept is another one");
    }
  }
});

test("hear: Xavier's initial values have his variance", () => {
  for (const kind of ["uniform", "normal"] as const) {
    const values = XAVIER[kind]([60, 90], new Prng(1), Math.SQRT2);
    const variance = values.reduce((sum, x) => sum + x * x, 0) / values.length;
    const expected = 2 * 2 / 150;
    // 5400 draws: 4 standard deviations of a normal variance are 8 %.
    assertAlmostEquals(variance, expected, 0.08 * expected);
    const most = values.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
    assertEquals(most < Math.sqrt(3 * expected) + 1e-6, kind === "uniform");
  }
});

test("hear: the grid is HEAR's, eight of sixteen, and follows from the seed", () => {
  const points = gridPointsOf(HEAR);
  assertEquals(points.length, 8);
  assertEquals(gridPointsOf(HEAR), points);
  const all = gridPointsOf({ ...HEAR, gridPoints: 99 });
  const key = (it: typeof points[number]) => JSON.stringify(it);
  assertEquals(new Set(all.map(key)).size, 16);
  assertEquals(all.slice(0, 8), points);
  assert(
    key(gridPointsOf({ ...HEAR, seed: 43 })[0]) + key(gridPointsOf({ ...HEAR, seed: 43 })[1]) !==
      key(points[0]) + key(points[1]),
  );
});

test("hear: batches leave no row alone; probabilities", () => {
  const rows = (n: number) => Array.from({ length: n }, (_, i) => i);
  assertEquals(batches(rows(5), 2), [[0, 1], [2, 3, 4]]);
  assertEquals(batches(rows(6), 2), [[0, 1], [2, 3], [4, 5]]);
  assertEquals(batches(rows(3), 8), [[0, 1, 2]]);
  const logits = Float32Array.of(0, Math.log(3), 1000, -1000);
  assertEquals([...Float32Array.from(probabilitiesOf(logits, 2, "cross-entropy"))], [
    0.25,
    0.75,
    1,
    0,
  ]);
  assertEquals([...Float32Array.from(probabilitiesOf(logits, 2, "binary"))], [0.5, 0.75, 1, 0]);
});

const clipsOf = (count: number, part: (i: number) => string, labels: (i: number) => string[]) =>
  Array.from({ length: count }, (_, i) => ({ path: `${i}`, labels: labels(i), part: part(i) }));

test("hear: each fold is tested, the next one validates, the others train", () => {
  const clips = clipsOf(20, (i) => String(i % 4), (i) => [`${i % 2}`]);
  const data = probeData({ dir: "", clips, protocol: "leave-one-part-out" }, clips);
  const trials = hearTrials(data, HEAR);
  assertEquals(trials.map(({ fold }) => fold), ["0", "1", "2", "3"]);
  const parts = (which: readonly number[]) => [...new Set(which.map((i) => clips[i].part))];
  assertEquals(trials.map(({ train, validation }) => [parts(validation), parts(train)]), [
    [["1"], ["2", "3"]],
    [["2"], ["0", "3"]],
    [["3"], ["0", "1"]],
    [["0"], ["1", "2"]],
  ]);
  const split = clipsOf(9, (i) => ["train", "validation", "test"][i % 3], (i) => [`${i % 2}`]);
  const [only] = hearTrials(probeData({ dir: "", clips: split, protocol: "split" }, split), HEAR);
  assertEquals([only.train, only.validation, only.test], [[0, 3, 6], [1, 4, 7], [2, 5, 8]]);
  const two = clipsOf(20, (i) => String(i % 2), () => ["a"]);
  const [half] = hearTrials(
    probeData({ dir: "", clips: two, protocol: "leave-one-part-out" }, two),
    HEAR,
  );
  assertEquals([half.train.length, half.validation.length, half.test.length], [9, 1, 10]);
});

/** Small enough for tests. */
const SMALL: HearProtocol = {
  ...HEAR,
  rates: [1e-2],
  gridPoints: 2,
  hidden: 16,
  batch: 32,
  epochs: 18,
  patience: 3,
};

/** Values around a centre per label: a clip of several has the sum of theirs. */
function featuresFor(clips: readonly { readonly labels: readonly string[] }[], spread = 0.3) {
  const random = new Prng(6);
  const centres = new Map<string, number[]>();
  const dim = 6;
  return Float32Array.from(clips.flatMap(({ labels }) => {
    const x = Array.from({ length: dim }, () => spread * random.normal());
    for (const label of labels) {
      if (!centres.has(label)) centres.set(label, x.map((_, i) => i === centres.size ? 3 : 0));
      centres.get(label)!.forEach((v, i) => x[i] += v);
    }
    return x;
  }));
}

async function scenes(
  clips: ReturnType<typeof clipsOf>,
  features: Float32Array,
  changed: Partial<HearProtocol> = {},
  wanted?: Metric,
) {
  const data = probeData({ dir: "", clips, protocol: "leave-one-part-out" }, clips);
  const metric = metricFor(data, wanted);
  const shares: number[] = [];
  const result = await runScenes({
    ...{ device, data, metric, features, protocol: { ...SMALL, ...changed } },
    onProgress: (share) => shares.push(share),
  });
  assertAlmostEquals(shares.at(-1)!, 1, 1e-12);
  assert(shares.every((it, i) => i === 0 || it >= shares[i - 1]));
  return result;
}

test("hear: a scene task of one label is solved, noise is not, and the better rate is taken", async () => {
  const clips = clipsOf(90, (i) => String(Math.floor(i / 3) % 3), (i) => [`c${i % 3}`]);
  const clear = featuresFor(clips);
  const result = await scenes(clips, clear);
  assertEquals([result.mean, result.folds.length, result.dim], [1, 3, 6]);
  assertEquals(result.scores, { accuracy: 1, mAP: 1, AUC: 1 });
  assertEquals(result.confusion, [[30, 0, 0], [0, 30, 0], [0, 0, 30]]);
  assertEquals(await scenes(clips, clear), result, "the same bits again");
  const rates = await scenes(clips, clear, { rates: [1e-9, 1e-2], gridPoints: 4 });
  assertEquals([rates.choice.rate, rates.grid.length], [1e-2, 4]);
  assert(rates.mean > 0.95, `${rates.mean}`);
  const best = Math.max(...rates.grid.map(({ validation }) => validation));
  assertEquals(rates.grid.find(({ validation }) => validation === best)!.rate, 1e-2);
  const random = new Prng(2);
  const chance = await scenes(clips, clear.map(() => random.normal()));
  // 90 tests at 1/3: 4 standard deviations are 0.2.
  assertAlmostEquals(chance.mean, 1 / 3, 0.2);
  const data = probeData({ dir: "", clips, protocol: "leave-one-part-out" }, clips);
  const signal = AbortSignal.abort();
  const error = await assertRejects(() =>
    runScenes({ device, data, metric: "accuracy", features: clear, protocol: SMALL, signal })
  );
  assertEquals(exitCodeOf(error), 130);
  const few = clipsOf(3, (i) => String(i), (i) => [`${i}`]);
  const lone = await assertRejects(() => scenes(few, featuresFor(few)), Error, "two clips or more");
  assertEquals(exitCodeOf(lone), 4);
});

fullOnly(
  "hear: scene tasks of several labels are judged by mAP, those of two states by AUC",
  async () => {
    const several = clipsOf(
      96,
      (i) => String(Math.floor(i / 8) % 3),
      (i) => ["a", "b", "c"].filter((_, k) => i >> k & 1),
    );
    const result = await scenes(several, featuresFor(several), { epochs: 40 });
    assert(result.mean > 0.99 && result.confusion === null, `${result.mean}`);
    assertEquals(result.scores.accuracy, undefined);
    assert(result.scores.AUC > 0.99);
    const states = clipsOf(60, (i) => String(i % 3), (i) => [i % 4 === 0 ? "queenless" : "queen"]);
    const auc = await scenes(states, featuresFor(states), {}, "AUC");
    assertEquals(auc.mean, 1);
    // Class values one apart with a deviation of one: AUC is the chance that a difference is
    // positive, Phi(1 / sqrt 2) = 0.76.
    const overlap = clipsOf(600, (i) => String(i % 3), (i) => [i % 2 === 0 ? "x" : "y"]);
    const random = new Prng(8);
    const values = Float32Array.from(
      overlap,
      ({ labels: [label] }) => random.normal() + (label === "x" ? 1 : 0),
    );
    const half = await scenes(overlap, values, { epochs: 6, batch: 128 }, "AUC");
    // 100 against 100 in each of three folds: a standard deviation of 0.02.
    assertAlmostEquals(half.mean, 0.76, 0.08);
  },
);

fullOnly("hear: onsets of a timestamp task whose frames tell the labels are found", async () => {
  const random = new Prng(3);
  const times = Float32Array.from({ length: 60 }, (_, t) => 160 * t);
  const events = new Map<string, { label: string; onset: number; offset: number }[]>();
  const frames = new Map<string, { values: Float32Array; times: Float32Array }>();
  const clips = Array.from({ length: 9 }, (_, i) => {
    const own = ["a", "b"].flatMap((label) =>
      [0, 1, 2].map((n) => {
        const onset = 3000 * n + Math.floor(random.uniform(0, 1500));
        return { label, onset, offset: onset + 600 + random.integer(700) };
      })
    );
    events.set(`${i}`, own);
    const features = new Float32Array(60 * 5);
    times.forEach((t, at) => {
      for (let k = 0; k < 5; k++) features[5 * at + k] = 0.2 * random.normal();
      own.forEach(({ label, onset, offset }) => {
        if (onset <= t && t <= offset) features[5 * at + (label === "a" ? 0 : 1)] += 2;
      });
    });
    frames.set(`${i}`, { values: features, times });
    return { path: `${i}`, labels: ["a", "b"], part: String(i % 3) };
  });
  const folder: EventFolder = { dir: "", clips, protocol: "leave-one-part-out", events };
  const data = probeData(folder, clips);
  const rules = [{ median: 0, least: 125 }, { median: 0, least: 5000 }];
  const context = {
    ...{ device, folder, data, frames, rules, tolerance: 200 },
    protocol: { ...SMALL, batch: 64 },
  };
  const result = await runTimestamps(context);
  assert(result.mean > 0.98, `${result.mean}`);
  assertEquals(result.folds.map(({ least }) => least), [125, 125, 125], "validation chose");
  assertEquals(Object.keys(result.per_class), ["a", "b"]);
  // A frame begins up to 160 ms after its onset, so that few are within 20 ms.
  const strict = await runTimestamps({ ...context, tolerance: 20 });
  assert(strict.mean < 0.5 && strict.mean > 0.01, `${strict.mean}`);
});

/** Files of 4 s with a low and a high tone in noise, two of each, in three folds. */
async function writeEvents(dir: string, files: number): Promise<void> {
  await Deno.mkdir(join(dir, "audio"), { recursive: true });
  const random = new Prng(12);
  const [meta, events] = [["filename,fold"], ["filename,onset_ms,offset_ms,label"]];
  for (let i = 0; i < files; i++) {
    const samples = Float32Array.from({ length: 64_000 }, () => 0.002 * random.normal());
    for (let n = 0; n < 4; n++) {
      const high = (n + i) % 2 === 0;
      const onset = 1000 * n + random.integer(200);
      const offset = onset + 640;
      for (let at = 16 * onset; at < 16 * offset; at++) {
        samples[at] += 0.4 * Math.sin(2 * Math.PI * (high ? 3000 : 300) * at / 16000);
      }
      events.push(`${i}.wav,${onset},${offset},${high ? "high" : "low"}`);
    }
    await Deno.writeFile(join(dir, "audio", `${i}.wav`), wav(samples));
    meta.push(`${i}.wav,${i % 3}`);
  }
  await Deno.writeTextFile(join(dir, "meta.csv"), `${meta.join("\n")}\n`);
  await Deno.writeTextFile(join(dir, "events.csv"), `${events.join("\n")}\n`);
}

test("hear command: tones are found by an untrained encoder; scenes; options that do not fit", () =>
  inTempDir(async (dir) => {
    const encoder = join(dir, "encoder.safetensors");
    await writeEncoder(encoder, 7);
    const data = join(dir, "data");
    await writeEvents(data, 12);
    const json = join(dir, "out.json");
    const command = async (...words: string[]) => {
      const log = console.log;
      let text = "";
      console.log = (line: string) => text += `${line}\n`;
      try {
        const all = ["--checkpoint", encoder, "--dataset", data, "--protocol", "hear", ...words];
        assertEquals(await run(all, new AbortController().signal), 0);
      } finally {
        console.log = log;
      }
      return text;
    };
    const quick = [
      ...["--workers", "0", "--grid-points", "2", "--hidden", "32", "--epochs", "30"],
      ...["--lr", "1e-2", "--batch", "128", "--quiet"],
    ];
    const text = await command(...quick, "--json", json);
    const record = JSON.parse(await Deno.readTextFile(json));
    assert(record.mean > 0.85, `${record.mean}`);
    assert(
      text.includes("12 files, 2 classes, 3 folds; protocol hear, onsets within 200 ms"),
      text,
    );
    assertEquals([record.folds.length, record.settings.rules[0].median], [3, 250]);
    assertEquals(record.grid.length, 2);
    const fails = async (message: string, ...words: string[]) => {
      const error = await assertRejects(() => command(...quick, ...words), Error, message);
      assertEquals(exitCodeOf(error), 2);
    };
    await fails("--metric: means nothing with a folder with events.csv", "--metric", "AUC");
    await fails("--save: means nothing with --protocol hear", "--save", "x");
    // The same clips by what is in their first second, as a scene task.
    await Deno.remove(join(data, "events.csv"));
    const lines = Array.from(
      { length: 12 },
      (_, i) => `${i}.wav,${i % 3},${i % 2 ? "low" : "high"}`,
    );
    await Deno.writeTextFile(join(data, "meta.csv"), ["filename,fold,label", ...lines].join("\n"));
    await fails("--tolerance: means nothing with a folder without", "--tolerance", "50");
    const scene = ["--seconds", "0.9", "--cache", "none", "--json", json, "--no-baseline"];
    assert((await command(...quick, ...scene)).includes("best of the grid"));
    const found = JSON.parse(await Deno.readTextFile(json));
    // Four clips to learn from, twelve tests; by chance half are right.
    assert(found.mean > 0.8 && found.scores.AUC > 0.8, JSON.stringify(found.scores));
    assertEquals([found.choice.rate, found.repeats.length, found.clips], [0.01, 1, 12]);
  }));

test("hear: events.csv says what is wrong with it", () =>
  inTempDir(async (dir) => {
    const write = (name: string, text: string) => Deno.writeTextFileSync(join(dir, name), text);
    write("meta.csv", "filename,split\na.wav,train\nb.wav,test\nc.wav,test\n");
    const read = (text: string) => {
      write("events.csv", text);
      return eventFolder(dir);
    };
    const head = "filename,onset_ms,offset_ms,label\n";
    const folder = read(`\ufeff${head}a.wav,0,10.5,x\na.wav,5,9,y\na.wav,20,30,x\nb.wav,1,1,y\n`);
    assertEquals(folder.protocol, "split");
    assertEquals(folder.clips.map(({ labels }) => labels), [["x", "y"], ["y"], []]);
    assertEquals(folder.events.get(join(dir, "audio", "b.wav")), [
      { label: "y", onset: 1, offset: 1 },
    ]);
    for (
      const [text, message] of [
        ["filename,onset,offset,label\na.wav,0,1,x\n", "needs a line per event"],
        [head, "needs a line per event"],
        [`${head}a.wav,2,1,x\n`, "event 1 lacks"],
        [`${head}a.wav,0,1,x\na.wav,,1,x\n`, "event 2 lacks"],
        [`${head}d.wav,0,1,x\n`, '"d.wav" is not in meta.csv'],
        [`${head}"a.wav,0,1,x\n`, "cannot be read"],
      ]
    ) {
      const error = assertThrows(() => read(text), Error, message);
      assertEquals(exitCodeOf(error), 4);
    }
    await Deno.remove(join(dir, "meta.csv"));
    assertThrows(() => read(`${head}a.wav,0,1,x\n`), Error, "is no labelled folder");
  }));
