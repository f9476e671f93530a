/**
 * Matrix products against a float64 product, for every layout, tile and epilogue, with and without subgroups.
 *
 * Tolerance: an element is a float32 sum of k products and a few further terms in some order, so it is off by at most
 * (k + 6) 2^-24 times the sum of their absolute values (Higham, Accuracy and Stability, section 3.1).
 */
import { assert, assertEquals } from "@std/assert";
import { type Device, openDevice } from "../../engine/device.ts";
import { registry } from "../../engine/op.ts";
import "../../engine/ops/elementwise.ts";
import { gemm } from "../../engine/ops/gemm.ts";
import { scope } from "../../engine/scope.ts";

/** What a dispatch of a product ran. */
interface Dispatch {
  readonly kernel: string;
  /** Rows and vec4 columns per invocation. */
  readonly tile: string;
  readonly vector: boolean;
}

/** A device that notes the kernels it runs. */
async function watched(subgroups: boolean): Promise<{ device: Device; dispatches: Dispatch[] }> {
  const device = await openDevice({ subgroups });
  const dispatches: Dispatch[] = [];
  const run = device.run.bind(device);
  device.run = (kernel, constants, ...rest) => {
    dispatches.push({
      kernel: kernel.name,
      tile: `${constants.ROWS} x ${constants.VECS}`,
      vector: constants.VEC === true,
    });
    run(kernel, constants, ...rest);
  };
  return { device, dispatches };
}

const fast = await watched(true);
const plain = await watched(false);
const hasFamily = fast.device.info.subgroupSize === 8;

/** One product; matrices of a batch and their rows have gaps, so that strays show. */
interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly ta?: boolean;
  readonly tb?: boolean;
  readonly batch?: number;
  readonly alpha?: number;
  readonly bias?: boolean;
  readonly residual?: boolean;
  readonly gelu?: boolean;
  readonly accumulate?: boolean;
}

/** A stored matrix of a batch: `rows` x `columns`, `gap` more elements per row and matrix, from element `start` on. */
function stored(rows: number, columns: number, batch: number, seed: number) {
  const [start, gap] = [8, 4];
  const ld = columns + gap;
  const step = rows * ld + gap;
  let state = seed * 2654435761 >>> 0;
  const data = Float32Array.from({ length: start + batch * step }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
  return {
    data,
    start,
    ld,
    step,
    at: (z: number, r: number, c: number) => start + z * step + r * ld + c,
  };
}

function prepare({ m, n, k, ta, tb, batch = 1 }: Product) {
  return {
    a: ta ? stored(k, m, batch, 1) : stored(m, k, batch, 1),
    b: tb ? stored(n, k, batch, 2) : stored(k, n, batch, 2),
    c: stored(m, n, batch, 3),
    bias: stored(1, n, 1, 4),
    residual: stored(m, n, batch, 5),
  };
}

type Operands = ReturnType<typeof prepare>;

/** The memory of the result and of what precedes GELU, gaps included. */
async function compute(device: Device, p: Product, x: Operands): Promise<Float32Array[]> {
  const results = scope(() => {
    const upload = ({ data }: { data: Float32Array }) => device.tensor(data);
    const operand = (o: Operands["a"], transposed?: boolean) => ({
      tensor: upload(o),
      ld: o.ld,
      start: o.start,
      transposed,
      batchStride: o.step,
    });
    const c = operand(x.c);
    // These are laid out like c, but from their own first element on.
    const like = (o: Operands["a"]) => upload({ data: o.data.subarray(o.start) });
    const pre = p.gelu ? like(x.c) : undefined;
    gemm({
      a: operand(x.a, p.ta),
      b: operand(x.b, p.tb),
      c,
      m: p.m,
      n: p.n,
      k: p.k,
      batch: p.batch,
      alpha: p.alpha,
      bias: p.bias ? device.tensor(x.bias.data.slice(x.bias.start, x.bias.start + p.n)) : undefined,
      residual: p.residual ? like(x.residual) : undefined,
      pre,
      accumulate: p.accumulate,
    });
    return pre ? [c.tensor, pre] : [c.tensor];
  });
  const values = await device.read(results) as Float32Array[];
  results.forEach((t) => t.dispose());
  return values;
}

function label(p: Product): string {
  const { m, n, k, ta, tb, ...rest } = p;
  return `${ta ? "T" : "N"}${tb ? "T" : "N"} ${m} x ${n} x ${k} ${JSON.stringify(rest)}`;
}

/** Holds the result against float64 and the gaps against what was there. */
function verify(p: Product, x: Operands, [c, pre]: readonly Float32Array[]): void {
  const { m, n, k, ta, tb, batch = 1, alpha = 1 } = p;
  const untouched = new Set(c.keys());
  for (let z = 0; z < batch; z++) {
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let [sum, size] = [0, 0];
        const add = (value: number) => {
          sum += value;
          size += Math.abs(value);
        };
        for (let q = 0; q < k; q++) {
          const left = x.a.data[ta ? x.a.at(z, q, i) : x.a.at(z, i, q)];
          const right = x.b.data[tb ? x.b.at(z, j, q) : x.b.at(z, q, j)];
          add(alpha * left * right);
        }
        const at = x.c.at(z, i, j);
        untouched.delete(at);
        if (p.bias) add(x.bias.data[x.bias.at(0, 0, j)]);
        if (p.residual) add(x.residual.data[x.residual.at(z, i, j)]);
        if (p.accumulate) add(x.c.data[at]);
        const value = pre ? pre[at - x.c.start] : c[at];
        assert(
          Math.abs(value - sum) <= (k + 6) * 2 ** -24 * size,
          `${label(p)}: [${z}, ${i}, ${j}] is ${value}, not ${sum}`,
        );
      }
    }
  }
  for (const at of untouched) {
    const kept = c[at] === x.c.data[at] &&
      (!pre || at < x.c.start || pre[at - x.c.start] === x.c.data[at]);
    assert(kept, `${label(p)}: wrote outside of the matrix at ${at}`);
  }
}

