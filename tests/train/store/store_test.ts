/** Crops from .npy files, sources of files, workers. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import fc from "fast-check";
import { openDevice } from "../../../engine/mod.ts";
import { LogMel } from "../../../model/frontend/log_mel.ts";
import { loadWaveform, waveformBlocks } from "../../../train/audio/decode.ts";
import { NoDataError, UsageError } from "../../../train/errors.ts";
import { batchLogMel } from "../../../train/data/batch_logmel.ts";
import { Loader } from "../../../train/data/loader.ts";
import { dataSource } from "../../../train/data/data_source.ts";
import { encodeValues, type NpyDtype, NpyError, npyHeader } from "../../../train/io/npy.ts";
import { LOG_SILENCE, readCrop } from "../../../train/data/logmel_file.ts";
import { WorkerPool } from "../../../train/data/worker_pool.ts";
import { resample, Resampler } from "../../../model/frontend/resample.ts";
import { samplesOf, startAt } from "../../../train/data/crop.ts";
import { FileError } from "../../../train/data/clip_reading.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";

const GOLDEN = new URL("../../golden/audio/", import.meta.url).pathname;
const RAW = { mean: 0, std: 1 };

/** Value of band b and frame t; exact in float16 up to 20 frames. */
const valueAt = (band: number, frame: number) => band + frame / 16;

function spectrogram(frames: number): Float32Array {
  return Float32Array.from(
    { length: 80 * frames },
    (_, i) => valueAt(Math.floor(i / frames), i % frames),
  );
}

function writeNpy(
  path: string,
  frames: number,
  { dtype = "f32", shape = [80, frames], values = spectrogram(frames) }: {
    dtype?: NpyDtype;
    shape?: number[];
    values?: Float32Array;
  } = {},
): void {
  const header = npyHeader(shape, dtype);
  const body = encodeValues(values, dtype);
  const bytes = new Uint8Array(header.length + body.length);
  bytes.set(header);
  bytes.set(body, header.length);
  Deno.writeFileSync(path, bytes);
}

Deno.test("a crop holds the file's values from its place, in both formats and shapes, padded with silence", () =>
  inTempDir((dir) => {
    const path = join(dir, "a.npy");
    fc.assert(fc.property(
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 1, max: 24 }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      fc.constantFrom("f32" as const, "f16" as const),
      fc.boolean(),
      (there, frames, position, dtype, leading) => {
        writeNpy(path, there, { dtype, shape: leading ? [1, 80, there] : [80, there] });
        const crop = readCrop({ path, frames, position, mean: 2, std: 4 });
        const first = Math.floor(position * (Math.max(0, there - frames) + 1));
        const expected = Float32Array.from({ length: 80 * frames }, (_, i) => {
          const frame = first + i % frames;
          const value = frame < there ? valueAt(Math.floor(i / frames), frame) : LOG_SILENCE;
          return (Math.fround(value) - 2) / 4;
        });
        assertEquals(crop, expected);
      },
    ));
  }));

Deno.test("starts are from 0 to the last inclusive", () => {
  assertEquals([0, 0.249, 0.25, 0.74, 0.75, 1 - 2 ** -53].map((u) => startAt(u, 3)), [
    0,
    0,
    1,
    2,
    3,
    3,
  ]);
  assertEquals(startAt(1 - 2 ** -53, 2 ** 31), 2 ** 31);
});

Deno.test("only the crop is read: from a file of 3.8 GB, and past values that are not finite", () =>
  inTempDir((dir) => {
    const huge = join(dir, "huge.npy");
    const frames = 12_000_000;
    const header = npyHeader([80, frames], "f32");
    {
      // Without content it takes no space on the disk.
      using file = Deno.openSync(huge, { write: true, create: true });
      file.writeSync(header);
      file.seekSync(header.length + 4 * (79 * frames + frames - 1), Deno.SeekMode.Start);
      file.writeSync(new Uint8Array(Float32Array.of(5).buffer));
    }
    const crop = readCrop({ path: huge, frames: 208, position: 1 - 2 ** -53, ...RAW });
    assertEquals([crop[0], crop[crop.length - 1]], [0, 5]);
    const values = spectrogram(20);
    values[16] = NaN;
    const path = join(dir, "nan.npy");
    writeNpy(path, 20, { values });
    assertEquals(readCrop({ path, frames: 4, position: 0, ...RAW })[3], valueAt(0, 3));
    assertThrows(
      () => readCrop({ path, frames: 4, position: 0.99, ...RAW }),
      NpyError,
      "value NaN in band 0, frame 16",
    );
  }));

