/** Whole stores: what they hold, killing and going on, training from them. */
import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { openDevice } from "../../../engine/mod.ts";
import { readSafetensors } from "../../../engine/formats/safetensors.ts";
import { LogMel } from "../../../model/frontend/log_mel.ts";
import { run as prepareCommand } from "../../../train/commands/prepare.ts";
import { run as pretrainCommand } from "../../../train/commands/pretrain.ts";
import { loadWaveform } from "../../../train/audio/decode.ts";
import { decodeValues, parseNpyHeader } from "../../../train/io/npy.ts";
import { WorkerPool } from "../../../train/data/worker_pool.ts";
import { type PrepareOptions, prepareStore, storeNames } from "../../../train/store/prepare.ts";
import { Prng } from "../../../engine/prng.ts";
import { syntheticClip } from "../../../train/data/synthetic.ts";
import { describeError, exitCodeOf } from "../../../train/errors.ts";
import { fullDisk } from "../../support/full_disk.ts";
import { lockFolder } from "../../../train/io/lock.ts";
import { RateLine } from "../../../train/cli/rate_line.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { full, test } from "../../support/tier.ts";

/**
 * A folder of `count` clips in two subfolders, of 0.3 to 2 s at some rates, and one that is no
 * audio.
 */
function audioFolder(dir: string, count: number): string {
  const data = join(dir, "audio");
  for (const part of ["a", "b"]) Deno.mkdirSync(join(data, part), { recursive: true });
  for (let i = 0; i < count; i++) {
    const rate = [16_000, 22_050, 8000][i % 3];
    const clip = syntheticClip(3, i, Math.floor(rate * (0.3 + 1.7 * (i % 7) / 6)));
    Deno.writeFileSync(join(data, i % 2 ? "a" : "b", `${i}.wav`), wav(clip.waveform, rate));
  }
  Deno.writeTextFileSync(join(data, "broken.wav"), "no audio");
  return data;
}

async function prepare(options: Partial<PrepareOptions> & { data: string; out: string }) {
  using device = await openDevice();
  using pool = new WorkerPool(2);
  return await prepareStore({ dtype: "f32", minFrames: 1, device, pool, ...options });
}

function readNpy(path: string) {
  const bytes = Deno.readFileSync(path);
  const header = parseNpyHeader(bytes);
  return { ...header, values: decodeValues(bytes.subarray(header.offset), header.dtype) };
}

/**
 * Content of every file of a store that does not depend on the order in which clips were finished,
 * by name.
 */
function contentOf(store: string): Record<string, string> {
  const content: Record<string, string> = {};
  const walk = (folder: string): void => {
    for (const { name, isDirectory } of Deno.readDirSync(join(store, folder))) {
      const path = join(folder, name);
      if (isDirectory) walk(path);
      else if (name !== "prepare.jsonl") {
        content[path] = new TextDecoder("latin1").decode(Deno.readFileSync(join(store, path)))
          .replaceAll(Deno.realPathSync(store), "STORE");
      }
    }
  };
  walk("");
  return content;
}

