/**
 * Encoders from files: embeddings of the official package, chunks, batches, formats, HEAR's
 * functions.
 */
import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { type Device, openDevice, ShapeError } from "../../../engine/mod.ts";
import type { Embedding, EmbedOptions } from "../../../model/encoder/embed_queue.ts";
import { type Encoder, EncoderError, loadEncoder } from "../../../model/encoder/encoder.ts";
import type { CheckpointFile } from "../../../model/formats/checkpoint_file.ts";
import { type StoredTensor, storedTensor } from "../../../model/formats/stored_tensor.ts";
import { bytesOf, writeSafetensors } from "../../../engine/formats/safetensors.ts";
import { LogMel } from "../../../model/frontend/log_mel.ts";
import { frameCount } from "../../../model/frontend/tables.ts";
import {
  getSceneEmbeddings,
  getTimestampEmbeddings,
  loadModel,
} from "../../../model/encoder/hear.ts";
import { Prng } from "../../../engine/prng.ts";
import { encoderFile, GOLDEN, golden, HEADS, WEIGHTS } from "../../support/golden_encoder.ts";
import { inTempDir } from "../../support/audio_files.ts";
import { fullOnly, test } from "../../support/tier.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const [WIDTH, DEPTH, ROWS, CROP] = [16, 3, 5, 64];

/** Noise that is loud enough for every band. */
function noise(samples: number, seed = 1): Float32Array {
  const random = new Prng(seed);
  return Float32Array.from({ length: samples }, () => random.uniform() - 0.5);
}

function assertClose(found: Float32Array, expected: Float32Array, tolerance: number, what = "") {
  assertEquals(found.length, expected.length, what);
  found.forEach((x, i) => assertAlmostEquals(x, expected[i], tolerance, `${what} [${i}]`));
}

/**
 * The reference has 1.3e-5 in its log-mel, 4e-6 after it (tests/README.md, Golden files); other
 * orders of sums come to more.
 */
const TOLERANCE = 4e-5;

test("encoder: the official package's embeddings, modes, pooling, layers", async () => {
  using encoder = await loadEncoder(device, encoderFile());
  for (const wave of ["w1", "w2"]) {
    for (const mode of ["precise", "fast"] as const) {
      for (const pool of ["mean", "none"] as const) {
        const name = `emb.${wave}.${mode}.${pool === "mean" ? "pooled" : "frames"}.layers`;
        const { shape: [, depth, ...shape] } = GOLDEN.get(name)!;
        const options = { mode, pool, layers: true, compat: true };
        const audio = golden(`wave.${wave}`);
        const found = await encoder.embed(audio, options);
        assertEquals([found.shape, depth], [shape, DEPTH], name);
        assertClose(found.layers!, golden(name), TOLERANCE, name);
        assertEquals(found.values, found.layers!.slice(-found.values.length));
        // Alone, the last layer is the same.
        assertEquals(
          (await encoder.embed(audio, { ...options, layers: false })).values,
          found.values,
        );
        // From the standardised log-mel there is one source of rounding less.
        const logMel = { logMel: golden(`standardised_logmel.${wave}`), standardised: true };
        assertClose((await encoder.embed(logMel, options)).layers!, golden(name), 2e-5, name);
      }
    }
  }
});

