/**
 * `deno task embed`: files of embeddings, what is skipped, exit codes, permissions; the README's
 * example.
 */
import { assert, assertAlmostEquals, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { openDevice } from "../../../engine/mod.ts";
import type { Embedding, EmbedOptions } from "../../../model/encoder/embed_queue.ts";
import { loadEncoder } from "../../../model/encoder/encoder.ts";
import { loadPretrained } from "../../../model/pretrained/load.ts";
import { bytesAccess } from "../../../model/formats/stored_tensor.ts";
import { readSafetensors } from "../../../engine/formats/safetensors.ts";
import { ZipArchive } from "../../../model/formats/zip_read.ts";
import { run } from "../../../train/commands/embed.ts";
import { loadWaveform } from "../../../train/audio/decode.ts";
import { WorkerPool } from "../../../train/data/worker_pool.ts";
import { syntheticClip } from "../../../train/data/synthetic.ts";
import { ClipEncoder } from "../../../train/downstream/clip_encoder.ts";
import { audioFiles, embedFiles, type EmbedState } from "../../../train/downstream/embed_files.ts";
import { EmbeddingFile } from "../../../train/downstream/embedding_file.ts";
import { exitCodeOf, InterruptedError } from "../../../train/errors.ts";
import { runWords } from "../../support/tasks.ts";
import { encoderFile } from "../../support/golden_encoder.ts";
import { README } from "../../support/markdown.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { full, fullOnly, test } from "../../support/tier.ts";
import { deno } from "../../support/deno_process.ts";

/**
 * Clips of 0.02 to 5 s in two folders, one of other rate, and a file that is no audio; returns the
 * folder.
 */
function audioFolder(dir: string): string {
  const data = join(dir, "audio");
  Deno.mkdirSync(join(data, 'b, "2"'), { recursive: true });
  for (const [i, samples] of [320, 16_000, 70_000, 10_480, 80_000, 16_000].entries()) {
    const rate = i === 3 ? 22_050 : 16_000;
    const name = join(data, i % 2 ? 'b, "2"' : "", `${i}.wav`);
    Deno.writeFileSync(name, wav(syntheticClip(1, i, samples).waveform, rate));
  }
  Deno.writeTextFileSync(join(data, "broken.wav"), "no audio");
  return data;
}

/** Runs the command in this process, its messages apart. */
async function embed(...argv: string[]): Promise<{ code: number; err: string }> {
  const { error } = console;
  const lines: string[] = [];
  console.error = (text: string) => lines.push(text);
  try {
    const code = await run([...argv, "--quiet"], new AbortController().signal);
    return { code, err: lines.join("\n") };
  } finally {
    console.error = error;
  }
}

/** Arrays of a .npz; texts as lists of code points. */
function readNpz(path: string): Record<string, { shape: number[]; values: number[] | string }> {
  const archive = new ZipArchive(bytesAccess(Deno.readFileSync(path)));
  return Object.fromEntries(
    [...archive.entries.values()].map((entry) => {
      const bytes = archive.read(entry, 2 ** 24);
      const offset = 10 + new DataView(bytes.buffer, bytes.byteOffset).getUint16(8, true);
      assertEquals(offset % 64, 0);
      const header = new TextDecoder("latin1").decode(bytes.subarray(10, offset));
      const [, descr] = /'descr': '(<[^']*)'/.exec(header)!;
      const [, axes] = /'shape': \((.*?)\)/.exec(header)!;
      const { buffer } = bytes.slice(offset);
      const arrays = { "<f4": Float32Array, "<i4": Int32Array } as const;
      const values = descr.startsWith("<U")
        ? String.fromCodePoint(...new Uint32Array(buffer))
        : [...new arrays[descr as "<f4"](buffer)];
      const shape = axes.split(",").map((it) => it.trim()).filter((it) => it !== "").map(Number);
      return [entry.name.replace(/\.npy$/, ""), { shape, values }];
    }),
  );
}

/** A line of CSV without line breaks in cells. */
function cells(line: string): string[] {
  return [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)]
    .map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain);
}