test("a store holds the log-mel of every clip, the official manifest, and statistics over all values", () =>
  inTempDir(async (dir) => {
    const data = audioFolder(dir, 12);
    const out = join(dir, "store");
    const result = await prepare({ data, out });
    assertEquals([result.total, result.made, result.kept, result.skipped], [13, 12, 0, 1]);
    const [root, ...lines] = Deno.readTextFileSync(join(out, "manifest.tsv")).trimEnd().split("\n");
    assertEquals(root, Deno.realPathSync(out));
    assertEquals(lines.length, 12);
    using device = await openDevice();
    using frontend = new LogMel(device, { statistics: null });
    const all: number[] = [];
    for (const line of lines) {
      const [path, frames] = line.split("\t");
      const { shape, values } = readNpy(join(out, path));
      const waveform = await loadWaveform(join(data, path.replace(/npy$/, "wav")));
      using waves = device.tensor(waveform, [1, waveform.length]);
      using logmel = frontend.apply(waves);
      assertEquals([shape, Number(frames)], [[80, logmel.shape[2]], logmel.shape[2]]);
      const expected = await logmel.data();
      // A last odd frame is transformed together with what follows it, here silence: it is rounded
      // differently, and the logarithm of bands that are nearly silent shows it most.
      values.forEach((x, i) => assertAlmostEquals(x, expected[i], 1e-3, `${path} ${i}`));
      all.push(...values);
    }
    const mean = all.reduce((a, b) => a + b) / all.length;
    const std = Math.sqrt(all.reduce((a, b) => a + (b - mean) ** 2, 0) / all.length);
    const stats = JSON.parse(Deno.readTextFileSync(join(out, "stats.json")));
    // Sums in another order: float64 rounding.
    assertAlmostEquals(stats.mean, mean, 1e-9);
    assertAlmostEquals(stats.std, std, 1e-9);
    assertEquals([stats.values, stats.clips, stats.dtype], [all.length, 12, "f32"]);
    const skipped = Deno.readTextFileSync(join(out, "skipped.jsonl")).trimEnd().split("\n");
    assertEquals(skipped.length, 1);
    assertEquals(JSON.parse(skipped[0]).path, join(data, "broken.wav"));
  }));

test("nothing that is complete is made again; damaged and foreign files are", () =>
  inTempDir(async (dir) => {
    const data = audioFolder(dir, 8);
    const out = join(dir, "store");
    await prepare({ data, out });
    const before = contentOf(out);
    const times = () => Deno.statSync(join(out, "b", "0.npy")).mtime?.getTime();
    const made = times();
    Deno.truncateSync(join(out, "a", "1.npy"), 700);
    Deno.removeSync(join(out, "b", "2.npy"));
    Deno.writeTextFileSync(join(out, "a", "3.npy"), "");
    // Lost and broken lines of the journal cost reading the files again.
    const journal = Deno.readTextFileSync(join(out, "prepare.jsonl")).split("\n");
    Deno.writeTextFileSync(
      join(out, "prepare.jsonl"),
      `${journal.slice(0, 3).join("\n")}\n{"path":\n${journal[4].slice(0, 20)}`,
    );
    const again = await prepare({ data, out });
    assertEquals([again.made, again.kept], [3, 5]);
    const { "stats.json": statsBefore, ...filesBefore } = before;
    const { "stats.json": statsAfter, ...filesAfter } = contentOf(out);
    assertEquals(filesAfter, filesBefore);
    assertEquals(times(), made);
    // Sums read back run band by band.
    assertAlmostEquals(JSON.parse(statsAfter).std, JSON.parse(statsBefore).std, 1e-9);
    const names = ["a/1.npy", "b/2.npy"].map((name) => join(out, name));
    const exact = names.map((name) => readNpy(name).values);
    const other = await prepare({ data, out, dtype: "f16" });
    assertEquals([other.made, other.kept], [8, 0]);
    names.forEach((name, i) => {
      const { dtype, values } = readNpy(name);
      assertEquals(dtype, "f16");
      assertEquals(values, new Float32Array(new Float16Array(exact[i])));
    });
  }));

test("a store that was killed at any moment and run again is the store of one run", () =>
  inTempDir(async (dir) => {
    const data = audioFolder(dir, 60);
    const [whole, parts] = [join(dir, "whole"), join(dir, "parts")];
    const main = fromFileUrl(new URL("../../../train/main.ts", import.meta.url));
    const start = (out: string) =>
      new Deno.Command(Deno.execPath(), {
        args: [
          ...["run", "--no-check", "--no-prompt", "--allow-read", "--allow-write", main],
          ...["prepare", "--data", data, "--out", out, "--quiet"],
        ],
        stdout: "null",
        stderr: "piped",
      }).spawn();
    assertEquals((await start(whole).output()).code, 0);
    const prng = new Prng(1);
    const clips = () => {
      try {
        return Object.keys(contentOf(parts)).filter((path) => path.endsWith(".npy"));
      } catch {
        return [];
      }
    };
    for (let run = 0; run < 4; run++) {
      const child = start(parts);
      const errors = new Response(child.stderr).text();
      const until = clips().length + prng.integer(12);
      let ended = false;
      child.status.then(() => ended = true);
      while (!ended && clips().length <= until) await new Promise((done) => setTimeout(done, 1));
      if (!ended) child.kill("SIGKILL");
      await child.status;
      await errors;
      for (const path of clips()) {
        const { shape, offset, values } = readNpy(join(parts, path));
        assertEquals(values.length, shape[0] * shape[1], path);
        assertEquals(Deno.statSync(join(parts, path)).size, offset + 4 * values.length);
      }
    }
    assertEquals((await start(parts).output()).code, 0);
    const { "stats.json": wholeStats, ...wholeFiles } = contentOf(whole);
    const { "stats.json": partsStats, ...partsFiles } = contentOf(parts);
    assertEquals(partsFiles, wholeFiles);
    assertAlmostEquals(JSON.parse(partsStats).mean, JSON.parse(wholeStats).mean, 1e-12);
  }));

