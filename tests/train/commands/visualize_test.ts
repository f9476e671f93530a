/**
 * `deno task visualize`: the page and what is in its pictures, sounds, choices, exit codes,
 * permissions.
 */
import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { inflateSync } from "node:zlib";
import { openDevice } from "../../../engine/mod.ts";
import { attentionMaps } from "../../../model/encoder/attention_maps.ts";
import { loadEncoder } from "../../../model/encoder/encoder.ts";
import { LogMel } from "../../../model/frontend/log_mel.ts";
import { run } from "../../../train/commands/visualize.ts";
import { Prng } from "../../../engine/prng.ts";
import { syntheticClip } from "../../../train/data/synthetic.ts";
import { readWav } from "../../../train/audio/wav.ts";
import { exitCodeOf } from "../../../train/errors.ts";
import { loudestChunk } from "../../../train/visualize/chunk_choice.ts";
import { patchChoice } from "../../../train/visualize/clip.ts";
import { classStyle, MAGMA, MOST_CLASSES, VIRIDIS } from "../../../train/visualize/colours.ts";
import { labelsOf } from "../../../train/visualize/embedding_map.ts";
import { clipsOf, sampled } from "../../../train/visualize/folder.ts";
import { encodePng } from "../../../train/visualize/png.ts";
import { principalComponents } from "../../../train/visualize/components.ts";
import { umap } from "../../../train/visualize/projection.ts";
import { bandShare, hzAt, ticks } from "../../../train/visualize/svg.ts";
import { encodeWav } from "../../../train/audio/wav_write.ts";
import { runWords } from "../../support/tasks.ts";
import { deno } from "../../support/deno_process.ts";
import { encoderFile } from "../../support/golden_encoder.ts";
import { autoencoderFile } from "../../support/small_autoencoder.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";
import { fullOnly, test } from "../../support/tier.ts";

const [DEPTH, HEADS, ROWS, COLUMNS] = [3, 2, 5, 4];

/**
 * Indices of a picture's pixels, the lowest row first: 0 is transparent, 1 to 255 go up with the
 * value.
 */
function pixels(png: Uint8Array): { width: number; height: number; at: Uint8Array[] } {
  const view = new DataView(png.buffer, png.byteOffset);
  assertEquals([...png.subarray(1, 4)], [..."PNG"].map((it) => it.charCodeAt(0)));
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  let data = new Uint8Array(0);
  for (let at = 8; at < png.length;) {
    const length = view.getUint32(at);
    const name = new TextDecoder().decode(png.subarray(at + 4, at + 8));
    if (name === "IDAT") data = new Uint8Array(inflateSync(png.subarray(at + 8, at + 8 + length)));
    at += 12 + length;
  }
  assertEquals(data.length, height * (width + 1));
  const rows = Array.from(
    { length: height },
    (_, row) => data.subarray(row * (width + 1) + 1, (row + 1) * (width + 1)),
  );
  return { width, height, at: rows.reverse() };
}

