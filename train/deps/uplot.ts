/**
 * Charts of many points on a page.
 *
 * @module
 */
export { default } from "npm:uplot@1.6.32";
