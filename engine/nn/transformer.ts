/**
 * Attention as a layer, and the transformer's block.
 *
 * @module
 */
import type { Device } from "../device.ts";
import { needOptions, needWhole } from "../arguments.ts";
import { KernelError, ShapeError } from "../errors.ts";
import { attention, type AttentionOptions, selfAttention } from "../ops/attention.ts";
import { linear, type LinearOptions } from "../ops/matmul.ts";
import { rotary } from "../ops/rotary.ts";
import { concat, permute, reshape, slice } from "../ops/view.ts";
import { keep, scope } from "../scope.ts";
import { show } from "../shape.ts";
import { noGrad } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { LayerNorm, type LayerSource, Linear, Module, shared, within, zeros } from "./layers.ts";
import { Mlp } from "./mlp.ts";

/** Settings of {@link MultiHeadAttention} and {@link TransformerBlock}. */
export interface MultiHeadAttentionOptions {
  /**
   * Whether keys have a bias; default true. Without it queries and values have biases of their own,
   * `q_bias` and `v_bias`, as in MAE and BEiT; a bias of keys changes no attention weight.
   */
  readonly keyBias?: boolean;
  /** Heads of keys and values, which divide those of queries (grouped queries); default as many. */
  readonly keyHeads?: number;
}

/** What {@link MultiHeadAttention} and {@link TransformerBlock} hand on to the attention. */
export interface AttentionInputs extends Omit<AttentionOptions, "scale"> {
  /** Rotary positions [tokens, 2, width / heads / 2] of queries and keys; see `rotaryTable`. */
  readonly rotary?: Tensor;
  /**
   * Keys and values of the tokens before `x`, which those of `x` join: text is sampled token by
   * token so. `causal`, masks and bias are over all keys then. No gradient passes the attention.
   */
  readonly cache?: KeyValueCache;
}

/**
 * Keys and values of one attention layer for the tokens that it has seen, which later tokens look
 * back at. Each layer needs its own. It holds memory of its own until it is disposed.
 */
export class KeyValueCache implements Disposable {
  #held: readonly [keys: Tensor, values: Tensor] | undefined;

  /** Tokens seen so far. */
  get tokens(): number {
    return this.#held?.[0].shape[2] ?? 0;
  }

  /**
   * Adds those of new tokens. Internal to layers.
   *
   * @param added keys and values, [batch, heads, tokens, d] each
   * @returns all so far; they are the cache's
   * @throws {ShapeError} if batch, heads or d are not those of the tokens so far.
   * @throws {KernelError} in a captured function, whose replays would not add to it.
   */
  extend(added: readonly [keys: Tensor, values: Tensor]): readonly [keys: Tensor, values: Tensor] {
    const before = this.#held;
    if (added[0].device.capturing) {
      throw new KernelError(
        "a KeyValueCache grows with every call, which replays of a captured function cannot repeat",
      );
    }
    const fits = (x: Tensor, y: Tensor) =>
      [0, 1, 3].every((axis) => x.shape[axis] === y.shape[axis]);
    if (before && !fits(before[0], added[0])) {
      throw new ShapeError(
        `KeyValueCache: keys ${show(added[0].shape)} behind ${show(before[0].shape)}: batch, ` +
          "heads and d must be the same",
      );
    }
    const all = scope(() =>
      noGrad(() =>
        added.map((it, i) => concat(before ? [before[i], it] : [it], 2)) as [Tensor, Tensor]
      )
    );
    this[Symbol.dispose]();
    return this.#held = [keep(all[0]), keep(all[1])];
  }

  /** Forgets all tokens and frees their memory. */
  [Symbol.dispose](): void {
    this.#held?.forEach((it) => it.dispose());
    this.#held = undefined;
  }
}

/**
 * Attention of a sequence to itself: fused q, k, v projection, heads, output projection (timm's
 * layout).
 */
export class MultiHeadAttention extends Module {
  /** [width] to q, k and v, side by side: the heads of q, then those of k, then those of v. */
  readonly qkv: Linear;
  /** What mixes the heads. */
  readonly proj: Linear;
  /** Biases of queries [width] and values, zeros at first, where keys have none. */
  readonly biases: readonly [query: Tensor, value: Tensor] | undefined;
  /** Heads of keys and values. */
  readonly keyHeads: number;
  /** Parameters and inner layers by name. */
  protected readonly parts: Readonly<Record<string, Tensor | Module>>;

  /**
   * Draws the weights, or looks `qkv.weight`, `qkv.bias` (or `q_bias` and `v_bias`), `proj.weight`
   * and `proj.bias` up.
   *
   * @param width size of a token
   * @param heads number of heads; width / heads is at most 128
   * @throws {ShapeError} if `heads` does not divide `width`, or heads of keys those of queries.
   */
  constructor(
    device: Device,
    width: number,
    readonly heads: number,
    source: LayerSource,
    options: MultiHeadAttentionOptions = {},
  ) {
    super();
    needOptions("MultiHeadAttention", options, ["keyBias", "keyHeads"]);
    const { keyBias = true, keyHeads = heads } = options;
    needWhole("MultiHeadAttention", "the width", width, 1);
    needWhole("MultiHeadAttention", "the count of heads", heads, 1);
    needWhole("MultiHeadAttention", "the count of heads of keys", keyHeads, 1);
    if (width % heads !== 0 || heads % keyHeads !== 0) {
      throw new ShapeError(
        width % heads !== 0
          ? `MultiHeadAttention: ${heads} heads do not divide the width ${width}`
          : `MultiHeadAttention: ${keyHeads} heads of keys do not divide ${heads} of queries`,
      );
    }
    this.keyHeads = keyHeads;
    const keys = width / heads * keyHeads;
    const from = shared(this, device, source);
    const bias = (name: string, size: number) => this.parameter(device, from, name, [size], zeros);
    this.biases = keyBias ? undefined : [bias("q_bias", width), bias("v_bias", keys)];
    const fused = width + 2 * keys;
    this.qkv = new Linear(device, width, fused, within(from, "qkv."), { bias: keyBias });
    this.proj = new Linear(device, width, width, within(from, "proj."));
    this.parts = {
      ...(this.biases && { q_bias: this.biases[0], v_bias: this.biases[1] }),
      qkv: this.qkv,
      proj: this.proj,
    };
  }

