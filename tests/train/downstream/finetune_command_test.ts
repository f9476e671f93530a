/** `deno task probe --finetune` as users run it, and what it saves. */
import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { openDevice } from "../../../engine/mod.ts";
import { loadEncoder } from "../../../model/encoder/encoder.ts";
import { loadPretrained } from "../../../model/pretrained/load.ts";
import { loadWaveform } from "../../../train/audio/decode.ts";
import { initialise } from "../../../model/objectives/initialise.ts";
import { Matpac } from "../../../model/objectives/matpac.ts";
import { RECIPES } from "../../../model/objectives/recipe.ts";
import { writeTensors } from "../../../train/run/checkpoint.ts";
import { run as embed } from "../../../train/commands/embed.ts";
import { help, run } from "../../../train/commands/probe.ts";
import { Prng } from "../../../engine/prng.ts";
import { exitCodeOf } from "../../../train/errors.ts";
import { STREAMS } from "../../../train/run/loop.ts";
import { loadProbe } from "../../../train/downstream/probe/probe_file.ts";
import { encoderTensors } from "../../../train/run/state_dict.ts";
import { SMALL } from "../../support/small_geometry.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { full, fullOnly, test } from "../../support/tier.ts";

const command = (...words: string[]) => run(words, new AbortController().signal);

async function writeEncoder(path: string): Promise<void> {
  using device = await openDevice();
  using model = new Matpac(device, SMALL, RECIPES.paper);
  initialise(model, new Prng(5, STREAMS.parameters));
  await writeTensors(path, await encoderTensors(model), {
    geometry: JSON.stringify({ heads: SMALL.heads }),
  });
}

/**
 * Tones of three pitches that few differences tell apart, under noise, a little longer than a crop.
 */
async function writeFolder(dir: string, clips: number, partOf: (i: number) => string) {
  await Deno.mkdir(join(dir, "audio"), { recursive: true });
  const random = new Prng(8);
  const lines: string[] = [];
  for (let i = 0; i < clips; i++) {
    const pitch = [440, 540, 660][i % 3] * random.uniform(0.97, 1.03);
    const [gain, noise] = [random.uniform(0.02, 0.4), random.uniform(0.002, 0.02)];
    const samples = Float32Array.from(
      { length: 9000 + 400 * (i % 5) },
      (_, n) => gain * Math.sin(2 * Math.PI * pitch * n / 16000) + noise * random.normal(),
    );
    await Deno.writeFile(join(dir, "audio", `${i}.wav`), wav(samples));
    lines.push(`${i}.wav,${partOf(i)},${["low", "middle", "high"][i % 3]}`);
  }
  return lines;
}

/** What `body` prints. */
async function printed(body: () => Promise<unknown>): Promise<string> {
  const { log } = console;
  let out = "";
  console.log = (text: string) => out += `${text}\n`;
  try {
    await body();
  } finally {
    console.log = log;
  }
  return out;
}

const read = async (path: string) => JSON.parse(await Deno.readTextFile(path));

