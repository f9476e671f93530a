/**
 * JSON with comments, of Deno's standard library.
 *
 * @module
 */
export { parse } from "npm:deno-std@1.4.0/jsonc/mod.js";
