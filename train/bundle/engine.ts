/**
 * The engine for pages: a device, tensors, gradients, layers and optimizers, and the ops that
 * networks of products need. The modules beside it have the others.
 *
 * @module
 */
export { Device, openDevice } from "../../engine/device.ts";
export { DeviceLostError, KernelError, LifetimeError, ShapeError } from "../../engine/errors.ts";
export { addScaled, assign, emaStep, sgdStep } from "../../engine/launch/in_place.ts";
export { LayerNorm, Linear, Sequential } from "../../engine/nn/layers.ts";
export { AdamW, SGD } from "../../engine/nn/optimizers.ts";
export { cast } from "../../engine/ops/cast.ts";
export { clamp, equal, greater, less, where } from "../../engine/ops/compare.ts";
export { crossEntropy } from "../../engine/ops/cross_entropy.ts";
export { add, div, maximum, minimum, mul, sub } from "../../engine/ops/elementwise.ts";
export { layerNorm } from "../../engine/ops/layernorm.ts";
export { mse } from "../../engine/ops/loss.ts";
export { linear, matmul } from "../../engine/ops/matmul.ts";
export { max, mean, min, sum } from "../../engine/ops/reduce.ts";
export { logSoftmax, softmax } from "../../engine/ops/softmax.ts";
export {
  abs,
  exp,
  gelu,
  log,
  neg,
  relu,
  sigmoid,
  silu,
  sqrt,
  square,
  tanh,
} from "../../engine/ops/unary.ts";
export { concat, expand, permute, reshape, slice, transpose } from "../../engine/ops/view.ts";
export { Prng } from "../../engine/prng.ts";
export { scope } from "../../engine/scope.ts";
export { backward, checkpoint, detach, noGrad } from "../../engine/tape.ts";
export { Tensor } from "../../engine/tensor.ts";