Deno.test("probe --finetune: learns what chance does not know, is saved, embeds and names; same seed, same bits", () =>
  inTempDir(async (dir) => {
    const [data, encoder] = ["data", "encoder.safetensors"].map((it) => join(dir, it));
    const parts = ["train", "train", "train", "test", "validation"];
    const lines = await writeFolder(data, 90, (i) => parts[Math.floor(i / 3) % 5]);
    await Deno.writeTextFile(join(data, "meta.csv"), `filename,split,label\n${lines.join("\n")}\n`);
    await writeEncoder(encoder);
    const tune = async (name: string, ...more: string[]) => {
      const file = (ending: string) => join(dir, `${name}${ending}`);
      const out = await printed(() =>
        command(
          ...["--finetune", "--checkpoint", encoder, "--dataset", data, "--workers", "0"],
          ...["--json", file(".json"), "--svg", file(".svg"), "--save", file(".safetensors")],
          ...["--warmup", "1", "--batch", "16", "--quiet", ...more],
        )
      );
      return { out, record: await read(file(".json")), file };
    };
    const words = [
      "--epochs",
      "12",
      "--mixup",
      "0.1",
      "--patch-out",
      "0.3",
      "--tested",
      "start",
      "--seed",
      "1",
      "--lr",
      "3e-3",
    ];
    const { out, record, file } = await tune("a", ...words);
    assert(/^fine-tuned encoder +24 +\d+\.\d+ /m.test(out), out);
    assertEquals([record.protocol, record.metric, record.clips, record.dim], [
      "finetune",
      "accuracy",
      90,
      24,
    ]);
    assertEquals([record.history.length, record.history[0].length], [1, 12]);
    assertEquals(record.settings.frames, 64);
    assert((await Deno.readTextFile(file(".svg"))).includes("fine-tuned, 12 epochs"));
    const { record: untrained } = await tune("b", "--epochs", "1", "--lr", "1e-9", "--seed", "1");
    // Chance is 0.33; of 18 clips 0.5 is 1.5 deviations above it.
    assert(untrained.mean <= 0.5, `before: ${untrained.mean}`);
    assert(record.mean >= 0.8, `after: ${record.mean}`);
    const saved = file(".safetensors");
    if (full) {
      const { record: again } = await tune("c", ...words);
      assertEquals(again, record);
      assertEquals(
        await Deno.readFile(join(dir, "c.safetensors")),
        await Deno.readFile(saved),
      );
    }

    using device = await openDevice();
    using tuned = await loadEncoder(device, saved);
    using before = await loadEncoder(device, encoder);
    assertEquals(tuned.geometry, before.geometry);
    const probe = loadProbe(file(".probe.safetensors"));
    assertEquals(probe.file.features, {
      mode: "precise",
      pool: "mean",
      bands: "mean",
      seconds: (63 * 160 + 400) / 16000,
    });
    // The saved head makes the same mistakes, with embeddings of the audio.
    const namesBy = (file: (ending: string) => string) =>
      printed(() =>
        embed([
          ...["--checkpoint", file(".safetensors"), "--probe", file(".probe.safetensors")],
          ...["--top", "1", "--workers", "0", "--quiet", join(data, "audio")],
        ], new AbortController().signal)
      );
    const names = await namesBy(file);
    const named = new Map(
      names.trim().split("\n").map((line) =>
        /(\d+\.wav): (\w+) \(/.exec(line)!.slice(1) as [string, string]
      ),
    );
    const tests = lines.map((line) => line.split(",")).filter(([, part]) => part === "test");
    const right = tests.filter(([name, , label]) => named.get(name) === label).length;
    assertEquals(tests.length, 18);
    assertAlmostEquals(right / 18, record.mean, 1e-9);

    // No clip is longer than the crop: whole it is what its start is, with silence behind it as in
    // training.
    const whole = await tune("d", ...words.map((it) => it === "start" ? "whole" : it));
    assertEquals({ ...whole.record, settings: record.settings }, record);
    assertEquals(await namesBy(whole.file), names);
  }));

fullOnly(
  "probe --finetune: folds of clips with several labels, whole clips, SGD, and all folds saved",
  () =>
    inTempDir(async (dir) => {
      const [data, encoder, json, save] = ["data", "encoder.safetensors", "o/r.json", "o/s"]
        .map((it) => join(dir, it));
      const lines = await writeFolder(data, 24, (i) => String(1 + i % 2));
      const both = lines.map((line, i) => i % 4 === 0 ? `${line};loud` : line);
      await Deno.writeTextFile(join(data, "meta.csv"), `filename,fold,label\n${both.join("\n")}\n`);
      await writeEncoder(encoder);
      await printed(() =>
        command(
          ...["--finetune", "--checkpoint", encoder, "--dataset", data, "--workers", "0"],
          ...[
            "--epochs",
            "2",
            "--warmup",
            "0",
            "--batch",
            "8",
            "--optimizer",
            "sgd",
            "--lr",
            "0.05",
          ],
          ...["--patch-out", "0", "--crop", "32", "--tested", "whole", "--freeze-patch-embed"],
          ...["--layer-decay", "0.7", "--json", json, "--save", save, "--repeats", "2", "--quiet"],
        )
      );
      const record = await read(json);
      assertEquals([record.metric, record.dim, record.settings.frames], ["mAP", 5 * 24, 32]);
      assertEquals([record.folds.length, record.repeats.length, record.history.length], [2, 2, 4]);
      assert(record.mean > 0 && record.mean <= 1 && record.confusion === null);
      const probe = loadProbe(`${save}.probe.safetensors`);
      const { seconds, leastSeconds } = probe.file.features;
      assertEquals([probe.file.multiLabel, seconds], [true, undefined]);
      assertEquals(leastSeconds, (31 * 160 + 400) / 16000);
      assertEquals(probe.dim, 5 * 24);
      using device = await openDevice();
      using tuned = await loadEncoder(device, save);
      const { shape } = await tuned.embed(new Float32Array(8000).fill(0.1));
      assertEquals(shape, [5 * 24]);
    }),
);

test("probe --finetune: wrong words, and an end before the end", () =>
  inTempDir(async (dir) => {
    for (const text of ["--finetune", "--patch-out", "--layer-decay", "finetune: 5e-4"]) {
      assert(help().includes(text), text);
    }
    const encoder = join(dir, "encoder.safetensors");
    const lines = await writeFolder(dir, 6, (i) => String(1 + i % 2));
    await Deno.writeTextFile(join(dir, "meta.csv"), `filename,fold,label\n${lines.join("\n")}\n`);
    await writeEncoder(encoder);
    const fails = async (message: string, ...words: string[]) => {
      const all = ["--checkpoint", encoder, "--dataset", dir, "--workers", "0", "--quiet"];
      const error = await assertRejects(() => command(...all, ...words), Error, message);
      assertEquals(exitCodeOf(error), 2, message);
    };
    await fails("belongs to --finetune", "--mixup", "0.2");
    await fails("belongs to --finetune", "--freeze-patch-embed");
    await fails("means nothing with --finetune", "--finetune", "--protocol", "evar");
    await fails("means nothing with --finetune", "--finetune", "--untrained");
    await fails("single learning rate", "--finetune", "--lr", "1e-3,1e-4");
    await fails("must be a number from 0 to 0.9", "--finetune", "--patch-out", "0.95");
    await fails("must be adamw or sgd", "--finetune", "--optimizer", "adam");
    await fails("two clips or more", "--finetune", "--batch", "1");
    await fails("the encoder takes 64 frames", "--finetune", "--crop", "65");
    // Timers, and so signals, have their turn while it trains.
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 500);
    const words = ["--checkpoint", encoder, "--dataset", dir, "--workers", "0", "--quiet"];
    const error = await assertRejects(
      () => run([...words, "--finetune", "--epochs", "1000000"], stop.signal),
      Error,
      "interrupted",
    );
    assertEquals(exitCodeOf(error), 130);
  }));

