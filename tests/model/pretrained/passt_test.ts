/**
 * PaSST: its front end against float64, windows of clips and steps, vectors. Its numbers are held
 * against golden sets by `verify`.
 */
import { assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { openDevice, ShapeError } from "../../../engine/mod.ts";
import { Prng } from "../../../engine/prng.ts";
import { EncoderError } from "../../../model/encoder/encoder.ts";
import type { CheckpointFile } from "../../../model/formats/checkpoint_file.ts";
import { type StoredTensor, storedTensor } from "../../../model/formats/stored_tensor.ts";
import { PasstMel } from "../../../model/frontend/passt_mel.ts";
import { inspectPretrained, loadPretrained } from "../../../model/pretrained/load.ts";
import { Passt, passtPlan } from "../../../model/pretrained/passt.ts";
import { fullOnly, test } from "../../support/tier.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

/** A file of random values. */
function fileOf(width: number, depth: number, rows = 12, columns = 99): CheckpointFile {
  const random = new Prng(3);
  const tensors = new Map<string, StoredTensor>();
  const put = (name: string, ...shape: number[]) => {
    const values = Float32Array.from(
      { length: shape.reduce((a, b) => a * b, 1) },
      () => random.uniform() - 0.5,
    );
    tensors.set(name, storedTensor("F32", shape, new Uint8Array(values.buffer)));
  };
  const layer = (name: string, ...shape: number[]) => {
    put(`${name}.weight`, ...shape);
    put(`${name}.bias`, shape[0]);
  };
  put("cls_token", 1, 1, width);
  put("dist_token", 1, 1, width);
  put("new_pos_embed", 1, 2, width);
  put("freq_new_pos_embed", 1, width, rows, 1);
  put("time_new_pos_embed", 1, width, 1, columns);
  layer("patch_embed.proj", width, 1, 16, 16);
  for (let i = 0; i < depth; i++) {
    layer(`blocks.${i}.norm1`, width);
    layer(`blocks.${i}.attn.qkv`, 3 * width, width);
    layer(`blocks.${i}.attn.proj`, width, width);
    layer(`blocks.${i}.norm2`, width);
    layer(`blocks.${i}.mlp.fc1`, 4 * width, width);
    layer(`blocks.${i}.mlp.fc2`, width, 4 * width);
  }
  layer("norm", width);
  layer("head.0", width);
  layer("head.1", 3, width);
  layer("head_dist", 3, width);
  return {
    ...{ format: "torch", tensors, container: "", beside: new Map(), metadata: {} },
    heads: { encoder: 2 },
    setting: () => undefined,
  };
}

const FILE = fileOf(8, 2);

async function opened(file: CheckpointFile): Promise<Passt> {
  const encoder = await loadPretrained(device, file);
  if (encoder instanceof Passt) return encoder;
  throw new Error(`${encoder.info.title} is not PaSST`);
}

/** A sweep with some noise below it. */
function sweep(samples: number): Float32Array {
  return Float32Array.from(
    { length: samples },
    (_, n) => 0.4 * Math.sin(n * n * 1e-5) + 0.01 * (n * 7919 % 1013 / 1013 - 0.5),
  );
}

test("PaSST's log-mel is that of float64", async () => {
  using mel = new PasstMel(device);
  const wave = sweep(1399);
  using waves = device.tensor(wave, [1, wave.length]);
  using out = mel.apply(waves);
  assertEquals(out.shape, [1, 5, 128]);
  const found = await out.data();
  const y = Float64Array.from(
    { length: 1398 },
    (_, i) => wave[i + 1] - Math.fround(0.97) * wave[i],
  );
  const scale = (hz: number) => 1127 * Math.log(1 + hz / 700);
  const step = scale(15_000) / 129;
  const turns = Float64Array.from({ length: 1024 }, (_, i) => Math.cos(2 * Math.PI * i / 1024));
  for (const frame of [0, 2, 4]) {
    // The window of 800 lies in the middle of 1024; ends are mirrored.
    const x = Float64Array.from({ length: 800 }, (_, i) => {
      const at = frame * 320 + i + 112 - 512;
      const inside = at < 0 ? -at : at > 1397 ? 2 * 1397 - at : at;
      return y[inside] * (0.5 - 0.5 * Math.cos(2 * Math.PI * i / 799));
    });
    const bands = new Float64Array(128);
    for (let k = 0; k < 512; k++) {
      let [re, im] = [0, 0];
      x.forEach((it, i) => {
        re += it * turns[i * k % 1024];
        im += it * turns[(i * k + 256) % 1024];
      });
      const at = scale(k * 32_000 / 1024);
      for (let band = 0; band < 128; band++) {
        const [rising, falling] = [at / step - band, band + 2 - at / step];
        bands[band] += Math.max(0, Math.min(rising, falling)) * (re * re + im * im);
      }
    }
    bands.forEach((it, band) =>
      // Filters that torchaudio rounds by up to 1e-5, some small and alone; the logarithm over 5.
      assertAlmostEquals(found[frame * 128 + band], (Math.log(it + 1e-5) + 4.5) / 5, 2e-4)
    );
  }
  using short = device.zeros([1, 513]);
  assertThrows(() => mel.apply(short), ShapeError, "at least 514 samples");
});

test("PaSST: a clip's vectors, and steps from windows of 160 ms every 50 ms", async () => {
  using encoder = await opened(FILE);
  assertEquals([encoder.classes, encoder.info.sampleRate, encoder.info.minSamples], [
    3,
    32000,
    4801,
  ]);
  const wave = sweep(9000);
  const all = await encoder.embed(wave, { vector: "all", layers: true });
  const features = await encoder.embed(wave);
  const logits = await encoder.embed(wave, { vector: "logits" });
  assertEquals([all.shape, features.shape, logits.shape], [[11], [8], [3]]);
  assertEquals([...all.values], [...logits.values, ...features.values]);
  assertEquals(all.layers!.slice(11), all.values);
  const steps = await encoder.embed(wave, { pool: "none" });
  assertEquals([steps.shape, steps.steps], [[6, 8], 6]);
  assertEquals([...steps.times!], [0, 50, 100, 150, 200, 250]);
  assertEquals(encoder.stepsOf(wave.length), 6);
  // Step 2 is the window of 5120 samples around sample 3200.
  const window = await encoder.embed(wave.subarray(3200 - 2560, 3200 + 2560));
  window.values.forEach((it, i) => assertAlmostEquals(steps.values[16 + i], it, 2e-6));
  await assertRejects(
    () => encoder.embed(wave, { bands: "concat" }),
    ShapeError,
    "no choice of bands",
  );
});

fullOnly("PaSST: a clip above 10 s is the mean over windows with mirrored ends", async () => {
  using encoder = await opened(fileOf(8, 1));
  const wave = sweep(320_001);
  const long = await encoder.embed(wave);
  const sum = new Float64Array(8);
  for (let i = 0; i < 5; i++) {
    const window = Float32Array.from({ length: 320_000 }, (_, n) => {
      const at = i * 80_000 + n - 160_000;
      return wave[at < 0 ? -at : at > 320_000 ? 640_000 - at : at];
    });
    (await encoder.embed(window)).values.forEach((it, c) => sum[c] += it / 5);
  }
  long.values.forEach((it, c) => assertAlmostEquals(it, sum[c], 1e-6));
});

test("PaSST: strides follow from positions; what is missing is told", async () => {
  const strides = [[12, 10], [10, 12], [9, 14], [8, 16]];
  for (const [rows, stride] of strides) {
    const columns = Math.floor(998 / stride);
    assertEquals(passtPlan(fileOf(8, 1, rows, columns), {}).sizes.stride, stride);
  }
  // Files for 20 and 30 s, and for frames every 5 ms and 100 samples.
  for (const columns of [200, 300, 320]) {
    await assertRejects(
      () => loadPretrained(device, fileOf(8, 1, 12, columns)),
      EncoderError,
      `${columns} positions along time`,
    );
  }
  assertEquals(inspectPretrained(FILE)?.unused, []);
  const tensors = new Map(FILE.tensors);
  tensors.delete("blocks.0.attn.qkv.bias");
  await assertRejects(
    () => loadPretrained(device, { ...FILE, tensors }),
    EncoderError,
    'missing: "blocks.0.attn.qkv.bias"; not used: none',
  );
});
