/**
 * Matrix products against float64, for every layout, tile and epilogue, with and without subgroups.
 */
import { assert, assertEquals } from "@std/assert";
import type { Device } from "../../engine/device.ts";
import { gemm } from "../../engine/launch/gemm.ts";
import { refGelu } from "../../engine/ops/matmul.ts";
import {
  compute,
  label,
  prepare,
  type Product,
  sameBits,
  verify,
  watched,
} from "../support/gemm_products.ts";
import { full, fullOnly, test } from "../support/tier.ts";

const fast = await watched({});
const plain = await watched({ subgroups: false });
const hasSubgroups = [8, 16].includes(fast.device.info.subgroupSize);
/** Whether a vector has 16 lanes, for which there are other tiles. */
const isWide = fast.device.info.subgroupSize === 16;

async function holds(p: Product, x = prepare(p)): Promise<void> {
  const first = await compute(fast.device, p, x);
  verify(p, x, first);
  assert(
    sameBits(await compute(fast.device, p, x), first),
    `${label(p)}: a second run gives other bits`,
  );
  const other = await compute(plain.device, p, x);
  verify(p, x, other);
  // Both kernels sum over k in the same order.
  assert(sameBits(other, first), `${label(p)}: the kernels give different bits`);
}

const LAYOUTS = [{}, { tb: true }, { ta: true }, { ta: true, tb: true }];

/** Ones, primes, multiples of 4 that are none of any tile, ends of K that are no whole step. */
const SIZES = [
  [1, 1, 1],
  [1, 4, 4],
  [4, 4, 1],
  [3, 5, 7],
  [7, 36, 20],
  [8, 32, 4],
  [31, 37, 41],
  [12, 36, 5],
  [20, 4, 97],
  [36, 132, 193],
  [61, 100, 36],
  [67, 12, 64],
  [132, 36, 14],
  [131, 44, 28],
  [101, 103, 107],
];

/** Sizes and layouts of the quick tier. */
const FEW = [[3, 5, 7], [36, 132, 193]];
const QUICK_LAYOUTS = new Set(["NT", "TN"]);

for (const [turn, layout] of LAYOUTS.entries()) {
  // Tiles are chosen alike for all layouts, whose sizes take turns: each is a compilation.
  const inTurn = <T>(all: readonly T[]): readonly T[] => all.filter((_, i) => i % 2 === turn % 2);
  const name = `${layout.ta ? "T" : "N"}${layout.tb ? "T" : "N"}`;
  Deno.test({
    name: `products ${name} match float64 with both kernels`,
    ignore: !full && !QUICK_LAYOUTS.has(name),
    fn: async () => {
      for (const [m, n, k] of full ? inTurn(SIZES) : FEW) await holds({ m, n, k, ...layout });
      if (!full) return;
      // Batches large enough for the rows alone to decide on the tile.
      for (const m of inTurn([4, 16, 28, 60])) {
        await holds({ m, n: 12, k: 8, batch: 40, alpha: -0.75, ...layout });
        await holds({ m, n: 12, k: 7, batch: 40, ...layout });
      }
    },
  });
}

Deno.test("epilogues match float64 with both kernels", async () => {
  const epilogues: Partial<Product>[] = [
    { bias: true },
    { residual: true },
    { bias: true, residual: true, alpha: 0.5 },
    { accumulate: true },
    { bias: true, accumulate: true },
    { bias: true, gelu: true },
    { residual: true, factor: true, accumulate: true },
  ];
  if (!full) return await holds({ m: 13, n: 20, k: 12, tb: true, bias: true, gelu: true });
  for (const epilogue of epilogues) {
    for (const [m, n, k] of [[5, 7, 3], [196, 68, 8]]) {
      await holds({ m, n, k, tb: true, ...epilogue });
    }
    await holds({ m: 13, n: 20, k: 12, batch: 3, ...epilogue });
    await holds({ m: 68, n: 36, k: 13, ta: true, ...epilogue });
  }
});