fullOnly(
  "probe --finetune: an encoder of another system learns, with layer decay, and is saved",
  () =>
    inTempDir(async (dir) => {
      const data = join(dir, "data");
      const parts = ["train", "train", "train", "test", "validation"];
      const lines = await writeFolder(data, 30, (i) => parts[Math.floor(i / 3) % 5]);
      await Deno.writeTextFile(
        join(data, "meta.csv"),
        `filename,split,label\n${lines.join("\n")}\n`,
      );
      const encoder = fromFileUrl(new URL("../../golden/compared/beats.pt", import.meta.url));
      const [json, saved] = [join(dir, "t.json"), join(dir, "t.safetensors")];
      await printed(() =>
        command(
          ...["--finetune", "--checkpoint", encoder, "--dataset", data, "--workers", "0"],
          ...["--json", json, "--save", saved, "--quiet", "--batch", "6", "--warmup", "1"],
          ...["--epochs", "8", "--lr", "1e-2", "--layer-decay", "0.8", "--mixup", "0"],
        )
      );
      const record = await read(json);
      assertEquals([record.protocol, record.clips, record.dim], ["finetune", 30, 32]);
      const [history] = record.history;
      assert(history.at(-1).loss < 0.85 * history[0].loss, JSON.stringify(history));
      assertEquals(record.settings.samples, 9000 + 4 * 400);

      // What was saved is a whole encoder of the same system, and not what it began with.
      using device = await openDevice();
      using before = await loadPretrained(device, encoder);
      using after = await loadPretrained(device, saved);
      assertEquals(
        { ...after.info, unused: [] },
        { ...before.info, unused: [] },
      );
      const sound = wav(Float32Array.from({ length: 9000 }, (_, n) => Math.sin(0.2 * n)));
      await Deno.writeFile(join(dir, "a.wav"), sound);
      const wave = await loadWaveform(join(dir, "a.wav"));
      const [old, trained] = [await before.embed(wave), await after.embed(wave)];
      assert(old.values.some((x, i) => Math.abs(x - trained.values[i]) > 1e-3));
      const named = await printed(() =>
        embed([
          ...["--checkpoint", saved, "--probe", join(dir, "t.probe.safetensors"), "--top", "1"],
          ...["--workers", "0", "--quiet", join(data, "audio", "0.wav")],
        ], new AbortController().signal)
      );
      assert(/0\.wav: (low|middle|high) \(0\.\d+\)/.test(named), named);
      const error = await assertRejects(
        () =>
          command(
            ...["--finetune", "--checkpoint", encoder, "--dataset", data],
            ...["--patch-out", "0.3", "--quiet"],
          ),
        Error,
        "--patch-out: is for encoders of MATPAC",
      );
      assertEquals(exitCodeOf(error), 2);
    }),
);
