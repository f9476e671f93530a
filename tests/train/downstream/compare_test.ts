/** `deno task compare` as users run it, and its intervals. */
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertMatch,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { join } from "@std/path";
import { COMMAND, help, run } from "../../../train/commands/compare.ts";
import {
  estimateOf,
  isClear,
  medianOf,
  pairedDifference,
} from "../../../train/downstream/compare/intervals.ts";
import { planOf } from "../../../train/downstream/compare/plan.ts";
import { markdownOf } from "../../../train/downstream/compare/report.ts";
import { comparisonOf } from "../../../train/downstream/compare/results.ts";
import type { RunOutcome } from "../../../train/downstream/compare/runs.ts";
import { exitCodeOf } from "../../../train/errors.ts";
import { syntheticClip } from "../../../train/data/synthetic.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { fullOnly, test } from "../../support/tier.ts";

/** Clips of half a second of two classes in two folds. */
async function writeFolder(dir: string): Promise<void> {
  await Deno.mkdir(join(dir, "audio"), { recursive: true });
  const lines = ["filename,fold,label"];
  for (let i = 0; i < 8; i++) {
    const samples = i % 2 === 0
      ? syntheticClip(3, i, 8000).waveform
      : Float32Array.from({ length: 8000 }, (_, n) => 0.5 * Math.sin(0.02 * (i + 3) * n));
    await Deno.writeFile(join(dir, "audio", `${i}.wav`), wav(samples));
    lines.push(`${i}.wav,${1 + (i >> 2)},${["made", "tone"][i % 2]}`);
  }
  await Deno.writeTextFile(join(dir, "meta.csv"), `${lines.join("\n")}\n`);
}

/** Runs the command; `onLine` sees what it says. */
async function command(
  words: readonly string[],
  onLine: (line: string) => void = () => {},
  signal: AbortSignal = new AbortController().signal,
): Promise<{ code: number; out: string; err: string }> {
  const [log, error, write] = [console.log, console.error, Deno.stdout.writeSync];
  const said = { out: "", err: "" };
  const saying = (where: "out" | "err") => (text: string) => {
    said[where] += `${text}\n`;
    onLine(text);
  };
  [console.log, console.error] = [saying("out"), saying("err")];
  Deno.stdout.writeSync = (bytes) => {
    saying("out")(new TextDecoder().decode(bytes).trimEnd());
    return bytes.length;
  };
  try {
    return { code: await run([...words], signal), ...said };
  } finally {
    [console.log, console.error, Deno.stdout.writeSync] = [log, error, write];
  }
}

/** Files below a folder and when they were written. */
async function times(dir: string): Promise<[string, number][]> {
  const found: [string, number][] = [];
  for await (const { name, isDirectory } of Deno.readDir(dir)) {
    const path = join(dir, name);
    if (isDirectory) found.push(...await times(path));
    else found.push([path, (await Deno.stat(path)).mtime!.getTime()]);
  }
  return found.sort(([a], [b]) => a < b ? -1 : 1);
}

const QUICK = [
  ...["--preset", "tiny", "--crop-frames", "32", "--batch", "2", "--workers", "0", "--quiet"],
  ...["--patience", "1", "--repeats", "2"],
];

test("compare: an objective beside the untrained network and the baselines", () =>
  inTempDir(async (dir) => {
    const [data, out] = ["sounds", "out"].map((it) => join(dir, it));
    await writeFolder(data);
    const words = [
      ...["--data", join(data, "audio"), "--dataset", data, "--out", out, "--steps", "1"],
      ...["--objectives", "msm-mae", "--seeds", "4", ...QUICK],
    ];
    assertEquals((await command(words)).code, 0);
    const { rows } = JSON.parse(await Deno.readTextFile(join(out, "compare.json")));
    const scores = rows.map((row: { key: string; scores: { mean: number }[] }) =>
      [row.key, row.scores.every(({ mean }) => mean >= 0 && mean <= 1)] as const
    );
    assertEquals(scores, [
      ["msm-mae", true],
      ["untrained", true],
      ["log-mel", true],
      ["log-mel-sd", true],
    ]);
    const text = await Deno.readTextFile(join(out, "compare.md"));
    assertMatch(text, /^\| MSM-MAE +\| +\d+\.\d /m);
  }));

