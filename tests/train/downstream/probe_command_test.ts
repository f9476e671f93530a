/** `deno task probe` as users run it, its cache of features, and probes that are saved. */
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertNotMatch,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { run as embed } from "../../../train/commands/embed.ts";
import { help, run } from "../../../train/commands/probe.ts";
import { Prng } from "../../../engine/prng.ts";
import { exitCodeOf } from "../../../train/errors.ts";
import { FeatureRows, fileDigest } from "../../../train/downstream/probe/feature_cache.ts";
import { confusionSvg } from "../../../train/downstream/probe/confusion_matrix.ts";
import { loadProbe, saveProbe } from "../../../train/downstream/probe/probe_file.ts";
import { Probe, type ProbeFile } from "../../../train/downstream/probe/probe_layer.ts";
import { type SafetensorsTensor, writeSafetensors } from "../../../engine/formats/safetensors.ts";
import { test } from "../../support/tier.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { writeEncoder } from "../../support/small_encoder.ts";

const command = (...words: string[]) => run(words, new AbortController().signal);

/** Tones of two pitches and noise in three folds, and one file that is no audio. */
async function writeFolder(dir: string): Promise<void> {
  await Deno.mkdir(join(dir, "audio"), { recursive: true });
  const random = new Prng(8);
  const lines = ["filename,fold,category"];
  for (let i = 0; i < 18; i++) {
    const name = ["low & deep", "high", "noise"][i % 3];
    const gain = random.uniform(0.3, 0.9);
    const samples = Float32Array.from(
      { length: 6000 + 300 * (i % 4) },
      (_, n) =>
        gain *
        (i % 3 === 2
          ? random.uniform(-1, 1)
          : Math.sin(2 * Math.PI * (i % 3 === 0 ? 200 : 3000) * n / 16000)),
    );
    await Deno.writeFile(join(dir, "audio", `${i}.wav`), wav(samples));
    lines.push(`${i}.wav,${1 + Math.floor(i / 3) % 3},${name}`);
  }
  await Deno.writeTextFile(join(dir, "audio", "bad.wav"), "no sound");
  lines.push("bad.wav,1,high");
  await Deno.writeTextFile(join(dir, "meta.csv"), `${lines.join("\n")}\n`);
}

/** What `body` prints. */
async function printed(body: () => Promise<unknown>): Promise<{ out: string; err: string }> {
  const [log, error, write] = [console.log, console.error, Deno.stdout.writeSync];
  const lines = { out: "", err: "" };
  console.log = (text: string) => lines.out += `${text}\n`;
  console.error = (text: string) => lines.err += `${text}\n`;
  Deno.stdout.writeSync = ({ length }) => length;
  try {
    await body();
  } finally {
    [console.log, console.error, Deno.stdout.writeSync] = [log, error, write];
  }
  return lines;
}