fullOnly("more products than a launch has workgroups are split", async () => {
  const batch = plain.device.gpu.limits.maxComputeWorkgroupsPerDimension + 9;
  await holds({ m: 1, n: 1, k: 2, batch, bias: true });
});

fullOnly("what lies past the end of K adds nothing to infinite sums", async () => {
  for (const [m, n, k] of [[1, 1, 3], [5, 3, 1], [4, 8, 4]]) {
    const p = { m, n, k, tb: true };
    const x = prepare(p);
    for (let q = 0; q < k; q++) x.a.data[x.a.at(0, 0, q)] = 1;
    x.b.data[x.b.at(0, 0, k - 1)] = Infinity;
    for (const variant of ["auto", "register-8x8", "tiled-64x64", "subgroup-8x32"]) {
      const { device } = await watched({ variants: { gemm: variant } });
      using _ = device;
      const [c] = await compute(device, p, x);
      assertEquals(c[x.c.at(0, 0, 0)], Infinity, `${variant}: ${label(p)}`);
    }
  }
});

/** The longest sum of one launch in blocks, ends of all kinds behind it. */
const LONG = [16385, 32768 + 128 * 3 + 4 * 5 + 3, 2 * 32768 + 9];

test("long sums are split: GELU and f16 are applied once, at the end", async () => {
  const forms = [
    { gelu: true, bias: true },
    { half: true, residual: true, accumulate: true },
    { factor: true, accumulate: true },
  ];
  for (const form of fast.device.features.f16 ? forms : forms.slice(0, 1)) {
    const p: Product = { m: 3, n: 5, k: LONG[1], tb: true, ...form };
    const x = prepare(p);
    verify(p, x, await compute(fast.device, p, x));
  }
});

fullOnly(
  "long sums are split: all layouts and epilogues, the same bits in every kernel",
  async () => {
    const tiled = await watched({ variants: { gemm: "tiled-64x64" } });
    using _ = tiled.device;
    const epilogues: Partial<Product>[] = [
      { bias: true, gelu: true },
      { bias: true, residual: true, alpha: -0.5, batch: 2 },
      { accumulate: true, tb: true },
      { ta: true, bias: true, accumulate: true },
      { residual: true, factor: true, accumulate: true },
    ];
    for (const [i, epilogue] of epilogues.entries()) {
      // In turns, as f16 is stored once, at the end.
      const half = i % 2 === 1 && fast.device.features.f16;
      for (const k of LONG) {
        const p = { m: 3, n: 5, k, half, ...epilogue };
        const x = prepare(p);
        await holds(p, x);
        const first = await compute(fast.device, p, x);
        assert(sameBits(await compute(tiled.device, p, x), first), `tiled: ${label(p)}`);
      }
    }
  },
);

test("rows above the binding limit are split, with GELU and in f16 as well", async () => {
  const small = await watched({ bindingLimit: 8192 });
  using device = small.device;
  const forms = [{ m: 1, n: 3, tb: true }, { m: 3, n: 2, tb: true, gelu: true }];
  const half = device.features.f16 ? [{ m: 2, n: 3, tb: true, half: true, bias: true }] : [];
  for (const form of [...forms, ...half]) {
    const p = { k: 5000, ...form };
    const x = prepare(p);
    verify(p, x, await compute(device, p, x));
  }
});

test("rows are summed where one launch has all of K", async () => {
  const small = await watched({ bindingLimit: 8192 });
  using _ = small.device;
  const sums = async (device: Device, p: Product) => {
    const x = prepare({ ta: true, ...p });
    const values = await compute(device, { ta: true, sums: true, ...p }, x);
    verify({ ta: true, sums: true, ...p }, x, values);
    return values.length > 1;
  };
  const { software } = fast.device.info;
  assertEquals(await sums(fast.device, { m: 33, n: 5, k: 1030 }), software);
  // Rows in halves, each with its own sums.
  assertEquals(await sums(small.device, { m: 100, n: 28, k: 4 }), software);
  assertEquals(await sums(small.device, { m: 9, n: 5, k: 1030 }), false);
  assertEquals(await sums(fast.device, { m: 3, n: 5, k: LONG[0] }), false);
  assertEquals(await sums(fast.device, { m: 3, n: 5, k: 7, batch: 2 }), false);
});

