/**
 * MATPAC on Tessera's engine: the log-mel front end, masks, positions, the model and its state, presets and recipes, and
 * the safetensors format; encoders from files and the embeddings of clips. Nothing here touches files, but for a path
 * that {@link loadEncoder} is given, or the command line.
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
 * @module
 */
export { isDecayed, ParameterArena, type ParameterSpec, type SharedRun } from "./arena.ts";
export { type FrontendOptions, LogMel, MATPAC_STATISTICS } from "./frontend.ts";
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
} from "./frontend_tables.ts";
export {
  type Bands,
  encodeChunks,
  type EncoderGeometry,
  type EncoderNetwork,
  gridOf,
  type Readout,
  stepSize,
  studentNetwork,
} from "./embed.ts";
export { type Audio, type FrontendSettings, type LogMelAudio } from "./chunks.ts";
export { type Clip, Embedder, type Embedding, type EmbedOptions } from "./embed_queue.ts";
export {
  Encoder,
  EncoderError,
  type EncoderOptions,
  type EncoderSource,
  loadEncoder,
} from "./encoder.ts";
export {
  type Clips,
  getSceneEmbeddings,
  getTimestampEmbeddings,
  type HearModel,
  loadModel,
  type Values,
} from "./hear.ts";
export { headLogits, headSpecs } from "./head.ts";
export { initialiseMatpac, type RandomSource } from "./init.ts";
export { type Mask, maskFromNoise, randomMask, visibleCount } from "./masking.ts";
export {
  CENTRE_MOMENTUM,
  type DeviceMask,
  Matpac,
  type MatpacForward,
  patchGrid,
  type Precision,
  type SharedCentre,
  type StepInputs,
  STUDENT_TEMPERATURE,
  studentSpecs,
  type TeacherRun,
} from "./matpac.ts";
export { sinCosPositions, sinCosPositions1d } from "./positions.ts";
export {
  type Geometry,
  peakLearningRate,
  type PeakRate,
  type Preset,
  type PresetName,
  PRESETS,
  type RecipeName,
  type Span,
  spanSteps,
  type TrainingDefaults,
} from "./presets.ts";
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
} from "./recipe.ts";
export {
  block,
  blocks,
  blockSpecs,
  dense,
  linearSpecs,
  type Lookup,
  norm,
  normSpecs,
  patchEmbed,
  patchify,
  type PatchSize,
  within,
} from "./vit.ts";
export { type KnownHeads } from "./formats/checkpoint_geometry.ts";
export { type CheckpointFile, openCheckpoint } from "./formats/checkpoint_file.ts";
export { type StoredTensors } from "./formats/checkpoint_names.ts";
export { bytesAccess, type RandomAccess, type StoredTensor } from "./formats/ranges.ts";
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
} from "./formats/safetensors.ts";
