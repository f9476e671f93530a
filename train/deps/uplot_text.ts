/**
 * The text of the library of charts, for pages: a script that defines `uPlot`, and its style.
 *
 * @module
 */
export { default as script } from "npm:uplot@1.6.32/dist/uPlot.iife.min.js" with { type: "text" };
export { default as style } from "npm:uplot@1.6.32/dist/uPlot.min.css" with { type: "text" };
