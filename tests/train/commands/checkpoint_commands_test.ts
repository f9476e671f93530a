/** `import`, `export` and `inspect` as people call them. */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { openCheckpoint } from "../../../model/formats/checkpoint_file.ts";
import { printable } from "../../../engine/formats/printable.ts";
import { bytesAccess, storedTensor, wholeBytes } from "../../../model/formats/stored_tensor.ts";
import { readSafetensors, writeSafetensors } from "../../../engine/formats/safetensors.ts";
import { inspectPretrained } from "../../../model/pretrained/load.ts";
import { torchChunks, TorchDict } from "../../../model/formats/torch_write.ts";
import { statisticsOf } from "../../../train/downstream/checkpoint_report.ts";
import { help as exportHelp, run as runExport } from "../../../train/commands/export.ts";
import { help as importHelp, run as runImport } from "../../../train/commands/import.ts";
import { help as inspectHelp, run as runInspect } from "../../../train/commands/inspect.ts";
import { exitCodeOf, NoDataError, UsageError } from "../../../train/errors.ts";
import { main } from "../../../train/main.ts";
import { archive, dictOf, joined, raw } from "../../support/pickle_bytes.ts";

const GOLDEN = fromFileUrl(new URL("../../golden", import.meta.url));
const never = new AbortController().signal;

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await work(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** What a command prints. */
async function printed(work: () => Promise<number>): Promise<string> {
  const log = console.log;
  const lines: string[] = [];
  console.log = (...words: unknown[]) => void lines.push(words.join(" "));
  try {
    assertEquals(await work(), 0);
  } finally {
    console.log = log;
  }
  return lines.join("\n");
}

const bytesOf = (path: string) =>
  new Map(
    [...openCheckpoint(bytesAccess(Deno.readFileSync(path))).tensors].map((
      [name, it],
    ) => [name, [it.dtype, it.shape, wholeBytes(it)]]),
  );

Deno.test("import and export: there and back, no byte of a tensor changes", () =>
  inFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    for (const name of ["matpac_full", "matpac_enconly", "matpac_enconly_fp16"]) {
      const source = join(GOLDEN, `${name}.pt`);
      const format = name === "matpac_full" ? ["--format", "fairseq"] : [];
      await printed(() => runImport([source, "--out", at("a.safetensors"), "--force"], never));
      await printed(() =>
        runExport([at("a.safetensors"), "--out", at("b.pt"), "--force", ...format], never)
      );
      assertEquals(bytesOf(at("b.pt")), bytesOf(source));
      await printed(() => runImport([at("b.pt"), "--out", at("c.safetensors"), "--force"], never));
      const [a, c] = ["a", "c"].map((it) =>
        readSafetensors(Deno.readFileSync(at(`${it}.safetensors`)))
      );
      assertEquals([...c.tensors], [...a.tensors]);
      assertEquals(c.metadata.geometry, a.metadata.geometry);
    }
  }));

Deno.test("export and inspect: a run's folder is its encoder, before that its newest checkpoint", () =>
  inFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    const encoder = join(GOLDEN, "matpac_enconly.pt");
    const full = join(GOLDEN, "matpac_full.pt");
    const inspected = () => printed(() => runInspect([folder], never));
    const error = await assertRejects(inspected, UsageError, "without encoder.safetensors");
    assertEquals(exitCodeOf(error), 2);
    Deno.mkdirSync(at("checkpoints"));
    const newest = at("checkpoints/step-00000007.safetensors");
    await printed(() => runImport([full, "--out", newest], never));
    const older = at("checkpoints/step-00000003.safetensors");
    await printed(() => runImport([encoder, "--out", older], never));
    Deno.writeTextFileSync(at("checkpoints/latest"), "step-00000007.safetensors\n");
    assertStringIncludes(await inspected(), `${newest}: safetensors`);
    await printed(() => runExport([folder, "--out", at("a.pt"), "--format", "fairseq"], never));
    assertEquals(bytesOf(at("a.pt")), bytesOf(full));
    await printed(() => runImport([encoder, "--out", at("encoder.safetensors")], never));
    assertStringIncludes(await inspected(), `${at("encoder.safetensors")}: safetensors`);
    await printed(() => runExport([folder, "--out", at("b.pt")], never));
    assertEquals(bytesOf(at("b.pt")), bytesOf(encoder));
  }));

Deno.test("import: says what it took, what it left, and what embed will need", () =>
  inFolder(async (folder) => {
    const out = join(folder, "x.safetensors");
    const full = join(GOLDEN, "matpac_full.pt");
    const text = await printed(() => runImport([full, "--out", out], never));
    assertStringIncludes(text, "MATPAC (encoder, predictor, teacher encoder");
    assertStringIncludes(text, "139 tensors beside the model are left out");
    assertStringIncludes(text, "117 tensors, 39,318 values, F32");
    const half = [join(GOLDEN, "matpac_enconly_fp16.pt"), "--out", out, "--force"];
    assertStringIncludes(await printed(() => runImport(half, never)), "give --heads N");
    const given = [...half, "--heads", "2", "--dtype", "f32"];
    assertStringIncludes(await printed(() => runImport(given, never)), "2 heads");
    const { tensors, metadata } = readSafetensors(Deno.readFileSync(out));
    assertEquals(JSON.parse(metadata.geometry).heads, 2);
    assertEquals(new Set([...tensors.values()].map((it) => it.dtype)), new Set(["F32"]));
  }));

