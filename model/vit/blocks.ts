/**
 * Vision transformer blocks and patch embedding (model/README.md, Encoder).
 *
 * @module
 */
import {
  concat,
  layerNorm,
  linear,
  permute,
  recompute,
  reshape,
  selfAttention,
  ShapeError,
  slice,
  type Tensor,
} from "../../engine/mod.ts";
import type { ParameterSpec } from "./parameter_arena.ts";
import { type Geometry, patchSides, type PatchSize } from "./geometry.ts";

/** Looks a parameter up by its name within a module. */
export type Lookup = (name: string) => Tensor;

/** Adds a prefix to the names that `lookup` is asked for. */
export function within(lookup: Lookup, prefix: string): Lookup {
  return (name) => lookup(`${prefix}${name}`);
}

/** Epsilon of every layer norm. */
const EPS = 1e-6;

/** Parameters of a linear layer. */
export function linearSpecs(name: string, inputs: number, outputs: number): ParameterSpec[] {
  return [{ name: `${name}.weight`, shape: [outputs, inputs] }, {
    name: `${name}.bias`,
    shape: [outputs],
  }];
}

/** Parameters of a layer norm. */
export function normSpecs(name: string, width: number): ParameterSpec[] {
  return [{ name: `${name}.weight`, shape: [width] }, { name: `${name}.bias`, shape: [width] }];
}

/**
 * Parameters of one transformer block, in timm's order.
 *
 * @param keyBias false: queries and values have biases of their own and keys none (MSM-MAE)
 */
export function blockSpecs(name: string, width: number, keyBias = true): ParameterSpec[] {
  const qkv = linearSpecs(`${name}.attn.qkv`, width, 3 * width);
  const biases = ["q_bias", "v_bias"].map((bias) => ({
    name: `${name}.attn.${bias}`,
    shape: [width],
  }));
  return [
    ...normSpecs(`${name}.norm1`, width),
    ...(keyBias ? qkv : [...biases, qkv[0]]),
    ...linearSpecs(`${name}.attn.proj`, width, width),
    ...normSpecs(`${name}.norm2`, width),
    ...linearSpecs(`${name}.mlp.fc1`, width, 4 * width),
    ...linearSpecs(`${name}.mlp.fc2`, 4 * width, width),
  ];
}

/** Blocks and final norm of an encoder below `prefix`, named as in a teacher's state dict. */
export function encoderSpecs(
  prefix: string,
  { width, depth, keyBias }: Pick<Geometry, "width" | "depth" | "keyBias">,
): ParameterSpec[] {
  return [
    ...blocksSpecs(`${prefix}blocks.`, width, depth, keyBias),
    ...normSpecs(`${prefix}norm`, width),
  ];
}

/** Parameters of blocks 0 to `depth - 1` below `prefix` (such as "blocks."). */
export function blocksSpecs(
  prefix: string,
  width: number,
  depth: number,
  keyBias?: boolean,
): ParameterSpec[] {
  return Array.from({ length: depth }, (_, i) => blockSpecs(`${prefix}${i}`, width, keyBias))
    .flat();
}

/** `layerNorm` with the weights of a module. */
export function norm(p: Lookup, name: string, x: Tensor): Tensor {
  return layerNorm(x, p(`${name}.weight`), p(`${name}.bias`), EPS);
}

/** `layerNorm` without weights: every vector to mean 0 and variance 1. */
export function standardised(x: Tensor): Tensor {
  const width = [x.shape[x.shape.length - 1]];
  const [ones, zeros] = [1, 0].map((value) => x.device.full(width, value, x.dtype));
  return layerNorm(x, ones, zeros, EPS);
}

/** `linear` with the weights of a module. */
export function dense(
  p: Lookup,
  name: string,
  x: Tensor,
  options: { gelu?: boolean; residual?: Tensor } = {},
): Tensor {
  return linear(x, p(`${name}.weight`), p(`${name}.bias`), options);
}

/** [3 width] bias of queries, keys and values in one: that of keys is 0. */
function keylessBias(p: Lookup): Tensor {
  const q = p("attn.q_bias");
  return concat([q, q.device.full(q.shape, 0, q.dtype), p("attn.v_bias")], 0);
}

/**
 * A pre-norm block: x += Attn(LN(x)); x += MLP(LN(x)), exact GELU (model/README.md, Encoder).
 *
 * @param p parameters of the block, named as in {@link blockSpecs} without its prefix
 * @param x [batch, tokens, width]
 * @param keyBias as in {@link blockSpecs}
 */
export function block(p: Lookup, x: Tensor, heads: number, keyBias = true): Tensor {
  const bias = keyBias ? p("attn.qkv.bias") : keylessBias(p);
  const qkv = linear(norm(p, "norm1", x), p("attn.qkv.weight"), bias);
  const attended = dense(p, "attn.proj", selfAttention(qkv, heads), { residual: x });
  const hidden = dense(p, "mlp.fc1", norm(p, "norm2", attended), { gelu: true });
  return dense(p, "mlp.fc2", hidden, { residual: attended });
}

/**
 * Blocks `0` to `depth - 1` below `prefix` (such as "blocks.").
 *
 * @param recomputed whether the backward pass computes each block again instead of keeping what it needs
 * @param keyBias as in {@link blockSpecs}
 * @param each sees the output of each block, counted from 1
 */
export function blocks(
  p: Lookup,
  prefix: string,
  x: Tensor,
  depth: number,
  heads: number,
  recomputed = false,
  keyBias?: boolean,
  each?: (block: number, y: Tensor) => void,
): Tensor {
  let y = x;
  for (let i = 0; i < depth; i++) {
    const run = (input: Tensor) => block(within(p, `${prefix}${i}.`), input, heads, keyBias);
    y = recomputed ? recompute(run, y) : run(y);
    each?.(i + 1, y);
  }
  return y;
}

/**
 * Cuts spectrograms into patches, frequency-major: token = f * columns + t. Trailing frames that
 * fill no patch are dropped, as by a strided convolution.
 *
 * @param x [batch, bands, frames]
 * @returns [batch, tokens, values of a patch], frequency rows first inside a patch
 * @throws {ShapeError} if bands are no multiple of the patch or no patch fits.
 */
export function patchify(x: Tensor, patch: PatchSize): Tensor {
  const [high, wide] = patchSides({ patchSize: patch });
  const [batch, bands, frames] = x.shape;
  const [rows, columns] = [bands / high, Math.floor(frames / wide)];
  if (x.shape.length !== 3 || !Number.isInteger(rows) || columns === 0) {
    throw new ShapeError(
      `patchify: [${x.shape}] is not [batch, bands, frames] with patches of ${high} x ${wide}`,
    );
  }
  const whole = columns * wide === frames ? x : slice(x, 2, 0, columns * wide);
  const parts = reshape(whole, [batch, rows, high, columns, wide]);
  return reshape(permute(parts, [0, 1, 3, 2, 4]), [batch, rows * columns, high * wide]);
}

/**
 * Patch embedding: a convolution whose stride is its kernel, as one linear layer over patches.
 *
 * @param p has `proj.weight` [width, 1, ...patch] and `proj.bias`
 * @param x [batch, bands, frames]
 * @returns [batch, tokens, width]
 */
export function patchEmbed(p: Lookup, x: Tensor, patch: PatchSize): Tensor {
  const weight = p("proj.weight");
  const flat = reshape(weight, [weight.shape[0], weight.size / weight.shape[0]]);
  return linear(patchify(x, patch), flat, p("proj.bias"));
}
