/**
 * Bundling and minifying of JavaScript, as WebAssembly: the native one would have to be run.
 *
 * @module
 */
export {
  build,
  initialize,
  type Metafile,
  type Plugin,
  transform,
} from "npm:esbuild-wasm@0.28.2/esm/browser.js";

/** Address of the program itself. */
export const PROGRAM: string = import.meta.resolve("npm:esbuild-wasm@0.28.2/esbuild.wasm");
