/** What is kept between runs, and that damage to it costs nothing but time. */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { openDevice } from "../../../engine/mod.ts";
import { cacheFolder, loadTuning, saveTuning } from "../../../train/io/user_cache.ts";

const variables = (values: Record<string, string>) => (name: string) => values[name];

Deno.test("the cache folder is the platform's, unless the user names one", () => {
  assertEquals(cacheFolder(variables({ TESSERA_CACHE: "/x", HOME: "/h" }), "linux"), "/x");
  assertEquals(cacheFolder(variables({ XDG_CACHE_HOME: "/c", HOME: "/h" }), "linux"), "/c/tessera");
  assertEquals(cacheFolder(variables({ HOME: "/h" }), "linux"), "/h/.cache/tessera");
  assertEquals(cacheFolder(variables({ HOME: "/h" }), "darwin"), "/h/Library/Caches/tessera");
  assertEquals(cacheFolder(variables({ LOCALAPPDATA: "/l" }), "windows"), "/l/tessera");
  assertEquals(cacheFolder(variables({}), "linux"), undefined);
});

Deno.test("measurements come back on the same adapter, and only there", async () => {
  const folder = await Deno.makeTempDir();
  try {
    using device = await openDevice();
    device.tuning.load([["demo/1", { variant: "fast", ratios: { fast: 0.5, slow: 1 } }]]);
    const file = await saveTuning(device, join(folder, "made", "on demand"));
    assertEquals(typeof file, "string");
    using again = await openDevice();
    assertEquals(await loadTuning(again, join(folder, "made", "on demand")), 1);
    assertEquals(again.tuning.entries.get("demo/1"), {
      variant: "fast",
      ratios: { fast: 0.5, slow: 1 },
    });
    using other = await openDevice({ subgroups: false });
    if (device.features.subgroups) {
      assertEquals(await loadTuning(other, join(folder, "made", "on demand")), 0);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a damaged, foreign or missing file is as good as none", async () => {
  const folder = await Deno.makeTempDir();
  try {
    using device = await openDevice();
    assertEquals(await loadTuning(device, folder), 0, "missing");
    const file = (await saveTuning(device, folder))!;
    for (const text of ["", "{", "[]", '{"adapter":"x","entries":{"k":{"variant":3}}}']) {
      await Deno.writeTextFile(file, text);
      assertEquals(await loadTuning(device, folder), 0, text);
    }
    assertEquals(device.tuning.entries.size, 0);
    const notAFolder = join(folder, "file");
    await Deno.writeTextFile(notAFolder, "");
    assertEquals(
      await saveTuning(device, notAFolder),
      undefined,
      "a file where the folder should be",
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