test("probe command: scores, baselines, files, cache; the untrained network is training's", () =>
  inTempDir(async (dir) => {
    const [data, encoder, cache] = ["data", "encoder.safetensors", "cache"].map((it) =>
      join(dir, it)
    );
    await writeFolder(data);
    await writeEncoder(encoder, 7);
    const [json, svg, saved] = ["out/p.json", "out/p.svg", "out/p.safetensors"].map((it) =>
      join(dir, it)
    );
    const words = [
      ...["--checkpoint", encoder, "--dataset", data, "--cache", cache, "--workers", "0"],
      ...["--repeats", "2", "--epochs", "40", "--lr", "1e-2", "--standardise", "yes"],
    ];
    const { out, err } = await printed(async () => {
      const files = ["--json", json, "--svg", svg, "--save", saved];
      assertEquals(await command(...words, ...files, "--untrained", "--quiet"), 0);
    });
    assert(err.includes("1 of 19 clips skipped") && err.includes("bad.wav"), err);
    assert(/^encoder {2,}320 {2,}\d/m.test(out) && /^mean log-mel, tuned {2,}80/m.test(out), out);
    const record = JSON.parse(await Deno.readTextFile(json));
    assertEquals([record.dataset, record.protocol, record.metric], [data, "matpac", "accuracy"]);
    assertEquals([record.repeats.length, record.folds.length, record.clips], [2, 3, 18]);
    assertEquals(Object.keys(record.per_class), ["high", "low & deep", "noise"]);
    assertEquals(record.skipped.map(({ path }: { path: string }) => path), [
      join(data, "audio", "bad.wav"),
    ]);
    assert(record.mean > 0.8, `an encoder tells tones from noise: ${record.mean}`);
    assert(record.baseline_mel.mean > 0.8 && record.baseline_mel_tuned.mean > 0.8);
    assertEquals([record.baseline_mel.dim, record.baseline_mel_sd.dim], [80, 160]);
    assert(record.baseline_mel_sd.mean > 0.8 && record.baseline_mel_sd_tuned.mean > 0.8);
    // The checkpoint is as training with its seed begins.
    assertEquals(record.untrained, {
      ...record.untrained,
      mean: record.mean,
      repeats: record.repeats,
      folds: record.folds,
    });
    const picture = await Deno.readTextFile(svg);
    assertEquals(picture.match(/<rect /g)!.length, 1 + 9);
    assert(picture.includes(">low &#38; deep</text>"));

    const probe = loadProbe(saved);
    assertEquals(probe.file.checkpoint, await fileDigest(encoder));
    assertEquals([probe.dim, probe.file.features.pool], [320, "mean"]);
    const named = (...more: string[]) =>
      embed(
        ["--checkpoint", encoder, "--probe", saved, "--workers", "0", "--quiet", ...more],
        new AbortController().signal,
      );
    const audio = join(data, "audio");
    const { out: names, err: bad } = await printed(() => named("--top", "2", audio));
    const lines = names.trim().split("\n");
    assertEquals(lines.length, 18);
    assert(/^\S+0\.wav: low & deep \(0\.\d+\), \S.* \(0\.\d+\)$/.test(lines[0]), lines[0]);
    assert(bad.includes("1 of 19 files skipped"), bad);
    const foreign = join(dir, "foreign.safetensors");
    await writeEncoder(foreign, 8);
    for (
      const [code, words] of [
        [2, ["--checkpoint", foreign, "--probe", saved, audio]],
        [2, ["--checkpoint", encoder, "--probe", saved, "--pool", "max", audio]],
        [2, ["--checkpoint", encoder, "--out", "x.npz", "--top", "3", audio]],
        [4, ["--checkpoint", encoder, "--probe", encoder, audio]],
        [4, ["--checkpoint", encoder, "--probe", saved, join(audio, "bad.wav")]],
      ] as const
    ) {
      const error = await assertRejects(() =>
        printed(() => embed([...words], AbortSignal.any([])))
      );
      assertEquals(exitCodeOf(error), code, `${words}`);
    }
    const again = await printed(() => command(...words, "--no-baseline"));
    assert(again.out.includes("encoder: 18 clips, 0 of them embedded now"), again.out);
    assert(again.out.includes("low & deep"), "a line for each class");
    const other = await printed(() =>
      command(...words, "--no-baseline", "--pool", "max", "--seconds", "0.3")
    );
    assert(other.out.includes("18 of them embedded now"), other.out);
  }));

test("probe and embed pool as the encoder's file says, unless they are told", () =>
  inTempDir(async (dir) => {
    const [data, encoder] = ["data", "encoder.safetensors"].map((it) => join(dir, it));
    await writeFolder(data);
    await writeEncoder(encoder, 7, { pool: "mean-std" });
    const of = ["--checkpoint", encoder, "--workers", "0"];
    const words = [
      ...[...of, "--dataset", data, "--cache", join(dir, "cache"), "--no-baseline"],
      ...["--repeats", "1", "--epochs", "1"],
    ];
    const values = async (...more: string[]) => {
      const { out } = await printed(() => command(...words, ...more));
      const [, dim] = /^encoder {2,}(\d+)/m.exec(out)!;
      return [Number(dim), out.includes("pooled by mean-std, as the encoder's file says")];
    };
    assertEquals(await values(), [640, true]);
    assertEquals(await values("--pool", "mean"), [320, false]);
    assertEquals(await values("--blocks", "2,1"), [1280, true]);
    // The paper's protocol, asked for by name, is as it was.
    assertEquals(await values("--protocol", "matpac"), [320, false]);
    const [saved, out] = ["p.safetensors", "e.npz"].map((it) => join(dir, it));
    await printed(() => command(...words, "--blocks", "2,1", "--save", saved));
    assertEquals(loadProbe(saved).file.features, {
      ...{ mode: "precise", pool: "mean-std", bands: "concat", blocks: [2, 1] },
    });
    const audio = join(data, "audio", "0.wav");
    const ask = (...more: string[]) =>
      printed(() => embed([...of, ...more, audio], new AbortController().signal));
    const { out: named } = await ask("--probe", saved);
    assert(/0\.wav: /.test(named), named);
    assert((await ask("--out", out)).out.includes("640 values each"));
    assert((await ask("--out", out, "--pool", "max")).out.includes("320 values each"));
    for (
      const more of [["--blocks", "3"], ["--blocks", "1", "--layers"], ["--blocks", "1,1"]]
    ) {
      const error = await assertRejects(() => ask("--out", out, ...more));
      assertEquals(exitCodeOf(error), 2, `${more}: ${error}`);
    }
  }));

