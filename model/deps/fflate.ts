/**
 * Deflate and zip.
 *
 * @module
 */
export { Inflate } from "npm:fflate@0.8.3";
