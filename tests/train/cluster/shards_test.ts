/** Work in shards against the same work by one process, byte for byte. */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { run as embed } from "../../../train/commands/embed.ts";
import { run as prepare } from "../../../train/commands/prepare.ts";
import { run as probe } from "../../../train/commands/probe.ts";
import { run as table } from "../../../train/commands/table.ts";
import { COMMAND as COMPARE, run as compare } from "../../../train/commands/compare.ts";
import { shardOfJob } from "../../../train/cluster/launcher.ts";
import { syntheticClip } from "../../../train/data/synthetic.ts";
import { UsageError } from "../../../train/errors.ts";
import { isInShard, ShardFolder } from "../../../train/io/shards.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { runWords } from "../../support/tasks.ts";
import { writeEncoder } from "../../support/small_encoder.ts";
import { fullOnly, test } from "../../support/tier.ts";

type Command = (argv: string[], signal: AbortSignal) => Promise<number>;

/** Runs a command without what it prints. */
async function quietly(
  command: Command,
  words: readonly string[],
  signal: AbortSignal = new AbortController().signal,
): Promise<{ code: number; said: string }> {
  const [log, error, write] = [console.log, console.error, Deno.stdout.writeSync];
  let said = "";
  console.log = console.error = (text: string) => said += `${text}\n`;
  Deno.stdout.writeSync = ({ length }) => length;
  try {
    return { code: await command([...words], signal), said };
  } finally {
    [console.log, console.error, Deno.stdout.writeSync] = [log, error, write];
  }
}

/** Nine clips of 0.3 to 1.5 s in two classes and three folds, and two files that are no audio. */
async function writeFolder(dir: string): Promise<void> {
  await Deno.mkdir(join(dir, "audio"), { recursive: true });
  const lines = ["filename,fold,label"];
  for (let i = 0; i < 9; i++) {
    const samples = i % 2 === 0
      ? syntheticClip(3, i, 5000 + 2000 * i).waveform
      : Float32Array.from({ length: 8000 }, (_, n) => 0.5 * Math.sin(0.02 * (i + 3) * n));
    await Deno.writeFile(join(dir, "audio", `${i}.wav`), wav(samples));
    lines.push(`${i}.wav,${1 + i % 3},${["made", "tone"][i % 2]}`);
  }
  for (const name of ["bad.wav", "worse.wav"]) {
    await Deno.writeTextFile(join(dir, "audio", name), "no audio");
    lines.push(`${name},1,tone`);
  }
  await Deno.writeTextFile(join(dir, "meta.csv"), `${lines.join("\n")}\n`);
}

/** Files below a folder by name, as text, with the folder's own name left out. */
function contentOf(dir: string, but: (name: string) => boolean = () => false) {
  const content: Record<string, string> = {};
  const walk = (folder: string): void => {
    for (const { name, isDirectory } of Deno.readDirSync(join(dir, folder))) {
      const path = join(folder, name);
      if (isDirectory) walk(path);
      else if (!but(path)) {
        const text = new TextDecoder("latin1").decode(Deno.readFileSync(join(dir, path)));
        content[path] = text.replaceAll(Deno.realPathSync(dir), "DIR").replaceAll(dir, "DIR");
      }
    }
  };
  walk("");
  return content;
}

const isFile = (path: string): Promise<boolean> =>
  Deno.stat(path).then(({ isFile }) => isFile, () => false);

const shardsOf = (count: number) => Array.from({ length: count }, (_, i) => `${i + 1}/${count}`);

test("shards: parts of the launcher's variables, words that are none", async () => {
  const of = (variables: Record<string, string>) => shardOfJob((name) => variables[name]);
  assertEquals(of({}), undefined);
  assertEquals(of({ SLURM_PROCID: "0", SLURM_NTASKS: "4" }), undefined);
  const step = { SLURM_STEP_ID: "0", SLURM_PROCID: "2", SLURM_NTASKS: "4" };
  assertEquals(of(step), { index: 3, count: 4 });
  assertEquals(of({ OMPI_COMM_WORLD_RANK: "1", OMPI_COMM_WORLD_SIZE: "2" }), {
    index: 2,
    count: 2,
  });
  const array = {
    ...{ SLURM_ARRAY_TASK_ID: "7", SLURM_ARRAY_TASK_MIN: "3", SLURM_ARRAY_TASK_COUNT: "5" },
    SLURM_ARRAY_TASK_STEP: "2",
  };
  assertEquals(of(array), { index: 3, count: 5 });
  // Ranks of a task of an array: the third task's third rank.
  assertEquals(of({ ...array, ...step }), { index: 11, count: 20 });
  assertEquals(of({ ...array, SLURM_ARRAY_TASK_ID: "8" }), undefined);
  for (const word of ["0/3", "4/3", "1", "1/0", "a/b", "1.5/2"]) {
    const error = await assertRejects(
      () => quietly(prepare, ["--data", "a", "--out", "b", "--shard", word]),
      UsageError,
    );
    assertEquals(
      error.message,
      `--shard ${word}: must be I/N with whole numbers, I from 1 to N, or auto`,
    );
  }
  for (const items of [7, 8]) {
    const seen = shardsOf(3).flatMap((_, i) =>
      [...Array(items).keys()].filter((item) => isInShard(item, { index: i + 1, count: 3 }))
    );
    assertEquals(seen.sort((a, b) => a - b), [...Array(items).keys()]);
  }
});

