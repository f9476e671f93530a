/**
 * Every kernel variant of the matrix product, forced in turn: against float64, and bit for bit
 * against the plainest one, in f32 and f16.
 */
import { assert, assertEquals } from "@std/assert";
import type { HostArray } from "../../engine/dtype.ts";
import { gemmVariants } from "../../engine/launch/gemm_variants.ts";
import {
  compute,
  type Dispatch,
  label,
  prepare,
  type Product,
  sameBits,
  verify,
  watched,
} from "../support/gemm_products.ts";
import { full, fullOnly, test } from "../support/tier.ts";

/** Every layout, with epilogues spread over them: what is fused does not depend on the layout. */
const FORMS: readonly Partial<Product>[] = [
  { bias: true, residual: true, accumulate: true, alpha: -0.5 },
  { tb: true, bias: true, gelu: true },
  { ta: true, accumulate: true, batch: 2 },
  { ta: true, tb: true, residual: true, batch: 3 },
  { ta: true, sums: true },
  { bias: true, factor: true, accumulate: true },
];

/**
 * For accesses to four elements: single steps, tiles of every size just exceeded, several slices of
 * K and their ends.
 */
const ALIGNED = [[4, 4, 4], [20, 36, 8], [68, 132, 36], [132, 68, 100], [260, 12, 20]];
/** For accesses to single elements. */
const ODD = [[1, 1, 1], [3, 5, 7], [67, 131, 33], [131, 61, 19], [1, 257, 65], [129, 3, 17]];

/** One size or distance that is no multiple of four, and the accesses it leaves. */
const MIXED: readonly (Product & { readonly widths: string })[] = [
  { m: 36, n: 37, k: 8, tb: true, gaps: [4, 4, 3], bias: true, gelu: true, widths: "4 4 1" },
  { m: 68, n: 38, k: 12, gaps: [4, 2, 2], residual: true, accumulate: true, widths: "4 2 2" },
  { m: 35, n: 36, k: 9, gaps: [3, 4, 4], batch: 2, widths: "1 4 4" },
  { m: 37, n: 20, k: 16, gaps: [1, 4, 4], widths: "1 4 4" },
  { m: 20, n: 38, k: 10, tb: true, gaps: [2, 1, 2], half: true, widths: "2 1 2" },
  { m: 67, n: 36, k: 11, ta: true, gaps: [1, 4, 4], accumulate: true, widths: "1 4 4" },
  { m: 36, n: 66, k: 7, ta: true, gaps: [4, 2, 4], widths: "4 2 2" },
  { m: 38, n: 36, k: 13, ta: true, tb: true, gaps: [2, 3, 4], batch: 2, widths: "2 1 4" },
];

const plainest = "register-8x8";
const everywhere = [plainest, "tiled-64x64", "tiled-128x64", "tiled-128x128"];
const capable = await watched({});
const { device } = capable;
/** Lanes of subgroups, 0 where there are none that tiles were made for. */
const lanes = [8, 16].find((size) => size === device.info.subgroupSize) ?? 0;
const hasSubgroups = lanes > 0;

/** Rows and vec4 columns per lane of tiles, by lanes. */
const TILES: Readonly<Record<number, Readonly<Record<"buffers" | "images", number[][]>>>> = {
  0: { buffers: [], images: [] },
  8: {
    buffers: [[8, 1], [16, 1], [32, 1], [48, 1], [64, 1], [128, 1], [64, 2]],
    images: [[8, 1], [16, 1], [16, 2], [32, 2]],
  },
  16: {
    buffers: [[16, 1], [32, 1], [64, 1]],
    images: [[16, 1], [32, 1], [48, 1]],
  },
};
const nameOf = (kind: string, [rows, vecs]: number[]) => `${kind}-${rows}x${4 * vecs * lanes}`;
const withSubgroups = TILES[lanes].buffers.map((size) => nameOf("subgroup", size));
const withImages = TILES[lanes].images.map((size) => nameOf("image", size));

