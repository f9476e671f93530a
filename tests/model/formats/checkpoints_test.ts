/**
 * Checkpoints of the four systems: recognised by names and shapes, renamed and given back to the
 * byte.
 */
import { assertEquals, assertThrows } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { exported, imported } from "../../../model/formats/checkpoint_convert.ts";
import {
  type CheckpointFile,
  modelOf,
  openCheckpoint,
} from "../../../model/formats/checkpoint_file.ts";
import { CheckpointError } from "../../../model/formats/checkpoint_names.ts";
import {
  bytesAccess,
  type StoredTensor,
  storedTensor,
  wholeBytes,
} from "../../../model/formats/stored_tensor.ts";
import { safetensorsChunks } from "../../../model/formats/safetensors_stream.ts";
import { torchChunks, TorchDict } from "../../../model/formats/torch_write.ts";
import { blockSpecs, linearSpecs, normSpecs } from "../../../model/vit/parameter_specs.ts";
import { joined } from "../../support/pickle_bytes.ts";

const GOLDEN = fromFileUrl(new URL("../../golden/", import.meta.url));
const golden = (name: string) => openCheckpoint(bytesAccess(Deno.readFileSync(GOLDEN + name)));

type Shapes = readonly { readonly name: string; readonly shape: readonly number[] }[];

/**
 * Tensors of these shapes; every byte pattern is a finite float16 or float32 and differs between
 * tensors.
 */
function filled(shapes: Shapes, dtype: "F32" | "F16" = "F32"): [string, StoredTensor][] {
  return shapes.map(({ name, shape }, k) => {
    const size = shape.reduce((a, b) => a * b, dtype === "F32" ? 4 : 2);
    return [
      name,
      storedTensor(dtype, shape, Uint8Array.from({ length: size }, (_, i) => (i + k) % 60)),
    ];
  });
}

const blocks = (start: string, width: number, depth: number): Shapes =>
  Array.from({ length: depth }, (_, i) => blockSpecs(`${start}${i}`, width)).flat();

/** Shapes of M2D's training file: 80x96 in patches of 16, width 64, predictor 32. */
const M2D: Shapes = [
  { name: "cls_token", shape: [1, 1, 64] },
  { name: "pos_embed", shape: [1, 31, 64] },
  { name: "norm_stats", shape: [2] },
  { name: "patch_embed.proj.weight", shape: [64, 1, 16, 16] },
  { name: "patch_embed.proj.bias", shape: [64] },
  ...blocks("blocks.", 64, 2),
  ...normSpecs("norm", 64),
  ...linearSpecs("decoder_embed", 64, 32),
  { name: "mask_token", shape: [1, 1, 32] },
  { name: "decoder_pos_embed", shape: [1, 31, 32] },
  ...blocks("decoder_blocks.", 32, 1),
  ...normSpecs("decoder_norm", 32),
  ...linearSpecs("decoder_pred", 32, 64),
  ...blocks("target_blocks.", 64, 2),
  ...normSpecs("target_norm", 64),
  ...linearSpecs("offline_predictor", 320, 7),
];

/** MSM-MAE: no teacher, pixels predicted, q_bias and v_bias in the place of qkv.bias. */
const MSM_MAE: Shapes = M2D.filter(({ name }) => !/^(target|norm_stats|offline)/.test(name))
  .flatMap(({ name, shape }) => {
    if (name === "decoder_pred.weight") return [{ name, shape: [256, 32] }];
    if (name === "decoder_pred.bias") return [{ name, shape: [256] }];
    if (!name.endsWith("qkv.bias")) return [{ name, shape }];
    const block = name.slice(0, -"qkv.bias".length);
    return ["q_bias", "v_bias"].map((it) => ({ name: block + it, shape: [shape[0] / 3] }));
  });

function saved(entries: [string, StoredTensor][], container?: string): CheckpointFile {
  const state = new TorchDict(entries, true);
  const value = container === undefined ? state : new TorchDict([[container, state], ["epoch", 3]]);
  return openCheckpoint(bytesAccess(joined(torchChunks(value))));
}

function known(file: CheckpointFile) {
  const model = modelOf(file);
  if (!model) throw new Error("no model");
  return model;
}