test("a clip longer than a piece has the bits that its parts have alone", () =>
  inTempDir(async (dir) => {
    const data = join(dir, "audio");
    Deno.mkdirSync(data);
    const noise = Float32Array.from({ length: 16_000 * 170 + 77 }, (_, i) => Math.sin(i * i) / 2);
    Deno.writeFileSync(join(data, "long.wav"), wav(noise, 16_000));
    // Frames 8000 to 8999 alone: a piece of the long clip starts there.
    const part = noise.subarray(8000 * 160, 8999 * 160 + 400);
    Deno.writeFileSync(join(data, "part.wav"), wav(part, 16_000));
    for (const dtype of ["f32", "f16"] as const) {
      const out = join(dir, dtype);
      await prepare({ data, out, dtype });
      const [long, short] = ["long", "part"].map((name) => readNpy(join(out, `${name}.npy`)));
      assertEquals(long.shape, [80, 1 + Math.floor((noise.length - 400) / 160)]);
      assertEquals(short.shape, [80, 1000]);
      for (let band = 0; band < 80; band++) {
        const from = band * long.shape[1] + 8000;
        assertEquals(
          long.values.slice(from, from + 1000),
          short.values.slice(band * 1000, (band + 1) * 1000),
        );
      }
      assertEquals([...Deno.readDirSync(out)].filter(({ name }) => name.endsWith(".tmp")), []);
    }
  }));

test("names in the store: files that differ in their ending alone keep it", () => {
  assertEquals(storeNames(["a.wav", "b.wav", "b.mp3", "c.d/e", "c.d/e.x.ogg"]), [
    "a.npy",
    "b.wav.npy",
    "b.mp3.npy",
    "c.d/e.npy",
    "c.d/e.x.npy",
  ]);
});

test("prepare says what is wrong, with the exit code of its kind", () =>
  inTempDir(async (dir) => {
    const failure = async (code: number, message: string, ...argv: string[]) => {
      const { signal } = new AbortController();
      const error = await assertRejects(
        () => prepareCommand([...argv, "--quiet"], signal),
        Error,
        message,
      );
      assertEquals(exitCodeOf(error), code);
    };
    const out = join(dir, "store");
    await failure(2, "--data: is needed", "--out", out);
    await failure(
      2,
      "--dtype f8: must be f32 or f16",
      "--data",
      dir,
      "--out",
      out,
      "--dtype",
      "f8",
    );
    await failure(2, "--workers -1", "--data", dir, "--out", out, "--workers=-1");
    await failure(2, "--min-frames 0", "--data", dir, "--out", out, "--min-frames", "0");
    await failure(4, "no such folder", "--data", join(dir, "absent"), "--out", out);
    await failure(4, "no audio in folder", "--data", dir, "--out", out);
    Deno.writeTextFileSync(join(dir, "a.wav"), "nothing");
    await failure(4, "all 1 files were skipped", "--data", dir, "--out", out);
    {
      using _ = lockFolder(out, "store");
      await failure(
        2,
        `${out}: another process is writing this store`,
        "--data",
        dir,
        "--out",
        out,
      );
    }
    const stop = new AbortController();
    stop.abort();
    const stopped = await assertRejects(
      () => prepareCommand(["--data", dir, "--out", out, "--quiet"], stop.signal),
      Error,
      "interrupted after 0 of 1 files",
    );
    assertEquals(exitCodeOf(stopped), 130);
  }));