/** Products whose operands can be textures: rows a multiple of 64 elements apart, worth a copy. */
const IMAGES: readonly Product[] = [
  { m: 100, n: 124, k: 252, bias: true, residual: true, accumulate: true, alpha: -0.5 },
  { m: 100, n: 132, k: 252, tb: true, bias: true, gelu: true },
  { m: 124, n: 188, k: 100, ta: true, accumulate: true, sums: true },
  { m: 124, n: 100, k: 252, ta: true, tb: true, residual: true },
];

/** Variants of the quick tier: one of each kernel file. */
const QUICK = new Set([
  ...[plainest, "tiled-64x64"],
  ...[nameOf("subgroup", [16, 1]), nameOf("image", [16, 1])],
]);

/** What a variant should show of itself. */
const EXPECTED: Readonly<Record<string, Omit<Dispatch, "widths">>> = {
  "register-8x8": { kernel: "gemm", tile: "8 x 2" },
  "tiled-64x64": { kernel: "gemm_tiled", tile: "4 x 1" },
  "tiled-128x64": { kernel: "gemm_tiled", tile: "8 x 1" },
  "tiled-128x128": { kernel: "gemm_tiled", tile: "8 x 2" },
  ...Object.fromEntries(
    TILES[lanes].buffers.map((size) => [
      nameOf("subgroup", size),
      { kernel: "gemm_subgroup", tile: size.join(" x ") },
    ]),
  ),
  ...Object.fromEntries(
    TILES[lanes].images.map((size) => [
      nameOf("image", size),
      { kernel: "gemm_subgroup", tile: `${size.join(" x ")} image` },
    ]),
  ),
};

/** Of the plainest first: the others are held against it. */
const VARIANTS = [...everywhere, ...withSubgroups, ...withImages];

/**
 * What a variant computes and with which accesses. Each costs a compilation: the plainest takes
 * all, of the others each takes every form with both accesses, one in f32 and one in f16, and half
 * of the mixed ones; neighbours take turns.
 */
function products(variant: string, half: boolean): (readonly [Product, string])[] {
  if (!full) {
    // Products that no tile divides.
    return half
      ? [
        [{ m: 35, n: 37, k: 9, tb: true, half }, "1 1 1"],
        [{ m: 68, n: 20, k: 11, ta: true, sums: true, half }, "4 4 4"],
      ]
      : [[{ m: 68, n: 132, k: 36, ...FORMS[0], half }, "4 4 4"]];
  }
  const turn = VARIANTS.indexOf(variant);
  const takes = (it: number) => turn === 0 || !device.features.f16 || (it + turn) % 2 === 0;
  const fitted = FORMS.flatMap((form, f) => {
    const aligned = [...ALIGNED];
    // The one layout that loads nothing along K.
    if (form.ta && !form.tb) aligned.push([132, 36, 14], [8, 68, 33]);
    return [[aligned, "4 4 4"] as const, [ODD, "1 1 1"] as const]
      .filter((_, w) => takes(f + w + Number(half)))
      .flatMap(([sizes, widths]) =>
        sizes.map(([m, n, k]) => [{ m, n, k, ...form, half }, widths] as const)
      );
  });
  // Dtypes differ in nothing that depends on the widths.
  const mixed = MIXED.filter((p, i) => half === (p.half ?? false) && takes(i));
  return [...fitted, ...mixed.map(({ widths, ...p }) => [p, widths] as const)];
}

const dtypes = device.features.f16 ? [false, true] : [false];
const results = new Map<string, readonly HostArray[]>();

