/**
 * AST, SSAST, AudioMAE and EAT: small random models under the names of the authors' programs, of
 * transformers and of timm, against the same in float64. No released file was opened for these
 * tests: names, shapes and constants are those of the published programs.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { openDevice, ShapeError } from "../../../engine/mod.ts";
import { Prng } from "../../../engine/prng.ts";
import { EncoderError } from "../../../model/encoder/encoder.ts";
import type { CheckpointFile } from "../../../model/formats/checkpoint_file.ts";
import { withConfig } from "../../../model/formats/hugging_face.ts";
import { type StoredTensor, storedTensor } from "../../../model/formats/stored_tensor.ts";
import {
  importPretrained,
  inspectPretrained,
  loadPretrained,
} from "../../../model/pretrained/load.ts";
import type { PretrainedEmbedOptions } from "../../../model/pretrained/info.ts";
import { SpectrogramVit } from "../../../model/pretrained/spectrogram_vit.ts";
import { block, norm, postBlock, type Values } from "../../support/objective_reference.ts";
import { fullOnly, test } from "../../support/tier.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const [WIDTH, DEPTH, HEADS] = [16, 2, 2];

/** What a system computes, said once more. */
interface Spec {
  /** Bands and frames of a patch. */
  readonly patch: readonly [number, number];
  /** Bands and frames between patches. */
  readonly stride: readonly [number, number];
  /** Frames of the canvas. */
  readonly frames: number;
  readonly own: readonly string[];
  readonly eps: number;
  readonly mean: number;
  readonly std: number;
  /** Whether time comes first in kernels and in the order of patches. */
  readonly timeFirst: boolean;
  readonly norm?: "norm" | "fc_norm";
  /** A norm before blocks that have theirs behind each sum. */
  readonly postNorm?: boolean;
}

const AST: Spec = {
  ...{ patch: [16, 16], stride: [10, 10], frames: 128, own: ["cls_token", "dist_token"] },
  ...{ eps: 1e-6, mean: -4.2677393, std: 4.5689974, timeFirst: false, norm: "norm" },
};
const AUDIOMAE: Spec = {
  ...{ ...AST, stride: [16, 16], frames: 1024, own: ["cls_token"], timeFirst: true },
};

const along = (size: number, patch: number, stride: number) =>
  Math.floor((size - patch) / stride) + 1;
const gridOf = ({ patch, stride, frames }: Spec) =>
  [along(128, patch[0], stride[0]), along(frames, patch[1], stride[1])] as const;

/** Parameters under timm's names. */
function parametersOf(spec: Spec, seed: number): Map<string, Float32Array> {
  const random = new Prng(seed);
  const all = new Map<string, Float32Array>();
  const put = (name: string, size: number, scale: number, offset = 0) =>
    all.set(name, Float32Array.from({ length: size }, () => offset + scale * random.normal()));
  const layer = (name: string, out: number, inputs: number) => {
    put(`${name}.weight`, out * inputs, 1 / Math.sqrt(inputs));
    put(`${name}.bias`, out, 0.3);
  };
  const scale = (name: string) => {
    // Weights far from 1 and small deviations of what is normed make every epsilon count.
    put(`${name}.weight`, WIDTH, 0.3, 1);
    put(`${name}.bias`, WIDTH, 0.3);
  };
  const [rows, columns] = gridOf(spec);
  for (const name of spec.own) put(name, WIDTH, 0.01);
  put("pos_embed", (spec.own.length + rows * columns) * WIDTH, 0.01);
  layer("patch_embed.proj", WIDTH, spec.patch[0] * spec.patch[1]);
  for (const name of ["patch_embed.proj.weight", "patch_embed.proj.bias"]) {
    all.set(name, all.get(name)!.map((x) => x * 0.01));
  }
  for (let i = 0; i < DEPTH; i++) {
    scale(`blocks.${i}.norm1`);
    layer(`blocks.${i}.attn.qkv`, 3 * WIDTH, WIDTH);
    layer(`blocks.${i}.attn.proj`, WIDTH, WIDTH);
    scale(`blocks.${i}.norm2`);
    layer(`blocks.${i}.mlp.fc1`, 4 * WIDTH, WIDTH);
    layer(`blocks.${i}.mlp.fc2`, WIDTH, 4 * WIDTH);
  }
  if (spec.norm) scale(spec.norm);
  if (spec.postNorm) scale("norm_pre");
  return all;
}

