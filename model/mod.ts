/**
 * MATPAC, MATPAC++, M2D and MSM-MAE on Tessera's engine. In order: the log-mel front end; the
 * transformer's sizes, parameters, positions, tokens and layers; masks, objectives, presets and
 * recipes; encoders from files and the embeddings of clips; the formats of checkpoints. What all of
 * them compute, symbol by symbol, is in `model/README.md`.
 *
 * Nothing here touches files, but for a path that {@link loadEncoder} is given, or the command
 * line.
 *
 * ```ts
 * import { openDevice } from "@tessera/tessera";
 * import { LogMel, Matpac, PRESETS, RECIPES } from "@tessera/tessera/model";
 *
 * using device = await openDevice();
 * using frontend = new LogMel(device);
 * using model = new Matpac(device, PRESETS.tiny.geometry, RECIPES.paper);
 * ```
 *
 * An encoder alone:
 *
 * ```ts
 * import { openDevice } from "@tessera/tessera";
 * import { loadEncoder } from "@tessera/tessera/model";
 *
 * using device = await openDevice();
 * using encoder = await loadEncoder(device, "encoder.safetensors");
 * const { values } = await encoder.embed(new Float32Array(16_000)); // a second of silence
 * ```
 *
 * @module
 */

// Front end
export {
  FRAME_SAMPLES,
  frameCount,
  hannPeriodic,
  HOP_SAMPLES,
  hzToMel,
  MEL_80,
  type MelOptions,
  melToHz,
  slaneyMelFilterbank,
  SPECTRUM_BINS,
  type TableOrder,
} from "./frontend/tables.ts";
export {
  type FrontendOptions,
  type FrontendSettings,
  LogMel,
  MATPAC_STATISTICS,
} from "./frontend/log_mel.ts";
export {
  griffinLim,
  type InversionOptions,
  logMelToWave,
  melToPower,
} from "./frontend/griffin_lim.ts";

// Transformer: sizes, parameters, positions, tokens, layers
export {
  type Geometry,
  type PatchGrid,
  patchGrid,
  patchSides,
  type PatchSize,
} from "./vit/geometry.ts";
export {
  isDecayed,
  ParameterArena,
  type ParameterSpec,
  type SharedRun,
} from "./vit/parameter_arena.ts";
export {
  blockSpecs,
  blocksSpecs,
  embeddingSpecs,
  encoderSpecs,
  linearSpecs,
  normSpecs,
} from "./vit/parameter_specs.ts";
export { cropPositions, sinCosPositions, sinCosPositions1d } from "./vit/positions.ts";
export {
  behindClass,
  classTokens,
  patchEmbed,
  patchify,
  type TokenGeometry,
  type TokenView,
  tokenView,
} from "./vit/tokens.ts";
export { block, blocks, type BlocksOptions, dense, type Lookup, norm } from "./vit/blocks.ts";
export { headLogits, headSpecs } from "./vit/projection_head.ts";

