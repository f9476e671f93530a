/**
 * What the attention ops are given, and their results in float64, which tests hold kernels to.
 *
 * @module
 */
import type { RefArray } from "../op.ts";
import { refBroadcast, refFrom, refUnbroadcast, refZeros } from "../reference.ts";
import type { Shape } from "../shape.ts";

/** Attributes of the op. */
export interface AttentionAttributes {
  readonly scale: number;
  /** Whether query i sees keys 0 to i only; "end": to i + Tk - Tq. */
  readonly causal: boolean | "end";
  /** Whether a bias is behind q, k and v, and behind the mask if there is one. */
  readonly bias?: boolean;
  /** Whether a gate is behind the bias. */
  readonly gate?: boolean;
}

/** Mask, bias and gate among the operands that follow q, k and v. */
export function besides<T>(
  rest: readonly T[],
  { bias, gate }: Pick<AttentionAttributes, "bias" | "gate">,
): { mask?: T; bias?: T; gate?: T } {
  const mask = rest.length > +(bias ?? false) + +(gate ?? false) ? 1 : 0;
  return {
    mask: rest[mask - 1],
    bias: bias ? rest[mask] : undefined,
    gate: gate ? rest[mask + 1] : undefined,
  };
}

/** Shapes of what repeats over batches, and of all pairs, with repetitions as an axis of theirs. */
const repeating = (own: Shape, [batch, ...rest]: Shape) =>
  [[1, ...own], [batch / own[0], own[0], ...rest]] as const;

/** An array that repeats over batches, of the shape of all pairs. */
function refRepeat({ shape, data }: RefArray, all: Shape): Float64Array {
  const [own, full] = repeating(shape, all);
  return refBroadcast({ shape: own, data }, full);
}

/** Probabilities of every head, [B, H, Tq, Tk]; zeros where a query sees no key. */
function refProbabilities(
  [q, k, , ...rest]: readonly RefArray[],
  attrs: AttentionAttributes,
): { p: Float64Array; bias?: Float64Array; gate?: Float64Array } {
  const [batch, heads, tq, d] = q.shape;
  const [, own, tk] = k.shape;
  const all = [batch, heads, tq, tk];
  const given = besides(rest, attrs);
  const seen = given.mask && refRepeat(
    given.mask.shape.length === 4 ? given.mask : { ...given.mask, shape: [batch, 1, 1, tk] },
    all,
  );
  const bias = given.bias && refRepeat(given.bias, all);
  const gate = given.gate && refBroadcast(given.gate, [batch, heads, tq]);
  const p = new Float64Array(batch * heads * tq * tk);
  for (let row = 0; row < batch * heads * tq; row++) {
    const head = Math.floor(Math.floor(row / tq) * own / heads);
    const reach = row % tq + 1 + (attrs.causal === "end" ? tk - tq : 0);
    const logits = p.subarray(row * tk, (row + 1) * tk);
    const hidden = new Set<number>();
    for (let j = 0; j < tk; j++) {
      for (let c = 0; c < d; c++) {
        logits[j] += attrs.scale * q.data[row * d + c] * k.data[(head * tk + j) * d + c];
      }
      if (bias) logits[j] += (gate?.[row] ?? 1) * bias[row * tk + j];
      if (seen?.[row * tk + j] === 0 || attrs.causal && j >= reach) {
        hidden.add(j);
        logits[j] = -Infinity;
      }
    }
    const top = logits.reduce((a, b) => Math.max(a, b), -Infinity);
    if (top === -Infinity) {
      logits.fill(0);
      continue;
    }
    const sum = logits.reduce((a, b) => a + Math.exp(b - top), 0);
    // What a query does not see has probability 0, beside NaN too.
    for (let j = 0; j < tk; j++) logits[j] = hidden.has(j) ? 0 : Math.exp(logits[j] - top) / sum;
  }
  return { p, bias, gate };
}

/** Attention. */
export function refAttention(inputs: readonly RefArray[], attrs: AttentionAttributes): RefArray {
  const [q, k, v] = inputs;
  const [batch, heads, tq, d] = q.shape;
  const [, own, tk] = k.shape;
  const { p } = refProbabilities(inputs, attrs);
  const o = refZeros(q.shape);
  for (let row = 0; row < batch * heads * tq; row++) {
    const head = Math.floor(Math.floor(row / tq) * own / heads);
    for (let j = 0; j < tk; j++) {
      for (let c = 0; c < d; c++) {
        o.data[row * d + c] += p[row * tk + j] * v.data[(head * tk + j) * d + c];
      }
    }
  }
  return o;
}

