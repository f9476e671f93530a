/**
 * Durations for people, of Deno's standard library.
 *
 * @module
 */
export { format } from "npm:deno-std@1.4.0/fmt/duration.js";