// Objectives: masks, models, presets, recipes
export {
  binaryMask,
  drawMask,
  evenStructuredMask,
  type Mask,
  MASK_KINDS,
  maskFromBinary,
  maskFromNoise,
  maskFromRestore,
  type Masking,
  randomMask,
  runMask,
  structuredMask,
  visibleCount,
  visiblePatches,
} from "./objectives/masking.ts";
export {
  type DeviceMask,
  type Forward,
  type LossWeights,
  MaskedModel,
  type ObjectiveParts,
  type Precision,
  type SharedCentre,
  sharedSpecs,
  type StepInputs,
  type Teacher,
  TEACHER_PREFIX,
  type TeacherName,
  type TeacherRun,
} from "./objectives/masked_model.ts";
export { MsmMae, msmMaeSpecs } from "./objectives/msm_mae.ts";
export { type LatentForward, type LatentPass, M2d, type Prediction } from "./objectives/m2d.ts";
export {
  CENTRE_MOMENTUM,
  Matpac,
  type MatpacForward,
  STUDENT_TEMPERATURE,
  studentSpecs,
} from "./objectives/matpac.ts";
export { MatpacPlus, matpacPlusSpecs, RELEASED_MCL_HEADS } from "./objectives/matpac_plus.ts";
export {
  geometryFor,
  type Objective,
  type ObjectiveName,
  OBJECTIVES,
  recipeFor,
  trainingFor,
} from "./objectives/objectives.ts";
export {
  peakLearningRate,
  type PeakRate,
  type Preset,
  type PresetName,
  PRESETS,
  type RecipeName,
  type Span,
  spanSteps,
  type TrainingDefaults,
} from "./objectives/presets.ts";
export {
  type Deviation,
  type DeviationName,
  DEVIATIONS,
  deviations,
  lossWeights,
  mixedRecipe,
  type Recipe,
  RECIPES,
  type Side,
  sideOf,
} from "./objectives/recipe.ts";
export { initialise } from "./objectives/initialise.ts";
export { reconstruct, type Reconstruction } from "./objectives/reconstruct.ts";

// Encoders of other systems
export { inspectPretrained, loadPretrained, type PretrainedFindings } from "./pretrained/load.ts";
export { type BlockValues, PretrainedEncoder } from "./pretrained/encoder.ts";
export type {
  AttentionLayout,
  Choice,
  EncodeOptions,
  PretrainedEmbedOptions,
  PretrainedInfo,
  PretrainedSizes,
  PretrainedSystem,
  TokenAttention,
  Trace,
  Vector,
} from "./pretrained/info.ts";
export type { Attend, BesideScores } from "./pretrained/token_attention.ts";
export type { PretrainedOptions } from "./pretrained/options.ts";

// Encoders from files, and embeddings
export {
  Encoder,
  EncoderError,
  type EncoderOptions,
  type EncoderSource,
  loadEncoder,
  type TogetherOptions,
  type WarmUpOptions,
  type WarmUpProgress,
} from "./encoder/encoder.ts";
export type { EmbedProgress, RequestOptions } from "./encoder/embed_service.ts";
export type { EmbeddedStep, StreamOptions } from "./encoder/embed_stream.ts";
export {
  type Phase,
  resample,
  type ResampleKernel,
  resampleKernel,
  Resampler,
} from "./frontend/resample.ts";
export type { Audio, LogMelAudio } from "./encoder/chunks.ts";
export { type Clip, Embedder, type Embedding, type EmbedOptions } from "./encoder/embed_queue.ts";
export { CLIP_POOLS, type ClipPool, type ClipReadout } from "./encoder/pooling.ts";
export {
  type Bands,
  encodeChunks,
  type EncoderGeometry,
  type EncoderNetwork,
  gridOf,
  type Readout,
  stepSize,
  studentNetwork,
} from "./encoder/embed.ts";
export {
  type AttentionMaps,
  attentionMaps,
  type AttentionQuery,
} from "./encoder/attention_maps.ts";
export {
  type Clips,
  getSceneEmbeddings,
  getTimestampEmbeddings,
  type HearModel,
  loadModel,
  type Values,
} from "./encoder/hear.ts";

// Formats of files
export { type CheckpointFile, openCheckpoint, type Setting } from "./formats/checkpoint_file.ts";
export type { KnownHeads } from "./formats/checkpoint_geometry.ts";
export type { StoredTensors } from "./formats/checkpoint_names.ts";
export { bytesAccess, type RandomAccess, type StoredTensor } from "./formats/stored_tensor.ts";
export {
  bytesOf,
  encodeHeader,
  headerLength,
  MAX_HEADER_BYTES,
  parseHeader,
  readSafetensors,
  type SafetensorsData,
  type SafetensorsDtype,
  SafetensorsError,
  type SafetensorsFile,
  type SafetensorsHeader,
  type SafetensorsSlot,
  type SafetensorsTensor,
  writeSafetensors,
} from "../engine/formats/safetensors.ts";