test("encoder: what is computed from the same steps: order, maximum, bands", async () => {
  using encoder = await loadEncoder(device, encoderFile());
  const audio = golden("wave.w2");
  const columns = CROP / 16;
  for (const mode of ["precise", "fast"] as const) {
    const embed = (options: EmbedOptions) => encoder.embed(audio, { mode, ...options });
    const steps = await embed({ pool: "none", layers: true });
    assertEquals([...steps.times!], Array.from({ length: steps.steps }, (_, i) => 160 * i));
    const compat = await embed({ pool: "none", compat: true });
    if (mode === "precise") assertEquals(compat.values, steps.values);
    else {
      const chunks = steps.steps / columns;
      assertEquals(chunks, 3);
      const at = (i: number) => columns * (i % chunks) + Math.floor(i / chunks);
      compat.times!.forEach((time, i) => assertEquals(time, 160 * at(i)));
      for (let i = 0; i < steps.steps; i++) {
        const row = ({ values }: Embedding, i: number) => values.slice(80 * i, 80 * (i + 1));
        assertEquals(row(compat, i), row(steps, at(i)));
      }
    }
    const max = await embed({ pool: "max", layers: true });
    const size = ROWS * WIDTH;
    max.layers!.forEach((found, i) => {
      const [layer, value] = [Math.floor(i / size), i % size];
      const column = Array.from(
        { length: steps.steps },
        (_, step) => steps.layers![(layer * steps.steps + step) * size + value],
      );
      assertEquals(found, Math.max(...column));
    });
    const bands = await embed({ pool: "none", bands: "mean" });
    assertEquals(bands.shape, [steps.steps, WIDTH]);
    bands.values.forEach((found, i) => {
      const [step, value] = [Math.floor(i / WIDTH), i % WIDTH];
      let sum = 0;
      for (let row = 0; row < ROWS; row++) sum += steps.values[step * size + row * WIDTH + value];
      assertAlmostEquals(found, sum / ROWS, 1e-5);
    });
    const mean = await embed({ bands: "mean" });
    assertEquals(mean.shape, [WIDTH]);
    mean.values.forEach((found, value) => {
      let sum = 0;
      for (let i = 0; i < steps.steps; i++) sum += bands.values[i * WIDTH + value];
      assertAlmostEquals(found, sum / steps.steps, 1e-5);
    });
  }
});

/** Tensors as readers give them. */
function opened(
  tensors: ReadonlyMap<string, StoredTensor>,
  metadata: Record<string, string> = {},
): CheckpointFile {
  const heads = { encoder: 2 };
  const said = {
    format: "safetensors",
    tensors,
    container: "",
    beside: new Map(),
    metadata,
  } as const;
  return { ...said, heads, setting: () => undefined };
}

/** An encoder of width 4 and one block that takes chunks of `frames`. */
function small(frames: number, random = new Prng(5)): CheckpointFile {
  const shapes: Record<string, number[]> = {
    cls_token: [1, 1, 4],
    pos_embed: [1, 1 + ROWS * frames / 16, 4],
    "patch_embed.proj.weight": [4, 1, 16, 16],
    "patch_embed.proj.bias": [4],
    "student_encoder.norm.weight": [4],
    "student_encoder.norm.bias": [4],
  };
  const sizes = { norm1: [4], "attn.qkv": [12, 4], "attn.proj": [4, 4], norm2: [4] };
  const all = { ...sizes, "mlp.fc1": [16, 4], "mlp.fc2": [4, 16] };
  for (const [name, shape] of Object.entries(all)) {
    shapes[`student_encoder.blocks.0.${name}.weight`] = shape;
    shapes[`student_encoder.blocks.0.${name}.bias`] = [shape[0]];
  }
  const tensors = new Map(
    Object.entries(shapes).map(([name, shape]): [string, StoredTensor] => {
      const count = shape.reduce((a, b) => a * b, 1);
      const data = Float32Array.from({ length: count }, () => random.uniform() - 0.5);
      return [name, storedTensor("F32", shape, bytesOf(data))];
    }),
  );
  return opened(tensors);
}

test("encoder: steps of clips as the official package has them", async () => {
  using paper = await loadEncoder(device, small(608));
  using tuned = await loadEncoder(device, small(992));
  const seconds = [1, 5, 6, 10, 30].map((it) => new Float32Array(16000 * it));
  const steps = async (encoder: Encoder, options?: EmbedOptions) =>
    (await encoder.embed(seconds, options)).map(({ steps }) => steps);
  assertEquals(await steps(paper), [7, 32, 38, 38 + 25, 4 * 38 + 36]);
  assertEquals(await steps(paper, { mode: "fast" }), [38, 38, 38, 2 * 38, 5 * 38]);
  assertEquals(await steps(tuned), [7, 32, 38, 62 + 1, 3 * 62 + 2]);
});

/** Waveforms around the places where frames, patches and chunks end. */
const LENGTHS = [1, 399, 400, 559, 560, 2799, 2800, 2960, 10479, 10480, 10639, 10640, 10719, 30000];

