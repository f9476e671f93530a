/** One way to embed clips for all encoders: pieces of clips, blocks, rates, what is refused. */
import { assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { openDevice } from "../../../engine/mod.ts";
import { Prng } from "../../../engine/prng.ts";
import { EncoderError, loadEncoder } from "../../../model/encoder/encoder.ts";
import type { CheckpointFile } from "../../../model/formats/checkpoint_file.ts";
import { openCheckpoint } from "../../../model/formats/checkpoint_file.ts";
import { bytesAccess } from "../../../model/formats/stored_tensor.ts";
import { loadPretrained } from "../../../model/pretrained/load.ts";
import { loadWaveform } from "../../../train/audio/decode.ts";
import { type Choices, ClipEncoder } from "../../../train/downstream/clip_encoder.ts";
import { UsageError } from "../../../train/errors.ts";
import { encoderFile } from "../../support/golden_encoder.ts";
import { wav } from "../../support/audio_files.ts";
import { test } from "../../support/tier.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const COMPARED = new URL("../../golden/compared/", import.meta.url);
const fileOf = (name: string): CheckpointFile =>
  openCheckpoint(bytesAccess(Deno.readFileSync(new URL(name, COMPARED))));
const BEATS = fileOf("beats.pt");

function noise(samples: number, seed: number): Float32Array {
  const random = new Prng(seed);
  return Float32Array.from({ length: samples }, () => random.uniform() - 0.5);
}

async function one(encoder: ClipEncoder, audio: Float32Array, choices: Choices) {
  const [[, found]] = await Array.fromAsync(encoder.embedEach([{ key: 0, audio }], choices));
  return found;
}

test("pieces of a clip count by their length, a rest too short joins the one before", async () => {
  using encoder = new ClipEncoder(await loadPretrained(device, BEATS));
  // A step needs 2800 samples: the rest of 2000 joins the second piece of 8000.
  const wave = noise(18_000, 1);
  const pieces = [wave.slice(0, 8000), wave.slice(8000)];
  const alone = [await one(encoder, pieces[0], {}), await one(encoder, pieces[1], {})];
  const split = await one(encoder, wave, { split: 0.5 });
  assertEquals([split.shape, split.steps], [[32], 3 + 3 + 0]);
  split.values.forEach((it, k) => {
    const expected = (alone[0].values[k] * 8000 + alone[1].values[k] * 10_000) / 18_000;
    // Sums of float64, rounded once.
    assertAlmostEquals(it, expected, 1e-6);
  });
  const steps = await one(encoder, wave, { split: 0.5, pool: "none" });
  assertEquals([...steps.times!], [0, 160, 320, 500, 660, 820]);
  assertEquals(steps.shape, [6, 32]);
  assertEquals(
    [...steps.values.slice(96, 128)],
    [...(await one(encoder, pieces[1], { pool: "none" })).values.slice(0, 32)],
  );
});

test("this project's encoders have blocks and pieces by the same names", async () => {
  using encoder = new ClipEncoder(await loadEncoder(device, encoderFile()));
  const wave = noise(20_000, 2);
  const { layers } = await one(encoder, wave, { layers: true });
  const { depth } = encoder;
  const size = encoder.embeddingSize({});
  const two = await one(encoder, wave, { blocks: [depth - 1, depth], join: "mean" });
  two.values.forEach((it, k) =>
    // One rounding of values of about 1.
    assertAlmostEquals(
      it,
      (layers![(depth - 2) * size + k] + layers![(depth - 1) * size + k]) / 2,
      1e-6,
    )
  );
  assertEquals(encoder.embeddingSize({ blocks: [1, 2] }), 2 * size);
  assertEquals((await one(encoder, wave, { blocks: [1, 2] })).values.length, 2 * size);
  const split = await one(encoder, wave, { split: 0.5 });
  const parts = [wave.slice(0, 8000), wave.slice(8000, 16_000), wave.slice(16_000)];
  const alone = await Promise.all(parts.map((it) => one(encoder, it, {})));
  split.values.forEach((it, k) => {
    const sum = alone.reduce((sum, { values }, i) => sum + values[k] * parts[i].length, 0);
    assertAlmostEquals(it, sum / wave.length, 1e-6);
  });
  for (const choices of [{ official: true }, { vector: "all" }, { blocks: [99] }] as const) {
    assertThrows(() => encoder.needChoices(choices), UsageError);
  }
});

test("files come at the rate that is asked for", async () => {
  const bytes = wav(noise(800, 3), 8000);
  assertEquals((await loadWaveform(bytes, { sampleRate: 32_000 })).length, 3200);
  assertEquals((await loadWaveform(bytes)).length, 1600);
});

test("a file of PaSST is not taken for one of M2D", async () => {
  const file = fileOf("passt_encoder.safetensors");
  await assertRejects(() => loadEncoder(device, file), EncoderError, "loadPretrained reads");
});