/** The file through safetensors and back into a .pt. */
function roundTrip(file: CheckpointFile, format?: Parameters<typeof exported>[2]) {
  const { tensors, metadata } = imported(file, known(file));
  const between = openCheckpoint(
    bytesAccess(joined(safetensorsChunks([...tensors], metadata))),
  );
  const back = openCheckpoint(
    bytesAccess(joined(torchChunks(exported(between, known(between), format)))),
  );
  return { between, back, metadata };
}

/** Name, type, shape and bytes of every tensor. */
function content(tensors: Iterable<readonly [string, StoredTensor]>): Map<string, unknown> {
  return new Map(
    [...tensors].map(([name, it]) => [name, [it.dtype, it.shape, wholeBytes(it)]]),
  );
}

Deno.test("checkpoints: golden MATPAC files come back to the byte, in both forms", () => {
  const full = golden("matpac_full.pt");
  assertEquals([full.container, full.tensors.size, full.heads], ["model", 117, {
    encoder: 2,
    predictor: 2,
  }]);
  const { between, back, metadata } = roundTrip(full, { format: "fairseq" });
  assertEquals(content(back.tensors), content(full.tensors));
  assertEquals(content(between.tensors), content(full.tensors));
  assertEquals([back.container, back.heads], ["model", full.heads]);
  assertEquals(metadata.system, "matpac");
  assertEquals(JSON.parse(metadata.standardisation), { mean: -7.056, std: 4.193 });
  for (const name of ["matpac_enconly.pt", "matpac_enconly_fp16.pt"]) {
    const file = golden(name);
    const { back } = roundTrip(file);
    assertEquals(back.container, "");
    assertEquals(content(back.tensors), content(file.tensors));
    assertEquals(known(file).differences.missing, []);
  }
});

Deno.test("checkpoints: sizes come from shapes", () => {
  const { geometry, parts, differences } = known(golden("matpac_full.pt"));
  const hyper = JSON.parse(Deno.readTextFileSync(`${GOLDEN}checkpoint_pt.json`)).hyperparameters;
  assertEquals(geometry, {
    width: hyper.embed_dim,
    depth: hyper.depth,
    heads: hyper.num_heads,
    melBands: hyper.n_freq,
    patch: [hyper.patch_size, hyper.patch_size],
    grid: [5, 4],
    frames: hyper.n_t,
    classToken: true,
    predictor: {
      width: hyper.decoder_embed_dim,
      depth: hyper.decoder_depth,
      heads: hyper.decoder_num_heads,
      outputs: hyper.embed_dim,
    },
    choices: 0,
    head: { hidden: hyper.head_hidden_dim, bottleneck: 256, prototypes: hyper.head_dim_out },
    classes: 0,
  });
  assertEquals(parts.map(({ name }) => name), [
    "encoder",
    "predictor",
    "teacher encoder",
    "classification head",
    "teacher head",
  ]);
  assertEquals([differences.missing, differences.misshaped, differences.surplus], [[], [], []]);
});

Deno.test("checkpoints: MATPAC++ and fine-tuned heads are seen from their tensors", () => {
  const base = [...golden("matpac_full.pt").tensors];
  const choices = filled([0, 1, 2].flatMap((i) => linearSpecs(`mcl_heads.mcl_heads.${i}`, 12, 16)));
  const plus = known(saved([...base, ...choices], "model"));
  assertEquals([plus.system, plus.geometry.choices], ["matpac-plus", 3]);
  assertEquals(plus.differences.surplus, []);
  const tagger = known(saved([
    ...golden("matpac_enconly.pt").tensors,
    ...filled([
      { name: "head_norm.running_mean", shape: [16] },
      { name: "head_norm.running_var", shape: [16] },
      ...linearSpecs("head", 16, 527),
    ]),
  ]));
  assertEquals([tagger.geometry.classes, tagger.differences.surplus], [527, []]);
});