/** Shapes of what is not a matrix or a vector of the width. */
function shapeOf(name: string, size: number, { patch, timeFirst }: Spec): number[] {
  if (/_tokens?$|mask_embed$/.test(name)) return [1, 1, WIDTH];
  if (name === "pos_embed") return [1, size / WIDTH, WIDTH];
  if (name === "patch_embed.proj.weight") {
    return [WIDTH, 1, ...(timeFirst ? [patch[1], patch[0]] : patch)];
  }
  if (!name.endsWith(".weight") || /norm(\d|_pre)?\.weight$/.test(name)) return [size];
  const inputs = name.endsWith("fc2.weight") ? 4 * WIDTH : WIDTH;
  return [size / inputs, inputs];
}

type Named = (name: string) => readonly string[];

/** A file of them. @param named what it calls each; parts of several are one behind the other */
function fileOf(
  spec: Spec,
  parameters: ReadonlyMap<string, Float32Array>,
  named: Named,
): CheckpointFile {
  const tensors = new Map<string, StoredTensor>();
  for (const [name, values] of parameters) {
    const names = named(name);
    const size = values.length / names.length;
    const shape = shapeOf(name, values.length, spec);
    names.forEach((it, i) => {
      const part = values.slice(i * size, (i + 1) * size);
      const own = [shape[0] / names.length, ...shape.slice(1)];
      tensors.set(it, storedTensor("F32", own, new Uint8Array(part.buffer)));
    });
  }
  return {
    ...{ format: "torch", tensors, container: "", beside: new Map(), metadata: {} },
    heads: { encoder: HEADS },
    setting: () => undefined,
  };
}

/** Names of `ASTForAudioClassification` of transformers. */
const transformers: Named = (name) => {
  const [, index, rest] = /^blocks\.(\d+)\.(.*)\./.exec(name) ?? [];
  const end = name.slice(name.lastIndexOf("."));
  const base = "audio_spectrogram_transformer.";
  if (index === undefined) {
    const found = {
      cls_token: "embeddings.cls_token",
      dist_token: "embeddings.distillation_token",
      pos_embed: "embeddings.position_embeddings",
      "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
      "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
      "norm.weight": "layernorm.weight",
      "norm.bias": "layernorm.bias",
    }[name];
    return [base + found];
  }
  const layer = `${base}encoder.layer.${index}.`;
  if (rest === "attn.qkv") {
    return ["query", "key", "value"].map((it) => `${layer}attention.attention.${it}${end}`);
  }
  const found = {
    norm1: "layernorm_before",
    norm2: "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
  }[rest];
  return [`${layer}${found}${end}`];
};

/** What a chunk of log-mel becomes, in float64: tokens after the last block. */
function reference(
  spec: Spec,
  values: Values,
  features: Float32Array,
): Float64Array<ArrayBufferLike>[] {
  const { patch, stride, own, eps, mean, std, timeFirst } = spec;
  const given = features.length / 128;
  const at = (band: number, frame: number) =>
    ((frame < given ? features[frame * 128 + band] : 0) - mean) / (2 * std);
  const [rows, columns] = gridOf(spec);
  const weight = values.get("patch_embed.proj.weight")!;
  const bias = values.get("patch_embed.proj.bias")!;
  const [high, wide] = patch;
  const tokens = own.map((name) => values.get(name)!.slice());
  for (let i = 0; i < rows * columns; i++) {
    const [row, column] = timeFirst
      ? [i % rows, Math.floor(i / rows)]
      : [Math.floor(i / columns), i % columns];
    tokens.push(Float64Array.from({ length: WIDTH }, (_, out) => {
      let sum = bias[out];
      for (let f = 0; f < high; f++) {
        for (let t = 0; t < wide; t++) {
          const place = timeFirst ? t * high + f : f * wide + t;
          sum += weight[out * high * wide + place] *
            at(row * stride[0] + f, column * stride[1] + t);
        }
      }
      return sum;
    }));
  }
  const table = values.get("pos_embed")!;
  let hidden: Float64Array<ArrayBufferLike>[] = tokens.map((it, i) =>
    it.map((x, k) => x + table[i * WIDTH + k])
  );
  if (spec.postNorm) hidden = hidden.map((x) => norm(values, "norm_pre", x, eps));
  for (let i = 0; i < DEPTH; i++) {
    hidden = (spec.postNorm ? postBlock : block)(values, `blocks.${i}.`, hidden, HEADS, eps);
  }
  return hidden;
}

