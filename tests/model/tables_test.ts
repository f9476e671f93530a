/** Acceptance list of SPEC section 13, items 1 (positions), 2 and 3. */
import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { maskFromNoise, randomMask, visibleCount } from "../../model/masking.ts";
import { patchGrid, studentSpecs } from "../../model/matpac.ts";
import { sinCosPositions } from "../../model/positions.ts";
import { PRESETS } from "../../model/presets.ts";
import { lossWeights, RECIPES } from "../../model/recipe.ts";
import { blockSpecs } from "../../model/vit.ts";
import { headSpecs } from "../../model/head.ts";
import type { ParameterSpec } from "../../model/arena.ts";
import { Prng } from "../../train/data/prng.ts";
import fc from "fast-check";

const count = (specs: readonly ParameterSpec[]): number =>
  specs.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);

Deno.test("positions have the golden values of SPEC section 2.2", () => {
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

Deno.test("masks keep as many patches as SPEC section 2.3 lists", () => {
  const cases: [number, number, number][] = [
    [190, 0.7, 57],
    [190, 0.6, 76],
    [65, 0.75, 16],
    [160, 0.75, 40],
    [250, 0.7, 75],
    [200, 0.6, 80],
    [256, 0.6, 102],
    [304, 0.6, 121],
  ];
  for (const [patches, ratio, visible] of cases) {
    assertEquals(visibleCount(patches, ratio), visible);
  }
});

Deno.test("a mask orders patches by noise and restore undoes shuffle", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 2, max: 40 }),
      fc.integer(),
      (batch, patches, seed) => {
        const random = new Prng(seed);
        const noise = Array.from({ length: batch * patches }, () => random.uniform());
        const { shuffle, restore } = maskFromNoise(noise, batch, patches, 1);
        for (let b = 0; b < batch; b++) {
          const order = [...shuffle.subarray(b * patches, (b + 1) * patches)];
          assertEquals([...order].sort((x, y) => x - y), [...Array(patches).keys()]);
          for (let i = 0; i < patches; i++) {
            assertEquals(restore[b * patches + order[i]], i);
            if (i > 0) {
              assertEquals(
                noise[b * patches + order[i - 1]] <= noise[b * patches + order[i]],
                true,
              );
            }
          }
        }
      },
    ),
  );
});

Deno.test("random masks hit every patch equally often", () => {
  const random = new Prng(5);
  const hits = new Float64Array(10);
  for (let i = 0; i < 400; i++) {
    const { shuffle, visible } = randomMask(() => random.uniform(), 1, 10, 0.7);
    assertEquals(visible, 3);
    shuffle.subarray(0, visible).forEach((patch) => hits[patch]++);
  }
  // 400 draws at 0.3: mean 120, standard deviation 9.2; five of them is a 1e-6 event.
  for (const n of hits) assertAlmostEquals(n, 120, 46);
});

Deno.test("parameter counts are those of SPEC section 2.9", () => {
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
