/**
 * Folders for Hugging Face: what their code makes of audio in torch, held against the encoder that
 * they were exported from, and what reads them here. The code runs in Debian's python3-torch, on a
 * stub of the two base classes of transformers; without torch these tests are skipped.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { openDevice } from "../../../engine/mod.ts";
import { readSafetensors, writeSafetensors } from "../../../engine/formats/safetensors.ts";
import { Prng } from "../../../engine/prng.ts";
import { encoderFileSpecs } from "../../../model/encoder/encoder.ts";
import type { EncoderGeometry } from "../../../model/encoder/embed.ts";
import { sinCosPositions } from "../../../model/vit/positions.ts";
import { run as runExport } from "../../../train/commands/export.ts";
import { run as runImport } from "../../../train/commands/import.ts";
import { ownEncoderFrom } from "../../../train/downstream/encoder_file.ts";
import { NoDataError, UsageError } from "../../../train/errors.ts";
import { encoderFile, HEADS } from "../../support/golden_encoder.ts";
import { full, test } from "../../support/tier.ts";

const PYTHON = "/usr/bin/python3";
const SUPPORT = fromFileUrl(new URL("../../support", import.meta.url));
const never = new AbortController().signal;

const hasTorch = (() => {
  try {
    return Deno.statSync("/usr/lib/python3/dist-packages/torch").isDirectory;
  } catch {
    return false;
  }
})();
if (!hasTorch) console.log("skipped: there is no torch (apt-get install python3-torch)");

interface Model {
  /** For messages. */
  readonly name: string;
  readonly geometry: EncoderGeometry;
  /** As the file says it. */
  readonly metadata: Record<string, string>;
  /** Names of the system that it has in the file; default MATPAC's. */
  readonly style?: "m2d" | "msm-mae";
}

const statistics = (mean: number, std: number) => ({
  standardisation: JSON.stringify({ mean, std }),
});
const sizes = (
  cropFrames: number,
  patch: readonly [number, number],
  of: Partial<EncoderGeometry> = {},
): EncoderGeometry => ({
  ...{ width: 16, depth: 2, heads: 2, melBands: 80, cropFrames, patch, ...of },
});

/** Every system, patch shape, framing, with and without class token. */
const MODELS: readonly Model[] = [
  { name: "MATPAC", geometry: sizes(64, [16, 16], { depth: 3 }), metadata: { system: "matpac" } },
  {
    name: "M2D",
    style: "m2d",
    geometry: sizes(60, [16, 4], { heads: 4 }),
    metadata: { framing: "centred", pool: "mean-std", blocks: "0,2", ...statistics(-6.5, 3.75) },
  },
  ...(full
    ? [
      {
        name: "MATPAC++",
        geometry: sizes(96, [80, 4], { width: 24, heads: 3 }),
        metadata: { system: "matpac-plus", pool: "max", ...statistics(-8.25, 4.5) },
      },
      {
        name: "MSM-MAE",
        style: "msm-mae",
        geometry: sizes(208, [16, 16], { keyBias: false }),
        metadata: { framing: "centred", system: "msm-mae", ...statistics(-7, 4) },
      },
      {
        name: "without class token",
        style: "m2d",
        geometry: sizes(40, [16, 8], { classToken: false }),
        metadata: { framing: "centred" },
      },
    ] as const
    : []),
];

/** Random parameters, large enough that a wrong detail shows; positions of before training. */
function modelFile({ geometry, metadata, style }: Model, seed: number): Uint8Array {
  const random = new Prng(seed);
  const rows = geometry.melBands / geometry.patch[0];
  const columns = Math.floor(geometry.cropFrames / geometry.patch[1]);
  const table = sinCosPositions(geometry.width, rows, columns);
  const entries = encoderFileSpecs(geometry).map(({ name, shape }) => {
    const size = shape.reduce((a, b) => a * b, 1);
    const scale = shape.length > 1 ? 1 / Math.sqrt(size / shape[0]) : 0.3;
    const offset = /norm\d?\.weight$/.test(name) ? 1 : 0;
    const values = name === "pos_embed"
      ? table.subarray(table.length - size)
      : Float32Array.from({ length: size }, () => offset + scale * random.normal());
    const own = style ? name.replace("student_encoder.", "") : name;
    return [own, { dtype: "F32", shape, data: values }] as const;
  });
  const heads = { geometry: JSON.stringify({ heads: geometry.heads }) };
  return writeSafetensors(entries, { ...heads, ...metadata });
}

/** Noise with tones in it, of several lengths: below a frame, below a chunk, several chunks. */
const WAVES: readonly { readonly wave: Float32Array; readonly rate: number }[] = [
  [16_000, 27_001],
  [16_000, 300],
  [16_000, 8_000],
  [44_100, 30_000],
].map(([rate, samples], seed) => {
  const random = new Prng(seed + 1);
  const wave = Float32Array.from(
    { length: samples },
    (_, i) => 0.2 * (random.uniform() - 0.5) + 0.3 * Math.sin(0.002 * i * (1 + i / samples)),
  );
  return { wave, rate };
});