const meanOf = (rows: readonly Float64Array[]) =>
  Float64Array.from(
    { length: WIDTH },
    (_, k) => rows.reduce((sum, it) => sum + it[k], 0) / rows.length,
  );

function largest(found: Float32Array, expected: ArrayLike<number>): number {
  assertEquals(found.length, expected.length);
  return found.reduce((most, x, i) => Math.max(most, Math.abs(x - expected[i])), 0);
}

/** Tokens are of the order of 1; float32 rounds sums of a thousand attention weights. */
const TOLERANCE = 2e-5;

async function opened(file: CheckpointFile): Promise<SpectrogramVit> {
  const encoder = await loadPretrained(device, file);
  if (encoder instanceof SpectrogramVit) return encoder;
  throw new Error(`${encoder.info.title} was not expected`);
}

function wave(samples: number, seed = 1): Float32Array {
  const random = new Prng(seed);
  return Float32Array.from(
    { length: samples },
    (_, i) => 0.1 * (random.uniform() - 0.5) + 0.3 * Math.sin(0.001 * i * (1 + i / 50_000)),
  );
}

/** Holds an encoder's chunk and its embeddings against float64. */
async function check(
  spec: Spec,
  encoder: SpectrogramVit,
  values: Values,
  vector: "tokens" | "patches",
  audio: Float32Array,
): Promise<void> {
  const { frames, own, eps, norm: last } = spec;
  const [rows, columns] = gridOf(spec);
  const total = 1 + Math.floor((audio.length - 400) / 160);
  const normed = (x: Float64Array) => last ? norm(values, last, x, eps) : x;
  const clip = new Float64Array(WIDTH);
  const steps: Float64Array[] = [];
  for (let first = 0; first < total; first += frames) {
    const count = Math.min(frames, total - first);
    const part = audio.slice(first * 160, (first + count - 1) * 160 + 400);
    using features = encoder.features(device.tensor(part, [1, part.length]));
    assertEquals(features.shape, [1, count, 128]);
    const tokens = reference(spec, values, await features.data() as Float32Array);
    const patches = tokens.slice(own.length);
    const pooled = vector === "tokens" ? tokens.slice(0, own.length) : patches;
    const one = last === "fc_norm" ? normed(meanOf(pooled)) : meanOf(pooled.map(normed));
    one.forEach((x, k) => clip[k] += x * count / total);
    for (let t = 0; t < Math.min(columns, Math.ceil(count / spec.stride[1])); t++) {
      const column = Array.from(
        { length: rows },
        (_, f) => normed(patches[spec.timeFirst ? t * rows + f : f * columns + t]),
      );
      steps.push(meanOf(column));
    }
  }
  const options: PretrainedEmbedOptions = { vector };
  const found = await encoder.embed(audio, options);
  const far = largest(found.values, clip);
  assert(far < TOLERANCE, `clip: ${far}`);
  const each = await encoder.embed(audio, { pool: "none" });
  assertEquals([each.shape, each.times?.at(-1)! % 10], [[steps.length, WIDTH], 0]);
  const most = largest(each.values, steps.flatMap((it) => [...it]));
  assert(most < TOLERANCE, `steps: ${most}`);
  assertEquals(encoder.stepsOf(audio.length), steps.length);
}

