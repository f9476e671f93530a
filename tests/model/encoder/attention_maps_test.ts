/** Attention weights against float64 TypeScript, from a small encoder's tensors. */
import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { openDevice, ShapeError, slice, type Tensor } from "../../../engine/mod.ts";
import { attentionMaps, type AttentionQuery } from "../../../model/encoder/attention_maps.ts";
import { loadEncoder } from "../../../model/encoder/encoder.ts";
import { Prng } from "../../../engine/prng.ts";
import { encoderFile, WEIGHTS } from "../../support/golden_encoder.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const [WIDTH, DEPTH, HEADS, ROWS, MOST] = [16, 3, 2, 5, 4];

type Matrix = Float64Array[];

const weight = (name: string) => Float64Array.from(WEIGHTS.get(name)!.data);

/** x Wᵀ + b, with W of [outputs, inputs]. */
function dense(x: Matrix, name: string): Matrix {
  const [w, b] = [weight(`${name}.weight`), weight(`${name}.bias`)];
  return x.map((row) =>
    b.map((bias, o) => row.reduce((sum, v, i) => sum + v * w[o * row.length + i], bias))
  );
}

function layerNorm(x: Matrix, name: string): Matrix {
  const [w, b] = [weight(`${name}.weight`), weight(`${name}.bias`)];
  return x.map((row) => {
    const mean = row.reduce((a, v) => a + v, 0) / row.length;
    const variance = row.reduce((a, v) => a + (v - mean) ** 2, 0) / row.length;
    return row.map((v, i) => (v - mean) / Math.sqrt(variance + 1e-6) * w[i] + b[i]);
  });
}

const plus = (a: Matrix, b: Matrix): Matrix => a.map((row, i) => row.map((v, j) => v + b[i][j]));

/** Abramowitz and Stegun 7.1.26 would be 1e-7 off; a series is exact enough for small arguments. */
function gelu(x: number): number {
  let [term, erf] = [x / Math.SQRT2, 0];
  for (let n = 0; n < 80; n++) {
    erf += term / (2 * n + 1);
    term *= -(x * x / 2) / (n + 1);
  }
  const exact = Math.abs(x) > 6 ? Math.sign(x) : 2 / Math.sqrt(Math.PI) * erf;
  return 0.5 * x * (1 + exact);
}

/** [layer][head][query][key]. */
function reference(logmel: Float32Array, frames: number): Matrix[][] {
  const columns = Math.floor(frames / 16);
  const [conv, bias, table] = [
    weight("patch_embed.proj.weight"),
    weight("patch_embed.proj.bias"),
    weight("pos_embed"),
  ];
  const position = (token: number) => table.subarray(token * WIDTH, (token + 1) * WIDTH);
  const patches = Array.from({ length: ROWS * columns }, (_, token) => {
    const [row, column] = [Math.floor(token / columns), token % columns];
    const own = position(1 + row * MOST + column);
    return bias.map((b, d) => {
      let sum = b;
      for (let f = 0; f < 16; f++) {
        for (let t = 0; t < 16; t++) {
          sum += conv[(d * 16 + f) * 16 + t] * logmel[(row * 16 + f) * frames + column * 16 + t];
        }
      }
      return sum + own[d];
    });
  });
  let x: Matrix = [weight("cls_token").map((v, i) => v + position(0)[i]), ...patches];
  const size = WIDTH / HEADS;
  return Array.from({ length: DEPTH }, (_, layer) => {
    const name = `student_encoder.blocks.${layer}.`;
    const qkv = dense(layerNorm(x, `${name}norm1`), `${name}attn.qkv`);
    const part = (row: Float64Array, which: number, head: number) =>
      row.subarray(which * WIDTH + head * size, which * WIDTH + (head + 1) * size);
    const maps = Array.from({ length: HEADS }, (_, head) =>
      qkv.map((q) => {
        const scores = qkv.map((k) =>
          part(q, 0, head).reduce((a, v, i) => a + v * part(k, 1, head)[i], 0) / Math.sqrt(size)
        );
        const top = Math.max(...scores);
        const powers = Float64Array.from(scores, (it) => Math.exp(it - top));
        const all = powers.reduce((a, b) => a + b, 0);
        return powers.map((it) => it / all);
      }));
    const mixed = qkv.map((_, token) =>
      Float64Array.from({ length: WIDTH }, (_, d) => {
        const head = Math.floor(d / size);
        return maps[head][token].reduce((a, w, key) => a + w * qkv[key][2 * WIDTH + d], 0);
      })
    );
    const attended = plus(x, dense(mixed, `${name}attn.proj`));
    const hidden = dense(layerNorm(attended, `${name}norm2`), `${name}mlp.fc1`)
      .map((row) => row.map(gelu));
    x = plus(attended, dense(hidden, `${name}mlp.fc2`));
    return maps;
  });
}

