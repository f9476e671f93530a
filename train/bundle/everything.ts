/**
 * All of the engine for pages, with methods of tensors.
 *
 * @module
 */
export * from "../../engine/mod.ts";
