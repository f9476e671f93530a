/**
 * Masks of model/README.md, Masking: random, structured, one-dimensional and given, and their
 * counts.
 */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { readSafetensors } from "../../../engine/formats/safetensors.ts";
import {
  binaryMask,
  drawMask,
  evenStructuredMask,
  type Mask,
  maskFromBinary,
  maskFromNoise,
  maskFromRestore,
  type Masking,
  randomMask,
  runMask,
  structuredMask,
  visibleCount,
  visiblePatches,
} from "../../../model/objectives/masking.ts";
import type { PatchGrid } from "../../../model/vit/geometry.ts";
import { Prng } from "../../../engine/prng.ts";

/** Draws of a generator of its own. */
function uniformOf(seed: number): () => number {
  const random = new Prng(seed);
  return () => random.uniform();
}

/** Draws that start with `first`. */
function startingWith(first: number, seed: number): () => number {
  const uniform = uniformOf(seed);
  let begun = false;
  return () => begun ? uniform() : (begun = true, first);
}

const sizes = fc.record({
  batch: fc.integer({ min: 1, max: 4 }),
  rows: fc.integer({ min: 1, max: 10 }),
  columns: fc.integer({ min: 6, max: 40 }),
  // Odd ratios and the round ones that people ask for.
  ratio: fc.oneof(
    fc.double({ min: 0.5, max: 0.9, noNaN: true }),
    fc.constantFrom(0.5, 0.6, 0.7, 0.75, 0.8, 0.9),
  ),
  seed: fc.integer(),
});

/**
 * Shuffle and restore are inverse permutations, and the binary mask has the count; returns it clip
 * by clip.
 */
function clipsOf(mask: Mask, batch: number, { rows, columns }: PatchGrid): Uint8Array[] {
  const patches = rows * columns;
  assertEquals([mask.shuffle.length, mask.restore.length], [batch * patches, batch * patches]);
  const binary = binaryMask(mask);
  return Array.from({ length: batch }, (_, b) => {
    const part = <T extends { subarray(a: number, b: number): T }>(all: T) =>
      all.subarray(b * patches, (b + 1) * patches);
    const [shuffle, restore, own] = [part(mask.shuffle), part(mask.restore), part(binary)];
    assertEquals([...shuffle].sort((i, j) => i - j), [...Array(patches).keys()]);
    shuffle.forEach((patch, place) => assertEquals(restore[patch], place));
    assertEquals(own.reduce((sum, x) => sum + x, 0), patches - mask.visible);
    shuffle.forEach((patch, place) => assertEquals(own[patch], place < mask.visible ? 0 : 1));
    return own;
  });
}

/** Rows and columns of a clip that are masked from end to end. */
function wholeLines(clip: Uint8Array, { rows, columns }: PatchGrid) {
  const every = (n: number, masked: (i: number) => number) =>
    Array.from({ length: n }, (_, i) => masked(i)).every((x) => x === 1);
  return {
    rows: [...Array(rows).keys()].filter((r) => every(columns, (c) => clip[r * columns + c])),
    columns: [...Array(columns).keys()].filter((c) => every(rows, (r) => clip[r * columns + c])),
  };
}

Deno.test("masks keep as many patches as model/README.md, Masking, lists", () => {
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
        const noise = Array.from({ length: batch * patches }, uniformOf(seed));
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
  const uniform = uniformOf(5);
  const hits = new Float64Array(10);
  for (let i = 0; i < 400; i++) {
    const { shuffle, visible } = randomMask(uniform, 1, 10, 0.7);
    assertEquals(visible, 3);
    shuffle.subarray(0, visible).forEach((patch) => hits[patch]++);
  }
  // 400 draws at 0.3: mean 120, standard deviation 9.2; five of them is a 1e-6 event.
  for (const n of hits) assertAlmostEquals(n, 120, 46);
});

Deno.test("masks are those of the reference from its noise, and from what it left of them", () => {
  const file = new URL("../../golden/msm_mae_step.safetensors", import.meta.url);
  const { tensors } = readSafetensors(Deno.readFileSync(file));
  const golden = (name: string) => Array.from(tensors.get(name)!.data as Int32Array);
  const [batch, patches, visible] = [3, 30, visibleCount(30, 0.75)];
  const mask = maskFromNoise(golden("in.noise"), batch, patches, visible);
  assertEquals([...mask.shuffle], golden("in.ids_shuffle"));
  assertEquals([...mask.restore], golden("out.ids_restore"));
  assertEquals([...binaryMask(mask)], golden("out.mask"));
  assertEquals(maskFromRestore(golden("out.ids_restore"), visible, batch, patches), mask);
  const given = maskFromBinary(golden("out.mask"), batch, patches);
  assertEquals([given.visible, [...binaryMask(given)]], [visible, golden("out.mask")]);
});