Deno.test("embed: the three forms hold what the encoder makes of every usable file, in order", () =>
  inTempDir(async (dir) => {
    const data = audioFolder(dir);
    const model = join(dir, "encoder.safetensors");
    await Deno.writeFile(model, encoderFile());
    // Files of a folder by name, the folder's subfolders too; files given come as they are given.
    const names = ["0", "2", "4"].map((it) => join(data, `${it}.wav`));
    names.push(...["1", "3", "5"].map((it) => join(data, 'b, "2"', `${it}.wav`)));
    using device = await openDevice();
    using encoder = await loadEncoder(device, model);
    const audio = await Promise.all(names.map((it) => loadWaveform(it)));
    const cases: [string, EmbedOptions][] = [
      ["", {}],
      ["--layers --pool max --bands mean", { layers: true, pool: "max", bands: "mean" }],
      ["--frames --layers", { pool: "none", layers: true }],
      ["--frames --mode fast --compat", { pool: "none", mode: "fast", compat: true }],
    ];
    for (const [words, options] of full ? cases : [cases[2]]) {
      const expected = await encoder.embed(audio, options);
      const size = expected[0].shape.at(-1)!;
      const rows = expected.flatMap((it, clip) =>
        Array.from({ length: it.values.length / size }, (_, row) => ({
          clip,
          time: it.times?.[row] ?? 0,
          layers: Array.from({ length: it.layers ? 3 : 1 }, (_, layer) => {
            const from = (layer * it.values.length / size + row) * size;
            return (it.layers ?? it.values).subarray(from, from + size);
          }),
        }))
      );
      const flat = rows.flatMap(({ layers }) => [...layers.at(-1)!]);
      const all = rows.flatMap(({ layers }) => layers.flatMap((it) => [...it]));
      const close = (found: ArrayLike<number>, wanted: readonly number[]) => {
        assertEquals(found.length, wanted.length);
        // Batches are others here.
        wanted.forEach((x, i) => assertAlmostEquals(found[i], x, 1e-5));
      };
      const more = words.split(" ").filter((it) => it !== "");
      const write = async (out: string, ...rest: string[]) => {
        const given = ["--checkpoint", model, data, "--out", out, ...more, ...rest];
        const { code, err } = await embed(...given);
        assertEquals(code, 0);
        assert(err.startsWith("1 of 7 files skipped"), err);
        const list = Deno.readTextFileSync(`${out}.skipped.jsonl`).trim().split("\n");
        assertEquals(list.map((it) => JSON.parse(it).path), [join(data, "broken.wav")]);
      };
      const npz = join(dir, "new", "e.npz");
      await write(npz);
      const { embeddings, layers, clip, time_ms, files, ...others } = readNpz(npz);
      assertEquals(others, {});
      assertEquals([embeddings.shape, files.shape], [[rows.length, size], []]);
      close(embeddings.values as number[], flat);
      assertEquals(JSON.parse(files.values as string), names);
      assertEquals([layers !== undefined, clip !== undefined], [
        options.layers === true,
        options.pool === "none",
      ]);
      if (layers) {
        assertEquals(layers.shape, [rows.length, 3, size]);
        close(layers.values as number[], all);
      }
      if (clip) {
        assertEquals([clip.shape, time_ms.shape], [[rows.length], [rows.length]]);
        assertEquals(clip.values, rows.map(({ clip }) => clip));
        assertEquals(time_ms.values, rows.map(({ time }) => time));
      }
      if (words === cases[2][0]) {
        // The same bytes whatever the number of threads.
        const again = join(dir, "again.npz");
        await write(again, "--workers", "0");
        assertEquals(Deno.readFileSync(again), Deno.readFileSync(npz));
      }

      const path = join(dir, "E.SafeTensors");
      await write(path, "--batch", "2");
      const { tensors, metadata } = readSafetensors(Deno.readFileSync(path));
      close(tensors.get("embeddings")!.data as Float32Array, flat);
      if (options.layers) close(tensors.get("layers")!.data as Float32Array, all);
      if (options.pool === "none") {
        assertEquals([...tensors.get("clip")!.data], rows.map(({ clip }) => clip));
        assertEquals([...tensors.get("time_ms")!.data], rows.map(({ time }) => time));
      }
      assertEquals(JSON.parse(metadata.files), names);

      const csv = join(dir, "e.csv");
      await write(csv);
      const [head, ...lines] = Deno.readTextFileSync(csv).trimEnd().split("\n").map(cells);
      const from = head.indexOf("e0");
      const keys = ["file", ...(clip ? ["time_ms"] : []), ...(layers ? ["layer"] : [])];
      assertEquals(head, [...keys, ...Array.from({ length: size }, (_, i) => `e${i}`)]);
      const wanted = rows.flatMap(({ clip, time, layers }) =>
        layers.map((_, layer) => ({ file: names[clip], time_ms: time, layer: layer + 1 }))
      );
      assertEquals(
        lines.map((line) => line.slice(0, from)),
        wanted.map((it) => keys.map((key) => String(it[key as "file"]))),
      );
      close(lines.flatMap((line) => line.slice(from).map(Number)), all);
      const left = [...Deno.readDirSync(dir), ...Deno.readDirSync(join(dir, "new"))];
      assertEquals(left.filter(({ name }) => name.endsWith(".tmp")), []);
    }
  }));

