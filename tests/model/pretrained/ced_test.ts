/**
 * CED and Dasheng: small random models under the names of the authors and of transformers, against
 * the same in float64. No released file was opened for these tests: names, shapes and constants are
 * those of the published programs.
 */
import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { openDevice } from "../../../engine/mod.ts";
import { Prng } from "../../../engine/prng.ts";
import { EncoderError } from "../../../model/encoder/encoder.ts";
import type { CheckpointFile } from "../../../model/formats/checkpoint_file.ts";
import { type StoredTensor, storedTensor } from "../../../model/formats/stored_tensor.ts";
import { CED_MEL, MelDecibels } from "../../../model/frontend/htk_mel.ts";
import { cedPlan } from "../../../model/pretrained/ced.ts";
import { importPretrained, loadPretrained } from "../../../model/pretrained/load.ts";
import { block, norm } from "../../support/objective_reference.ts";
import { fullOnly, test } from "../../support/tier.ts";

/** One for all tests: pipelines are compiled once. */
const device = await openDevice();

const [WIDTH, DEPTH, HEADS] = [16, 2, 2];

interface Model {
  readonly file: CheckpointFile;
  readonly values: ReadonlyMap<string, Float64Array>;
}

/** @param named what a file calls a parameter */
function modelOf(
  [bands, frames]: readonly [number, number],
  columns: number,
  named: (name: string) => string,
): Model {
  const random = new Prng(5);
  const tensors = new Map<string, StoredTensor>();
  const values = new Map<string, Float64Array>();
  const put = (name: string, scale: number, offset: number, ...shape: number[]) => {
    const size = shape.reduce((a, b) => a * b, 1);
    const own = Float32Array.from({ length: size }, () => offset + scale * random.normal());
    // Variances of decibels are large, and positive.
    if (name.endsWith("running_var")) own.forEach((it, i) => own[i] = 100 + it * it);
    values.set(name, Float64Array.from(own));
    tensors.set(named(name), storedTensor("F32", shape, new Uint8Array(own.buffer)));
  };
  const layer = (name: string, out: number, ...inputs: number[]) => {
    const fan = inputs.reduce((a, b) => a * b, 1);
    put(`${name}.weight`, 1 / Math.sqrt(fan), 0, out, ...inputs);
    put(`${name}.bias`, 0.3, 0, out);
  };
  const scale = (name: string, size = WIDTH) => {
    put(`${name}.weight`, 0.3, 1, size);
    put(`${name}.bias`, 0.3, 0, size);
  };
  scale("init_bn", 64);
  put("init_bn.running_mean", 5, -30, 64);
  put("init_bn.running_var", 10, 0, 64);
  layer("patch_embed.proj", WIDTH, 1, bands, frames);
  put("time_pos_embed", 0.5, 0, 1, WIDTH, 1, columns);
  put("freq_pos_embed", 0.5, 0, 1, WIDTH, 64 / bands, 1);
  for (let i = 0; i < DEPTH; i++) {
    const name = `blocks.${i}`;
    scale(`${name}.norm1`);
    layer(`${name}.attn.qkv`, 3 * WIDTH, WIDTH);
    layer(`${name}.attn.proj`, WIDTH, WIDTH);
    scale(`${name}.norm2`);
    layer(`${name}.mlp.fc1`, 4 * WIDTH, WIDTH);
    layer(`${name}.mlp.fc2`, WIDTH, 4 * WIDTH);
  }
  scale("norm");
  put("outputlayer.1.weight", 1, 0, 3, WIDTH);
  const file: CheckpointFile = {
    ...{ format: "torch", tensors, container: "", beside: new Map(), metadata: {} },
    heads: { encoder: HEADS },
    setting: () => undefined,
  };
  return { file, values };
}

/** Tokens of a chunk of decibels [frames, 64] after the last norm, time-major. */
function reference(
  { values }: Model,
  [bands, frames]: readonly [number, number],
  decibels: Float32Array,
): Float64Array[] {
  const get = (name: string) => values.get(name)!;
  const standardised = (band: number, frame: number) =>
    (decibels[frame * 64 + band] - get("init_bn.running_mean")[band]) /
      Math.sqrt(get("init_bn.running_var")[band] + 1e-5) * get("init_bn.weight")[band] +
    get("init_bn.bias")[band];
  const [rows, columns] = [64 / bands, Math.floor(decibels.length / 64 / frames)];
  const [time, frequency] = [get("time_pos_embed"), get("freq_pos_embed")];
  const weight = get("patch_embed.proj.weight");
  let tokens = Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    return Float64Array.from({ length: WIDTH }, (_, k) => {
      let sum = get("patch_embed.proj.bias")[k];
      for (let b = 0; b < bands; b++) {
        for (let f = 0; f < frames; f++) {
          sum += weight[(k * bands + b) * frames + f] *
            standardised(row * bands + b, column * frames + f);
        }
      }
      return sum + time[k * time.length / WIDTH + column] + frequency[k * rows + row];
    });
  }) as Float64Array<ArrayBufferLike>[];
  for (let i = 0; i < DEPTH; i++) tokens = block(values, `blocks.${i}.`, tokens, HEADS, 1e-6);
  return Array.from(
    { length: rows * columns },
    (_, i) => norm(values, "norm", tokens[i % rows * columns + Math.floor(i / rows)], 1e-6),
  );
}