Deno.test("every way to mask draws whole masks of one size at ratios from 0.5 to 0.9", () => {
  const maskings: Masking[] = [
    { kind: "random" },
    { kind: "structured" },
    { kind: "time", run: 1 },
    { kind: "time", run: 4 },
  ];
  fc.assert(
    fc.property(sizes, fc.constantFrom(...maskings), ({ batch, ratio, seed, ...grid }, masking) => {
      const patches = grid.rows * grid.columns;
      const wanted = visiblePatches(masking, grid, ratio);
      // One is cut off from a product, of all patches or of the columns; with one row and few
      // columns that may be all.
      fc.pre(wanted > 0);
      assertAlmostEquals(wanted, patches * (1 - ratio), masking.kind === "time" ? grid.rows : 1);
      const mask = drawMask(masking, uniformOf(seed), batch, grid, ratio);
      assertEquals(mask.visible, wanted);
      clipsOf(mask, batch, grid);
      assertEquals(drawMask(masking, uniformOf(seed), batch, grid, ratio), mask, "same seed");
    }),
  );
});

Deno.test("seeds, and clips of a batch, differ; a batch in parts is the same batch", () => {
  const grid = { rows: 5, columns: 13 };
  const maskings: Masking[] = [{ kind: "random" }, { kind: "structured" }, {
    kind: "time",
    run: 3,
  }];
  for (const masking of maskings) {
    const draw = (uniform: () => number, batch: number) =>
      binaryMask(drawMask(masking, uniform, batch, grid, 0.7));
    const all = draw(uniformOf(1), 12);
    const clips = Array.from({ length: 12 }, (_, b) => all.subarray(65 * b, 65 * (b + 1)).join(""));
    assert(new Set(clips).size > 6, `${masking.kind}: ${new Set(clips).size} masks of 12`);
    assert(draw(uniformOf(2), 12).join("") !== all.join(""));
    const uniform = uniformOf(1);
    assertEquals([...draw(uniform, 7), ...draw(uniform, 5)], [...all]);
  }
});

Deno.test("a structured mask marks whole rows and columns, as many as M2D's formula says", () => {
  fc.assert(fc.property(sizes, fc.double({ min: 0, max: 0.999, noNaN: true }), (size, draw) => {
    const { batch, ratio, seed, ...grid } = size;
    const { rows: F, columns: T } = grid;
    const NF = Math.min(F - 1, Math.trunc(F * (ratio + 1 / F) * draw));
    const NT = Math.trunc(T * Math.max(ratio + .5 / T - NF / F, 0));
    const mask = structuredMask(startingWith(draw, seed), batch, grid, ratio, "fixed");
    assertEquals(mask.visible, (F - NF) * (T - NT));
    for (const clip of clipsOf(mask, batch, grid)) {
      const { rows, columns } = wholeLines(clip, grid);
      assertEquals([rows.length, columns.length], [NF, NT]);
      // Nothing else is marked.
      clip.forEach((x, i) =>
        assertEquals(x === 1, rows.includes(Math.floor(i / T)) || columns.includes(i % T))
      );
    }
  }));
});

Deno.test("the released structured mask keeps the marked patches, the fixed one the others", () => {
  const grid = { rows: 5, columns: 38 };
  const both = (draw: number) =>
    (["released", "fixed"] as const).map((variant) =>
      structuredMask(startingWith(draw, 7), 2, grid, 0.7, variant)
    );
  // Draw 0 marks no row and 27 columns: 135 are marked, 55 kept. Draw 0.5 marks 2 rows and 11
  // columns: 109 and 81. Draw 0.99 marks 4 rows and no column: 152 and 38.
  for (const [draw, visible] of [[0, 55], [0.5, 81], [0.99, 38]]) {
    const [released, fixed] = both(draw);
    assertEquals([released.visible, fixed.visible], [visible, visible]);
    const marks = clipsOf(fixed, 2, grid);
    clipsOf(released, 2, grid).forEach((clip, b) =>
      clip.forEach((masked, i) => assert(masked === 1 || marks[b][i] === 1))
    );
  }
  // Where fewer are marked than stay, the lowest unmarked ones fill up.
  const [released, fixed] = (["released", "fixed"] as const).map((variant) =>
    structuredMask(startingWith(0, 3), 1, { rows: 2, columns: 6 }, 0.3, variant)
  );
  // 2 of 6 columns.
  assertEquals(fixed.visible, 8);
  const marked = [...binaryMask(fixed)].flatMap((x, i) => x === 1 ? [i] : []);
  const others = [...fixed.shuffle.subarray(0, 8)];
  assertEquals([...released.shuffle], [...marked, ...others]);
});

