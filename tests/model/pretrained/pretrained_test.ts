/**
 * Encoders of other systems: what they refuse, short clips, pooling, gates and buckets against
 * float64. Their numbers are held against golden sets by `verify`.
 */
import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { openDevice, ShapeError } from "../../../engine/mod.ts";
import { Prng } from "../../../engine/prng.ts";
import { htsatFile } from "../../support/htsat_file.ts";
import { EncoderError } from "../../../model/encoder/encoder.ts";
import {
  type CheckpointFile,
  openCheckpoint,
  type Setting,
} from "../../../model/formats/checkpoint_file.ts";
import { safetensorsChunks } from "../../../model/formats/safetensors_stream.ts";
import {
  bytesAccess,
  type StoredTensor,
  storedTensor,
} from "../../../model/formats/stored_tensor.ts";
import { type Beats, foldedLastAxis } from "../../../model/pretrained/beats.ts";
import {
  importPretrained,
  inspectPretrained,
  loadPretrained,
  trainedTensors,
} from "../../../model/pretrained/load.ts";
import {
  biasGate,
  relativeBias,
  relativeBuckets,
} from "../../../model/pretrained/relative_positions.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const FOLDER = new URL("../../golden/compared/", import.meta.url);

function opened(name: string): CheckpointFile {
  return openCheckpoint(bytesAccess(Deno.readFileSync(new URL(name, FOLDER))));
}

/** The file without some tensors, or with others in their place. */
function changed(file: CheckpointFile, ...renamed: [RegExp, string?][]): CheckpointFile {
  const tensors = new Map(file.tensors);
  for (const [name, tensor] of file.tensors) {
    const found = renamed.find(([of]) => of.test(name));
    if (!found) continue;
    tensors.delete(name);
    if (found[1] !== undefined) tensors.set(name.replace(...found as [RegExp, string]), tensor);
  }
  return { ...file, tensors };
}

function noise(samples: number, seed: number): Float32Array {
  const random = new Prng(seed);
  return Float32Array.from({ length: samples }, () => random.uniform() - 0.5);
}

const MAE_AST = opened("mae_ast_patch.pt");
const BEATS = opened("beats.pt");
const [ATST_CLIP, PASST] = ["atst_clip", "passt"].map((it) => opened(`${it}_encoder.safetensors`));
const HTSAT = openCheckpoint(bytesAccess(htsatFile()));

