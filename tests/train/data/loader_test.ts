/** The loader: order, threads, what it skips and how it goes on. */
import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { join } from "@std/path";
import { FolderError, listAudioFiles } from "../../../train/io/folders.ts";
import {
  audioFolderSource,
  type ClipSource,
  type SkippedClip,
  syntheticSource,
  waveformCrop,
} from "../../../train/data/clip_source.ts";
import {
  type Batch,
  Loader,
  type LoaderShare,
  type LoaderState,
} from "../../../train/data/loader.ts";
import { NoDataError } from "../../../train/errors.ts";

const GOLDEN = new URL("../../golden/audio/", import.meta.url).pathname;
const CROP = 9 * 160 + 400;

/**
 * Clips whose samples say which clip and position they are: value = 1000000 * clip + position + 1
 * (exact in float32).
 */
function countingSource(
  lengths: readonly number[],
  bad: readonly number[] = [],
): ClipSource & { readonly loads: number[] } {
  const skipped: SkippedClip[] = [];
  const loads: number[] = [];
  return {
    size: lengths.length,
    name: "counting source",
    skipped,
    loads,
    describe: (index) => `clip ${index}`,
    async crop(index, place) {
      loads.push(index);
      // The later a clip in the list, the earlier it is there.
      for (let i = index; i < lengths.length; i++) await Promise.resolve();
      if (bad.includes(index)) {
        if (!skipped.some(({ path }) => path === `clip ${index}`)) {
          skipped.push({ path: `clip ${index}`, reason: "bad" });
        }
        return undefined;
      }
      const waveform = Float32Array.from(
        { length: lengths[index] },
        (_, i) => 1e6 * index + i + 1,
      );
      return waveformCrop(waveform, place);
    },
  };
}

async function take(loader: Loader, count: number): Promise<Batch[]> {
  const batches: Batch[] = [];
  for (let i = 0; i < count; i++) batches.push(await loader.next());
  return batches;
}

