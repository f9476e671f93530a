/**
 * What the page computes with, as one module: the engine, encoders of all kinds, and what the
 * server shows of a sound, by the same code.
 *
 * @module
 */
export { type Device, openDevice } from "../../engine/device.ts";
export { openCheckpoint } from "../../model/formats/checkpoint_file.ts";
export { bytesAccess } from "../../model/formats/stored_tensor.ts";
export { Encoder } from "../../model/encoder/encoder.ts";
export { type ClipEncoder, loadClipEncoder } from "../downstream/clip_encoder.ts";
export { Probe } from "../downstream/probe/probe_layer.ts";
export { encoderAlone, modelIn, type OpenModel } from "../visualize/autoencoder.ts";
export { attentionOf, listenTo, MOST_SECONDS, paintedOf } from "./listening.ts";