test("embed: what cannot be used is listed; nothing usable is exit 4; a clean run removes the list", () =>
  inTempDir(async (dir) => {
    const data = audioFolder(dir);
    const model = join(dir, "encoder.safetensors");
    await Deno.writeFile(model, encoderFile());
    const out = join(dir, "e.npz");
    // A run's folder stands for its encoder.
    const common = ["--checkpoint", dir, "--out", out];
    const [broken, absent] = [join(data, "broken.wav"), join(data, "absent.wav")];
    const error = await assertRejects(
      () => embed(...common, broken, absent, absent),
      Error,
      "all 2 files were skipped",
    );
    assertEquals(exitCodeOf(error), 4);
    const list = Deno.readTextFileSync(`${out}.skipped.jsonl`).trim().split("\n")
      .map((line) => JSON.parse(line));
    assertEquals(list.map(({ path }) => path), [broken, absent]);
    assert(list[1].reason.startsWith("cannot be read"), list[1].reason);
    await assertRejects(() => Deno.stat(out), Deno.errors.NotFound);
    assertEquals(await embed(...common, join(data, "0.wav")), { code: 0, err: "" });
    assertEquals(readNpz(out).embeddings.shape, [1, 80]);
    await assertRejects(() => Deno.stat(`${out}.skipped.jsonl`), Deno.errors.NotFound);
    await Deno.mkdir(join(dir, "empty"));
    const none = await assertRejects(() => embed(...common, join(dir, "empty")), Error, "no audio");
    assertEquals(exitCodeOf(none), 4);
  }));

test("embed: wrong usage is exit 2 and says what", () =>
  inTempDir(async (dir) => {
    const data = audioFolder(dir);
    const model = join(dir, "encoder.safetensors");
    await Deno.writeFile(model, encoderFile());
    await Deno.writeTextFile(join(dir, "text.safetensors"), "this is a text and no model");
    const out = ["--out", join(dir, "e.npz")];
    const good = ["--checkpoint", model, ...out, data];
    const cases: [string[], string][] = [
      [["--checkpoint", model, ...out], "AUDIO: is needed"],
      [[...out, data], "--checkpoint: is needed"],
      [["--checkpoint", model, data], "--out: is needed"],
      [["--checkpoint", model, "--out", join(dir, "e.txt"), data], ".npz, .safetensors, .csv"],
      [["--checkpoint", join(dir, "x"), ...out, data], "cannot be read"],
      [["--checkpoint", join(dir, "text.safetensors"), ...out, data], "no usable encoder"],
      [[...good, "--heads", "3"], "3 attention heads"],
      [[...good, "--frames", "--pool", "max"], "--frames keeps every time step"],
      [[...good, "--compat"], "--compat"],
      [[...good, "--pool", "min"], "must be mean, max or mean-std"],
      [[...good, "--batch", "0"], "must be a whole number from 1"],
    ];
    await Deno.writeTextFile(join(dir, "taken"), "");
    cases.push([
      ["--checkpoint", model, "--out", join(dir, "taken", "e.csv"), data],
      "e.csv cannot be written",
    ]);
    for (const [argv, message] of cases) {
      const error = await assertRejects(() => embed(...argv), Error, message);
      assertEquals(exitCodeOf(error), 2, message);
    }
  }));