test("encoder: odd lengths, one by one and together", async () => {
  using encoder = await loadEncoder(device, encoderFile());
  using frontend = new LogMel(device);
  const clips = LENGTHS.map((length, i) => noise(length, i));
  for (const mode of ["precise", "fast"] as const) {
    const options = { mode, pool: "none", layers: true } as const;
    const together = await encoder.embed(clips, options);
    for (const [i, clip] of clips.entries()) {
      const frames = frameCount(Math.max(400, clip.length), false);
      const whole = mode === "fast" ? CROP : 16;
      assertEquals(together[i].steps, Math.ceil(frames / whole) * whole / 16, `${clip.length}`);
      // The whole clip through the front end, then cut: the definition.
      const padded = new Float32Array(Math.max(400, clip.length));
      padded.set(clip);
      using waves = device.tensor(padded, [1, padded.length]);
      using logMel = frontend.apply(waves);
      const audio = { logMel: await logMel.data(), standardised: true };
      const expected = await encoder.embed(audio, options);
      // A frame is transformed together with its neighbour, which may be another one at a clip's
      // end.
      assertClose(together[i].layers!, expected.layers!, 1e-4, `${mode} ${clip.length}`);
    }
  }
});

fullOnly("encoder: neither batches nor blocks matter, and nothing stays in memory", async () => {
  using encoder = await loadEncoder(device, encoderFile());
  const clips = [...LENGTHS, ...LENGTHS, 70_000].map((length, i) => noise(length, i));
  const { liveBytes, liveBuffers } = device.memory;
  for (const options of [{}, { mode: "fast", layers: true }, { pool: "none" }] as EmbedOptions[]) {
    const alone: Embedding[] = [];
    for (const clip of clips) alone.push(await encoder.embed(clip, options));
    const check = ({ layers, values, ...rest }: Embedding, key: number, what: string) => {
      const { layers: wantedLayers, values: wanted, ...others } = alone[key];
      assertEquals(rest, others, what);
      assertEquals(values, wanted, what);
      assertEquals(layers, wantedLayers, what);
    };
    for (const batch of [1, 3, 64]) {
      const found = await encoder.embed(clips, { ...options, batch });
      found.forEach((it, key) => check(it, key, `batch ${batch}, clip ${key}`));
      assertEquals(await encoder.embed(clips, { ...options, batch }), found, "same bits again");
    }
    const inBlocks = clips.map((clip, key) => ({ key, audio: blocks(clip, 1 + 977 * key) }));
    let count = 0;
    for await (const [key, embedding] of encoder.embedEach(inBlocks, { ...options, batch: 2 })) {
      check(embedding, key, `clip ${key} in blocks`);
      count++;
    }
    assertEquals(count, clips.length);
  }
  // Left before it is done.
  for await (const [key] of encoder.embedEach(clips.map((audio, key) => ({ key, audio })))) {
    if (key >= 0) break;
  }
  await device.sync();
  assertEquals([device.memory.liveBytes, device.memory.liveBuffers], [liveBytes, liveBuffers]);
});

async function* blocks(wave: Float32Array, size: number): AsyncGenerator<Float32Array> {
  for (let at = 0; at < wave.length; at += size) {
    await Promise.resolve();
    yield wave.subarray(at, at + size);
  }
}

test("encoder: a clip that cannot be read is left out, others are not", async () => {
  using encoder = await loadEncoder(device, encoderFile());
  const good = noise(70_000);
  async function* broken() {
    yield good.subarray(0, 40_000);
    await Promise.resolve();
    throw new Error("damaged");
  }
  const failures: string[] = [];
  const failed = (error: unknown) => failures.push((error as Error).message);
  const found: string[] = [];
  const clips = [
    { key: "broken", audio: broken(), failed },
    { key: "good", audio: good },
    { key: "empty", audio: new Float32Array(0), failed },
  ];
  for await (const [key, { values }] of encoder.embedEach(clips)) {
    found.push(key);
    assertEquals(values, (await encoder.embed(good)).values);
  }
  assertEquals([found, failures], [["good"], ["damaged", "embed: the waveform has no samples"]]);
  using centred = await loadEncoder(device, encoderFile(), { framing: "centred" });
  for (const it of [encoder, centred]) {
    await assertRejects(() => it.embed(new Float32Array(0)), ShapeError, "no samples");
    for (const bad of [NaN, Infinity, -Infinity, 1e20]) {
      const wave = noise(40_000);
      wave[39_990] = bad;
      const message = `sample 39990 of the waveform is ${Math.fround(bad)}`;
      await assertRejects(() => it.embed(wave), ShapeError, message);
      await assertRejects(() => it.embed(wave, { batchStatistics: true }), ShapeError, message);
    }
    const logMel = new Float32Array(80 * 20).fill(-1);
    logMel[7] = NaN;
    await assertRejects(() => it.embed({ logMel }), ShapeError, "value 7 of the log-mel is NaN");
    assertEquals((await it.embed(new Float32Array(1))).steps, 1);
  }
  await assertRejects(
    () => encoder.embed({ logMel: new Float32Array(81) }),
    ShapeError,
    "80 bands",
  );
  await assertRejects(
    async () => {
      for await (const _ of encoder.embedEach([{ key: 0, audio: broken() }])) { /* none */ }
    },
    Error,
    "damaged",
  );
});