Deno.test("checkpoints: M2D keeps every tensor under MATPAC's names and back", () => {
  const file = saved(filled(M2D), "model");
  const model = known(file);
  assertEquals([model.system, model.style, model.geometry.heads], ["m2d", "m2d", 1]);
  assertEquals(model.geometry.grid, [5, 6]);
  assertEquals(model.differences.missing, []);
  assertEquals(model.differences.surplus, ["offline_predictor.weight", "offline_predictor.bias"]);
  const { between, back, metadata } = roundTrip(file);
  assertEquals(between.tensors.size, M2D.length);
  for (
    const name of [
      "student_encoder.blocks.1.attn.qkv.bias",
      "_ema.norm.weight",
      "decoder.decoder_pred.weight",
      "decoder.mask_token",
      "student_encoder.norm.bias",
    ]
  ) {
    assertEquals(between.tensors.has(name), true, name);
  }
  assertEquals([known(between).system, metadata.framing], ["m2d", "centred"]);
  assertEquals(back.container, "model");
  assertEquals(content(back.tensors), content(file.tensors));
  // An encoder alone, without statistics: M2D's own.
  const alone = saved(
    filled(M2D.filter(({ name }) => /^(cls|pos|patch|blocks|norm\.)/.test(name))),
  );
  const trip = roundTrip(alone);
  assertEquals(JSON.parse(trip.metadata.standardisation), { mean: -7.1, std: 4.2 });
  assertEquals(trip.back.container, "");
  assertEquals(content(trip.back.tensors), content(alone.tensors));
});

Deno.test("checkpoints: statistics of a file are its front end's", () => {
  const values = new Uint8Array(new Float32Array([-6.5, 5.25]).buffer);
  const entries = filled(M2D).map(([name, it]): [string, StoredTensor] => [
    name,
    name === "norm_stats" ? storedTensor("F32", [2], values) : it,
  ]);
  const file = saved(entries, "model");
  const { metadata } = imported(file, known(file));
  assertEquals(JSON.parse(metadata.standardisation), { mean: -6.5, std: 5.25 });
});

Deno.test("checkpoints: MSM-MAE's q_bias and v_bias become qkv.bias and come apart again", () => {
  const file = saved(filled(MSM_MAE, "F16"), "model");
  const model = known(file);
  assertEquals([model.system, model.style], ["msm-mae", "msm-mae"]);
  assertEquals([model.differences.missing, model.differences.surplus], [[], []]);
  const { between, back, metadata } = roundTrip(file);
  assertEquals(metadata.standardisation, undefined);
  const bias = wholeBytes(between.tensors.get("student_encoder.blocks.0.attn.qkv.bias")!);
  const q = wholeBytes(file.tensors.get("blocks.0.attn.q_bias")!);
  const v = wholeBytes(file.tensors.get("blocks.0.attn.v_bias")!);
  assertEquals(bias, new Uint8Array([...q, ...new Uint8Array(q.length), ...v]));
  assertEquals(content(back.tensors), content(file.tensors));
  // M2D's own MSM-MAE has qkv.bias but predicts pixels; its bias for keys cannot be left out.
  const sibling = saved(
    filled(MSM_MAE.flatMap(({ name, shape }) =>
      name.endsWith("v_bias") ? [] : [{
        name: name.replace("q_bias", "qkv.bias"),
        shape: name.endsWith("q_bias") ? [3 * shape[0]] : shape,
      }]
    )),
  );
  assertEquals([known(sibling).system, known(sibling).style], ["msm-mae", "m2d"]);
  assertThrows(
    () => exported(sibling, known(sibling), { format: "msm-mae" }),
    CheckpointError,
    "has a bias for keys",
  );
});

Deno.test("checkpoints: EVAR's and other prefixes are removed and given back", () => {
  const encoder = M2D.filter(({ name }) => !/^(target|decoder|mask|offline)/.test(name));
  const head: Shapes = [
    { name: "module.head.norm.running_mean", shape: [64] },
    { name: "module.head.norm.running_var", shape: [64] },
    ...linearSpecs("module.head.mlp.mlp.0", 64, 5),
    { name: "module.ar.something", shape: [3] },
  ];
  const prefixed = (prefix: string) =>
    encoder.map(({ name, shape }) => ({ name: prefix + name, shape }));
  const evar = saved(filled([...prefixed("module.ar.runtime.backbone."), ...head]));
  const model = known(evar);
  assertEquals([model.system, model.geometry.classes], ["m2d", 5]);
  assertEquals(model.differences.surplus, ["module.ar.something"]);
  assertEquals(model.tensors.has("head.weight"), true);
  assertEquals(content(roundTrip(evar).back.tensors), content(evar.tensors));
  const other = saved(filled([...prefixed("backbone."), { name: "head.bias", shape: [2] }]));
  assertEquals(known(other).differences.missing, []);
  assertEquals(content(roundTrip(other).back.tensors), content(other.tensors));
});