Deno.test("a structured mask varies from batch to batch, an even one keeps its size", () => {
  const grid = { rows: 5, columns: 38 };
  const uniform = uniformOf(11);
  const counts = Array.from(
    { length: 200 },
    () => structuredMask(uniform, 1, grid, 0.7, "fixed").visible,
  );
  // By rows marked, from 0 to 4.
  assertEquals(new Set(counts), new Set([55, 76, 81, 68, 38]));
  const rowsSeen = new Set<number>();
  for (const clip of clipsOf(evenStructuredMask(uniform, 100, grid, 0.7), 100, grid)) {
    rowsSeen.add(wholeLines(clip, grid).rows.length);
  }
  // 4 rows are 152 patches, more than the 133 that may be masked.
  assertEquals(rowsSeen, new Set([0, 1, 2, 3]));
});

Deno.test("an even structured mask is whole rows and columns but for one column", () => {
  fc.assert(fc.property(sizes, ({ batch, ratio, seed, ...grid }) => {
    const { rows: F, columns: T } = grid;
    const mask = evenStructuredMask(uniformOf(seed), batch, grid, ratio);
    assertEquals(mask.visible, visibleCount(F * T, ratio));
    fc.pre(mask.visible > 0);
    for (const clip of clipsOf(mask, batch, grid)) {
      const { rows, columns } = wholeLines(clip, grid);
      const partial = new Set<number>();
      clip.forEach((x, i) => {
        if (x === 1 && !rows.includes(Math.floor(i / T)) && !columns.includes(i % T)) {
          partial.add(i % T);
        }
      });
      assert(partial.size <= 1, `columns ${[...partial]} are masked in part`);
    }
  }));
});

Deno.test("a 1-D mask is the same columns in every row, in runs", () => {
  fc.assert(fc.property(sizes, fc.integer({ min: 1, max: 8 }), (size, run) => {
    const { batch, ratio, seed, ...grid } = size;
    const mask = runMask(uniformOf(seed), batch, grid, ratio, run);
    const masked = Math.trunc(grid.columns * ratio);
    for (const clip of clipsOf(mask, batch, grid)) {
      const columns = clip.subarray(0, grid.columns);
      for (let r = 0; r < grid.rows; r++) {
        assertEquals(clip.subarray(r * grid.columns, (r + 1) * grid.columns), columns);
      }
      assertEquals(columns.reduce((sum, x) => sum + x, 0), masked);
      // Only the last stretch of masked columns may be short: its tail was given back, or the clip
      // ended.
      const stretches = columns.join("").split(/0+/).filter((it) => it !== "");
      for (const stretch of stretches.slice(0, -1)) assert(stretch.length >= run);
    }
  }));
});

Deno.test("a 1-D mask is made of runs until there are enough, the tail given back", () => {
  // Runs of 3 at 8 (cut off at 10), 2 and 4; 6 of 10 are masked, of {2, 3, 4, 5, 6, 8, 9} all but
  // 9.
  const starts = [0.85, 0.2, 0.4];
  const mask = runMask(() => starts.shift()!, 1, { rows: 2, columns: 10 }, 0.6, 3);
  assertEquals(binaryMask(mask).join(""), "0011111010".repeat(2));
  assertEquals(starts, []);
});

Deno.test("given masks that cannot be are refused", () => {
  const refused = (body: () => unknown, text: string) => assertThrows(body, RangeError, text);
  refused(() => maskFromBinary([0, 1, 1, 1], 2, 2), "clip 0 keeps 1, clip 1 keeps 0");
  refused(() => maskFromBinary([0, 0.5], 1, 2), "not 0.5");
  refused(() => maskFromBinary([0, 1, 0], 1, 2), "of 1 x 2 patches has 3 values");
  refused(() => maskFromRestore([0, 1, 1], 1, 1, 3), "clip 0 is no permutation: see patch 2");
  refused(() => maskFromRestore([0, 1, 3], 1, 1, 3), "no permutation");
  refused(() => maskFromRestore([1, 0], 1, 1, 3), "has 2 values");
  refused(() => maskFromRestore([1, 0], 3, 1, 2), "3 of 2 patches");
  for (const run of [0, 1.5, NaN]) {
    refused(
      () => runMask(Math.random, 1, { rows: 1, columns: 4 }, 0.5, run),
      "whole number from 1",
    );
  }
  refused(
    () => structuredMask(() => 0, 1, { rows: 2, columns: 4 }, 0.9, "fixed"),
    "leaves none of 2 x 4 patches visible",
  );
});