test("encoder: half precision, bfloat16 and double give what their values are", async () => {
  const stored = (convert: (data: Float32Array) => StoredTensor) =>
    opened(
      new Map(
        [...WEIGHTS].map(([name, { shape, data }]) => [name, { ...convert(data), shape }]),
      ),
    );
  const half = (data: Float32Array) =>
    storedTensor("F16", [data.length], new Uint8Array(new Float16Array(data).buffer));
  using encoder = await loadEncoder(device, stored(half));
  for (const wave of ["w1", "w2"]) {
    for (const mode of ["precise", "fast"] as const) {
      const { values: found } = await encoder.embed(golden(`wave.${wave}`), { mode });
      assertClose(found, golden(`emb_fp16file.${wave}.${mode}.pooled`), TOLERANCE, wave);
    }
  }
  const double = (data: Float32Array) =>
    storedTensor("F64", [data.length], new Uint8Array(new Float64Array(data).buffer));
  using doubles = await loadEncoder(device, stored(double));
  using floats = await loadEncoder(device, encoderFile());
  const audio = golden("wave.w1");
  assertEquals(await doubles.embed(audio), await floats.embed(audio));
  // The upper half of a float's bits.
  const upper = (data: Float32Array) =>
    new Uint32Array(data.slice().buffer).map((bits) => bits & 0xffff0000);
  const brain = (data: Float32Array) => {
    const bits = Uint16Array.from(upper(data), (it) => it >>> 16);
    return storedTensor("BF16", [data.length], new Uint8Array(bits.buffer));
  };
  using brains = await loadEncoder(device, stored(brain));
  using cut = await loadEncoder(
    device,
    encoderFile(HEADS, (_, data) => new Float32Array(upper(data).buffer)),
  );
  assertEquals(await brains.embed(audio), await cut.embed(audio));
});

test("encoder: the file says heads, statistics and framing; options win", async () => {
  const audio = noise(20_000);
  const embed = async (
    ...source: Parameters<typeof loadEncoder> extends [Device, ...infer Rest] ? Rest
      : never
  ) => {
    using encoder = await loadEncoder(device, ...source);
    return (await encoder.embed(audio)).values;
  };
  const plain = await embed(encoderFile());
  const statistics = { mean: -3, std: 2 };
  const own = await embed(encoderFile({ ...HEADS, standardisation: JSON.stringify(statistics) }));
  assertEquals(own, await embed(encoderFile(), { statistics }));
  assert(own.some((x, i) => Math.abs(x - plain[i]) > 0.01));
  const raw = async (centre: boolean) => {
    using frontend = new LogMel(device, { statistics: null, centre, order: "nnaudio" });
    using waves = device.tensor(audio, [1, audio.length]);
    using logMel = frontend.apply(waves);
    return { logMel: await logMel.data() };
  };
  using encoder = await loadEncoder(device, encoderFile());
  assertClose((await encoder.embed(await raw(false))).values, plain, TOLERANCE);
  const centred = await embed(encoderFile({ ...HEADS, framing: "centred" }));
  assertClose((await encoder.embed(await raw(true))).values, centred, TOLERANCE);
  assert(centred.some((x, i) => Math.abs(x - plain[i]) > 1e-3));
  assertEquals(await embed(encoderFile({ geometry: '{"heads":1}' }), { heads: 2 }), plain);
  assert((await embed(encoderFile(), { heads: 1 })).some((x, i) => Math.abs(x - plain[i]) > 1e-3));
});