Deno.test("damaged and foreign .npy files are refused with what is wrong", () =>
  inTempDir((dir) => {
    const path = join(dir, "a.npy");
    const refused = (message: string) =>
      assertThrows(() => readCrop({ path, frames: 4, position: 0, ...RAW }), NpyError, message);
    refused("cannot be read");
    writeNpy(path, 5);
    Deno.truncateSync(path, 128 + 80 * 5 * 4 - 1);
    refused(`cut off: ${128 + 1599} of ${128 + 1600} bytes`);
    Deno.truncateSync(path, 50);
    refused("cut off");
    writeNpy(path, 1, { shape: [64, 5], values: new Float32Array(320) });
    refused("shape (64, 5); must be (80, frames)");
    writeNpy(path, 1, { shape: [2, 80, 1], values: new Float32Array(160) });
    refused("shape (2, 80, 1)");
    writeNpy(path, 0);
    refused("no frames");
  }));

Deno.test("blocks give the same bits as the whole: resampling", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(8000, 11_025, 16_000, 22_050, 44_100, 48_000, 7919),
      fc.array(fc.integer({ min: 0, max: 3000 }), { minLength: 1, maxLength: 6 }),
      (rate, sizes) => {
        const total = sizes.reduce((a, b) => a + b, 0);
        const input = Float32Array.from({ length: total }, (_, i) => Math.sin(i * i));
        const resampler = new Resampler(rate, 16_000);
        const parts: number[] = [];
        let at = 0;
        for (const size of sizes) parts.push(...resampler.push(input.subarray(at, at += size)));
        parts.push(...resampler.finish());
        assertEquals(Float32Array.from(parts), resample(input, rate, 16_000));
      },
    ),
    { numRuns: 60 },
  );
});

Deno.test("blocks give the same bits as the whole: files, WAV longer than a block too", () =>
  inTempDir(async (dir) => {
    const long = join(dir, "long.wav");
    const rate = 48_000;
    const samples = Float32Array.from({ length: 2_200_000 }, (_, i) => Math.sin(i * i) / 2);
    Deno.writeFileSync(long, wav(samples, rate));
    const files = ["flac_16bit_mono.flac", "ogg_vorbis.ogg", "mulaw_8000.wav", "one_sample.wav"];
    for (const path of [long, ...files.map((file) => join(GOLDEN, file))]) {
      const blocks = await Array.fromAsync(waveformBlocks(path));
      const whole = await loadWaveform(path);
      assertEquals(blocks.reduce((sum, block) => sum + block.length, 0), whole.length);
      let at = 0;
      for (const block of blocks) {
        assert(block.every((x, i) => x === whole[at + i]), path);
        at += block.length;
      }
    }
  }));

Deno.test("workers give what the calling thread gives, errors and pieces included", () =>
  inTempDir(async (dir) => {
    const path = join(dir, "noise.wav");
    Deno.writeFileSync(
      path,
      wav(Float32Array.from({ length: 50_000 }, (_, i) => Math.sin(i * i) / 2), 16_000),
    );
    const broken = join(dir, "broken.wav");
    Deno.writeTextFileSync(broken, "RIFF");
    writeNpy(join(dir, "a.npy"), 20);
    const request = { path, samples: 12_000, overlap: 240, fewest: 1 };
    const results = [];
    for (const workers of [0, 2]) {
      using pool = new WorkerPool(workers);
      const crop = { path: join(dir, "a.npy"), frames: 7, position: 0.5, ...RAW };
      const values = await Promise.all([
        pool.run("waveform", { path }),
        pool.run("crop", crop),
        ...Array.from({ length: 9 }, () => pool.run("waveform", { path })),
      ]);
      const pieces = (await Array.fromAsync(pool.pieces(request))).map(({ samples }) => samples);
      await assertRejects(() => pool.run("waveform", { path: broken }), FileError);
      await assertRejects(
        () => Array.fromAsync(pool.pieces({ ...request, fewest: 60_000 })),
        FileError,
        "50000 samples are too few",
      );
      await assertRejects(
        () => Array.fromAsync(pool.pieces({ ...request, path: broken })),
        FileError,
      );
      results.push([...values, ...pieces]);
      assertEquals(pieces.map(({ length }) => length), [12_000, 12_000, 12_000, 12_000, 2960]);
      pieces.forEach((piece, i) =>
        assertEquals(piece, values[0].slice(i * 11_760, i * 11_760 + piece.length))
      );
    }
    assertEquals(results[0], results[1]);
  }));

