/**
 * Holds single operations, attention, blocks, tables and masks against the set `vit_ops`.
 *
 * @module
 */
import {
  add,
  attention,
  backward,
  batchedIndexSelect,
  centredCrossEntropy,
  concat,
  cosineLoss,
  type Device,
  expand,
  gelu,
  l2Normalize,
  layerNorm,
  linear,
  logSoftmax,
  mean,
  mul,
  noGrad,
  reshape,
  scope,
  selfAttention,
  softmax,
  type Tensor,
} from "../../engine/mod.ts";
import { maskFromNoise, visibleCount } from "../../model/objectives/masking.ts";
import { sinCosPositions, sinCosPositions1d } from "../../model/vit/positions.ts";
import { block, dense, type Lookup } from "../../model/vit/blocks.ts";
import { patchEmbed } from "../../model/vit/tokens.ts";
import { type CheckRow, Report, type Tolerance, TOLERANCES } from "./report.ts";
import type { GoldenSet } from "./golden.ts";

interface Case {
  /** Case names this row handles. */
  readonly pattern: RegExp;
  /** The operation; `p` looks inputs up, `info` is the case's entry in the JSON file. */
  // deno-lint-ignore no-explicit-any -- as GoldenSet.json
  run(p: Lookup, info: any, golden: GoldenSet): Tensor;
  /** Default: {@link TOLERANCES.operation}. */
  readonly tolerance?: Tolerance;
  /** Rows span many orders of magnitude. */
  readonly rows?: boolean;
}

const temperature = (p: Lookup, value: number): Tensor => p("x").device.tensor([value]);

const CASES: readonly Case[] = [
  { pattern: /^linear/, run: (p) => linear(p("x"), p("weight"), p("bias")) },
  {
    pattern: /^layernorm/,
    run: (p, { eps }) => layerNorm(p("x"), p("weight"), p("bias"), eps),
    tolerance: TOLERANCES.offsetNorm,
  },
  { pattern: /^gelu$/, run: (p) => gelu(p("x")) },
  {
    pattern: /^softmax/,
    run: (p, info) => softmax(p("x"), { temperature: temperature(p, info.temperature) }),
    rows: true,
  },
  {
    pattern: /^log_softmax/,
    run: (p, info) => logSoftmax(p("x"), { temperature: info.temperature }),
    rows: true,
  },
  {
    pattern: /^attention/,
    run: (p, { heads }) => dense(p, "proj", selfAttention(dense(p, "qkv", p("x")), heads)),
  },
  { pattern: /^sdpa/, run: (p) => attention(p("q"), p("k"), p("v")) },
  { pattern: /^block$/, run: (p, { heads }) => block(p, p("x"), heads) },
  {
    pattern: /^block_kbias0/,
    // MSM-MAE's bias is [q_bias, 0, v_bias] (model/README.md, MSM-MAE).
    run: (p, { heads }) => {
      const q = p("attn.q_bias");
      const bias = concat([q, q.device.zeros(q.shape), p("attn.v_bias")], 0);
      return block((name) => name === "attn.qkv.bias" ? bias : p(name), p("x"), heads);
    },
  },
  { pattern: /^l2normalize$/, run: (p, { eps }) => l2Normalize(p("x"), eps), rows: true },
  { pattern: /^cosine_loss/, run: (p) => cosineLoss(p("pred"), p("target")) },
  {
    pattern: /^weight_norm_linear/,
    run: (p) => linear(p("x"), mul(l2Normalize(p("weight_v"), 0), p("weight_g"))),
  },
  {
    pattern: /^cls_loss/,
    run: (p, info) => {
      const { loss } = centredCrossEntropy(
        p("student_logits"),
        p("teacher_logits"),
        reshape(p("center"), [-1]),
        {
          studentTemperature: info.student_temp,
          teacherTemperature: p("teacher_logits").device.tensor([info.teacher_temp]),
        },
      );
      return reshape(loss, [-1]);
    },
  },
  {
    pattern: /^gather/,
    run: (p) => batchedIndexSelect(p("x"), p("ids"), { unique: true }),
    tolerance: TOLERANCES.exact,
  },
  {
    pattern: /^unshuffle/,
    run: (p) => {
      const visible = p("visible");
      const ids = p("ids_restore");
      const [batch, patches] = ids.shape;
      const masked = expand(p("mask_token"), [batch, patches - visible.shape[1], visible.shape[2]]);
      return batchedIndexSelect(concat([visible, masked], 1), ids, { unique: true });
    },
  },
  { pattern: /^patch_embed/, run: (p, { patch }) => patchEmbed(p, spectrogram(p("x")), patch[0]) },
];

/** [batch, 1, bands, frames] without the channel axis. */
function spectrogram(x: Tensor): Tensor {
  const [batch, , bands, frames] = x.shape;
  return reshape(x, [batch, bands, frames]);
}

/** Runs all checks of the set. */
export async function verifyVitOps(device: Device, golden: GoldenSet): Promise<CheckRow[]> {
  const report = new Report("vit_ops");
  for (const [name, info] of Object.entries<{ wrt: string[] }>(golden.json.cases)) {
    // Gradients of 1e12 below the epsilon of a normalisation: informative only, as the set's own
    // text says.
    if (/degenerate/.test(name)) continue;
    const entry = CASES.find(({ pattern }) => pattern.test(name));
    if (entry) await runCase(device, golden, name, info, entry, report);
  }
  await classificationExtras(device, golden, report);
  tables(golden, report);
  return report.rows;
}

