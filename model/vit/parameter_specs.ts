/**
 * Names and shapes of parameters, in the order of timm's state dicts (model/README.md,
 * Checkpoints). An arena is laid out by them before there are tensors for layers to stand on.
 *
 * @module
 */
import type { Geometry } from "./geometry.ts";
import type { ParameterSpec } from "./parameter_arena.ts";

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

/**
 * Parameters of what comes before an encoder's blocks.
 *
 * @param patch bands and frames of a patch
 * @param positions rows of the position table, the class token's among them; none without it
 */
export function embeddingSpecs(
  { width, patch, classToken = true, positions }: Pick<Geometry, "width" | "classToken"> & {
    readonly patch: readonly [bands: number, frames: number];
    readonly positions?: number;
  },
): ParameterSpec[] {
  return [
    ...(classToken ? [{ name: "cls_token", shape: [1, 1, width] }] : []),
    ...(positions ? [{ name: "pos_embed", shape: [1, positions, width] }] : []),
    { name: "patch_embed.proj.weight", shape: [width, 1, ...patch] },
    { name: "patch_embed.proj.bias", shape: [width] },
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

/** Hidden width and outputs of the projection of clips. */
const PROJECTION = { hidden: 256, outputs: 128 } as const;

/** Two layers from an encoder's width to what clips are contrasted by. */
export function projectionSpecs(width: number): ParameterSpec[] {
  return [
    ...linearSpecs("projection.hidden", width, PROJECTION.hidden),
    ...linearSpecs("projection.out", PROJECTION.hidden, PROJECTION.outputs),
  ];
}