fullOnly(
  "compare: interrupted, gone on with, complete, and nothing done twice",
  () =>
    inTempDir(async (dir) => {
      const [data, out, cache] = ["sounds", "out", "cache"].map((it) => join(dir, it));
      await writeFolder(data);
      const words = [
        ...["--data", join(data, "audio"), "--dataset", data, "--out", out, "--cache", cache],
        ...["--objectives", "msm-mae,matpac", "--seeds", "4,5", "--steps", "2", ...QUICK],
      ];
      const stop = new AbortController();
      const error = await assertRejects(
        () =>
          command(
            words,
            (line) => line.startsWith("matpac-seed4: run 2 of 4") && stop.abort(),
            stop.signal,
          ),
        Error,
        "the same command goes on",
      );
      assertEquals(exitCodeOf(error), 130);
      const begun = (await times(out)).map(([path]) => path);
      assert(begun.includes(join(out, "msm-mae-seed4", "encoder.safetensors")));
      assert(begun.includes(join(out, "matpac-seed4", "checkpoints", "step-00000001.safetensors")));
      assert(!begun.some((path) => path.includes("seed5") || path.includes("probes")));

      const { code, out: said } = await command(words);
      assertEquals(code, 0);
      assertStringIncludes(said, "msm-mae-seed4: is there");
      assertStringIncludes(said, "resumed after step 1");
      const read = (name: string) => Deno.readTextFile(join(out, name));
      const [json, text] = [await read("compare.json"), await read("compare.md")];
      const found = JSON.parse(json);
      const column = { dataset: "sounds", metric: "accuracy" };
      assertEquals(found.columns, [{ ...column, tuned: false }, { ...column, tuned: true }]);
      assertEquals(found.rows.map(({ key }: { key: string }) => key), [
        "msm-mae",
        "matpac",
        "untrained",
        "log-mel",
        "log-mel-sd",
      ]);
      for (const { scores } of found.rows) assert(scores.every((it: unknown) => it !== null));
      const [mae, matpac, untrained, mel] = found.rows;
      for (const { seeds, training, scores } of [mae, matpac]) {
        assertEquals([seeds, Object.keys(scores[0].values)], [[4, 5], ["4", "5"]]);
        assert(training.samples_per_s > 0 && Number.isFinite(training.loss));
      }
      assertEquals([mae.training.loss_cls, matpac.training.loss_cls > 0], [undefined, true]);
      assert(matpac.training.trained_parameters > mae.training.trained_parameters);
      // Each value is the probe's, and the cell says of them what their interval is over.
      const [folder] = [...Deno.readDirSync(join(out, "probes"))];
      const record = (name: string) =>
        JSON.parse(Deno.readTextFileSync(join(out, "probes", folder.name, `${name}.json`)));
      assertEquals(matpac.scores[0].values, {
        4: record("matpac-seed4").mean,
        5: record("matpac-seed5").mean,
      });
      assertEquals(untrained.scores[0].values, {
        4: record("msm-mae-seed4").untrained.mean,
        5: record("msm-mae-seed5").untrained.mean,
      });
      assertEquals(record("matpac-seed4").untrained, undefined);
      const { mean, ci95 } = record("msm-mae-seed4").baseline_mel;
      assertEquals(mel.scores[0], { mean, ci95, n: 2, values: {}, over: "repeats" });
      assertEquals(matpac.scores[0].over, "seeds");
      assertEquals(found.differences.map(({ reference }: { reference: string }) => reference), [
        "matpac",
        "untrained",
      ]);
      assertEquals([found.failures, found.runs.length], [[], 4]);
      assertMatch(text, /^\| MSM-MAE +\| +\d+\.\d ± \d+\.\d \| .* M \| /m);
      assertMatch(text, /^\| mean log-mel +\| +\d+\.\d ± /m);
      assertMatch(text, /^\| mean and sd of log-mel +\| +\d+\.\d ± .* \| +\d+\.\d ± /m);
      assertStringIncludes(text, "2 updates of 2 crops of 0.32 s, 4 crops");
      assertStringIncludes(said, text);
      // Of a finished run its checkpoints go.
      const left = (await times(out)).map(([path]) => path);
      assert(!left.some((path) => path.includes("checkpoints")), `${left}`);

      const before = (await times(out)).filter(([path]) => !path.includes("compare."));
      assertEquals((await command(words)).code, 0);
      assertEquals((await times(out)).filter(([path]) => !path.includes("compare.")), before);
      assertEquals([await read("compare.json"), await read("compare.md")], [json, text]);

      const other = await assertRejects(() => command([...words, "--lr", "1e-5"]), Error, "(lr)");
      assertEquals(exitCodeOf(other), 2);
      // A lost probe is made again, and no other.
      const lost = join(out, "probes", folder.name, "matpac-seed5.json");
      await Deno.remove(lost);
      assertEquals((await command(words)).code, 0);
      const after = await times(out);
      assertNotEquals(after.find(([path]) => path === lost), undefined);
      const others = (rows: [string, number][]) =>
        rows.filter(([path]) => !path.includes("compare.") && path !== lost);
      assertEquals(others(after), others(before));
      assertEquals(await read("compare.json"), json);
    }),
);

