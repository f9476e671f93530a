/**
 * The evaluation during training: labelled folders, embeddings of the official package, scores,
 * whole runs.
 */
import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { openDevice } from "../../../engine/mod.ts";
import { LogMel } from "../../../model/frontend/log_mel.ts";
import { initialise } from "../../../model/objectives/initialise.ts";
import { Matpac } from "../../../model/objectives/matpac.ts";
import { PRESETS } from "../../../model/objectives/presets.ts";
import { RECIPES } from "../../../model/objectives/recipe.ts";
import { run as pretrainCommand } from "../../../train/commands/pretrain.ts";
import { Prng } from "../../../engine/prng.ts";
import { labelledFolder } from "../../../train/data/labelled_folder.ts";
import { Evaluator } from "../../../train/run/evaluate.ts";
import { exitCodeOf } from "../../../train/errors.ts";
import { loadWeights } from "../../../train/run/state_dict.ts";
import { golden, WEIGHTS } from "../../support/golden_encoder.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { full, test } from "../../support/tier.ts";

/** Classes that any encoder can tell apart: a low tone, a high tone, noise, clicks. */
const CLASSES: Readonly<Record<string, (t: number, random: Prng) => number>> = {
  low: (t) => 0.5 * Math.sin(2 * Math.PI * 200 * t),
  high: (t) => 0.5 * Math.sin(2 * Math.PI * 3000 * t),
  noise: (_, random) => random.uniform() - 0.5,
  clicks: (t) => Math.floor(t * 16000) % 1600 === 0 ? 0.9 : 0,
};

/**
 * A folder of `perClass` clips of each class in two folds, of slightly different loudness and
 * length.
 *
 * @param labels of a class, as meta.csv has them
 */
async function writeFolder(
  dir: string,
  perClass: number,
  labels: (name: string) => string = (name) => name,
): Promise<void> {
  await Deno.mkdir(join(dir, "audio"), { recursive: true });
  const random = new Prng(3);
  const lines = ["filename,fold,category"];
  for (const [name, wave] of Object.entries(CLASSES)) {
    for (let i = 0; i < perClass; i++) {
      const gain = 0.5 + 0.5 * random.uniform();
      const samples = Float32Array.from(
        { length: 8000 + 400 * (i % 2) },
        (_, n) => gain * wave(n / 16000, random),
      );
      await Deno.writeFile(join(dir, "audio", `${name}-${i}.wav`), wav(samples));
      lines.push(`${name}-${i}.wav,${1 + i % 2},"${labels(name)}"`);
    }
  }
  await Deno.writeTextFile(join(dir, "meta.csv"), lines.join("\n") + "\n");
}

test("evaluation: meta.csv of a labelled folder", () =>
  inTempDir(async (dir) => {
    const read = (text: string) => {
      Deno.writeTextFileSync(join(dir, "meta.csv"), text);
      return labelledFolder(dir);
    };
    const folds = read(
      '\ufefffilename,fold,target,category\n"a,1.wav",1,7,dog; cat\nb.wav,2,8,cat\n',
    );
    assertEquals(folds.protocol, "leave-one-part-out");
    assertEquals(folds.clips, [
      { path: join(dir, "audio", "a,1.wav"), labels: ["dog", "cat"], part: "1" },
      { path: join(dir, "audio", "b.wav"), labels: ["cat"], part: "2" },
    ]);
    const split = read("filename,label,split\na.wav,x,train\nb.wav,y,test\n");
    assertEquals([split.protocol, split.clips[1].part], ["split", "test"]);
    assertEquals(read("filename,target\na,1\nb,2\n").clips.map(({ part }) => part), ["0", "1"]);
    const several = read("filename,label,fold\na.wav,x;y,1\nb.wav,,2\n");
    assertEquals(several.clips[1].labels, []);
    for (
      const [text, message] of [
        ["filename,fold\na.wav,1\n", "label or category"],
        ["label,fold\na,1\n", "filename"],
        ["filename,label,fold\n", "line per clip"],
        ["filename,label,fold\na,x,1\nb,,1\n", "clip 2 lacks"],
        ["filename,label,fold\na,x,1\nb,y,1\n", "needs two folds"],
        ["filename,label,split\na,x,train\n", "nothing to try"],
        ['filename,label\n"a,x\n', "cannot be read"],
      ]
    ) {
      const error = assertThrows(() => read(text), Error, message);
      assertEquals(exitCodeOf(error), 4);
    }
    await Deno.remove(join(dir, "meta.csv"));
    assertThrows(() => labelledFolder(dir), Error, "is no labelled folder");
  }));

test("evaluation: embeddings are those of the official package in precise mode", () =>
  inTempDir(async (dir) => {
    const geometry = {
      ...PRESETS.tiny.geometry,
      width: 16,
      depth: 3,
      heads: 2,
      predictorWidth: 12,
      predictorDepth: 1,
      predictorHeads: 2,
      headHidden: 12,
      prototypes: 10,
      cropFrames: 64,
    };
    using device = await openDevice();
    using frontend = new LogMel(device);
    for (const positions of ["fixed", "learned"] as const) {
      using model = new Matpac(device, geometry, { ...RECIPES.released, positions });
      // The fixed table is computed.
      assertEquals(loadWeights(model, WEIGHTS), WEIGHTS.size - (positions === "fixed" ? 1 : 0));
      const names = ["w1", "w2"];
      const clips = names.map((name, i) => ({ path: name, labels: ["x"], part: String(i) }));
      const evaluator = new Evaluator({
        device,
        model,
        frontend,
        folder: { dir, clips, protocol: "leave-one-part-out" },
        load: (path) => Promise.resolve(golden(`wave.${path}`)),
      });
      const embedded = await evaluator.embed();
      assertEquals(embedded.length, 2);
      for (const { clip, embedding } of embedded) {
        const layers = golden(`emb.${clip.path}.precise.pooled.layers`);
        const expected = layers.slice(-embedding.length);
        // The reference has 1e-5 from audio in float32 (tests/README.md, Golden files); four times
        // that for other orders of sums.
        embedding.forEach((x, i) => assertAlmostEquals(x, expected[i], 4e-5, clip.path));
      }
    }
  }));