function sameBits(a: readonly Float32Array[], b: readonly Float32Array[]): boolean {
  return a.every((x, i) => {
    const [bits, others] = [x, b[i]].map((values) => new Uint32Array(values.buffer));
    return bits.every((value, k) => value === others[k]);
  });
}

async function holds(p: Product): Promise<void> {
  const x = prepare(p);
  const first = await compute(fast.device, p, x);
  verify(p, x, first);
  assert(
    sameBits(await compute(fast.device, p, x), first),
    `${label(p)}: a second run gives other bits`,
  );
  const other = await compute(plain.device, p, x);
  verify(p, x, other);
  // Both families sum over k in order.
  assert(sameBits(other, first), `${label(p)}: the families give different bits`);
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
];

for (const layout of LAYOUTS) {
  const name = `${layout.ta ? "T" : "N"}${layout.tb ? "T" : "N"}`;
  Deno.test(`products ${name} match float64 in both families`, async () => {
    for (const [m, n, k] of SIZES) await holds({ m, n, k, ...layout });
    // Batches large enough for the rows alone to decide on the tile.
    for (const m of [4, 16, 28, 60]) {
      await holds({ m, n: 12, k: 8, batch: 40, alpha: -0.75, ...layout });
      await holds({ m, n: 12, k: 7, batch: 40, ...layout });
    }
  });
}

Deno.test("epilogues match float64 in both families", async () => {
  const epilogues: Partial<Product>[] = [
    { bias: true },
    { residual: true },
    { bias: true, residual: true, alpha: 0.5 },
    { accumulate: true },
    { bias: true, accumulate: true },
    { bias: true, gelu: true },
  ];
  for (const epilogue of epilogues) {
    for (const [m, n, k] of [[5, 7, 3], [13, 20, 12], [196, 68, 8]]) {
      await holds({ m, n, k, tb: true, ...epilogue });
      await holds({ m, n, k, batch: 3, ...epilogue });
    }
    await holds({ m: 68, n: 36, k: 13, ta: true, ...epilogue });
  }
});

Deno.test("GELU is applied to what `pre` keeps", async () => {
  const gelu = registry().get("gelu")!;
  for (const [m, n, k] of [[5, 7, 3], [13, 20, 12], [196, 68, 8]]) {
    const p = { m, n, k, gelu: true, bias: true };
    const x = prepare(p);
    for (const { device } of [fast, plain]) {
      const [c, pre] = await compute(device, p, x);
      const [expected] = gelu.reference.forward([{
        shape: [pre.length],
        data: Float64Array.from(pre),
      }], undefined);
      for (let i = 0; i < m; i++) {
        for (let j = 0; j < n; j++) {
          const at = x.c.at(0, i, j);
          const wanted = expected.data[at - x.c.start];
          // The bound of kernels/math.wgsl and the rounding of the result.
          assert(
            Math.abs(c[at] - wanted) <= 7e-7 * Math.abs(wanted) + 1e-37,
            `${c[at]}, not ${wanted}`,
          );
        }
      }
    }
  }
});

Deno.test("a product large enough for the widest tile gives the bits of the register tiles", async () => {
  for (const layout of LAYOUTS) {
    for (const extra of [{ bias: true, gelu: true }, { residual: true, accumulate: true }]) {
      // 2^28 multiply-adds and a few, with ends of every kind.
      const p = { m: 652, n: 700, k: layout.ta && !layout.tb ? 593 : 592, ...layout, ...extra };
      const x = prepare(p);
      fast.dispatches.length = 0;
      const results = await compute(fast.device, p, x);
      assert(sameBits(results, await compute(plain.device, p, x)), label(p));
      // Elsewhere smaller tiles may divide better among the cores.
      if (hasFamily && [2, 4, 8, 16].includes(navigator.hardwareConcurrency)) {
        assertEquals(fast.dispatches[0].tile, "64 x 2");
      }
    }
  }
});

Deno.test({
  name: "the subgroup family takes aligned products, in tiles of every height",
  ignore: !hasFamily,
  fn: async () => {
    const used = async (p: Product) => {
      fast.dispatches.length = 0;
      await compute(fast.device, p, prepare(p));
      return fast.dispatches[0];
    };
    const tiles = [];
    for (const m of [4, 16, 28, 60]) {
      const { kernel, tile, vector } = await used({ m, n: 12, k: 8, batch: 400 });
      assertEquals([kernel, vector], ["gemm_subgroup", true]);
      tiles.push(tile);
    }
    assertEquals(tiles, ["8 x 1", "16 x 1", "32 x 1", "64 x 1"]);
    assertEquals((await used({ m: 8, n: 6, k: 8 })).kernel, "gemm");
    assertEquals((await used({ m: 8, n: 8, k: 6 })).kernel, "gemm");
    assertEquals((await used({ m: 8, n: 8, k: 6, ta: true })).kernel, "gemm_subgroup");
    assert(plain.dispatches.every(({ kernel }) => kernel === "gemm"));
  },
});
