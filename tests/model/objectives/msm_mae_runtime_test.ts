/** Embeddings in MSM-MAE's manner; verify_test.ts holds them to its official program. */
import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { type Device, openDevice } from "../../../engine/mod.ts";
import { type Encoder, loadEncoder } from "../../../model/encoder/encoder.ts";
import { LogMel } from "../../../model/frontend/log_mel.ts";
import { Prng } from "../../../engine/prng.ts";
import { encoderFile } from "../../support/golden_encoder.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const [STEP, ROWS, CROP] = [16, 5, 64];

const open = (device: Device): Promise<Encoder> => loadEncoder(device, encoderFile());

function noise(samples: number, seed: number): Float32Array {
  const random = new Prng(seed);
  return Float32Array.from({ length: samples }, () => 0.1 * random.normal());
}

const logMel = (frames: number, seed = 1) => ({
  logMel: noise(80 * frames, seed),
  standardised: true,
});

/** Largest difference against the largest value. */
function difference(found: Float32Array, expected: Float32Array): number {
  assertEquals(found.length, expected.length);
  const largest = (values: Float32Array) => values.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
  return largest(found.map((x, i) => x - expected[i])) / largest(expected);
}

Deno.test("msm-mae mode: as many steps as precise, the padding seen but not read", async () => {
  using encoder = await open(device);
  const frames = [1, 16, 17, 63, CROP, CROP + 1, 2 * CROP, 2 * CROP + 40];
  const clips = frames.map((it) => logMel(it));
  const together = await encoder.embed(clips, { mode: "msm-mae", pool: "none", layers: true });
  const pooled = await encoder.embed(clips, { mode: "msm-mae" });
  for (const [i, count] of frames.entries()) {
    const { values, steps, layers } = together[i];
    assertEquals(steps, Math.ceil(count / 16), `${count} frames`);
    const precise = await encoder.embed(clips[i], { pool: "none" });
    const fast = await encoder.embed(clips[i], { pool: "none", mode: "fast" });
    // Sums of other groupings of chunks: f32 rounding.
    assert(difference(values, fast.values.subarray(0, values.length)) < 4e-5);
    const whole = count % CROP === 0 || count % CROP > CROP - 16;
    assertEquals(difference(values, precise.values) < 4e-5, whole, `${count} frames`);
    assertEquals(layers!.length, 3 * values.length);
    const size = ROWS * STEP;
    const mean = Float32Array.from({ length: size }, (_, at) => {
      let sum = 0;
      for (let step = 0; step < steps; step++) sum += values[step * size + at];
      return sum / steps;
    });
    assert(difference(pooled[i].values, mean) < 4e-5);
  }
});

Deno.test("batch statistics: mean and unbiased deviation of all clips' log-mel", async () => {
  using encoder = await open(device);
  const waves = [noise(9000, 1), noise(20_000, 2)];
  using frontend = new LogMel(device, { statistics: null });
  const logMels = await Promise.all(waves.map((wave) => {
    using input = device.tensor(wave, [1, wave.length]);
    using output = frontend.apply(input);
    return output.data();
  }));
  const all = logMels.flatMap((values) => [...values]);
  const mean = all.reduce((a, b) => a + b, 0) / all.length;
  const std = Math.sqrt(all.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (all.length - 1));
  const expected = await encoder.embed(logMels.map((values) => ({
    logMel: Float32Array.from(values, (x) => (x - mean) / std),
    standardised: true,
  })));
  const found = await encoder.embed(waves, { batchStatistics: true });
  const ofSpectrograms = await encoder.embed(
    logMels.map((values) => ({ logMel: values as Float32Array })),
    { batchStatistics: true },
  );
  found.forEach(({ values }, i) => {
    assert(difference(values, expected[i].values) < 4e-5);
    assert(difference(ofSpectrograms[i].values, expected[i].values) < 4e-5);
  });
  const alone = await encoder.embed(waves[0], { batchStatistics: true });
  assert(difference(alone.values, found[0].values) > 1e-3, "it depends on the other clip");
  const fixed = await encoder.embed(waves);
  assertEquals(fixed, await encoder.embed(waves, { batchStatistics: false }));
  assertNotEquals(fixed[0].values, found[0].values);
  // Shorter than a frame.
  assertEquals((await encoder.embed(noise(50, 3), { batchStatistics: true })).steps, 1);
  const flat = { logMel: new Float32Array(160).fill(-3) };
  await assertRejects(() => encoder.embed(flat, { batchStatistics: true }), RangeError, "differ");
});