Deno.test("the kinds of --data: folders of audio and of .npy, manifests of both, mixed and weighted", () =>
  inTempDir(async (dir) => {
    const folder = (name: string) => {
      Deno.mkdirSync(join(dir, name, "deep"), { recursive: true });
      return join(dir, name);
    };
    const [audio, npy, both, empty] = ["audio", "npy", "both", "empty"].map(folder);
    const tone = wav(Float32Array.from({ length: 8000 }, (_, i) => Math.sin(i / 5)), 16_000);
    for (const name of ["x.wav", "deep/y.wav"]) Deno.writeFileSync(join(audio, name), tone);
    for (const name of ["x.npy", "deep/y.npy", "z.NPY"]) writeNpy(join(npy, name), 20);
    Deno.writeFileSync(join(both, "x.wav"), tone);
    writeNpy(join(both, "x.npy"), 20);
    const described = async (...paths: string[]) => {
      const source = await dataSource(paths);
      return Array.from(
        { length: source.size },
        (_, i) => source.describe(i).slice(dir.length + 1),
      );
    };
    assertEquals(await described(audio), ["audio/deep/y.wav", "audio/x.wav"]);
    assertEquals(await described(`${npy}/`), ["npy/deep/y.npy", "npy/x.npy", "npy/z.NPY"]);
    const list = join(dir, "list.tsv");
    Deno.writeTextFileSync(list, `${dir}\nboth/x.npy\t20\nboth/x.wav\t8000\n`);
    assertEquals(await described(list, audio), [
      "both/x.npy",
      "both/x.wav",
      "audio/deep/y.wav",
      "audio/x.wav",
    ]);
    await assertRejects(() => dataSource([both]), NoDataError, "1 audio files and 1 .npy files");
    await assertRejects(() => dataSource([empty]), NoDataError, "no data in folder");
    await assertRejects(() => dataSource([join(both, "x.wav")]), NoDataError, "ends in .tsv");
    await assertRejects(
      () => dataSource([audio, npy], { weights: [1] }),
      UsageError,
      "1 weights for 2",
    );
    // A store's own list is taken before its files.
    Deno.writeTextFileSync(join(npy, "manifest.tsv"), `/moved\nx.npy\t20\n`);
    assertEquals(await described(npy), ["npy/x.npy"]);
    // What the rows come from.
    const frames = 16;
    const source = await dataSource([audio, list], { weights: [1, 3] });
    const loader = new Loader({ source, batch: 64, cropSamples: samplesOf(frames), seed: 1 });
    const batch = await loader.next();
    batch.clips.forEach((clip, row) => assertEquals(batch.kinds[row] === "logmel", clip === 2));
    assert(batch.clips.filter((clip) => clip > 1).length > 32);
    using device = await openDevice();
    using frontend = new LogMel(device);
    using input = batchLogMel(device, frontend, batch);
    assertEquals(input.shape, [64, 80, frames]);
    const values = await input.data();
    const size = 80 * frames;
    const alone = { ...batch, logmels: undefined, kinds: batch.kinds };
    using waves = batchLogMel(device, frontend, alone);
    const heard = await waves.data();
    batch.kinds.forEach((kind, row) => {
      const wanted = kind === "logmel" ? batch.logmels! : heard;
      assertEquals(
        values.slice(row * size, (row + 1) * size),
        wanted.slice(row * size, (row + 1) * size),
      );
    });
    const stored = { kinds: batch.kinds, logmels: batch.logmels!, clips: [], epoch: 0 };
    using uploaded = batchLogMel(device, frontend, stored);
    assertEquals(uploaded.shape, [64, 80, frames]);
    assertEquals(await uploaded.data(), batch.logmels);
  }));