/** Gradients of q, k, v and, with a bias, of the inputs behind them. */
export function refAttentionGradients(
  inputs: readonly RefArray[],
  attrs: AttentionAttributes,
  dout: RefArray,
): (RefArray | undefined)[] {
  const [q, k, v, ...rest] = inputs;
  const [batch, heads, tq, d] = q.shape;
  const [, own, tk] = k.shape;
  const { p, bias, gate } = refProbabilities(inputs, attrs);
  const [dq, dk, dv] = [refZeros(q.shape), refZeros(k.shape), refZeros(v.shape)];
  const dscores = new Float64Array(p.length);
  for (let row = 0; row < batch * heads * tq; row++) {
    const head = Math.floor(Math.floor(row / tq) * own / heads);
    const dp = new Float64Array(tk);
    let delta = 0;
    for (let j = 0; j < tk; j++) {
      const at = (head * tk + j) * d;
      for (let c = 0; c < d; c++) {
        dp[j] += dout.data[row * d + c] * v.data[at + c];
        dv.data[at + c] += p[row * tk + j] * dout.data[row * d + c];
      }
      delta += p[row * tk + j] * dp[j];
    }
    for (let j = 0; j < tk; j++) {
      const at = (head * tk + j) * d;
      // What a query does not see gets 0, beside NaN too.
      if (p[row * tk + j] !== 0) dscores[row * tk + j] = p[row * tk + j] * (dp[j] - delta);
      const ds = attrs.scale * dscores[row * tk + j];
      for (let c = 0; c < d; c++) {
        dq.data[row * d + c] += ds * k.data[at + c];
        dk.data[at + c] += ds * q.data[row * d + c];
      }
    }
  }
  const given = besides(rest, attrs);
  if (!given.bias) return [dq, dk, dv];
  const { shape } = given.bias;
  const [few, full] = repeating(shape, [batch, heads, tq, tk]);
  const gated = dscores.map((it, i) => it * (gate?.[Math.floor(i / tk)] ?? 1));
  // The same for all keys, it changes no probability: the sum is 0, but for rounding.
  const dbias = shape[3] === 1
    ? refZeros(shape)
    : { shape, data: refUnbroadcast(gated, full, few).data };
  // What is hidden adds nothing, be its bias -infinity.
  const products = dscores.map((it, i) => it === 0 ? 0 : it * bias![i]);
  const dgate = given.gate &&
    refUnbroadcast(products, [batch, heads, tq, tk], [...given.gate.shape, 1]);
  return [
    ...[dq, dk, dv],
    ...(given.mask ? [undefined] : []),
    dbias,
    ...(dgate ? [{ shape: given.gate!.shape, data: dgate.data }] : []),
  ];
}

/** Heads [B, H, T, d] of a [B, T, N d] array, `first` heads from its start. */
export function refHeads(
  { shape: [batch, tokens, all], data }: RefArray,
  d: number,
  [first, heads]: readonly [number, number],
): RefArray {
  return refFrom([batch, heads, tokens, d], (i) => {
    const [c, t, h, b] = [
      i % d,
      Math.floor(i / d) % tokens,
      Math.floor(i / d / tokens) % heads,
      Math.floor(i / d / tokens / heads),
    ];
    return data[(b * tokens + t) * all + (first + h) * d + c];
  });
}

/** The inverse: all heads of all parts side by side. */
export function refJoin(parts: readonly RefArray[]): RefArray {
  const [batch, , tokens, d] = parts[0].shape;
  const rows = parts.flatMap((part) =>
    Array.from({ length: part.shape[1] }, (_, head) => ({ part, head }))
  );
  const width = rows.length * d;
  return refFrom([batch, tokens, width], (i) => {
    const { part, head } = rows[Math.floor(i % width / d)];
    const [t, b] = [Math.floor(i / width) % tokens, Math.floor(i / width / tokens)];
    return part.data[((b * part.shape[1] + head) * tokens + t) * d + i % d];
  });
}
