/**
 * Words of a command line.
 *
 * @module
 */
export { object } from "npm:@optique/core@1.3.6/constructs";
export { runParser } from "npm:@optique/core@1.3.6/facade";
export { formatMessage } from "npm:@optique/core@1.3.6/message";
export { multiple, optional } from "npm:@optique/core@1.3.6/modifiers";
export type { Parser } from "npm:@optique/core@1.3.6/parser";
export { argument, option } from "npm:@optique/core@1.3.6/primitives";
export { string } from "npm:@optique/core@1.3.6/valueparser";