Deno.test("import and export: wrong usage exits 2, unusable files 4, and nothing is written", () =>
  inFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    const good = join(GOLDEN, "matpac_enconly.pt");
    Deno.writeTextFileSync(at("there"), "kept");
    const evil = archive(dictOf({ model: "cposix\nsystem\nX\x02\x00\x00\x00id\x85R" }));
    Deno.writeFileSync(at("evil.pt"), evil);
    Deno.writeFileSync(at("old.pt"), raw("\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.rest"));
    Deno.writeFileSync(at("cut.pt"), Deno.readFileSync(good).subarray(0, 60_000));
    Deno.writeTextFileSync(at("text"), "this is no checkpoint at all");
    Deno.writeTextFileSync(at("empty"), "");
    const damaged = Deno.readFileSync(good);
    damaged[40_000] ^= 1;
    Deno.writeFileSync(at("damaged.pt"), damaged);
    const out = ["--out", at("new")];
    const cases: [string[], string, number][] = [
      [[], "IN: is needed", 2],
      [[good], "--out: is needed", 2],
      [[at("nothing"), ...out], "cannot be read", 2],
      [[folder, ...out], "is a folder", 2],
      [[good, "--out", at("there")], "is there already; --force replaces it", 2],
      [[good, "--out", folder], "is a folder", 2],
      [[good, "--out", good, "--force"], "is the input itself", 2],
      [[good, ...out, "--heads", "0"], "--heads 0", 2],
      [[good, ...out, "--dtype", "f8"], "--dtype f8", 2],
      [[join(GOLDEN, "reader_cases.pt"), ...out], "holds no model", 4],
      [[join(GOLDEN, "frontend.safetensors"), ...out], "holds no model", 4],
      [[at("evil.pt"), ...out], '"posix.system", which is not on the list', 4],
      [[at("old.pt"), ...out], "before PyTorch 1.6", 4],
      [[at("cut.pt"), ...out], "end record is missing", 4],
      [[at("damaged.pt"), ...out], "is damaged: its checksum", 4],
      [[at("text"), ...out], "it is a text", 4],
      [[at("empty"), ...out], "it is empty", 4],
    ];
    for (const [argv, part, code] of cases) {
      const error = await assertRejects(
        () => runImport(argv, never),
        code === 2 ? UsageError : NoDataError,
        part,
      );
      assertEquals(exitCodeOf(error), code);
    }
    await assertRejects(() => runExport([good, ...out, "--format", "onnx"], never), UsageError);
    await assertRejects(() => runExport([at("text"), ...out], never), NoDataError);
    assertEquals(Deno.readTextFileSync(at("there")), "kept");
    const left = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
    assertEquals(left, ["cut.pt", "damaged.pt", "empty", "evil.pt", "old.pt", "text", "there"]);
  }));

Deno.test("import: stops between pieces when it is interrupted", () =>
  inFolder(async (folder) => {
    const stopped = new AbortController();
    stopped.abort();
    const words = [join(GOLDEN, "matpac_enconly.pt"), "--out", join(folder, "x")];
    await assertRejects(() => runImport(words, stopped.signal), DOMException);
    assertEquals([...Deno.readDirSync(folder)], []);
  }));

Deno.test("inspect: tensors, statistics, metadata, the model and what it lacks", () =>
  inFolder(async (folder) => {
    const path = join(folder, "x.safetensors");
    const { tensors } = openCheckpoint(
      bytesAccess(Deno.readFileSync(join(GOLDEN, "matpac_enconly.pt"))),
    );
    const entries = [...tensors].filter(([name]) => name !== "student_encoder.norm.bias")
      .map(([name, it]) =>
        [name, {
          dtype: "F32",
          shape: it.shape,
          data: new Float32Array(wholeBytes(it).buffer),
        }] as const
      );
    const odd = new Float32Array([1, 2, NaN, -Infinity, 6]);
    const surplus = ["extra\x1b[31m", { dtype: "F32", shape: [5], data: odd }] as const;
    Deno.writeFileSync(path, writeSafetensors([...entries, surplus], { note: "a\nb" }));
    const text = await printed(() => runInspect([path], never));
    assertStringIncludes(text, "missing (1):\n  student_encoder.norm.bias");
    assertStringIncludes(text, "surplus, kept under their own names (1):\n  extra\\u001b[31m");
    assertStringIncludes(text, "2 not finite");
    assertStringIncludes(text, "note: a\\u000ab");
    assertEquals(text.includes("\x1b"), false);
    const json = JSON.parse(await printed(() => runInspect([path, "--json"], never)));
    const row = json.tensors.find((it: { name: string }) => it.name === "extra\x1b[31m");
    assertEquals(row, {
      name: "extra\x1b[31m",
      shape: [5],
      dtype: "F32",
      mean: 3,
      std: Math.sqrt(14 / 3),
      min: 1,
      max: 6,
      nonFinite: 2,
    });
    assertEquals(json.model.missing, ["student_encoder.norm.bias"]);
    assertEquals([json.model.system, json.model.geometry.depth], ["matpac", 3]);
    const full = JSON.parse(
      await printed(() => runInspect([join(GOLDEN, "matpac_full.pt"), "--json"], never)),
    );
    assertEquals([full.container, full.beside.tensors, full.model.missing], ["model", 139, []]);
    // Half of a model is something to look at, not an error.
    const half = joined(torchChunks(
      new TorchDict(
        [...tensors].filter(([name]) => name !== "pos_embed"),
        true,
      ),
    ));
    Deno.writeFileSync(join(folder, "half.pt"), half);
    assertStringIncludes(
      await printed(() => runInspect([join(folder, "half.pt")], never)),
      "model: there is no pos_embed",
    );
  }));