test("encoder: without a class token its row of positions does not matter", async () => {
  const audio = noise(20_000);
  const embed = async (changed: (positions: Float32Array) => Float32Array) => {
    const bytes = encoderFile(undefined, (name, data) => {
      if (name === "cls_token") return undefined;
      return name === "pos_embed" ? changed(data) : data;
    });
    using encoder = await loadEncoder(device, bytes);
    return (await encoder.embed(audio)).values;
  };
  const plain = await embed((data) => data);
  assertEquals(await embed((data) => data.map((x, i) => i < WIDTH ? 7 : x)), plain);
  using complete = await loadEncoder(device, encoderFile());
  assert((await complete.embed(audio)).values.some((x, i) => Math.abs(x - plain[i]) > 1e-3));
});

test("encoder: files without a usable encoder are refused with the reason", async () => {
  const { liveBytes } = device.memory;
  const store = JSON.stringify({ preset: "tiny", standardise: "store" });
  const without = (part: string) =>
    encoderFile(undefined, (name, data) => name.startsWith(part) ? undefined : data);
  const cases: [Uint8Array, string][] = [
    [new Uint8Array(3), "too short"],
    [new TextEncoder().encode("PK\x03\x04 and more text than eight bytes"), "no zip archive"],
    [writeSafetensors([]), "its tensors are those of none of MATPAC"],
    [without("student_encoder."), "its tensors are those of none of MATPAC"],
    [without("student_encoder.blocks.1.mlp.fc2.bias"), "blocks.1.mlp.fc2.bias"],
    [encoderFile({}), "nothing in it tells the number of attention heads of width 16"],
    [encoderFile({ geometry: '{"heads":3}' }), "3 attention heads"],
    [encoderFile({ geometry: '{"heads":"no"}' }), "attention heads of width 16"],
    [encoderFile({ ...HEADS, standardisation: "{}" }), "no mean and std"],
    [encoderFile({ ...HEADS, config: store }), "--standardise store"],
    [
      encoderFile(undefined, (name, data) => name === "cls_token" ? data.map(() => NaN) : data),
      "cls_token holds a NaN",
    ],
  ];
  for (const [bytes, message] of cases) {
    await assertRejects(() => loadEncoder(device, bytes), EncoderError, message);
  }
  const wide = small(64);
  const tensors = new Map(wide.tensors);
  tensors.set("student_encoder.blocks.0.norm2.bias", storedTensor("F32", [5], new Uint8Array(20)));
  await assertRejects(
    () => loadEncoder(device, { ...wide, tensors }),
    EncoderError,
    "has the shape [5]",
  );
  tensors.set("student_encoder.blocks.0.norm2.bias", storedTensor("I32", [4], new Uint8Array(16)));
  await assertRejects(() => loadEncoder(device, { ...wide, tensors }), EncoderError, "is I32");
  assertEquals(device.memory.liveBytes, liveBytes);
});

test("hear: shapes, attributes and timestamps in ms", () =>
  inTempDir(async (dir) => {
    const path = join(dir, "encoder.safetensors");
    await Deno.writeFile(path, encoderFile());
    using model = await loadModel(path);
    const { sampleRate, sceneEmbeddingSize, timestampEmbeddingSize } = model;
    assertEquals([sampleRate, sceneEmbeddingSize, timestampEmbeddingSize], [16000, 80, 80]);
    const clips = [noise(27_000, 1), noise(27_000, 2), golden("wave.w2")];
    const scenes = await getSceneEmbeddings(clips, model);
    assertEquals(scenes.shape, [3, 80]);
    const layers = golden("emb.w2.precise.pooled.layers");
    assertClose(scenes.data.slice(160), layers.slice(-80), TOLERANCE);
    const [steps, times] = await getTimestampEmbeddings(clips, model);
    assertEquals([steps.shape, times.shape], [[3, 11, 80], [3, 11]]);
    assertEquals([...times.data.slice(11, 14)], [0, 160, 320]);
    assertClose(
      steps.data.slice(-880),
      golden("emb.w2.precise.frames.layers").slice(-880),
      TOLERANCE,
    );
    const { device } = model.encoder;
    using tensor = device.tensor(Float32Array.from(clips.flatMap((it) => [...it])), [3, 27_000]);
    assertEquals(await getSceneEmbeddings(tensor, model), scenes);
    await assertRejects(
      () => getSceneEmbeddings([noise(500), noise(600)], model),
      ShapeError,
      "differ",
    );
    assertEquals((await getSceneEmbeddings([], model)).shape, [0, 80]);
    using second = await loadModel(encoderFile(), { device });
    assertEquals(await getSceneEmbeddings(clips, second), scenes);
  }));