/** A small untrained model and what evaluators of it need. */
async function untrained() {
  const device = await openDevice();
  const frontend = new LogMel(device);
  const model = new Matpac(device, { ...PRESETS.tiny.geometry, cropFrames: 32 }, RECIPES.paper);
  initialise(model, new Prng(1));
  const parts = [model, frontend, device];
  return {
    ...{ device, frontend, model },
    [Symbol.dispose]: () => parts.forEach((part) => part[Symbol.dispose]()),
  };
}

test("evaluation: a model that was never trained tells separable classes apart", () =>
  inTempDir(async (dir) => {
    await writeFolder(dir, 6);
    await Deno.writeTextFile(join(dir, "audio", "low-0.wav"), "damaged");
    using parts = await untrained();
    const { device } = parts;
    const skipped: string[] = [];
    const evaluator = new Evaluator({
      ...parts,
      folder: labelledFolder(dir),
      onSkip: (path) => skipped.push(path),
    });
    assertEquals(await evaluator.score(), { eval_accuracy: 1 });
    const { liveBytes } = device.memory;
    assertEquals(await evaluator.score(), { eval_accuracy: 1 });
    assertEquals(device.memory.liveBytes, liveBytes);
    assertEquals(skipped, [join(dir, "audio", "low-0.wav")], "reported once");
    await Deno.remove(join(dir, "audio"), { recursive: true });
    assertEquals(await evaluator.score(), { eval_accuracy: 1 }, "decoded audio is kept");
    const gone = new Evaluator({ ...parts, folder: labelledFolder(dir) });
    await assertRejects(() => gone.score(), Error, "none of 24 clips can be used");
  }));

test("evaluation: where clips have several labels it is mAP, of clips without any too", () =>
  inTempDir(async (dir) => {
    const labels: Record<string, string> = { low: "low; tone", high: "high; tone", clicks: "dry" };
    await writeFolder(dir, 6, (name) => labels[name] ?? "");
    using parts = await untrained();
    const score = await new Evaluator({ ...parts, folder: labelledFolder(dir) }).score();
    assertEquals(Object.keys(score), ["eval_map"]);
    assert(score.eval_map! > 0.95, `${score.eval_map}`);
    // Without clips of the other fold nothing is left to learn from.
    for (const { name } of Deno.readDirSync(join(dir, "audio"))) {
      if (/[024]\.wav/.test(name)) Deno.writeTextFileSync(join(dir, "audio", name), "damaged");
    }
    const half = new Evaluator({ ...parts, folder: labelledFolder(dir) });
    const error = await assertRejects(() => half.score(), Error, "12 of 24 clips cannot be used");
    assertEquals(exitCodeOf(error), 4);
  }));

Deno.test("evaluation: a run logs it and computes the same with and without it", () =>
  inTempDir(async (dir) => {
    const data = join(dir, "labelled");
    await writeFolder(data, 4);
    const words = "--batch 2 --crop-frames 48 --steps 5 --log-every 2 --quiet --save-every 5";
    const rows = async (name: string, ...more: string[]) => {
      const out = join(dir, name);
      const argv = [...words.split(" "), "--out", out, ...more];
      assertEquals(await pretrainCommand(argv, new AbortController().signal), 0);
      const text = await Deno.readTextFile(join(out, "metrics.jsonl"));
      return text.trim().split("\n").map((line) => JSON.parse(line));
    };
    const evaluated = await rows("evaluated", "--eval", data, "--eval-every", "3");
    assertEquals(evaluated.map(({ step }) => step), [2, 3, 4, 5]);
    assertEquals(evaluated.map((row) => "eval_accuracy" in row), [false, true, false, true]);
    for (const { eval_accuracy: accuracy = 1 } of evaluated) assert(accuracy > 0.5);
    if (full) {
      const plain = await rows("plain");
      assertEquals(plain.map(({ step }) => step), [2, 4, 5]);
      const losses = (all: typeof plain) =>
        Object.fromEntries(all.map(({ step, loss, grad_norm }) => [step, [loss, grad_norm]]));
      const { 3: _, ...same } = losses(evaluated);
      assertEquals(same, losses(plain));
      const scores = (all: typeof plain) => all.map(({ eval_accuracy }) => eval_accuracy);
      const again = await rows("again", "--eval", data, "--eval-every", "3");
      assertEquals(scores(again), scores(evaluated));
    }
    const error = await assertRejects(() => rows("absent", "--eval", join(dir, "absent")));
    assertEquals(exitCodeOf(error), 4);
    await assertRejects(() => Deno.stat(join(dir, "absent")), Deno.errors.NotFound);
  }));