async function withFolder(
  fill: (folder: string) => Promise<void>,
  use: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await fill(folder);
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("every epoch visits each clip once, and batches stay full across epochs", async () => {
  const source = countingSource([5000, 5000, 5000, 5000, 5000]);
  const loader = new Loader({ source, batch: 3, cropSamples: CROP, seed: 1 });
  const batches = await take(loader, 10);
  for (const batch of batches) {
    assertEquals(batch.samples!.length, 3 * CROP);
    assertEquals(batch.clips.length, 3);
  }
  const visits = batches.flatMap((batch) => batch.clips);
  const epochs = Array.from({ length: 6 }, (_, e) => visits.slice(5 * e, 5 * e + 5));
  for (const epoch of epochs) {
    assertEquals([...epoch].sort(), [0, 1, 2, 3, 4]);
  }
  assert(new Set(epochs.map(String)).size > 1, "the order changes");
  assertEquals(batches.map((b) => b.epoch), [0, 0, 1, 1, 2, 3, 3, 4, 4, 5]);
});

Deno.test("crops start on every frame from 0 to T - cropFrames and hold the clip's samples", async () => {
  // 5 frames and 70 samples more than a crop: starts 0 to 5.
  const source = countingSource([CROP + 5 * 160 + 70]);
  const loader = new Loader({ source, batch: 50, cropSamples: CROP, seed: 1 });
  const starts = new Map<number, number>();
  for (const { samples } of await take(loader, 12)) {
    for (let row = 0; row < 50; row++) {
      const crop = samples!.subarray(row * CROP, (row + 1) * CROP);
      const start = crop[0] - 1;
      assert(crop.every((x, i) => x === start + 1 + i));
      starts.set(start, (starts.get(start) ?? 0) + 1);
    }
  }
  assertEquals([...starts.keys()].sort((a, b) => a - b), [0, 160, 320, 480, 640, 800]);
  // 100 expected each, standard deviation about 9.
  for (const count of starts.values()) assert(count > 50 && count < 150);
});

Deno.test("clips shorter than a crop are padded with silence at their end", async () => {
  for (const length of [1, 399, CROP - 1, CROP]) {
    const source = countingSource([length]);
    const loader = new Loader({ source, batch: 2, cropSamples: CROP, seed: 1 });
    const { samples } = await loader.next();
    for (const row of [0, 1]) {
      const crop = samples!.subarray(row * CROP, (row + 1) * CROP);
      assert(crop.every((x, i) => x === (i < length ? i + 1 : 0)));
    }
  }
});

Deno.test("unusable clips are left out, recorded once, and do not shrink a batch", async () => {
  const source = countingSource([5000, 5000, 5000, 5000], [1, 3]);
  const loader = new Loader({ source, batch: 3, cropSamples: CROP, seed: 5 });
  for (const { clips } of await take(loader, 8)) {
    assertEquals(clips.length, 3);
    assert(clips.every((clip) => clip === 0 || clip === 2));
  }
  assertEquals(loader.skipped.map(({ path }) => path).sort(), ["clip 1", "clip 3"]);
});

Deno.test("a source without one usable clip ends in NoDataError, again at every call", async () => {
  const source = countingSource([100, 100, 100], [0, 1, 2]);
  const loader = new Loader({ source, batch: 2, cropSamples: CROP, seed: 1 });
  for (let call = 0; call < 2; call++) {
    await assertRejects(() => loader.next(), NoDataError, "all 3 files were skipped");
  }
  const empty = countingSource([]);
  assertThrows(
    () => new Loader({ source: empty, batch: 1, cropSamples: CROP, seed: 1 }),
    NoDataError,
    "counting source",
  );
});

Deno.test("the same seed gives identical batches and another seed does not", async () => {
  const make = (seed: number): Loader =>
    new Loader({
      source: syntheticSource({ size: 9, seed: 2, samples: 2 * CROP }),
      batch: 4,
      cropSamples: CROP,
      seed,
    });
  const first = await take(make(7), 6);
  assertEquals(await take(make(7), 6), first);
  assertNotEquals(
    (await take(make(8), 6)).map((b) => b.clips),
    first.map((b) => b.clips),
  );
});

Deno.test("a restored loader goes on exactly where the state was taken", async () => {
  const options = {
    batch: 3,
    cropSamples: CROP,
    seed: 11,
  };
  const lengths = [9000, 7000, 100, 8000, 9999, 5000, 7777];
  await fc.assert(
    fc.asyncProperty(fc.nat(9), async (before) => {
      const loader = new Loader({ ...options, source: countingSource(lengths, [4]) });
      await take(loader, before);
      const saved = JSON.parse(JSON.stringify(loader.state())) as LoaderState;
      const expected = await take(loader, 5);
      const resumed = new Loader({ ...options, source: countingSource(lengths, [4]) });
      resumed.restore(saved);
      assertEquals(resumed.state(), saved);
      assertEquals(await take(resumed, 5), expected);
      loader.restore(saved);
      assertEquals(await take(loader, 5), expected, "also on a running loader");
    }),
    { numRuns: 10 },
  );
});

Deno.test("a state of another data set is refused", () => {
  const loader = (count: number): Loader =>
    new Loader({
      source: countingSource(Array(count).fill(5000)),
      batch: 1,
      cropSamples: CROP,
      seed: 1,
    });
  assertThrows(
    () => loader(3).restore(loader(2).state()),
    RangeError,
    "2 clips then, counting source has 3 now",
  );
});

Deno.test("batches are prepared ahead while the caller works on another, and no more than asked for", async () => {
  for (const ahead of [1, 3]) {
    const source = countingSource(Array(100).fill(5000));
    const loader = new Loader({ source, batch: 4, cropSamples: CROP, seed: 1, ahead });
    await loader.next();
    await new Promise((resolve) => setTimeout(resolve, 20));
    assertEquals(source.loads.length, 4 * (1 + ahead));
  }
});

Deno.test("rows are read ahead without waiting for those before them, also past unusable clips", async () => {
  const loads: number[] = [];
  const stuck: ClipSource = {
    ...countingSource(Array(100).fill(5000)),
    crop: (index) => {
      loads.push(index);
      return new Promise(() => {});
    },
  };
  new Loader({ source: stuck, batch: 4, cropSamples: CROP, seed: 1, ahead: 2 }).next();
  await new Promise((resolve) => setTimeout(resolve, 0));
  assertEquals(loads.length, 4 * (1 + 2));

  const bad = Array.from({ length: 33 }, (_, i) => 3 * i);
  const source = countingSource(Array(100).fill(5000), bad);
  const loader = new Loader({ source, batch: 4, cropSamples: CROP, seed: 1, ahead: 2 });
  for (let batches = 1; batches <= 12; batches++) {
    await loader.next();
    await new Promise((resolve) => setTimeout(resolve, 5));
    const usable = source.loads.filter((clip) => !bad.includes(clip)).length;
    assertEquals(usable, 4 * (batches + 2));
  }
});

Deno.test("the rows do not depend on how many are in a batch, with unusable clips too", async () => {
  const rows = async (batch: number, count: number) => {
    const source = countingSource([9000, 7000, 100, 8000, 9999, 5000, 7777], [4, 6]);
    const batches = await take(new Loader({ source, batch, cropSamples: CROP, seed: 3 }), count);
    return batches.flatMap(({ clips, samples }) =>
      clips.map((clip, row) => [clip, ...samples!.subarray(row * CROP, (row + 1) * CROP)])
    );
  };
  const one = await rows(1, 24);
  assertEquals(await rows(4, 6), one);
  assertEquals(await rows(12, 2), one);
});

Deno.test("parts are drawn from in proportion to their weights, each clip once per epoch of its part", async () => {
  const parts = [{ name: "a", size: 3, weight: 3 }, { name: "b", size: 7, weight: 1 }];
  const make = () =>
    new Loader({
      source: { ...countingSource(Array(10).fill(5000), [1, 8]), parts },
      batch: 25,
      cropSamples: CROP,
      seed: 4,
    });
  const clips = (await take(make(), 40)).flatMap((batch) => batch.clips);
  const [a, b] = [clips.filter((it) => it < 3), clips.filter((it) => it >= 3)];
  // 750 expected, standard deviation 14.
  assert(Math.abs(a.length - 750) < 70, `${a.length} of 1000`);
  for (const [of, usable] of [[a, [0, 2]], [b, [3, 4, 5, 6, 7, 9]]]) {
    for (let i = 0; i + usable.length <= of.length; i += usable.length) {
      assertEquals(of.slice(i, i + usable.length).sort(), usable);
    }
  }
  const loader = make();
  await take(loader, 7);
  const saved = JSON.parse(JSON.stringify(loader.state())) as LoaderState;
  const resumed = make();
  resumed.restore(saved);
  assertEquals(await take(resumed, 3), await take(loader, 3));
});

Deno.test("the position after some clips is known without taking them", async () => {
  const parts = [{ name: "a", size: 3, weight: 3 }, { name: "b", size: 7, weight: 1 }];
  for (const [cropsPerClip, own] of [[1, {}], [1, { parts }], [2, { parts }]] as const) {
    const source = { ...countingSource(Array(10).fill(5000)), ...own };
    const loader = new Loader({ source, batch: 6, cropSamples: CROP, seed: 4, cropsPerClip });
    assertEquals(loader.stateAfter(0), loader.state());
    for (let taken = 1; taken < 9; taken++) {
      await loader.next();
      assertEquals(loader.stateAfter(taken * 6 / cropsPerClip), loader.state());
    }
  }
});

Deno.test("a part with nothing usable is named, and so is one with nothing in it", async () => {
  const source = countingSource(Array(4).fill(5000), [2, 3]);
  const parts = [{ name: "good", size: 2, weight: 1 }, { name: "folder bad", size: 2, weight: 1 }];
  const options = { batch: 8, cropSamples: CROP, seed: 1 };
  await assertRejects(
    () => new Loader({ ...options, source: { ...source, parts } }).next(),
    NoDataError,
    "folder bad: all 2 files were skipped",
  );
  const empty = [parts[0], { name: "empty", size: 0, weight: 1 }];
  assertThrows(
    () => new Loader({ ...options, source: { ...source, parts: empty } }),
    NoDataError,
    "empty has no clips",
  );
});

Deno.test("clips with several crops: one after the other, the first as with one, and nobody waits for bad ones", async () => {
  const lengths = [9000, 7000, 100, 8000, 9999, 5000, 7777];
  const make = (batch: number, crops: number) =>
    new Loader({
      source: countingSource(lengths, [4, 6]),
      ...{ batch, cropSamples: CROP, seed: 3, cropsPerClip: crops },
    });
  const rows = (batches: readonly Batch[]) =>
    batches.flatMap(({ clips, samples }) =>
      clips.map((clip, row) => [clip, ...samples!.subarray(row * CROP, (row + 1) * CROP)])
    );
  const one = rows(await take(make(4, 1), 5));
  const three = rows(await take(make(12, 3), 5));
  assertEquals(three.filter((_, i) => i % 3 === 0), one);
  const starts = one.map((_, i) => three.slice(3 * i, 3 * i + 3).map((it) => it[1]));
  for (const [i, [clip]] of one.entries()) {
    for (const row of three.slice(3 * i, 3 * i + 3)) assertEquals(row[0], clip);
    // A clip that is longer than the crop is cropped anew.
    assert(lengths[clip] === 100 || new Set(starts[i]).size > 1, `${starts[i]} of clip ${clip}`);
  }
  const loader = make(6, 2);
  await take(loader, 4);
  const resumed = make(6, 2);
  resumed.restore(JSON.parse(JSON.stringify(loader.state())));
  assertEquals(await take(resumed, 3), await take(loader, 3));
});

Deno.test("crops are played at speeds within the range, each at its own", async () => {
  // A ramp says by its slope how fast it is played.
  const source = { ...countingSource([9000, 7000, 8000]) };
  const loader = (speeds: [number, number]) =>
    new Loader({ source, batch: 60, cropSamples: CROP, seed: 1, cropsPerClip: 2, speeds });
  const speeds = async (range: [number, number]) => {
    const { samples } = await loader(range).next();
    return Array.from({ length: 60 }, (_, row) => {
      const y = samples!.subarray(row * CROP, (row + 1) * CROP);
      return (y[CROP - 1] - y[1]) / (CROP - 2);
    });
  };
  const found = await speeds([0.5, 2]);
  // The ramp's values are up to 2e6, of which f32 keeps eighths.
  assert(found.every((it) => it > 0.499 && it < 2.001), `${found}`);
  assert(Math.min(...found) < 0.6 && Math.max(...found) > 1.7, `${found}`);
  // Uniform in pitch: as many below 1 as above it, 30 with a deviation of 4.
  const slow = found.filter((it) => it < 1).length;
  assert(slow > 14 && slow < 46, `${slow} of 60`);
  assert((await speeds([1.25, 1.25])).every((it) => Math.abs(it - 1.25) < 1e-3));
  const played = (range?: [number, number]) =>
    new Loader({ source, batch: 4, cropSamples: CROP, seed: 1, ...range && { speeds: range } })
      .next();
  assertEquals(await played([1, 1]), await played());
});

Deno.test("overlapping calls are answered in order", async () => {
  const make = (): Loader =>
    new Loader({
      source: countingSource(Array(20).fill(5000)),
      batch: 2,
      cropSamples: CROP,
      seed: 1,
    });
  const loader = make();
  const together = await Promise.all([loader.next(), loader.next(), loader.next()]);
  assertEquals(together, await take(make(), 3));
});

Deno.test("batch and crop sizes that make no sense are refused", () => {
  const source = countingSource([5000]);
  for (const cropSamples of [0, 399, 401, 16000]) {
    assertThrows(
      () => new Loader({ source, batch: 1, cropSamples, seed: 1 }),
      RangeError,
      "cropSamples",
    );
  }
  for (
    const [cropsPerClip, speeds] of [[3, [1, 1]], [0, [1, 1]], [1, [2, 1]], [1, [0, 1]]] as const
  ) {
    assertThrows(
      () => new Loader({ source, batch: 4, cropSamples: CROP, seed: 1, cropsPerClip, speeds }),
      RangeError,
      cropsPerClip === 1 ? "speeds" : "cropsPerClip",
    );
  }
  for (const batch of [0, -1, 1.5]) {
    assertThrows(
      () => new Loader({ source, batch, cropSamples: CROP, seed: 1 }),
      RangeError,
      "batch",
    );
  }
});

Deno.test("a folder of good and bad files gives finite batches and lists the bad ones with reasons", async () => {
  const reported: string[] = [];
  const source = await audioFolderSource([GOLDEN], {
    onSkip: (path, reason) => reported.push(`${path}: ${reason}`),
  });
  const loader = new Loader({ source, batch: 5, cropSamples: CROP, seed: 1 });
  for (const { samples } of await take(loader, 6)) {
    assert(samples!.every(Number.isFinite));
  }
  const skipped = loader.skipped.map(({ path }) => path.slice(GOLDEN.length)).sort();
  assertEquals(skipped, [
    "empty.wav",
    "flac_damaged_middle.flac",
    "no_samples.wav",
    "png_named.ogg",
    "random_bytes.mp3",
    "text_named.wav",
    "truncated_header.wav",
  ]);
  assertEquals(
    reported,
    loader.skipped.map(({ path, reason }) => `${path}: ${reason}`),
  );
});

Deno.test("a folder of nothing but bad files ends in NoDataError that names it and the count", async () => {
  await withFolder(
    async (folder) => {
      for (const name of ["a.wav", "b.mp3", "c.flac"]) {
        await Deno.writeTextFile(join(folder, name), "not audio at all");
      }
    },
    async (folder) => {
      const source = await audioFolderSource([folder]);
      const loader = new Loader({ source, batch: 8, cropSamples: CROP, seed: 1 });
      const error = await assertRejects(() => loader.next(), NoDataError, "all 3 files");
      assert((error as Error).message.includes(folder));
      assertEquals(loader.skipped.length, 3);
    },
  );
});

Deno.test("a folder without audio files is NoDataError, a missing one FolderError", async () => {
  await withFolder(
    (folder) => Deno.writeTextFile(join(folder, "readme.txt"), "hello"),
    async (folder) => {
      await assertRejects(() => audioFolderSource([folder]), NoDataError, folder);
      await assertRejects(
        () => audioFolderSource([join(folder, "absent")]),
        FolderError,
        "no such folder",
      );
      await assertRejects(
        () => audioFolderSource([join(folder, "readme.txt")]),
        FolderError,
        "not a folder",
      );
    },
  );
});

Deno.test("files are listed recursively in one fixed order, by extension in any case", async () => {
  await withFolder(
    async (folder) => {
      await Deno.mkdir(join(folder, "b", "deep"), { recursive: true });
      for (
        const name of [
          "z.wav",
          "B.FLAC",
          "a.ogg",
          "a.txt",
          ".hidden.wav",
          "b/2.mp3",
          "b/10.mp3",
          "b/deep/x.oga",
          "c.opus",
        ]
      ) await Deno.writeTextFile(join(folder, name), "");
    },
    async (folder) => {
      const names = (await listAudioFiles(folder)).map((p) => p.slice(folder.length + 1));
      assertEquals(names, [
        "B.FLAC",
        "a.ogg",
        "b/10.mp3",
        "b/2.mp3",
        "b/deep/x.oga",
        "c.opus",
        "z.wav",
      ]);
    },
  );
});

Deno.test({
  name: "links are followed once, loops end and a broken link is listed",
  ignore: Deno.build.os === "windows",
  async fn(): Promise<void> {
    await withFolder(
      async (folder) => {
        await Deno.mkdir(join(folder, "sub"));
        await Deno.writeTextFile(join(folder, "sub", "one.wav"), "");
        await Deno.symlink(folder, join(folder, "sub", "loop"));
        await Deno.symlink(join(folder, "gone"), join(folder, "broken.wav"));
        await Deno.symlink(join(folder, "sub", "one.wav"), join(folder, "two.wav"));
      },
      async (folder) => {
        const names = (await listAudioFiles(folder)).map((p) => p.slice(folder.length + 1));
        assertEquals(names, ["broken.wav", "sub/one.wav", "two.wav"]);
      },
    );
  },
});

/** Groups of processes, as so many loaders in this one see them. */
function groupsOf(size: number): LoaderShare["group"][] {
  let round = Promise.withResolvers<string[]>();
  let texts: string[] = [];
  let given = 0;
  return Array.from({ length: size }, (_, rank) => ({
    rank,
    size,
    gather: (text: string) => {
      const { promise } = round;
      texts[rank] = text;
      if (++given === size) {
        round.resolve(texts);
        round = Promise.withResolvers();
        [texts, given] = [[], 0];
      }
      return promise;
    },
  }));
}

Deno.test("processes that share rows have those of one among them, and hear of unusable clips", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        clips: fc.integer({ min: 3, max: 12 }),
        bad: fc.uniqueArray(fc.nat(11), { maxLength: 8 }),
        size: fc.integer({ min: 1, max: 4 }),
        passes: fc.integer({ min: 1, max: 3 }),
        batch: fc.integer({ min: 1, max: 3 }),
        crops: fc.integer({ min: 1, max: 2 }),
        weights: fc.boolean(),
        seed: fc.nat(1000),
      }),
      async ({ clips, bad, size, passes, batch: each, crops, weights, seed }) => {
        const batch = each * crops;
        // One clip of each part stays usable.
        const unusable = bad.filter((it) => it !== 0 && it !== clips - 1);
        const half = Math.ceil(clips / 2);
        const parts = [
          { name: "a", size: half, weight: 1 },
          { name: "b", size: clips - half, weight: 2 },
        ];
        const source = () => ({
          ...countingSource(Array(clips).fill(4000), unusable),
          ...weights && { parts },
        });
        const alone = source();
        const one = new Loader({
          source: alone,
          batch,
          cropSamples: CROP,
          seed,
          cropsPerClip: crops,
        });
        const groups = groupsOf(size);
        const sources = groups.map(source);
        const heard: string[][] = groups.map(() => []);
        const loaders = groups.map((group, rank) =>
          new Loader({
            ...{ source: sources[rank], batch, cropSamples: CROP, seed, cropsPerClip: crops },
            share: { group, passes, onSkip: ({ path }) => heard[rank].push(path) },
          })
        );
        const isOver = () => one.state().parts.every(({ epoch }) => epoch > 0);
        for (let update = 0; update < 6 || !isOver(); update++) {
          const expected = await take(one, size * passes);
          const found = (await Promise.all(loaders.map((it) => take(it, passes)))).flat();
          assertEquals(found.map(({ clips }) => clips), expected.map(({ clips }) => clips));
          assertEquals(found.map(({ samples }) => samples), expected.map(({ samples }) => samples));
          for (const loader of loaders) assertEquals(loader.state(), one.state());
          if (update === 4) {
            // As after a resume: what was found unusable is forgotten.
            const state = one.state();
            for (const loader of loaders) loader.restore(state);
          }
        }
        // Every clip came up.
        const bads = unusable.filter((it) => it < clips).map((it) => `clip ${it}`);
        for (const [rank, { skipped }] of sources.entries()) {
          const known = new Set([...heard[rank], ...skipped.map(({ path }) => path)]);
          assertEquals([...known].sort(), bads.sort());
        }
      },
    ),
    { numRuns: 30 },
  );
});