test("probe command: wrong words and data that cannot be used", () =>
  inTempDir(async (dir) => {
    const text = help().replace(/\s+/g, " ");
    assert(text.includes("--untrained") && text.includes("1e-4; evar: 3e-5"));
    const missing = join(dir, "nothing");
    const fails = async (code: number, message: string, ...words: string[]) => {
      const error = await assertRejects(() => command(...words), Error, message);
      assertEquals(exitCodeOf(error), code, message);
    };
    await writeFolder(dir);
    await fails(2, "--checkpoint: is needed", "--dataset", dir);
    await fails(2, "must be a whole number", "--checkpoint", "x", "--dataset", dir, "--batch", "0");
    await fails(2, "--lr", "--checkpoint", "x", "--dataset", dir, "--lr", "1e-3,-1");
    await fails(
      2,
      "must be matpac, evar or hear",
      "--checkpoint",
      "x",
      "--dataset",
      dir,
      "--protocol",
      "y",
    );
    await fails(4, "no labelled folder", "--checkpoint", "x", "--dataset", missing);
    await fails(2, "cannot be read", "--checkpoint", missing, "--dataset", dir);
    const words = join(dir, "text.safetensors");
    await Deno.writeTextFile(words, "no encoder in here, only words");
    await fails(2, "no usable encoder", "--checkpoint", words, "--dataset", dir);
  }));

test("probe: kept features survive a torn end and know what they are of", () =>
  inTempDir((dir) => {
    const identity = { kind: "test" };
    const digest = (i: number) => String(i).repeat(64);
    const fill = (rows: FeatureRows, i: number) => rows.add(digest(i), Float32Array.of(i, 0.5, -i));
    {
      using rows = new FeatureRows(dir, identity, 3);
      [1, 2, 3].forEach((i) => fill(rows, i));
    }
    const [{ name }] = [...Deno.readDirSync(dir)];
    const path = join(dir, name);
    const whole = Deno.readFileSync(path);
    assertEquals(whole.length, 3 * (32 + 12 + 4));
    Deno.writeFileSync(path, whole.subarray(0, whole.length - 5));
    {
      using rows = new FeatureRows(dir, identity, 3);
      assertEquals(rows.get(digest(2)), Float32Array.of(2, 0.5, -2));
      assertEquals(rows.get(digest(3)), undefined);
      fill(rows, 3);
    }
    assertEquals(Deno.readFileSync(path), whole);
    const damaged = whole.slice();
    damaged[48 + 33] ^= 1;
    Deno.writeFileSync(path, damaged);
    {
      using rows = new FeatureRows(dir, identity, 3);
      assertEquals([1, 2, 3].map((i) => rows.get(digest(i)) !== undefined), [true, false, false]);
      using other = new FeatureRows(dir, { kind: "other" }, 3);
      assertEquals(other.get(digest(1)), undefined);
    }
    // A folder that cannot be made is no cache.
    using none = new FeatureRows(join(path, "below a file"), identity, 3);
    fill(none, 1);
    assertEquals(none.get(digest(1))![0], 1);
  }));

test("probe: a saved probe comes back and gives probabilities", () =>
  inTempDir(async (dir) => {
    const file: ProbeFile = {
      classes: ["a", "b", "c"],
      multiLabel: false,
      features: { mode: "precise", pool: "mean", bands: "concat", seconds: 2 },
      checkpoint: "01".repeat(32),
      about: { dataset: "d", mean: 0.5 },
      weight: Float32Array.of(1, 0, 0, 1, -1, 0.5),
      bias: Float32Array.of(0, 0.5, -0.5),
      statistics: { mean: Float32Array.of(1, 2), std: Float32Array.of(2, 0.5) },
    };
    const path = join(dir, "probe.safetensors");
    await saveProbe(path, file);
    const probe = loadProbe(path);
    assertEquals(probe.file, file);
    // (3 - 1) / 2 = 1 and (2.5 - 2) / 0.5 = 1.
    const logits = [1, 1.5, -1];
    assertEquals([...probe.logits([3, 2.5])], logits);
    const total = logits.reduce((sum, x) => sum + Math.exp(x), 0);
    const [best, second, ...rest] = probe.predict([3, 2.5], 2);
    assertEquals([best.label, second.label, rest], ["b", "a", []]);
    assertAlmostEquals(best.probability, Math.exp(1.5) / total, 1e-15);
    assertAlmostEquals(second.probability, Math.exp(1) / total, 1e-15);
    const [several] = new Probe({ ...file, multiLabel: true }).predict([3, 2.5], 1);
    assertAlmostEquals(several.probability, 1 / (1 + Math.exp(-1.5)), 1e-15);
    const bytes = await Deno.readFile(path);
    for (const broken of [bytes.subarray(0, 40), new Uint8Array(0), bytes.slice(0, -4)]) {
      await Deno.writeFile(path, broken);
      const error = assertThrows(() => loadProbe(path), Error, "no probe");
      assertEquals(exitCodeOf(error), 4);
    }
    const error = assertThrows(() => loadProbe(join(dir, "none")), Error, "cannot be read");
    assertEquals(exitCodeOf(error), 2);
  }));