/** Runs everything that `variant` can compute on a device where it is forced. */
async function check(variant: string, subgroups: boolean): Promise<void> {
  const { device, dispatches } = await watched({ subgroups, variants: { gemm: variant } });
  using _ = device;
  const images = IMAGES.slice(0, full ? IMAGES.length : 3).map((it) => [it, "4 4 4"] as const);
  const ofImages = withImages.includes(variant) || variant === plainest ? images : [];
  for (const half of dtypes) {
    const ofBuffers = withImages.includes(variant) ? [] : products(variant, half);
    for (const [asked, widths] of [...ofBuffers, ...half ? [] : ofImages]) {
      // Shared tiles do not sum rows.
      const product = variant.startsWith("tiled") ? { ...asked, sums: undefined } : asked;
      const operands = prepare(product);
      dispatches.length = 0;
      const values = await compute(device, product, operands);
      assertEquals(values.length, 1 + +(product.gelu ?? false) + +(product.sums ?? false));
      assertEquals(dispatches, [{ ...EXPECTED[variant], widths }], label(product));
      verify(product, operands, values);
      const name = label(product);
      const first = results.get(name) ?? values;
      results.set(name, first);
      // All variants sum over k in order.
      assert(sameBits(values, first), `${name}: the bits differ from those of ${plainest}`);
    }
  }
}

for (const variant of VARIANTS) {
  const subgroups = !everywhere.includes(variant);
  Deno.test({
    name: `${variant} matches float64`,
    ignore: subgroups && !hasSubgroups || !full && !QUICK.has(variant),
    fn: () => check(variant, subgroups),
  });
}

test("every variant is tested", () => {
  const problem = { m: 1024, n: 1024, k: 64, batch: 1, widthA: 4, widthB: 4 };
  const offered = gemmVariants(device, problem).map(({ name }) => name);
  const tested = hasSubgroups ? [...everywhere, ...withSubgroups] : everywhere;
  assertEquals(offered.toSorted(), tested.toSorted());
  const more = gemmVariants(device, { ...problem, images: true }).map(({ name }) => name)
    .filter((name) => !offered.includes(name));
  assertEquals(more.toSorted(), hasSubgroups ? withImages.toSorted() : []);
});

test("on GPUs the largest shared tile that gives each multiprocessor its work comes first", () => {
  const gpu = Object.create(device, { info: { value: { ...device.info, software: false } } });
  const first = (m: number, n: number, batch = 1) =>
    gemmVariants(gpu, { m, n, k: 768, batch, widthA: 4, widthB: 4 })[0].name;
  assertEquals(first(128 * 132, 256), "tiled-128x128");
  assertEquals(first(128 * 132 - 128, 256), "tiled-128x64");
  assertEquals(first(128, 128, 264), "tiled-128x128");
  assertEquals(first(2144, 192), "tiled-64x64");
  assertEquals(first(1, 1), "tiled-64x64");
});

Deno.test({
  name: "large products start with the tile that passes over B least where no cache holds it",
  ignore: lanes !== 8,
  fn: () => {
    const software = Object.create(device, { info: { value: { ...device.info, software: true } } });
    const first = (m: number, n: number, k: number, transposedB = false) =>
      gemmVariants(software, { m, n, k, batch: 1, widthA: 4, widthB: 4, transposedB })[0].name;
    assertEquals(first(256, 2048, 1064), "subgroup-128x32");
    assertEquals(first(256, 2048, 1064, true), "subgroup-64x64");
    assertEquals(first(3072, 768, 1072), "subgroup-64x64");
  },
});

fullOnly("a product measures its variants on memory of its own", async () => {
  const { device, dispatches } = await watched({});
  using _ = device;
  const product = { m: 132, n: 68, k: 36, bias: true };
  const operands = prepare(product);
  const { open } = device.tuning.collect(() => void compute(device, product, operands));
  assertEquals(open.map(({ key }) => key), ["gemm/nn/f32/256x68x36"]);
  // Another distance between rows of B is another kernel, and is measured by itself.
  const apart = { ...product, gaps: [4, 2, 4] as const };
  const others = device.tuning.collect(() => void compute(device, apart, prepare(apart)));
  assertEquals(others.open.map(({ key }) => key), ["gemm/nn/f32/256x68x36/4-2-4"]);
  const [{ variants, run }] = open;
  const before = device.memory.liveBytes;
  for (const variant of variants) {
    dispatches.length = 0;
    run(variant);
    assertEquals(dispatches, [{ ...EXPECTED[variant], widths: "4 4 4" }]);
  }
  assertEquals(device.memory.liveBytes, before);
  await device.sync();
});
