/**
 * Pooling over time: mean and standard deviation, blocks side by side, what files say of it.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { openDevice } from "../../../engine/mod.ts";
import { Prng } from "../../../engine/prng.ts";
import { readSafetensors, writeSafetensors } from "../../../engine/formats/safetensors.ts";
import type { EmbedOptions } from "../../../model/encoder/embed_queue.ts";
import { EncoderError, loadEncoder } from "../../../model/encoder/encoder.ts";
import { getSceneEmbeddings, loadModel } from "../../../model/encoder/hear.ts";
import { pooledSteps } from "../../../model/encoder/pooling.ts";
import { encoderFile, WEIGHTS } from "../../support/golden_encoder.ts";
import { test } from "../../support/tier.ts";

const device = await openDevice();

function noise(samples: number, seed: number): Float32Array {
  const random = new Prng(seed);
  // Louder and softer, so that steps differ.
  return Float32Array.from(
    { length: samples },
    (_, i) => (random.uniform() - 0.5) * (1 + Math.sin(i / 1000 + seed)),
  );
}

test("pooling: block 0 is what enters the first one, patches with their positions", async () => {
  using encoder = await loadEncoder(device, encoderFile());
  const { melBands, patch: [high, wide], width } = encoder.geometry;
  const [rows, steps] = [melBands / high, 3];
  const frames = steps * wide;
  const logMel = noise(melBands * frames, 3);
  const [weight, bias, positions] = [
    "patch_embed.proj.weight",
    "patch_embed.proj.bias",
    "pos_embed",
  ]
    .map((name) => WEIGHTS.get(name)!.data);
  const columns = Math.floor(encoder.geometry.cropFrames / wide);
  const token = (t: number, f: number, d: number) => {
    // The class token's position goes first.
    let sum = bias[d] + positions[(1 + f * columns + t) * width + d];
    for (let i = 0; i < high * wide; i++) {
      const at = (f * high + Math.floor(i / wide)) * frames + t * wide + i % wide;
      sum += weight[d * high * wide + i] * logMel[at];
    }
    return sum;
  };
  const expected = Array.from(
    { length: steps },
    (_, t) =>
      Array.from({ length: rows * width }, (_, i) => token(t, Math.floor(i / width), i % width)),
  ).flat();
  const audio = { logMel, standardised: true };
  const found = await encoder.embed(audio, { pool: "none", blocks: [0] });
  assertNear(found.values, expected, "steps");
  const both = await encoder.embed(audio, { pool: "mean", blocks: [3, 0] });
  const last = await encoder.embed(audio, { pool: "mean" });
  const means = moments(Float32Array.from(expected), steps).subarray(0, rows * width);
  assertNear(both.values, [...last.values, ...means], "beside the last");
});

/** Mean and deviation of each column of [steps, size], in float64. */
function moments(values: Float32Array, steps: number): Float64Array {
  const size = values.length / steps;
  const all = new Float64Array(2 * size);
  for (let k = 0; k < size; k++) {
    const column = Array.from({ length: steps }, (_, i) => values[i * size + k]);
    const mean = column.reduce((a, b) => a + b, 0) / steps;
    all[k] = mean;
    all[size + k] = Math.sqrt(column.reduce((a, b) => a + (b - mean) ** 2, 0) / steps);
  }
  return all;
}

/**
 * Of values up to 4 and some hundred steps; f32 keeps 2.4e-7 of them, sums in another order a few
 * times that.
 */
const TOLERANCE = 3e-6;

function assertNear(found: Float32Array, expected: ArrayLike<number>, what: string): void {
  assertEquals(found.length, expected.length, what);
  found.forEach((x, i) => {
    const off = Math.abs(x - expected[i]);
    assert(off <= TOLERANCE, `${what} [${i}]: ${x}, not ${expected[i]}`);
  });
}

test("pooling: mean and deviation of all steps, whatever the chunks", async () => {
  using encoder = await loadEncoder(device, encoderFile());
  // Below a step, a step, most of a chunk, a chunk and a bit, several chunks.
  const clips = [300, 2000, 9000, 11_000, 70_001].map(noise);
  for (const mode of ["precise", "fast", "msm-mae"] as const) {
    for (const bands of ["concat", "mean"] as const) {
      const options: EmbedOptions = { mode, bands };
      const steps = await encoder.embed(clips, { ...options, pool: "none" });
      const found = await encoder.embed(clips, { ...options, pool: "mean-std" });
      const means = await encoder.embed(clips, { ...options, pool: "mean" });
      for (const [i, it] of found.entries()) {
        const what = `${mode} ${bands} clip ${i}`;
        const size = means[i].values.length;
        assertEquals([it.shape, it.steps], [[2 * size], steps[i].steps], what);
        assertNear(it.values, moments(steps[i].values, it.steps), what);
        assertEquals(it.values.subarray(0, size), means[i].values, `${what}: bits of the mean`);
        if (it.steps === 1) assert(it.values.subarray(size).every((x) => x === 0), what);
      }
      for (const batch of [1, 3]) {
        const again = await encoder.embed(clips, { ...options, pool: "mean-std", batch });
        assertEquals(again, found, `${mode} ${bands} batch ${batch}: same bits`);
      }
      assertEquals(encoder.embeddingSize({ bands, pool: "mean-std" }), found[0].values.length);
    }
  }
});

