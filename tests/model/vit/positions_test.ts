/** Position tables against golden values, and the number of parameters that sizes make. */
import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { openDevice } from "../../../engine/mod.ts";
import { readSafetensors } from "../../../engine/formats/safetensors.ts";
import { studentSpecs } from "../../../model/objectives/matpac.ts";
import { cropPositions, sinCosPositions, sinCosPositions1d } from "../../../model/vit/positions.ts";
import { PRESETS } from "../../../model/objectives/presets.ts";
import { patchGrid } from "../../../model/vit/geometry.ts";
import { lossWeights, RECIPES } from "../../../model/objectives/recipe.ts";
import { blockSpecs } from "../../../model/vit/parameter_specs.ts";
import { headSpecs } from "../../../model/vit/projection_head.ts";
import type { ParameterSpec } from "../../../model/vit/parameter_arena.ts";

const count = (specs: readonly ParameterSpec[]): number =>
  specs.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);

Deno.test("positions have the golden values of model/README.md", () => {
  const [dim, rows, columns] = [768, 5, 38];
  const table = sinCosPositions(dim, rows, columns);
  const at = (row: number, column: number) => table[row * dim + column];
  assertEquals(table.length, 191 * dim);
  for (let j = 0; j < dim; j++) {
    assertEquals(at(0, j), 0);
    // Row 1 is time 0, frequency 0: sines 0, cosines 1, by quarters.
    assertEquals(at(1, j), Math.floor(j / 192) % 2);
  }
  const golden: [number, number, number][] = [
    [2, 0, 0.84147098],
    [2, 1, 0.81525065],
    [39, 384, 0.84147098],
    [190, 0, -0.64353813],
    [190, 200, 0.99718392],
    [190, 767, 0.99999991],
  ];
  for (const [row, column, value] of golden) assertAlmostEquals(at(row, column), value, 1e-7);
  assertThrows(() => sinCosPositions(6, 1, 1), RangeError);
});

Deno.test("MSM-MAE's position tables are those of the reference", () => {
  const file = new URL("../../golden/msm_mae_step.safetensors", import.meta.url);
  const { tensors } = readSafetensors(Deno.readFileSync(file));
  const tables: [string, Float32Array, number[]][] = [
    ["init.decoder_pos_embed", sinCosPositions1d(18, 30), [1, 31, 18]],
    ["init.pos_embed", sinCosPositions(24, 5, 6), [1, 31, 24]],
  ];
  for (const [name, table, shape] of tables) {
    const { data, shape: stored } = tensors.get(name)!;
    assertEquals([...stored], shape);
    // Both are rounded from float64; libraries differ in the last bit of a sine.
    table.forEach((value, i) => assertAlmostEquals(value, (data as Float32Array)[i], 1e-7));
  }
  // p / 10000^(2 floor(j / 2) / 18) by hand: sin 1, cos 1, sin of 2 / 10000^(1 / 9).
  const at = (row: number, column: number) => tables[0][1][row * 18 + column];
  assertAlmostEquals(at(2, 0), 0.84147098, 1e-7);
  assertAlmostEquals(at(2, 1), 0.54030231, 1e-7);
  assertAlmostEquals(at(3, 2), Math.sin(2 / 2.7825594), 1e-7);
  assertEquals([at(0, 5), at(1, 4), at(1, 5)], [0, 0, 1]);
});

Deno.test("a cropped table is the first columns of each row, class token or not", async () => {
  using device = await openDevice();
  const [rows, columns, kept, width] = [3, 7, 4, 8];
  const values = sinCosPositions(width, rows, columns);
  using whole = device.tensor(values, [1, 1 + rows * columns, width]);
  using cut = cropPositions(whole, { rows, columns }, kept);
  // Two-dimensional positions do not depend on how many columns there are.
  assertEquals(await cut.data(), sinCosPositions(width, rows, kept));
  using without = device.tensor(values.subarray(width), [1, rows * columns, width]);
  using cutWithout = cropPositions(without, { rows, columns }, kept);
  assertEquals(await cutWithout.data(), sinCosPositions(width, rows, kept).subarray(width));
  assertEquals(cropPositions(whole, { rows, columns }, columns), whole);
  for (const wrong of [0, 8, 1.5]) {
    assertThrows(() => cropPositions(whole, { rows, columns }, wrong), RangeError, "7 columns");
  }
  assertThrows(() => cropPositions(whole, { rows, columns: 6 }, 2), RangeError, "3 x 6 patches");
});

Deno.test("parameter counts are those of model/README.md, Initialisation", () => {
  const base = PRESETS.base.geometry;
  const released = studentSpecs(base, RECIPES.released);
  assertEquals(count(blockSpecs("b", 768)), 7_087_872);
  assertEquals(count(blockSpecs("b", 512)), 3_152_384);
  assertEquals(count(released), 118_084_608);
  assertEquals(released.length, 260);
  const part = (pattern: RegExp) => count(released.filter(({ name }) => pattern.test(name)));
  assertEquals(part(/^student_encoder\./), 85_056_000);
  assertEquals(part(/^patch_embed\./), 197_376);
  assertEquals(part(/^(student_encoder|patch_embed|cls_token)/), 85_254_144);
  assertEquals(part(/^decoder\./), 26_008_320);
  assertEquals(count(headSpecs("", base)), 6_822_144);
});

Deno.test("learned positions are parameters under the paper's recipe only", () => {
  const names = (recipe: keyof typeof RECIPES) =>
    studentSpecs(PRESETS.tiny.geometry, RECIPES[recipe]).map(({ name }) => name).filter((name) =>
      /pos_embed/.test(name)
    );
  assertEquals(names("paper"), ["pos_embed", "decoder.decoder_pos_embed"]);
  assertEquals(names("released"), []);
});

Deno.test("the grid of a 608-frame crop is 5 x 38", () => {
  assertEquals(patchGrid(PRESETS.base.geometry), { rows: 5, columns: 38, patches: 190 });
});

Deno.test("alpha weighs the losses in the paper and only gates them in the released code", () => {
  assertEquals(lossWeights(RECIPES.paper, 0.25), { pred: 0.25, cls: 0.75 });
  assertEquals(lossWeights(RECIPES.paper, 1), { pred: 1, cls: 0 });
  assertEquals(lossWeights(RECIPES.released, 0.25), { pred: 0.5, cls: 0.5 });
  assertEquals(lossWeights(RECIPES.released, 1), { pred: 0.5, cls: 0 });
  assertEquals(lossWeights(RECIPES.released, 0), { pred: 0, cls: 0.5 });
  assertThrows(() => lossWeights(RECIPES.paper, 1.1), RangeError);
});
