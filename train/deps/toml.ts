/**
 * TOML, of Deno's standard library.
 *
 * @module
 */
export { parse } from "npm:deno-std@1.4.0/toml/mod.js";
