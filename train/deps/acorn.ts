/**
 * Parsing of JavaScript.
 *
 * @module
 */
export { type Node, parse } from "npm:acorn@8.19.0";