Deno.test("a store's statistics are taken where they are asked for, several by weight", () =>
  inTempDir(async (dir) => {
    const store = (name: string, stats?: unknown) => {
      const path = join(dir, name);
      Deno.mkdirSync(path);
      writeNpy(join(path, "a.npy"), 20);
      if (stats) Deno.writeTextFileSync(join(path, "stats.json"), JSON.stringify(stats));
      return path;
    };
    const one = store("one", { mean: -6, std: 3, values: 100 });
    const two = store("two", { mean: -8, std: 4, values: 300 });
    const [none, broken] = [store("none"), store("broken", { mean: -6, std: 0, values: 1 })];
    const standardise = "store" as const;
    const of = async (paths: string[], weights?: number[]) =>
      (await dataSource(paths, { standardise, ...(weights && { weights }) })).statistics!;
    assertEquals((await dataSource([one])).statistics, { mean: -7.056, std: 4.193 });
    assertEquals(await of([one]), { mean: -6, std: 3 });
    const pooled = await of([one, two, none]);
    assertEquals(pooled.mean, -7.5);
    assertEquals(pooled.std, Math.sqrt(0.25 * (9 + 36) + 0.75 * (16 + 64) - 56.25));
    assertEquals((await of([one, two], [1, 1])).mean, -7);
    await assertRejects(() => of([none]), UsageError, "there is no");
    await assertRejects(() => of([broken]), UsageError, "is broken");
    const crop = await (await dataSource([one], { standardise })).crop(0, {
      frames: 20,
      position: 0,
    });
    assertEquals(crop!.values[21], Math.fround((valueAt(1, 1) + 6) / 3));
  }));

Deno.test("a .npy file that is damaged is skipped and recorded once", () =>
  inTempDir(async (dir) => {
    for (const name of ["a", "b", "c"]) writeNpy(join(dir, `${name}.npy`), 20);
    Deno.truncateSync(join(dir, "b.npy"), 1000);
    const reported: string[] = [];
    using pool = new WorkerPool(1);
    const source = await dataSource([dir], {
      pool,
      onSkip: (path, reason) => reported.push(`${path}: ${reason}`),
    });
    const loader = new Loader({ source, batch: 4, cropSamples: samplesOf(16), seed: 1, ahead: 1 });
    for (let i = 0; i < 4; i++) {
      assert((await loader.next()).clips.every((clip) => clip !== 1));
    }
    assertEquals(reported, [`${join(dir, "b.npy")}: cut off: 1000 of 6528 bytes`]);
    assertEquals(source.skipped.length, 1);
  }));

Deno.test("a .npy file that is damaged in the middle of an epoch is skipped from then on", () =>
  inTempDir(async (dir) => {
    for (const name of ["a", "b", "c", "d"]) writeNpy(join(dir, `${name}.npy`), 20);
    using pool = new WorkerPool(1);
    const source = await dataSource([dir], { pool });
    const loader = new Loader({ source, batch: 1, cropSamples: samplesOf(16), seed: 1, ahead: 1 });
    const clips = async (count: number) => {
      const seen: number[] = [];
      for (let i = 0; i < count; i++) seen.push(...(await loader.next()).clips);
      return seen;
    };
    assertEquals((await clips(4)).sort(), [0, 1, 2, 3]);
    const [current] = await clips(1);
    // What comes last in this epoch; going back forgets what was read ahead.
    const state = loader.state();
    const order = await clips(3);
    loader.restore(state);
    const [, , last] = order;
    Deno.truncateSync(join(dir, `${"abcd"[last]}.npy`), 1000);
    const rest = [0, 1, 2, 3].filter((it) => it !== last);
    assertEquals([current, ...await clips(2)].sort(), rest);
    assertEquals((await clips(3)).sort(), rest);
    assertEquals(source.skipped.map(({ path }) => path), [join(dir, `${"abcd"[last]}.npy`)]);
  }));
