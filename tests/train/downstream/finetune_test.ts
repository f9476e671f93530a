/**
 * Parts of fine-tuning: batch norm, mixup, patch-out, spectrograms and the loss with its gradient.
 */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { backward, type Device, openDevice, scope } from "../../../engine/mod.ts";
import { Encoder } from "../../../model/encoder/encoder.ts";
import type { EncoderGeometry } from "../../../model/encoder/embed.ts";
import { LOG_OFFSET } from "../../../model/frontend/tables.ts";
import { Prng } from "../../../engine/prng.ts";
import { WorkerPool } from "../../../train/data/worker_pool.ts";
import {
  betaDraw,
  drawMix,
  drawPatches,
  mixedRows,
  mixedSpectrograms,
} from "../../../train/downstream/finetune/augment.ts";
import {
  secondsOf,
  SpectrogramClip,
  spectrogramClips,
} from "../../../train/downstream/finetune/spectrogram_clips.ts";
import { FineTuneModel, type HeadSettings } from "../../../train/downstream/finetune/model.ts";
import {
  type InitialEncoder,
  initialEncoderSpecs,
} from "../../../train/downstream/finetune/initial_encoder.ts";
import { FineTuner } from "../../../train/downstream/finetune/trainer.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const GEOMETRY: EncoderGeometry = {
  width: 24,
  depth: 2,
  heads: 3,
  melBands: 80,
  cropFrames: 64,
  patch: [16, 16],
};
const STATISTICS = { mean: -7, std: 4 };

/** Values that no training made. */
function initialEncoder(seed: number, geometry = GEOMETRY): InitialEncoder {
  const random = new Prng(seed);
  const values = initialEncoderSpecs(geometry, false).map(
    ({ name, shape }): [string, Float32Array] => {
      const size = shape.reduce((a, b) => a * b, 1);
      const scale = /norm\d?\.weight$/.test(name) ? 1 : 0;
      return [name, Float32Array.from({ length: size }, () => scale + 0.15 * random.normal())];
    },
  );
  return {
    geometry,
    frontend: { framing: "inside", statistics: STATISTICS },
    values: new Map(values),
    metadata: {},
  };
}

const normals = (random: Prng, length: number) =>
  Float32Array.from({ length }, () => random.normal());

Deno.test("mixup: shares are Beta's, sounds add by power, targets in proportion", () => {
  const random = new Prng(11);
  for (const alpha of [0.1, 0.5, 2]) {
    const draws = Array.from({ length: 20_000 }, () => betaDraw(random, alpha));
    assert(draws.every((it) => it >= 0 && it <= 1));
    const mean = draws.reduce((a, b) => a + b) / draws.length;
    const variance = draws.reduce((a, b) => a + (b - mean) ** 2, 0) / draws.length;
    // Four deviations of the mean are below 0.014; the variance is surer still.
    assertAlmostEquals(mean, 0.5, 0.014);
    assertAlmostEquals(variance, 1 / (4 * (2 * alpha + 1)), 0.006);
  }
  const { shares, partners } = drawMix(random, 9, 0.3);
  assertEquals([shares.length, [...partners].sort()], [9, [0, 1, 2, 3, 4, 5, 6, 7, 8]]);
  const mix = { shares: Float64Array.of(1, 0.25, 0), partners: Uint32Array.of(1, 2, 0) };
  const rows = mixedRows(Float32Array.of(1, 0, 0, 1, 1, 0), mix);
  assertEquals([...rows], [1, 0, 0.75, 0.25, 1, 0]);
  const floor = (Math.log(LOG_OFFSET) - STATISTICS.mean) / STATISTICS.std;
  const sounds = Float32Array.of(0.5, -1, 1.5, floor, 0, floor);
  const mixed = mixedSpectrograms(sounds, mix, STATISTICS);
  const power = (x: number) => Math.exp(4 * x - 7);
  const expected = [
    ...[0.5, -1],
    ...[(Math.log(power(1.5) / 16 + 9 / 16 * power(0)) + 7) / 4, floor],
    ...[0.5, -1],
  ];
  mixed.forEach((x, i) => assertAlmostEquals(x, expected[i], 1e-6));
});

