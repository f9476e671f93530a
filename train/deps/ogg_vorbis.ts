/**
 * The Ogg Vorbis decoder.
 *
 * @module
 */
export { OggVorbisDecoder } from "npm:@wasm-audio-decoders/ogg-vorbis@0.1.20";
