/**
 * MATPAC on Tessera's engine: the log-mel front end, masks, positions, the model and its state, presets and recipes, and
 * the safetensors format. Nothing here touches files or the command line.
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
export { embedChunk } from "./embed.ts";
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
  within,
} from "./vit.ts";
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