Deno.test("patch-out: whole rows and columns, as many as the formula says, averaged by what stays", () => {
  const grid = { rows: 5, columns: 38 };
  const counts = new Set<number>();
  for (let seed = 0; seed < 40; seed++) {
    const draw = new Prng(seed).uniform();
    const out = Math.min(4, Math.trunc(5 * (0.5 + 1 / 5) * draw));
    const columnsOut = Math.trunc(38 * Math.max(0.5 + 0.5 / 38 - out / 5, 0));
    const { visible, ids, pool } = drawPatches(new Prng(seed), 3, grid, 0.5, "concat");
    assertEquals(visible, (5 - out) * (38 - columnsOut));
    counts.add(visible);
    const places = new Set<string>();
    for (let b = 0; b < 3; b++) {
      const own = ids.subarray(b * visible, (b + 1) * visible);
      const rows = new Set(Array.from(own, (id) => Math.floor(id / 38)));
      const columns = new Set(Array.from(own, (id) => id % 38));
      assertEquals([rows.size, columns.size], [5 - out, 38 - columnsOut]);
      assertEquals(new Set(own).size, visible);
      places.add(own.join());
      for (let row = 0; row < 5; row++) {
        const weights = pool.subarray((b * 5 + row) * visible, (b * 5 + row + 1) * visible);
        weights.forEach((weight, i) => {
          const share = Math.floor(own[i] / 38) === row ? 1 / (38 - columnsOut) : 0;
          assertEquals(weight, Math.fround(share));
        });
      }
    }
    // Rows alone can be left out in ten ways.
    if (columnsOut > 0) assertEquals(places.size, 3, "each clip has its own");
  }
  assertEquals([...counts].sort((a, b) => a - b), [76, 95, 102, 108]);
  const all = drawPatches(new Prng(1), 2, { rows: 2, columns: 3 }, 0, "mean");
  assertEquals([...all.ids], [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]);
  assertEquals([...all.pool], new Array(12).fill(Math.fround(1 / 6)));
});

Deno.test("spectrograms that are kept give what embedding the audio gives", () =>
  inTempDir(async (dir) => {
    const random = new Prng(5);
    const path = join(dir, "a.wav");
    const samples = normals(random, 7000).map((x) => 0.2 * Math.tanh(x));
    await Deno.writeFile(path, wav(samples));
    await Deno.writeTextFile(join(dir, "bad.wav"), "no sound");
    using pool = new WorkerPool(0);
    for (const framing of ["inside", "centred"] as const) {
      const { values } = initialEncoder(2);
      const frontend = { framing, statistics: STATISTICS };
      const skipped: string[] = [];
      const clips = await spectrogramClips([path, join(dir, "bad.wav")], {
        device,
        frontend,
        pool,
        onSkip: ({ path }) => skipped.push(path),
      });
      assertEquals([clips.size, skipped], [1, [join(dir, "bad.wav")]]);
      const clip = clips.get(path)!;
      assertEquals(clip.frames, framing === "inside" ? 42 : 44);
      using encoder = new Encoder(device, GEOMETRY, (name) => values.get(name)!, frontend);
      for (const frames of [32, 64, undefined]) {
        // Mirrored ends differ where the cut comes first; 64 frames are beyond the clip.
        if (framing === "centred" && frames !== undefined) continue;
        const cut = frames === undefined
          ? samples
          : new Float32Array(Math.round(16000 * secondsOf(frames, frontend)));
        if (frames !== undefined) cut.set(samples.subarray(0, cut.length));
        const [a, b] = await encoder.embed([clip.firstFrames(frames), cut]);
        // WAV holds 16 bits.
        a.values.forEach((x, i) => assertAlmostEquals(x, b.values[i], 2e-3));
      }
    }
    const clip = new SpectrogramClip(Float32Array.from({ length: 160 }, (_, i) => i), 2, -3);
    const target = new Float32Array(80 * 3);
    clip.copyTo(target, 1, 3);
    assertEquals([...target.subarray(0, 6)], [1, -3, -3, 3, -3, -3]);
    assertEquals(16000 * secondsOf(32, { framing: "centred" }), 31 * 160);
  }));

