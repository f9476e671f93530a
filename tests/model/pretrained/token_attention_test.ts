/** Whom tokens of other systems' encoders attend to, against the same in float64. */
import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { keep, mul, openDevice, ShapeError } from "../../../engine/functions.ts";
import { readSafetensors } from "../../../engine/formats/safetensors.ts";
import { scope } from "../../../engine/scope.ts";
import type { Tensor } from "../../../engine/tensor.ts";
import { loadPretrained } from "../../../model/pretrained/load.ts";
import type { PretrainedEncoder } from "../../../model/pretrained/encoder.ts";
import { htsatFile } from "../../support/htsat_file.ts";
import { fullOnly } from "../../support/tier.ts";

const FOLDER = new URL("../../golden/compared/", import.meta.url);
const read = (name: string) => Deno.readFileSync(new URL(name, FOLDER));
const WAVE = readSafetensors(read("audio.safetensors")).tensors.get("w1.16000")!
  .data as Float32Array;

/** What the encoder makes at each stage of a wave, read back, and its parameters. */
async function staged(encoder: PretrainedEncoder, wave: Float32Array) {
  const { device } = encoder;
  const kept: [string, Tensor][] = [];
  using _last = scope(() =>
    encoder.encode(encoder.features(device.tensor(wave, [1, wave.length])), {
      trace: (name, x) => kept.push([name, keep(mul(x, 1))]),
    })
  );
  const all = new Map<string, Float32Array>();
  for (const [name, values] of kept) {
    all.set(name, await values.data() as Float32Array);
    values.dispose();
  }
  const parameter = async (name: string) => await encoder.arena.get(name).data() as Float32Array;
  return { all, parameter };
}

/** x [rows, inputs] by a linear layer, in float64. */
function dense(x: Float64Array, weight: Float32Array, bias: Float32Array): Float64Array {
  const [outputs, inputs] = [bias.length, weight.length / bias.length];
  return Float64Array.from({ length: x.length / inputs * outputs }, (_, i) => {
    const [row, out] = [Math.floor(i / outputs), i % outputs];
    let sum = bias[out];
    for (let k = 0; k < inputs; k++) sum += x[row * inputs + k] * weight[out * inputs + k];
    return sum;
  });
}

/** Rows of so many values to mean 0 and variance 1, then scaled. */
function normed(x: ArrayLike<number>, weight: Float32Array, bias: Float32Array): Float64Array {
  const width = bias.length;
  const y = Float64Array.from(x);
  for (let at = 0; at < y.length; at += width) {
    const row = y.subarray(at, at + width);
    const mean = row.reduce((a, b) => a + b, 0) / width;
    const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / width;
    row.forEach((it, k) => row[k] = (it - mean) / Math.sqrt(variance + 1e-6) * weight[k] + bias[k]);
  }
  return y;
}

fullOnly("pre-norm blocks: whom a token attends to is as in float64", async () => {
  using device = await openDevice();
  for (const name of ["passt", "atst_clip"]) {
    using encoder = await loadPretrained(device, read(`${name}_encoder.safetensors`));
    const { heads, width, rows, attention: layout } = encoder.info;
    const { own, timeMajor } = layout!;
    // At whatever rate.
    const part = WAVE.slice(0, encoder.info.sampleRate);
    const { all, parameter } = await staged(encoder, part);
    const { columns, blocks } = await encoder.attention(part, { row: rows - 1, column: 2 });
    assertEquals(blocks.length, encoder.depth);
    const inputs = [all.get("tokens_in")!, all.get("block0")!];
    for (const [b, input] of inputs.entries()) {
      const p = (name: string) => parameter(`blocks.${b}.${name}`);
      const x = normed(input, await p("norm1.weight"), await p("norm1.bias"));
      const qkv = dense(x, await p("attn.qkv.weight"), await p("attn.qkv.bias"));
      const tokens = input.length / width;
      const at = (row: number, column: number) =>
        own + (timeMajor ? column * rows + row : row * columns + column);
      const size = width / heads;
      const [query, kept] = [at(rows - 1, 2), own + rows * columns];
      assertEquals(tokens, kept);
      for (let head = 0; head < heads; head++) {
        const scores = Float64Array.from({ length: tokens }, (_, key) => {
          let sum = 0;
          for (let k = 0; k < size; k++) {
            sum += qkv[query * 3 * width + head * size + k] *
              qkv[key * 3 * width + width + head * size + k];
          }
          return Math.exp(sum / Math.sqrt(size));
        });
        const total = scores.reduce((a, b) => a + b, 0);
        for (let i = 0; i < kept; i++) {
          const patch = i - own;
          const token = patch < 0 ? i : at(Math.floor(patch / columns), patch % columns);
          // Weights up to 1 of float32 products of some ten values.
          assertAlmostEquals(
            blocks[b][head * kept + i],
            scores[token] / total,
            1e-5,
            `${name} ${i}`,
          );
        }
      }
    }
    const byItself = await encoder.attention(part, 0).catch((error) => error);
    assertEquals(byItself instanceof ShapeError, own === 0);
  }
});

fullOnly(
  "post-norm blocks: weighted values are what the attention of official programs gives",
  async () => {
    using device = await openDevice();
    for (const name of ["beats", "mae_ast_patch"]) {
      using encoder = await loadPretrained(device, read(`${name}.pt`));
      const { heads, width, rows, depth } = encoder.info;
      const part = WAVE.slice(0, 16_000);
      // `attn_out` is held against the official programs in the tests of these encoders.
      const { all, parameter } = await staged(encoder, part);
      const { columns, blocks } = await encoder.attention(part, { row: 3, column: 1 });
      const [tokens, query] = [rows * columns, rows + 3];
      for (let b = 0; b < depth; b++) {
        const p = (it: string) => parameter(`encoder.layers.${b}.self_attn.${it}`);
        const input = all.get(b === 0 ? "enc_in" : `block${b - 1}`)!;
        const qkv = dense(Float64Array.from(input), await p("qkv.weight"), await p("qkv.bias"));
        const mixed = Float64Array.from({ length: width }, (_, k) => {
          const head = Math.floor(k / (width / heads));
          let sum = 0;
          for (let i = 0; i < tokens; i++) {
            const token = i % columns * rows + Math.floor(i / columns);
            sum += blocks[b][head * tokens + i] * qkv[token * 3 * width + 2 * width + k];
          }
          return sum;
        });
        const out = dense(mixed, await p("out_proj.weight"), await p("out_proj.bias"));
        const wanted = all.get(`attn_out${b}`)!.subarray(query * width, (query + 1) * width);
        const largest = wanted.reduce((a, it) => Math.max(a, Math.abs(it)), 0);
        assert(largest > 0.01);
        out.forEach((it, k) => assertAlmostEquals(it, wanted[k], 2e-5 * largest, `${name} ${b}`));
      }
    }
  },
);

fullOnly("attention that is not given, and tokens that are not there, are refused", async () => {
  using device = await openDevice();
  const wave = new Float32Array(16_000).fill(0.1);
  using htsat = await loadPretrained(device, htsatFile());
  assertEquals(htsat.info.attention, undefined);
  await assertRejects(() => htsat.attention(wave, 0), ShapeError, "no attention");
  using beats = await loadPretrained(device, read("beats.pt"));
  for (const token of [0, { row: 8, column: 0 }, { row: 0, column: 9 }]) {
    await assertRejects(() => beats.attention(wave, token), ShapeError, "no such token");
  }
  await assertRejects(() => beats.attention(wave.subarray(0, 100), 0), ShapeError, "samples");
});