const meanOf = (rows: readonly Float64Array[]) =>
  Array.from(
    { length: WIDTH },
    (_, k) => rows.reduce((sum, it) => sum + it[k], 0) / rows.length,
  );

function wave(samples: number): Float32Array {
  const random = new Prng(2);
  return Float32Array.from(
    { length: samples },
    (_, i) => 0.1 * (random.uniform() - 0.5) + 0.3 * Math.sin(0.001 * i * (1 + i / 5000)),
  );
}

/** Chunks of 48 frames, of which the second one is shorter. */
async function check(
  title: string,
  patch: readonly [number, number],
  named: (name: string) => string,
): Promise<void> {
  const model = modelOf(patch, 48 / patch[1], named);
  using encoder = await loadPretrained(device, model.file);
  const { info } = encoder;
  assertEquals([info.title, info.rows, info.heads, info.unused], [title, 64 / patch[0], HEADS, []]);
  const audio = wave(12_000);
  using features = encoder.features(device.tensor(audio, [1, audio.length]));
  assertEquals(features.shape, [1, 76, 64]);
  const decibels = await features.data() as Float32Array;
  const tokens = [decibels.subarray(0, 48 * 64), decibels.subarray(48 * 64)]
    .flatMap((it) => reference(model, patch, it));
  const close = (found: Float32Array, expected: ArrayLike<number>) => {
    assertEquals(found.length, expected.length);
    found.forEach((it, i) => assertAlmostEquals(it, expected[i], 2e-5));
  };
  // Chunks that count by their patches: the mean over all patches.
  close((await encoder.embed(audio)).values, meanOf(tokens));
  const steps = await encoder.embed(audio, { pool: "none", bands: "concat" });
  close(steps.values, tokens.flatMap((it) => [...it]));
  assertEquals(steps.steps, tokens.length / info.rows);
  assertEquals(steps.times![48 / patch[1]], 480);
  const imported = importPretrained(model.file)!;
  using again = await loadPretrained(device, { ...model.file, tensors: imported.tensors });
  assertEquals((await again.embed(audio)).values, (await encoder.embed(audio)).values);
}

fullOnly(
  "CED as its authors name it",
  () => check("CED", [16, 16], (name) => name.replace("init_bn.", "init_bn.1.")),
);

fullOnly(
  "Dasheng as folders of transformers name it",
  () =>
    check("Dasheng", [64, 4], (name) => name.startsWith("outputlayer") ? name : `encoder.${name}`),
);

test("Dasheng: heads of the wide one, and parts that no released file has", async () => {
  const { file } = modelOf([64, 4], 12, (name) => name);
  const wide = new Map(file.tensors);
  const shape = [1280, 1, 64, 4];
  wide.set("patch_embed.proj.weight", { ...wide.get("patch_embed.proj.weight")!, shape });
  assertEquals(cedPlan({ ...file, heads: {}, tensors: wide }, {}).sizes.heads, 16);
  const tensors = new Map(file.tensors);
  tensors.set("cls_token", tensors.get("norm.weight")!);
  await assertRejects(
    () => loadPretrained(device, { ...file, tensors }),
    EncoderError,
    "no released Dasheng has such",
  );
});

test("the front end of CED and Dasheng is that of float64", async () => {
  using mel = new MelDecibels(device, CED_MEL);
  const audio = wave(1600);
  audio.fill(0, 1000);
  using out = mel.apply(device.tensor(audio, [1, audio.length]));
  assertEquals(out.shape, [1, 11, 64]);
  const found = await out.data() as Float32Array;
  const scale = (hz: number) => 2595 * Math.log10(1 + hz / 700);
  const edges = Array.from(
    { length: 66 },
    (_, i) => 700 * (10 ** (scale(8000) * i / 65 / 2595) - 1),
  );
  const decibels = Array.from({ length: 11 }, (_, frame) => {
    const x = Float64Array.from({ length: 512 }, (_, i) => {
      const at = Math.abs(frame * 160 + i - 256);
      const inside = at > 1599 ? 2 * 1599 - at : at;
      return audio[inside] * (0.5 - 0.5 * Math.cos(2 * Math.PI * i / 512));
    });
    const bands = new Float64Array(64);
    for (let k = 0; k <= 256; k++) {
      let [re, im] = [0, 0];
      x.forEach((it, i) => {
        re += it * Math.cos(2 * Math.PI * i * k / 512);
        im += it * Math.sin(2 * Math.PI * i * k / 512);
      });
      const hz = k * 31.25;
      bands.forEach((_, b) => {
        const [left, centre, right] = edges.slice(b, b + 3);
        const height = Math.min((hz - left) / (centre - left), (right - hz) / (right - centre));
        bands[b] += Math.max(0, height) * (re * re + im * im);
      });
    }
    return bands.map((it) => 10 * Math.log10(Math.max(it, 1e-10)));
  });
  const floor = Math.max(...decibels.flatMap((it) => [...it])) - 120;
  assert(floor > -100, "the floor must be seen");
  decibels.forEach((of, frame) =>
    of.forEach((it, band) => {
      const expected = Math.max(it, floor);
      assertAlmostEquals(found[frame * 64 + band], expected, 2e-2, `${frame}, ${band}`);
    })
  );
});