/** A batch as training has it, on the device. */
function batchOf(device: Device, classes: number, patchOut: number, bands: "concat" | "mean") {
  const random = new Prng(21);
  const [clips, frames] = [4, 48];
  const { ids, pool, visible } = drawPatches(
    random,
    clips,
    { rows: 5, columns: 3 },
    patchOut,
    bands,
  );
  const host = {
    input: normals(random, clips * 80 * frames),
    targets: Float32Array.from({ length: clips * classes }, () => random.uniform()),
  };
  for (let i = 0; i < clips; i++) {
    const row = host.targets.subarray(i * classes, (i + 1) * classes);
    const total = row.reduce((a, b) => a + b, 0);
    row.forEach((x, k) => row[k] = x / total);
  }
  return {
    host,
    batch: {
      input: device.tensor(host.input, [clips, 80, frames]),
      ids: device.tensor(ids, [clips, visible]),
      pool: device.tensor(pool, [clips, bands === "mean" ? 1 : 5, visible]),
      targets: device.tensor(host.targets, [clips, classes]),
    },
  };
}

Deno.test("fine-tuning: the loss is that of the embeddings in float64", async () => {
  const classes = 3;
  for (const multiLabel of [false, true]) {
    // Without class token and bias of keys as well.
    const geometry = multiLabel ? { ...GEOMETRY, classToken: false, keyBias: false } : GEOMETRY;
    const settings: HeadSettings = {
      classes,
      multiLabel,
      bands: "concat",
      frozenPatchEmbed: false,
    };
    const start = initialEncoder(4, geometry);
    using model = new FineTuneModel(device, start, settings, new Prng(1));
    const { host, batch } = batchOf(device, classes, 0, "concat");
    using loss = scope(() => model.loss(batch));
    const [found] = await loss.data();
    using encoder = new Encoder(device, geometry, (name) => start.values.get(name)!);
    const size = 80 * 48;
    const embeddings = await encoder.embed([0, 1, 2, 3].map((i) => ({
      logMel: host.input.subarray(i * size, (i + 1) * size),
      standardised: true,
    })));
    const rows = embeddings.map(({ values }) => Float64Array.from(values));
    const normed = rows.map((row) =>
      row.map((x, k) => {
        const column = rows.map((it) => it[k]);
        const mean = column.reduce((a, b) => a + b) / 4;
        const variance = column.reduce((a, b) => a + (b - mean) ** 2, 0) / 4;
        return (x - mean) / Math.sqrt(variance + 1e-5);
      })
    );
    const { weight, bias } = await model.head();
    const deviation = Math.sqrt(weight.reduce((a, w) => a + w * w, 0) / weight.length);
    // 360 draws: four deviations.
    assertAlmostEquals(deviation, 0.01, 0.0015);
    assertEquals([...bias], [0, 0, 0]);
    let total = 0;
    normed.forEach((row, i) => {
      const logits = Array.from(
        { length: classes },
        (_, k) => row.reduce((sum, x, j) => sum + x * weight[k * row.length + j], 0),
      );
      const norm = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0));
      logits.forEach((x, k) => {
        const t = host.targets[i * classes + k];
        total += multiLabel ? Math.log1p(Math.exp(x)) - t * x : -t * (x - norm);
      });
    });
    assertAlmostEquals(found, total / 4 / classes, 2e-6);
    for (const tensor of Object.values(batch)) tensor.dispose();
  }
});

