/**
 * The text of the library of components, for pages: modules, the second imports the first as
 * "preact".
 *
 * @module
 */
export { default as preact } from "npm:preact@11.2.0" with { type: "text" };
export { default as hooks } from "npm:preact@11.2.0/hooks" with { type: "text" };
