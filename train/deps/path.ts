/**
 * Paths of files, of Deno's standard library.
 *
 * @module
 */
export {
  basename,
  dirname,
  fromFileUrl,
  isAbsolute,
  join,
  relative,
  resolve,
  SEPARATOR,
} from "npm:deno-std@1.4.0/path/mod.js";