test("clips of fewer frames than asked for are in the store but not in the manifest", () =>
  inTempDir(async (dir) => {
    const data = audioFolder(dir, 8);
    const out = join(dir, "store");
    const { listed } = (await prepare({ data, out, minFrames: 101 })).whole!;
    const lines = Deno.readTextFileSync(join(out, "manifest.tsv")).trimEnd().split("\n").slice(1);
    assertEquals(lines.length, listed);
    assert(listed > 0 && listed < 8);
    assert(lines.every((line) => Number(line.split("\t")[1]) > 100));
    assertEquals(Object.keys(contentOf(out)).filter((path) => path.endsWith(".npy")).length, 8);
  }));

Deno.test("training from a store: with its statistics, weighted with audio, resumed bit by bit", () =>
  inTempDir(async (dir) => {
    const data = audioFolder(dir, 12);
    const store = join(dir, "store");
    await prepare({ data, out: store, dtype: "f16" });
    Deno.truncateSync(join(store, "a", "1.npy"), 700);
    const command = async (out: string, steps: number, ...argv: string[]) => {
      const words = ["--batch", "2", "--crop-frames", "48", "--quiet", "--log-every", "1"];
      const all = [...words, "--steps", `${steps}`, "--out", join(dir, out), ...argv];
      assertEquals(await pretrainCommand(all, new AbortController().signal), 0);
    };
    const sources = ["--data", store, "--data", data, "--data-weights", "3,1"];
    const recipe = [...sources, "--standardise", "store", "--save-every", "3"];
    const steps = full ? 8 : 3;
    await command("parts", steps, ...recipe, "--workers", "0");
    const parts = join(dir, "parts");
    const last = join(parts, "checkpoints", `step-0000000${steps}.safetensors`);
    const a = readSafetensors(Deno.readFileSync(last));
    const { mean, std } = JSON.parse(Deno.readTextFileSync(join(store, "stats.json")));
    assertEquals(JSON.parse(a.metadata.standardisation), { mean, std });
    if (full) {
      // Back to the checkpoint of step 6, with other threads than before.
      Deno.removeSync(last);
      Deno.writeTextFileSync(join(parts, "checkpoints", "latest"), "step-00000006.safetensors\n");
      await command("parts", 8, "--resume", "--workers", "3");
      const b = readSafetensors(Deno.readFileSync(last));
      assertEquals(b.metadata.generators, a.metadata.generators);
      assertEquals(b.tensors, a.tensors);
      await command("whole", 8, ...recipe, "--workers", "2");
      const whole = Deno.readFileSync(last.replace(parts, join(dir, "whole")));
      assertEquals(readSafetensors(whole).tensors, a.tensors);
    }
    const skipped = Deno.readTextFileSync(join(parts, "skipped.jsonl")).trimEnd().split("\n");
    const paths = skipped.map((line) => JSON.parse(line).path);
    assertEquals(paths.length, new Set(paths).size);
  }));

test("the line shows files, rate, times real time and time left, in place in a terminal", () => {
  const texts: string[] = [];
  let now = 0;
  const terminal: { columns?: number } = {};
  const output = {
    write: (text: string) => texts.push(text),
    columns: () => terminal.columns,
    now: () => now,
  };
  {
    using line = new RateLine({ output });
    now = 1000;
    line.update(10, 100, 50);
    assertEquals(texts, []);
    now = 10_000;
    line.update(20, 100, 100);
    assertEquals(texts, ["20/100 files  2.00 files/s  10 times real time  40s left\n"]);
    line.update(21, 100, 105);
  }
  assertEquals(texts.length, 2);
  terminal.columns = 30;
  using live = new RateLine({ output });
  now = 20_000;
  live.update(10, 20, 50);
  live.finish();
  assertEquals(texts.slice(2), ["\r\x1b[K10/20 files  1.00 files/s  5 ", "\n"]);
});

