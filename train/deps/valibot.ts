/**
 * Checks of values whose types are not known.
 *
 * @module
 */
export * from "npm:valibot@1.5.0";
