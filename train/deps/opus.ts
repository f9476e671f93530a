/**
 * The Opus decoder.
 *
 * @module
 */
export { OpusDecoder } from "npm:opus-decoder@0.7.12";
