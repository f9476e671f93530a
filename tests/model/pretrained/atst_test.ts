/**
 * ATST from files of both layouts: the teacher is read, and chunks are joined as asked for. Its
 * numbers are held against golden sets by `verify`.
 */
import { assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { openDevice, ShapeError } from "../../../engine/mod.ts";
import { Prng } from "../../../engine/prng.ts";
import { writeSafetensors } from "../../../engine/formats/safetensors.ts";
import { EncoderError } from "../../../model/encoder/encoder.ts";
import type { CheckpointFile } from "../../../model/formats/checkpoint_file.ts";
import {
  type StoredTensor,
  storedTensor,
  wholeBytes,
} from "../../../model/formats/stored_tensor.ts";
import { Atst } from "../../../model/pretrained/atst.ts";
import { importPretrained, loadPretrained } from "../../../model/pretrained/load.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const [WIDTH, DEPTH] = [8, 2];

function shapes(kind: "clip" | "frame"): [string, number[]][] {
  const layer = (name: string, weight: number[]): [string, number[]][] => [
    [`${name}.weight`, weight],
    [`${name}.bias`, [weight[0]]],
  ];
  return [
    ["mask_embed", [1, 1, WIDTH]],
    ["pos_embed", [1, 251, WIDTH]],
    ...kind === "clip" ? [["cls_token", [1, 1, WIDTH]] as [string, number[]]] : [],
    ...layer("patch_embed.patch_embed", [WIDTH, 256]),
    ...Array.from({ length: DEPTH }, (_, i) => [
      ...layer(`blocks.${i}.norm1`, [WIDTH]),
      ["blocks.N.attn.qkv.weight".replace("N", String(i)), [3 * WIDTH, WIDTH]] as [
        string,
        number[],
      ],
      ...layer(`blocks.${i}.attn.proj`, [WIDTH, WIDTH]),
      ...layer(`blocks.${i}.norm2`, [WIDTH]),
      ...layer(`blocks.${i}.mlp.fc1`, [4 * WIDTH, WIDTH]),
      ...layer(`blocks.${i}.mlp.fc2`, [WIDTH, 4 * WIDTH]),
    ]).flat(),
    ...layer(kind === "clip" ? "norm" : "norm_frame", [WIDTH]),
  ];
}

/** A file whose teacher has random values and whose student has none that could be loaded. */
function fileOf(kind: "clip" | "frame", teacher: string, student: string): CheckpointFile {
  const random = new Prng(7);
  const tensors = new Map<string, StoredTensor>();
  for (const [name, shape] of shapes(kind)) {
    const size = shape.reduce((a, b) => a * b, 1);
    const put = (full: string, value: () => number) => {
      const values = Float32Array.from({ length: size }, value);
      tensors.set(full, storedTensor("F32", shape, new Uint8Array(values.buffer)));
    };
    put(student + name, () => NaN);
    put(teacher + name, () => random.uniform() - 0.5);
  }
  return {
    ...{ format: "torch", tensors, container: "", beside: new Map(), metadata: {}, heads: {} },
    setting: () => undefined,
  };
}

const CLIP = fileOf("clip", "teacher.module.backbone.", "student.module.backbone.");
const FRAME = fileOf("frame", "model.teacher.encoder.", "model.student.encoder.");

/** 1100 frames: more than a chunk of either. */
const wave = Float32Array.from({ length: 1099 * 160 }, (_, n) => 0.5 * Math.sin(n * n * 1e-5));

async function opened(file: CheckpointFile): Promise<Atst> {
  const encoder = await loadPretrained(device, file, { heads: 2 });
  if (encoder instanceof Atst) return encoder;
  throw new Error(`${encoder.info.title} is not ATST`);
}

/** Means over runs of rows [rows, width], each of so many. */
function means(rows: Float32Array, width: number, runs: readonly number[]): Float64Array[] {
  let at = 0;
  return runs.map((count) => {
    const sum = new Float64Array(width);
    for (let i = 0; i < count * width; i++) sum[i % width] += rows[at + i] / count;
    at += count * width;
    return sum;
  });
}

function assertClose(found: ArrayLike<number>, expected: ArrayLike<number>): void {
  assertEquals(found.length, expected.length);
  // Means of some hundred float32 values of about 1.
  Array.from(found).forEach((it, i) => assertAlmostEquals(it, expected[i], 3e-6));
}

Deno.test("ATST-Frame: chunks count by their patches, or as official programs have it", async () => {
  using encoder = await opened(FRAME);
  assertEquals([encoder.kind, encoder.info.depth, encoder.info.unused], ["frame", DEPTH, []]);
  const frames = await encoder.embed(wave, { pool: "none" });
  // 1001 and 99 frames.
  const runs = [250, 24];
  assertEquals([frames.shape, frames.steps], [[274, 2 * WIDTH], 274]);
  assertEquals([...frames.times!.slice(0, 3)], [0, 40, 80]);
  assertEquals(encoder.stepsOf(wave.length), 274);
  const [first, second] = means(frames.values, 2 * WIDTH, runs);
  const weighted = await encoder.embed(wave, { layers: true });
  assertClose(weighted.values, first.map((it, i) => (it * 250 + second[i] * 24) / 274));
  assertEquals(weighted.layers, weighted.values);
  const equal = await encoder.embed(wave, { official: true });
  assertClose(equal.values, first.map((it, i) => (it + second[i]) / 2));
  assertClose((await encoder.embed(wave, { official: "downstream" })).values, first);
  const last = await encoder.embed(wave, { blocks: [DEPTH] });
  assertEquals(last.values, weighted.values.slice(WIDTH));
});

Deno.test("ATST-Clip: class token and patches; the official divisor counts what remains", async () => {
  using encoder = await opened(CLIP);
  assertEquals(encoder.kind, "clip");
  // 601 and 499 frames.
  const runs = [150, 124];
  const frames = await encoder.embed(wave, { pool: "none", blocks: [1, 2] });
  assertEquals(frames.shape, [274, 2 * WIDTH]);
  const [first, second] = means(frames.values, 2 * WIDTH, runs);
  const { values } = await encoder.embed(wave, { blocks: [1, 2] });
  assertEquals(values.length, 4 * WIDTH);
  assertClose(
    values.slice(2 * WIDTH),
    first.map((it, i) => (it * 150 + second[i] * 124) / 274),
  );
  const official = await encoder.embed(wave, { blocks: [1, 2], official: true });
  // 1100 frames remain before the first chunk: 275 patches for its sum over 150.
  assertClose(
    official.values.slice(2 * WIDTH),
    first.map((it, i) => (it * 150 / 275 + second[i]) / 2),
  );
  const one = await encoder.embed(wave);
  assertEquals([...one.values.slice(WIDTH)], [...values.slice(3 * WIDTH)]);
  assertEquals([...one.values.slice(0, WIDTH)], [...values.slice(WIDTH, 2 * WIDTH)]);
  await assertRejects(() => encoder.embed(wave, { blocks: [3] }), ShapeError, "blocks [3] must be");
});

Deno.test("an imported teacher is the same encoder, its heads told by the file", async () => {
  const { tensors, metadata } = importPretrained(FRAME, { heads: 2 })!;
  const entries = [...tensors].map(([name, it]) => {
    const data = new Float32Array(wholeBytes(it).buffer);
    return [name, { dtype: "F32", shape: it.shape, data }] as const;
  });
  using encoder = await loadPretrained(device, writeSafetensors(entries, metadata));
  assertEquals(encoder.info.heads, 2);
  using original = await opened(FRAME);
  const short = wave.subarray(0, 16_000);
  assertEquals(await encoder.embed(short), await original.embed(short));
});

Deno.test("a file of ATST without a tensor of the teacher, or without heads, is refused", async () => {
  const tensors = new Map(CLIP.tensors);
  tensors.delete("teacher.module.backbone.blocks.1.attn.qkv.weight");
  await assertRejects(
    () => loadPretrained(device, { ...CLIP, tensors }, { heads: 2 }),
    EncoderError,
    'missing: "blocks.1.attn.qkv.weight"; not used: none',
  );
  await assertRejects(() => loadPretrained(device, CLIP), EncoderError, "attention heads of width");
});