async function runCase(
  device: Device,
  golden: GoldenSet,
  name: string,
  info: { wrt: string[] },
  entry: Case,
  report: Report,
): Promise<void> {
  const inputs = new Map<string, Tensor>();
  const lookup: Lookup = (part) => {
    let tensor = inputs.get(part);
    if (!tensor) {
      const { data, shape } = golden.get(`${name}.${part}`);
      tensor = device.tensor(data, shape);
      if (info.wrt.includes(part)) tensor.trainable();
      inputs.set(part, tensor);
    }
    return tensor;
  };
  info.wrt.forEach(lookup);
  const dy = golden.get(`${name}.dy`);
  const y = scope(() => {
    const result = entry.run(lookup, info, golden);
    backward(result, device.tensor(dy.data, result.shape));
    return result;
  });
  const names = ["y", ...info.wrt.map((part) => `d_${part}`)];
  const values = await device.read([y, ...info.wrt.map((part) => inputs.get(part)!.grad!)]);
  const tolerance = entry.tolerance ?? TOLERANCES.operation;
  names.forEach((part, i) => {
    const expected = golden.get(`${name}.${part}`);
    // Bit copies apart, a gradient may be a sum over repeated tokens.
    const allowed = tolerance === TOLERANCES.exact && part !== "y" && /mask_token/.test(part)
      ? TOLERANCES.operation
      : tolerance;
    if (entry.rows) {
      const width = expected.shape[expected.shape.length - 1];
      report.compareRows(`${name}.${part}`, values[i], expected.data, width, allowed);
    } else report.compare(`${name}.${part}`, values[i], expected.data, allowed);
  });
  for (const tensor of [y, ...inputs.values()]) tensor.dispose();
}

/** Teacher probabilities and the next centre of the classification loss. */
async function classificationExtras(
  device: Device,
  golden: GoldenSet,
  report: Report,
): Promise<void> {
  const info = golden.json.cases.cls_loss;
  if (!info) return;
  const input = (name: string) =>
    device.tensor(golden.get(`cls_loss.${name}`).data, golden.get(`cls_loss.${name}`).shape);
  const results = scope(() =>
    noGrad(() => {
      const centre = input("center");
      const { probabilities } = centredCrossEntropy(
        input("student_logits"),
        input("teacher_logits"),
        reshape(centre, [-1]),
        {
          studentTemperature: info.student_temp,
          teacherTemperature: device.tensor([info.teacher_temp]),
        },
      );
      const batchMean = mean(probabilities, { axes: [0, 1] });
      const next = add(mul(centre, info.center_momentum), mul(batchMean, 1 - info.center_momentum));
      return [probabilities, next];
    })
  );
  const [probabilities, next] = await device.read(results);
  results.forEach((tensor) => tensor.dispose());
  const { data, shape } = golden.get("cls_loss.teacher_probs");
  report.compareRows(
    "cls_loss.teacher_probs",
    probabilities,
    data,
    shape[shape.length - 1],
    TOLERANCES.operation,
  );
  report.compare(
    "cls_loss.center_next_from_probs",
    next,
    golden.get("cls_loss.center_next_from_probs").data,
    TOLERANCES.operation,
  );
}

/** Position tables, mask sizes and mask orders, which are made on the host. */
function tables(golden: GoldenSet, report: Report): void {
  const { scalars } = golden.json;
  for (const [name, { data, shape }] of golden.tensors) {
    const match = /^pos(1d|2d)\.(?:(\d+)x)?(\d+)\.(\d+)(\.rows)?$/.exec(name);
    if (!match) continue;
    const [, kind, rows, columns, dim, partial] = match;
    const width = Number(dim);
    const table = kind === "2d"
      ? sinCosPositions(width, Number(rows), Number(columns))
      : sinCosPositions1d(width, Number(columns));
    const entry = scalars[name.replace(/\.rows$/, "")];
    const picked = partial
      ? entry.rows as number[]
      : Array.from({ length: shape[shape.length - 2] }, (_, i) => i);
    const values = picked.flatMap((row) => [...table.subarray(row * width, (row + 1) * width)]);
    report.compare(name, values, data, TOLERANCES.table);
    if (entry?.sum !== undefined) {
      report.compare(
        `${name} sum`,
        [table.reduce((a, b) => a + b, 0)],
        [entry.sum],
        TOLERANCES.table,
      );
    }
  }
  const lengths: { L: number; mask_ratio: number; len_keep: number }[] = scalars.len_keep ?? [];
  report.compare(
    "len_keep",
    lengths.map(({ L, mask_ratio }) => visibleCount(L, mask_ratio)),
    lengths.map(({ len_keep }) => len_keep),
    TOLERANCES.exact,
  );
  const noise = golden.tensors.get("mask.noise");
  const restore = golden.tensors.get("unshuffle_with_mask_tokens.ids_restore");
  if (noise && restore) {
    const [batch, patches] = noise.shape;
    const visible = golden.get("unshuffle_with_mask_tokens.visible").shape[1];
    const mask = maskFromNoise(noise.data, batch, patches, visible);
    report.compare("mask.ids_restore", mask.restore, restore.data, TOLERANCES.exact);
  }
}