test("pooling: blocks side by side, each pooled by itself", async () => {
  using encoder = await loadEncoder(device, encoderFile());
  const wave = noise(25_000, 7);
  for (const pool of ["mean", "max", "mean-std", "none"] as const) {
    const { layers, steps, values, shape } = await encoder.embed(wave, { pool, layers: true });
    const rows = pool === "none" ? steps : 1;
    const size = values.length / rows;
    const block = (b: number, row: number) => {
      const from = ((b - 1) * rows + row) * size;
      return [...layers!.subarray(from, from + size)];
    };
    assertEquals(shape, pool === "none" ? [steps, size] : [size]);
    assertEquals([...values], Array.from({ length: rows }, (_, i) => block(3, i)).flat());
    for (const blocks of [[3, 1], [2], [1, 2, 3]]) {
      const found = await encoder.embed(wave, { pool, blocks });
      const expected = Array.from(
        { length: rows },
        (_, row) => blocks.flatMap((b) => block(b, row)),
      );
      const what = `${pool} blocks ${blocks}`;
      assertEquals([...found.values], expected.flat(), what);
      assertEquals(found.shape.at(-1), blocks.length * size, what);
      assertEquals(encoder.embeddingSize({ pool, blocks }), blocks.length * size, what);
      if (pool === "none") continue;
      const { values: all } = await encoder.embed(wave, { pool: "none", blocks });
      const part = { steps: { values: all, size: all.length / steps }, pool };
      const pooled = pooledSteps({ ...part, blocks: blocks.length }, 0, steps);
      assertNear(found.values, pooled, `${what} from steps`);
    }
  }
  for (const blocks of [[], [-1], [4], [1, 1], [1.5]]) {
    await assertRejects(() => encoder.embed(wave, { blocks }), RangeError, "from 0 to 3");
  }
});

test("pooling: what the file says is the default", async () => {
  const { tensors, metadata } = readSafetensors(encoderFile());
  const saying = (pool: string, blocks?: string) =>
    writeSafetensors(tensors, { ...metadata, pool, ...blocks !== undefined && { blocks } });
  const wave = noise(12_000, 3);
  using plain = await loadEncoder(device, encoderFile());
  assertEquals(plain.readout, { pool: "mean" });
  const expected = await plain.embed(wave, { pool: "mean-std" });
  using encoder = await loadEncoder(device, saying("mean-std"));
  assertEquals(encoder.readout, { pool: "mean-std" });
  assertEquals(encoder.sceneEmbeddingSize, 2 * encoder.timestampEmbeddingSize);
  assertEquals(await encoder.embed(wave), expected);
  for await (const [, it] of encoder.embedEach([{ key: 0, audio: wave }])) {
    assertEquals(it, expected);
  }
  assertEquals(await encoder.embed(wave, { pool: "mean" }), await plain.embed(wave));
  assertEquals((await encoder.embed(wave, { pool: "none" })).shape[1], 80);
  await encoder.warmUp({ together: 1 });
  using model = await loadModel(saying("mean-std"), { device });
  const scenes = await getSceneEmbeddings([wave], model);
  assertEquals(scenes.shape, [1, expected.values.length]);
  await assertRejects(() => loadEncoder(device, saying("sum")), EncoderError, `pooled by "sum"`);
  {
    using several = await loadEncoder(device, saying("mean-std", "0,3"));
    assertEquals(several.sceneEmbeddingSize, 2 * encoder.sceneEmbeddingSize);
    const both = await plain.embed(wave, { pool: "mean-std", blocks: [0, 3] });
    assertEquals(await several.embed(wave), both);
    // Whatever else is asked for is of the last block.
    for (const options of [{ pool: "mean" }, { pool: "none" }, { blocks: [2] }] as const) {
      const pool = "pool" in options ? options.pool : "mean-std";
      assertEquals(
        await several.embed(wave, options),
        await plain.embed(wave, { ...options, pool }),
      );
    }
    const layers = await several.embed(wave, { layers: true });
    assertEquals(layers, await plain.embed(wave, { pool: "mean-std", layers: true }));
  }
  for (const blocks of ["", "4", "1,1", "1.5", "-1", "1,,2", "one"]) {
    await assertRejects(
      () => loadEncoder(device, saying("mean", blocks)),
      EncoderError,
      "it has 3",
    );
  }
});