/** Sums of equal terms are right to 5e-6, where one long sum in f32 is off by 1e-3. */
test("sums of 131,072 and 300,000 equal terms", async () => {
  for (const [k, term] of [[131072, 0.7], [300000, 1], [131072, 1 / 3]]) {
    const values = Float32Array.of(term);
    const a = fast.device.full([1, k], term);
    const c = fast.device.empty([1, 1]);
    const b = fast.device.full([k, 1], 1);
    gemm({
      a: { tensor: a, ld: k },
      b: { tensor: b, ld: 1 },
      c: { tensor: c, ld: 1 },
      ...{ m: 1, n: 1, k },
    });
    const [sum] = await c.data();
    assert(Math.abs(sum / (k * values[0]) - 1) <= (term === 1 ? 0 : 5e-6), `${k}: ${sum}`);
    [a, b, c].forEach((tensor) => tensor.dispose());
  }
});

Deno.test("GELU and its derivative are those of the product", async () => {
  for (const [m, n, k] of full ? [[5, 7, 3], [196, 68, 8]] : [[13, 20, 12]]) {
    const p = { m, n, k, tb: !full, bias: true };
    const x = prepare(p);
    for (const { device } of [fast, plain]) {
      const [before] = await compute(device, p, x);
      const [c, slope] = await compute(device, { ...p, gelu: true }, x);
      for (let i = 0; i < m; i++) {
        for (let j = 0; j < n; j++) {
          const at = x.c.at(0, i, j);
          const value = refGelu.value(before[at]);
          // The bounds of kernels/include/math.wgsl and the rounding of the result.
          assert(
            Math.abs(c[at] - value) <= 7e-7 * Math.abs(value) + 1e-37,
            `${c[at]}, not ${value}`,
          );
          const wanted = refGelu.slope(before[at]);
          const given = slope[at - x.c.start];
          assert(Math.abs(given - wanted) <= 4e-7, `${given}, not ${wanted}`);
        }
      }
    }
  }
});

fullOnly(
  "a product large enough for the widest tile gives the bits of the register tiles",
  async () => {
    const extras = [{ bias: true, gelu: true }, { residual: true, accumulate: true }];
    for (const [i, layout] of LAYOUTS.entries()) {
      // 2^28 multiply-adds and a few, with ends of every kind.
      const k = layout.ta && !layout.tb ? 593 : 592;
      const p = { m: 652, n: 700, k, ...layout, ...extras[i % 2] };
      const x = prepare(p);
      fast.dispatches.length = 0;
      const results = await compute(fast.device, p, x);
      assert(sameBits(results, await compute(plain.device, p, x)), label(p));
      // Elsewhere smaller tiles may divide better among the cores.
      if (hasSubgroups && [2, 4, 8, 16].includes(navigator.hardwareConcurrency)) {
        assertEquals(fast.dispatches[0].tile, isWide ? "64 x 1" : "64 x 2");
      }
    }
  },
);

Deno.test({
  name: "the subgroup kernel takes every product, in tiles of every height",
  ignore: !hasSubgroups || !full,
  fn: async () => {
    const used = async (p: Product) => {
      fast.dispatches.length = 0;
      await compute(fast.device, p, prepare(p));
      return fast.dispatches[0];
    };
    const tiles = [];
    for (const m of [4, 16, 28, 44, 60]) {
      const { kernel, tile } = await used({ m, n: 12, k: 8, batch: 400 });
      assertEquals(kernel, "gemm_subgroup");
      tiles.push(tile);
    }
    const heights = isWide ? [16, 16, 32, 64, 64] : [8, 16, 32, 48, 64];
    assertEquals(tiles, heights.map((rows) => `${rows} x 1`));
    assertEquals((await used({ m: 1, n: 1, k: 1 })).kernel, "gemm_subgroup");
    assert(plain.dispatches.every(({ kernel }) => kernel === "gemm"));
  },
});