test("probe command: an encoder of another system, at its rate, and what its probe says of files", () =>
  inTempDir(async (dir) => {
    const data = join(dir, "data");
    await writeFolder(data);
    const encoder = fromFileUrl(
      new URL("../../golden/compared/passt_encoder.safetensors", import.meta.url),
    );
    const [json, saved] = [join(dir, "p.json"), join(dir, "p.safetensors")];
    const words = ["--checkpoint", encoder, "--dataset", data, "--workers", "0"];
    const short = ["--cache", "none", "--no-baseline", "--quiet"];
    await printed(async () => {
      const training = ["--repeats", "1", "--epochs", "40", "--lr", "1e-2", "--standardise", "yes"];
      const files = ["--json", json, "--save", saved, "--vector", "all", "--knn"];
      assertEquals(await command(...words, ...short, ...training, ...files), 0);
    });
    const record = JSON.parse(await Deno.readTextFile(json));
    assertEquals([record.dim, record.settings.vector, record.clips], [32 + 11, "all", 18]);
    assert(record.mean > 0.6, `a random encoder tells tones from noise: ${record.mean}`);
    assert(record.knn.mean > 0.6, `${record.knn.mean}`);
    const { out } = await printed(async () => {
      const argv = ["--checkpoint", encoder, "--probe", saved, "--top", "1", "--quiet"];
      const files = ["--workers", "0", join(data, "audio")];
      assertEquals(await embed([...argv, ...files], new AbortController().signal), 0);
    });
    assert(/: (high|low & deep|noise) \(0\.\d{3}\)$/m.test(out), out);
    for (
      const [more, message] of [
        [["--untrained"], "--untrained: is for encoders of MATPAC"],
        [["--mode", "fast"], "--mode: is not for PaSST"],
      ] as const
    ) {
      const error = await assertRejects(() => command(...words, ...short, ...more), Error, message);
      assertEquals(exitCodeOf(error), 2);
    }
  }));

