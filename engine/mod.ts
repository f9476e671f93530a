/**
 * Tessera's engine: tensors, ops with gradients and captured memory on WebGPU.
 *
 * ```ts
 * const device = await openDevice();
 * const x = device.tensor([1, 2, 3]);
 * console.log(await mul(x, x).data()); // Float32Array [1, 4, 9]
 * ```
 *
 * @module
 */
export {
  type AdapterInfo,
  Device,
  type DeviceFeatures,
  type DeviceOptions,
  INSTALL_COMMAND,
  openDevice,
  type TensorWindow,
} from "./device.ts";
export type { DType, HostArray } from "./dtype.ts";
export {
  DeviceLostError,
  KernelError,
  LifetimeError,
  NoAdapterError,
  OutOfMemoryError,
  ShapeError,
} from "./errors.ts";
export { defineKernel, generate, type Kernel, type Pipeline, type StorageBinding } from "./kernel.ts";
export { formatBytes, type MemoryCounters, type PoolBuffer } from "./memory.ts";
export type { BufferWindow, Groups, Params, Recorder, RecorderCounters } from "./recorder.ts";
export { defineOp, type Op, type OpSpec, type RefArray, type Reference, registry, type Sample } from "./op.ts";
export { scope } from "./scope.ts";
export type { Shape } from "./shape.ts";
export { backward, type BackwardContext, type BackwardFunction, noGrad } from "./tape.ts";
export type { Constants } from "./template.ts";
export { type GradientSlot, Storage, Tensor } from "./tensor.ts";
export { rowChunks, rowsOf } from "./ops/launch.ts";
export * from "./ops/elementwise.ts";
export * from "./ops/matmul.ts";
export * from "./ops/view.ts";
export { gather } from "./ops/tokens.ts";
export { max, mean, sum } from "./ops/reduce.ts";
export { layerNorm } from "./ops/layernorm.ts";
export { logSoftmax, softmax } from "./ops/softmax.ts";
export { centredCrossEntropy, cosineLoss, l2Normalize, mse } from "./ops/loss.ts";
export { attention, selfAttention } from "./ops/attention.ts";
export {
  type AdamHyper,
  adamHyperValues,
  type AdamState,
  adamStep,
  emaStep,
  gradientNorm,
} from "./ops/optimizer.ts";
