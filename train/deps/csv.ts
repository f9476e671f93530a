/**
 * Tables of comma-separated values, of Deno's standard library.
 *
 * @module
 */
export { parse, stringify } from "npm:deno-std@1.4.0/csv/mod.js";
