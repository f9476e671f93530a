/** Whole runs by several ranks against runs by one; what ends them, and how they go on. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { readSafetensors } from "../../../engine/formats/safetensors.ts";
import { Prng } from "../../../engine/prng.ts";
import { syntheticClip } from "../../../train/data/synthetic.ts";
import { MEASURED_FIELDS } from "../../../train/metrics/metrics_row.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { deno } from "../../support/deno_process.ts";
import {
  GROUP_PERMISSIONS,
  type JobOutcome,
  type Launcher,
  mpiTest,
  once,
  outcomeOf,
  startJob,
} from "../../support/mpi.ts";
import { runWords } from "../../support/tasks.ts";
import { fullOnly } from "../../support/tier.ts";

const PROGRAM = "tests/train/cluster/rank_program.ts";
const FAULTY = "tests/train/cluster/fault_program.ts";
const RUN = [
  ...["--batch", "4", "--crop-frames", "48", "--seed", "5"],
  ...["--log-every", "1", "--save-every", "2", "--keep", "9"],
];

const rowsOf = (out: string): Record<string, unknown>[] =>
  Deno.readTextFileSync(join(out, "metrics.jsonl")).trim().split("\n").map((line) => {
    const row = JSON.parse(line);
    for (const field of MEASURED_FIELDS) delete row[field];
    return row;
  });

const namesIn = (dir: string): string[] => {
  try {
    return [...Deno.readDirSync(dir)].map(({ name }) => name);
  } catch {
    return [];
  }
};

/** Files of a run directory, with those of its folder of checkpoints, as far as they are there. */
const filesOf = (out: string): string[] =>
  [out, join(out, "checkpoints")].flatMap(namesIn)
    .map((name) => name.replace(/\d{10}/, "TIME")).sort();

type State = ReadonlyMap<string, ReadonlyMap<string, unknown>>;

/** Tensors of an encoder and of the checkpoint of a step. */
const stateOf = (out: string, step: number): State =>
  new Map(
    ["encoder.safetensors", join("checkpoints", `step-0000000${step}.safetensors`)].map((file) =>
      [file, readSafetensors(Deno.readFileSync(join(out, file))).tensors] as const
    ),
  );

function assertSameState(actual: State, expected: State): void {
  for (const [file, tensors] of actual) {
    const wanted = expected.get(file)!;
    assertEquals([...tensors.keys()], [...wanted.keys()]);
    for (const [name, tensor] of tensors) assertEquals(tensor, wanted.get(name), name);
  }
}

const PERMISSIONS = [...GROUP_PERMISSIONS, "--allow-write", "--allow-run"];

/** A job of `pretrain:mpi`; `kill` is the rank that is killed, and after how many milliseconds. */
function start(
  launcher: Launcher,
  ranks: number,
  words: readonly string[],
  kill: readonly [rank: number, after: number] = [0, -1],
): Deno.ChildProcess {
  return startJob(launcher, ranks, [...PERMISSIONS, PROGRAM, ...kill.map(String), ...words]);
}

/** A job of two ranks with a fault in one of them. */
function faulty(
  launcher: Launcher,
  rank: number,
  fault: string,
  words: readonly string[],
): Promise<JobOutcome> {
  const program = [...PERMISSIONS, FAULTY, String(rank), fault, ...words];
  return outcomeOf(startJob(launcher, 2, program));
}

const job = (...args: Parameters<typeof start>): Promise<JobOutcome> => outcomeOf(start(...args));

