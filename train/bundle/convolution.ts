/**
 * Convolutions for pages, with what networks of images and sounds have beside them, and all of
 * engine.ts.
 *
 * @module
 */
export * from "./engine.ts";
export * from "../../engine/nn/convolution.ts";
export { Dropout } from "../../engine/nn/dropout.ts";
export { BatchNorm, GroupNorm, InstanceNorm } from "../../engine/nn/norms.ts";
export { flatten, squeeze, unsqueeze } from "../../engine/ops/axes.ts";
export { batchNorm, groupNorm, instanceNorm } from "../../engine/ops/batch_norm.ts";
export { conv1d, conv2d, conv3d } from "../../engine/ops/conv.ts";
export { convTranspose1d, convTranspose2d } from "../../engine/ops/conv_transpose.ts";
export { dropout } from "../../engine/ops/dropout.ts";
export { interpolate } from "../../engine/ops/interpolate.ts";
export { pad } from "../../engine/ops/pad.ts";
export * from "../../engine/ops/patches.ts";
export * from "../../engine/ops/pool.ts";