async function inFolder(work: (at: (name: string) => string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await work((name) => join(folder, name));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function silently<T>(work: () => Promise<T>): Promise<T> {
  const log = console.log;
  console.log = () => {};
  try {
    return await work();
  } finally {
    console.log = log;
  }
}

/** Runs tests/support/embed_huggingface.py; what it prints. */
async function python(request: unknown): Promise<unknown> {
  const child = new Deno.Command(PYTHON, {
    args: ["-B", join(SUPPORT, "embed_huggingface.py")],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(JSON.stringify(request)));
  await writer.close();
  const { success, stdout, stderr } = await child.output();
  assert(success, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}

const floats = (path: string) => new Float32Array(Deno.readFileSync(path).buffer);

function largestDifference(found: Float32Array, expected: Float32Array, what: string): number {
  assertEquals(found.length, expected.length, what);
  return found.reduce((most, x, i) => Math.max(most, Math.abs(x - expected[i])), 0);
}

Deno.test({
  name: "export --format huggingface: its code gives our embeddings in torch",
  ignore: !hasTorch,
  fn: () =>
    inFolder(async (at) => {
      using device = await openDevice();
      const folders: string[] = [];
      for (const [i, model] of MODELS.entries()) {
        Deno.writeFileSync(at(`${i}.safetensors`), modelFile(model, 7 + i));
        folders.push(at(`folder${i}`));
        const words = [at(`${i}.safetensors`), "--format", "huggingface", "--out", folders[i]];
        await silently(() => runExport(words, never));
      }
      const waves = WAVES.map(({ wave, rate }, i) => {
        Deno.writeFileSync(at(`wave${i}`), new Uint8Array(wave.buffer));
        return { path: at(`wave${i}`), rate };
      });
      Deno.mkdirSync(at("out"));
      const attributes = await python({ folders, waves, out: at("out") });
      assertEquals(
        attributes,
        MODELS.map(({ geometry: { width, patch } }) => ({
          sampling_rate: 16_000,
          output_dim: width * 80 / patch[0],
          hop_size_in_ms: 10 * patch[1],
        })),
      );
      for (const [i, { name, geometry: { depth } }] of MODELS.entries()) {
        // From the file and from the folder there is one encoder.
        using encoder = await ownEncoderFrom(device, at(`${i}.safetensors`), undefined, "this");
        using again = await ownEncoderFrom(device, folders[i], undefined, "this");
        for (const [w, { wave, rate }] of WAVES.entries()) {
          const result = (what: string) => floats(at(`out/${i}.${what}.${w}`));
          const compare = (found: Float32Array, expected: Float32Array, what: string) => {
            const difference = largestDifference(found, expected, what);
            assert(difference <= 1e-5, `${name}, wave ${w}, ${what}: ${difference}`);
          };
          const clip = await encoder.embed(wave, { sampleRate: rate });
          assertEquals((await again.embed(wave, { sampleRate: rate })).values, clip.values);
          compare(result("mteb"), clip.values, "MTEB");
          if (rate !== 16_000) continue;
          compare(result("pooled"), clip.values, "pooler_output");
          const mean = await encoder.embed(wave, { pool: "mean", layers: true });
          compare(result("layers"), mean.layers!, "hidden_states");
          assertEquals(mean.layers!.length, depth * mean.values.length);
          const { values } = await encoder.embed(wave, { pool: "none" });
          compare(result("frames"), values, "X-ARES");
        }
      }
    }),
});

const json = (path: string) => JSON.parse(Deno.readTextFileSync(path));
const texts = (path: string) => Deno.readTextFileSync(path);
const fileOf = (path: string) => readSafetensors(Deno.readFileSync(path));

/** A run's folder as training leaves it, ten logged rows long. */
function writeRun(folder: string): void {
  Deno.mkdirSync(folder);
  Deno.writeFileSync(join(folder, "encoder.safetensors"), encoderFile({ ...HEADS, step: "100" }));
  const config = {
    objective: "matpac",
    preset: "tiny",
    recipe: "paper",
    data: ["/home/somebody/a|b"],
    geometry: { cropFrames: 64 },
    batch: 8,
    length: { steps: 100 },
    adapter_info: { description: "some adapter" },
  };
  Deno.writeTextFileSync(join(folder, "config.json"), JSON.stringify(config));
  const rows = Array.from({ length: 10 }, (_, i) => ({
    ...{ step: 10 * (i + 1), samples: 80_000 * (i + 1), epoch: 2, seconds: 360 * (i + 1) },
    ...{ loss: 9 - i / 2, loss_pred: 1.5, loss_cls: 7.5 - i, samples_per_s: 1 },
    ...(i === 6 ? { eval_accuracy: 0.625 } : {}),
  }));
  const lines = rows.map((row) => JSON.stringify(row) + "\n").join("");
  Deno.writeTextFileSync(join(folder, "metrics.jsonl"), lines);
}

test("export --format huggingface: sizes, processor and a card with the run's figures", () =>
  inFolder(async (at) => {
    writeRun(at("my-run"));
    const words = [at("my-run"), "--format", "huggingface", "--license", "cc-by-4.0"];
    await silently(() => runExport(words, never));
    const folder = at("my-run/huggingface");
    const { auto_map, architectures, ...config } = json(join(folder, "config.json"));
    assertEquals(auto_map, {
      AutoConfig: "modeling_tessera.TesseraConfig",
      AutoModel: "modeling_tessera.TesseraModel",
    });
    assertEquals(architectures, ["TesseraModel"]);
    assertEquals(config, {
      ...{ model_type: "tessera", system: "matpac", hidden_size: 16, num_hidden_layers: 3 },
      ...{ num_attention_heads: 2, patch_size: [16, 16], chunk_frames: 64, class_token: true },
      ...{
        positions: 21,
        framing: "inside",
        pool: "mean",
        mean: -7.056,
        std: 4.193,
        torch_dtype: "float32",
      },
    });
    const processor = json(join(folder, "preprocessor_config.json"));
    assertEquals([processor.sampling_rate, processor.do_normalize], [16_000, false]);
    const { tensors, metadata } = fileOf(join(folder, "model.safetensors"));
    const own = fileOf(at("my-run/encoder.safetensors")).tensors;
    assertEquals([...tensors].sort(), [...own].sort());
    assertEquals(metadata.format, "pt");
    const card = texts(join(folder, "README.md"));
    for (
      const line of [
        "license: cc-by-4.0",
        "library_name: transformers",
        "- matpac",
        "# my-run",
        "| Data | a\\|b |",
        // 800,000 crops of 0.64 s.
        "| Audio heard | 142.2 h: 800,000 crops of 0.64 s, pass 3 over the data |",
        "| Updates | 100 |",
        "loss 4.5, prediction 1.5, classification -1.5 |",
        "accuracy 0.625 of a linear probe at update 70 |",
        "| Hours of training | 1 |",
      ]
    ) assertStringIncludes(card, line);
    assert(!card.includes("somebody"), "paths are nobody else's business");
    const error = await assertRejects(() => runExport(words, never), UsageError);
    assertStringIncludes(error.message, "is not empty");
    await silently(() => runExport([...words, "--force"], never));
    // Of a file nothing is known of the run.
    const file = [at("my-run/encoder.safetensors"), "--format", "huggingface"];
    await assertRejects(() => runExport(file, never), UsageError, "--out: is needed");
    await silently(() => runExport([...file, "--out", at("b")], never));
    assertStringIncludes(texts(at("b/README.md")), "license: other\n");
    assert(!texts(at("b/README.md")).includes("## Training"));
  }));

test("import: a folder that transformers saved anew is what it was", () =>
  inFolder(async (at) => {
    const model = MODELS[1];
    Deno.writeFileSync(at("a.safetensors"), modelFile(model, 3));
    const words = [at("a.safetensors"), "--format", "huggingface", "--out", at("folder")];
    await silently(() => runExport(words, never));
    const imported = async () => {
      await silently(() =>
        runImport([at("folder"), "--out", at("b.safetensors"), "--force"], never)
      );
      return fileOf(at("b.safetensors"));
    };
    const before = await imported();
    const { tensors } = fileOf(at("folder/model.safetensors"));
    const anew = writeSafetensors([...tensors], { format: "pt" });
    Deno.writeFileSync(at("folder/model.safetensors"), anew);
    const { tensors: found, metadata } = await imported();
    assertEquals([...found], [...before.tensors]);
    for (const key of ["framing", "pool", "blocks", "standardisation", "geometry"]) {
      assertEquals(metadata[key], before.metadata[key], key);
    }
    assertEquals(JSON.parse(metadata.geometry).heads, model.geometry.heads);
    assertEquals(JSON.parse(metadata.standardisation), { mean: -6.5, std: 3.75 });
    Deno.writeTextFileSync(at("folder/config.json"), "{");
    await assertRejects(imported, NoDataError, "config.json");
  }));

test("import: names of MATPAC's encoder below a prefix, with tables beside them", () =>
  inFolder(async (at) => {
    // What is known of the folders that MATPAC++'s authors publish; see train/README.md.
    const { tensors } = readSafetensors(modelFile(MODELS[0], 4));
    const window = { dtype: "F32" as const, shape: [400], data: new Float32Array(400).fill(0.5) };
    const entries = [...tensors].map(([name, it]) => [`matpac.${name}`, it] as const);
    const all = [...entries, ["matpac.log_mel.spectrogram.window", window] as const];
    Deno.mkdirSync(at("folder"));
    Deno.writeFileSync(at("folder/model.safetensors"), writeSafetensors(all, { format: "pt" }));
    const config = { model_type: "matpac", num_attention_heads: 2 };
    Deno.writeTextFileSync(at("folder/config.json"), JSON.stringify(config));
    const out = at("a.safetensors");
    await silently(() => runImport([at("folder"), "--out", out], never));
    const found = fileOf(out);
    for (const [name, it] of tensors) assertEquals(found.tensors.get(name), it, name);
    assertEquals(JSON.parse(found.metadata.geometry).heads, 2);
    assertEquals(found.metadata.framing, "inside");
    assertEquals(JSON.parse(found.metadata.standardisation), { mean: -7.056, std: 4.193 });
  }));
