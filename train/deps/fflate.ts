/**
 * Deflate and zip for browsers, as bundles need it.
 *
 * @module
 */
export { Inflate } from "npm:fflate@0.8.3/browser";

/** Address of the module. */
export const FFLATE: string = import.meta.resolve("npm:fflate@0.8.3/browser");
