/**
 * Everything of the engine but the methods of tensors: what mod.ts exports, for programs whose
 * bundle is to hold the functions that they call and no others. Types say that tensors have the
 * methods all the same; only mod.ts brings them.
 *
 * @module
 */
export type { AnomalyDetector } from "./anomaly.ts";
export type { AdapterInfo } from "./adapter.ts";
export {
  Device,
  type DeviceFeatures,
  type DeviceOptions,
  openDevice,
  type PendingRead,
  type TensorWindow,
} from "./device.ts";
export { type DType, type HostArray, itemSizeOf } from "./dtype.ts";
export {
  type Anomaly,
  AnomalyError,
  type AnomalyPhase,
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
  type KernelInsight,
  type Launch,
  type Pipeline,
  type StorageBinding,
} from "./kernel.ts";
export { formatBytes, type MemoryCounters, type PoolBuffer } from "./memory.ts";
export {
  chromeTrace,
  type KernelEvent,
  type KernelProfile,
  type Profile,
  profile,
  type ProfileCeilings,
  type ProfileOptions,
  Profiler,
  table,
} from "./profile.ts";
export type {
  BufferWindow,
  DispatchObserver,
  GradientLog,
  Groups,
  Params,
  Recorder,
  RecorderCounters,
} from "./recorder.ts";
export type { Image, ImageLayout, Images } from "./images.ts";
export {
  defineOp,
  type Derivative,
  type DerivativeContext,
  type Op,
  type OpSpec,
  type RefArray,
  type Reference,
  registry,
} from "./op.ts";
export { jit, type JitOptions, type Jitted } from "./jit.ts";
export { precompile, type PrecompileOptions } from "./precompile.ts";
export { capture, measure, type MeasuredMemory, type Plan, type PlanMemory } from "./plan.ts";
export type { ExpectedKernel, FirstRuns, KernelWatch } from "./first_runs.ts";
export { grad, type GradOptions } from "./grad.ts";
export type { Pace } from "./pace.ts";
export { composite, keep, scope } from "./scope.ts";
export * from "./creation.ts";
export { eye } from "./identity.ts";
export { fingerprint, tune, type TuneOptions } from "./measure_variants.ts";
export { type Tunable, Tuning, type TuningEntry } from "./tune.ts";
export type { Method, METHOD_NAMES, Methods } from "./methods.ts";
export type { HostValues, NestedNumbers } from "./host_values.ts";
export type { Shape } from "./shape.ts";
export {
  backward,
  type BackwardContext,
  type BackwardFunction,
  type Call,
  checkpoint,
  detach,
  type Edge,
  type Node,
  type NodeParts,
  noGrad,
  type Pass,
  recompute,
  type Rule,
} from "./tape.ts";
export type { Constants } from "./template.ts";
export { type Constant, type GradientSlot, type Storage, Tensor } from "./tensor.ts";
export { fill } from "./launch/copy.ts";
export {
  type ElementwiseMap,
  type MapLaunch,
  type MapOperand,
  type MapStep,
  type MapValue,
  rowChunks,
  rowsOf,
} from "./launch/elementwise.ts";
export {
  add,
  atan2,
  type BinaryFunction,
  div,
  hypot,
  idiv,
  logaddexp,
  maximum,
  minimum,
  mod,
  mul,
  sub,
} from "./ops/elementwise.ts";
export * from "./ops/bitwise.ts";
export * from "./ops/any_all.ts";
export * from "./ops/unary.ts";
export { linear, type LinearOptions, matmul } from "./ops/matmul.ts";
export { mlp, type MlpLayer } from "./ops/mlp.ts";
export * from "./ops/einsum.ts";
export * from "./ops/view.ts";
export { at, type Index, type Slice } from "./ops/at.ts";
export * from "./ops/axes.ts";
export * from "./ops/rearrange.ts";
export { diag, diagEmbed, diagonal, tril, triu } from "./ops/diagonal.ts";
export { batchedIndexSelect } from "./ops/batched_index_select.ts";
export { max, mean, min, type ReduceOptions, sum } from "./ops/reduce.ts";
export { std, variance, type VarianceOptions } from "./ops/variance.ts";
export { logcumsumexp, logsumexp } from "./ops/logsumexp.ts";
export { norm, type NormOptions } from "./ops/norm.ts";
export { diff, type DiffOptions } from "./ops/diff.ts";
export * from "./ops/compare.ts";
export { cast } from "./ops/cast.ts";
export * from "./ops/assemble.ts";
export { pad, type PadMode } from "./ops/pad.ts";
export {
  embedding,
  gather,
  gather as takeAlong,
  indexSelect,
  indexSelect as take,
  type Indices,
  scatterAdd,
} from "./ops/indexing.ts";
export { oneHot } from "./ops/picks.ts";
export { scatter, type ScatterOptions } from "./ops/scatter.ts";
export type { Fold } from "./ops/indexing.ts";
export { maskedFill, nonzero } from "./ops/masks.ts";
export * from "./ops/sort.ts";
export { elu, glu, leakyRelu, prelu } from "./ops/activation.ts";
export * from "./ops/blend.ts";
export * from "./ops/counting.ts";
export * from "./ops/distance.ts";
export * from "./ops/patches.ts";
export * from "./ops/windows.ts";
export * from "./ops/quantile.ts";
export * from "./ops/searchsorted.ts";
export { gruCell, lstmCell } from "./ops/recurrent.ts";
export * from "./ops/scan.ts";
export { loadRow, storeRow } from "./launch/ring_buffer.ts";
export { rmsNorm } from "./ops/rmsnorm.ts";
export {
  complexMul,
  fft,
  type FftNorm,
  type FftOptions,
  fftshift,
  ifft,
  ifftshift,
  irfft,
  rfft,
} from "./ops/fft.ts";
export { frames, istft, overlapAdd, stft, type StftOptions } from "./ops/stft.ts";
export {
  conv1d,
  type Conv1dOptions,
  conv2d,
  type Conv2dOptions,
  conv3d,
  type Conv3dOptions,
  type Sides,
} from "./ops/conv.ts";
export {
  convTranspose1d,
  type ConvTranspose1dOptions,
  convTranspose2d,
  type ConvTranspose2dOptions,
} from "./ops/conv_transpose.ts";
export { interpolate, type InterpolateMode, type InterpolateOptions } from "./ops/interpolate.ts";
export * from "./ops/pool.ts";
export { dropout, type DropoutOptions } from "./ops/dropout.ts";
export {
  hostUniform,
  type NormalOptions,
  philox,
  randomNormal,
  type RandomOptions,
  randomUniform,
  type UniformOptions,
} from "./random.ts";
export * from "./sampling.ts";
export { layerNorm, residualLayerNorm } from "./ops/layernorm.ts";
export { logSoftmax, softmax, type SoftmaxOptions } from "./ops/softmax.ts";
export { l2Normalize } from "./ops/l2_normalize.ts";
export { type LossOptions, mse, type Reduction } from "./ops/loss.ts";
export * from "./ops/regression_loss.ts";
export * from "./ops/binary_cross_entropy.ts";
export * from "./ops/cross_entropy.ts";
export * from "./ops/self_distillation.ts";
export {
  type AffineOptions,
  batchNorm,
  type BatchNormFunctionOptions,
  groupNorm,
  instanceNorm,
} from "./ops/batch_norm.ts";
export {
  attention,
  type AttentionOptions,
  selfAttention,
  type SelfAttentionOptions,
} from "./ops/attention.ts";
export { rotary, type RotaryOptions } from "./ops/rotary.ts";
export { LOSS_SCALE_FIELDS, lossScaleStep } from "./launch/loss_scale.ts";
export { type AdamHyper, adamHyperValues, type AdamState, adamStep } from "./launch/adamw.ts";
export { addScaled, assign, emaStep, gradientNorm, sgdStep } from "./launch/in_place.ts";
export { Prng, type PrngState, type RandomSource } from "./prng.ts";
export {
  constantValues,
  type InitialValues,
  normalValues,
  truncatedNormalValues,
  uniformValues,
  xavierNormal,
  xavierUniform,
} from "./nn/init.ts";
export {
  LayerNorm,
  type LayerSource,
  Linear,
  Module,
  type NamedTensor,
  type ParameterSource,
  type Seed,
  Sequential,
  within,
} from "./nn/layers.ts";
export * from "./nn/embedding.ts";
export * from "./nn/mlp.ts";
export * from "./nn/norms.ts";
export * from "./nn/convolution.ts";
export {
  type AttentionInputs,
  KeyValueCache,
  MultiHeadAttention,
  type MultiHeadAttentionOptions,
  TransformerBlock,
} from "./nn/transformer.ts";
export {
  Adam,
  type AdamOptions,
  AdamW,
  clipGradients,
  Optimizer,
  type OptimizerOptions,
  type ParameterState,
  SGD,
  type SGDOptions,
} from "./nn/optimizers.ts";
export { LARS, type LARSOptions } from "./nn/lars.ts";
export {
  constantRate,
  exponentialDecay,
  linearRamp,
  type Schedule,
  stepDecay,
  warmupCosine,
} from "./nn/schedules.ts";
export {
  readSafetensors,
  type SafetensorsData,
  type SafetensorsDtype,
  SafetensorsError,
  type SafetensorsFile,
  type SafetensorsTensor,
  writeSafetensors,
} from "./formats/safetensors.ts";
export { Dropout } from "./nn/dropout.ts";
export {
  GRU,
  LSTM,
  Recurrent,
  type RecurrentOptions,
  type RecurrentState,
} from "./nn/recurrent.ts";
export { rotaryTable, type RotaryTableOptions } from "./nn/rotary_table.ts";
export { LossScale, type LossScaleOptions } from "./nn/loss_scale.ts";