Deno.test("fine-tuning: gradients of all parameters are the loss's slopes", async () => {
  for (
    const [multiLabel, patchOut, bands] of [[false, 0.5, "concat"], [true, 0.4, "mean"]] as const
  ) {
    const settings: HeadSettings = { classes: 3, multiLabel, bands, frozenPatchEmbed: false };
    const start = initialEncoder(6);
    using model = new FineTuneModel(device, start, settings, new Prng(2));
    const { arena } = model;
    // A head of its initial size hardly lets anything through to the encoder.
    const head = arena.get("head.weight");
    arena.load([["head.weight", normals(new Prng(3), head.size).map((it) => 0.3 * it)]]);
    const { batch } = batchOf(device, 3, patchOut, bands);
    scope(() => backward(model.loss(batch)));
    const lossAt = async (name: string, values: Float32Array): Promise<number> => {
      arena.load([[name, values]]);
      using loss = scope(() => model.loss(batch));
      return (await loss.data())[0];
    };
    for (const { name, frozen } of arena.specs) {
      if (frozen) continue;
      const parameter = arena.get(name);
      const [values, slope] = await device.read([parameter, parameter.grad!]) as Float32Array[];
      const length = Math.sqrt(slope.reduce((a, g) => a + g * g, 0));
      // Batch norm undoes scale and shift of the last norm but for its eps.
      const undone = name.startsWith("student_encoder.norm.");
      assert(length > 1e-4 || undone, `${name} has a gradient: ${length}`);
      // Along the gradient the slope is its length; the step changes the loss by some 0.002, its
      // rounding by 1e-7.
      const step = Math.min(0.02, 0.002 / length);
      const moved = (by: number) => values.map((x, i) => x + by * slope[i] / length);
      const up = await lossAt(name, moved(step));
      const down = await lossAt(name, moved(-step));
      arena.load([[name, values]]);
      const found = (up - down) / (2 * step);
      assertAlmostEquals(found, length, 0.01 * length + 1e-5, name);
    }
    for (const tensor of Object.values(batch)) tensor.dispose();
  }
});

Deno.test("fine-tuning: layers have their rates, frozen ones stay, and the best can come back", async () => {
  const settings = {
    classes: 2,
    multiLabel: false,
    bands: "mean",
    frozenPatchEmbed: true,
  } as const;
  using model = new FineTuneModel(device, initialEncoder(8), settings, new Prng(4));
  using tuner = new FineTuner(model, { optimizer: "sgd", weightDecay: 0, layerDecay: 0.5 });
  const { batch, host } = batchOf(device, 2, 0, "mean");
  const before = await model.arena.read();
  model.arena.zeroGrad();
  scope(() => backward(model.loss(batch)));
  const slopes = new Map<string, Float32Array>();
  for (const { name, frozen } of model.arena.specs) {
    if (!frozen) slopes.set(name, await model.arena.get(name).grad!.data() as Float32Array);
  }
  tuner.keep();
  const [ids, pool] = await device.read([batch.ids, batch.pool]);
  const plain = {
    ...host,
    visible: 15,
    ids: ids as Uint32Array<ArrayBuffer>,
    pool: pool as Float32Array<ArrayBuffer>,
  };
  tuner.step(plain, 0.1);
  const after = await model.arena.read();
  const factors: Readonly<Record<string, number>> = {
    "head.bias": 1,
    "student_encoder.norm.weight": 1,
    "student_encoder.blocks.1.mlp.fc1.weight": 0.5,
    "student_encoder.blocks.0.mlp.fc1.weight": 0.25,
    "cls_token": 0.125,
    "patch_embed.proj.weight": 0,
    "pos_embed": 0,
  };
  for (const [name, factor] of Object.entries(factors)) {
    before.get(name)!.data.forEach((x, i) => {
      const step = 0.1 * factor * (slopes.get(name)?.[i] ?? 0);
      assertAlmostEquals(after.get(name)!.data[i], x - step, 1e-6, name);
    });
  }
  tuner.restore();
  assertEquals(await model.arena.read(), before);
  for (const tensor of Object.values(batch)) tensor.dispose();
});
