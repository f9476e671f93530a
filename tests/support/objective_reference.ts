/**
 * MSM-MAE and M2D in float64, from the equations of model/README.md token by token: nothing of
 * model/ is used.
 */
import { refPhi } from "../../engine/reference.ts";
import type { Mask } from "../../model/objectives/masking.ts";
import type { Geometry } from "../../model/vit/geometry.ts";

type Row = Float64Array;
/** Parameters by official name. */
export type Values = ReadonlyMap<string, Row>;

/** What is computed on. */
export interface ReferenceSetup {
  readonly geometry: Geometry;
  readonly patch: readonly [bands: number, frames: number];
  readonly learned: boolean;
  readonly standardised: boolean;
  readonly mask: Mask;
  readonly batch: number;
  /** [batch, bands, frames], frames at most those of the geometry. */
  readonly clips: ArrayLike<number>;
  readonly frames: number;
  readonly student: Values;
  /** Without one, pixels are predicted. */
  readonly teacher?: Values;
  /** Blocks of the teacher, from 1, whose outputs are averaged to be the target. */
  readonly targetLayers?: readonly number[];
  /** Whether targets lose their clip's mean and are standardised then. */
  readonly clipCentred?: boolean;
}

/** What comes out, clip after clip. */
export interface ReferenceForward {
  readonly studentTokens: Row[];
  readonly target: Row[];
  readonly prediction: Row[];
  readonly losses: number[];
  readonly loss: number;
}

const sum = (values: readonly number[] | Row): number => {
  let all = 0;
  for (const x of values) all += x;
  return all;
};
const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let all = 0;
  for (let i = 0; i < a.length; i++) all += a[i] * b[i];
  return all;
};
const plus = (a: Row, b: Row): Row => a.map((x, i) => x + b[i]);

function affine(p: Values, name: string, x: Row, bias = p.get(`${name}.bias`)!): Row {
  const weight = p.get(`${name}.weight`)!;
  return bias.map((b, i) => b + dot(weight.subarray(i * x.length, (i + 1) * x.length), x));
}

/** Mean, and deviation with `less` fewer degrees of freedom than values. */
function moments(x: Row, less: 0 | 1): [mean: number, variance: number] {
  const mean = sum(x) / x.length;
  return [mean, sum(x.map((v) => (v - mean) ** 2)) / (x.length - less)];
}

/** A layer norm of one token. */
export function norm(p: Values, name: string, x: Row, eps = 1e-6): Row {
  const [mean, variance] = moments(x, 0);
  const [weight, bias] = [p.get(`${name}.weight`)!, p.get(`${name}.bias`)!];
  return x.map((v, i) => (v - mean) / Math.sqrt(variance + eps) * weight[i] + bias[i]);
}

/** Multi-head attention of some tokens to themselves. */
function attend(p: Values, name: string, x: readonly Row[], heads: number): Row[] {
  const width = x[0].length;
  const each = width / heads;
  const q = p.get(`${name}attn.q_bias`);
  const bias = q &&
    Float64Array.of(...q, ...new Float64Array(width), ...p.get(`${name}attn.v_bias`)!);
  const qkv = x.map((row) => affine(p, `${name}attn.qkv`, row, bias));
  const part = (row: Row, which: number, head: number) =>
    row.subarray(which * width + head * each, which * width + (head + 1) * each);
  return qkv.map((row) => {
    const out = new Float64Array(width);
    for (let head = 0; head < heads; head++) {
      const scores = qkv.map((other) => dot(part(row, 0, head), part(other, 1, head)));
      const top = Math.max(...scores);
      const weights = scores.map((s) => Math.exp((s - top) / Math.sqrt(each)));
      const all = sum(weights);
      qkv.forEach((other, j) => {
        const weight = weights[j] / all;
        const value = part(other, 2, head);
        for (let k = 0; k < each; k++) out[head * each + k] += weight * value[k];
      });
    }
    return affine(p, `${name}attn.proj`, out);
  });
}

/** The two layers of a block's MLP. */
function mlp(p: Values, name: string, x: Row): Row {
  const hidden = affine(p, `${name}mlp.fc1`, x).map((it) => it * refPhi(it));
  return affine(p, `${name}mlp.fc2`, hidden);
}

/** A pre-norm block. */
export function block(p: Values, name: string, x: Row[], heads: number, eps = 1e-6): Row[] {
  const normed = x.map((row) => norm(p, `${name}norm1`, row, eps));
  const attended = attend(p, name, normed, heads).map((row, i) => plus(x[i], row));
  return attended.map((row) => plus(row, mlp(p, name, norm(p, `${name}norm2`, row, eps))));
}

/** A post-norm block. */
export function postBlock(p: Values, name: string, x: Row[], heads: number, eps: number): Row[] {
  const attended = attend(p, name, x, heads)
    .map((row, i) => norm(p, `${name}norm1`, plus(x[i], row), eps));
  return attended.map((row) => norm(p, `${name}norm2`, plus(row, mlp(p, name, row)), eps));
}

/** Outputs of all blocks. */
function runs(p: Values, name: string, x: Row[], depth: number, heads: number): Row[][] {
  const outputs: Row[][] = [];
  for (let i = 0; i < depth; i++) {
    outputs.push(block(p, `${name}${i}.`, outputs[i - 1] ?? x, heads));
  }
  return outputs;
}

/** Mean 0 and variance 1, which is the biased one. */
function unitNorm(x: Row): Row {
  const [mean, variance] = moments(x, 0);
  return x.map((v) => (v - mean) / Math.sqrt(variance + 1e-6));
}

function meanOf(rows: readonly Row[]): Row {
  return rows.reduce(plus).map((x) => x / rows.length);
}