fullOnly(
  "embed: official files of other systems are taken, clips whole",
  () =>
    inTempDir(async (dir) => {
      const data = audioFolder(dir);
      const model = fromFileUrl(new URL("../../golden/compared/beats.pt", import.meta.url));
      const out = join(dir, "e.npz");
      const given = ["--checkpoint", model, data, "--out", out];
      using device = await openDevice();
      using encoder = await loadPretrained(device, model);
      const names = ["0.wav", "2.wav", "4.wav", 'b, "2"/1.wav', 'b, "2"/3.wav', 'b, "2"/5.wav'];
      for (
        const [words, options] of [
          [[], {}],
          [["--bands", "concat", "--frames"], { bands: "concat", pool: "none" }],
        ] as const
      ) {
        assertEquals((await embed(...given, ...words)).code, 0);
        const { shape, values } = readNpz(out).embeddings;
        const expected: number[] = [];
        for (const name of names) {
          const wave = await loadWaveform(join(data, name));
          expected.push(...(await encoder.embed(wave, options)).values);
        }
        assertEquals(shape, [
          expected.length / (words.length > 0 ? 256 : 32),
          words.length > 0 ? 256 : 32,
        ]);
        assertEquals(values, expected);
      }
      for (
        const [words, message] of [
          [["--mode", "fast"], "--mode: is not for BEATs"],
          [["--official", "yes"], "BEATs has no choice of official"],
          [["--vector", "all"], "BEATs has no choice of vector"],
          [["--blocks", "4"], "blocks [4] must be"],
        ] as const
      ) {
        const error = await assertRejects(() => embed(...given, ...words), Error, message);
        assertEquals(exitCodeOf(error), 2);
      }
    }),
);

test("embed: interrupted it leaves what was there", () =>
  inTempDir(async (dir) => {
    const data = audioFolder(dir);
    const model = join(dir, "encoder.safetensors");
    await Deno.writeFile(model, encoderFile());
    const out = join(dir, "e.npz");
    await Deno.writeTextFile(out, "before");
    using device = await openDevice();
    using encoder = new ClipEncoder(await loadEncoder(device, model));
    using pool = new WorkerPool(1);
    const files = await audioFiles([data]);
    for (const after of [0, 3]) {
      const controller = new AbortController();
      const { signal } = controller;
      const onProgress = ({ embedded }: EmbedState) => {
        if (embedded === after) controller.abort();
      };
      if (after === 0) controller.abort();
      const options = { encoder, pool, files, out, choices: { batch: 1 }, signal, onProgress };
      await assertRejects(
        () => embedFiles(options),
        InterruptedError,
        "of 7 files; nothing was written",
      );
    }
    assertEquals(Deno.readTextFileSync(out), "before");
    const left = [...Deno.readDirSync(dir)].map(({ name }) => name).sort();
    assertEquals(left, ["audio", "e.npz", "encoder.safetensors"]);
  }));

test("embed: the task reads, writes and asks the launcher, and that suffices", () =>
  inTempDir(async (dir) => {
    const data = audioFolder(dir);
    const model = join(dir, "encoder.safetensors");
    await Deno.writeFile(model, encoderFile());
    const words = runWords("embed");
    const [variables] = words.splice(words.findIndex((it) => it.startsWith("-E=")), 1);
    assertMatch(variables, /^-E=((OMPI_COMM_WORLD|PMI|SLURM)_\w+,?)+$/);
    assertEquals(words, "run --no-prompt -RW train/main.ts embed".split(" "));
    const out = join(dir, "e.npz");
    const argv = [...words, "--checkpoint", model, "--out", out, "--workers", "2", data];
    const printed = await deno(argv);
    assert(printed.out.endsWith(`6 files embedded (0.00 h of audio), 80 values each: ${out}`));
    assert(printed.err.startsWith("1 of 7 files skipped"), printed.err);
    assertEquals(readNpz(out).embeddings.shape, [6, 80]);
  }));