  /**
   * [batch, tokens, width] to the same shape; `residual` is added in the last kernel, `keyMask`
   * [batch, tokens] is 0 for tokens that none may attend to; masks, bias and `causal` are those of
   * `selfAttention`.
   */
  apply(
    x: Tensor,
    { residual, rotary: table, cache, ...options }:
      & Pick<LinearOptions, "residual">
      & AttentionInputs = {},
  ): Tensor {
    const { heads, keyHeads } = this;
    const projected = this.#projected(x);
    const qkv = table ? rotateHeads(projected, heads + keyHeads, keyHeads, table) : projected;
    const mixed = cache
      ? noGrad(() => this.#cached(qkv, cache, options))
      : selfAttention(qkv, heads, { ...options, keyHeads });
    return this.proj.apply(mixed, { residual });
  }

  /** Attention of the tokens to those of the cache and to themselves, [B, T, width]. */
  #cached(qkv: Tensor, cache: KeyValueCache, options: AttentionOptions): Tensor {
    const { heads, keyHeads } = this;
    const [batch, tokens, all] = qkv.shape;
    const count = heads + 2 * keyHeads;
    const each = permute(reshape(qkv, [batch, tokens, count, all / count]), [0, 2, 1, 3]);
    const [q, ...added] = [[0, heads], [heads, keyHeads], [heads + keyHeads, keyHeads]]
      .map(([first, some]) => slice(each, 1, first, some));
    const [k, v] = cache.extend(added as [Tensor, Tensor]);
    // The queries are those of the last tokens.
    const causal = options.causal && "end";
    const mixed = attention(q, k, v, { ...options, causal });
    return reshape(permute(mixed, [0, 2, 1, 3]), [batch, tokens, heads * all / count]);
  }

  #projected(x: Tensor): Tensor {
    if (!this.biases) return this.qkv.apply(x);
    const [query, value] = this.biases;
    const key = value.device.full(value.shape, 0, value.dtype);
    return linear(x, this.qkv.weight, concat([query, key, value], 0));
  }
}

/** Turns the first heads of a tensor [batch, tokens, (turned + kept) d] by their positions. */
function rotateHeads(qkv: Tensor, turned: number, kept: number, table: Tensor): Tensor {
  const [batch, tokens, all] = qkv.shape;
  const heads = reshape(qkv, [batch, tokens, turned + kept, all / (turned + kept)]);
  const [front, back] = [slice(heads, 2, 0, turned), slice(heads, 2, turned, kept)];
  const rotated = permute(rotary(permute(front, [0, 2, 1, 3]), table), [0, 2, 1, 3]);
  return reshape(concat([rotated, back], 2), qkv.shape);
}

/** A pre-norm block: `x += Attention(LayerNorm(x)); x += Mlp(LayerNorm(x))`, exact GELU. */
export class TransformerBlock extends Module {
  /** In front of the attention. */
  readonly norm1: LayerNorm;
  /** Attention. */
  readonly attn: MultiHeadAttention;
  /** In front of the MLP. */
  readonly norm2: LayerNorm;
  /** MLP with 4 times the width inside. */
  readonly mlp: Mlp;
  /** Parameters and inner layers by name. */
  protected readonly parts: Readonly<Record<string, Module>>;

  /**
   * Draws the weights, or looks them up by timm's names: `norm1.weight`, `attn.qkv.weight`,
   * `mlp.fc1.bias` and so on.
   *
   * @param width size of a token
   * @param heads number of heads; width / heads is at most 128
   * @param options of the attention, and `eps` of the layer norms, default 1e-6
   * @throws {ShapeError} if `heads` does not divide `width`.
   */
  constructor(
    device: Device,
    width: number,
    heads: number,
    source: LayerSource,
    options: MultiHeadAttentionOptions & { readonly eps?: number } = {},
  ) {
    super();
    needOptions("TransformerBlock", options, ["keyBias", "keyHeads", "eps"]);
    needWhole("TransformerBlock", "the width", width, 1);
    needWhole("TransformerBlock", "the count of heads", heads, 1);
    const from = shared(this, device, source);
    const { eps, ...ofAttention } = options;
    const norm = (name: string) => new LayerNorm(device, width, eps, within(from, `${name}.`));
    this.attn = new MultiHeadAttention(device, width, heads, within(from, "attn."), ofAttention);
    this.mlp = new Mlp(device, width, 4 * width, within(from, "mlp."));
    this.norm1 = norm("norm1");
    this.norm2 = norm("norm2");
    this.parts = { norm1: this.norm1, attn: this.attn, norm2: this.norm2, mlp: this.mlp };
  }

  /**
   * [batch, tokens, width] to the same shape; `keyMask` [batch, tokens] is 0 for tokens that none
   * may attend to; the other options are those of {@link MultiHeadAttention}.
   */
  apply(x: Tensor, options: AttentionInputs = {}): Tensor {
    const attended = this.attn.apply(this.norm1.apply(x), { ...options, residual: x });
    return this.mlp.apply(this.norm2.apply(attended), { residual: attended });
  }
}
