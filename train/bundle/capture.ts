/**
 * Captured functions for pages: recorded once, replayed with nothing made anew; with all of
 * engine.ts.
 *
 * @module
 */
export * from "./engine.ts";
export { jit } from "../../engine/jit.ts";
export { capture, measure } from "../../engine/plan.ts";
export { precompile } from "../../engine/precompile.ts";