test("the README's encoder example runs as printed and embeds a file", () =>
  inTempDir(async (dir) => {
    const text = await Deno.readTextFile(README);
    const code = [...text.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, it]) => it)
      .find((it) => it.includes("loadEncoder"))!;
    const lines = code.trim().split("\n").filter((line) => line !== "");
    assert(lines.length < 15, `${lines.length} lines`);
    const data = audioFolder(dir);
    const model = join(dir, "encoder.safetensors");
    await Deno.writeFile(model, encoderFile());
    const args = ["run", "--no-prompt", "--no-check", "--quiet", `--allow-read=${dir}`, "-"];
    const { out } = await deno([...args, model, join(data, "2.wav")], code);
    // 70,000 samples are 436 frames.
    assertEquals(out, "[ 80 ] 28\n[ 28, 80 ] 4320 ms");
  }));

fullOnly(
  "the README's server embeds 20 posted files at once, each as alone",
  () =>
    inTempDir(async (dir) => {
      const text = await Deno.readTextFile(README);
      const code = [...text.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, it]) => it)
        .find((it) => it.includes("Deno.serve"))!;
      const model = join(dir, "encoder.safetensors");
      await Deno.writeFile(model, encoderFile());
      const file = join(audioFolder(dir), "2.wav");
      const client = `
      const wav = Deno.readFileSync(Deno.args[1]);
      const post = async (body: Uint8Array<ArrayBuffer>) => {
        const { port } = server.addr;
        const reply = await fetch(\`http://127.0.0.1:\${port}\`, { method: "POST", body });
        return \`\${reply.status} \${await reply.text()}\`;
      };
      const alone = await post(wav);
      const all = await Promise.all(Array.from({ length: 20 }, () => post(wav)));
      const { channels: [wave] } = await decodeAudio(wav);
      const { values } = await encoder.embed(wave, { sampleRate: 16_000 });
      console.log(JSON.stringify({
        same: all.every((it) => it === alone) && alone === \`200 \${JSON.stringify([...values])}\`,
        size: values.length,
        refused: await post(wav.subarray(0, 20)),
      }));
      await server.shutdown();\n`;
      const program = code.replace(
        "port: 8000",
        'port: 0, hostname: "127.0.0.1", onListen: () => {}',
      )
        .replace("await server.finished", `${client}await server.finished`);
      const args = [
        "run",
        "--no-prompt",
        "--no-check",
        "--quiet",
        `-R=${dir}`,
        "--allow-net=127.0.0.1",
      ];
      const { out, err } = await deno([...args, "-", model, file], program);
      const { refused, ...found } = JSON.parse(out);
      assertEquals(found, { same: true, size: 80 });
      assert(refused.startsWith("400 AudioError"), refused);
      const told = err.split("\n").map((line) => Number(/^(\d+) kernels$/.exec(line)?.[1]));
      assert(told.length > 2 && told.every((n, i) => n >= (told[i - 1] ?? 1)), err);
    }),
);

test("two files of embeddings of one name grow apart, and each is whole", () =>
  inTempDir(async (dir) => {
    const path = join(dir, "e.csv");
    await Deno.writeTextFile(join(dir, "thesis.tmp"), "mine");
    const row = (value: number) => ({ values: new Float32Array([value]) }) as Embedding;
    const [a, b] = [1, 2].map(() => new EmbeddingFile(path, { size: 1, frames: false }));
    try {
      for (let i = 0; i < 5; i++) {
        a.add(i, row(1));
        b.add(i, row(2));
      }
      const names = ["a", "b", "c", "d", "e"];
      await a.finish(names);
      const expected = (value: number) =>
        `file,e0\n${names.map((it) => `${it},${value}\n`).join("")}`;
      assertEquals(await Deno.readTextFile(path), expected(1));
      await b.finish(names);
      assertEquals(await Deno.readTextFile(path), expected(2));
    } finally {
      for (const it of [a, b]) it[Symbol.dispose]();
    }
    assertEquals([...Deno.readDirSync(dir)].map(({ name }) => name).sort(), [
      "e.csv",
      "thesis.tmp",
    ]);
  }));