function pictures(html: string) {
  return [...html.matchAll(/data:image\/png;base64,([^"]+)"/g)]
    .map(([, text]) => pixels(Uint8Array.fromBase64(text)));
}

/**
 * Fails unless elements are closed in order, attributes are quoted, and nothing is loaded from
 * elsewhere.
 */
function assertWellFormed(html: string): void {
  const open: string[] = [];
  const empty = new Set(["meta", "!doctype"]);
  for (const [tag, slash, name, closed] of html.matchAll(/<(\/?)([a-zA-Z!][a-z]*)[^>]*?(\/?)>/gi)) {
    if (slash) assertEquals(open.pop(), name, tag);
    else if (closed !== "/" && !empty.has(name.toLowerCase())) open.push(name);
  }
  assertEquals(open, []);
  assertEquals(html.match(/NaN|Infinity|undefined/), null);
  assertEquals(html.match(/<script|<link|@import/), null);
  for (const [, target] of html.matchAll(/(?:href|src)="([^"]*)"/g)) {
    assert(target.startsWith("data:"), target.slice(0, 80));
  }
}

/** Runs the command in this process, its messages apart. */
async function visualize(...argv: string[]): Promise<{ code: number; err: string }> {
  const { error } = console;
  const lines: string[] = [];
  console.error = (text: string) => lines.push(text);
  try {
    const code = await run([...argv, "--quiet", "--workers", "0"], new AbortController().signal);
    return { code, err: lines.join("\n") };
  } finally {
    console.error = error;
  }
}

/** A tone of 1 kHz in the second half of 1.5 s of faint noise. */
function tone(): Float32Array {
  const random = new Prng(1);
  return Float32Array.from(
    { length: 24_000 },
    (_, n) =>
      1e-3 * random.normal() + (n < 12_000 ? 0 : 0.3 * Math.sin(2 * Math.PI * 1000 * n / 16_000)),
  );
}

test("visualize: a picture's pixels are the values on the colour map", () => {
  const values = [0, 1, 2, NaN, 4, 9];
  const found = pixels(
    encodePng({ values, rows: 2, columns: 3, range: [0, 4], map: VIRIDIS }),
  );
  assertEquals([found.width, found.height], [3, 2]);
  assertEquals(found.at.map((it) => [...it]), [[1, 65, 128], [0, 255, 255]]);
  const wrong = { values, rows: 2, columns: 2, range: [0, 4], map: VIRIDIS } as const;
  assertThrows(() => encodePng(wrong), RangeError, "6 values are not 2 x 2");
  // First and last colours of matplotlib's tables.
  assertEquals([VIRIDIS.length, MAGMA.length], [768, 768]);
  assertEquals([...VIRIDIS.subarray(0, 3), ...VIRIDIS.subarray(765)], [68, 1, 84, 253, 231, 37]);
  assertEquals([...MAGMA.subarray(0, 3), ...MAGMA.subarray(765)], [0, 0, 4, 252, 253, 191]);
  const looks = Array.from({ length: MOST_CLASSES }, (_, i) => JSON.stringify(classStyle(i)));
  assertEquals(new Set(looks).size, MOST_CLASSES);
});

test("visualize: axes: round ticks, places of frequencies, choices of patches", () => {
  assertEquals(ticks(0, 2.08, 10), [0, 0.5, 1, 1.5, 2]);
  assertEquals(ticks(-61, 19, 4), [-60, -40, -20, 0]);
  assertEquals(ticks(3, 3, 4), []);
  for (const hz of [80, 440, 1000, 4321, 7500]) assertAlmostEquals(hzAt(bandShare(hz)), hz, 1e-6);
  assertEquals([bandShare(0), bandShare(8000)], [0, 1]);
  assertEquals(patchChoice("class"), { kind: "class" });
  assertEquals(patchChoice("17"), { kind: "index", index: 17 });
  assertEquals(patchChoice("1.25,800"), { kind: "place", seconds: 1.25, hz: 800 });
  for (const words of ["", "1.5", "a,b", "1,", "-1", "1,2,3"]) {
    assertEquals(patchChoice(words), undefined, words);
  }
});

test("visualize: the chunk is the loudest by power, however much noise is elsewhere", () => {
  const [bands, frames] = [3, 26];
  const values = new Float32Array(bands * frames).fill(-60);
  const clip = { values, bands, frames, start: 0 };
  assertEquals(loudestChunk(clip, 10), 0);
  // Thirty values of -30 dB are less than one of 0 dB.
  for (let band = 0; band < bands; band++) values.fill(-30, band * frames, band * frames + 10);
  assertEquals(loudestChunk(clip, 10), 0);
  values[frames + 13] = 0;
  assertEquals(loudestChunk(clip, 10), 10);
  // The last whole chunk ends with the clip.
  values[25] = 3;
  assertEquals(loudestChunk(clip, 10), 16);
  assertEquals(loudestChunk(clip, 26), 0);
});

test("visualize: principal components are exact, UMAP repeats and keeps groups apart", () => {
  const random = new Prng(2);
  // Three known directions with deviations 5, 2 and 0.5 in 40 dimensions, far from the origin.
  const [n, size] = [60, 40];
  const scores = Array.from({ length: n }, () => [5, 2, 0.5].map((it) => it * random.normal()));
  const means = [0, 1, 2].map((i) => scores.reduce((a, it) => a + it[i], 0) / n);
  const rows = scores.map((it) =>
    Float64Array.from({ length: size }, (_, j) => 7 + (j < 3 ? it[j] - means[j] : 0))
  );
  const { points, shares } = principalComponents(rows, 2);
  // Components are those of the sample: distances in the plane and variances tell whether they are
  // right.
  const covariance = (i: number, j: number) =>
    scores.reduce((a, it) => a + (it[i] - means[i]) * (it[j] - means[j]), 0);
  const trace = covariance(0, 0) + covariance(1, 1) + covariance(2, 2);
  // Largest eigenvalues of the 3 x 3 scatter by its characteristic polynomial, found by bisection.
  const matrix = [0, 1, 2].map((i) => [0, 1, 2].map((j) => covariance(i, j)));
  const determinant = (l: number) => {
    const [[a, b, c], [d, e, f], [g, h, k]] = matrix.map((row, i) =>
      row.map((it, j) => it - (i === j ? l : 0))
    );
    return a * (e * k - f * h) - b * (d * k - f * g) + c * (d * h - e * g);
  };
  for (const share of shares) {
    // A zero of the polynomial, on the scale of its terms.
    assert(Math.abs(determinant(share * trace)) < 1e-6 * trace ** 3);
  }
  assert(shares[0] > shares[1] && shares[0] + shares[1] < 1);
  const first = points.map((it) => it[0]);
  assertAlmostEquals(first.reduce((a, b) => a + b * b, 0), shares[0] * trace, 1e-6 * trace);
  assertAlmostEquals(points.reduce((a, it) => a + it[0] * it[1], 0), 0, 1e-5 * trace);
  assertEquals(principalComponents([[1, 2]], 2), { points: [[]], shares: [] });
  assertEquals(
    principalComponents([[1, 1], [1, 1], [1, 1]], 2).shares.every((it) => it === 0),
    true,
  );

  const groups = Array.from(
    { length: 30 },
    (_, i) => Float32Array.from({ length: 8 }, (_, j) => (j === i % 2 ? 50 : 0) + random.normal()),
  );
  const plane = umap(groups, 5);
  assertEquals(umap(groups, 5), plane);
  const centre = (odd: number) =>
    [0, 1].map((axis) =>
      plane.filter((_, i) => i % 2 === odd).reduce((a, it) => a + it[axis] / 15, 0)
    );
  const [even, odd] = [centre(0), centre(1)];
  const from = (it: readonly number[], to: readonly number[]) =>
    Math.hypot(it[0] - to[0], it[1] - to[1]);
  plane.forEach((it, i) => assert(from(it, i % 2 ? odd : even) < from(it, i % 2 ? even : odd)));
});

test("visualize: labels of folders, with and without meta.csv", () =>
  inTempDir(async (dir) => {
    const sound = wav(new Float32Array(800));
    for (const name of ["a/1.wav", "a/x/2.wav", "3.wav", "b/4.wav"]) {
      Deno.mkdirSync(join(dir, name, ".."), { recursive: true });
      Deno.writeFileSync(join(dir, name), sound);
    }
    const found = await clipsOf(dir);
    assertEquals(
      new Map(found.map((it) => [it.name, it.labels])),
      new Map([["3.wav", []], ["a/1.wav", ["a"]], ["a/x/2.wav", ["a"]], ["b/4.wav", ["b"]]]),
    );
    assertEquals(labelsOf(found), ["a", "b"]);
    Deno.mkdirSync(join(dir, "audio"));
    Deno.writeTextFileSync(join(dir, "meta.csv"), "filename,label,fold\n1.wav,x;y,1\n2.wav,z,2\n");
    const labelled = await clipsOf(dir);
    assertEquals(labelled.map(({ name, labels }) => ({ name, labels })), [
      { name: "1.wav", labels: ["x", "y"] },
      { name: "2.wav", labels: ["z"] },
    ]);
    const many = Array.from({ length: 100 }, (_, i) => i);
    const drawn = sampled(many, 10, 3);
    assertEquals(drawn, sampled(many, 10, 3));
    assertEquals([drawn.length, new Set(drawn).size], [10, 10]);
    assertEquals(sampled(many, 100, 3), many);
    // One class more than can be told apart: the rare one goes.
    const clips = Array.from({ length: MOST_CLASSES + 1 }, (_, i) => [`${i}`, `${i}`]).flat()
      .slice(0, -1).map((label) => ({ name: "", labels: [label] }));
    assertEquals(labelsOf(clips).includes(String(MOST_CLASSES)), false);
  }));

test("visualize: the page of an encoder shows its input, its attention and its embeddings", () =>
  inTempDir(async (dir) => {
    const model = join(dir, "encoder.safetensors");
    await Deno.writeFile(model, encoderFile());
    const file = join(dir, "to<ne>.wav");
    await Deno.writeFile(file, wav(tone()));
    const folder = join(dir, "clips");
    for (const [i, label] of ["low", "low", "low", "high", "high", "high"].entries()) {
      Deno.mkdirSync(join(folder, label), { recursive: true });
      const { waveform } = syntheticClip(1, i, 9_000);
      Deno.writeFileSync(join(folder, label, `${i}.wav`), wav(waveform));
    }
    Deno.writeTextFileSync(join(folder, "low", "broken.wav"), "no audio");
    const out = join(dir, "new", "report.html");
    const sound = join(dir, "sound.wav");
    const common = ["--checkpoint", model, file, folder, "--out", out];
    const { code, err } = await visualize(...common, "--wav", sound, "--patch", "0.4,1000");
    assertEquals(code, 0);
    assert(err.startsWith("1 of 7 files skipped"), err);
    const html = Deno.readTextFileSync(out);
    assertWellFormed(html);
    assert(html.includes("to&#60;ne&#62;.wav") && html.length < 1e6);
    const titles = [...html.matchAll(/<h2>(.*?)<\/h2>/g)].map(([, it]) => it);
    assertEquals(titles, [
      "Input",
      "Attention",
      "Embedding over time",
      "Embeddings of clips",
      "Sound",
    ]);

    // 24,000 samples are 148 frames; the chunk has 64 of them.
    const all = pictures(html);
    const shapes = all.map(({ width, height }) => `${width}x${height}`);
    const count = (shape: string) => shapes.filter((it) => it === shape).length;
    assertEquals([count("148x80"), count("64x80")], [2, 1]);
    assertEquals(count(`${COLUMNS}x${ROWS}`), DEPTH * HEADS);
    const input = all[shapes.indexOf("148x80")];
    const bandOf = (hz: number) => Math.floor(80 * bandShare(hz));
    const brightest = (t: number) =>
      input.at.reduce((best, row, band) => row[t] > input.at[best][t] ? band : best, 0);
    assertEquals([100, 120, 140].map(brightest), [1, 1, 1].map(() => bandOf(1000)));
    // Its range ends at the next whole decibel.
    assert(input.at[bandOf(1000)][120] > 250);
    assert(input.at[bandOf(1000)][40] < 128);

    // Pictures of attention are the weights: brighter is larger.
    using device = await openDevice();
    using encoder = await loadEncoder(device, model);
    using frontend = new LogMel(device);
    // As 16-bit samples have it.
    const heard = tone().map((it) => Math.round(32767 * it) / 32768);
    using wave = device.tensor(heard.subarray(0, 160 * 63 + 400), [1, 160 * 63 + 400]);
    using logmel = frontend.apply(wave);
    const row = Math.floor(bandShare(1000) * ROWS);
    const query = row * COLUMNS + Math.floor(0.4 / 0.16);
    const maps = await attentionMaps(encoder.network, logmel, [query]);
    const cells = all.filter(({ width, height }) => width === COLUMNS && height === ROWS);
    const tokens = 1 + ROWS * COLUMNS;
    cells.forEach((cell, i) => {
      const [layer, head] = [Math.floor(i / HEADS), i % HEADS];
      const weights = maps.layers[layer].subarray(head * tokens + 1, (head + 1) * tokens);
      const shown = cell.at.flatMap((it) => [...it]);
      // One scale for all of them: an eighth of an even spread and at least four times it are the
      // ends.
      const range = [-3, 2];
      weights.forEach((w, patch) => {
        const share = (Math.log2(w * tokens) - range[0]) / (range[1] - range[0]);
        const expected = 1 + 254 * Math.min(1, Math.max(0, share));
        assert(Math.abs(shown[patch] - expected) < 1.01, `${shown[patch]} for ${expected}`);
      });
    });
    assertEquals(html.match(/times an even spread/g)?.length, DEPTH * HEADS);

    // Nine steps in the path; six clips in both halves of the map, and two labels.
    assertEquals(html.match(/<title>[\d.]+ s<\/title>/g)?.length, 10);
    assertEquals(html.match(/<title>low[^<]*: low<\/title>/g)?.length, 6);
    assertEquals(html.match(/<title>high[^<]*: high<\/title>/g)?.length, 6);
    assert(html.includes(">UMAP 1<") && html.includes("PC 1 ("));
    const { sampleRate, channels: [samples] } = readWav(Deno.readFileSync(sound));
    assertEquals([sampleRate, samples.length], [16_000, 160 * 63 + 400]);
    assertEquals(html.match(/<audio controls src="data:audio\/wav;base64,/g)?.length, 2);

    const again = join(dir, "again.html");
    await visualize(...common.with(-1, again), "--wav", sound, "--patch", "0.4,1000");
    assertEquals(Deno.readTextFileSync(again), html);
    // One layer, one head, the class token; no folder, and from later on.
    const one = [
      "--layer",
      "2",
      "--head",
      "1",
      "--patch",
      "class",
      "--start",
      "0.5",
      "--seconds",
      "0.5",
    ];
    await visualize("--checkpoint", model, file, "--out", again, ...one);
    const part = Deno.readTextFileSync(again);
    assertWellFormed(part);
    assertEquals(pictures(part).filter(({ height }) => height === ROWS).length, 1);
    assert(part.includes("0.50 to 0.98 s") && part.includes("Attention of the class token"));
  }));

fullOnly(
  "visualize: MSM-MAE's page shows mask, reconstruction and error, and lets them be heard",
  () =>
    inTempDir(async (dir) => {
      const path = join(dir, "step.safetensors");
      Deno.writeFileSync(path, await autoencoderFile());
      const file = join(dir, "tone.wav");
      Deno.writeFileSync(file, wav(tone()));
      const [out, sound] = [join(dir, "r.html"), join(dir, "r.wav")];
      const common = ["--checkpoint", path, file, "--out", out];
      assertEquals(await visualize(...common, "--wav", sound), { code: 0, err: "" });
      const html = Deno.readTextFileSync(out);
      assertWellFormed(html);
      // The chunk that is all tone, and ends where the clip does.
      assert(html.includes("chunk: 0.87 to 1.51 s"), /chunk: [^<]*/.exec(html)?.[0]);
      assert(
        html.includes("<h2>Reconstruction</h2>") && html.includes("standardised by themselves"),
      );
      // 20 patches, 8 of them visible.
      assert(html.includes("60 % of the patches") && html.includes("8 of 20 patches"));
      const chunks = pictures(html).filter(({ width, height }) => width === 64 && height === 80);
      const [input, seen, made, error] = chunks;
      const patches = Array.from({ length: 20 }, (_, i) => [Math.floor(i / 4) * 16, i % 4 * 16]);
      let hidden = 0;
      for (const [band, t] of patches) {
        const corner = seen.at[band][t] === 0;
        hidden += Number(corner);
        for (const [i, j] of [[0, 0], [5, 9], [15, 15]]) {
          const [b, s] = [band + i, t + j];
          assertEquals(seen.at[b][s] === 0, corner);
          if (corner) continue;
          assertEquals([seen.at[b][s], made.at[b][s]], [input.at[b][s], input.at[b][s]]);
          assertEquals(error.at[b][s], 1);
        }
      }
      assertEquals(hidden, 12);
      assert(error.at.some((row) => row.some((it) => it === 255)));
      // Centred frames: the chunk without mirrored ends.
      const { channels: [samples] } = readWav(Deno.readFileSync(sound));
      assertEquals(samples.length, 160 * 63);
      assert(samples.some((it) => Math.abs(it) > 0.01));
      assertEquals(html.match(/<audio/g)?.length, 3);

      await visualize(...common, "--mask-ratio", "0.5", "--seed", "1");
      assert(Deno.readTextFileSync(out).includes("10 of 20 patches"));
      const none = await assertRejects(
        () => visualize(...common, "--mask-ratio", "0.99"),
        Error,
        "0 of 20 patches visible",
      );
      assertEquals(exitCodeOf(none), 2);
    }),
);

test("visualize: wrong usage is exit 2, nothing usable exit 4, and both say what", () =>
  inTempDir(async (dir) => {
    const model = join(dir, "encoder.safetensors");
    await Deno.writeFile(model, encoderFile());
    const file = join(dir, "tone.wav");
    Deno.writeFileSync(file, wav(tone()));
    const broken = join(dir, "broken.wav");
    Deno.writeTextFileSync(broken, "no audio");
    const empty = join(dir, "empty");
    Deno.mkdirSync(empty);
    const out = join(dir, "r.html");
    const good = ["--checkpoint", model, "--out", out, file];
    const cases: [string[], string, number][] = [
      [["--checkpoint", model, "--out", out], "AUDIO: is needed", 2],
      [["--out", out, file], "--checkpoint: is needed", 2],
      [["--checkpoint", model, file], "--out: is needed", 2],
      [["--checkpoint", join(dir, "x"), "--out", out, file], "cannot be read", 2],
      [["--checkpoint", model, "--out", dir, file], "is a folder", 2],
      [[...good, file], "one file, one folder", 2],
      [[...good, "--start", "2"], "has 1.50 s", 2],
      [[...good, "--seconds", "0"], "must be seconds above 0", 2],
      [[...good, "--patch", "here"], "such as 1.2,800", 2],
      [[...good, "--patch", "20"], "patches 0 to 19", 2],
      [[...good, "--patch", "1.6,500"], "the chunk is 0.84 to 1.48 s", 2],
      [[...good, "--layer", "4"], "the encoder has 3", 2],
      [[...good, "--head", "0"], "a number from 1, or all", 2],
      [[...good, "--mask-ratio", "0.5"], "predicts latent values", 2],
      [[...good.with(-1, broken)], "broken.wav", 4],
      [[...good.with(-1, empty)], "no audio in", 4],
    ];
    for (const [argv, message, code] of cases) {
      const error = await assertRejects(() => visualize(...argv), Error, message);
      assertEquals(exitCodeOf(error), code, message);
    }
    await assertRejects(() => Deno.stat(out), Deno.errors.NotFound);
  }));

test("visualize: sounds that are too loud become quieter as a whole", () => {
  const { channels: [samples] } = readWav(encodeWav(Float32Array.of(0, 2, -1, 0.5)));
  [0, 1, -0.5, 0.25].forEach((it, i) => assertAlmostEquals(samples[i], it, 1e-4));
});

test("visualize: the task's permissions are reading and writing, and suffice", () =>
  inTempDir(async (dir) => {
    const model = join(dir, "encoder.safetensors");
    await Deno.writeFile(model, encoderFile());
    const file = join(dir, "short.wav");
    // Shorter than a patch.
    Deno.writeFileSync(file, wav(tone().subarray(12_000, 12_900)));
    const words = runWords("visualize");
    assertEquals(words, "run --no-prompt -RW train/main.ts visualize".split(" "));
    const out = join(dir, "r.html");
    const { out: printed } = await deno([
      ...words,
      ...["--checkpoint", model, file, "--out", out, "--wav", join(dir, "s.wav")],
    ]);
    const last = printed.split("\n").at(-1)!;
    assert(last.startsWith("input, attention, embedding over time, sound: "), printed);
    const html = Deno.readTextFileSync(out);
    assertWellFormed(html);
    assert(html.includes("fewer than three time steps"));
  }));
