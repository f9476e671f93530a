/** The index of WGSL fragments and the map of kernels against their folders. */
import { assert, assertEquals } from "@std/assert";
import { fragmentIndex } from "../../kernels/include/generate.ts";
import { fragments } from "../../kernels/include/mod.ts";

const KERNELS = new URL("../../kernels/", import.meta.url);

Deno.test("kernels/include/mod.ts lists the fragments of its folder", async () => {
  assertEquals(
    await Deno.readTextFile(new URL("include/mod.ts", KERNELS)),
    fragmentIndex(),
    "run `deno task docs`",
  );
});

Deno.test("every included fragment exists, and every fragment is included", async () => {
  const included = new Set<string>();
  for (const folder of [KERNELS, new URL("include/", KERNELS)]) {
    for await (const { name } of Deno.readDir(folder)) {
      if (!name.endsWith(".wgsl")) continue;
      const text = await Deno.readTextFile(new URL(name, folder));
      for (const [, fragment] of text.matchAll(/^\s*\/\/:include (\w+)$/gm)) {
        assert(fragment in fragments, `${name} includes ${fragment}, which does not exist`);
        included.add(fragment);
      }
    }
  }
  assertEquals([...included].sort(), Object.keys(fragments).sort());
});

Deno.test("kernels/README.md maps every kernel and every fragment", async () => {
  const map = await Deno.readTextFile(new URL("README.md", KERNELS));
  for (const folder of [KERNELS, new URL("include/", KERNELS)]) {
    for await (const { name } of Deno.readDir(folder)) {
      const row = new RegExp(`^\\| ${name.replace(".wgsl", "")} +\\|`, "m");
      assert(!name.endsWith(".wgsl") || row.test(map), `${name} is not in the map`);
    }
  }
});
