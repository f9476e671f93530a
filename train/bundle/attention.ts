/**
 * Attention and transformers for pages, with all of engine.ts.
 *
 * @module
 */
export * from "./engine.ts";
export { arange } from "../../engine/creation.ts";
export { warmupCosine } from "../../engine/nn/schedules.ts";
export { Embedding } from "../../engine/nn/embedding.ts";
export { Mlp } from "../../engine/nn/mlp.ts";
export { RMSNorm } from "../../engine/nn/norms.ts";
export { rotaryTable } from "../../engine/nn/rotary_table.ts";
export {
  KeyValueCache,
  MultiHeadAttention,
  TransformerBlock,
} from "../../engine/nn/transformer.ts";
export { attention, selfAttention } from "../../engine/ops/attention.ts";
export { embedding, gather, indexSelect } from "../../engine/ops/indexing.ts";
export { mlp } from "../../engine/ops/mlp.ts";
export { residualLayerNorm } from "../../engine/ops/layernorm.ts";
export { rmsNorm } from "../../engine/ops/rmsnorm.ts";
export { rotary } from "../../engine/ops/rotary.ts";
export { categorical } from "../../engine/sampling.ts";