mpiTest(
  "two ranks leave what one process leaves, of good and bad files",
  (launcher) =>
    inTempDir(async (dir) => {
      const data = join(dir, "data");
      await Deno.mkdir(data);
      for (let i = 0; i < 5; i++) {
        await Deno.writeFile(join(data, `${i}.wav`), wav(syntheticClip(1, i, 12_000).waveform));
      }
      for (const name of ["bad", "worse"]) {
        await Deno.writeTextFile(join(data, `${name}.wav`), name);
      }
      const [one, two] = ["one", "two"].map((name) => join(dir, name));
      const words = [...RUN, "--data", data, "--steps", "2", "--quiet"];
      const single = [...runWords("pretrain:mpi"), ...words, "--micro-batch", "2", "--out", one];
      const alone = await deno(["run", "--no-check", ...single.slice(1)]);
      assertStringIncludes(alone.out, "2 of 7 inputs could not be used");
      const { code, lines, err } = await job(launcher, 2, [...words, "--out", two]);
      assertEquals(code, 0, err);
      assertStringIncludes(lines.join("\n"), "2 of 7 inputs could not be used");
      const text = Deno.readTextFileSync(join(two, "metrics.jsonl"));
      for (const line of text.trim().split("\n")) {
        const { exchange_wait, exchange_share, ranks } = JSON.parse(line);
        assert(exchange_wait > 0 && exchange_share > 0 && exchange_share <= 1, line);
        assertEquals(ranks, 2);
      }
      assert([0, 1].includes(JSON.parse(text.trim().split("\n").at(-1)!).slowest_rank), text);
      assertEquals(rowsOf(two), rowsOf(one));
      assertEquals(filesOf(two), filesOf(one));
      const skips = (out: string) =>
        Deno.readTextFileSync(join(out, "skipped.jsonl")).split("\n").sort();
      assertEquals(skips(two), skips(one));
      assertSameState(stateOf(two, 2), stateOf(one, 2));
    }),
  once(fullOnly),
);

const DETERMINISTIC = [...RUN, "--micro-batch", "1", "--deterministic", "--steps", "8"];

/** What one process leaves of that, and how long it takes; run once for all tests. */
let alone: Promise<{ rows: unknown; state: State; milliseconds: number }> | undefined;
const byOne = () =>
  alone ??= (async () => {
    const out = await Deno.makeTempDir();
    try {
      const before = performance.now();
      const words = [...runWords("pretrain:mpi"), ...DETERMINISTIC, "--quiet", "--out", out];
      await deno(["run", "--no-check", ...words.slice(1)]);
      const milliseconds = Math.ceil(performance.now() - before);
      return { rows: rowsOf(out), state: stateOf(out, 8), milliseconds };
    } finally {
      await Deno.remove(out, { recursive: true });
    }
  })();

mpiTest(
  "SIGUSR1 checkpoints and ends with 130; other ranks go on, to the same bytes",
  (launcher) =>
    inTempDir(async (dir) => {
      const [one, some] = [await byOne(), join(dir, "some")];
      const child = start(launcher, 2, [...DETERMINISTIC, "--out", some]);
      const outcome = outcomeOf(child);
      while (!filesOf(some).includes("latest")) await sleep(50);
      child.kill("SIGUSR1");
      const { code, err } = await outcome;
      assertEquals(code, 130, err);
      const said = err.split("\n").filter((line) => line.startsWith("error:"));
      assertEquals(said.length, 1, err);
      assertMatch(said[0], /^error: interrupted after step \d; the checkpoint is written$/);
      const again = await job(launcher, 4, ["--resume", "--out", some]);
      assertEquals(again.code, 0, again.err);
      assertStringIncludes(again.lines.join("\n"), "resumed after step");
      assertEquals(rowsOf(some), one.rows);
      assertSameState(stateOf(some, 8), one.state);
    }),
  fullOnly,
);

const sleep = (milliseconds: number) => new Promise<void>((done) => setTimeout(done, milliseconds));

