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
  openDevice,
  type TensorWindow,
} from "./device.ts";
export type { DType, HostArray } from "./dtype.ts";
export {
  DeviceLostError,
  INSTALL_COMMAND,
  KernelError,
  LifetimeError,
  NoAdapterError,
  OutOfMemoryError,
  ShapeError,
  SOFTWARE_ADAPTER_PACKAGES,
} from "./errors.ts";
export {
  defineKernel,
  type FieldType,
  generate,
  type Kernel,
  type Pipeline,
  type StorageBinding,
} from "./kernel.ts";
export { formatBytes, type MemoryCounters, type PoolBuffer } from "./memory.ts";
export type { BufferWindow, Groups, Params, Recorder, RecorderCounters } from "./recorder.ts";
export {
  defineOp,
  type Op,
  type OpSpec,
  type RefArray,
  type Reference,
  registry,
  type Sample,
} from "./op.ts";
export { scope } from "./scope.ts";
export type { Shape } from "./shape.ts";
export {
  backward,
  type BackwardContext,
  type BackwardFunction,
  type Edge,
  type Node,
  noGrad,
} from "./tape.ts";
export type { Constants } from "./template.ts";
export { type GradientSlot, type Storage, Tensor } from "./tensor.ts";
export { fill } from "./ops/copy.ts";
export { rowChunks, rowsOf } from "./ops/launch.ts";
export * from "./ops/elementwise.ts";
export * from "./ops/matmul.ts";
export * from "./ops/view.ts";
export { gather } from "./ops/tokens.ts";
export { max, mean, type ReduceOptions, sum } from "./ops/reduce.ts";
export { layerNorm } from "./ops/layernorm.ts";
export { logSoftmax, softmax, type SoftmaxOptions } from "./ops/softmax.ts";
export {
  centredCrossEntropy,
  cosineLoss,
  type CrossEntropyOptions,
  l2Normalize,
  mse,
} from "./ops/loss.ts";
export { attention, type AttentionOptions, selfAttention } from "./ops/attention.ts";
export {
  type AdamHyper,
  adamHyperValues,
  type AdamState,
  adamStep,
  emaStep,
  gradientNorm,
  sgdStep,
} from "./ops/optimizer.ts";