Deno.test("a file that lacks tensors is refused with what is missing and what was not used", async () => {
  const cases: [CheckpointFile, RegExp][] = [
    [
      changed(BEATS, [/layers\.1\.fc2\.bias$/, "layers.1.fc2.bais"]),
      /whole encoder of BEATs; missing: "encoder\.layers\.1\.fc2\.bias"; not used: .*fc2\.bais"$/,
    ],
    // All of a block in the middle, or at the end, where the configuration knows of it.
    [changed(BEATS, [/layers\.1\./]), /missing: "encoder\.layers\.1\.self_attn.* and \d+ more/],
    [changed(MAE_AST, [/^encoder\.layers\.2\./]), /missing: "encoder\.layers\.2\.self_attn/],
    [changed(MAE_AST, [/running_mean/]), /missing: "batch_norm\.running_mean"; not used: none/],
    [changed(BEATS, [/^encoder\.layer_norm\.weight/]), /missing: "encoder\.layer_norm\.weight"/],
    [{ ...BEATS, setting: () => undefined }, /configuration, cfg, is missing/],
    [{ ...MAE_AST, setting: () => undefined }, /frames and bands of a patch; the option patch/],
    [
      changed(BEATS, [/^patch_embedding/]),
      /those of none of MAE-AST, BEATs, ATST, PaSST, HTS-AT, .*, SSLAM, CED and Dasheng/,
    ],
  ];
  for (const [file, message] of cases) {
    const error = await assertRejects(() => loadPretrained(device, file), EncoderError);
    assert(message.test(error.message), error.message);
  }
  const tensors = new Map(BEATS.tensors);
  tensors.set("layer_norm.bias", storedTensor("F32", [3], new Uint8Array(12)));
  await assertRejects(
    () => loadPretrained(device, { ...BEATS, tensors }),
    EncoderError,
    'of another shape: "layer_norm.bias [3] instead of [20]"',
  );
  tensors.set("layer_norm.bias", BEATS.tensors.get("layer_norm.bias")!);
  tensors.set("something", storedTensor("F32", [1], new Uint8Array(4)));
  using encoder = await loadPretrained(device, { ...BEATS, tensors });
  assertEquals(encoder.info.unused, ["something"]);
});

Deno.test("what is written after training loads again, each tensor once", async () => {
  const wave = noise(33_000, 5);
  for (const [name, file] of Object.entries({ MAE_AST, BEATS, ATST_CLIP, PASST, HTSAT })) {
    using encoder = await loadPretrained(device, file);
    const written = trainedTensors(file, {}, await encoder.arena.read());
    const tensors = new Map(
      written.map(([name, { shape, data }]) => [
        name,
        storedTensor("F32", [...shape], new Uint8Array(Float32Array.from(data).buffer)),
      ]),
    );
    assertEquals(tensors.size, written.length, name);
    using again = await loadPretrained(device, { ...file, tensors });
    const [before, after] = [await encoder.embed(wave), await again.embed(wave)];
    // Folded products are taken apart and put together again, in f32.
    before.values.forEach((x, i) => assertAlmostEquals(after.values[i], x, 1e-5, name));
  }
});

Deno.test("clips are embedded whole, however short, pooled over time and bands", async () => {
  using encoder = await loadPretrained(device, BEATS);
  const { rows, width, depth, heads, minSamples, sampleRate } = encoder.info;
  assertEquals([rows, width, depth, heads, minSamples, sampleRate], [8, 32, 3, 4, 2800, 16000]);
  const wave = noise(minSamples + 2560, 1);
  const [clip, bands, steps, wide] = [
    await encoder.embed(wave, { layers: true }),
    await encoder.embed(wave, { bands: "concat" }),
    await encoder.embed(wave, { pool: "none" }),
    await encoder.embed(wave, { pool: "none", bands: "concat", layers: true }),
  ];
  assertEquals([clip.shape, bands.shape], [[32], [256]]);
  assertEquals([steps.shape, wide.shape, steps.steps], [[2, 32], [2, 256], 2]);
  assertEquals([...steps.times!], [0, 160]);
  assertEquals([clip.layers!.length, wide.layers!.length], [3 * 32, 3 * 512]);
  assertEquals(clip.layers!.slice(64), clip.values);
  assertEquals(wide.layers!.slice(1024), wide.values);
  for (let i = 0; i < 32; i++) {
    let sum = 0;
    for (let at = i; at < 512; at += 32) sum += wide.values[at];
    // 16 values of about 1 in float32.
    assertAlmostEquals(clip.values[i], sum / 16, 2e-6);
    assertAlmostEquals(clip.values[i], (steps.values[i] + steps.values[32 + i]) / 2, 2e-6);
    assertAlmostEquals(bands.values[i], (wide.values[i] + wide.values[256 + i]) / 2, 2e-6);
  }
  const short = await encoder.embed(wave.subarray(0, 300));
  const silence = new Float32Array(minSamples);
  silence.set(wave.subarray(0, 300));
  assertEquals(short, await encoder.embed(silence));
  for (const bad of [new Float32Array(0), Float32Array.of(1, NaN)]) {
    await assertRejects(() => encoder.embed(bad), ShapeError);
  }
});

Deno.test("clips of one length go through together, and come out as if alone", async () => {
  using encoder = await loadPretrained(device, BEATS);
  const lengths = [5000, 3000, 5000, 3000, 5000];
  const clips = lengths.map((length, i) => noise(length, 20 + i));
  const options = { blocks: [2, 3], pool: "max" } as const;
  const all = await encoder.embed(clips, options);
  for (const [i, clip] of clips.entries()) {
    const alone = await encoder.embed(clip, options);
    assertEquals(all[i].shape, [64]);
    // Products of other sizes may sum in another order: values of about 1 in float32.
    all[i].values.forEach((it, k) => assertAlmostEquals(it, alone.values[k], 2e-6));
  }
  // Pairs, and what is too long for its group fails alone.
  const keys: number[] = [];
  for await (
    const [key] of encoder.embedEach(clips.map((audio, key) => ({ key, audio })), { batch: 2 })
  ) keys.push(key);
  assertEquals(keys, [0, 2, 1, 3, 4]);
});

Deno.test("last blocks side by side or averaged, and choices that an encoder has not", async () => {
  using encoder = await loadPretrained(device, BEATS);
  const wave = noise(4000, 30);
  const { values, layers } = await encoder.embed(wave, { layers: true, blocks: [2, 3] });
  assertEquals([...values], [...layers!.slice(32)]);
  const { values: mean } = await encoder.embed(wave, { blocks: [1, 2, 3], join: "mean" });
  mean.forEach((it, k) => {
    const expected = (layers![k] + layers![32 + k] + layers![64 + k]) / 3;
    // One rounding to float32 of a value of about 1.
    assertAlmostEquals(it, expected, 1e-6);
  });
  assertEquals(encoder.embeddingSize({ blocks: [1, 2, 3], bands: "concat" }), 3 * 8 * 32);
  for (
    const options of [
      { official: true },
      { official: "downstream" },
      { vector: "all" },
      { blocks: [4] },
      { blocks: [] },
      { blocks: [2, 2] },
    ] as const
  ) await assertRejects(() => encoder.embed(wave, options), ShapeError);
});

Deno.test("no clip is longer than the positions of an encoder", async () => {
  using encoder = await loadPretrained(device, MAE_AST, { heads: 2 });
  assertEquals([encoder.info.heads, encoder.info.maxSteps], [2, Math.floor(700 / 8)]);
  const longest = encoder.info.minSamples + (encoder.info.maxSteps! - 1) * 2560;
  assertEquals(encoder.stepsOf(longest), encoder.info.maxSteps);
  await assertRejects(
    () => encoder.embed(new Float32Array(longest + 2560)),
    ShapeError,
    "704 tokens are more than the 700 positions",
  );
  await assertRejects(
    () => loadPretrained(device, MAE_AST, { heads: 5 }),
    EncoderError,
    "5 attention heads do not divide the width 32",
  );
});

/** A file of BEATs of released sizes, whose values nobody reads. */
function releasedBeats(): CheckpointFile {
  const sizes: Record<number, number> = { 20: 512, 32: 768, 64: 3072, 4: 12, 8: 64 };
  const tensors = new Map<string, StoredTensor>();
  for (let block = 0; block < 12; block++) {
    for (const [name, { shape }] of BEATS.tensors) {
      const full = name.replace("layers.0.", `layers.${block}.`);
      if (/layers\.[12]\./.test(name) || block > 0 && full === name) continue;
      const wide = shape.map((it) => sizes[it] ?? it);
      if (name.endsWith("grep_linear.weight") || name.endsWith("grep_linear.bias")) wide[0] = 8;
      if (name.endsWith("weight_v")) wide[1] = 48;
      tensors.set(full, { dtype: "F32", shape: wide, chunks: () => [] });
    }
  }
  const said: Record<string, Setting> = { deep_norm: true, max_distance: 800 };
  return { ...BEATS, tensors, setting: (key) => said[key] };
}

Deno.test("an encoder of released sizes has the tensors and values that were published", () => {
  const file = releasedBeats();
  assertEquals(file.tensors.size, 250);
  assertEquals(inspectPretrained(file), {
    ...{ system: "beats", title: "BEATs", width: 768, depth: 12, heads: 12 },
    ...{ parameters: 90_311_792, unused: [] },
  });
  assertEquals(inspectPretrained(MAE_AST)?.unused, []);
});

Deno.test("names of classes survive import", async () => {
  const head = new Map(BEATS.tensors);
  head.set("predictor.weight", storedTensor("F32", [2, 32], new Uint8Array(256)));
  head.set("predictor.bias", storedTensor("F32", [2], new Uint8Array(8)));
  const file = { ...BEATS, tensors: head, labels: { "0": "/m/0dog", "1": "/m/0cat" } };
  const { tensors, metadata } = importPretrained(file)!;
  const bytes = await Array.fromAsync(safetensorsChunks([...tensors], metadata));
  const whole = new Uint8Array(await new Blob(bytes as BlobPart[]).arrayBuffer());
  using encoder = await loadPretrained(device, openCheckpoint(bytesAccess(whole)));
  const { classes, labels } = encoder as Beats;
  assertEquals([classes, labels], [2, ["/m/0dog", "/m/0cat"]]);
  using plain = await loadPretrained(device, BEATS);
  assertEquals((plain as Beats).labels, undefined);
});

Deno.test("weight norm over all axes but the last", () => {
  // Columns (3, 4) and (5, 12) of norms 5 and 13.
  const folded = foldedLastAxis(Float32Array.of(10, 26), Float32Array.of(3, 5, 4, 12));
  assertEquals([...folded], [6, 10, 8, 24]);
});

Deno.test("gated relative positions against float64", async () => {
  const [batch, tokens, heads, head] = [2, 5, 3, 4];
  const buckets = { count: 8, maxDistance: 4 };
  const table = noise(8 * heads, 2);
  // Of the four buckets of a direction, distances from 3 on share the last.
  assertEquals([...relativeBuckets(tokens, buckets)], [3, 3, 2, 1, 0, 5, 6, 7, 7]);
  const qkv = noise(batch * tokens * 3 * heads * head, 3);
  const parameters = {
    "grep_linear.weight": { data: noise(8 * head, 4), shape: [8, head] },
    "grep_linear.bias": { data: noise(8, 5), shape: [8] },
    grep_a: { data: noise(heads, 6), shape: [1, heads, 1, 1] },
  };
  const p = (name: string) => {
    const { data, shape } = parameters[name as keyof typeof parameters];
    return device.tensor(data, shape);
  };
  using plain = relativeBias(device.tensor(table, [8, heads]), tokens, buckets);
  using gate = biasGate(p, device.tensor(qkv, [batch, tokens, 3 * heads * head]));
  assertEquals(plain.shape, [1, heads, tokens, tokens]);
  assertEquals(gate.shape, [batch, heads, tokens]);
  const [bias, found] = [await plain.data(), await gate.data()];
  const bucketOf = [3, 3, 2, 1, 0, 5, 6, 7, 7];
  const logistic = (x: number) => 1 / (1 + Math.exp(-x));
  const { grep_a: a, "grep_linear.weight": w, "grep_linear.bias": b } = parameters;
  for (let clip = 0; clip < batch; clip++) {
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < tokens; i++) {
        const q = qkv.subarray((clip * tokens + i) * 3 * heads * head + h * head);
        const [s, t] = [0, 4].map((first) => {
          let sum = 0;
          for (let row = first; row < first + 4; row++) {
            sum += b.data[row];
            for (let c = 0; c < head; c++) sum += w.data[row * head + c] * q[c];
          }
          return logistic(sum);
        });
        // A few float32 roundings of values up to 3.
        const expected = s * (t * a.data[h] - 1) + 2;
        assertAlmostEquals(found[(clip * heads + h) * tokens + i], expected, 1e-6);
        for (let j = 0; j < tokens; j++) {
          const of = table[bucketOf[j - i + tokens - 1] * heads + h];
          assertEquals(bias[(h * tokens + i) * tokens + j], of);
        }
      }
    }
  }
});

Deno.test("tokens of a mask must be those of the batch", async () => {
  using encoder = await loadPretrained(device, MAE_AST);
  using features = device.zeros([2, 33, 128]);
  for (const tokens of [[16], [16, 17], [0, 16], [1.5, 16]]) {
    assertThrows(() => encoder.encode(features, { tokens }), ShapeError, "are not the tokens");
  }
  using thin = device.zeros([1, 15, 128]);
  assertThrows(() => encoder.encode(thin), ShapeError, "patches of 16 frames and 16 bands");
});