test("probe: a saved probe that is not as it should be is refused, with what is wrong", () =>
  inTempDir(async (dir) => {
    const path = join(dir, "probe.safetensors");
    const f32 = (shape: number[], ...values: number[]) =>
      ({ dtype: "F32", shape, data: Float32Array.from(values) }) as SafetensorsTensor;
    const features = { mode: "precise", pool: "mean", bands: "concat" };
    const text = {
      format: "tessera-probe",
      classes: '["a","b"]',
      multi_label: "false",
      features: JSON.stringify(features),
      checkpoint: "0a".repeat(32),
      about: '{"dataset":"d","mean":null}',
    };
    const tensors = { weight: f32([2, 1], 1, 2), bias: f32([2], 0, 1) };
    const write = (
      changedText: Record<string, string | undefined>,
      changedTensors: Record<string, SafetensorsTensor | undefined> = {},
    ) => {
      const metadata = Object.entries({ ...text, ...changedText }).filter(([, it]) => it);
      const entries = Object.entries({ ...tensors, ...changedTensors }).filter(([, it]) => it);
      Deno.writeFileSync(
        path,
        writeSafetensors(
          entries as [string, SafetensorsTensor][],
          Object.fromEntries(metadata as [string, string][]),
        ),
      );
    };
    write({});
    assertEquals(loadProbe(path).file.classes, ["a", "b"]);
    write({}, { mean: f32([1], 0), std: f32([1], 2) });
    assertEquals(loadProbe(path).logits([4]), Float64Array.of(2, 5));
    const how = (changes: object) => ({ features: JSON.stringify({ ...features, ...changes }) });
    const texts: [Record<string, string | undefined>, string][] = [
      [{ features: "null" }, "features"],
      [{ features: undefined }, "features"],
      [{ features: "[" }, "features"],
      [{ features: "[".repeat(100_000) + "]".repeat(100_000) }, "features"],
      [how({ mode: "x" }), "features.mode"],
      [how({ mode: "x".repeat(1 << 20) }), "features.mode"],
      [how({ mode: "\x1b[31m\n" }), "features.mode"],
      [how({ pool: "none" }), "features.pool"],
      [how({ pool: undefined }), "features.pool"],
      [how({ split: -1 }), "features.split"],
      [how({ official: "maybe" }), "features.official"],
      [how({ seconds: -1 }), "features.seconds"],
      [how({ seconds: 1e300 }), "features.seconds"],
      [how({ leastSeconds: "2" }), "features.leastSeconds"],
      [how({ window: 3 }), "features.window"],
      [{ classes: "[]" }, "classes"],
      [{ classes: '["a",3]' }, "classes.1"],
      [{ classes: '["a","a"]' }, "occurs twice"],
      [{ classes: '["a",""]' }, "classes.1"],
      [{ classes: '["a","b","c"]' }, "not F32 of [3,1]"],
      [{ multi_label: "maybe" }, "multi_label"],
      [{ multi_label: undefined }, "multi_label"],
      [{ checkpoint: "0123" }, "checkpoint"],
      [{ about: '{"a":{"b":1}}' }, "about.a"],
      [{ about: undefined }, "about"],
      [{ format: "other" }, "do not say tessera-probe"],
    ];
    const values: [Record<string, SafetensorsTensor | undefined>, string][] = [
      [{ weight: undefined }, "no weights"],
      [{ bias: undefined }, "bias is missing"],
      [{ weight: f32([1, 2], 1, 2) }, "weight is F32 of shape [1, 2]"],
      [{ weight: f32([2], 1, 2) }, "weight is F32 of shape [2]"],
      [{ weight: f32([2, 0]) }, "no weights"],
      [{ weight: f32([2, 1], 1, NaN) }, "weight is not finite"],
      [{ bias: f32([2], -Infinity, 0) }, "bias is not finite"],
      [{ bias: { dtype: "I32", shape: [2], data: new Int32Array(2) } }, "bias is I32"],
      [{ mean: f32([1], 0) }, "std is missing"],
      [{ std: f32([1], 1) }, "mean is missing"],
      [{ mean: f32([1], 0), std: f32([1], 0) }, "std is not above 0"],
      [{ mean: f32([2], 0, 0), std: f32([2], 1, 1) }, "mean is F32 of shape [2]"],
    ];
    const refused = (part: string) => {
      const error = assertThrows(() => loadProbe(path), Error, part);
      assertEquals(exitCodeOf(error), 4);
      assert(error.message.length < 600 + path.length, error.message.slice(0, 600));
      assertNotMatch(error.message, /\p{Cc}/u);
    };
    for (const [changes, part] of texts) {
      write(changes);
      refused(part);
    }
    for (const [changes, part] of values) {
      write({}, changes);
      refused(part);
    }
    await Deno.writeTextFile(path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
    refused("a Git LFS pointer");
  }));

test("probe: the picture holds every cell and its share, with many classes too", () => {
  const few = confusionSvg(["<a>", "b"], [[3, 1], [0, 0]], "a title\nand more");
  assertEquals([...few.matchAll(/<title>(.*?)<\/title>/g)].map(([, it]) => it), [
    "&#60;a&#62; taken for &#60;a&#62;: 3 of 4",
    "&#60;a&#62; taken for b: 1 of 4",
    "b taken for &#60;a&#62;: 0 of 0",
    "b taken for b: 0 of 0",
  ]);
  assert(few.includes(">75</text>") && few.includes(">25</text>") && !few.includes("NaN"));
  const names = Array.from({ length: 50 }, (_, i) => `class ${i}`);
  const many = confusionSvg(names, names.map((_, i) => names.map((_, j) => +(i === j))), "t");
  assertEquals(many.match(/<rect /g)!.length, 2501);
  // Helvetica's W is 0.94 of the size wide, bold as well, m 0.83 (bold 0.89), o 0.56 (0.61).
  const title = "/MMM/sound/moon/mmmmmm: accuracy 98.7 %";
  const [, width] = /viewBox='0 0 (\d+)/.exec(confusionSvg(["a"], [[1]], title))!.map(Number);
  assert(width >= 24 + 17 * (9 * 0.89 + 8 * 0.61 + 21 * 0.5), String(width));
});