fullOnly(
  "compare: runs that diverge are in the table, and the exit code is 1",
  () =>
    inTempDir(async (dir) => {
      const [data, out] = ["sounds", "out"].map((it) => join(dir, it));
      await writeFolder(data);
      const words = [
        "--dataset",
        data,
        "--out",
        out,
        "--objectives",
        "msm-mae,m2d",
        "--seeds",
        "1",
      ];
      // The weights after the first update are so large that the second overflows.
      const { code, err } = await command(
        [...words, "--lr", "1e30", "--warmup", "0", "--steps", "3", ...QUICK],
      );
      assertEquals(code, 1);
      assertStringIncludes(err, "m2d-seed1 failed\nerror: the loss of step 2 is NaN");
      const { rows, failures } = JSON.parse(await Deno.readTextFile(join(out, "compare.json")));
      assertEquals(failures.map(({ name }: { name: string }) => name), [
        "msm-mae-seed1",
        "m2d-seed1",
      ]);
      // By the protocol, and tuned.
      assertEquals(
        rows.map(({ scores }: { scores: unknown }) => scores),
        rows.map(() => [null, null]),
      );
      const text = await Deno.readTextFile(join(out, "compare.md"));
      assertMatch(text, /^\| MSM-MAE \(failed\) +\| +- \|/m);
      assertMatch(text, /^- m2d-seed1: the loss of step 2 is NaN/m);
      assertStringIncludes(text, "No run came to its end.");
    }),
);

test("compare: options that do not fit exit 2, folders that are none 4, before anything is written", () =>
  inTempDir(async (dir) => {
    const [data, out] = ["sounds", "out"].map((it) => join(dir, it));
    await writeFolder(data);
    const fails = async (code: number, message: string, ...words: string[]) => {
      const error = await assertRejects(() => command(words), Error, message);
      assertEquals(exitCodeOf(error), code, message);
    };
    const given = ["--dataset", data, "--out", out];
    await fails(2, "--out: is needed", "--dataset", data);
    await fails(2, "--dataset: is needed", "--out", out);
    await fails(2, "--objectives m2d,m2d: must be", ...given, "--objectives", "m2d,m2d");
    await fails(2, "--objectives byol: must be", ...given, "--objectives", "byol");
    await fails(2, "--seeds 1,1: must be", ...given, "--seeds", "1,1");
    await fails(2, "--seeds 1,x: must be", ...given, "--seeds", "1,x");
    await fails(2, "--steps 0", ...given, "--steps", "0");
    await fails(2, "--protocol x: must be", ...given, "--protocol", "x");
    await fails(2, "--repeats: means nothing", ...given, "--protocol", "hear", "--repeats", "2");
    await fails(2, "m2d has one loss", ...given, "--alpha", "1", "--objectives", "m2d");
    await fails(2, "--crop-frames: is needed", ...given, "--preset", "base", "--steps", "3");
    await fails(2, "--steps: is needed", ...given, "--preset", "base", "--crop-frames", "208");
    await fails(2, "is given twice", ...given, "--dataset", data);
    await fails(2, "--objective", ...given, "--objective", "m2d");
    await fails(4, "no labelled folder", "--out", out, "--dataset", join(dir, "none"));
    await assertRejects(() => Deno.stat(out), Deno.errors.NotFound);
    const text = help().replace(/\s+/g, " ");
    for (const it of ["--seeds", "--keep-checkpoints", "--ema-encoder", "--tuned"]) {
      assertStringIncludes(text, it);
    }
  }));

