/**
 * Encoders for pages: the front end, embeddings, attention and formats of `model/mod.ts`, with what
 * a page needs of the engine beside them. `model/mod.ts` has the objectives that train them too.
 *
 * @module
 */
export { Device, openDevice } from "../../engine/device.ts";
export { DeviceLostError, ShapeError } from "../../engine/errors.ts";
export { scope } from "../../engine/scope.ts";
export { Tensor } from "../../engine/tensor.ts";

// Front end
export {
  FRAME_SAMPLES,
  frameCount,
  hannPeriodic,
  HOP_SAMPLES,
  hzToMel,
  MEL_80,
  melToHz,
  slaneyMelFilterbank,
  SPECTRUM_BINS,
} from "../../model/frontend/tables.ts";
export { LogMel, MATPAC_STATISTICS } from "../../model/frontend/log_mel.ts";

// Encoders from files, and embeddings
export { Encoder, EncoderError, loadEncoder } from "../../model/encoder/encoder.ts";
export { resample, resampleKernel, Resampler } from "../../model/frontend/resample.ts";
export { Embedder } from "../../model/encoder/embed_queue.ts";
export { encodeChunks, gridOf, stepSize, studentNetwork } from "../../model/encoder/embed.ts";
export { attentionMaps } from "../../model/encoder/attention_maps.ts";

// Formats of files
export { openCheckpoint } from "../../model/formats/checkpoint_file.ts";
export { bytesAccess } from "../../model/formats/stored_tensor.ts";
export {
  readSafetensors,
  SafetensorsError,
  writeSafetensors,
} from "../../engine/formats/safetensors.ts";