test("names of spectrograms never meet", () => {
  assertEquals(storeNames(["a.mp3", "a.mp3.wav", "a.wav"]), [
    "a.mp3.npy",
    "a.mp3.wav.npy",
    "a.wav.npy",
  ]);
  assertEquals(storeNames(["a.mp3", "a.mp3.wav"]), ["a.npy", "a.mp3.npy"]);
  const deep = ["a.wav", "a.mp3", "a.wav.mp3", "a.wav.mp3.ogg", "b/a.wav", "c"];
  assertEquals(new Set(storeNames(deep)).size, deep.length);
});

test("long names, control characters, folders in the way and the data's own copies: each is made or listed", () =>
  inTempDir(async (dir) => {
    const [data, out] = [join(dir, "data"), join(dir, "store")];
    await Deno.mkdir(data);
    const audio = wav(syntheticClip(3, 0, 20_000).waveform, 16_000);
    const long = "x".repeat(250);
    const names = ["a.mp3", "a.wav", "a.mp3.wav", `${long}.flac`, "taken.wav"];
    const steering = ["del\x7f.wav", "esc\x1b[2J.wav", "new\nline.wav", "tab\t1.wav"];
    names.push(...steering);
    for (const name of names) await Deno.writeFile(join(data, name), audio);
    await Deno.mkdir(join(out, "taken.npy"), { recursive: true });
    await Deno.writeTextFile(join(out, "thesis.tmp"), "mine");
    const { made, skipped } = await prepare({ data, out });
    assertEquals([made, skipped], [4, 5]);
    const [, ...lines] = Deno.readTextFileSync(join(out, "manifest.tsv")).trimEnd().split("\n");
    assertEquals(lines.map((line) => line.split("\t")[0]).sort(), [
      "a.mp3.npy",
      "a.mp3.wav.npy",
      "a.wav.npy",
      `${long}.npy`,
    ]);
    const text = Deno.readTextFileSync(join(out, "skipped.jsonl"));
    const reasons = text.trimEnd().split("\n").map((line) => JSON.parse(line));
    assertEquals(
      reasons.map(({ path }) => path),
      [...steering, "taken.wav"].map((it) => join(data, it)),
    );
    assertEquals(text.match(/(?!\n)\p{Cc}/u), null);
    assertEquals([...Deno.readDirSync(out)].some(({ name }) => name === "thesis.tmp"), true);
  }));

test("stats.json has the same bytes when sums are read back", () =>
  inTempDir(async (dir) => {
    const data = audioFolder(dir, 5);
    await Deno.writeFile(join(data, "long.wav"), wav(syntheticClip(3, 1, 3_000_000).waveform));
    for (const dtype of ["f32", "f16"] as const) {
      const out = join(dir, dtype);
      await prepare({ data, out, dtype });
      const stats = Deno.readTextFileSync(join(out, "stats.json"));
      // As after a kill between clips and their lines, and a loss of power.
      Deno.writeTextFileSync(join(out, "prepare.jsonl"), `${"\0".repeat(20)}\n`);
      assertEquals((await prepare({ data, out, dtype })).damaged, 1);
      assertEquals(Deno.readTextFileSync(join(out, "stats.json")), stats);
    }
  }));

test("a full disk and a folder that cannot be written: one line with its exit code", () =>
  inTempDir(async (dir) => {
    const data = audioFolder(dir, 2);
    const out = join(dir, "store");
    {
      using _ = fullDisk((path) => path.includes("prepare.jsonl"));
      const error = await assertRejects(
        () => prepare({ data, out }),
        Error,
        "could not be written",
      );
      assertEquals(exitCodeOf(error), 1);
      assertEquals(describeError(error).includes("    at "), false);
    }
    await Deno.writeTextFile(join(dir, "plain"), "");
    const error = await assertRejects(
      () => prepare({ data, out: join(dir, "plain") }),
      Error,
      "cannot be written",
    );
    assertEquals(exitCodeOf(error), 2);
  }));