mpiTest("a rank that is killed at any moment ends the job, which goes on to the same bytes", (
  launcher,
) =>
  inTempDir(async (dir) => {
    const [one, some] = [await byOne(), join(dir, "some")];
    const whole = one.milliseconds;
    const random = new Prng(2026, launcher.name.length);
    const most = launcher.name === "mpirun.openmpi" ? 4 : 2;
    let kills = 0;
    for (let attempt = 0; attempt < 40; attempt++) {
      const isThere = filesOf(some).includes("config.json");
      const words = isThere ? ["--resume", "--out", some] : [...DETERMINISTIC, "--out", some];
      const kill = [
        random.integer(2),
        kills < most ? 200 + random.integer(Math.ceil(kills === 0 ? whole / 4 : whole)) : -1,
      ] as const;
      const { code, err } = await job(launcher, 2, words, kill);
      if (code === 0) break;
      assert(kill[1] >= 0, err);
      kills++;
    }
    assert(kills > 0, "no kill came in time");
    assertEquals(rowsOf(some), one.rows);
    assertSameState(stateOf(some, 8), one.state);
    assertEquals(filesOf(some).filter((name) => name.endsWith(".tmp")), []);
  }), fullOnly);

/** Seconds in which a job of which a rank cannot go on has to be gone. */
const LONGEST_END = 30;

mpiTest(
  "a rank that diverges, loses its device or its memory ends the job with one message",
  (launcher) =>
    inTempDir(async (dir) => {
      const cases = [
        // Gradients are everybody's: all ranks see it, and the lowest speaks.
        ["nan", 1, 0, /the loss of step 4 is NaN/],
        ["lost", 5, 1, /device/],
        ["memory", 5, 1, /no room for another buffer/],
      ] as const;
      for (const [fault, exit, speaker, cause] of cases) {
        const out = join(dir, fault);
        const words = [...RUN, "--steps", "9", "--out", out];
        const { code, lines, err } = await faulty(launcher, 1, fault, words);
        const [, time] = /fault at (\d+)/.exec(lines.join("\n")) ?? [];
        assert(Date.now() - Number(time) < LONGEST_END * 1000, `${fault}: ended too late`);
        assertEquals(code, exit, err);
        const said = err.split("\n").filter((line) => line.startsWith("error:"));
        assertEquals(said.length, 1, err);
        assertMatch(said[0], new RegExp(`^error: rank ${speaker} on \\S+: .*${cause.source}`));
        assertStringIncludes(err, "the checkpoint of step 2 is safe");
        assertStringIncludes(err, `pretrain:mpi --resume --out ${out}`);
        assertEquals(filesOf(out).filter((name) => name.endsWith(".tmp")), []);
      }
    }),
  fullOnly,
);

mpiTest("an evaluation may take longer than the timeout", (launcher) =>
  inTempDir(async (dir) => {
    const folder = join(dir, "labelled");
    await Deno.mkdir(join(folder, "audio"), { recursive: true });
    const rows = ["filename,label,fold"];
    for (let i = 0; i < 8; i++) {
      const clip = syntheticClip(1, i, 8000);
      await Deno.writeFile(join(folder, "audio", `${i}.wav`), wav(clip.waveform));
      rows.push(`${i}.wav,${i % 2},${i >> 2}`);
    }
    await Deno.writeTextFile(join(folder, "meta.csv"), rows.join("\n"));
    const out = join(dir, "run");
    const words = [...RUN, "--steps", "1", "--eval", folder, "--timeout", "20", "--out", out];
    const { code, err } = await faulty(launcher, 0, "slow=30", words);
    assertEquals(code, 0, err);
    assertEquals(rowsOf(out).map(({ eval_accuracy }) => typeof eval_accuracy), ["number"]);
  }), fullOnly);

mpiTest(
  "ranks with other options or another number of clips are told apart at the start",
  (launcher) =>
    inTempDir(async (dir) => {
      const words = [...RUN, "--steps", "1", "--out", join(dir, "run")];
      const odd = await job(launcher, 3, words);
      assertEquals(odd.code, 2, odd.err);
      assertStringIncludes(odd.err, "--batch 4: 3 ranks cannot share it equally");
      assertEquals(odd.err.split("\n").filter((line) => line.startsWith("error:")).length, 1);
    }),
  fullOnly,
);
