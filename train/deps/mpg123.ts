/**
 * The MP3 decoder.
 *
 * @module
 */
export { MPEGDecoder } from "npm:mpg123-decoder@1.0.3";