test("compare: intervals are Student's, differences paired by seed", () => {
  assertEquals(estimateOf([0.5]), { mean: 0.5, ci95: null, n: 1 });
  // sd of 1, 2, 4 is sqrt(7 / 3); t of 2 degrees of freedom is 4.303.
  const three = estimateOf([1, 2, 4]);
  assertAlmostEquals(three.mean, 7 / 3, 1e-12);
  assertAlmostEquals(three.ci95!, 4.303 * Math.sqrt(7 / 9), 1e-12);
  // Both values lie sd / sqrt(2) from the mean, so that half the interval is t times half their
  // distance.
  assertAlmostEquals(estimateOf([0.4, 0.6]).ci95!, 12.706 * 0.1, 1e-12);
  assertAlmostEquals(
    estimateOf(Array.from({ length: 20 }, (_, i) => i % 2)).ci95!,
    2.093 * Math.sqrt(20 * 0.25 / 19 / 20),
    1e-12,
  );
  const a = new Map([[1, 0.5], [2, 0.7], [3, 0.9]]);
  const b = new Map([[3, 0.7], [1, 0.4], [4, 0]]);
  // 0.1 and 0.2: seeds 1 and 3 have both.
  const both = pairedDifference(a, b)!;
  assertAlmostEquals(both.mean, 0.15, 1e-12);
  assertAlmostEquals(both.ci95!, 12.706 * 0.05, 1e-12);
  assertEquals(pairedDifference(a, new Map([[7, 1]])), undefined);
  assertEquals(isClear(both), false);
  const clear = [{ mean: -2, ci95: 1, n: 3 }, { mean: 2, ci95: 0, n: 2 }, {
    mean: 2,
    ci95: null,
    n: 1,
  }];
  assertEquals(clear.map(isClear), [true, false, false]);
  assertEquals([medianOf([3, 1, 2]), medianOf([4, 1, 2, 3]), medianOf([5])], [2, 2.5, 5]);
});

fullOnly(
  "compare: a table with a failed seed, tuned probes, and a difference that is clear",
  () =>
    inTempDir(async (dir) => {
      const data = join(dir, "sounds");
      await writeFolder(data);
      const words = ["--dataset", data, "--out", join(dir, "out"), "--objectives", "m2d,matpac"];
      const more = ["--seeds", "1,2,3,4", "--steps", "7"];
      const plan = planOf(COMMAND.read([...words, ...more]));
      const summary = { steps: 7, samples_per_s: 20, loss: 1, loss_pred: 1, adapter: "an adapter" };
      const score = (mean: number) => ({ mean, ci95: 0.01, repeats: [mean, mean], folds: [] });
      const runs: RunOutcome[] = plan.runs.map(({ name, objective, seed }) => ({
        ...{ name, objective, seed },
        result: name === "m2d-seed2"
          ? { name, reason: "the loss is NaN" }
          : { ...summary, samples_per_s: 20 + seed },
      }));
      const probes = runs.filter(({ name }) => name !== "m2d-seed2").map((run) => ({
        run,
        dataset: plan.datasets[0],
        result: {
          ...score((run.objective === "m2d" ? 0.5 : 0.3) + run.seed / 1000),
          encoder_tuned: score(0.8),
          ...{ metric: "accuracy", checkpoint: { sha256: "" } },
        },
      }));
      const found = comparisonOf(plan, runs, probes);
      const [m2d, matpac, untrained] = found.rows;
      assertEquals([m2d.seeds, matpac.seeds], [[1, 3, 4], [1, 2, 3, 4]]);
      assertAlmostEquals(m2d.scores[0]!.mean, 0.5 + 8 / 3000, 1e-12);
      assertEquals([m2d.training!.samples_per_s, matpac.training!.samples_per_s], [23, 22.5]);
      assertEquals(matpac.scores[1], {
        ...{ mean: matpac.scores[1]!.mean, ci95: matpac.scores[1]!.ci95, n: 4, over: "seeds" },
        values: { 1: 0.8, 2: 0.8, 3: 0.8, 4: 0.8 },
      });
      assertEquals(untrained.scores, [null, null]);
      // Seeds 1, 3 and 4 differ by 0.2 each time; sd of 1, 3, 4 is sqrt(7 / 3), and
      // 4.303 sqrt(7 / 9) is 3.8.
      const text = markdownOf(plan, found, "the command");
      assertMatch(text, /^\| M2D \(3 of 4 seeds\) +\| +50\.3 ± 0\.4 \|/m);
      assertMatch(text, /^\| M2D +\| +\*\*\+20\.0 ± 0\.0\*\* \|/m);
      assertMatch(text, /^\| features .* sounds, accuracy, tuned \|/m);
      assertMatch(text, /^- m2d-seed2: the loss is NaN$/m);
      assertStringIncludes(text, "7 updates of 16 crops of 2.08 s, 112 crops");
    }),
);