function sinCos(width: number, row: number, column: number): Row {
  const quarter = width / 4;
  return Float64Array.from({ length: width }, (_, i) => {
    const angle = (i < 2 * quarter ? column : row) / 10000 ** (i % quarter / quarter);
    return Math.floor(i / quarter) % 2 ? Math.cos(angle) : Math.sin(angle);
  });
}

function interleaved(width: number, place: number): Row {
  return Float64Array.from({ length: width }, (_, j) => {
    const angle = place / 10000 ** (2 * Math.floor(j / 2) / width);
    return j % 2 ? Math.cos(angle) : Math.sin(angle);
  });
}

/** Losses, and all that leads to them. @param fixed a target to take instead of computing it */
export function referenceForward(setup: ReferenceSetup, fixed?: readonly Row[]): ReferenceForward {
  const { geometry: g, patch: [high, wide], mask, batch, clips, frames, student: p } = setup;
  const { teacher, standardised, learned } = setup;
  const lead = g.classToken === false ? 0 : 1;
  const [rows, columns] = [g.melBands / high, Math.floor(frames / wide)];
  const whole = Math.floor(g.cropFrames / wide);
  const patches = rows * columns;
  /** Position of a patch of the shorter grid, or of the class token. */
  const position = (table: string, width: number, patch: number | "class"): Row => {
    const [row, column] = patch === "class"
      ? [0, 0]
      : [Math.floor(patch / columns), patch % columns];
    if (learned) {
      const at = patch === "class" ? 0 : lead + row * whole + column;
      return p.get(table)!.subarray(at * width, (at + 1) * width);
    }
    if (patch === "class") return new Float64Array(width);
    return table !== "pos_embed" && g.predictorPositions === "1d"
      ? interleaved(width, row * whole + column)
      : sinCos(width, row, column);
  };
  const out = { studentTokens: [] as Row[], target: [] as Row[], prediction: [] as Row[] };
  for (let b = 0; b < batch; b++) {
    const cut = Array.from(
      { length: patches },
      (_, patch) =>
        Float64Array.from({ length: high * wide }, (_, i) => {
          const band = Math.floor(patch / columns) * high + Math.floor(i / wide);
          const frame = patch % columns * wide + i % wide;
          return clips[(b * g.melBands + band) * frames + frame];
        }),
    );
    const tokens = cut.map((values, patch) =>
      plus(affine(p, "patch_embed.proj", values), position("pos_embed", g.width, patch))
    );
    const cls = lead ? [plus(p.get("cls_token")!, position("pos_embed", g.width, "class"))] : [];
    const order = [...mask.shuffle.subarray(b * patches, (b + 1) * patches)];
    const [visible, masked] = [order.slice(0, mask.visible), order.slice(mask.visible)];
    const layersOf = (q: Values, prefix: string, ids: number[]) =>
      runs(q, `${prefix}blocks.`, [...cls, ...ids.map((i) => tokens[i])], g.depth, g.heads);
    const encode = (q: Values, prefix: string, ids: number[]) =>
      layersOf(q, prefix, ids).at(-1)!.map((row) => norm(q, `${prefix}norm`, row));
    const teach = (q: Values): Row[] => {
      const { targetLayers } = setup;
      if (!targetLayers) return encode(q, "", masked).slice(lead);
      const layers = layersOf(q, "", masked).filter((_, i) => targetLayers.includes(i + 1));
      return masked.map((_, i) => meanOf(layers.map((rows) => unitNorm(rows[lead + i]))));
    };
    const seen = encode(p, "student_encoder.", visible);
    const embedded = seen.map((row) => affine(p, "decoder.decoder_embed", row));
    const grid = cut.map((_, patch) => {
      const place = visible.indexOf(patch);
      const own = place < 0 ? p.get("decoder.mask_token")! : embedded[lead + place];
      return plus(own, position("decoder.decoder_pos_embed", g.predictorWidth, patch));
    });
    const front = lead
      ? [plus(embedded[0], position("decoder.decoder_pos_embed", g.predictorWidth, "class"))]
      : [];
    const hidden = runs(
      p,
      "decoder.decoder_blocks.",
      [...front, ...grid],
      g.predictorDepth,
      g.predictorHeads,
    ).at(-1)!.slice(lead);
    out.studentTokens.push(...seen);
    out.prediction.push(
      ...masked.map((i) =>
        affine(p, "decoder.decoder_pred", norm(p, "decoder.decoder_norm", hidden[i]))
      ),
    );
    if (fixed) continue;
    const standard = (x: Row) => {
      const [mean, variance] = moments(x, 1);
      return x.map((v) => (v - mean) / Math.sqrt(variance + 1e-6));
    };
    const taught = teacher && teach(teacher);
    const centre = setup.clipCentred && taught ? meanOf(taught) : undefined;
    const wanted = taught
      ? centre ? taught.map((row) => unitNorm(row.map((x, k) => x - centre[k]))) : taught
      : masked.map((i) => standardised ? standard(cut[i]) : cut[i]);
    out.target.push(...wanted);
  }
  const target = fixed ?? out.target;
  const losses = out.prediction.map((row, i) => {
    if (!teacher) return sum(row.map((x, j) => (x - target[i][j]) ** 2)) / row.length;
    const [mean, variance] = moments(target[i], 1);
    const goal = standardised
      ? target[i].map((x) => (x - mean) / Math.sqrt(variance + 1e-6))
      : target[i];
    return 2 - 2 * dot(row, goal) / Math.sqrt(dot(row, row) * dot(goal, goal));
  });
  return { ...out, target: [...target], losses, loss: sum(losses) / losses.length };
}