Deno.test("inspect: statistics add up over pieces and types", () => {
  const values = Float32Array.from({ length: 1001 }, (_, i) => Math.fround(1e4 + Math.sin(i)));
  const bytes = new Uint8Array(values.buffer);
  const parts = {
    dtype: "F32",
    shape: [1001],
    chunks: () => [bytes.subarray(0, 400), bytes.subarray(400, 404), bytes.subarray(404)],
  } as const;
  const mean = values.reduce((a, x) => a + x, 0) / 1001;
  const std = Math.sqrt(values.reduce((a, x) => a + (x - mean) ** 2, 0) / 1001);
  const found = statisticsOf(parts);
  // Sums of a thousand float64 values in another order.
  assertEquals(Math.abs(found.mean - mean) < 1e-9 && Math.abs(found.std - std) < 1e-9, true);
  const half = storedTensor("BF16", [2], new Uint8Array([0x80, 0x3f, 0x00, 0xc0]));
  assertEquals(statisticsOf(half), { mean: -0.5, std: 1.5, min: -2, max: 1, nonFinite: 0 });
  const none = statisticsOf(storedTensor("F32", [0], new Uint8Array(0)));
  assertEquals([none.mean, none.nonFinite], [NaN, 0]);
});

Deno.test("inspect: text from files cannot steer a terminal", () => {
  assertEquals(printable("a\x1b]0;x\x07\u202eb\u2028"), "a\\u001b]0;x\\u0007\\u202eb\\u2028");
  assertEquals(printable("x".repeat(300)).length, 201);
});

Deno.test("import, inspect: encoders of other systems, whole and by themselves", () =>
  inFolder(async (folder) => {
    const out = join(folder, "e.safetensors");
    for (
      const [name, title, left] of [
        ["mae_ast_patch.pt", "MAE-AST", /^(decoder|dec_sine|layer_norm|final_proj)/],
        ["beats.pt", "BEATs", /layers\.[12]\.self_attn\.relative_attention_bias/],
      ] as const
    ) {
      const path = join(GOLDEN, "compared", name);
      const text = await printed(() => runInspect([path], never));
      assertStringIncludes(text, `model: encoder of ${title}, `);
      assertStringIncludes(text, "width 32, 3 blocks, 4 heads\nnothing is missing");
      await printed(() => runImport([path, "--out", out, "--force"], never));
      const [before, after] = [bytesOf(path), bytesOf(out)];
      assertEquals([...after.keys()].filter((it) => left.test(it)), []);
      for (const [key, it] of after) assertEquals(it, before.get(key), key);
      const found = [path, out].map((it) =>
        inspectPretrained(openCheckpoint(bytesAccess(Deno.readFileSync(it))))
      );
      assertEquals(found[1], found[0]);
      const { tensors, metadata } = readSafetensors(Deno.readFileSync(out));
      const kept = [...tensors].filter(([key]) => key !== "encoder.layers.1.fc2.bias");
      Deno.writeFileSync(out, writeSafetensors(kept, metadata));
      const again = [out, "--out", join(folder, "x.safetensors")];
      const error = await assertRejects(() => runImport(again, never), NoDataError, "fc2.bias");
      assertEquals(exitCodeOf(error), 4);
      assertStringIncludes(await printed(() => runInspect([out], never)), "not a whole encoder of");
    }
  }));

Deno.test("import, export, inspect: help names every option", async () => {
  for (
    const [help, options] of [
      [importHelp, ["--out", "--dtype", "--encoder-only", "--heads", "--force"]],
      [exportHelp, ["--out", "--format", "--encoder-only", "--force"]],
      [inspectHelp, ["--json"]],
    ] as const
  ) {
    for (const it of options) assertStringIncludes(help(), it);
  }
  assertStringIncludes(await printed(() => main(["inspect", "--help"])), "deno task inspect");
});