test("shards: a folder takes those of one work, and names what is missing", () =>
  inTempDir(async (dir) => {
    const of = (facts: Record<string, unknown>) => new ShardFolder<number>(join(dir, "s"), facts);
    const folder = of({ dtype: "f32", files: 3 });
    assertEquals(await folder.parts(), undefined);
    {
      using first = await folder.begin({ index: 1, count: 3 });
      await assertRejects(
        () => folder.begin({ index: 1, count: 3 }),
        UsageError,
        "--shard 1/3: another process is working on it",
      );
      await first.finish(10);
    }
    // Begun and not finished.
    (await folder.begin({ index: 3, count: 3 }))[Symbol.dispose]();
    await assertRejects(
      () => folder.parts(),
      UsageError,
      "of 3 shards 2/3, 3/3 are missing or not complete",
    );
    await assertRejects(
      () => of({ dtype: "f16", files: 3 }).begin({ index: 2, count: 3 }),
      UsageError,
      'has dtype "f32", not "f16"',
    );
    await assertRejects(
      () => folder.begin({ index: 2, count: 4 }),
      UsageError,
      "is divided into 3, not 4",
    );
    for (const index of [2, 3]) {
      using it = await folder.begin({ index, count: 3 });
      await it.finish(10 * index);
    }
    using again = await folder.begin({ index: 2, count: 3 });
    assertEquals(again.before, 20);
    await assertRejects(() => of({ dtype: "f32", files: 4 }).parts(), UsageError, "has files 3");
    assertEquals((await folder.parts())!.map(({ part }) => part), [10, 20, 30]);
    await folder.remove();
    assertEquals(await folder.parts(), undefined);
  }));

fullOnly(
  "prepare in shards: the store of one process, also after a kill",
  () =>
    inTempDir(async (dir) => {
      const data = join(dir, "data");
      await writeFolder(data);
      const store = (name: string) => join(dir, name);
      const words = (out: string) => [
        ...["--data", join(data, "audio"), "--out", out, "--workers", "0", "--quiet"],
      ];
      // The journal's lines are in the order in which clips were finished.
      const ofStore = (out: string) => {
        const { "prepare.jsonl": journal, ...rest } = contentOf(out, (it) => it.endsWith(".lock"));
        return { ...rest, journal: journal.split("\n").sort() };
      };
      await quietly(prepare, words(store("one")));
      for (const count of [2, 3]) {
        const out = store(`of-${count}`);
        const [first, ...others] = shardsOf(count);
        for (const shard of others) await quietly(prepare, [...words(out), "--shard", shard]);
        const missing = await assertRejects(() => quietly(prepare, words(out)), UsageError);
        assertStringIncludes(missing.message, `of ${count} shards 1/${count} is missing`);
        // One that ends in the middle, by a signal or killed as soon as it has begun.
        if (count === 2) {
          const stop = new AbortController();
          stop.abort();
          await assertRejects(() =>
            quietly(prepare, [...words(out), "--shard", first], stop.signal)
          );
          await assertRejects(() => quietly(prepare, words(out)), UsageError, "not complete");
        } else {
          const [run, ...task] = runWords("prepare");
          const child = new Deno.Command(Deno.execPath(), {
            args: [run, "--no-check", ...task, ...words(out), "--shard", first],
            cwd: fromFileUrl(new URL("../../../", import.meta.url)),
            ...{ stdout: "null", stderr: "null" },
          }).spawn();
          const begun = join(out, ".shards", `1-of-${count}.json`);
          while (!await isFile(begun)) await new Promise((done) => setTimeout(done, 10));
          child.kill("SIGKILL");
          assertEquals((await child.status).signal, "SIGKILL");
        }
        await quietly(prepare, [...words(out), "--shard", first]);
        await assertRejects(
          () => quietly(prepare, [...words(out), "--shard", first, "--dtype", "f16"]),
          UsageError,
          'has dtype "f32", not "f16"',
        );
        const { said } = await quietly(prepare, words(out));
        assertStringIncludes(said, "0 clips made (0.00 h of audio); 9 kept; 2 of 11 files skipped");
        assertEquals(ofStore(out), ofStore(store("one")));
      }
    }),
);

