/** Sources of files: what is decoded again and what is kept. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Prng } from "../../../engine/prng.ts";
import { audioFolderSource } from "../../../train/data/clip_source.ts";
import { dataSource } from "../../../train/data/data_source.ts";
import { WorkerPool } from "../../../train/data/worker_pool.ts";
import { inTempDir, wav } from "../../support/audio_files.ts";

const GOLDEN = new URL("../../golden/audio/", import.meta.url).pathname;

Deno.test("a clip that is asked for again while it is decoded is decoded once", async () => {
  const source = await audioFolderSource([GOLDEN], { cache: { free: 0 } });
  const index = Array.from({ length: source.size }, (_, i) => i)
    .find((i) => source.describe(i).endsWith("ten_ms.wav"))!;
  const [a, b] = await Promise.all([source.load(index), source.load(index)]);
  assert(a !== undefined && a === b);
  assert(a !== await source.load(index), "nothing is kept afterwards");
});

Deno.test("decoded clips are cached within the byte budget", async () => {
  const load = async (cacheBytes: number): Promise<boolean> => {
    const source = await audioFolderSource([GOLDEN], { cache: { free: cacheBytes } });
    const index = Array.from({ length: source.size }, (_, i) => i)
      .find((i) => source.describe(i).endsWith("ten_ms.wav"))!;
    return await source.load(index) === await source.load(index);
  };
  assertEquals(await load(160 * 4), true);
  assertEquals(await load(160 * 4 - 1), false);
});

Deno.test("a clip of minutes is decoded once while the budget lasts, which folders share", async () => {
  const prng = new Prng(4);
  const signal = Float32Array.from({ length: 125 * 4000 }, () => prng.uniform() - 0.5);
  await inTempDir(async (folder) => {
    const paths = ["a", "b"].map((part) => join(folder, part));
    for (const path of paths) {
      await Deno.mkdir(path);
      await Deno.writeFile(join(path, "long.wav"), wav(signal, 4000));
    }
    const crops = async (free: number) => {
      const pool = new WorkerPool(0);
      const run = pool.run.bind(pool) as (...request: unknown[]) => Promise<never>;
      let runs = 0;
      pool.run = (...request: unknown[]) => {
        runs++;
        return run(...request);
      };
      const source = await dataSource(paths, { cache: { free }, pool });
      const found: unknown[] = [];
      for (const position of [0.9, 0.1, 0.5]) {
        for (const clip of [0, 1]) found.push(await source.crop(clip, { frames: 20, position }));
      }
      return { runs, found };
    };
    const bytes = 4 * 125 * 16_000;
    const both = await crops(2 * bytes);
    const one = await crops(2 * bytes - 1);
    const none = await crops(0);
    assertEquals([both.runs, one.runs, none.runs], [2, 4, 6]);
    assertEquals(one.found, both.found);
    assertEquals(none.found, both.found);
  });
});
