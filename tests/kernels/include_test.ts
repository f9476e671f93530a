/** The index of WGSL fragments against the folder, and who includes what. */
import { assert, assertEquals } from "@std/assert";
import { fragmentIndex } from "../../kernels/include/generate.ts";
import { fragments } from "../../kernels/include/mod.ts";

const KERNELS = new URL("../../kernels/", import.meta.url);

Deno.test("kernels/include/mod.ts lists the fragments of its folder", async () => {
  assertEquals(
    await Deno.readTextFile(new URL("include/mod.ts", KERNELS)),
    fragmentIndex(),
    "run `deno run --allow-read --allow-write kernels/include/generate.ts`",
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