Deno.test("checkpoints: float32 is asked for, and half is exact in it", () => {
  const half = golden("matpac_enconly_fp16.pt");
  const { tensors, metadata } = imported(half, known(half), { float32: true });
  assertEquals(metadata.dtype, "F32");
  const name = "patch_embed.proj.bias";
  const narrow = wholeBytes(half.tensors.get(name)!), wide = wholeBytes(tensors.get(name)!);
  assertEquals(
    Array.from(new Float32Array(wide.buffer)),
    Array.from(new Float16Array(narrow.buffer)),
  );
});

Deno.test("checkpoints: what a safetensors file says of itself is kept", () => {
  const m2d = saved(filled(M2D), "model");
  const { between, metadata } = roundTrip(m2d);
  assertEquals(imported(between, known(between)).metadata, metadata);
  const own = { ...between, metadata: { crc32: "0", step: "7", standardisation: "{}" } };
  const again = imported(own, known(own), { encoderOnly: true }).metadata;
  assertEquals([again.crc32, again.step, again.standardisation], [undefined, "7", "{}"]);
});

Deno.test("checkpoints: the encoder alone", () => {
  const full = golden("matpac_full.pt");
  const { tensors } = imported(full, known(full), { encoderOnly: true });
  assertEquals(new Set(tensors.keys()), new Set(golden("matpac_enconly.pt").tensors.keys()));
});

Deno.test("checkpoints: training state is no part of a model", () => {
  const file = saved([
    ...golden("matpac_enconly.pt").tensors,
    ...filled([{ name: "optimizer.m.cls_token", shape: [1, 1, 16] }, {
      name: "cls_head_loss.pending_center",
      shape: [1, 1, 10],
    }]),
  ]);
  assertEquals(known(file).differences.surplus, []);
  assertEquals(imported(file, known(file)).tensors.size, 42);
});

Deno.test("checkpoints: what is no model, or half of one, is said to be so", () => {
  assertEquals(modelOf(golden("reader_cases.pt")), undefined);
  const entries = [...golden("matpac_enconly.pt").tensors];
  const changed = (name: string, it?: StoredTensor) =>
    saved(
      entries.flatMap(([key, old]): [string, StoredTensor][] =>
        key !== name ? [[key, old]] : it ? [[key, it]] : []
      ),
    );
  const lacks = changed("student_encoder.blocks.1.mlp.fc2.bias");
  assertEquals(known(lacks).differences.missing, ["student_encoder.blocks.1.mlp.fc2.bias"]);
  assertThrows(() => imported(lacks, known(lacks)), CheckpointError, "the encoder lacks");
  const wrong = changed("student_encoder.norm.bias", storedTensor("F32", [15], new Uint8Array(60)));
  assertEquals(known(wrong).differences.misshaped.length, 1);
  assertThrows(() => exported(wrong, known(wrong)), CheckpointError, "instead of [16]");
  const refused = (file: CheckpointFile, part: string, heads = {}) =>
    assertThrows(() => modelOf(file, heads), CheckpointError, part);
  refused(changed("pos_embed"), "there is no pos_embed");
  refused(
    changed("pos_embed", storedTensor("F32", [1, 20, 16], new Uint8Array(1280))),
    "do not make a grid",
  );
  refused(
    changed("pos_embed", storedTensor("F32", [21, 16], new Uint8Array(1344))),
    "3 axes are needed",
  );
  refused(saved(entries), "cannot be shared by 3", { encoder: 3 });
  const endless = storedTensor("F32", [1], new Uint8Array(4));
  refused(
    saved([...entries, ["student_encoder.blocks.999999999.norm1.weight", endless]]),
    "is one too many",
  );
  const clash = filled(M2D);
  refused(saved([...clash, ["decoder.mask_token", endless]]), "two tensors become");
});