const doubled = (parameters: ReadonlyMap<string, Float32Array>): Values =>
  new Map([...parameters].map(([name, it]) => [name, Float64Array.from(it)]));

const settings = {
  ...{ num_hidden_layers: DEPTH, num_attention_heads: HEADS, layer_norm_eps: 1e-12 },
  ...{ frequency_stride: 10, time_stride: 10, max_length: 128 },
  ...{ mean: -6.845978, std: 5.5654526 },
};

test("AST as transformers names it: strides, epsilon and statistics of the folder", async () => {
  const spec = { ...AST, eps: 1e-12, mean: -6.845978, std: 5.5654526 };
  const parameters = parametersOf(spec, 1);
  const bare = fileOf(spec, parameters, transformers);
  const file = withConfig(bare, settings);
  using encoder = await opened(file);
  const { title, rows, depth, heads, unused } = encoder.info;
  assertEquals([title, rows, depth, heads, unused], ["AST", 12, DEPTH, HEADS, []]);
  // Two chunks, the second one filled up.
  await check(spec, encoder, doubled(parameters), "tokens", wave(25_000));
  const clip = wave(9_000);
  const { values } = await encoder.embed(clip);
  const { layers } = await encoder.embed(clip, { layers: true });
  assertEquals(layers!.subarray((DEPTH - 1) * WIDTH), values);
  // What import writes says as much as the folder.
  const imported = importPretrained(file)!;
  using again = await opened({
    ...{ ...bare, format: "safetensors", tensors: imported.tensors },
    setting: (...keys) => JSON.parse(imported.metadata.cfg)[keys.join(".")],
  });
  assertEquals((await again.embed(clip)).values, values);
  await assertRejects(() => encoder.embed(clip, { bands: "concat" }), ShapeError, "no bands");
  const patches = await encoder.embed(clip, { vector: "patches", bands: "concat" });
  assertEquals(patches.shape, [12 * WIDTH]);
  const broken = new Map(bare.tensors);
  broken.delete("audio_spectrogram_transformer.encoder.layer.1.attention.attention.key.bias");
  const error = await assertRejects(
    () => loadPretrained(device, withConfig({ ...bare, tensors: broken }, settings)),
    EncoderError,
  );
  assertStringIncludes(error.message, "key.bias");
});

fullOnly("AST and SSAST as their authors name them: layouts from shapes", async () => {
  const spec: Spec = { ...AST, stride: [16, 16], frames: 1024 };
  const parameters = parametersOf(spec, 2);
  const named: Named = (name) => [`module.v.${name}`];
  const file = fileOf(spec, parameters, named);
  using encoder = await opened(file);
  assertEquals([encoder.info.title, encoder.info.rows], ["AST", 8]);
  await check(spec, encoder, doubled(parameters), "tokens", wave(30_000));
  // Frames of SSAST: patches of all bands.
  const frames: Spec = { ...AST, patch: [128, 2], stride: [128, 2], frames: 1024 };
  const others = parametersOf(frames, 3);
  others.set("mask_embed", new Float32Array(WIDTH));
  const other = fileOf(
    frames,
    others,
    (name) => [name === "mask_embed" ? "module.mask_embed" : `module.v.${name}`],
  );
  using ssast = await opened(other);
  assertEquals([ssast.info.title, ssast.info.rows, ssast.info.hopSamples], ["SSAST", 1, 320]);
  others.delete("mask_embed");
  await check(frames, ssast, doubled(others), "patches", wave(30_000));
  const { tensors } = importPretrained(other)!;
  assertEquals(inspectPretrained({ ...other, tensors })!.title, "SSAST");
});

