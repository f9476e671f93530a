/**
 * The projection head of the classification task, as in DINO (model/README.md, Projection head).
 *
 * @module
 */
import { l2Normalize, linear, mlp, mul, type Tensor } from "../../engine/functions.ts";
import type { ParameterSpec } from "./parameter_arena.ts";
import type { Geometry } from "./geometry.ts";
import type { Lookup } from "./blocks.ts";
import { linearSpecs } from "./parameter_specs.ts";

/**
 * Parameters of a head below `prefix`.
 *
 * @param frozenGains whether the last layer's gains keep their value
 */
export function headSpecs(
  prefix: string,
  { width, headHidden, bottleneck, prototypes }: Pick<
    Geometry,
    "width" | "headHidden" | "bottleneck" | "prototypes"
  >,
  frozenGains = false,
): ParameterSpec[] {
  return [
    ...linearSpecs(`${prefix}mlp.0`, width, headHidden),
    ...linearSpecs(`${prefix}mlp.2`, headHidden, headHidden),
    ...linearSpecs(`${prefix}mlp.4`, headHidden, bottleneck),
    {
      name: `${prefix}last_layer.weight_g`,
      shape: [prototypes, 1],
      ...(frozenGains && { frozen: true }),
    },
    { name: `${prefix}last_layer.weight_v`, shape: [prototypes, bottleneck] },
  ];
}

/**
 * Prototype logits: three linear layers with GELU between, L2 normalisation, weight-normalised
 * linear layer.
 *
 * @param p parameters named as in {@link headSpecs} without the prefix
 * @param x [..., width]
 * @returns [..., prototypes]
 */
export function headLogits(p: Lookup, x: Tensor): Tensor {
  const layers = ["mlp.0", "mlp.2", "mlp.4"].map((name) => ({
    weight: p(`${name}.weight`),
    bias: p(`${name}.bias`),
  }));
  return linear(l2Normalize(mlp(x, layers)), weightNorm(p));
}

/** Rows w_k = g_k v_k / ||v_k||. */
function weightNorm(p: Lookup): Tensor {
  return mul(l2Normalize(p("last_layer.weight_v")), p("last_layer.weight_g"));
}
