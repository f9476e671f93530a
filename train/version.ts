/**
 * Which Tessera this is.
 *
 * @module
 */

/** The version that deno.json states. It cannot be asked for it: packages come without it. */
export const VERSION = "0.1.0";