fullOnly("AudioMAE, pre-trained and fine-tuned", async () => {
  for (const last of ["norm", "fc_norm"] as const) {
    const spec: Spec = { ...AUDIOMAE, norm: last };
    const parameters = parametersOf(spec, 4);
    const file = fileOf(spec, parameters, (name) => [name]);
    using encoder = await opened(file);
    assertEquals([encoder.info.title, encoder.info.rows], ["AudioMAE", 8]);
    await check(spec, encoder, doubled(parameters), "patches", wave(20_000));
  }
});

fullOnly("EAT and SSLAM, as fairseq and as their folders name them", async () => {
  const spec: Spec = { ...AUDIOMAE, own: ["extra_tokens"], postNorm: true, norm: undefined };
  const parameters = parametersOf(spec, 6);
  // In the file the token in front has no position.
  const [rows, columns] = gridOf(spec);
  const table = parameters.get("pos_embed")!.fill(0, 0, WIDTH);
  const stored = new Map([...parameters].map(([name, it]) => [name, it]));
  stored.set("pos_embed", table.slice(WIDTH));
  const base = "modality_encoders.IMAGE.";
  const fairseq: Named = (name) => [
    name.startsWith("blocks.") ? name : base + name
      .replace("pos_embed", "fixed_positional_encoder.positions")
      .replace("patch_embed", "local_encoder")
      .replace("norm_pre", "context_encoder.norm"),
  ];
  const file = fileOf(spec, stored, fairseq);
  using encoder = await opened(file);
  assertEquals([encoder.info.title, encoder.info.rows], ["EAT or SSLAM", 8]);
  await check(spec, encoder, doubled(parameters), "tokens", wave(12_000));
  assertEquals(encoder.info.unused, []);
  // The folders' table is for longer clips.
  const longer = new Float32Array((rows * columns + 64) * WIDTH);
  longer.set(table.subarray(WIDTH));
  stored.set("pos_embed", longer);
  const folder: Named = (name) => [
    `model.${
      name.replace("pos_embed", "fixed_positional_encoder.positions")
        .replace("patch_embed", "local_encoder")
        .replace("norm_pre", "pre_norm")
    }`,
  ];
  using other = await opened(fileOf(spec, stored, folder));
  const clip = wave(8_000);
  assertEquals((await other.embed(clip)).values, (await encoder.embed(clip)).values);
});

test("the front end of AST and AudioMAE is that of float64", async () => {
  const parameters = parametersOf(AST, 1);
  using encoder = await opened(withConfig(fileOf(AST, parameters, transformers), settings));
  const audio = wave(800, 5);
  using features = encoder.features(device.tensor(audio, [1, audio.length]));
  const found = await features.data();
  const mel = (hz: number) => 1127 * Math.log(1 + hz / 700);
  const [low, step] = [mel(20), (mel(8000) - mel(20)) / 129];
  for (const frame of [0, 2]) {
    const x = Float64Array.from(audio.subarray(frame * 160, frame * 160 + 400));
    const mean = x.reduce((a, b) => a + b) / 400;
    const y = x.map((it, i) =>
      (it - mean - 0.97 * (x[Math.max(0, i - 1)] - mean)) *
      (0.5 - 0.5 * Math.cos(2 * Math.PI * i / 399))
    );
    const bands = new Float64Array(128);
    for (let k = 0; k < 256; k++) {
      let [re, im] = [0, 0];
      y.forEach((it, i) => {
        re += it * Math.cos(2 * Math.PI * i * k / 512);
        im += it * Math.sin(2 * Math.PI * i * k / 512);
      });
      const at = (mel(k * 31.25) - low) / step;
      for (let band = 0; band < 128; band++) {
        bands[band] += Math.max(0, Math.min(at - band, band + 2 - at)) * (re * re + im * im);
      }
    }
    bands.forEach((it, band) => {
      // torchaudio rounds filters by up to 1.4e-5 of their height, some of which are small.
      const expected = Math.log(Math.max(it, 2 ** -23));
      const difference = Math.abs(found[frame * 128 + band] - expected);
      assert(difference < 2e-3, `${frame}, ${band}: ${difference}`);
    });
  }
});