Deno.test("attention maps: every layer and head equals float64, rows sum up to 1", async () => {
  using encoder = await loadEncoder(device, encoderFile());
  const random = new Prng(3);
  // A full chunk, and a shorter one with frames that fill no patch.
  for (const frames of [64, 39]) {
    const values = Float32Array.from({ length: 80 * frames }, () => random.normal());
    using logmel = device.tensor(values, [1, 80, frames]);
    const columns = Math.floor(frames / 16);
    const tokens = 1 + ROWS * columns;
    const queries = [ROWS * columns - 1, "class", 1] as const;
    const found = await attentionMaps(encoder.network, logmel, queries);
    assertEquals([found.grid.rows, found.grid.columns], [ROWS, columns]);
    assertEquals([found.heads, found.classTokens], [HEADS, 1]);
    const expected = reference(values, frames);
    assertEquals(found.layers.length, DEPTH);
    let spread = 0;
    found.layers.forEach((weights, layer) => {
      assertEquals(weights.length, HEADS * queries.length * tokens);
      for (let head = 0; head < HEADS; head++) {
        queries.forEach((query, i) => {
          const at = (head * queries.length + i) * tokens;
          const row = weights.subarray(at, at + tokens);
          // Float32 through up to three blocks; the weights are below 1.
          const token = query === "class" ? 0 : 1 + query;
          row.forEach((w, key) =>
            assertAlmostEquals(w, expected[layer][head][token][key], 5e-6, `layer ${layer}`)
          );
          assertAlmostEquals(row.reduce((a, b) => a + b, 0), 1, 2e-6);
          spread = Math.max(spread, Math.max(...row) - Math.min(...row));
        });
      }
    });
    assert(spread > 0.01, "all weights are alike: nothing was compared");
  }
});

Deno.test("attention maps: without a bias of keys, and without a class token", async () => {
  using encoder = await loadEncoder(device, encoderFile());
  const random = new Prng(4);
  const values = Float32Array.from({ length: 80 * 64 }, () => random.normal());
  using logmel = device.tensor(values, [1, 80, 64]);
  const { network } = encoder;
  using given = new DisposableStack();
  const split = new Map<string, Tensor>();
  for (const [name, { data }] of WEIGHTS) {
    if (!name.endsWith("attn.qkv.bias")) continue;
    const part = (i: number) => given.use(device.tensor(data.slice(i * WIDTH, (i + 1) * WIDTH)));
    split.set(name.replace("qkv.bias", "q_bias"), part(0));
    split.set(name.replace("qkv.bias", "v_bias"), part(2));
  }
  const parameter = (name: string) => {
    assert(!name.endsWith("qkv.bias"), name);
    return split.get(name) ?? network.parameter(name);
  };
  // A bias of keys moves all scores of a query alike: softmax is the same without.
  const keyless = { ...network, parameter, geometry: { ...network.geometry, keyBias: false } };
  const [with_, without] = [
    await attentionMaps(network, logmel, [7, "class"]),
    await attentionMaps(keyless, logmel, [7, "class"]),
  ];
  with_.layers.forEach((weights, layer) =>
    weights.forEach((w, i) => assertAlmostEquals(w, without.layers[layer][i], 5e-6))
  );
  const bare = { ...network, geometry: { ...network.geometry, classToken: false } };
  using table = slice(network.parameter("pos_embed"), 1, 1, ROWS * MOST);
  const found = await attentionMaps(
    { ...bare, parameter: (name) => name === "pos_embed" ? table : network.parameter(name) },
    logmel,
    [0],
  );
  assertEquals([found.classTokens, found.layers[0].length], [0, HEADS * ROWS * MOST]);
  assertAlmostEquals(found.layers[2].reduce((a, b) => a + b, 0), HEADS, 5e-6);
  await assertRejects(() => attentionMaps(bare, logmel, ["class"]), ShapeError, "0 to 19");
});

Deno.test("attention maps: wrong shapes and tokens are refused, nothing stays behind", async () => {
  using encoder = await loadEncoder(device, encoderFile());
  const run = async (shape: number[], queries: AttentionQuery[]) => {
    using logmel = device.zeros(shape);
    return await attentionMaps(encoder.network, logmel, queries);
  };
  for (const shape of [[1, 80, 15], [1, 80, 80], [2, 80, 64], [1, 64, 64]]) {
    await assertRejects(() => run(shape, [0]), ShapeError, "is not [1, 80, 16 to 64]");
  }
  for (const queries of [[0, 20], [-1], [0.5], []]) {
    await assertRejects(() => run([1, 80, 64], queries), ShapeError, "patches 0 to 19 and class");
  }
  await run([1, 80, 64], [0]);
  const before = device.memory.liveBytes;
  await run([1, 80, 64], ["class", 19]);
  assertEquals(device.memory.liveBytes, before);
});