fullOnly("embed in shards: the file of one process, for all forms", () =>
  inTempDir(async (dir) => {
    const [data, model] = [join(dir, "data"), join(dir, "encoder.safetensors")];
    await writeFolder(data);
    await writeEncoder(model, 5);
    for (const [count, name, ...more] of [[2, "e.npz"], [3, "e.csv", "--frames", "--layers"]]) {
      const [one, some] = ["one", `of-${count}`].map((it) => join(dir, it, String(name)));
      const words = (out: string) => [
        ...[join(data, "audio"), "--checkpoint", model, "--out", out, "--workers", "0", "--quiet"],
        ...more.map(String),
      ];
      await quietly(embed, words(one));
      const [first, ...others] = shardsOf(Number(count));
      for (const shard of others) await quietly(embed, [...words(some), "--shard", shard]);
      const stop = new AbortController();
      stop.abort();
      await assertRejects(() => quietly(embed, [...words(some), "--shard", first], stop.signal));
      await assertRejects(
        () => quietly(embed, words(some)),
        UsageError,
        `${first} is missing or not complete`,
      );
      await quietly(embed, [...words(some), "--shard", first]);
      await assertRejects(
        () => quietly(embed, [...words(some), "--bands", "mean"]),
        UsageError,
        '--bands nothing, not "mean"',
      );
      await quietly(embed, words(some));
      assertEquals(contentOf(join(dir, `of-${count}`)), contentOf(join(dir, "one")));
      await Deno.remove(join(dir, "one"), { recursive: true });
    }
  }));

fullOnly(
  "probe in shards: features of all, and what a shard left undone is named",
  () =>
    inTempDir(async (dir) => {
      const [data, model] = [join(dir, "data"), join(dir, "encoder.safetensors")];
      await writeFolder(data);
      await writeEncoder(model, 5);
      const words = (name: string) => [
        ...["--checkpoint", model, "--dataset", data, "--cache", join(dir, name)],
        ...["--json", join(dir, `${name}.json`), "--workers", "0", "--quiet"],
        ...["--repeats", "1", "--epochs", "3"],
      ];
      await quietly(probe, words("one"));
      for (const count of [2, 3]) {
        const name = `of-${count}`;
        const shards = shardsOf(count);
        // The first of three is left out.
        const done = count === 3 ? shards.slice(1) : shards;
        for (const shard of done) await quietly(probe, [...words(name), "--shard", shard]);
        const { said } = await quietly(probe, words(name));
        assertEquals(
          said.includes("encoder: shard 1/3 had not come to its end"),
          count === 3,
          said,
        );
        assertEquals(said.includes("had not come to its end"), count === 3, said);
        assertEquals(
          Deno.readTextFileSync(join(dir, `${name}.json`)),
          Deno.readTextFileSync(join(dir, "one.json")),
        );
        // Their files were taken over.
        const names = [...Deno.readDirSync(join(dir, name))].map((it) => it.name);
        assertEquals(names.filter((it) => it.includes("-of-")), []);
        assertEquals(names.length, 2);
      }
      await assertRejects(
        () => quietly(probe, [...words("none"), "--cache", "none"].concat("--shard", "1/2")),
        UsageError,
      );
    }),
);

fullOnly("table in shards: the same table", () =>
  inTempDir(async (dir) => {
    const [data, a, b] = ["data", "a.safetensors", "b.safetensors"].map((it) => join(dir, it));
    await writeFolder(data);
    await writeEncoder(a, 5);
    await writeEncoder(b, 6);
    const words = (out: string) => [
      ...["--checkpoints", a, b, "--datasets", data, "--out", out, "--repeats", "1"],
      ...["--epochs", "3", "--workers", "0"],
    ];
    const results = (out: string) =>
      contentOf(out, (it) => it.startsWith("features") || it.endsWith(".lock"));
    await quietly(table, words(join(dir, "one")));
    for (const count of [2, 3]) {
      const out = join(dir, `of-${count}`);
      for (const shard of shardsOf(count).reverse()) {
        await quietly(table, [...words(out), "--shard", shard]);
        if (shard !== shardsOf(count)[0]) {
          await assertRejects(() => quietly(table, words(out)), UsageError, `1/${count}`);
        }
      }
      const { said } = await quietly(table, words(out));
      assertEquals(said.match(/is there/g)?.length, 2, said);
      assertEquals(results(out), results(join(dir, "one")));
    }
  }));

fullOnly("compare in shards: each trains and probes its runs", () =>
  inTempDir(async (dir) => {
    const [data, out] = [join(dir, "data"), join(dir, "out")];
    await writeFolder(data);
    const words = [
      ...["--data", join(data, "audio"), "--dataset", data, "--steps", "1", "--preset", "tiny"],
      ...["--objectives", "msm-mae,m2d", "--seeds", "4", "--crop-frames", "32", "--batch", "2"],
      ...["--workers", "0", "--quiet", "--patience", "1", "--repeats", "1", "--no-tuned"],
      ...["--cache", join(dir, "cache")],
    ];
    /** The table without rates, which are measured. */
    const ofOne = (folder: string) => {
      const text = Deno.readTextFileSync(join(folder, "compare.json")).replaceAll(folder, "DIR");
      return JSON.parse(text, (name, value) => name === "samples_per_s" ? undefined : value);
    };
    await quietly(compare, [...words, "--out", join(dir, "one")]);
    for (const shard of ["2/2", "1/2"]) {
      await quietly(compare, [...words, "--out", out, "--shard", shard]);
    }
    const { said } = await quietly(compare, [...words, "--out", out]);
    assertEquals(said.match(/: is there/g)?.length, 2, said);
    assertEquals(ofOne(out), ofOne(join(dir, "one")));
    assertStringIncludes(COMPARE.help(), "--shard I/N|auto");
  }));
