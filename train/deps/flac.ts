/**
 * The FLAC decoder.
 *
 * @module
 */
export { FLACDecoder } from "npm:@wasm-audio-decoders/flac@0.2.11";
