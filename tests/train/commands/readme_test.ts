/** README's generated tables are current; tests/train/preset_tables.ts writes them. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { openDevice } from "../../../engine/mod.ts";
import { type PresetName, PRESETS } from "../../../model/objectives/presets.ts";
import { README, withTable } from "../../support/readme.ts";
import { memoryColumns, memoryOf, presetRows, recipeTable } from "../../support/preset_tables.ts";

const readme = Deno.readTextFileSync(README);

Deno.test("README: presets have the sizes, parameters and operations of the code", () => {
  for (const cells of presetRows()) {
    const line = readme.split("\n").find((it) => it.startsWith(`| ${cells[0]}`)) ?? "";
    assertEquals(line.split("|").slice(1, 1 + cells.length).map((it) => it.trim()), cells);
  }
  // SPEC section 2.9 with its two position tables: 191 x (768 + 512) more.
  assertStringIncludes(presetRows()[2][5], "118.3 M");
});

Deno.test("README: presets need the memory that the table says", async () => {
  using device = await openDevice();
  const written = memoryColumns(readme);
  (Object.keys(PRESETS) as PresetName[]).forEach((name, i) => {
    memoryOf(device, name).forEach((bytes, column) => {
      const text = written[i][column];
      // Kernel variants of another adapter may want other intermediate results.
      assert(
        Math.abs(bytes - text) < 0.1 * text,
        `${name}, column ${column}: ${bytes}, not ${text}`,
      );
    });
  });
});

Deno.test("README: the table of recipes is the code's", () => {
  assertEquals(readme, withTable(readme, "recipes", recipeTable()));
});
